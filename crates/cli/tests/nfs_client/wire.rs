//! RPC over one TCP connection.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nfs::rpc::record::{Records, mark};
use nfs::rpc::{Accepted, AuthSys, Call, Credential, Opaque, Reply, ReplyBody};
use nfs::xdr::{Reader, Xdr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Longer than the patience of any server; a reply that takes as long never comes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A program, its version and a procedure.
pub type What = (u32, u32, u32);

pub struct Wire {
    portal: SocketAddr,
    /// Where it connects from; the kernel's choice when there is none.
    from: Option<IpAddr>,
    credential: Credential,
    open: Option<Connection>,
    xid: u32,
}

struct Connection {
    socket: TcpStream,
    input: BytesMut,
    records: Records,
}

/// AUTH_SYS without further groups.
pub fn user(uid: u32) -> Credential {
    Credential::Sys(AuthSys { stamp: 0, machine: Bytes::new(), uid, gid: uid, gids: Vec::new() })
}

impl Wire {
    pub fn new(portal: SocketAddr, uid: u32) -> Self {
        Self { portal, from: None, credential: user(uid), open: None, xid: 0 }
    }

    /// The same, from another address of this machine.
    pub fn from(self, address: IpAddr) -> Self {
        Self { from: Some(address), ..self }
    }

    /// Drops the connection; what was answered on it is lost.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        if self.open.is_none() {
            let kind = SocketType::STREAM;
            let socket =
                rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
            if let Some(from) = self.from {
                rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
            }
            rustix::net::connect(&socket, &self.portal)?;
            let socket = TcpStream::from(socket);
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            let records = Records::new(2 << 20);
            self.open = Some(Connection { socket, input: BytesMut::new(), records });
        }
        self.open.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Sends a call; the xid that its reply will have.
    ///
    /// # Errors
    /// The connection cannot be had, or has ended.
    pub fn send(&mut self, (program, version, procedure): What, arguments: Bytes) -> Result<u32> {
        self.xid += 1;
        let credential = self.credential.to_opaque();
        let (xid, verifier) = (self.xid, Opaque::none());
        let call = Call { xid, program, version, procedure, credential, verifier, arguments };
        let record = call.encode();
        let mark = mark(std::slice::from_ref(&record)).map_err(Error::other)?;
        self.connection()?.socket.write_all(&[&mark[..], &record].concat())?;
        Ok(xid)
    }

    /// The next reply, whichever it is.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn receive(&mut self) -> Result<(u32, std::result::Result<Reader, ReplyBody>)> {
        let connection = self.connection()?;
        let mut piece = vec![0; 1 << 16];
        loop {
            let record = connection.records.take(&mut connection.input).map_err(Error::other)?;
            if let Some(record) = record {
                let mut reader = Reader::new(record);
                let reply = Reply::read(&mut reader).map_err(Error::other)?;
                let is_success = reply.body == ReplyBody::Accepted(Accepted::Success);
                return Ok((reply.xid, if is_success { Ok(reader) } else { Err(reply.body) }));
            }
            match connection.socket.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => connection.input.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// A call and its reply.
    ///
    /// # Errors
    /// The connection has ended, or the call was not let in.
    pub fn call(&mut self, what: What, arguments: Bytes) -> Result<Reader> {
        let sent = self.send(what, arguments)?;
        let (xid, results) = self.receive()?;
        assert_eq!(xid, sent, "a reply to another call");
        results.map_err(|body| Error::other(format!("{body:?}")))
    }
}
