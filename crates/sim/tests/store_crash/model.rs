//! What a volume may hold: per 512-byte block, the values that a read and that a crash may show.

use std::collections::BTreeMap;

use model::id::{SnapshotId, VolumeId};

pub(crate) const BLOCK: u64 = 512;

/// Names what one write put into all its blocks; 0 is zeros.
pub(crate) type Tag = u32;

/// One block. Almost always each list has one entry.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// A read shows one of these.
    pub(crate) live: Vec<Tag>,
    /// After a crash a read shows one of these.
    pub(crate) durable: Vec<Tag>,
}

/// The values that each block of an image may have.
pub(crate) type Image = Vec<Vec<Tag>>;

/// Is it there after a crash?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Yes,
    Maybe,
}

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) image: Image,
    pub(crate) presence: Presence,
}

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    /// As many as the largest size that the volume may have.
    pub(crate) cells: Vec<Cell>,
    /// Sizes in blocks that it may have after a crash; the last is the one of now.
    pub(crate) sizes: Vec<u64>,
    pub(crate) snapshots: BTreeMap<SnapshotId, Snapshot>,
    /// Records that may be there after a crash.
    pub(crate) reservations: Vec<Vec<u8>>,
    pub(crate) presence: Presence,
    /// An operation on it failed: it is left alone until the next start.
    pub(crate) uncertain: bool,
}

/// The bytes of a block with this tag.
pub(crate) fn fill(tag: Tag, first_block: u64, blocks: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::try_from(blocks * BLOCK).unwrap());
    for block in first_block..first_block + blocks {
        let number = if tag == 0 { 0 } else { u32::try_from(block).unwrap() };
        bytes.extend([tag.to_be_bytes(), number.to_be_bytes()].concat().repeat(64));
    }
    bytes
}

/// The tags of consecutive blocks; panics on a block that nobody ever wrote like this.
pub(crate) fn tags(bytes: &[u8], first_block: u64) -> Vec<Tag> {
    let tag = |(index, block): (usize, &[u8])| {
        let number = first_block + index as u64;
        let tag = Tag::from_be_bytes(block[..4].try_into().unwrap());
        let place = u32::from_be_bytes(block[4..8].try_into().unwrap());
        // The pattern of 8 bytes repeats, so the block equals itself moved by them.
        let whole = block[8..] == block[..504];
        let placed = if tag == 0 { place == 0 } else { u64::from(place) == number };
        assert!(whole && placed, "block {number} is torn or misplaced: {block:02x?}");
        tag
    };
    bytes.chunks_exact(512).enumerate().map(tag).collect()
}

impl Volume {
    pub(crate) fn new(blocks: u64, image: Option<&Image>) -> Self {
        let cell = |index: usize| {
            let tags = image.and_then(|image| image.get(index).cloned()).unwrap_or(vec![0]);
            Cell { live: tags.clone(), durable: tags }
        };
        Self {
            cells: (0..usize::try_from(blocks).unwrap()).map(cell).collect(),
            sizes: vec![blocks],
            snapshots: BTreeMap::new(),
            reservations: vec![Vec::new()],
            presence: Presence::Yes,
            uncertain: false,
        }
    }
    pub(crate) fn blocks(&self) -> u64 {
        *self.sizes.last().unwrap()
    }
    fn range(&mut self, first: u64, blocks: u64) -> &mut [Cell] {
        let first = usize::try_from(first).unwrap();
        &mut self.cells[first..first + usize::try_from(blocks).unwrap()]
    }
    /// A write has begun: from now on it may be seen.
    pub(crate) fn begin(&mut self, first: u64, blocks: u64, tag: Tag) {
        for cell in self.range(first, blocks) {
            cell.live.push(tag);
            cell.durable.push(tag);
        }
    }
    /// It was answered, and no other write to these blocks ran at the same time.
    pub(crate) fn end(&mut self, first: u64, blocks: u64, tag: Tag) {
        for cell in self.range(first, blocks) {
            cell.live = vec![tag];
        }
    }
    /// A flush that began after all answered writes was answered.
    pub(crate) fn flushed(&mut self) {
        for cell in &mut self.cells {
            cell.durable = cell.live.clone();
        }
    }
    /// What a snapshot of now holds.
    pub(crate) fn image(&self) -> Image {
        let blocks = usize::try_from(self.blocks()).unwrap();
        self.cells[..blocks].iter().map(|cell| cell.live.clone()).collect()
    }
    /// The content was replaced: before a crash by all means, after one perhaps not yet.
    pub(crate) fn begin_revert(&mut self, image: &Image) {
        for (index, cell) in self.cells.iter_mut().enumerate() {
            let tags = image.get(index).cloned().unwrap_or(vec![0]);
            cell.durable.extend(&tags);
            cell.live.extend(tags);
        }
    }
    pub(crate) fn end_revert(&mut self, image: &Image) {
        for (index, cell) in self.cells.iter_mut().enumerate() {
            cell.live = image.get(index).cloned().unwrap_or(vec![0]);
            cell.durable = cell.live.clone();
        }
    }
    pub(crate) fn grow(&mut self, blocks: u64) {
        let cell = Cell { live: vec![0], durable: vec![0] };
        self.cells.resize(usize::try_from(blocks).unwrap().max(self.cells.len()), cell);
        self.sizes.push(blocks);
    }
    /// Judge what a read shows, and remember it: a block does not change back.
    pub(crate) fn saw(&mut self, what: VolumeId, first: u64, found: &[Tag]) {
        for (index, (cell, tag)) in
            self.range(first, found.len() as u64).iter_mut().zip(found).enumerate()
        {
            let block = first + index as u64;
            assert!(
                cell.live.contains(tag),
                "{what:?} block {block} reads {tag}, expected one of {:?}",
                cell.live
            );
            cell.live = vec![*tag];
        }
    }
    /// The same after a crash, for the whole volume.
    pub(crate) fn survived(&mut self, what: VolumeId, found: &[Tag]) {
        self.cells.truncate(found.len());
        for (block, (cell, tag)) in self.cells.iter_mut().zip(found).enumerate() {
            assert!(
                cell.durable.contains(tag),
                "{what:?} block {block} holds {tag} after the crash, expected one of {:?}",
                cell.durable
            );
            *cell = Cell { live: vec![*tag], durable: vec![*tag] };
        }
    }
}

/// Judge what a snapshot shows, and remember it.
pub(crate) fn saw_image(what: SnapshotId, image: &mut Image, found: &[Tag]) {
    for (block, (tags, tag)) in image.iter_mut().zip(found).enumerate() {
        assert!(tags.contains(tag), "{what:?} block {block} shows {tag}, expected one of {tags:?}");
        *tags = vec![*tag];
    }
}
