//! What is served, changed while it is served; and whom it is served to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::export::ConnectedClient;
use model::file::FileStore;
use nfs::export::{Export, ExportError, Exports};
use nfs::handle::FileSystemId;

use super::connection::lock;
use super::{FileService, Service};

/// An export, and the portals that serve it; empty is every one.
#[derive(Clone, Debug)]
pub struct Served<F> {
    pub export: Export<F>,
    pub portals: Vec<SocketAddr>,
}

/// The exports that a portal serves.
fn at<F: Clone>(all: &[Served<F>], portal: SocketAddr) -> Vec<Export<F>> {
    let is_here = |one: &&Served<F>| one.portals.is_empty() || one.portals.contains(&portal);
    all.iter().filter(is_here).map(|one| one.export.clone()).collect()
}

/// How often it is looked whether the calls under old rules have ended.
const LOOK: Duration = Duration::from_millis(1);
/// For how long an NFSv3 client counts as connected behind its last call, in milliseconds.
pub(super) const SEEN_MS: u64 = 5 * 60_000;

impl<F: FileStore + Clone + Send + Sync> FileService<F> {
    /// Serves exactly this from the next call on, and tells the clients of what cannot be reached
    /// yet to try again. When it is done, no call under what was before runs any more.
    ///
    /// # Errors
    /// Exports that cannot be told apart; then nothing has changed.
    pub async fn serve(
        &self,
        ready: &[Served<F>],
        waiting: &[Served<()>],
    ) -> Result<(), ExportError> {
        let mut fresh = Vec::new();
        for portal in &self.0.portals {
            let ready = at(ready, portal.address);
            fresh.push(Arc::new(Exports::with_waiting(ready, at(waiting, portal.address))?));
        }
        if lock(&self.0.state.0).in_grace() {
            // Until the keeper sees that it is over.
            ready.iter().for_each(|one| one.export.store.await_holders(true));
        }
        let portals = self.0.portals.iter().zip(fresh);
        let old: Vec<_> = portals.map(|(portal, fresh)| portal.exports.swap(fresh)).collect();
        for exports in old {
            while Arc::strong_count(&exports) > 1 {
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Drops all opens and locks of a file system that is served no more; says how many opens. Its
    /// store is to let go of all files.
    pub fn evict(&self, file_system: FileSystemId) -> usize {
        lock(&self.0.seen).retain(|(seen, ..), _| *seen != file_system);
        lock(&self.0.state.0).drop_file_system(file_system)
    }

    /// Who has a file system mounted, as far as can be told.
    #[must_use]
    pub fn clients(&self, file_system: FileSystemId) -> Vec<ConnectedClient> {
        let now_ms = self.0.now_ms();
        let mut seen: Vec<_> = lock(&self.0.seen)
            .iter()
            .filter(|((of, ..), at_ms)| {
                *of == file_system && now_ms.saturating_sub(**at_ms) < SEEN_MS
            })
            .map(|((_, address, version), at_ms)| (*address, *version, *at_ms))
            .collect();
        seen.sort_unstable();
        let holders = lock(&self.0.state.0).holders(file_system);
        let mut clients = Vec::new();
        for holder in holders {
            let was_here =
                seen.iter().any(|(at, version, _)| (*at, *version) == (holder.address, 4));
            if !was_here && holder.opens + holder.locks == 0 {
                continue;
            }
            clients.push(ConnectedClient {
                address: holder.address,
                name: Some(String::from_utf8_lossy(&holder.owner).into_owned()),
                version: if holder.minor_zero { "4.0" } else { "4.1" }.to_owned(),
                opens: holder.opens,
                locks: holder.locks,
                last_call_age_ms: now_ms.saturating_sub(holder.renewed_ms),
            });
        }
        clients.extend(seen.iter().filter(|(_, version, _)| *version == 3).map(
            |(address, _, at_ms)| ConnectedClient {
                address: *address,
                name: None,
                version: "3".to_owned(),
                opens: 0,
                locks: 0,
                last_call_age_ms: now_ms.saturating_sub(*at_ms),
            },
        ));
        clients
    }
}

impl<F> Service<F> {
    /// Forgets who has not been seen for long.
    pub(super) fn forget_unseen(&self, now_ms: u64) {
        lock(&self.seen).retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < SEEN_MS);
    }
}
