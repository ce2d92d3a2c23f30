//! What a connection has sent and is not cut into records yet.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use nfs::rpc::record::{Piece, Records, TooLong};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Most that is asked of the kernel at once of a long record: what is filled with zeros before it
/// is received.
const LARGE_BYTES: usize = 256 << 10;
/// As much is received where it need not be filled before, and copied.
const SMALL_BYTES: usize = 4 << 10;

pub(super) struct Input {
    bytes: BytesMut,
    records: Records,
    piece: Piece,
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
        let records = Records::new(record_bytes_max);
        Self { bytes: BytesMut::new(), records, piece: Piece::default() }
    }

    /// Bytes of a record that is not whole.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() + self.records.gathered()
    }

    /// Receives once, at most `room` bytes; `waits`: for as long as the socket does, if nothing is
    /// there.
    pub(super) fn receive(
        &mut self,
        socket: &TcpStream,
        room: usize,
        waits: bool,
    ) -> io::Result<Received> {
        let want = match self.records.missing(&self.bytes) {
            0 => self.piece.bytes(),
            missing => missing.clamp(self.piece.bytes(), LARGE_BYTES),
        };
        let want = want.min(room);
        let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let received = rustix::io::retry_on_intr(|| {
            if self.bytes.is_empty() && want <= SMALL_BYTES {
                self.receive_small(socket, want, flags)
            } else {
                self.receive_large(socket, want, flags)
            }
        });
        match received {
            Ok(0) => Ok(Received::End),
            Ok(bytes) => {
                self.piece.learn(want, bytes);
                Ok(Received::Some { bytes, drained: bytes < want })
            }
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(why) => Err(why.into()),
        }
    }

    fn receive_small(
        &mut self,
        socket: &TcpStream,
        want: usize,
        flags: RecvFlags,
    ) -> Result<usize, Errno> {
        let mut room = [MaybeUninit::uninit(); SMALL_BYTES];
        let ((came, _), _) = recv(socket, &mut room[..want], flags)?;
        // The old one may be held by records that still run.
        self.bytes = BytesMut::from(&*came);
        Ok(came.len())
    }

    fn receive_large(
        &mut self,
        socket: &TcpStream,
        want: usize,
        flags: RecvFlags,
    ) -> Result<usize, Errno> {
        let have = self.bytes.len();
        if have == 0 {
            self.bytes = BytesMut::with_capacity(want);
        } else {
            self.bytes.reserve(self.records.missing(&self.bytes).max(want));
        }
        self.bytes.resize(have + want, 0);
        let received = recv(socket, &mut self.bytes[have..], flags);
        let count = received.map_or(0, |(_, count)| count);
        self.bytes.truncate(have + count);
        received.map(|_| count)
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn pieces_grow_with_what_comes_and_shrink_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let mut input = Input::new(1 << 20);
        let receive = |input: &mut Input| match input.receive(&far, usize::MAX, true).unwrap() {
            Received::Some { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        };
        // One call of 300,000 bytes is all in the kernel before it is received.
        let length = 300_000u32;
        let call = [&(0x8000_0000 | length).to_be_bytes()[..], &vec![3; length as usize]].concat();
        let sender = std::thread::spawn(move || {
            near.write_all(&call).unwrap();
            near
        });
        while input.waiting() < length as usize {
            receive(&mut input);
        }
        let mut near = sender.join().unwrap();
        assert_eq!(input.next().unwrap().unwrap().len(), length as usize);
        for _ in 0..10 {
            near.write_all(&[0x80, 0, 0, 1, 9]).unwrap();
            assert_eq!(receive(&mut input), 5);
            assert_eq!(&input.next().unwrap().unwrap()[..], [9]);
        }
        assert_eq!(input.piece, Piece::default());
        assert_eq!(input.bytes.len(), 0);
    }
}
