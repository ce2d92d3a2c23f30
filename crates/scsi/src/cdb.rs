//! A command descriptor block, up to sixteen bytes long (SPC-5 4.2): the fields of fixed place.
//!
//! Invariant: reading never fails. A CDB shorter than sixteen bytes is padded with zeros; whether
//! it is long enough for its command is judged once, against the command's row.

/// The most bytes of a CDB that any command of ours has.
pub const CDB_BYTES_MAX: usize = 16;

/// The bytes of a CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    bytes: [u8; CDB_BYTES_MAX],
    given_bytes: usize,
}

impl Cdb {
    /// Takes the first sixteen bytes of `cdb`.
    #[must_use]
    pub fn new(cdb: &[u8]) -> Self {
        let given_bytes = cdb.len().min(CDB_BYTES_MAX);
        let mut bytes = [0; CDB_BYTES_MAX];
        bytes[..given_bytes].copy_from_slice(&cdb[..given_bytes]);
        Self { bytes, given_bytes }
    }
    /// How many bytes there were, at most sixteen.
    #[must_use]
    pub fn given_bytes(&self) -> usize {
        self.given_bytes
    }
    /// All of it as one number, the operation code topmost: bits compare in one step.
    #[must_use]
    pub fn bits(&self) -> u128 {
        u128::from_be_bytes(self.bytes)
    }
    /// The bytes from the start, padded with zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8; CDB_BYTES_MAX] {
        &self.bytes
    }
    #[must_use]
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.bytes[at]
    }
    /// Whether any of the bits in `mask` is set in the byte.
    #[must_use]
    pub(crate) fn has(&self, at: usize, mask: u8) -> bool {
        self.bytes[at] & mask != 0
    }
    #[must_use]
    pub(crate) fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }
    #[must_use]
    pub(crate) fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }
    #[must_use]
    pub(crate) fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[at..at + N]);
        field
    }
}
