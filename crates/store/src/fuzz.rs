//! Doors for the fuzz targets, which alone build with `cfg(fuzzing)`: the codecs of the store's
//! files as plain bytes and numbers. No door does anything that the store does not do itself.

use std::sync::Arc;

use crate::files::carried::page;
use crate::files::carry;
use crate::map::{self, Map};
use crate::record::{self, Kind};
use crate::tree::{LayerRecord, VolumeRecord, decode_pool, encode_pool};

/// Chunks that one page describes.
pub const CHUNKS_PER_PAGE: u64 = map::CHUNKS_PER_PAGE;

/// What a slot of a record holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Slot {
    Empty,
    Bad,
    Newer(u16),
    Valid { sequence: u64, payload: Vec<u8> },
}

fn kind(number: u8) -> Kind {
    [Kind::Pool, Kind::Layer, Kind::Volume, Kind::Reservations][usize::from(number % 4)]
}

/// A record's slot as it is read from disk.
#[must_use]
pub fn decode_slot(number: u8, bytes: &[u8]) -> Slot {
    match record::decode(kind(number), bytes) {
        record::Slot::Empty => Slot::Empty,
        record::Slot::Bad => Slot::Bad,
        record::Slot::Newer(version) => Slot::Newer(version),
        record::Slot::Valid { sequence, payload } => Slot::Valid { sequence, payload },
    }
}

/// A record's slot as it is written.
#[must_use]
pub fn encode_slot(number: u8, sequence: u64, payload: &[u8]) -> Vec<u8> {
    record::encode(kind(number), sequence, payload).to_vec()
}

/// A record's payload read as each kind of table, and written again.
pub struct Tables {
    pub layer: Option<Vec<u8>>,
    pub volume: Option<Vec<u8>>,
    pub pool: Option<Vec<u8>>,
}

impl Tables {
    #[must_use]
    pub fn decode(payload: &[u8]) -> Self {
        Self {
            layer: LayerRecord::decode(payload).map(|it| it.encode()),
            volume: VolumeRecord::decode(payload).map(|it| it.encode()),
            pool: decode_pool(payload).map(encode_pool),
        }
    }
}

/// A page of a map, with the slots that it was read from.
pub struct Page {
    map: Arc<Map>,
    slots: [Vec<u8>; 2],
}

impl Page {
    /// 0 absent, 1 data, 2 zero.
    #[must_use]
    pub fn get(&self, chunk: u64) -> u8 {
        self.map.get(chunk) as u8
    }
    #[must_use]
    pub fn count(&self) -> (u64, u64) {
        self.map.count()
    }
    #[must_use]
    pub fn next_present(&self, from: u64) -> Option<u64> {
        self.map.next_present(from)
    }
}

/// Page `index` of the map of the layer with these files; `None` where it is damaged.
#[must_use]
pub fn decode_page(files: u64, index: u64, even: &[u8], odd: &[u8]) -> Option<Page> {
    let loaded = map::decode_pair(files, index, even, odd).ok()?;
    let map = Arc::new(Map::new());
    map.push(&loaded);
    Some(Page { map, slots: [even.to_vec(), odd.to_vec()] })
}

/// The slots after some chunks of page 0 were set and the page was written.
#[must_use]
pub fn page_after(page: &Page, files: u64, set: &[(u64, u8)]) -> [Vec<u8>; 2] {
    const CHUNKS: [map::Chunk; 3] = [map::Chunk::Absent, map::Chunk::Data, map::Chunk::Zero];
    for (chunk, to) in set {
        page.map.set(*chunk, CHUNKS[usize::from(to % 3)]);
    }
    let mut slots = page.slots.clone();
    for taken in page.map.take_dirty() {
        let (offset, bytes) = taken.encode(files);
        slots[usize::from(offset != 0)] = bytes.to_vec();
        taken.finish();
    }
    slots
}

/// A slot's bytes with everything right that random bytes never have: magic, version, checksum,
/// place, and a sequence that writing it two times a nanosecond since the epoch has not reached.
#[must_use]
pub fn seal_page(mut bytes: Vec<u8>, files: u64) -> Vec<u8> {
    bytes.resize(map::PAGE_BYTES, 0);
    bytes[0..8].copy_from_slice(b"CMHDMAP\n");
    bytes[8..10].copy_from_slice(&1_u16.to_be_bytes());
    bytes[16] &= 0x7F;
    bytes[24..32].fill(0);
    bytes[32..40].copy_from_slice(&files.to_be_bytes());
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The entries of a page of a table of ids, which begins with this number, and the page written again.
#[must_use]
pub fn decode_ids(number: u64, bytes: &[u8]) -> Option<(Vec<[u8; 32]>, Vec<u8>)> {
    let entries = page::decode(number, bytes)?;
    let again = page::encode(number, &entries);
    Some((entries, again))
}

/// A page of a table of ids with these entries.
#[must_use]
pub fn encode_ids(number: u64, entries: &[[u8; 32]]) -> Vec<u8> {
    page::encode(number, entries)
}

/// What a carried stream begins with, what it ends with, or what goes with one of its files, read
/// from its payload and written again.
#[must_use]
pub fn carried(part: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    carry::again(part, bytes)
}

/// A whole carried stream: of which nothing may be taken that is not framed and counted.
#[must_use]
pub fn frames(tree: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    carry::unframed(tree, bytes)
}
