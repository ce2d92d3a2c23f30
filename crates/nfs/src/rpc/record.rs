//! Record marking over a stream (RFC 5531 11): each fragment begins with 31 bits of length and one
//! bit that says whether it is the record's last.

use bytes::{Buf, Bytes, BytesMut};

const LAST: u32 = 1 << 31;
const MARK_BYTES: usize = 4;

/// Why a stream cannot be followed any further: the connection is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record is longer than the limit")]
pub struct TooLong;

/// Cuts records out of a stream.
#[derive(Debug)]
pub struct Records {
    bytes_max: usize,
    /// The fragments of a record whose last is not here yet.
    gathered: BytesMut,
}

impl Records {
    /// Of records that are at most so long.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, gathered: BytesMut::new() }
    }

    /// Bytes of fragments that wait for the record's last.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// How many bytes the fragment at the front lacks; 0 when that is not known, or it is over
    /// the limit.
    #[must_use]
    pub fn missing(&self, input: &BytesMut) -> usize {
        let Some(mark) = input.first_chunk::<MARK_BYTES>() else { return 0 };
        let length = usize::try_from(u32::from_be_bytes(*mark) & !LAST).unwrap_or(usize::MAX);
        if length > self.bytes_max - self.gathered.len() {
            return 0;
        }
        (MARK_BYTES + length).saturating_sub(input.len())
    }

    /// Takes one whole record from the front of what was received; `None` when it is not all
    /// there. A record of one fragment is not copied.
    ///
    /// # Errors
    /// The record is over the limit, which is found before its bytes are waited for.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
        while let Some(mark) = input.first_chunk::<MARK_BYTES>() {
            let mark = u32::from_be_bytes(*mark);
            let length = usize::try_from(mark & !LAST).map_err(|_| TooLong)?;
            if length > self.bytes_max - self.gathered.len() {
                return Err(TooLong);
            }
            if input.len() - MARK_BYTES < length {
                return Ok(None);
            }
            input.advance(MARK_BYTES);
            let fragment = input.split_to(length);
            match (mark & LAST != 0, self.gathered.is_empty()) {
                (true, true) => return Ok(Some(fragment.freeze())),
                (true, false) => {
                    self.gathered.extend_from_slice(&fragment);
                    return Ok(Some(std::mem::take(&mut self.gathered).freeze()));
                }
                (false, _) => self.gathered.extend_from_slice(&fragment),
            }
        }
        Ok(None)
    }
}

/// How much to ask a socket for at once, when no more is known to come: about as much as it had of
/// late. What is received into is filled with zeros before, which for a small record would cost as
/// much as all the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece(usize);

impl Default for Piece {
    fn default() -> Self {
        Self(Self::BYTES_MIN)
    }
}

impl Piece {
    const BYTES_MIN: usize = 4 << 10;
    const BYTES_MAX: usize = 64 << 10;

    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }
    /// So many bytes were asked for, and so many came.
    pub fn learn(&mut self, asked: usize, came: usize) {
        if came == asked {
            self.0 = (2 * self.0).min(Self::BYTES_MAX);
        } else if came < self.0 / 4 {
            self.0 = (self.0 / 2).max(Self::BYTES_MIN);
        }
    }
}

/// The mark of a record that is sent as one fragment of these pieces.
///
/// # Errors
/// The pieces are 2 GiB or more.
pub fn mark(pieces: &[Bytes]) -> Result<[u8; MARK_BYTES], TooLong> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let length = u32::try_from(length).ok().filter(|length| length & LAST == 0);
    length.map(|length| (length | LAST).to_be_bytes()).ok_or(TooLong)
}
