//! How much of its size limit a volume uses.
//!
//! Counted are the blocks of its living files and 512 bytes for each file, so that no number of
//! empty files is for nothing. We are the only writer of a tree: what an operation changed is the
//! difference of the file's blocks before and after it, taken under the file's lock.
//!
//! ```text
//!            the first change                  orderly stop
//!   exact  ------------------>  at most B  ------------------>  exact
//!   (record says N)             (record says B)
//!                                 |  ^ used comes near B: a new record with a larger B
//!                         a crash v  | counted anew, while the volume serves
//!                               used is taken to be B
//! ```
//!
//! The record on disk ([`CountRecord`]) is written before the count may pass what it says, so it is
//! a bound whatever happens; without a record the bound is the volume's size. After a crash the
//! volume serves with the bound at once. Until it is counted anew, what would not fit is answered
//! with `Busy`, which clients try again: nothing is refused that may have room.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use model::file::{FileError, FileKind, FileResult};
use rustix::fs::Statx;
use rustix::io::Errno;

use super::record::{self, CountRecord};
use super::recount::Recount;
use super::room::Room;
use super::volume::kind_of;
use crate::error::StoreError;
use crate::pool::locked;

/// What a file counts besides its blocks.
pub(super) const FILE_BYTES: u64 = 512;
/// No file system that we know has larger blocks.
pub(super) const FS_BLOCK_BYTES: u64 = 4096;
/// The kernel counts blocks of this size, whatever the file system's are.
pub(super) const BLOCK_BYTES: u64 = 512;
/// What operations that run at once may add without a reservation: a block of a directory each.
const MARGIN_BYTES: u64 = 1 << 20;
/// How far the bound is set ahead: the larger, the rarer a record is written.
const STEP_PART: u64 = 64;
const STEP_BYTES_MIN: u64 = 4 << 20;
const STEP_BYTES_MAX: u64 = 1 << 30;
/// File systems add blocks to a file when they write it out, which no operation sees. So a count
/// that was carried over so many orderly stops is taken anew, though it is good meanwhile.
const CARRIED_MAX: u16 = 16;

/// The blocks that a file counts. XFS holds blocks behind the end of a file that grows, for the
/// next writes, and takes them back by itself: they are not the file's.
pub(super) fn blocks(found: &Statx) -> u64 {
    let needed = found.stx_size.next_multiple_of(FS_BLOCK_BYTES) / BLOCK_BYTES;
    let is_regular = kind_of(found) == FileKind::Regular;
    if is_regular { found.stx_blocks.min(needed) } else { found.stx_blocks }
}

/// Of so many files with so many blocks.
pub(super) fn counted(files: u64, blocks: u64) -> u64 {
    blocks * BLOCK_BYTES + files * FILE_BYTES
}

pub(super) struct Usage {
    limit_bytes: AtomicU64,
    /// Blocks, files' own bytes, and what is reserved by operations under way.
    used_bytes: AtomicU64,
    files: AtomicU64,
    /// What the record on disk says at most; 0 while it is exact, so that the first change is one
    /// past it.
    bound_bytes: AtomicU64,
    /// Whether `used_bytes` may be more than there is.
    is_bound: AtomicBool,
    /// The volume's directory; held while the record is written.
    home: OwnedFd,
    room: Arc<Room>,
    carried: Mutex<u16>,
    pub(super) recount: Recount,
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
    /// As the record in the volume's directory says.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub(super) fn open(
        home: OwnedFd,
        room: Arc<Room>,
        what: &str,
        limit_bytes: u64,
    ) -> Result<Self, StoreError> {
        let found = recorded(&home, what, limit_bytes)?;
        Ok(Self {
            limit_bytes: AtomicU64::new(limit_bytes),
            used_bytes: AtomicU64::new(found.bytes),
            files: AtomicU64::new(found.files),
            bound_bytes: AtomicU64::new(if found.exact { 0 } else { found.bytes }),
            is_bound: AtomicBool::new(!found.exact),
            home,
            room,
            carried: Mutex::new(found.carried),
            recount: Recount::default(),
        })
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
    /// What is used is a bound, and to be counted.
    pub(super) fn is_bound(&self) -> bool {
        self.is_bound.load(Ordering::Relaxed)
    }
    pub(super) fn is_due(&self) -> bool {
        self.is_bound() || *locked(&self.carried) >= CARRIED_MAX
    }
    /// Counted anew, while nothing changes.
    pub(super) fn reset(&self, files: u64, blocks: u64) {
        self.files.store(files, Ordering::Relaxed);
        let now = counted(files, blocks);
        self.room.space.add(now);
        self.room.space.release(self.used_bytes.swap(now, Ordering::Relaxed));
        *locked(&self.carried) = 0;
        self.is_bound.store(false, Ordering::Relaxed);
        self.recount.end();
    }

    /// Makes the record exact, while nothing changes and all that was changed is durable.
    ///
    /// # Errors
    /// `NoSpace`, `Io`: the record is the bound that it was.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let mut carried = locked(&self.carried);
        if self.is_bound() || self.bound_bytes.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let more = carried.saturating_add(1);
        let (files, bytes) = (self.files(), self.used());
        let exact = CountRecord { exact: true, carried: more, files, bytes };
        self.room.write(self.home.as_fd(), &exact)?;
        self.bound_bytes.store(0, Ordering::Relaxed);
        *carried = more;
        Ok(())
    }

    /// Sees to it that the record allows so many bytes more; to be called before every change.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn allow(&self, bytes: u64) -> FileResult<()> {
        let needed = || self.used().saturating_add(bytes).saturating_add(MARGIN_BYTES);
        if needed() <= self.bound_bytes.load(Ordering::Acquire) {
            return Ok(());
        }
        let carried = locked(&self.carried);
        let needed = needed();
        if needed <= self.bound_bytes.load(Ordering::Acquire) {
            return Ok(());
        }
        let step = (self.limit() / STEP_PART).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        let bound = needed.saturating_add(step);
        let (carried, files) = (*carried, self.files());
        let record = CountRecord { exact: false, carried, files, bytes: bound };
        let bound = match self.room.write(self.home.as_fd(), &record) {
            Ok(()) => bound,
            // To take the record away needs no room, and none is a bound too.
            Err(StoreError::NoSpace { .. }) => {
                record::remove::<CountRecord>(self.home.as_fd()).map_err(failed)?;
                u64::MAX
            }
            Err(error) => {
                tracing::error!(%error, "the record of what a volume uses cannot be written");
                return Err(FileError::Io);
            }
        };
        self.bound_bytes.store(bound, Ordering::Release);
        Ok(())
    }

    fn subtract(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let before = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.room.space.release(before.unwrap_or(0).min(bytes));
    }
    fn add(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.room.space.add(bytes);
    }

    /// # Errors
    /// `NoSpace` when there is not so much room, `Busy` when that is not known yet.
    pub(super) fn reserve(&self, bytes: u64) -> FileResult<Reserved<'_>> {
        self.allow(bytes)?;
        let full = || if self.is_bound() { FileError::Busy } else { FileError::NoSpace };
        let limit = self.limit();
        let more = |used: u64| used.checked_add(bytes).filter(|used| bytes == 0 || *used <= limit);
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| full())?;
        if let Err(error) = self.room.claim(bytes) {
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(if error == FileError::NoSpace { full() } else { error });
        }
        Ok(Reserved { usage: self, bytes })
    }

    /// A file had and has so many blocks.
    pub(super) fn changed(&self, inode: u64, before_blocks: u64, after_blocks: u64) {
        if after_blocks >= before_blocks {
            self.add((after_blocks - before_blocks) * BLOCK_BYTES);
        } else {
            self.subtract((before_blocks - after_blocks) * BLOCK_BYTES);
        }
        self.recount.changed(inode, before_blocks, after_blocks);
    }
    pub(super) fn made(&self, inode: u64, blocks: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.add(counted(1, blocks));
        self.recount.met(inode, blocks);
    }
    pub(super) fn gone(&self, inode: u64, blocks: u64) {
        let less = |files: u64| Some(files.saturating_sub(1));
        let _ = self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.subtract(counted(1, blocks));
        self.recount.gone(inode, blocks);
    }
}

/// What the record in a volume's directory says that the volume uses. An unreadable one is as good
/// as none.
pub(super) fn recorded(
    home: &OwnedFd,
    what: &str,
    limit_bytes: u64,
) -> Result<CountRecord, StoreError> {
    match record::read::<CountRecord>(home.as_fd(), what) {
        Err(StoreError::Corrupt { .. }) | Ok(None) => {
            Ok(CountRecord { exact: false, carried: 0, files: 0, bytes: limit_bytes })
        }
        Ok(Some(found)) => Ok(found),
        Err(other) => Err(other),
    }
}

fn failed(errno: Errno) -> FileError {
    super::errno::refused(errno)
}
