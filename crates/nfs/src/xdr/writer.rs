//! The writer: small values are gathered, large data is passed on as it is.

use bytes::{Bytes, BytesMut};

use super::{Xdr, padding};

/// Data of at least so many bytes is not copied into the message but sent from where it is.
pub const SHARED_BYTES_MIN: usize = 2048;

/// Room that a writer begins with: most results fit, and do not move while they grow.
const FIRST_BYTES: usize = 128;

/// A place in a message that is being written.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Whole pieces before it, and bytes of the next one.
    pieces: usize,
    bytes: usize,
    at: usize,
}

/// Gathers the pieces of a message, for one vectored send.
#[derive(Default, Debug)]
pub struct Writer {
    done: Vec<Bytes>,
    done_bytes: usize,
    tail: BytesMut,
}

impl Writer {
    /// With room for so many bytes, which do not move until there are more.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self { tail: BytesMut::with_capacity(bytes), ..Self::default() }
    }
    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done_bytes + self.tail.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn add(&mut self, bytes: &[u8]) {
        if self.tail.capacity() == 0 && !bytes.is_empty() {
            self.tail.reserve(bytes.len().max(FIRST_BYTES));
        }
        self.tail.extend_from_slice(bytes);
    }
    pub fn u32(&mut self, value: u32) {
        self.add(&value.to_be_bytes());
    }
    pub fn u64(&mut self, value: u64) {
        self.add(&value.to_be_bytes());
    }
    /// The number of elements or bytes that follow.
    pub(crate) fn count(&mut self, count: usize) {
        // A message is bounded far below this by the limits of record marking.
        self.u32(u32::try_from(count).expect("a message has less than 4 Gi elements"));
    }
    /// Opaque data of fixed length, padded.
    pub fn fixed(&mut self, data: &[u8]) {
        self.add(data);
        self.pad(data.len());
    }
    /// What is XDR already, so that no padding is due.
    pub fn encoded(&mut self, xdr: &[u8]) {
        self.add(xdr);
    }
    /// Opaque data of variable length, padded; copied.
    pub fn opaque(&mut self, data: &[u8]) {
        self.count(data.len());
        self.fixed(data);
    }
    /// Opaque data of variable length, padded; shared when it is large.
    pub fn payload(&mut self, data: &Bytes) {
        if data.len() < SHARED_BYTES_MIN {
            return self.opaque(data);
        }
        self.count(data.len());
        self.seal();
        self.done_bytes += data.len();
        self.done.push(data.clone());
        self.pad(data.len());
    }
    pub fn put<T: Xdr>(&mut self, value: &T) {
        value.write(self);
    }
    /// What another writer has gathered.
    pub fn append(&mut self, mut other: Self) {
        if !other.done.is_empty() {
            self.seal();
            self.done_bytes += other.done_bytes;
            self.done.append(&mut other.done);
        }
        if self.tail.capacity() == 0 {
            self.tail = other.tail;
        } else {
            self.tail.extend_from_slice(&other.tail);
        }
    }
    /// Here, to come back to.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { pieces: self.done.len(), bytes: self.tail.len(), at: self.len() }
    }
    /// Bytes written since.
    #[must_use]
    pub fn since(&self, mark: Mark) -> usize {
        self.len() - mark.at
    }
    /// Takes back what was written since.
    pub fn rewind(&mut self, mark: Mark) {
        if self.done.len() > mark.pieces {
            self.tail.clear();
            self.done.truncate(mark.pieces + 1);
            if let Some(begun) = self.done.last_mut().filter(|_| mark.bytes > 0) {
                begun.truncate(mark.bytes);
            } else {
                self.done.pop();
            }
            self.done_bytes = mark.at;
        } else {
            self.tail.truncate(mark.bytes);
        }
    }
    /// Writes a number over the one that was written there.
    pub fn set_u32(&mut self, mark: Mark, value: u32) {
        let place = mark.bytes..mark.bytes + 4;
        if self.done.len() == mark.pieces {
            self.tail[place].copy_from_slice(&value.to_be_bytes());
        } else {
            let mut piece = BytesMut::from(&self.done[mark.pieces][..]);
            piece[place].copy_from_slice(&value.to_be_bytes());
            self.done[mark.pieces] = piece.freeze();
        }
    }
    /// What was written since in one piece, which is copied when there is more than one.
    #[must_use]
    pub fn piece_since(&mut self, mark: Mark) -> Bytes {
        self.seal();
        match &self.done[mark.pieces..] {
            [] => Bytes::new(),
            [one] => one.slice(mark.bytes..),
            [first, rest @ ..] => {
                let mut all = BytesMut::from(&first[mark.bytes..]);
                rest.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }
    fn pad(&mut self, length: usize) {
        self.tail.extend_from_slice(&[0; 3][..padding(length)]);
    }
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.done_bytes += self.tail.len();
            self.done.push(self.tail.split().freeze());
        }
    }
    /// The pieces, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        self.seal();
        self.done
    }
    /// The message in one piece; copies when there is more than one.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.done.is_empty() {
            return self.tail.freeze();
        }
        self.seal();
        self.done.concat().into()
    }
}
