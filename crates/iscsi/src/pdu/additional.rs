//! Additional header segments (RFC 7143 11.2.2): extended CDB and bidirectional read length.

use bytes::{Bytes, BytesMut};

use super::padding;

const EXTENDED_CDB: u8 = 1;
const BIDIRECTIONAL_READ: u8 = 2;

/// What the additional header segments of a SCSI Command say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additional {
    /// The bytes of the CDB after the sixteenth; padding included where the sender padded the CDB.
    pub cdb_rest: Bytes,
    /// Expected bidirectional read data length in bytes.
    pub read_bytes: Option<u32>,
}

impl Additional {
    /// None: the segments do not add up.
    #[must_use]
    pub fn decode(mut ahs: Bytes) -> Option<Self> {
        let mut found = Self::default();
        while !ahs.is_empty() {
            let length = usize::from(u16::from_be_bytes(*ahs.first_chunk::<2>()?));
            let kind = *ahs.get(2)?;
            // AHSLength counts what follows the type byte (RFC 7143 11.2.2.2).
            let end = 3 + length;
            let specific = ahs.get(3..end)?;
            match kind & 0x3f {
                // The first of these bytes is reserved.
                EXTENDED_CDB if length >= 2 && found.cdb_rest.is_empty() => {
                    found.cdb_rest = ahs.slice(4..end);
                }
                BIDIRECTIONAL_READ if length == 5 && found.read_bytes.is_none() => {
                    found.read_bytes = Some(u32::from_be_bytes(*specific.last_chunk::<4>()?));
                }
                _ => return None,
            }
            let next = end + padding(end);
            ahs = if next < ahs.len() { ahs.slice(next..) } else { Bytes::new() };
        }
        Some(found)
    }

    /// The segments' bytes, padded; none when the rest is longer than a segment can say.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        let rest = u16::try_from(self.cdb_rest.len() + 1).unwrap_or(0);
        if rest > 1 {
            bytes.extend_from_slice(&rest.to_be_bytes());
            bytes.extend_from_slice(&[EXTENDED_CDB, 0]);
            bytes.extend_from_slice(&self.cdb_rest);
            bytes.resize(bytes.len() + padding(bytes.len()), 0);
        }
        if let Some(read) = self.read_bytes {
            bytes.extend_from_slice(&[0, 5, BIDIRECTIONAL_READ, 0]);
            bytes.extend_from_slice(&read.to_be_bytes());
        }
        bytes.freeze()
    }
}
