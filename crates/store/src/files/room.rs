//! What the volumes of a pool hold together, and what its file system has left for them.
//!
//! Volumes are thin: together they may be promised more than there is. What they hold is counted
//! against the pool's own limit, and a part of the file system is left for what must always work:
//! the file system's journal, and deletions, which need room themselves on btrfs. Our records have
//! a file of their own that is there to be given up for them, since a file system may be full
//! before it says so, or by what others put there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use model::file::{FileError, FileResult};
use model::size::ByteSize;
use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, fstatvfs, openat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::errno::refused;
use super::record::{self, Kept};
use crate::error::StoreError;
use crate::space::Space;

/// What is left: this part of the file system, and not more than so much.
const RESERVE_PART: u64 = 64;
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// The file system is asked again when so much was given out; or half of what it had left, since
/// others may take from it meanwhile.
const GRANT_BYTES_MAX: u64 = 256 << 20;
const BALLAST: &str = "ballast";
const BALLAST_BYTES: u64 = 2 << 20;

pub(super) struct Room {
    /// Of all volumes: what they use, and what was copied for snapshots.
    pub(super) space: Space,
    home: OwnedFd,
    /// What may be given out before the file system is asked again.
    granted_bytes: AtomicU64,
}

impl Room {
    pub(super) fn new(home: OwnedFd, limit: Option<ByteSize>) -> Self {
        Self { space: Space::new(limit), home, granted_bytes: AtomicU64::new(0) }
    }

    /// What the file system has left for volumes.
    pub(super) fn left(&self) -> Result<u64, Errno> {
        let found = fstatvfs(&self.home)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let reserve = (bytes(found.f_blocks) / RESERVE_PART).min(RESERVE_BYTES_MAX);
        Ok(bytes(found.f_bavail).saturating_sub(reserve))
    }

    /// Lays in room for records, where there is enough: nobody needs it now, so no error matters.
    pub(super) fn refill(&self) {
        if self.left().unwrap_or(0) < 2 * BALLAST_BYTES {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        if let Ok(file) = openat(&self.home, BALLAST, flags, Mode::RUSR | Mode::WUSR)
            && let Err(errno) = fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)
        {
            tracing::warn!(%errno, "no room is kept back for the pool's records");
        }
    }

    /// Makes a record the directory's, durably, also when the file system is full.
    ///
    /// # Errors
    /// As [`record::write`].
    pub(super) fn write<R: Kept>(
        &self,
        directory: BorrowedFd<'_>,
        record: &R,
    ) -> Result<(), StoreError> {
        let written = record::write(directory, record);
        if !matches!(written, Err(StoreError::NoSpace { .. })) {
            return written;
        }
        let given_up = unlinkat(&self.home, BALLAST, AtFlags::empty());
        // Only what is durably removed is room on btrfs.
        if given_up.and_then(|()| syncfs(self.home.as_fd())).is_err() {
            return written;
        }
        record::write(directory, record)
    }

    /// Counts bytes that are about to be used.
    ///
    /// # Errors
    /// `NoSpace`: the pool's limit is reached, or the file system is full.
    pub(super) fn claim(&self, bytes: u64) -> FileResult<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut claim = self.space.claim(bytes).map_err(|_| FileError::NoSpace)?;
        let take = |granted: u64| granted.checked_sub(bytes);
        let (relaxed, granted) = (Ordering::Relaxed, &self.granted_bytes);
        if granted.fetch_update(relaxed, relaxed, take).is_err() {
            let rest = self.left().map_err(refused)?.checked_sub(bytes);
            let rest = rest.ok_or(FileError::NoSpace)?;
            granted.store((rest / 2).min(GRANT_BYTES_MAX), relaxed);
        }
        claim.spend(bytes);
        Ok(())
    }
}
