//! Stateids: what stands for an open or a lock on the wire (RFC 8881 8.2).
//!
//! ```text
//!   other:  | boot, 4 bytes | client, 4 | number of the open or lock, 4 |
//! ```

use super::{Entry, Key, Lock, Open, State};
use crate::handle::Handle;
use crate::v4::status::Status;
use crate::v4::types::Stateid;

impl State {
    pub(super) fn stateid(&self, key: Key, seqid: u32) -> Stateid {
        let mut other = [0; 12];
        other[..4].copy_from_slice(&self.boot.to_be_bytes());
        other[4..8].copy_from_slice(&key.client.to_be_bytes());
        other[8..].copy_from_slice(&key.number.to_be_bytes());
        Stateid { seqid, other }
    }

    /// The key that a stateid names, whether there is such a thing or not.
    ///
    /// # Errors
    /// It is of another start; that only NFSv4.0 can see (RFC 8881 15.1.16.5).
    fn key_of(&self, stateid: &Stateid, minor_zero: bool) -> Result<Key, Status> {
        let word = |at: usize| {
            stateid.other[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        if word(0) != self.boot {
            // Ids of other starts are told from made-up ones by nothing; a zero is never a boot.
            let made_up = word(0) == 0 || word(0) == u32::MAX;
            return Err(if minor_zero && !made_up {
                Status::StaleStateid
            } else {
                Status::BadStateid
            });
        }
        Ok(Key { client: word(4), number: word(8) })
    }

    /// The key in a stateid of ours, unchecked.
    pub(super) fn raw_key(&self, stateid: &Stateid) -> Key {
        self.key_of(stateid, true).unwrap_or(Key { client: 0, number: 0 })
    }

    /// The open or lock of a stateid, of the right client and seqid.
    ///
    /// `client` is the session's; NFSv4.0 has none, and any holder of a stateid is its client.
    ///
    /// # Errors
    /// As RFC 8881 8.2.4 has them.
    pub(super) fn entry(&self, stateid: &Stateid, client: Option<u32>) -> Result<Key, Status> {
        let key = self.key_of(stateid, client.is_none())?;
        if client.is_some_and(|client| client != key.client) {
            return Err(Status::BadStateid);
        }
        let Some(entry) = self.entries.get(&key) else {
            let expired = client.is_none() && self.expired.contains(&key.client);
            return Err(if expired { Status::Expired } else { Status::BadStateid });
        };
        let seqid = match entry {
            Entry::Open(open) => open.seqid,
            Entry::Lock(lock) => lock.seqid,
        };
        // In NFSv4.1 zero means whatever is newest (RFC 8881 8.2.2).
        match stateid.seqid.cmp(&seqid) {
            _ if stateid.seqid == 0 && client.is_some() => Ok(key),
            std::cmp::Ordering::Less => Err(Status::OldStateid),
            std::cmp::Ordering::Equal => Ok(key),
            std::cmp::Ordering::Greater => Err(Status::BadStateid),
        }
    }

    /// The open of a stateid, which has to be of this file.
    ///
    /// # Errors
    /// As [`Self::entry`], and [`Status::BadStateid`] for a lock or another file.
    pub(super) fn open_of(
        &self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
    ) -> Result<Key, Status> {
        let key = self.entry(stateid, client)?;
        match self.entries.get(&key) {
            Some(Entry::Open(open)) if open.file == *file => Ok(key),
            _ => Err(Status::BadStateid),
        }
    }

    /// The lock of a stateid, which has to be of this file.
    ///
    /// # Errors
    /// As [`Self::open_of`].
    pub(super) fn lock_of(
        &self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
    ) -> Result<Key, Status> {
        let key = self.entry(stateid, client)?;
        match self.entries.get(&key) {
            Some(Entry::Lock(lock)) if lock.file == *file => Ok(key),
            _ => Err(Status::BadStateid),
        }
    }

    pub(super) fn open(&self, key: Key) -> Option<&Open> {
        match self.entries.get(&key) {
            Some(Entry::Open(open)) => Some(open),
            _ => None,
        }
    }
    pub(super) fn open_mut(&mut self, key: Key) -> Result<&mut Open, Status> {
        match self.entries.get_mut(&key) {
            Some(Entry::Open(open)) => Ok(open),
            _ => Err(Status::BadStateid),
        }
    }
    pub(super) fn lock_entry(&self, key: Key) -> Option<&Lock> {
        match self.entries.get(&key) {
            Some(Entry::Lock(lock)) => Some(lock),
            _ => None,
        }
    }
    pub(super) fn lock_entry_mut(&mut self, key: Key) -> Result<&mut Lock, Status> {
        match self.entries.get_mut(&key) {
            Some(Entry::Lock(lock)) => Ok(lock),
            _ => Err(Status::BadStateid),
        }
    }

    /// TEST_STATEID, one of its list (RFC 8881 18.48).
    #[must_use]
    pub fn test_stateid(&self, stateid: &Stateid, client: u32) -> Status {
        self.entry(stateid, Some(client)).err().unwrap_or(Status::Ok)
    }

    /// FREE_STATEID (RFC 8881 18.38): gives a lock stateid back that locks nothing.
    ///
    /// # Errors
    /// [`Status::LocksHeld`] while it stands for something.
    pub fn free_stateid(&mut self, stateid: &Stateid, client: u32) -> Result<(), Status> {
        let key = self.entry(stateid, Some(client))?;
        let Some(lock) = self.lock_entry(key) else { return Err(Status::LocksHeld) };
        if self.files.get(&lock.file).is_some_and(|file| file.ranges.holds(key)) {
            return Err(Status::LocksHeld);
        }
        self.drop_lock(key);
        Ok(())
    }
}
