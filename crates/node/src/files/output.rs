//! Replies on their way to a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;

use bytes::{Buf, Bytes, BytesMut};
use nfs::rpc::record::mark;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// A piece of at least so many bytes is sent from where it is.
const SHARED_BYTES_MIN: usize = 2048;
/// Pieces that are given to the kernel at once.
const SLICES_MAX: usize = 64;

/// Replies that are gathered, the small ones copied together.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Batch {
    /// Adds one reply.
    fn push(&mut self, reply: Vec<Bytes>) {
        // The limit of replies is far below that of marks.
        let Ok(mark) = mark(&reply) else { return };
        self.tail.extend_from_slice(&mark);
        self.bytes += mark.len();
        for piece in reply {
            self.bytes += piece.len();
            if piece.len() < SHARED_BYTES_MIN {
                self.tail.extend_from_slice(&piece);
            } else {
                self.seal();
                self.pieces.push(piece);
            }
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).freeze());
        }
    }
}

/// Replies that the kernel has not taken yet.
///
/// Those of calls that one thread runs after another are gathered and sent together. Anybody may
/// send them before, when one of these calls takes long.
#[derive(Default)]
pub(super) struct Output {
    gathered: Batch,
    /// What the kernel has not taken.
    queue: VecDeque<Bytes>,
    queued_bytes: u64,
    /// When the kernel last took something, or the queue began.
    pub progress_ms: u64,
}

impl Output {
    /// Bytes that the kernel has not taken.
    pub(super) fn unsent(&self) -> u64 {
        self.queued_bytes
    }
    /// There is no reply, neither gathered nor on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.queued_bytes == 0 && !self.has_gathered()
    }
    pub(super) fn has_gathered(&self) -> bool {
        self.gathered.bytes > 0
    }

    /// Adds a reply to those that are sent together; says how many bytes these are.
    pub(super) fn gather(&mut self, reply: Vec<Bytes>) -> usize {
        self.gathered.push(reply);
        self.gathered.bytes
    }

    /// Sends what is gathered, or what of it can be sent behind what waits already.
    pub(super) fn send(&mut self, socket: &TcpStream, now_ms: u64) -> io::Result<()> {
        let was_empty = self.queue.is_empty();
        self.gathered.seal();
        self.queue.extend(self.gathered.pieces.drain(..));
        self.queued_bytes += as_u64(std::mem::take(&mut self.gathered.bytes));
        if was_empty {
            self.progress_ms = now_ms;
            self.flush(socket, now_ms)?;
        }
        Ok(())
    }

    /// Gives the kernel what it takes of what was sent, and never waits for it.
    pub(super) fn flush(&mut self, socket: &TcpStream, now_ms: u64) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.queue.len().min(SLICES_MAX);
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(piece);
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let none = &mut SendAncillaryBuffer::default();
            match sendmsg(socket, &slices[..count], none, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.take_off(sent);
                    self.progress_ms = now_ms;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    fn take_off(&mut self, mut sent: usize) {
        self.queued_bytes -= as_u64(sent);
        while let Some(piece) = self.queue.front_mut() {
            if piece.len() > sent {
                piece.advance(sent);
                return;
            }
            sent -= piece.len();
            self.queue.pop_front();
        }
    }
}

pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_the_kernel_does_not_take_goes_out_later_in_order_and_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let (mut output, mut expected) = (Output::default(), Vec::new());
        for turn in 0..40u8 {
            for length in [1, 4000, 300_000] {
                let piece = Bytes::from(vec![turn; length]);
                expected.extend_from_slice(&mark(std::slice::from_ref(&piece)).unwrap());
                expected.extend_from_slice(&piece);
                output.gather(vec![piece]);
            }
            output.send(&near, 1).unwrap();
        }
        assert!(output.unsent() > 0, "the kernel holds all of 12 MB");
        let mut got = vec![0; expected.len()];
        let reader = std::thread::spawn(move || {
            far.read_exact(&mut got).unwrap();
            got
        });
        while output.unsent() > 0 {
            output.flush(&near, 2).unwrap();
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap() == expected);
    }
}
