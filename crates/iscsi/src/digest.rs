//! Header and data digests: CRC32C as RFC 7143 13.1 defines it.

/// Bytes of a digest on the wire.
pub const DIGEST_BYTES: usize = 4;

/// Which digests a connection carries in the full feature phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    pub header: bool,
    pub data: bool,
}

/// The digest of the parts, one after the other, as it stands on the wire.
///
/// The checksum's polynomial is reflected, so that its least significant byte goes first: the
/// one little-endian field of the protocol.
#[must_use]
pub fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; DIGEST_BYTES] {
    parts.into_iter().fold(0, crc32c::crc32c_append).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// RFC 7143 appendix A.4 gives the bytes in the order in which they are sent.
    #[test]
    fn the_standards_examples() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let read: [u8; 48] = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0,
            0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        let cases: [(&[u8], [u8; 4]); 5] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&up, [0x4e, 0x79, 0xdd, 0x46]),
            (&down, [0x5c, 0xdb, 0x3f, 0x11]),
            (&read, [0x56, 0x3a, 0x96, 0xd9]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(crc32c([bytes]), expected);
            let (a, b) = bytes.split_at(7);
            assert_eq!(crc32c([a, b]), expected, "in two parts");
        }
    }
}
