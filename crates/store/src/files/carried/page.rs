//! A page of a table: entries in their order, and a checksum.
//!
//! ```text
//!  byte  0        4         8        16    32
//!        | crc32c | entries | number | 0   | 127 entries of 32 bytes; zeros where there are fewer |
//! ```
//!
//! Integers are big-endian. The number is the page's place in its file, so that one that lies where
//! another belongs is noticed.

pub(crate) const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 32;
pub(crate) const ENTRIES_MAX: usize = (PAGE_BYTES - HEADER_BYTES) / ENTRY_BYTES;

/// What a page holds, compared byte by byte.
pub(crate) type Entry = [u8; ENTRY_BYTES];

/// At most [`ENTRIES_MAX`] entries as a page.
pub(crate) fn encode(number: u64, entries: &[Entry]) -> Vec<u8> {
    let entries = &entries[..entries.len().min(ENTRIES_MAX)];
    let mut page = vec![0; HEADER_BYTES];
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    page[4..8].copy_from_slice(&count.to_be_bytes());
    page[8..16].copy_from_slice(&number.to_be_bytes());
    page.extend_from_slice(entries.as_flattened());
    page.resize(PAGE_BYTES, 0);
    let crc = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&crc.to_be_bytes());
    page
}

/// The entries of the page with this number; `None` when it is damaged, or not in its order.
pub(crate) fn decode(number: u64, page: &[u8]) -> Option<Vec<Entry>> {
    if page.len() != PAGE_BYTES {
        return None;
    }
    let (crc, rest) = page.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (found, _) = rest.split_first_chunk::<8>()?;
    let right = u32::from_be_bytes(*crc) == crc32c::crc32c(&page[4..])
        && u64::from_be_bytes(*found) == number;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    if !right || count > ENTRIES_MAX {
        return None;
    }
    let (entries, _) = page.get(HEADER_BYTES..)?.as_chunks::<ENTRY_BYTES>();
    let entries = entries.get(..count)?.to_vec();
    entries.is_sorted_by(|one, next| one < next).then_some(entries)
}
