//! Signals that tell a process to end.

use std::io;

/// From now on SIGTERM and SIGINT end the process at once, as before anybody listened to them.
/// What they say is not lost, then, when the process becomes another program: it has nobody who
/// would remember it for the next one.
///
/// # Errors
/// What the kernel does not allow.
pub fn end_at_once() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: no function of ours is set that could be called at a bad moment.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
