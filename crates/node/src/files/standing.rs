//! How the file service is, for people.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use model::file::FileStore;
use model::node::FileServiceReport;
use nfs::handle::FileSystemId;

use super::FileService;
use super::connection::lock;
use super::exports::SEEN_MS;

/// The version of a protocol whose clients hold nothing and make themselves known to nobody.
const STATELESS: u32 = 3;

impl<F: FileStore + Clone + Send + Sync> FileService<F> {
    /// How it is.
    #[must_use]
    pub fn standing(&self) -> FileServiceReport {
        let service = &*self.0;
        let connections = lock(&service.connections).len() as u64;
        let seen = self.seen();
        let unknown: HashSet<IpAddr> = seen
            .iter()
            .filter(|(_, _, version)| *version == STATELESS)
            .map(|(_, address, _)| *address)
            .collect();
        let state = lock(&service.state.0);
        FileServiceReport {
            boot: state.boot(),
            age_ms: service.now_ms().saturating_sub(service.started_ms),
            portals: self.portals().iter().map(SocketAddr::to_string).collect(),
            lease_ms: service.settings.lease_ms,
            in_grace: state.in_grace(),
            clients: (state.held_by_clients().len() + unknown.len()) as u64,
            connections,
        }
    }

    /// How many clients have each file system mounted, as far as can be told; as
    /// [`Self::clients`] for all at once.
    #[must_use]
    pub fn client_counts(&self) -> HashMap<FileSystemId, u64> {
        let seen = self.seen();
        let clients = lock(&self.0.state.0).held_by_clients();
        let mut counts = HashMap::new();
        for (address, mut mounted) in clients {
            let of_client = seen.iter().filter(|(_, at, version)| (*at, *version) == (address, 4));
            mounted.extend(of_client.map(|(file_system, ..)| *file_system));
            for file_system in mounted {
                *counts.entry(file_system).or_default() += 1;
            }
        }
        for (file_system, ..) in seen.iter().filter(|(_, _, version)| *version == STATELESS) {
            *counts.entry(*file_system).or_default() += 1;
        }
        counts
    }

    /// Who has lately called upon what, by which version.
    fn seen(&self) -> Vec<(FileSystemId, IpAddr, u32)> {
        let now_ms = self.0.now_ms();
        let seen = lock(&self.0.seen);
        let lately = seen.iter().filter(|(_, at_ms)| now_ms.saturating_sub(**at_ms) < SEEN_MS);
        lately.map(|(key, _)| *key).collect()
    }
}
