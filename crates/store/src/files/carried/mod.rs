//! Ids that files had where their volume was before: a table from them to the inodes that the files
//! have here, and back.
//!
//! ```text
//!   of a client:  id --forward--> inode and generation here --the kernel--> file, or stale
//!   to a client:  inode and generation here --back--> id; none there: made here, an id of here
//! ```
//!
//! A file keeps its id for as long as it lives, whatever moves its volume; so a volume has one table
//! however often it has moved, and one that moves again is written from the ids that it gives. What
//! an id must be equal to is in the table as a whole, so one that was guessed is in no table.
//!
//! The table is written once, before the volume is in its place, and never changed: a file that is
//! gone is stale by the kernel's word, and its inode's next file has another generation. It is two
//! sorted lists in pages with checksums ([`page`]). In memory is the first entry of each page, half
//! a byte for each file; a look-up reads one page.

mod build;
pub(crate) mod page;
mod table;

pub(super) use build::Builder;
pub(super) use table::Table;
pub(crate) use table::VERSION;

use model::file::FileId;

use page::Entry;

/// An inode as the kernel knows it here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) generation: u32,
}

/// Of the list that is sorted by ids.
fn forward(id: FileId, place: Place) -> Entry {
    let mut entry = [0; 32];
    entry[..4].copy_from_slice(&id.tree.to_be_bytes());
    entry[4..12].copy_from_slice(&id.inode.to_be_bytes());
    entry[12..20].copy_from_slice(&id.generation.to_be_bytes());
    entry[20..28].copy_from_slice(&place.number.to_be_bytes());
    entry[28..].copy_from_slice(&place.generation.to_be_bytes());
    entry
}

/// Of the list that is sorted by inodes.
fn back(id: FileId, place: Place) -> Entry {
    let mut entry = [0; 32];
    entry[..4].copy_from_slice(&id.tree.to_be_bytes());
    entry[4..12].copy_from_slice(&place.number.to_be_bytes());
    entry[12..16].copy_from_slice(&place.generation.to_be_bytes());
    entry[16..24].copy_from_slice(&id.inode.to_be_bytes());
    entry[24..].copy_from_slice(&id.generation.to_be_bytes());
    entry
}

/// What an entry is found by: tree, inode and generation.
const FORWARD_KEY_BYTES: usize = 20;
const BACK_KEY_BYTES: usize = 16;

fn u64_at(entry: &Entry, at: usize) -> u64 {
    entry[at..at + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn place_of(entry: &Entry) -> Place {
    let generation = entry[28..].iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
    Place { number: u64_at(entry, 20), generation }
}

fn id_of(tree: u32, entry: &Entry) -> FileId {
    FileId { tree, inode: u64_at(entry, 16), generation: u64_at(entry, 24) }
}

#[cfg(test)]
mod tests;
