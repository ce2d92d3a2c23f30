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
/// A call that runs for less than the first ends soon, as far as can be told; one that runs for
/// longer than the second may never.
const SHORT_MS: u64 = 1000;
const STUCK_MS: u64 = 10_000;
/// Between two looks at calls that run.
const CALLS_LOOK: Duration = Duration::from_millis(20);
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

    /// For how long the call has run that has for longest.
    pub(super) fn longest_call_ms(&self) -> Option<u64> {
        let now_ms = self.0.now_ms();
        lock(&self.0.posts).iter().filter_map(|post| post.at_call_ms(now_ms)).max()
    }

    /// Until the calls that run now have ended, or most likely will; it goes on meanwhile. Gives the
    /// milliseconds that one runs which does not end, because its disk hangs.
    pub(crate) async fn can_end(&self) -> Result<(), u64> {
        let began_ms = self.0.now_ms();
        loop {
            let now_ms = self.0.now_ms();
            match self.longest_call_ms() {
                Some(longest_ms) if longest_ms >= STUCK_MS => return Err(longest_ms),
                Some(longest_ms) if longest_ms >= SHORT_MS => {}
                _ => return Ok(()),
            }
            if now_ms.saturating_sub(began_ms) >= STUCK_MS {
                // All are slow, and each of those that ran at first has ended.
                return Ok(());
            }
            tokio::time::sleep(CALLS_LOOK).await;
        }
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
