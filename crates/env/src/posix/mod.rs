//! What the kernel offers to a file server and the standard library does not: acting as somebody
//! else, names of inodes that outlive paths, subvolumes, who listens, whether a thread has
//! waited, and signals that end the process. Linux only; safe wrappers of calls.

// Each call takes memory that lives on this side of it.
#![allow(unsafe_code)]

pub mod access;
pub mod btrfs;
pub mod clone;
pub mod handle;
pub mod identity;
pub mod listeners;
pub mod namespace;
pub mod signals;
pub mod waits;

use std::io;

/// What a system call answered, as a result.
fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
