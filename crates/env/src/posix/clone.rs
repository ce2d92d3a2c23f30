//! Sharing the blocks of a range between two files.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Let `to` share blocks with `from`: `bytes` from one offset at another, 0 to the source's end.
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV` where blocks cannot be shared; `EINVAL` for ranges that are no whole
/// blocks or overlap; what the file system reports.
pub fn share(from: (BorrowedFd<'_>, u64), to: (BorrowedFd<'_>, u64), bytes: u64) -> io::Result<()> {
    let range = libc::file_clone_range {
        src_fd: i64::from(from.0.as_raw_fd()),
        src_offset: from.1,
        src_length: bytes,
        dest_offset: to.1,
    };
    // SAFETY: the structure is the one that this request reads, and lives through the call.
    let answer = unsafe { libc::ioctl(to.0.as_raw_fd(), libc::FICLONERANGE, &raw const range) };
    check(answer.into()).map(|_| ())
}
