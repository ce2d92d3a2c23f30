//! Sessions: slots that make every request happen once (RFC 8881 2.10).
//!
//! ```text
//!            SEQUENCE with the next number            the reply is kept
//!   idle ------------------------------------> busy ---------------------> idle
//!    |  same number: the kept reply again       |  same number: NFS4ERR_DELAY
//!    |  other number: NFS4ERR_SEQ_MISORDERED    |
//! ```

use bytes::Bytes;

use super::State;
use crate::v4::status::Status;
use crate::v4::types::{ClientId, SessionId};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `channel_attrs4`.
    pub struct Channel {
        pub header_pad_bytes: u32,
        pub request_bytes_max: u32,
        pub reply_bytes_max: u32,
        pub cached_bytes_max: u32,
        pub operations_max: u32,
        pub requests_max: u32,
        pub rdma_ird: Vec<u32>,
    }
}

/// Least sizes that a client can do anything with: a SEQUENCE and its reply.
const REQUEST_BYTES_MIN: u32 = 256;
const REPLY_BYTES_MIN: u32 = 256;
const CACHED_BYTES_MIN: u32 = 32;
/// What a slot takes beside its reply.
const SLOT_BYTES: u64 = 128;
/// Replies of so many bytes are kept whatever was agreed.
pub(in crate::v4) const SMALL_BYTES: usize = 512;
/// What a new session is given at most, by how many percent of what all may keep are given away
/// with it: slots, and bytes of each one's kept reply. However many come, there is a slot for the
/// next that serves every operation of a client (RFC 8881 18.36.3 lets a server give less than is
/// asked).
const GIVEN: [(u64, u32, u32); 4] =
    [(50, u32::MAX, u32::MAX), (75, 16, u32::MAX), (90, 4, 2048), (100, 1, 2048)];
/// A session of fewer operations than SEQUENCE and one more is of no use.
const OPERATIONS_MIN: u32 = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
enum SlotState {
    Idle,
    Busy,
}

/// What is kept of the last request of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    fingerprint: u64,
    /// None when the client did not ask to keep it.
    reply: Option<Bytes>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Slot {
    sequence: u32,
    state: SlotState,
    kept: Option<Kept>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    client: u32,
    channel: Channel,
    slots: Vec<Slot>,
}

/// SEQUENCE's arguments, and a digest of the whole request (RFC 8881 2.10.6.1.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SequenceRequest {
    pub session: SessionId,
    pub sequence: u32,
    pub slot: u32,
    pub fingerprint: u64,
}

/// What SEQUENCE finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sequenced {
    /// The request is new; the slot is busy until [`State::finish`].
    New { client: u32, channel: Channel },
    /// It was answered before, with this.
    Replay(Bytes),
}

/// Nothing can be done with so little.
fn is_too_small(asked: &Channel) -> bool {
    asked.request_bytes_max < REQUEST_BYTES_MIN
        || asked.reply_bytes_max < REPLY_BYTES_MIN
        || asked.operations_max < OPERATIONS_MIN
        || asked.requests_max == 0
}

/// What a session of this channel may keep.
fn kept_bytes(channel: &Channel) -> u64 {
    let small = u64::try_from(SMALL_BYTES).unwrap_or(u64::MAX);
    let slot = u64::from(channel.cached_bytes_max).max(small) + SLOT_BYTES;
    u64::from(channel.requests_max) * slot
}

/// The channel that is agreed: no more than is asked, no more than we hold. `None` when all that
/// sessions may keep is given away.
fn agree(state: &State, asked: (&Channel, &Channel)) -> Result<Option<Channel>, Status> {
    let (config, (asked, back)) = (&state.config, asked);
    if is_too_small(asked) || is_too_small(back) {
        return Err(Status::TooSmall);
    }
    let channel = |slots: u32, cached: u32| Channel {
        header_pad_bytes: 0,
        request_bytes_max: asked.request_bytes_max.min(config.request_bytes_max),
        reply_bytes_max: asked.reply_bytes_max.min(config.reply_bytes_max),
        cached_bytes_max: asked
            .cached_bytes_max
            .clamp(CACHED_BYTES_MIN, config.cached_bytes_max.min(cached)),
        operations_max: asked.operations_max.min(config.operations_max),
        requests_max: asked.requests_max.min(config.slots_max.min(slots)),
        rdma_ird: Vec::new(),
    };
    let fits = |percent: u64, channel: &Channel| {
        state.granted_bytes + kept_bytes(channel) <= config.kept_bytes_max / 100 * percent
    };
    let mut given =
        GIVEN.iter().map(|(percent, slots, cached)| (percent, channel(*slots, *cached)));
    Ok(given.find(|(percent, channel)| fits(**percent, channel)).map(|(_, channel)| channel))
}

impl State {
    /// CREATE_SESSION (RFC 8881 18.36), with what is asked of the fore and the back channel;
    /// `reply` makes the result of the new session, which is
    /// kept for a retry.
    ///
    /// # Errors
    /// As there; none of them takes a number from the client's sequence but those that the client
    /// can do nothing about.
    pub fn create_session(
        &mut self,
        (id, sequence): (ClientId, u32),
        principal: super::Principal,
        asked: (&Channel, &Channel),
        now_ms: u64,
        reply: impl FnOnce(SessionId, &Channel) -> Bytes,
    ) -> Result<Bytes, Status> {
        let number = self.client_number(id).map_err(|_| Status::StaleClientid)?;
        let client = self.client(number)?;
        if client.minor_zero {
            return Err(Status::StaleClientid);
        }
        if sequence == client.create_next.wrapping_sub(1)
            && let Some(reply) = &client.create_reply
        {
            return Ok(reply.clone());
        }
        if sequence != client.create_next {
            return Err(Status::SeqMisordered);
        }
        if !client.confirmed && client.principal != principal {
            return Err(Status::ClidInUse);
        }
        if client.sessions.len() >= self.config.sessions_per_client_max {
            return Err(Status::NoSpc);
        }
        let agreed = match agree(self, asked)? {
            Some(channel) => Some(channel),
            None => {
                self.make_room(now_ms)?;
                agree(self, asked)?
            }
        };
        let channel = agreed.ok_or(Status::Delay)?;
        if !self.client(number)?.confirmed {
            self.confirm(number)?;
        }
        let session = self.add_session(number, &channel);
        let reply = reply(session, &channel);
        let client = self.client_mut(number)?;
        client.sessions.push(session);
        client.create_next = client.create_next.wrapping_add(1);
        client.create_reply = Some(reply.clone());
        client.renewed_ms = now_ms;
        Ok(reply)
    }

    fn add_session(&mut self, client: u32, channel: &Channel) -> SessionId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.boot.to_be_bytes());
        id[4..8].copy_from_slice(&client.to_be_bytes());
        id[8..].copy_from_slice(&self.next_session.to_be_bytes());
        self.next_session += 1;
        let slot = Slot { sequence: 0, state: SlotState::Idle, kept: None };
        let slots = vec![slot; usize::try_from(channel.requests_max).unwrap_or(1)];
        let channel = channel.clone();
        self.granted_bytes += kept_bytes(&channel);
        self.sessions.insert(SessionId(id), Session { client, channel, slots });
        SessionId(id)
    }

    pub(super) fn remove_session(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.granted_bytes -= kept_bytes(&session.channel);
        }
    }

    /// What the sessions may keep, in bytes: within [`super::Config::kept_bytes_max`].
    #[must_use]
    pub fn granted_bytes(&self) -> u64 {
        self.granted_bytes
    }

    /// Whether a request is one that the session has agreed to.
    ///
    /// # Errors
    /// [`Status::BadSession`], [`Status::ReqTooBig`], [`Status::TooManyOps`].
    pub fn check_request(
        &self,
        id: SessionId,
        call_bytes: usize,
        operations: u32,
    ) -> Result<(), Status> {
        let session = self.sessions.get(&id).ok_or(Status::BadSession)?;
        let most = usize::try_from(session.channel.request_bytes_max).unwrap_or(usize::MAX);
        if call_bytes > most {
            return Err(Status::ReqTooBig);
        }
        if operations > session.channel.operations_max {
            return Err(Status::TooManyOps);
        }
        Ok(())
    }

    /// SEQUENCE (RFC 8881 18.46). A new request renews the lease.
    ///
    /// # Errors
    /// The request is to be refused; nothing has changed then.
    pub fn sequence(&mut self, asked: &SequenceRequest, now_ms: u64) -> Result<Sequenced, Status> {
        let session = self.sessions.get_mut(&asked.session).ok_or(Status::BadSession)?;
        let slot = usize::try_from(asked.slot).ok().and_then(|at| session.slots.get_mut(at));
        let slot = slot.ok_or(Status::BadSlot)?;
        if asked.sequence == slot.sequence {
            return match (&slot.state, &slot.kept) {
                (SlotState::Busy, _) => Err(Status::Delay),
                // The slot has not been used yet.
                (SlotState::Idle, None) => Err(Status::SeqMisordered),
                (SlotState::Idle, Some(kept)) if kept.fingerprint != asked.fingerprint => {
                    Err(Status::SeqFalseRetry)
                }
                (SlotState::Idle, Some(Kept { reply: None, .. })) => Err(Status::RetryUncachedRep),
                (SlotState::Idle, Some(Kept { reply: Some(reply), .. })) => {
                    Ok(Sequenced::Replay(reply.clone()))
                }
            };
        }
        if asked.sequence != slot.sequence.wrapping_add(1) || slot.state == SlotState::Busy {
            return Err(Status::SeqMisordered);
        }
        let (client, channel) = (session.client, session.channel.clone());
        let lease = self.clients.get_mut(&client).ok_or(Status::BadSession)?;
        lease.renewed_ms = now_ms;
        slot.sequence = asked.sequence;
        slot.state = SlotState::Busy;
        slot.kept = Some(Kept { fingerprint: asked.fingerprint, reply: None });
        Ok(Sequenced::New { client, channel })
    }

    /// The request of a busy slot is answered; a reply that is to be kept is kept.
    pub fn finish(&mut self, asked: &SequenceRequest, reply: Option<Bytes>) {
        // The session may have been destroyed by the request itself.
        let Some(session) = self.sessions.get_mut(&asked.session) else { return };
        let slot = usize::try_from(asked.slot).ok().and_then(|at| session.slots.get_mut(at));
        if let Some(slot) = slot {
            slot.state = SlotState::Idle;
            slot.kept = Some(Kept { fingerprint: asked.fingerprint, reply });
        }
    }

    /// DESTROY_SESSION (RFC 8881 18.37), perhaps by a request of the session itself.
    ///
    /// # Errors
    /// [`Status::BadSession`]; [`Status::Delay`] while other requests of it run.
    pub fn destroy_session(
        &mut self,
        id: SessionId,
        within: Option<SessionId>,
    ) -> Result<(), Status> {
        let session = self.sessions.get(&id).ok_or(Status::BadSession)?;
        let busy = session.slots.iter().filter(|slot| slot.state == SlotState::Busy).count();
        if busy > usize::from(within == Some(id)) {
            return Err(Status::Delay);
        }
        let client = session.client;
        self.remove_session(id);
        if let Some(client) = self.clients.get_mut(&client) {
            client.sessions.retain(|one| *one != id);
        }
        Ok(())
    }

    /// Whether there is such a session, for BIND_CONN_TO_SESSION.
    ///
    /// # Errors
    /// [`Status::BadSession`].
    pub fn check_session(&self, id: SessionId) -> Result<(), Status> {
        self.sessions.get(&id).map(|_| ()).ok_or(Status::BadSession)
    }
}
