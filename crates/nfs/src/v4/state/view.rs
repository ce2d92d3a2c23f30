//! What people are shown of the state, and what is taken away on their word.

use std::collections::HashSet;
use std::net::IpAddr;

use bytes::Bytes;

use super::{Entry, Key, State};
use crate::handle::FileSystemId;

/// A client that holds state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// What it calls itself.
    pub owner: Bytes,
    pub address: IpAddr,
    /// It speaks NFSv4.0.
    pub minor_zero: bool,
    /// When its lease was last renewed, by the clock of [`State::tick`].
    pub renewed_ms: u64,
    pub opens: u64,
    pub locks: u64,
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub clients: usize,
    pub sessions: usize,
    /// Opens and lock owners of files.
    pub entries: usize,
    pub in_grace: bool,
}

impl State {
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            clients: self.clients.len(),
            sessions: self.sessions.len(),
            entries: self.entries.len(),
            in_grace: self.in_grace(),
        }
    }

    /// Every confirmed client, with what it holds of one file system.
    #[must_use]
    pub fn holders(&self, of: FileSystemId) -> Vec<Holder> {
        let confirmed = self.clients.iter().filter(|(_, client)| client.confirmed);
        let holder = |(number, client): (&u32, &super::client::Client)| {
            let (mut opens, mut locks) = (0, 0);
            for entry in &client.entries {
                match self.entries.get(&Key { client: *number, number: *entry }) {
                    Some(Entry::Open(open)) if open.file.file_system == of => opens += 1,
                    Some(Entry::Lock(lock)) if lock.file.file_system == of => locks += 1,
                    _ => {}
                }
            }
            let (owner, address) = (client.owner.clone(), client.address);
            let super::client::Client { minor_zero, renewed_ms, .. } = *client;
            Holder { owner, address, minor_zero, renewed_ms, opens, locks }
        };
        confirmed.map(holder).collect()
    }

    /// Every confirmed client's address, and the file systems that it holds something of.
    #[must_use]
    pub fn held_by_clients(&self) -> Vec<(IpAddr, HashSet<FileSystemId>)> {
        let confirmed = self.clients.iter().filter(|(_, client)| client.confirmed);
        let held = |(number, client): (&u32, &super::client::Client)| {
            let key = |entry: &u32| Key { client: *number, number: *entry };
            let entries = client.entries.iter().filter_map(|entry| self.entries.get(&key(entry)));
            let file_systems = entries.map(|entry| match entry {
                Entry::Open(open) => open.file.file_system,
                Entry::Lock(lock) => lock.file.file_system,
            });
            (client.address, file_systems.collect())
        };
        confirmed.map(held).collect()
    }

    /// Drops every open and lock in a file system, as its operator orders; says how many opens
    /// there were. Their stateids are bad from now on, and the store is told by who orders it.
    pub fn drop_file_system(&mut self, file_system: FileSystemId) -> usize {
        let is_there = |(key, entry): (&Key, &Entry)| match entry {
            Entry::Open(open) if open.file.file_system == file_system => Some(*key),
            _ => None,
        };
        let opens: Vec<Key> = self.entries.iter().filter_map(is_there).collect();
        // The locks go with the opens that they belong to.
        opens.iter().for_each(|open| self.drop_open(*open));
        self.released.retain(|file| file.file_system != file_system);
        opens.len()
    }
}
