//! Asking the kernel what the thread's identity may do with an open file.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

pub const EXECUTE: i32 = libc::X_OK;
pub const WRITE: i32 = libc::W_OK;
pub const READ: i32 = libc::R_OK;

/// Whether the thread, as whom it acts now, may do all of `wanted` (bits of rwx). Neither the
/// library's wrapper nor the older call will do: both look at the real user.
///
/// # Errors
/// `EACCES` when it may not; `EROFS`; what the file system reports.
pub fn may(file: BorrowedFd<'_>, wanted: i32) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: the path is a constant string, the descriptor is open for the time of the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_faccessat2, file.as_raw_fd(), c"".as_ptr(), wanted, flags)
    };
    check(answer).map(|_| ())
}
