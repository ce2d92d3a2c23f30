//! Mounts that only this process sees, and that end with it.

use std::io;

use super::check;

/// Give this process a list of mounts of its own: what it mounts from now on is seen by nobody
/// else and is gone with its last thread, however that ends. What the machine mounts is still
/// seen here. To be called before there are other threads: they keep the machine's list.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, as in most containers.
pub fn part_from_machine() -> io::Result<()> {
    // SAFETY: the call takes no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_SLAVE);
    // SAFETY: the path ends with a zero; what is not read for these flags may be null.
    let answer = unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) };
    check(answer.into()).map(|_| ())
}
