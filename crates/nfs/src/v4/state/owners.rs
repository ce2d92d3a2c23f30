//! Open and lock owners of NFSv4.0: each has a sequence of its own, and the reply to its last
//! request is kept (RFC 7530 9.1.7 to 9.1.9).

use bytes::Bytes;

use super::{Entry, Key, State};
use crate::handle::Handle;
use crate::v4::status::Status;
use crate::v4::types::Stateid;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnerKey {
    pub client: u32,
    pub name: Bytes,
    /// An owner of locks; opens and locks have names of their own.
    pub of_locks: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Owner {
    /// The number of the last request, and its reply with the file that was current after it.
    last: Option<(u32, Bytes, Option<Handle>)>,
    confirmed: bool,
    /// A request of it is running.
    busy: bool,
    /// The open that its last request closed, so that a retry finds its way here.
    closed: Option<Key>,
    /// Files that it has a lock stateid of. An owner of locks that has none is forgotten: clients
    /// use its name again and begin at any number.
    locks: u32,
}

impl Owner {
    fn is_done(&self, key: &OwnerKey) -> bool {
        key.of_locks && self.locks == 0 && !self.busy
    }
}

/// Where a request stands in its owner's sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It is the next.
    Next,
    /// It was answered before, with this.
    Replay(Bytes, Option<Handle>),
}

/// Statuses that leave the sequence where it is (RFC 7530 9.1.7).
const STAYS: [Status; 9] = [
    Status::StaleClientid,
    Status::StaleStateid,
    Status::BadStateid,
    Status::BadSeqid,
    Status::BadXdr,
    Status::Resource,
    Status::NoFileHandle,
    Status::Moved,
    Status::LeaseMoved,
];

impl State {
    /// Whether a request of an owner is the next, or a retry of the last. The next one has the
    /// owner to itself until [`Self::end_turn`].
    ///
    /// # Errors
    /// [`Status::BadSeqid`]; [`Status::Delay`] while another runs.
    pub fn turn(&mut self, key: &OwnerKey, seqid: u32) -> Result<Turn, Status> {
        if !self.clients.contains_key(&key.client) {
            return Err(Status::StaleClientid);
        }
        let owner = self.owners.entry(key.clone()).or_default();
        if owner.busy {
            return Err(Status::Delay);
        }
        match &owner.last {
            Some((last, reply, file)) if *last == seqid => {
                return Ok(Turn::Replay(reply.clone(), *file));
            }
            Some((last, ..)) if last.wrapping_add(1) != seqid => return Err(Status::BadSeqid),
            _ => {}
        }
        owner.busy = true;
        Ok(Turn::Next)
    }

    /// An owner whose first open was never confirmed begins anew (RFC 7530 16.18.5). What failed
    /// is no more answered than an open of another file: it left nothing, and libnfs, which is sent
    /// on by a symlink, opens the next name under the same number.
    pub fn reset_unconfirmed(&mut self, key: &OwnerKey, seqid: u32) {
        let granted = |reply: &Bytes| reply.starts_with(&(Status::Ok as u32).to_be_bytes());
        let is_retry = |owner: &Owner| {
            owner.last.as_ref().is_some_and(|(last, reply, _)| *last == seqid && granted(reply))
        };
        let stays = |owner: &Owner| owner.confirmed || owner.busy || is_retry(owner);
        if self.owners.get(key).is_none_or(stays) {
            return;
        }
        let opens: Vec<Key> = self
            .entries
            .iter()
            .filter(|(at, entry)| {
                at.client == key.client
                    && matches!(entry, Entry::Open(open) if open.owner == key.name)
            })
            .map(|(at, _)| *at)
            .collect();
        opens.into_iter().for_each(|open| self.drop_open(open));
        self.owners.remove(key);
    }

    /// A request of an owner is answered.
    pub fn end_turn(
        &mut self,
        key: &OwnerKey,
        seqid: u32,
        status: Status,
        reply: Bytes,
        file: Option<Handle>,
    ) {
        // Gone when the request has expired its own client.
        let Some(owner) = self.owners.get_mut(key) else { return };
        owner.busy = false;
        if !STAYS.contains(&status) {
            owner.last = Some((seqid, reply, file));
        }
        if owner.is_done(key) {
            self.owners.remove(key);
        }
    }

    /// An owner of locks has a stateid of a file more.
    pub(super) fn note_lock(&mut self, client: u32, name: &Bytes) {
        let key = OwnerKey { client, name: name.clone(), of_locks: true };
        if let Some(owner) = self.owners.get_mut(&key) {
            owner.locks += 1;
        }
    }

    /// And one less.
    pub(super) fn note_unlocked(&mut self, client: u32, name: Bytes) {
        let key = OwnerKey { client, name, of_locks: true };
        let Some(owner) = self.owners.get_mut(&key) else { return };
        owner.locks = owner.locks.saturating_sub(1);
        if owner.is_done(&key) {
            self.owners.remove(&key);
        }
    }

    #[must_use]
    pub fn is_owner_confirmed(&self, key: &OwnerKey) -> bool {
        self.owners.get(key).is_some_and(|owner| owner.confirmed)
    }

    pub fn confirm_owner(&mut self, key: &OwnerKey) {
        self.owners.entry(key.clone()).or_default().confirmed = true;
    }

    /// Notes that the owner's present request closes an open.
    pub fn note_closed(&mut self, key: &OwnerKey, stateid: &Stateid) {
        if let Ok(closed) = self.entry(stateid, None) {
            self.owners.entry(key.clone()).or_default().closed = Some(closed);
        }
    }

    /// The owner that a stateid is of; also of an open that its last request has closed.
    ///
    /// # Errors
    /// No such stateid; its seqid is not looked at.
    pub fn owner_of(&self, stateid: &Stateid) -> Result<OwnerKey, Status> {
        let newest = match self.entry(stateid, None) {
            Ok(key) => key,
            Err(Status::OldStateid | Status::BadStateid) => self.raw_key(stateid),
            Err(status) => return Err(status),
        };
        let key = |name: &Bytes, of_locks| OwnerKey {
            client: newest.client,
            name: name.clone(),
            of_locks,
        };
        match self.entries.get(&newest) {
            Some(Entry::Open(open)) => Ok(key(&open.owner, false)),
            Some(Entry::Lock(lock)) => Ok(key(&lock.owner, true)),
            None => {
                let closer = |(at, owner): &(&OwnerKey, &Owner)| {
                    at.client == newest.client && owner.closed == Some(newest)
                };
                let found = self.owners.iter().find(closer);
                found.map(|(at, _)| at.clone()).ok_or(Status::BadStateid)
            }
        }
    }
}
