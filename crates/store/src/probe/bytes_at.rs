//! The pieces of a region that were read, looked up by offset without ever panicking.

use ::bytes::Bytes;

/// A region of the volume (all of it, or a partition) and what was read of it.
pub(super) struct Pieces {
    start: u64,
    length: u64,
    pieces: Vec<(u64, Bytes)>,
}

impl Pieces {
    /// Nothing read yet of the `length` bytes from `start` of the volume.
    pub(super) fn new(start: u64, length: u64) -> Self {
        Self { start, length, pieces: Vec::new() }
    }
    pub(super) fn add(&mut self, offset: u64, bytes: Bytes) {
        self.pieces.push((offset, bytes));
    }
    /// Where the region starts on the volume, in bytes.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
    pub(super) fn length(&self) -> u64 {
        self.length
    }
    /// `length` bytes from `offset` of the region, if they were read.
    pub(super) fn at(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(length)?)
        })
    }
    /// Do these bytes stand there?
    pub(super) fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        self.at(offset, bytes.len()) == Some(bytes)
    }
    pub(super) fn le16(&self, offset: u64) -> Option<u16> {
        self.at(offset, 2)?.try_into().ok().map(u16::from_le_bytes)
    }
    pub(super) fn le32(&self, offset: u64) -> Option<u32> {
        self.at(offset, 4)?.try_into().ok().map(u32::from_le_bytes)
    }
    pub(super) fn be32(&self, offset: u64) -> Option<u32> {
        self.at(offset, 4)?.try_into().ok().map(u32::from_be_bytes)
    }
    pub(super) fn le64(&self, offset: u64) -> Option<u64> {
        self.at(offset, 8)?.try_into().ok().map(u64::from_le_bytes)
    }
}
