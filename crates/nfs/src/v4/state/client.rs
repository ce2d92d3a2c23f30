//! Clients: EXCHANGE_ID and SETCLIENTID make them, confirmation lets them hold state, a lease
//! keeps them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;

use super::{ClientRecord, EXPIRED_MAX, Entry, Key, State};
use crate::v4::status::Status;
use crate::v4::types::{ClientId, SessionId, Verifier};

/// Who speaks for a client: what RPC says of the caller, as far as it does not change between two
/// of its calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Principal {
    Nobody,
    Uid(u32),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Client {
    pub(super) owner: Bytes,
    pub(super) verifier: Verifier,
    pub(super) principal: Principal,
    /// Where it came from last; for people.
    pub(super) address: IpAddr,
    pub(super) minor_zero: bool,
    pub(super) confirmed: bool,
    pub(super) renewed_ms: u64,
    /// When it was last seen to have opens or locks.
    pub(super) had_state_ms: u64,
    /// Has a record from before the restart.
    pub(super) may_reclaim: bool,
    pub(super) reclaim_complete: bool,
    /// CREATE_SESSION's own slot (RFC 8881 18.36.4): the number that comes next, and the reply to
    /// the one before.
    pub(super) create_next: u32,
    pub(super) create_reply: Option<Bytes>,
    pub(super) sessions: Vec<SessionId>,
    /// What SETCLIENTID_CONFIRM has to say (NFSv4.0).
    pub(super) confirm: Verifier,
    /// As [`Self::confirm`], of a SETCLIENTID that only changes the callback.
    pub(super) confirm_again: Option<Verifier>,
    /// Numbers of its opens and locks.
    pub(super) entries: BTreeSet<u32>,
    pub(super) next_entry: u32,
    /// Writes that have passed their check and not ended.
    pub(super) in_flight: u32,
}

impl Client {
    pub(super) fn has_state(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// EXCHANGE_ID, as far as it is decided by state (RFC 8881 18.35).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    pub owner: Bytes,
    pub verifier: Verifier,
    pub principal: Principal,
    /// Where it comes from; nothing is decided by it.
    pub address: IpAddr,
    /// EXCHGID4_FLAG_UPD_CONFIRMED_REC_A.
    pub update: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExchangeReply {
    pub client: ClientId,
    /// The number that the first CREATE_SESSION takes.
    pub sequence: u32,
    pub confirmed: bool,
}

impl State {
    /// The confirmed and the unconfirmed client of this name.
    fn named(&self, owner: &Bytes) -> (Option<u32>, Option<u32>) {
        let numbers = self.by_owner.get(owner);
        let find = |confirmed| {
            let mut numbers = numbers.into_iter().flatten();
            let is = |number: &&u32| {
                self.clients.get(*number).is_some_and(|one| one.confirmed == confirmed)
            };
            numbers.find(is).copied()
        };
        (find(true), find(false))
    }

    fn add_client(
        &mut self,
        exchange: &Exchange,
        minor_zero: bool,
        now_ms: u64,
    ) -> Result<u32, Status> {
        if self.clients.len() >= self.config.clients_max {
            self.make_room(now_ms)?;
        }
        let number = self.next_client;
        self.next_client = self.next_client.checked_add(1).ok_or(Status::ServerFault)?;
        let owner = exchange.owner.clone();
        let may_reclaim = self.grace.as_ref().is_some_and(|grace| grace.waits_for(&owner));
        let mut confirm = [0; 8];
        confirm[..4].copy_from_slice(&self.boot.to_be_bytes());
        confirm[4..].copy_from_slice(&number.to_be_bytes());
        let client = Client {
            owner: owner.clone(),
            verifier: exchange.verifier,
            principal: exchange.principal,
            address: exchange.address,
            minor_zero,
            confirmed: false,
            renewed_ms: now_ms,
            had_state_ms: now_ms,
            may_reclaim,
            reclaim_complete: false,
            create_next: 1,
            create_reply: None,
            sessions: Vec::new(),
            confirm,
            confirm_again: None,
            entries: BTreeSet::new(),
            next_entry: 1,
            in_flight: 0,
        };
        self.clients.insert(number, client);
        self.by_owner.entry(owner).or_default().insert(number);
        Ok(number)
    }

    /// More is wanted than there may be: the client that is silent longest past its lease gives
    /// way.
    pub(super) fn make_room(&mut self, now_ms: u64) -> Result<(), Status> {
        let silent = self.clients.iter().min_by_key(|(_, client)| client.renewed_ms);
        let oldest = silent.map(|(number, _)| *number).ok_or(Status::Delay)?;
        if self.is_expired(oldest, now_ms) && self.try_expire(oldest) {
            Ok(())
        } else {
            Err(Status::Delay)
        }
    }

    /// EXCHANGE_ID: the nine cases of RFC 8881 18.35.4.
    ///
    /// # Errors
    /// As there.
    pub fn exchange_id(
        &mut self,
        exchange: &Exchange,
        now_ms: u64,
    ) -> Result<ExchangeReply, Status> {
        let (confirmed, unconfirmed) = self.named(&exchange.owner);
        if exchange.update {
            return self.update_client(confirmed, exchange, now_ms);
        }
        if let Some(number) = confirmed {
            let expired = self.is_expired(number, now_ms);
            let client = self.client_mut(number)?;
            if client.principal != exchange.principal {
                // Case 3: somebody else's name, unless nothing lives under it any more.
                if client.has_state() && !expired {
                    return Err(Status::ClidInUse);
                }
                if !self.try_expire(number) {
                    return Err(Status::Delay);
                }
            } else if client.verifier == exchange.verifier && !client.minor_zero {
                // Case 2: a retry, or a client that has forgotten that it was here.
                client.renewed_ms = now_ms;
                client.address = exchange.address;
                let sequence = client.create_next;
                let client = self.client_id(number);
                return Ok(ExchangeReply { client, sequence, confirmed: true });
            }
            // Case 5: the client has restarted. What it had goes when the new one is confirmed.
        }
        if let Some(number) = unconfirmed {
            // Case 4.
            self.drop_client(number);
        }
        let number = self.add_client(exchange, false, now_ms)?;
        let (client, sequence) = (self.client_id(number), self.client(number)?.create_next);
        Ok(ExchangeReply { client, sequence, confirmed: false })
    }

    /// Cases 6 to 9: an update of what is confirmed.
    fn update_client(
        &mut self,
        confirmed: Option<u32>,
        exchange: &Exchange,
        now_ms: u64,
    ) -> Result<ExchangeReply, Status> {
        let number = confirmed.ok_or(Status::NoEnt)?;
        let client = self.client_mut(number)?;
        if client.verifier != exchange.verifier {
            return Err(Status::NotSame);
        }
        if client.principal != exchange.principal {
            return Err(Status::Perm);
        }
        client.renewed_ms = now_ms;
        client.address = exchange.address;
        let sequence = client.create_next;
        Ok(ExchangeReply { client: self.client_id(number), sequence, confirmed: true })
    }

    /// A client is confirmed: an earlier one of its name is gone with all it had, and the record
    /// is to be kept.
    ///
    /// # Errors
    /// [`Status::Delay`]: the earlier one has writes in flight.
    pub(super) fn confirm(&mut self, number: u32) -> Result<(), Status> {
        let owner = self.client(number)?.owner.clone();
        let (earlier, _) = self.named(&owner);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != number) {
            if self.client(earlier)?.in_flight > 0 {
                return Err(Status::Delay);
            }
            self.drop_client(earlier);
            self.note_expired(earlier);
        }
        let client = self.client_mut(number)?;
        client.confirmed = true;
        let record = ClientRecord { owner: owner.clone(), minor_zero: client.minor_zero };
        if let Some(grace) = &mut self.grace {
            grace.has_returned(&owner);
        }
        self.keep_record(record);
        Ok(())
    }

    /// SETCLIENTID (RFC 7530 16.33): the client's id, and what confirms it.
    ///
    /// # Errors
    /// [`Status::ClidInUse`].
    pub fn set_client_id(
        &mut self,
        exchange: &Exchange,
        now_ms: u64,
    ) -> Result<(ClientId, Verifier), Status> {
        let (confirmed, unconfirmed) = self.named(&exchange.owner);
        if let Some(number) = confirmed {
            let expired = self.is_expired(number, now_ms);
            let again = self.next_verifier();
            let client = self.client_mut(number)?;
            if client.principal != exchange.principal && client.has_state() && !expired {
                return Err(Status::ClidInUse);
            }
            if client.verifier == exchange.verifier && client.principal == exchange.principal {
                // Only the callback changes, and we never call back.
                client.address = exchange.address;
                client.confirm_again = Some(again);
                return Ok((self.client_id(number), again));
            }
        }
        if let Some(number) = unconfirmed {
            self.drop_client(number);
        }
        let number = self.add_client(exchange, true, now_ms)?;
        Ok((self.client_id(number), self.client(number)?.confirm))
    }

    fn next_verifier(&mut self) -> Verifier {
        self.next_session += 1;
        (self.next_session | 1 << 63).to_be_bytes()
    }

    /// SETCLIENTID_CONFIRM (RFC 7530 16.34).
    ///
    /// # Errors
    /// [`Status::StaleClientid`]; [`Status::ClidInUse`] when it is another's.
    pub fn confirm_client_id(
        &mut self,
        id: ClientId,
        confirm: Verifier,
        principal: Principal,
        now_ms: u64,
    ) -> Result<(), Status> {
        let number = self.client_number(id).map_err(|_| Status::StaleClientid)?;
        let client = self.client_mut(number)?;
        if !client.minor_zero
            || (client.confirm != confirm && client.confirm_again != Some(confirm))
        {
            return Err(Status::StaleClientid);
        }
        if client.principal != principal {
            return Err(Status::ClidInUse);
        }
        client.renewed_ms = now_ms;
        if client.confirmed { Ok(()) } else { self.confirm(number) }
    }

    /// RENEW (RFC 7530 16.29), and what every use of an id of NFSv4.0 does.
    ///
    /// # Errors
    /// No such client, or not confirmed.
    pub fn renew(&mut self, id: ClientId, now_ms: u64) -> Result<u32, Status> {
        let number = self.client_number(id)?;
        let client = self.client_mut(number)?;
        if !client.confirmed || !client.minor_zero {
            return Err(Status::StaleClientid);
        }
        client.renewed_ms = now_ms;
        Ok(number)
    }

    /// Whether an id of NFSv4.0 is that of this client.
    ///
    /// # Errors
    /// [`Status::StaleClientid`] for an id of nobody, [`Status::BadStateid`] when the stateid that
    /// came with it is another's.
    pub fn check_client(&self, id: ClientId, client: u32) -> Result<(), Status> {
        if self.client_number(id)? == client { Ok(()) } else { Err(Status::BadStateid) }
    }

    /// DESTROY_CLIENTID (RFC 8881 18.50).
    ///
    /// # Errors
    /// [`Status::StaleClientid`], or [`Status::ClientidBusy`] while it has sessions or state.
    pub fn destroy_client_id(&mut self, id: ClientId) -> Result<(), Status> {
        let number = self.client_number(id).map_err(|_| Status::StaleClientid)?;
        let client = self.client(number)?;
        if !client.sessions.is_empty() || client.has_state() || client.in_flight > 0 {
            return Err(Status::ClientidBusy);
        }
        let (owner, confirmed) = (client.owner.clone(), client.confirmed);
        self.drop_client(number);
        if confirmed {
            self.forget_record(&owner);
        }
        Ok(())
    }

    /// Whether the lease has passed: only courtesy keeps the client.
    pub(super) fn is_expired(&self, number: u32, now_ms: u64) -> bool {
        let lease_ms = self.config.lease_ms;
        let silent = |client: &Client| now_ms.saturating_sub(client.renewed_ms) > lease_ms;
        self.clients.get(&number).is_none_or(silent)
    }

    /// Expires a client unless it has writes in flight; says whether it is gone.
    pub(super) fn try_expire(&mut self, number: u32) -> bool {
        if self.clients.get(&number).is_some_and(|client| client.in_flight > 0) {
            return false;
        }
        self.expire(number);
        true
    }

    /// A client's lease ends for good: with its state goes the right to reclaim it.
    pub(super) fn expire(&mut self, number: u32) {
        let Some(client) = self.clients.get(&number) else { return };
        let (owner, confirmed) = (client.owner.clone(), client.confirmed);
        self.drop_client(number);
        self.note_expired(number);
        if confirmed {
            self.forget_record(&owner);
        }
    }

    /// What was this client's answers NFS4ERR_EXPIRED from now on, where NFSv4.0 asks.
    fn note_expired(&mut self, number: u32) {
        self.expired.insert(number);
        if self.expired.len() > EXPIRED_MAX {
            self.expired.pop_first();
        }
    }

    /// Takes a client away with all that it has.
    pub(super) fn drop_client(&mut self, number: u32) {
        let Some(client) = self.clients.get(&number) else { return };
        let keys: Vec<Key> =
            client.entries.iter().map(|entry| Key { client: number, number: *entry }).collect();
        for key in keys {
            match self.entries.get(&key) {
                Some(Entry::Open(_)) => self.drop_open(key),
                Some(Entry::Lock(_)) => self.drop_lock(key),
                None => {}
            }
        }
        self.owners.retain(|key, _| key.client != number);
        if let Some(client) = self.clients.remove(&number) {
            for session in &client.sessions {
                self.remove_session(*session);
            }
            if let Some(numbers) = self.by_owner.get_mut(&client.owner) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_owner.remove(&client.owner);
                }
            }
        }
    }

    /// A number for a new open or lock.
    pub(super) fn new_key(&mut self, number: u32) -> Result<Key, Status> {
        let most = self.config.opens_per_client_max;
        let client = self.client_mut(number)?;
        if client.entries.len() >= most {
            return Err(Status::Resource);
        }
        while client.entries.contains(&client.next_entry) {
            client.next_entry = client.next_entry.wrapping_add(1);
        }
        let key = Key { client: number, number: client.next_entry };
        client.next_entry = client.next_entry.wrapping_add(1);
        client.entries.insert(key.number);
        let record = ClientRecord { owner: client.owner.clone(), minor_zero: client.minor_zero };
        self.keep_record(record);
        Ok(key)
    }
}
