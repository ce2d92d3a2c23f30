//! Opens and share reservations (RFC 8881 9.7, 18.2, 18.16, 18.18).

use bytes::Bytes;

use super::{Entry, Key, State};
use crate::handle::Handle;
use crate::v4::status::Status;
use crate::v4::types::Stateid;

/// Bits of share access and deny.
pub(super) const READ: u32 = 1;
pub(super) const WRITE: u32 = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    pub(super) owner: Bytes,
    pub(super) file: Handle,
    pub(super) seqid: u32,
    /// The union of what the OPENs asked for.
    pub(super) access: u32,
    pub(super) deny: u32,
    /// Which values the OPENs asked for: a downgrade goes to what some of them ask for together.
    asked_access: u8,
    asked_deny: u8,
    /// False until OPEN_CONFIRM (NFSv4.0).
    pub(super) confirmed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    New,
    /// CLAIM_PREVIOUS, within the grace.
    Reclaim,
}

/// An OPEN, as far as it is decided by state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenRequest {
    pub client: u32,
    pub owner: Bytes,
    pub file: Handle,
    /// 1 to 3.
    pub access: u32,
    /// 0 to 3.
    pub deny: u32,
    pub claim: Claim,
    /// The open owner is known, or needs not be (NFSv4.1).
    pub confirmed: bool,
}

/// An open that was made or widened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    pub stateid: Stateid,
    key: Key,
    /// As it was, when it was there.
    earlier: Option<Open>,
}

impl Opened {
    /// It was made, and not widened.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.earlier.is_none()
    }
}

/// Whether a value can be put together of those whose bits are set.
fn is_union_of_some(value: u32, asked: u8) -> bool {
    let parts = (0..4u32).filter(|part| asked & 1 << part != 0 && part & !value == 0);
    value == parts.fold(0, |all, part| all | part) && (value != 0 || asked & 1 != 0 || asked == 0)
}

impl State {
    /// Whether a request for state may be heard at all, before any file is touched.
    ///
    /// # Errors
    /// [`Status::Grace`] or [`Status::NoGrace`].
    pub fn check_claim(&self, client: u32, claim: Claim) -> Result<(), Status> {
        match claim {
            Claim::New => self.check_new(client),
            Claim::Reclaim => self.check_reclaim(client),
        }
    }

    /// OPEN: makes an open, or widens the one that the owner has of the file.
    ///
    /// The caller holds the file in its store, and lets go of it again unless the open is new
    /// ([`Opened::is_new`]): each open has one hold, given back by [`State::take_released`].
    ///
    /// # Errors
    /// [`Status::ShareDenied`] and its like; [`Status::Delay`] while a write that the new open
    /// would deny is in flight.
    pub fn open_file(&mut self, asked: &OpenRequest, now_ms: u64) -> Result<Opened, Status> {
        self.check_claim(asked.client, asked.claim)?;
        let own = self.open_by(asked.client, &asked.owner, &asked.file);
        self.clear_shares(asked, own, now_ms)?;
        if let Some(key) = own {
            let open = self.open_mut(key)?;
            let earlier = open.clone();
            open.access |= asked.access;
            open.deny |= asked.deny;
            open.asked_access |= 1 << asked.access;
            open.asked_deny |= 1 << asked.deny;
            open.seqid = next_seqid(open.seqid);
            let seqid = open.seqid;
            return Ok(Opened { stateid: self.stateid(key, seqid), key, earlier: Some(earlier) });
        }
        let key = self.new_key(asked.client)?;
        let open = Open {
            owner: asked.owner.clone(),
            file: asked.file,
            seqid: 1,
            access: asked.access,
            deny: asked.deny,
            asked_access: 1 << asked.access,
            asked_deny: 1 << asked.deny,
            confirmed: asked.confirmed,
        };
        self.entries.insert(key, Entry::Open(open));
        self.files.entry(asked.file).or_default().opens.push(key);
        Ok(Opened { stateid: self.stateid(key, 1), key, earlier: None })
    }

    /// An OPEN failed after its state was made: all is as before.
    pub fn undo_open(&mut self, opened: &Opened) {
        match &opened.earlier {
            None => self.drop_open(opened.key),
            Some(earlier) => {
                if let Ok(open) = self.open_mut(opened.key) {
                    // The seqid was never given away, but another OPEN may have come between.
                    let seqid = open.seqid;
                    *open = earlier.clone();
                    open.seqid = open.seqid.max(seqid);
                }
            }
        }
    }

    pub(super) fn open_by(&self, client: u32, owner: &Bytes, file: &Handle) -> Option<Key> {
        let opens = &self.files.get(file)?.opens;
        let is_own = |key: &&Key| {
            key.client == client && self.open(**key).is_some_and(|open| open.owner == *owner)
        };
        opens.iter().find(is_own).copied()
    }

    /// Makes sure that no open stands against this one; who is silent past its lease gives way.
    /// The owner's own stand as others do: whoever denies readers denies them to itself
    /// (RFC 7530 9.9, RFC 8881 9.7).
    fn clear_shares(
        &mut self,
        asked: &OpenRequest,
        own: Option<Key>,
        now_ms: u64,
    ) -> Result<(), Status> {
        let Some(file) = self.files.get(&asked.file) else { return Ok(()) };
        let stands = |key: &&Key| {
            self.open(**key)
                .is_some_and(|open| open.access & asked.deny != 0 || open.deny & asked.access != 0)
        };
        let against: Vec<Key> = file.opens.iter().filter(stands).copied().collect();
        let stays = |key: &Key| key.client == asked.client || !self.is_expired(key.client, now_ms);
        if against.iter().any(stays) {
            return Err(Status::ShareDenied);
        }
        for key in against {
            if !self.try_expire(key.client) {
                return Err(Status::Delay);
            }
        }
        let writes = self.files.get(&asked.file).is_some_and(|file| file.writes > 0);
        let owns_writer =
            own.is_some_and(|key| self.open(key).is_some_and(|open| open.access & WRITE != 0));
        if asked.deny & WRITE != 0 && writes && !owns_writer { Err(Status::Delay) } else { Ok(()) }
    }

    /// OPEN_CONFIRM (RFC 7530 16.18).
    ///
    /// # Errors
    /// No such open.
    pub fn confirm_open(&mut self, stateid: &Stateid, file: &Handle) -> Result<Stateid, Status> {
        let key = self.open_of(stateid, None, file)?;
        let open = self.open_mut(key)?;
        if open.confirmed {
            // There is nothing to confirm (RFC 7530 16.18.5).
            return Err(Status::BadStateid);
        }
        open.confirmed = true;
        open.seqid = next_seqid(open.seqid);
        let seqid = open.seqid;
        Ok(self.stateid(key, seqid))
    }

    /// OPEN_DOWNGRADE (RFC 8881 18.18).
    ///
    /// # Errors
    /// [`Status::Inval`] for anything but what some of the OPENs asked for together.
    pub fn downgrade(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        let key = self.open_of(stateid, client, file)?;
        let open = self.open_mut(key)?;
        if !is_union_of_some(access, open.asked_access) || !is_union_of_some(deny, open.asked_deny)
        {
            return Err(Status::Inval);
        }
        let within = |asked: u8, value: u32| {
            (0..4u32).filter(|part| part & !value == 0).fold(0, |all, part| all | asked & 1 << part)
        };
        open.asked_access = within(open.asked_access, access);
        open.asked_deny = within(open.asked_deny, deny);
        open.access = access;
        open.deny = deny;
        open.seqid = next_seqid(open.seqid);
        let seqid = open.seqid;
        Ok(self.stateid(key, seqid))
    }

    /// CLOSE (RFC 8881 18.2): the open's locks go with it.
    ///
    /// # Errors
    /// No such open.
    pub fn close(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
    ) -> Result<(), Status> {
        let key = self.open_of(stateid, client, file)?;
        self.drop_open(key);
        Ok(())
    }

    pub(super) fn drop_open(&mut self, key: Key) {
        let Some(Entry::Open(open)) = self.entries.get(&key) else { return };
        let handle = open.file;
        let locks: Vec<Key> = match self.files.get(&handle) {
            None => Vec::new(),
            Some(file) => {
                let is_of = |lock: &&Key| {
                    lock.client == key.client
                        && self.lock_entry(**lock).is_some_and(|lock| lock.open == key.number)
                };
                file.locks.iter().filter(is_of).copied().collect()
            }
        };
        locks.into_iter().for_each(|lock| self.drop_lock(lock));
        self.entries.remove(&key);
        self.released.push(handle);
        if let Some(client) = self.clients.get_mut(&key.client) {
            client.entries.remove(&key.number);
        }
        if let Some(file) = self.files.get_mut(&handle) {
            file.opens.retain(|open| *open != key);
        }
        self.tidy_file(&handle);
    }

    /// Forgets a file that nothing is held on.
    pub(super) fn tidy_file(&mut self, handle: &Handle) {
        if self.files.get(handle).is_some_and(super::FileState::is_empty) {
            self.files.remove(handle);
        }
    }
}

/// The next seqid of a stateid; zero is left out (RFC 8881 8.2.2).
pub(super) fn next_seqid(seqid: u32) -> u32 {
    seqid.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downgrade_goes_to_a_union_of_what_was_asked() {
        let asked = |parts: &[u32]| parts.iter().fold(0u8, |all, part| all | 1 << part);
        assert!(is_union_of_some(1, asked(&[1, 3])));
        assert!(!is_union_of_some(2, asked(&[1, 3])));
        assert!(is_union_of_some(3, asked(&[1, 2])));
        assert!(!is_union_of_some(1, asked(&[3])));
        assert!(is_union_of_some(0, asked(&[0, 2])));
        assert!(!is_union_of_some(0, asked(&[2])));
    }
}
