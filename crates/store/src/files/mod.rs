//! File volumes: trees of the machine's own file systems, as what protocols need of files.
//!
//! Entry points: [`FilePool::open`], then [`FilePool::volume`]; a [`FileVolume`] is a
//! [`model::file::FileStore`]. The files are described in docs/formats/files.md.
//!
//! - **Permissions** are the kernel's: a call that asks for them is made with the caller's uid, gid
//!   and groups, which a thread takes for that call alone ([`env::posix::identity`]).
//! - **Ids** are the kernel's inode numbers and generations, with a hash that is keyed per volume
//!   (`ids`); the kernel opens them without a path. So they survive renames and restarts. This needs
//!   root: without it [`FilePool::open`] refuses.
//! - **The size limit** is counted here, in both drivers alike (`usage`): a quota of btrfs counts
//!   metadata too, is a transaction behind, and when it is used up files cannot even be removed.
//! - **Durable** is a change when the directory, or the file itself, is synced; see
//!   [`model::file::FileStore`] for what is promised. All file systems that we know make a new
//!   file durable together with the directory's entry.
//!
//! Invariant: nothing of a volume is reached by a path that somebody outside gives: only by one
//! name, in a directory of the volume, without following links.

mod acls;
mod attributes;
mod browse;
mod cache;
pub(crate) mod carried;
pub(crate) mod carry;
mod copying;
mod data;
mod errno;
mod holds;
mod ids;
mod listing;
mod names;
mod pool;
pub(crate) mod record;
mod recount;
mod room;
mod snapshots;
mod store;
mod sweep;
mod trees;
mod usage;
mod volume;
mod walk;
mod xattrs;

use std::sync::Arc;

use model::id::SnapshotId;
use model::size::ByteSize;

pub use model::order::Carried;
pub use model::pool::CopyMethod;
pub use pool::FilePool;

/// An open file volume. A clone is the same volume.
#[derive(Clone)]
pub struct FileVolume(Arc<volume::Inner>);

/// How much a volume may hold, and does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileUsage {
    pub size: ByteSize,
    /// Of living files; what snapshots hold is not counted against the size.
    pub used: ByteSize,
    /// Within the size, and within what the pool's file system has left.
    pub available: ByteSize,
    pub inodes_used: u64,
    pub inodes_available: u64,
}

/// A snapshot as its volume knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSnapshot {
    pub id: SnapshotId,
    /// Under `.snapshots` in the root.
    pub name: String,
    /// What its deletion would give back: exact on btrfs, as of its last transaction; else what was
    /// copied for it.
    pub held: ByteSize,
}
