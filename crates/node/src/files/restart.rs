//! What one start of the service leaves to the next in the same process: its sockets, which go on
//! listening, and the word that nothing of it runs any more.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use model::file::FileStore;

use super::FileService;
use super::connection::lock;

/// How often it is looked whether a stopped service has ended.
const LOOK: Duration = Duration::from_millis(1);
/// After so many looks it is said that something keeps it.
const LOOKS_QUIET: u32 = 10_000;

impl<F: FileStore + Clone + Send + Sync> FileService<F> {
    /// The number of this start.
    #[must_use]
    pub fn boot(&self) -> u32 {
        lock(&self.0.state.0).boot()
    }

    /// Its sockets once more, in the order of its portals: whoever connects while nobody accepts
    /// waits for the next start.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        self.0.portals.iter().map(|portal| portal.listener.try_clone()).collect()
    }

    /// Until nothing of a stopped service runs any more, however long its last calls wait for a
    /// disk: what they write must not land behind what clients do with the next start.
    pub async fn ended(&self) {
        let mut looks = 0_u32;
        while Arc::strong_count(&self.0) > 1 {
            looks = looks.saturating_add(1);
            if looks == LOOKS_QUIET {
                tracing::warn!("calls of NFS clients do not end; the next start waits for them");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
