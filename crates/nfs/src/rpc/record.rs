//! Record marking over a stream (RFC 5531 11): each fragment begins with 31 bits of length and one
//! bit that says whether it is the record's last.

use bytes::{Buf, Bytes, BytesMut};

const LAST: u32 = 1 << 31;
const MARK_BYTES: usize = 4;
/// Most fragments of one record. Real peers send one; a peer of one-byte fragments would make
/// each look at the buffer longer than the last.
pub const FRAGMENTS_MAX: usize = 64;

/// Why a stream cannot be followed any further: the connection is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a record is longer than the limit")]
    TooLong,
    #[error("a record comes in too many fragments")]
    TooManyFragments,
}

/// Takes one whole record from the front of what was received; `None` when it is not all there.
/// A record of one fragment is not copied.
///
/// # Errors
/// The record is over `bytes_max`, which is found before its bytes are waited for.
pub fn take(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, RecordError> {
    let (mut at, mut total, mut fragments) = (0, 0, 0);
    loop {
        let Some(mark) = input.get(at..).and_then(|rest| rest.first_chunk::<MARK_BYTES>()) else {
            return Ok(None);
        };
        let mark = u32::from_be_bytes(*mark);
        let length = usize::try_from(mark & !LAST).map_err(|_| RecordError::TooLong)?;
        total += length;
        fragments += 1;
        if total > bytes_max {
            return Err(RecordError::TooLong);
        }
        if fragments > FRAGMENTS_MAX {
            return Err(RecordError::TooManyFragments);
        }
        at += MARK_BYTES + length;
        if mark & LAST != 0 {
            break;
        }
    }
    if input.len() < at {
        return Ok(None);
    }
    let mut whole = input.split_to(at).freeze();
    if fragments == 1 {
        return Ok(Some(whole.split_off(MARK_BYTES)));
    }
    let mut record = BytesMut::with_capacity(total);
    while whole.len() >= MARK_BYTES {
        let length = usize::try_from(whole.get_u32() & !LAST).map_err(|_| RecordError::TooLong)?;
        record.extend_from_slice(&whole.split_to(length));
    }
    Ok(Some(record.freeze()))
}

/// The mark of a record that is sent as one fragment of these pieces.
///
/// # Errors
/// The pieces are 2 GiB or more.
pub fn mark(pieces: &[Bytes]) -> Result<[u8; MARK_BYTES], RecordError> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let length = u32::try_from(length).ok().filter(|length| length & LAST == 0);
    length.map(|length| (length | LAST).to_be_bytes()).ok_or(RecordError::TooLong)
}
