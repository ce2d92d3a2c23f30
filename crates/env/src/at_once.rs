//! Page-cache I/O in the calling thread, where it takes no longer than the copy.
//!
//! A ring is the road to a device. What is in memory is cheaper moved at once: no queue and no
//! wake-up, and no thread of the kernel's either, which is what a ring takes for all that the file
//! system cannot try without waiting (tmpfs: everything).
//!
//! ```text
//!   read     memory file system: all of it; else what is in the page cache
//!   write    memory file system: all of it; else nothing: dirty pages may have to drain first,
//!            and the worker's other connections would wait for that too
//! ```
//!
//! Invariant: no error is told from here. What is not done, for whatever reason, is left to the
//! job's usual road, which meets the error again.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::{Errno, ReadWriteFlags};

use crate::descriptor::{ReadJob, WriteJob};
use crate::pool::PARTS_MAX;

/// `f_type` of the file systems that live in memory (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// What is known of an open file.
pub(crate) struct AtOnce {
    /// It lives in memory: nothing waits for a device.
    memory: bool,
    /// The file system cannot be asked to read without waiting.
    unasked: AtomicBool,
}

impl AtOnce {
    pub(crate) fn of(file: impl AsFd) -> Self {
        let kind = rustix::fs::fstatfs(file).map(|told| u64::try_from(told.f_type));
        Self { memory: matches!(kind, Ok(Ok(TMPFS | RAMFS))), unasked: AtomicBool::new(false) }
    }

    /// Carry a read on as far as it need not wait. Says whether it is done.
    pub(crate) fn read(&self, job: &mut ReadJob) -> bool {
        if job.direct || self.unasked.load(Relaxed) {
            return false;
        }
        let file = Arc::clone(&job.file);
        loop {
            let (offset, memory) = job.rest();
            match self.read_some(file.cached(), memory, offset) {
                Ok(count) if job.advance(count) => return true,
                Ok(_) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.unasked.store(true, Relaxed);
                    return false;
                }
                Err(_) => return false,
            }
        }
    }

    fn read_some(
        &self,
        file: BorrowedFd<'_>,
        memory: &mut [u8],
        offset: u64,
    ) -> Result<usize, Errno> {
        if self.memory {
            return rustix::io::pread(file, memory, offset);
        }
        let flags = ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(file, &mut [IoSliceMut::new(memory)], offset, flags)
    }

    /// Carry a write on, where nothing can make it wait. Says whether it is done.
    pub(crate) fn write(&self, job: &mut WriteJob) -> bool {
        self.memory && job.is_alone() && write_all(job)
    }
}

fn write_all(job: &mut WriteJob) -> bool {
    let file = Arc::clone(&job.file);
    loop {
        let written = match job.rest() {
            [part] => rustix::io::pwrite(file.cached(), part, job.offset()),
            parts => {
                let slices: Vec<IoSlice<'_>> =
                    parts.iter().take(PARTS_MAX).map(|part| IoSlice::new(part)).collect();
                rustix::io::pwritev(file.cached(), &slices, job.offset())
            }
        };
        match written {
            Ok(count) if count > 0 && job.advance(count) => return true,
            Ok(count) if count > 0 => {}
            _ => return false,
        }
    }
}
