//! Byte-range locks (RFC 8881 9.1, 18.10 to 18.12): advisory, per lock owner and file.

use bytes::Bytes;

use super::opens::{READ, WRITE, next_seqid};
use super::{Claim, Entry, Key, State};
use crate::handle::Handle;
use crate::v4::status::Status;
use crate::v4::types::Stateid;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lock {
    pub(super) owner: Bytes,
    pub(super) file: Handle,
    /// The number of the open that it was first made through.
    pub(super) open: u32,
    pub(super) seqid: u32,
}

/// Whose lock: a new owner comes with the stateid of an open, a known one with that of a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockOwner {
    New { open: Stateid, name: Bytes },
    Known(Stateid),
}

/// A LOCK, as far as it is decided by state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRequest {
    pub owner: LockOwner,
    pub file: Handle,
    /// First and last byte.
    pub range: (u64, u64),
    pub write: bool,
    pub claim: Claim,
}

/// Why a lock was not given: an error, or the lock that stands against it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    Status(Status),
    Held { first: u64, last: u64, write: bool, client: crate::v4::types::ClientId, owner: Bytes },
}

impl From<Status> for Denied {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl State {
    /// LOCK (RFC 8881 18.10).
    ///
    /// # Errors
    /// Why it is not given.
    pub fn lock(
        &mut self,
        asked: &LockRequest,
        client: Option<u32>,
        now_ms: u64,
    ) -> Result<Stateid, Denied> {
        let (open, known) = self.lock_place(asked, client)?;
        self.check_claim(open.client, asked.claim)?;
        let needed = if asked.write { WRITE } else { READ };
        if self.open(open).is_none_or(|open| open.access & needed == 0) {
            return Err(Status::OpenMode.into());
        }
        self.clear_ranges(&asked.file, known, asked.range, asked.write, now_ms)?;
        let most = self.config.ranges_per_file_max;
        let ranges = self.files.get(&asked.file).map_or(0, |file| file.ranges.len());
        if ranges >= most {
            return Err(Status::Resource.into());
        }
        let key = match (known, &asked.owner) {
            (Some(key), _) => key,
            (None, LockOwner::New { name, .. }) => self.add_lock(open, name, &asked.file)?,
            (None, LockOwner::Known(_)) => return Err(Status::BadStateid.into()),
        };
        let file = self.files.get_mut(&asked.file).ok_or(Status::BadStateid)?;
        file.ranges.lock(key, asked.range, asked.write);
        let lock = self.lock_entry_mut(key)?;
        lock.seqid = next_seqid(lock.seqid);
        let seqid = lock.seqid;
        Ok(self.stateid(key, seqid))
    }

    /// The open that a lock is asked for through, and the owner's lock of the file if it has one.
    fn lock_place(
        &self,
        asked: &LockRequest,
        client: Option<u32>,
    ) -> Result<(Key, Option<Key>), Status> {
        match &asked.owner {
            LockOwner::Known(stateid) => {
                let key = self.lock_of(stateid, client, &asked.file)?;
                let lock = self.lock_entry(key).ok_or(Status::BadStateid)?;
                Ok((Key { number: lock.open, ..key }, Some(key)))
            }
            LockOwner::New { open, name } => {
                let open = self.open_of(open, client, &asked.file)?;
                if !self.open(open).is_some_and(|open| open.confirmed) {
                    return Err(Status::BadStateid);
                }
                Ok((open, self.lock_by(open.client, name, &asked.file)))
            }
        }
    }

    /// The lock that an owner has of a file.
    pub(super) fn lock_by(&self, client: u32, owner: &Bytes, file: &Handle) -> Option<Key> {
        let is_own = |key: &&Key| {
            key.client == client && self.lock_entry(**key).is_some_and(|lock| lock.owner == *owner)
        };
        self.files.get(file)?.locks.iter().find(is_own).copied()
    }

    fn add_lock(&mut self, open: Key, owner: &Bytes, file: &Handle) -> Result<Key, Status> {
        let key = self.new_key(open.client)?;
        let lock = Lock { owner: owner.clone(), file: *file, open: open.number, seqid: 0 };
        self.entries.insert(key, Entry::Lock(lock));
        self.files.entry(*file).or_default().locks.push(key);
        self.note_lock(open.client, owner);
        Ok(key)
    }

    /// Makes sure that nobody's range stands against this one; who is silent past its lease gives
    /// way.
    fn clear_ranges(
        &mut self,
        file: &Handle,
        own: Option<Key>,
        range: (u64, u64),
        write: bool,
        now_ms: u64,
    ) -> Result<(), Denied> {
        let Some(state) = self.files.get(file) else { return Ok(()) };
        let against: Vec<_> = state.ranges.conflicts(own, range, write).copied().collect();
        if let Some(held) = against.iter().find(|held| !self.is_expired(held.owner.client, now_ms))
        {
            let owner = self.lock_entry(held.owner).map(|lock| lock.owner.clone());
            return Err(Denied::Held {
                first: held.first,
                last: held.last,
                write: held.write,
                client: self.client_id(held.owner.client),
                owner: owner.unwrap_or_default(),
            });
        }
        for held in against {
            if !self.try_expire(held.owner.client) {
                return Err(Status::Delay.into());
            }
        }
        Ok(())
    }

    /// LOCKT (RFC 8881 18.11): whether a lock would be given; takes none.
    ///
    /// # Errors
    /// Why it would not.
    pub fn test_lock(
        &mut self,
        (client, owner): (u32, &Bytes),
        file: &Handle,
        range: (u64, u64),
        write: bool,
        now_ms: u64,
    ) -> Result<(), Denied> {
        if self.in_grace() {
            return Err(Status::Grace.into());
        }
        let own = self.lock_by(client, owner, file);
        self.clear_ranges(file, own, range, write, now_ms)
    }

    /// LOCKU (RFC 8881 18.12).
    ///
    /// # Errors
    /// No such lock.
    pub fn unlock(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
        range: (u64, u64),
    ) -> Result<Stateid, Status> {
        let key = self.lock_of(stateid, client, file)?;
        if let Some(file) = self.files.get_mut(file) {
            file.ranges.unlock(key, range);
        }
        let lock = self.lock_entry_mut(key)?;
        lock.seqid = next_seqid(lock.seqid);
        let seqid = lock.seqid;
        Ok(self.stateid(key, seqid))
    }

    /// RELEASE_LOCKOWNER (RFC 7530 16.37).
    ///
    /// # Errors
    /// [`Status::LocksHeld`].
    pub fn release_lock_owner(&mut self, client: u32, owner: &Bytes) -> Result<(), Status> {
        let is_own = |(key, entry): &(&Key, &Entry)| {
            key.client == client && matches!(entry, Entry::Lock(lock) if lock.owner == *owner)
        };
        let keys: Vec<Key> = self.entries.iter().filter(is_own).map(|(key, _)| *key).collect();
        let holds = |key: &Key| {
            let file = self.lock_entry(*key).and_then(|lock| self.files.get(&lock.file));
            file.is_some_and(|file| file.ranges.holds(*key))
        };
        if keys.iter().any(holds) {
            return Err(Status::LocksHeld);
        }
        keys.into_iter().for_each(|key| self.drop_lock(key));
        Ok(())
    }

    pub(super) fn drop_lock(&mut self, key: Key) {
        let Some(Entry::Lock(lock)) = self.entries.remove(&key) else { return };
        if let Some(client) = self.clients.get_mut(&key.client) {
            client.entries.remove(&key.number);
        }
        if let Some(file) = self.files.get_mut(&lock.file) {
            file.ranges.drop_owner(key);
            file.locks.retain(|one| *one != key);
        }
        self.tidy_file(&lock.file);
        self.note_unlocked(key.client, lock.owner);
    }
}
