//! What a connection has sent and is not cut into records yet.

use std::io::{self, Read};
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use nfs::rpc::record::{Records, TooLong};

/// What is asked of the kernel at once, when no more is known to come.
const PIECE_BYTES: usize = 64 << 10;
/// The same, of a long record: what is filled with zeros before it is received.
const LARGE_BYTES: usize = 256 << 10;

pub(super) struct Input {
    bytes: BytesMut,
    records: Records,
}

/// What came of receiving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// So many bytes; nothing more is there when `drained`.
    Some { bytes: usize, drained: bool },
    /// Nothing just now.
    Nothing,
    /// The peer has closed its side.
    End,
}

impl Input {
    pub(super) fn new(record_bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), records: Records::new(record_bytes_max) }
    }

    /// Bytes of a record that is not whole.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() + self.records.gathered()
    }

    /// Receives once, at most `room` bytes.
    pub(super) fn receive(&mut self, mut socket: &TcpStream, room: usize) -> io::Result<Received> {
        let want = match self.records.missing(&self.bytes) {
            0 => PIECE_BYTES,
            missing => missing.clamp(PIECE_BYTES, LARGE_BYTES),
        };
        let (have, want) = (self.bytes.len(), want.min(room));
        if self.bytes.is_empty() {
            // The old one may be held by records that still run.
            self.bytes = BytesMut::with_capacity(want);
        } else {
            self.bytes.reserve(self.records.missing(&self.bytes).max(want));
        }
        self.bytes.resize(have + want, 0);
        let received = loop {
            match socket.read(&mut self.bytes[have..]) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(have + *received.as_ref().unwrap_or(&0));
        match received {
            Ok(0) => Ok(Received::End),
            Ok(bytes) => Ok(Received::Some { bytes, drained: bytes < want }),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(why) => Err(why),
        }
    }

    /// Cuts off the next whole record.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        self.records.take(&mut self.bytes)
    }

    /// Lets go of memory that nothing is in.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }
}
