//! A tree as a tar stream, and back: what backup and restore of file volumes are made of.
//!
//! Entry points: [`write`] and [`read`], over any [`model::file::FileStore`] and any stream. The
//! form is tar with GNU long names and sparse files, and POSIX extended headers (POSIX.1-2024,
//! pax) for what the headers cannot hold: fractions of seconds, extended attributes. `tar` reads and
//! writes it.
//!
//! Kept: names and contents byte for byte, owner, group, permission and set-id bits, times of
//! change, holes, extended attributes of users, POSIX access control lists, hard links, symbolic
//! links, pipes and devices. Not kept: sockets, which are nothing without who listens, and times of access.
//!
//! [`write_noted`] and [`read_noted`] do the same for a tree that moves: a note goes with each entry,
//! and nothing is left out.
//!
//! A tree may live while it is written. What goes meanwhile is left out, or ends in zeros when its
//! header was written already; a snapshot's tree is of one moment.
//!
//! Both hold one piece of a file, the directories from the root to where they are, and the files
//! with several names; however large the tree is.
//!
//! Invariant: nothing in an archive leads out of the tree: it is walked by the trait, name by
//! name, which follows no link.

mod give;
mod pax;
mod read;
mod write;

use model::file::{Caller, FileError};

pub use read::{Take, read, read_noted};
pub use write::{Note, write, write_noted};

/// Bytes of a file that are moved at once.
const PIECE_BYTES: u32 = 1 << 20;
/// Snapshots are browsed here, in the root; they are no part of the tree.
const SNAPSHOTS: &[u8] = b".snapshots";

/// What went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Entries of the archive: a file with three names is three.
    pub entries: u64,
    /// Bytes of content, without holes: what the archive holds, zeros or not.
    pub bytes: u64,
    /// What an archive or a tree cannot hold.
    pub skipped: u64,
}

/// Why a tree could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("'{path}': {why}")]
    File { path: String, why: FileError },
    #[error("'{path}' cannot be in a file volume: {why}")]
    Entry { path: String, why: String },
    #[error(
        "'{path}' {why}; to restore without access control lists, which gives nobody more than \
         they did, say --drop-acls"
    )]
    Acl { path: String, why: String },
    #[error("the stream: {0}")]
    Stream(#[from] std::io::Error),
}

fn at(path: &[u8]) -> impl FnOnce(FileError) -> ArchiveError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |why| ArchiveError::File { path, why }
}

/// Everything is read, and everything given to its owner.
fn root() -> Caller {
    Caller { uid: 0, gid: 0, gids: Vec::new() }
}
