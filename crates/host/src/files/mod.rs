//! A client of NFSv4.1 in user space (RFC 8881): one connection, one session, as many requests at
//! once as the session has slots. For tests, the demo and the benchmark, which must not depend on
//! what the machine's kernel can mount.
//!
//! Entry points: [`FileClient::connect`], [`FileClient::call`] for one [`Compound`] after another,
//! [`FileClient::send`] and [`FileClient::receive`] for many at once; [`FileClient::mount`] and
//! the calls behind it for what one does most.
//!
//! Invariant: a slot's sequence number goes up with every request that was sent on it, and a slot
//! has one request at a time.

mod calls;
mod compound;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nfs::rpc::record::{Piece, Records, mark};
use nfs::rpc::{Accepted, AuthSys, Call, Credential, Opaque, Reply, ReplyBody};
use nfs::v4::Status;
use nfs::v4::types::{ClientId, SessionId};
use nfs::xdr::{Reader, Writer, Xdr, XdrError};

pub use calls::OpenFile;
use compound::code;
pub use compound::{Compound, LockRange, Names, Opening, Owner, Results, Stable, StateidOf};
pub use nfs::v4::types::{LockType, Stateid};

const NFS_PROGRAM: u32 = 100_003;
const COMPOUND_PROCEDURE: u32 = 1;
const MINOR: u32 = 1;
/// The largest READ or WRITE, and room for what is around it.
const MESSAGE_BYTES_MAX: u32 = (1 << 20) + 4096;
/// Requests that are gathered before they are sent.
const BATCH_BYTES: usize = 256 << 10;
/// Pieces that the kernel takes at once.
const SLICES_MAX: usize = 512;
/// A server that does not answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Who asks, as AUTH_SYS says it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub gids: Vec<u32>,
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
    sequence: u32,
    /// Of the request that is under way.
    xid: Option<u32>,
}

/// One connection with one session.
#[derive(Debug)]
pub struct FileClient {
    socket: TcpStream,
    input: BytesMut,
    piece: Piece,
    records: Records,
    /// Requests that are not sent yet, and their bytes.
    output: Vec<Bytes>,
    output_bytes: usize,
    credential: Opaque,
    xid: u32,
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
        let socket = TcpStream::connect_timeout(&portal, PATIENCE)
            .map_err(|why| FilesError::Unreachable { portal, why })?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let Who { uid, gid, gids } = who.clone();
        let (stamp, machine) = (0, identity.name.slice(..identity.name.len().min(64)));
        let credential = Credential::Sys(AuthSys { stamp, machine, uid, gid, gids }).to_opaque();
        let mut client = Self {
            socket,
            input: BytesMut::new(),
            piece: Piece::default(),
            output: Vec::new(),
            output_bytes: 0,
            records: Records::new(2 * MESSAGE_BYTES_MAX as usize),
            credential,
            xid: 1,
            client: ClientId(0),
            session: SessionId([0; 16]),
            slots: Vec::new(),
        };
        let sequence = client.exchange_id(identity)?;
        client.create_session(sequence, slots)?;
        Ok(client)
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
    /// An owner of opens or locks of this client.
    #[must_use]
    pub fn owner(&self, name: &str) -> Owner {
        Owner { client: self.client, name: Bytes::copy_from_slice(name.as_bytes()) }
    }

    fn exchange_id(&mut self, identity: &Identity) -> Result<u32, FilesError> {
        let compound = Compound::new().step(code::EXCHANGE_ID, |to| {
            to.fixed(&identity.verifier);
            to.opaque(&identity.name);
            // No flags, SP4_NONE, no implementation.
            for number in [0, 0, 0] {
                to.u32(number);
            }
        });
        let mut results = self.alone(compound)?;
        self.client = results.value(code::EXCHANGE_ID)?;
        Ok(results.reader.u32()?)
    }

    fn create_session(&mut self, sequence: u32, slots: u32) -> Result<(), FilesError> {
        let client = self.client;
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

    /// Sends a request on a slot that has none. It goes out together with those that are sent next,
    /// when an answer is waited for: as the kernel's client does, which keeps its connection corked
    /// while more requests are ready.
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
        let (count, operations) = compound.into_parts();
        let mut writer = Writer::default();
        writer.u32(code::SEQUENCE);
        writer.put(&session);
        for number in [sequence, number(slot), number(highest)] {
            writer.u32(number);
        }
        writer.put(&false);
        writer.append(operations);
        let xid = self.write(count + 1, writer)?;
        self.slots[slot] = Slot { sequence, xid: Some(xid) };
        Ok(())
    }

    /// The next request that is answered: its slot, which is free again, and its results.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses the request.
    pub fn receive(&mut self) -> Result<(usize, Results), FilesError> {
        let (xid, mut results) = self.read()?;
        let slot = self.slots.iter().position(|slot| slot.xid == Some(xid));
        let slot = slot.ok_or(FilesError::Stray)?;
        self.slots[slot].xid = None;
        results.expect(code::SEQUENCE)?;
        // Session, and five numbers.
        SessionId::read(&mut results.reader)?;
        for _ in 0..5 {
            results.reader.u32()?;
        }
        Ok((slot, results))
    }

    /// A request without a session.
    fn alone(&mut self, compound: Compound) -> Result<Results, FilesError> {
        let (count, operations) = compound.into_parts();
        let sent = self.write(count, operations)?;
        let (xid, results) = self.read()?;
        if xid == sent { Ok(results) } else { Err(FilesError::Stray) }
    }

    /// Sends a COMPOUND: its xid.
    fn write(&mut self, count: u32, operations: Writer) -> Result<u32, FilesError> {
        self.xid = self.xid.wrapping_add(1);
        let mut arguments = Writer::default();
        arguments.opaque(b"");
        arguments.u32(MINOR);
        arguments.u32(count);
        arguments.append(operations);
        let call = Call {
            xid: self.xid,
            program: NFS_PROGRAM,
            version: nfs::v4::VERSION,
            procedure: COMPOUND_PROCEDURE,
            credential: self.credential.clone(),
            verifier: Opaque::none(),
            arguments: Bytes::new(),
        };
        let mut pieces = vec![Bytes::new(), call.encode()];
        pieces.extend(arguments.finish());
        let too_long = |_| FilesError::Lost(ErrorKind::InvalidInput.into());
        pieces[0] = Bytes::copy_from_slice(&mark(&pieces).map_err(too_long)?);
        self.output_bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.output.extend(pieces);
        if self.output_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(self.xid)
    }

    /// Gives the kernel what is to be sent.
    fn flush(&mut self) -> Result<(), FilesError> {
        let pieces = std::mem::take(&mut self.output);
        self.output_bytes = 0;
        for pieces in pieces.chunks(SLICES_MAX) {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = &mut slices[..];
            while !left.is_empty() {
                match self.socket.write_vectored(left) {
                    Ok(0) => return Err(FilesError::Lost(ErrorKind::WriteZero.into())),
                    Ok(sent) => IoSlice::advance_slices(&mut left, sent),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The next reply: its xid, and the results when the call was let in.
    fn read(&mut self) -> Result<(u32, Results), FilesError> {
        let record = loop {
            let too_long = |_| FilesError::Lost(ErrorKind::InvalidData.into());
            if let Some(record) = self.records.take(&mut self.input).map_err(too_long)? {
                break record;
            }
            self.flush()?;
            let had = self.input.len();
            let wanted = self.records.missing(&self.input).max(self.piece.bytes());
            self.input.resize(had + wanted, 0);
            let count = self.socket.read(&mut self.input[had..]);
            let came = *count.as_ref().unwrap_or(&0);
            self.piece.learn(wanted, came);
            self.input.truncate(had + came);
            match count {
                Ok(0) => return Err(FilesError::Lost(ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        let mut reader = Reader::new(record);
        let reply = Reply::read(&mut reader)?;
        if reply.body != ReplyBody::Accepted(Accepted::Success) {
            return Err(FilesError::Refused(reply.body));
        }
        // Status, which the last result says again; tag; number of results.
        let status = Status::read(&mut reader)?;
        Bytes::read(&mut reader)?;
        if reader.u32()? == 0 {
            return Err(FilesError::Status { operation: 0, status });
        }
        Ok((reply.xid, Results { reader }))
    }
}
