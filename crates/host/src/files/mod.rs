//! A client of NFSv4.1 in user space (RFC 8881): one connection, one session, as many requests at
//! once as the session has slots. For tests, the demo and the benchmark, which must not depend on
//! what the machine's kernel can mount.
//!
//! Entry points: [`FileClient::connect`], [`FileClient::call`] for one [`Compound`] after another,
//! [`FileClient::send`] and [`FileClient::receive`] for many at once; [`FileClient::mount`] and
//! the calls behind it for what one does most. Who outlives its connections and the server's
//! restarts begins with [`FileClient::new`] over a [`Wire`].
//!
//! Invariant: a slot's sequence number goes up with every request that was answered on it, and a
//! slot has one request at a time: one whose answer was lost is sent again under its number.

mod calls;
mod compound;
mod wire;

use std::net::SocketAddr;

use bytes::Bytes;
use nfs::rpc::ReplyBody;
use nfs::v4::Status;
use nfs::v4::types::{ClientId, SessionId};
use nfs::xdr::{Xdr, XdrError};

pub use calls::OpenFile;
use compound::code;
pub use compound::{Compound, LockRange, Names, Opening, Owner, Results, Stable, StateidOf};
pub use nfs::v4::types::{LockType, Stateid};
pub use nfs::xdr::Writer;
pub use wire::{Procedure, Traffic, Who, Wire};

const COMPOUND: Procedure = (100_003, nfs::v4::VERSION, 1);
const MINOR: u32 = 1;
/// The largest READ or WRITE, and room for what is around it.
const MESSAGE_BYTES_MAX: u32 = (1 << 20) + 4096;

/// Why something of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("the file server at {portal} cannot be reached: {why}")]
    Unreachable { portal: SocketAddr, why: std::io::Error },
    #[error("the connection was lost: {0}")]
    Lost(#[from] std::io::Error),
    #[error("the server did not take the call: {0:?}")]
    Refused(ReplyBody),
    #[error("operation {operation} was answered with {status:?}")]
    Status { operation: u32, status: Status },
    #[error("a result is of operation {found}, where {wanted} was asked")]
    Unexpected { wanted: u32, found: u32 },
    #[error("the answer is no valid message: {0}")]
    Short(#[from] XdrError),
    #[error("the answer belongs to no request that was sent")]
    Stray,
    #[error("the server asks for the request again")]
    Again,
}

impl FilesError {
    /// The status, when the server answered with one.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What a client is called: the same name with another verifier is the same machine after a
/// restart (RFC 8881 2.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub name: Bytes,
    pub verifier: [u8; 8],
}

impl Identity {
    /// A client that has not been there before and will not come again.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Bytes::copy_from_slice(name.as_bytes()), verifier: *b"firstone" }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of the last request that was answered.
    sequence: u32,
    /// Of the request that is under way.
    xid: Option<u32>,
}

/// One connection with one session.
#[derive(Debug)]
pub struct FileClient {
    wire: Wire,
    identity: Identity,
    slots_wanted: u32,
    client: ClientId,
    session: SessionId,
    slots: Vec<Slot>,
}

impl FileClient {
    /// Connects, makes itself known and takes a session of so many slots, or as many as the server
    /// gives. What was held before a restart of the server is not reclaimed yet: see
    /// [`Self::reclaimed`].
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn connect(
        portal: SocketAddr,
        identity: &Identity,
        who: &Who,
        slots: u32,
    ) -> Result<Self, FilesError> {
        let mut client = Self::new(Wire::new(portal, who), identity.clone(), slots);
        client.begin_session()?;
        Ok(client)
    }

    /// One that is not known to the server yet, and has no slots before
    /// [`Self::begin_session`].
    #[must_use]
    pub fn new(wire: Wire, identity: Identity, slots: u32) -> Self {
        Self {
            wire,
            identity,
            slots_wanted: slots,
            client: ClientId(0),
            session: SessionId([0; 16]),
            slots: Vec::new(),
        }
    }

    /// Makes itself known and takes a session, the first one or another in place of one that the
    /// server does not know any more.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn begin_session(&mut self) -> Result<(), FilesError> {
        let sequence = self.exchange_id()?;
        self.create_session(sequence)
    }

    /// Sends what was gathered (see [`Wire::send`]), for who waits for no answer.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn flush(&mut self) -> Result<(), FilesError> {
        self.wire.flush()
    }

    /// Ends the connection; the next request makes another, with the same session. What was under
    /// way is to be sent again: each request on the slot that it had, before any other.
    pub fn hang_up(&mut self) {
        self.wire.hang_up();
        self.slots.iter_mut().for_each(|slot| slot.xid = None);
    }

    /// The client that the server knows this one as.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }
    /// Requests that can be under way at once.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
    /// What went over its connection so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }
    /// An owner of opens or locks of this client.
    #[must_use]
    pub fn owner(&self, name: &str) -> Owner {
        Owner { client: self.client, name: Bytes::copy_from_slice(name.as_bytes()) }
    }

    fn exchange_id(&mut self) -> Result<u32, FilesError> {
        let Identity { name, verifier } = &self.identity;
        let compound = Compound::new().step(code::EXCHANGE_ID, |to| {
            to.fixed(verifier);
            to.opaque(name);
            // No flags, SP4_NONE, no implementation.
            for number in [0, 0, 0] {
                to.u32(number);
            }
        });
        let mut results = self.alone(compound)?;
        self.client = results.value(code::EXCHANGE_ID)?;
        Ok(results.reader.u32()?)
    }

    fn create_session(&mut self, sequence: u32) -> Result<(), FilesError> {
        let (client, slots) = (self.client, self.slots_wanted);
        let channel = |to: &mut Writer, requests: u32| {
            // Padding; request, reply and kept reply; operations; requests; no RDMA.
            let bytes = MESSAGE_BYTES_MAX;
            for number in [0, bytes, bytes, 4096, 16, requests, 0] {
                to.u32(number);
            }
        };
        let compound = Compound::new().step(code::CREATE_SESSION, |to| {
            to.put(&client);
            to.u32(sequence);
            to.u32(0);
            channel(to, slots);
            channel(to, 1);
            // Callbacks: a program that is never called, without a credential.
            for number in [0x4000_0000, 1, 0] {
                to.u32(number);
            }
        });
        let mut results = self.alone(compound)?;
        self.session = results.value(code::CREATE_SESSION)?;
        let reader = &mut results.reader;
        let mut number = || reader.u32();
        // Sequence, flags; then of the channel all up to its requests.
        for _ in 0..7 {
            number()?;
        }
        let granted = number()?.min(slots);
        self.slots = vec![Slot::default(); granted as usize];
        Ok(())
    }

    /// RECLAIM_COMPLETE: nothing is left that was held before the server restarted. Nothing new
    /// can be opened before this.
    ///
    /// # Errors
    /// The server refuses, or the connection is lost.
    pub fn reclaimed(&mut self) -> Result<(), FilesError> {
        self.call(Compound::reclaim_complete())?.skip(&[code::RECLAIM_COMPLETE])
    }

    /// Ends session and client.
    ///
    /// # Errors
    /// The server refuses, as it does while something is open.
    pub fn leave(mut self) -> Result<(), FilesError> {
        let (session, client) = (self.session, self.client);
        let compound = Compound::new().step(code::DESTROY_SESSION, |to| to.put(&session));
        self.alone(compound)?.skip(&[code::DESTROY_SESSION])?;
        let compound = Compound::new().step(code::DESTROY_CLIENTID, |to| to.put(&client));
        self.alone(compound)?.skip(&[code::DESTROY_CLIENTID])
    }

    /// One request, and its results.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses; a failed operation shows in the results.
    pub fn call(&mut self, compound: Compound) -> Result<Results, FilesError> {
        self.send(0, compound)?;
        self.receive().map(|(_, results)| results)
    }

    /// Sends a request on a slot that has none; see [`Wire::send`] for when it goes out.
    ///
    /// # Errors
    /// The connection is lost.
    ///
    /// # Panics
    /// The slot has a request under way, or is not one of [`Self::slots`].
    pub fn send(&mut self, slot: usize, compound: Compound) -> Result<(), FilesError> {
        assert!(self.slots[slot].xid.is_none(), "the slot {slot} has a request under way");
        let sequence = self.slots[slot].sequence.wrapping_add(1);
        let highest = self.slots.len() - 1;
        let (session, number) = (self.session, |at: usize| u32::try_from(at).unwrap_or(0));
        let mut whole = Compound::new().step(code::SEQUENCE, |to| {
            to.put(&session);
            for number in [sequence, number(slot), number(highest)] {
                to.u32(number);
            }
            to.put(&false);
        });
        whole.append(compound);
        self.slots[slot].xid = Some(self.wire.send(COMPOUND, arguments(whole))?);
        Ok(())
    }

    /// The next request that is answered: its slot, which is free again, and its results.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses the request. [`FilesError::Again`] when it was
    /// not run, or its answer not kept; which it was says [`Self::receive_or_again`].
    pub fn receive(&mut self) -> Result<(usize, Results), FilesError> {
        let (slot, results) = self.receive_or_again()?;
        Ok((slot, results.ok_or(FilesError::Again)?))
    }

    /// As [`Self::receive`], for who sends requests again: nothing when that is due on this slot.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses the request.
    pub fn receive_or_again(&mut self) -> Result<(usize, Option<Results>), FilesError> {
        let (xid, mut results) = self.receive_results()?;
        let at = self.slots.iter().position(|slot| slot.xid == Some(xid));
        let at = at.ok_or(FilesError::Stray)?;
        let slot = &mut self.slots[at];
        slot.xid = None;
        match results.expect(code::SEQUENCE) {
            // The first of two that are the same still runs.
            Err(FilesError::Status { status: Status::Delay, .. }) => return Ok((at, None)),
            Err(FilesError::Status { status: Status::RetryUncachedRep, .. }) => {
                slot.sequence = slot.sequence.wrapping_add(1);
                return Ok((at, None));
            }
            answered => answered?,
        }
        let (session, sequence): (SessionId, u32) = Xdr::read(&mut results.reader)?;
        if session != self.session || sequence != slot.sequence.wrapping_add(1) {
            return Err(FilesError::Stray);
        }
        slot.sequence = sequence;
        // Slot, two highest slots, flags.
        for _ in 0..4 {
            results.reader.u32()?;
        }
        Ok((at, Some(results)))
    }

    /// A request without a session.
    fn alone(&mut self, compound: Compound) -> Result<Results, FilesError> {
        let sent = self.wire.send(COMPOUND, arguments(compound))?;
        let (xid, results) = self.receive_results()?;
        if xid == sent { Ok(results) } else { Err(FilesError::Stray) }
    }

    /// The next reply: its xid, and the results.
    fn receive_results(&mut self) -> Result<(u32, Results), FilesError> {
        let (xid, mut reader) = self.wire.receive()?;
        // Status, which the last result says again; tag; number of results.
        let status = Status::read(&mut reader)?;
        Bytes::read(&mut reader)?;
        if reader.u32()? == 0 {
            return Err(FilesError::Status { operation: 0, status });
        }
        Ok((xid, Results { status, reader }))
    }
}

/// The arguments of COMPOUND.
fn arguments(compound: Compound) -> Writer {
    let (count, operations) = compound.into_parts();
    let mut arguments = Writer::default();
    arguments.opaque(b"");
    arguments.u32(MINOR);
    arguments.u32(count);
    arguments.append(operations);
    arguments
}
