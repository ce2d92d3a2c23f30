//! Which chunks a layer holds: two bits per chunk, in memory as atomics, on disk as pages.
//!
//! ```text
//! file:  | page 0 even | page 0 odd | page 1 even | page 1 odd | ...        4096 bytes each
//! page:  | magic 8 | version 2 | zero 2 | crc32c 4 | sequence 8 | page 8 | files 8 | zero 24 |
//!        | 504 words of 32 chunks, the first chunk in the lowest bits |
//! ```
//!
//! Invariant: like a record, a page is written to the slot that does not hold its newest durable
//! state (sequence n lives in slot n mod 2). A slot pair of zeros is a page of absent chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use env::Buffer;

use crate::fields::Fields;

/// Bytes of a chunk: the unit of copying up.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;
/// Bytes of one slot of a page.
pub(crate) const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 64;
const CRC_AT: std::ops::Range<usize> = 12..16;
const WORDS: usize = (PAGE_BYTES - HEADER_BYTES) / 8;
const CHUNKS_PER_WORD: u64 = 32;
/// Chunks that one page describes (1008 MiB).
pub(crate) const CHUNKS_PER_PAGE: u64 = WORDS as u64 * CHUNKS_PER_WORD;
const MAGIC: &[u8; 8] = b"CMHDMAP\n";
pub(crate) const VERSION: u16 = 1;
/// The low bit of every chunk in a word.
const LOW_BITS: u64 = 0x5555_5555_5555_5555;

const _: () = assert!(WORDS == 504 && HEADER_BYTES + WORDS * 8 == PAGE_BYTES);

/// What a layer knows of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chunk {
    /// Nothing: the layer below has it.
    Absent = 0,
    /// The data file holds all of it.
    Data = 1,
    /// Zeros, whatever the data file or the layers below say.
    Zero = 2,
}

struct Page {
    words: Vec<AtomicU64>,
    /// Changed since it was last taken for writing.
    dirty: AtomicBool,
    /// Of the newest durable state; 0 when there is none.
    sequence: AtomicU64,
}

/// The map of one layer. Grows, never shrinks; read without locks.
pub(crate) struct Map {
    pages: ArcSwap<Vec<Arc<Page>>>,
}

/// A page as it was when it was taken for writing.
pub(crate) struct TakenPage {
    pub(crate) index: usize,
    sequence: u64,
    words: Vec<u64>,
    page: Arc<Page>,
    written: bool,
}

impl Page {
    fn new(words: &[u64], sequence: u64) -> Self {
        let words = words.iter().map(|word| AtomicU64::new(*word)).collect();
        Self { words, dirty: AtomicBool::new(false), sequence: AtomicU64::new(sequence) }
    }
}

fn locate(chunk: u64) -> (usize, usize, u64) {
    let page = usize::try_from(chunk / CHUNKS_PER_PAGE).unwrap_or(usize::MAX);
    let inside = chunk % CHUNKS_PER_PAGE;
    let word = usize::try_from(inside / CHUNKS_PER_WORD).expect("less than WORDS");
    (page, word, inside % CHUNKS_PER_WORD * 2)
}

impl Map {
    pub(crate) fn new() -> Self {
        Self { pages: ArcSwap::from_pointee(Vec::new()) }
    }
    /// Room for `chunks` chunks; new ones are absent. Not to be called twice at the same time.
    pub(crate) fn grow(&self, chunks: u64) {
        let wanted = usize::try_from(chunks.div_ceil(CHUNKS_PER_PAGE)).unwrap_or(usize::MAX);
        let mut pages = Vec::clone(&self.pages.load());
        if pages.len() < wanted {
            pages.resize_with(wanted, || Arc::new(Page::new(&[0; WORDS], 0)));
            self.pages.store(Arc::new(pages));
        }
    }
    /// How many chunks it has room for.
    pub(crate) fn chunks(&self) -> u64 {
        self.pages.load().len() as u64 * CHUNKS_PER_PAGE
    }
    /// Append a page that was read from disk.
    pub(crate) fn push(&self, loaded: &LoadedPage) {
        let mut pages = Vec::clone(&self.pages.load());
        pages.push(Arc::new(Page::new(&loaded.words, loaded.sequence)));
        self.pages.store(Arc::new(pages));
    }
    pub(crate) fn get(&self, chunk: u64) -> Chunk {
        let (page, word, shift) = locate(chunk);
        let pages = self.pages.load();
        // Chunks beyond the map belong to a volume that grew after this layer was frozen.
        let Some(page) = pages.get(page) else { return Chunk::Absent };
        chunk_of(page.words[word].load(Ordering::Acquire) >> shift)
    }
    /// Set one chunk, and say what it was.
    pub(crate) fn set(&self, chunk: u64, to: Chunk) -> Chunk {
        let (page, word, shift) = locate(chunk);
        let pages = self.pages.load();
        let page = pages.get(page).expect("a layer's map covers its volume before it is written");
        let replace = |word: u64| Some(word & !(3 << shift) | (to as u64) << shift);
        let before = page.words[word].fetch_update(Ordering::AcqRel, Ordering::Acquire, replace);
        page.dirty.store(true, Ordering::Release);
        chunk_of(before.unwrap_or_else(|word| word) >> shift)
    }
    /// The first chunk at or after `from` that is not absent.
    pub(crate) fn next_present(&self, from: u64) -> Option<u64> {
        let pages = self.pages.load();
        let (first_page, first_word, shift) = locate(from);
        let mut skip = (first_word, u64::MAX << shift);
        for (index, page) in pages.iter().enumerate().skip(first_page) {
            let (start, mut mask) = std::mem::replace(&mut skip, (0, u64::MAX));
            for (at, word) in page.words.iter().enumerate().skip(start) {
                let word = word.load(Ordering::Acquire) & std::mem::replace(&mut mask, u64::MAX);
                if word != 0 {
                    let chunk = u64::from(word.trailing_zeros()) / 2;
                    let before = index as u64 * CHUNKS_PER_PAGE + at as u64 * CHUNKS_PER_WORD;
                    return Some(before + chunk);
                }
            }
        }
        None
    }
    /// How many chunks are present, and how many of them are data.
    pub(crate) fn count(&self) -> (u64, u64) {
        let (mut present, mut data) = (0, 0);
        for page in self.pages.load().iter() {
            for word in &page.words {
                let word = word.load(Ordering::Acquire);
                data += u64::from((word & LOW_BITS).count_ones());
                present += u64::from(((word | word >> 1) & LOW_BITS).count_ones());
            }
        }
        (present, data)
    }
    /// The changed pages, as they are now. Dropped unwritten, they count as changed again.
    pub(crate) fn take_dirty(&self) -> Vec<TakenPage> {
        let mut taken = Vec::new();
        for (index, page) in self.pages.load().iter().enumerate() {
            // First the flag, then the words: a change in between is taken now and once more.
            if page.dirty.swap(false, Ordering::AcqRel) {
                let words = page.words.iter().map(|word| word.load(Ordering::Acquire)).collect();
                let sequence = page.sequence.load(Ordering::Acquire) + 1;
                taken.push(TakenPage {
                    index,
                    sequence,
                    words,
                    page: page.clone(),
                    written: false,
                });
            }
        }
        taken
    }
}

/// The changed pages of these maps, top to bottom (`None`: a layer without a map).
///
/// Another thread may be moving chunks down meanwhile, each first set below and then cleared
/// above. In this order, whoever takes the clear also takes the set.
pub(crate) fn take_top_down<'a>(
    maps: impl Iterator<Item = Option<&'a Map>>,
) -> Vec<Vec<TakenPage>> {
    maps.map(|map| map.map_or_else(Vec::new, Map::take_dirty)).collect()
}

fn chunk_of(bits: u64) -> Chunk {
    match bits & 3 {
        0 => Chunk::Absent,
        1 => Chunk::Data,
        _ => Chunk::Zero,
    }
}

impl TakenPage {
    /// Where in the map file, and what.
    pub(crate) fn encode(&self, files: u64) -> (u64, Buffer) {
        let slot = self.index as u64 * 2 + self.sequence % 2;
        let bytes = encode(files, self.index as u64, self.sequence, &self.words);
        (slot * PAGE_BYTES as u64, bytes)
    }
    /// It is durable.
    pub(crate) fn finish(mut self) {
        self.page.sequence.store(self.sequence, Ordering::Release);
        self.written = true;
    }
}

impl Drop for TakenPage {
    fn drop(&mut self) {
        if !self.written {
            self.page.dirty.store(true, Ordering::Release);
        }
    }
}

/// A page as the disk has it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct LoadedPage {
    sequence: u64,
    words: Vec<u64>,
}

/// Why a page cannot be used.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum PageError {
    /// Neither slot is what was written there.
    Bad,
    /// A newer program wrote it.
    Newer(u16),
}

fn encode(files: u64, index: u64, sequence: u64, words: &[u64]) -> Buffer {
    let mut bytes = Buffer::zeroed(PAGE_BYTES);
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_be_bytes());
    bytes[24..32].copy_from_slice(&index.to_be_bytes());
    bytes[32..40].copy_from_slice(&files.to_be_bytes());
    for (word, place) in words.iter().zip(bytes[HEADER_BYTES..].chunks_exact_mut(8)) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes[CRC_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// One slot: `Ok(None)` when it holds nothing usable.
fn decode(files: u64, index: u64, bytes: &[u8]) -> Result<Option<LoadedPage>, PageError> {
    let Some((version, page)) = decode_fields(files, index, bytes) else { return Ok(None) };
    if version == VERSION { Ok(page) } else { Err(PageError::Newer(version)) }
}

fn decode_fields(files: u64, index: u64, bytes: &[u8]) -> Option<(u16, Option<LoadedPage>)> {
    let mut fields = Fields(bytes);
    let magic = fields.bytes(8)?;
    let version = fields.u16()?;
    fields.u16()?;
    let crc = fields.u32()?;
    let (sequence, found_index, found_files) = (fields.u64()?, fields.u64()?, fields.u64()?);
    fields.bytes(HEADER_BYTES - 40)?;
    let rest = bytes.get(CRC_AT.end..PAGE_BYTES)?;
    let header = bytes.get(..CRC_AT.start)?;
    let computed =
        crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(header), &[0; 4]), rest);
    if magic != MAGIC || computed != crc {
        return None;
    }
    let words: Option<Vec<u64>> = (0..WORDS).map(|_| fields.u64()).collect();
    let words = words?;
    // Both bits set means nothing; a page that says it was not written by us.
    let valid = (found_index, found_files) == (index, files)
        && words.iter().all(|word| word & (word >> 1) & LOW_BITS == 0);
    Some((version, valid.then_some(LoadedPage { sequence, words })))
}

/// A page from its two slots. Never panics, whatever they hold.
pub(crate) fn decode_pair(
    files: u64,
    index: u64,
    even: &[u8],
    odd: &[u8],
) -> Result<LoadedPage, PageError> {
    let of_parity = |parity| move |page: &LoadedPage| page.sequence % 2 == parity;
    let newest = decode(files, index, even)?
        .filter(of_parity(0))
        .into_iter()
        .chain(decode(files, index, odd)?.filter(of_parity(1)))
        .max_by_key(|page| page.sequence);
    // Sequence 1 goes to the odd slot. Torn, it leaves an even slot that was never written.
    let never_durable = even.iter().all(|byte| *byte == 0);
    match newest {
        Some(page) => Ok(page),
        None if never_durable => Ok(LoadedPage { sequence: 0, words: vec![0; WORDS] }),
        None => Err(PageError::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_set_found_and_counted_across_pages() {
        let map = Map::new();
        map.grow(CHUNKS_PER_PAGE + 40);
        assert_eq!(map.next_present(0), None);
        assert_eq!(map.set(33, Chunk::Zero), Chunk::Absent);
        assert_eq!(map.set(CHUNKS_PER_PAGE + 1, Chunk::Data), Chunk::Absent);
        assert_eq!(map.set(33, Chunk::Data), Chunk::Zero);
        assert_eq!(map.get(33), Chunk::Data);
        assert_eq!(map.get(34), Chunk::Absent);
        assert_eq!(map.get(u64::MAX), Chunk::Absent);
        assert_eq!(map.next_present(0), Some(33));
        assert_eq!(map.next_present(33), Some(33));
        assert_eq!(map.next_present(34), Some(CHUNKS_PER_PAGE + 1));
        assert_eq!(map.next_present(CHUNKS_PER_PAGE + 2), None);
        map.set(0, Chunk::Zero);
        assert_eq!(map.count(), (3, 2));
    }

    #[test]
    fn a_page_reads_back_and_alternates_slots() {
        let map = Map::new();
        map.grow(100);
        let mut slots = vec![vec![0; PAGE_BYTES]; 2];
        for (round, chunk) in [5u64, 70, 99].into_iter().enumerate() {
            map.set(chunk, Chunk::Data);
            let taken = map.take_dirty().pop().unwrap();
            let (offset, bytes) = taken.encode(9);
            let slot = usize::try_from(offset).unwrap() / PAGE_BYTES;
            assert_eq!(slot, (round + 1) % 2);
            slots[slot] = bytes.to_vec();
            taken.finish();
            assert!(map.take_dirty().is_empty());
        }
        let loaded = Map::new();
        loaded.push(&decode_pair(9, 0, &slots[0], &slots[1]).unwrap());
        assert_eq!((loaded.count(), loaded.get(70)), ((3, 3), Chunk::Data));
        // The newest slot torn: the one before it counts.
        slots[1][4000] ^= 1;
        let loaded = Map::new();
        loaded.push(&decode_pair(9, 0, &slots[0], &slots[1]).unwrap());
        assert_eq!((loaded.count(), loaded.get(99)), ((2, 2), Chunk::Absent));
        // Of another file or place: not ours.
        assert_eq!(decode_pair(8, 0, &slots[0], &slots[1]), Err(PageError::Bad));
        assert_eq!(decode_pair(9, 1, &slots[0], &slots[1]), Err(PageError::Bad));
    }

    #[test]
    fn what_was_taken_and_not_written_stays_dirty() {
        let map = Map::new();
        map.grow(1);
        map.set(0, Chunk::Zero);
        drop(map.take_dirty());
        assert_eq!(map.take_dirty().len(), 1);
    }

    /// A merge on one thread, flushes on another: whatever a flush takes, a chunk that is no longer
    /// in the upper map is in the lower one.
    #[test]
    fn what_is_taken_during_a_merge_has_every_chunk_above_or_below() {
        let chunks = 256;
        for _ in 0..200 {
            let (above, below) = (Map::new(), Map::new());
            for map in [&above, &below] {
                map.grow(chunks);
            }
            for chunk in 0..chunks {
                above.set(chunk, Chunk::Data);
            }
            below.set(chunks, Chunk::Zero);
            let holds = |taken: &[TakenPage], chunk: u64| {
                let (_, word, shift) = locate(chunk);
                taken.iter().any(|page| chunk_of(page.words[word] >> shift) == Chunk::Data)
            };
            std::thread::scope(|scope| {
                let mover = scope.spawn(|| {
                    for chunk in 0..chunks {
                        below.set(chunk, Chunk::Data);
                        above.set(chunk, Chunk::Absent);
                    }
                });
                while !mover.is_finished() {
                    // Dropped unwritten, the pages are taken again the next time.
                    let taken = take_top_down([Some(&above), Some(&below)].into_iter());
                    let missing =
                        |chunk: &u64| !holds(&taken[0], *chunk) && !holds(&taken[1], *chunk);
                    assert_eq!((0..chunks).find(missing), None, "cleared above, not set below");
                }
            });
        }
    }

    #[test]
    fn a_first_write_that_tore_is_an_empty_page_and_noise_is_damage() {
        let zeros = vec![0; PAGE_BYTES];
        let mut torn = encode(1, 0, 1, &[1; WORDS]).to_vec();
        torn[2048..].fill(0);
        assert_eq!(decode_pair(1, 0, &zeros, &torn).unwrap().words, [0; WORDS]);
        assert_eq!(decode_pair(1, 0, &torn, &torn), Err(PageError::Bad));
        assert_eq!(decode_pair(1, 0, &[], &[1, 2]).unwrap().words, [0; WORDS]);
        assert_eq!(decode_pair(1, 0, &[7; 9], &[1, 2]), Err(PageError::Bad));
        let both_bits = encode(1, 0, 1, &[3; WORDS]);
        assert_eq!(decode_pair(1, 0, &torn, &both_bits), Err(PageError::Bad));
    }
}
