//! RPC over one TCP connection (RFC 5531), which is made when something is to be sent, and again
//! after it was lost.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nfs::rpc::record::{Piece, Records, mark};
use nfs::rpc::{Accepted, AuthSys, Call, Credential, Opaque, Reply, ReplyBody};
use nfs::xdr::{Reader, Writer, Xdr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{FilesError, MESSAGE_BYTES_MAX};

/// Requests that are gathered before they are sent.
const BATCH_BYTES: usize = 256 << 10;
/// Pieces that the kernel takes at once.
const SLICES_MAX: usize = 512;
/// A server that does not answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program, its version and a procedure.
pub type Procedure = (u32, u32, u32);

/// Who asks, as AUTH_SYS says it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub gids: Vec<u32>,
}

/// Bytes that went over a connection, with what marks and heads the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    pub sent: u64,
    pub received: u64,
}

/// The way to a server, for one who asks.
#[derive(Debug)]
pub struct Wire {
    portal: SocketAddr,
    /// Where it connects from; the kernel's choice when there is none.
    from: Option<IpAddr>,
    credential: Opaque,
    xid: u32,
    open: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    input: BytesMut,
    records: Records,
    piece: Piece,
    /// Requests that are not sent yet, and their bytes.
    output: Vec<Bytes>,
    output_bytes: usize,
    traffic: Traffic,
}

impl Wire {
    #[must_use]
    pub fn new(portal: SocketAddr, who: &Who) -> Self {
        let Who { uid, gid, gids } = who.clone();
        let sys = AuthSys { stamp: 0, machine: Bytes::new(), uid, gid, gids };
        let credential = Credential::Sys(sys).to_opaque();
        Self { portal, from: None, credential, xid: 0, open: None }
    }
    /// The same, from another address of this machine.
    #[must_use]
    pub fn from(self, address: IpAddr) -> Self {
        Self { from: Some(address), ..self }
    }

    /// What went over the connection that is open; nothing when none is.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.open.as_ref().map_or_else(Traffic::default, |connection| connection.traffic)
    }

    /// Ends the connection: what was not sent or not answered on it is lost.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    /// Sends a call: its xid. It goes out together with those that are sent next, when an answer is
    /// waited for: as the kernel's client does, which keeps its connection corked while more
    /// requests are ready.
    ///
    /// # Errors
    /// The server cannot be reached, or the connection is lost.
    pub fn send(
        &mut self,
        (program, version, procedure): Procedure,
        arguments: Writer,
    ) -> Result<u32, FilesError> {
        self.xid = self.xid.wrapping_add(1);
        let (credential, verifier) = (self.credential.clone(), Opaque::none());
        let (xid, none) = (self.xid, Bytes::new());
        let call = Call { xid, program, version, procedure, credential, verifier, arguments: none };
        let mut pieces = vec![Bytes::new(), call.encode()];
        pieces.extend(arguments.finish());
        let too_long = |_| FilesError::Lost(ErrorKind::InvalidInput.into());
        pieces[0] = Bytes::copy_from_slice(&mark(&pieces).map_err(too_long)?);
        let connection = self.connection()?;
        connection.output_bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        connection.output.extend(pieces);
        if connection.output_bytes >= BATCH_BYTES {
            connection.flush()?;
        }
        Ok(xid)
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn flush(&mut self) -> Result<(), FilesError> {
        self.open.as_mut().map_or(Ok(()), Connection::flush)
    }

    /// The next reply, whichever it is: its xid and results.
    ///
    /// # Errors
    /// The connection is lost, or a call was not let in.
    pub fn receive(&mut self) -> Result<(u32, Reader), FilesError> {
        let mut reader = Reader::new(self.connection()?.receive()?);
        let reply = Reply::read(&mut reader)?;
        let is_success = reply.body == ReplyBody::Accepted(Accepted::Success);
        if is_success { Ok((reply.xid, reader)) } else { Err(FilesError::Refused(reply.body)) }
    }

    /// A call and its results.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::receive`]; [`FilesError::Stray`] for a reply to another call.
    pub fn call(&mut self, what: Procedure, arguments: Writer) -> Result<Reader, FilesError> {
        let sent = self.send(what, arguments)?;
        let (xid, results) = self.receive()?;
        if xid == sent { Ok(results) } else { Err(FilesError::Stray) }
    }

    fn connection(&mut self) -> Result<&mut Connection, FilesError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let portal = self.portal;
                let failed = |why| FilesError::Unreachable { portal, why };
                Connection::new(connected(portal, self.from).map_err(failed)?)?
            }
        };
        Ok(self.open.insert(open))
    }
}

fn connected(portal: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect_timeout(&portal, PATIENCE) };
    let family = if portal.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    rustix::net::connect(&socket, &portal)?;
    Ok(socket.into())
}

impl Connection {
    fn new(socket: TcpStream) -> std::io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let records = Records::new(2 * MESSAGE_BYTES_MAX as usize);
        let (input, piece, output) = (BytesMut::new(), Piece::default(), Vec::new());
        let traffic = Traffic::default();
        Ok(Self { socket, input, records, piece, output, output_bytes: 0, traffic })
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
                    Ok(sent) => {
                        self.traffic.sent += sent as u64;
                        IoSlice::advance_slices(&mut left, sent);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The next record.
    fn receive(&mut self) -> Result<Bytes, FilesError> {
        loop {
            let too_long = |_| FilesError::Lost(ErrorKind::InvalidData.into());
            if let Some(record) = self.records.take(&mut self.input).map_err(too_long)? {
                return Ok(record);
            }
            self.flush()?;
            let had = self.input.len();
            let wanted = self.records.missing(&self.input).max(self.piece.bytes());
            self.input.resize(had + wanted, 0);
            let count = self.socket.read(&mut self.input[had..]);
            let came = *count.as_ref().unwrap_or(&0);
            self.piece.learn(wanted, came);
            self.input.truncate(had + came);
            self.traffic.received += came as u64;
            match count {
                Ok(0) => return Err(FilesError::Lost(ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
