//! Cutting whole PDUs out of the receive buffer, without copying their data.

use bytes::{Buf, Bytes, BytesMut};

use super::{HEADER_BYTES, Header, padding};
use crate::digest::{DIGEST_BYTES, Digests, crc32c};

/// One PDU as received.
#[derive(Clone, Debug)]
pub struct Frame {
    pub header: Header,
    /// Additional header segments, still in one piece.
    pub ahs: Bytes,
    /// The data segment without padding: a part of the receive buffer, not a copy.
    pub data: Bytes,
    /// False: the data digest does not match, the data must not be used.
    pub data_intact: bool,
}

/// What the connection allows at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub digests: Digests,
    /// Largest data segment in bytes.
    pub data_bytes_max: usize,
}

/// The result of looking at the buffer.
#[derive(Debug)]
pub enum Taken {
    Whole(Frame),
    /// So many bytes are missing, as far as can be seen by now.
    Missing(usize),
}

/// Why no further PDU can be found in the stream.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum FrameError {
    #[error("the header digest does not match, so the end of the PDU is not known")]
    HeaderDigest,
    #[error("a PDU announces {bytes} bytes of data where {limit} are allowed")]
    TooLong { bytes: usize, limit: usize },
}

/// Take the first PDU off the buffer when it is there as a whole.
///
/// # Errors
/// [`FrameError`]: the connection cannot be used any more.
pub fn take(input: &mut BytesMut, rules: Rules) -> Result<Taken, FrameError> {
    let Some(first) = input.first_chunk::<HEADER_BYTES>() else {
        return Ok(Taken::Missing(HEADER_BYTES - input.len()));
    };
    let header = Header(*first);
    let headers = HEADER_BYTES + header.ahs_bytes();
    let headers_end = headers + if rules.digests.header { DIGEST_BYTES } else { 0 };
    let Some(digest) = input.get(headers..headers_end) else {
        return Ok(Taken::Missing(headers_end - input.len()));
    };
    // Checked before the length is believed: a broken length would make us wait for ever.
    if rules.digests.header && digest != crc32c([&input[..headers]]) {
        return Err(FrameError::HeaderDigest);
    }
    let bytes = header.data_bytes();
    if bytes > rules.data_bytes_max {
        return Err(FrameError::TooLong { bytes, limit: rules.data_bytes_max });
    }
    let data_end = headers_end + bytes + padding(bytes);
    let digested = rules.digests.data && bytes > 0;
    let end = data_end + if digested { DIGEST_BYTES } else { 0 };
    if input.len() < end {
        return Ok(Taken::Missing(end - input.len()));
    }
    if end == HEADER_BYTES {
        // The most frequent PDUs, reads and answers to pings, share nothing with the buffer.
        input.advance(end);
        let frame = Frame { header, ahs: Bytes::new(), data: Bytes::new(), data_intact: true };
        return Ok(Taken::Whole(frame));
    }
    let whole = input.split_to(end).freeze();
    let data_intact = !digested || whole[data_end..] == crc32c([&whole[headers_end..data_end]]);
    let ahs = whole.slice(HEADER_BYTES..headers);
    let data = whole.slice(headers_end..headers_end + bytes);
    Ok(Taken::Whole(Frame { header, ahs, data, data_intact }))
}
