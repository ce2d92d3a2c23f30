//! What waits to be sent: whole PDUs back to back, as pieces for one vectored write.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::digest::{Digests, crc32c};
use crate::pdu::{HEADER_BYTES, Header, padding};

/// Data up to this size is copied behind its header: one piece fewer costs more than the copy.
const COPIED_BYTES_MAX: usize = 512;
/// Headers are written into blocks of this size, which their pieces then share.
const BLOCK_BYTES: usize = 4096;

/// The queue of outgoing bytes of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// Headers and small data that are not in the queue yet.
    tail: BytesMut,
    digests: Digests,
    /// Bytes pushed since the shell last looked.
    fresh: usize,
}

impl Outbox {
    /// From now on PDUs carry these digests.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Append one PDU. Its data and header lengths are set here; `ahs` is a multiple of four.
    /// `data` is passed on as it is, without a copy unless it is small.
    pub fn push(&mut self, mut header: Header, ahs: &[u8], data: &[Bytes]) {
        let length: usize = data.iter().map(Bytes::len).sum();
        let stated = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        debug_assert!(length < 1 << 24 && ahs.len().is_multiple_of(4), "the lengths fit a header");
        header.0[4] = u8::try_from(ahs.len() / 4).unwrap_or(u8::MAX);
        header.0[5..8].copy_from_slice(&stated[1..]);
        if self.tail.capacity() - self.tail.len() < 128 + ahs.len() {
            self.seal();
            self.tail.reserve(BLOCK_BYTES);
        }
        self.fresh += HEADER_BYTES + ahs.len() + length;
        self.tail.extend_from_slice(&header.0);
        self.tail.extend_from_slice(ahs);
        if self.digests.header {
            self.tail.extend_from_slice(&crc32c([&header.0[..], ahs]));
        }
        if length == 0 {
            return;
        }
        for part in data {
            self.put(part);
        }
        let zeros = &[0; 3][..padding(length)];
        self.tail.extend_from_slice(zeros);
        if self.digests.data {
            let parts = data.iter().map(|part| &part[..]).chain([zeros]);
            self.tail.extend_from_slice(&crc32c(parts));
        }
    }

    /// The pieces to send, oldest first. The shell takes from the front what it has written.
    pub fn pieces(&mut self) -> &mut VecDeque<Bytes> {
        self.seal();
        self.fresh = 0;
        &mut self.queue
    }

    /// How many bytes were pushed since [`Self::pieces`] was last called, roughly.
    #[must_use]
    pub fn fresh_bytes(&self) -> usize {
        self.fresh
    }

    /// How many bytes wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    fn put(&mut self, part: &Bytes) {
        if part.len() <= COPIED_BYTES_MAX {
            self.tail.extend_from_slice(part);
        } else {
            self.seal();
            self.queue.push_back(part.clone());
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }
}

/// Takes runs of bytes off the front of a list of parts, without copying.
#[derive(Debug)]
pub struct Cursor {
    parts: VecDeque<Bytes>,
}

impl Cursor {
    /// Start at the first byte of the first part.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self { parts: parts.into_iter().collect() }
    }

    /// The next `bytes` bytes, or what is left, put into `run` after clearing it.
    pub fn take(&mut self, mut bytes: usize, run: &mut Vec<Bytes>) {
        run.clear();
        while bytes > 0 {
            let Some(front) = self.parts.front_mut() else { return };
            if front.len() > bytes {
                run.push(front.split_to(bytes));
                return;
            }
            bytes -= front.len();
            run.extend(self.parts.pop_front().filter(|part| !part.is_empty()));
        }
    }
}
