//! The grace after a restart: those who had state may reclaim it, and nobody else takes it
//! (RFC 8881 8.4.2).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ClientRecord, Effect, State};
use crate::v4::status::Status;

/// How long a client that has neither opens nor locks keeps its record: so long that who opens
/// and closes one file after another does not write a record each time.
const IDLE_MS: u64 = 5000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Grace {
    ends_ms: u64,
    /// Who has not said that it has reclaimed all.
    waiting: BTreeMap<Bytes, ClientRecord>,
    /// Who came back, if only in part.
    returned: Vec<Bytes>,
}

impl Grace {
    pub(super) fn after_restart(records: Vec<ClientRecord>, ends_ms: u64) -> Option<Self> {
        let waiting: BTreeMap<_, _> =
            records.into_iter().map(|record| (record.owner.clone(), record)).collect();
        (!waiting.is_empty()).then_some(Self { ends_ms, waiting, returned: Vec::new() })
    }
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.ends_ms || self.waiting.is_empty()
    }
    pub(super) fn waits_for(&self, owner: &Bytes) -> bool {
        self.waiting.contains_key(owner)
    }
    pub(super) fn has_returned(&mut self, owner: &Bytes) {
        self.returned.push(owner.clone());
    }
    pub(super) fn has_reclaimed(&mut self, owner: &Bytes) {
        self.waiting.remove(owner);
    }
}

impl State {
    #[must_use]
    pub fn in_grace(&self) -> bool {
        self.grace.is_some()
    }

    pub(super) fn end_grace(&mut self) {
        let Some(grace) = self.grace.take() else { return };
        // Who did not come back loses the right to: others may have its state from now on.
        for owner in grace.waiting.into_keys().filter(|owner| !grace.returned.contains(owner)) {
            self.forget_record(&owner);
        }
        for client in self.clients.values_mut() {
            client.may_reclaim = false;
        }
    }

    /// Who has had neither opens nor locks for a while has nothing to reclaim: nobody is to wait
    /// for it after a restart. Its next open keeps its record again.
    pub(super) fn forget_the_idle(&mut self, now_ms: u64) {
        if self.in_grace() {
            // Some of them are about to reclaim, now or after one more restart.
            return;
        }
        let mut idle = Vec::new();
        for client in self.clients.values_mut().filter(|client| client.confirmed) {
            if client.has_state() {
                client.had_state_ms = now_ms;
            } else if now_ms.saturating_sub(client.had_state_ms) > IDLE_MS {
                idle.push(client.owner.clone());
            }
        }
        idle.iter().for_each(|owner| self.forget_record(owner));
    }

    pub(super) fn keep_record(&mut self, record: ClientRecord) {
        if self.durable.insert(record.owner.clone()) {
            self.pending.push(Effect::Store(record));
        }
    }

    pub(super) fn forget_record(&mut self, owner: &Bytes) {
        if self.durable.remove(owner) {
            self.pending.push(Effect::Remove(owner.clone()));
        }
    }

    /// Whether a request for new state may pass.
    ///
    /// # Errors
    /// [`Status::Grace`]: others may still reclaim, or this client has not said that it has done
    /// so (RFC 8881 18.51.3).
    pub(super) fn check_new(&self, number: u32) -> Result<(), Status> {
        let client = self.client(number)?;
        let settled = client.minor_zero || client.reclaim_complete;
        if self.in_grace() || !settled { Err(Status::Grace) } else { Ok(()) }
    }

    /// Whether a reclaim may pass.
    ///
    /// # Errors
    /// [`Status::NoGrace`]: the time is over, or the client is done, or had nothing to reclaim.
    pub(super) fn check_reclaim(&self, number: u32) -> Result<(), Status> {
        let client = self.client(number)?;
        let open = self.in_grace() && client.may_reclaim && !client.reclaim_complete;
        if open { Ok(()) } else { Err(Status::NoGrace) }
    }

    /// RECLAIM_COMPLETE (RFC 8881 18.51), for all file systems at once.
    ///
    /// # Errors
    /// [`Status::CompleteAlready`].
    pub fn reclaim_complete(&mut self, number: u32, now_ms: u64) -> Result<(), Status> {
        let client = self.client_mut(number)?;
        if client.reclaim_complete {
            return Err(Status::CompleteAlready);
        }
        client.reclaim_complete = true;
        let owner = client.owner.clone();
        if let Some(grace) = &mut self.grace {
            grace.has_reclaimed(&owner);
            if grace.is_over(now_ms) {
                self.end_grace();
            }
        }
        Ok(())
    }
}
