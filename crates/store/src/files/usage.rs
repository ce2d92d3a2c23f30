//! How much of its size limit a volume uses.
//!
//! Counted are the blocks of its living files and 512 bytes for each file, so that no number of
//! empty files is for nothing. We are the only writer of a tree: what an operation changed is the
//! difference of the file's blocks before and after it, taken under the file's lock. The count is
//! taken anew from the tree when a volume is opened, so no crash leaves it wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use model::file::{FileError, FileKind, FileResult};
use rustix::fs::Statx;

use super::volume::kind_of;

/// What a file counts besides its blocks.
pub(super) const FILE_BYTES: u64 = 512;
/// No file system that we know has larger blocks.
pub(super) const FS_BLOCK_BYTES: u64 = 4096;
/// The kernel counts blocks of this size, whatever the file system's are.
pub(super) const BLOCK_BYTES: u64 = 512;

/// The blocks that a file counts. XFS holds blocks behind the end of a file that grows, for the
/// next writes, and takes them back by itself: they are not the file's.
pub(super) fn blocks(found: &Statx) -> u64 {
    let needed = found.stx_size.next_multiple_of(FS_BLOCK_BYTES) / BLOCK_BYTES;
    let is_regular = kind_of(found) == FileKind::Regular;
    if is_regular { found.stx_blocks.min(needed) } else { found.stx_blocks }
}

pub(super) struct Usage {
    limit_bytes: AtomicU64,
    /// Blocks, files' own bytes, and what is reserved by operations under way.
    used_bytes: AtomicU64,
    files: AtomicU64,
}

/// Room that an operation under way may need; given back when it is dropped.
#[must_use]
pub(super) struct Reserved<'a> {
    usage: &'a Usage,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.usage.subtract(self.bytes);
    }
}

impl Usage {
    pub(super) fn new(limit_bytes: u64) -> Self {
        let (used_bytes, files) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limit_bytes: AtomicU64::new(limit_bytes), used_bytes, files }
    }
    pub(super) fn limit(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }
    pub(super) fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Ordering::Relaxed);
    }
    pub(super) fn used(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }
    pub(super) fn free(&self) -> u64 {
        self.limit().saturating_sub(self.used())
    }
    /// Counted anew.
    pub(super) fn reset(&self, files: u64, blocks: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.used_bytes.store(blocks * BLOCK_BYTES + files * FILE_BYTES, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// # Errors
    /// `NoSpace` when there is not so much room.
    pub(super) fn reserve(&self, bytes: u64) -> FileResult<Reserved<'_>> {
        let limit = self.limit();
        let more = |used: u64| used.checked_add(bytes).filter(|used| bytes == 0 || *used <= limit);
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| FileError::NoSpace)?;
        Ok(Reserved { usage: self, bytes })
    }

    /// A file had and has so many blocks.
    pub(super) fn changed(&self, before_blocks: u64, after_blocks: u64) {
        if after_blocks >= before_blocks {
            let more = (after_blocks - before_blocks) * BLOCK_BYTES;
            self.used_bytes.fetch_add(more, Ordering::Relaxed);
        } else {
            self.subtract((before_blocks - after_blocks) * BLOCK_BYTES);
        }
    }
    pub(super) fn made(&self, blocks: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.used_bytes.fetch_add(blocks * BLOCK_BYTES + FILE_BYTES, Ordering::Relaxed);
    }
    pub(super) fn gone(&self, blocks: u64) {
        let less = |files: u64| Some(files.saturating_sub(1));
        let _ = self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.subtract(blocks * BLOCK_BYTES + FILE_BYTES);
    }
}
