//! Processes of this machine.
//!
//! Entry points: [`Family`], all that some programs have started, however far it went from them,
//! and the two ways by which it is found, [`cgroup`]s and marks ([`marked`], [`signal`]);
//! [`is_outdated`] and [`line`] for single processes.

pub mod cgroup;
mod family;
mod mark;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use family::Family;
pub use mark::{marked, signal};

/// The words of its command line.
///
/// # Errors
/// There is no such process.
pub fn line(id: i32) -> io::Result<Vec<OsString>> {
    let text = fs::read(format!("/proc/{id}/cmdline"))?;
    let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Ok(words.map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// Whether another program stands at `path` than the process runs: it was replaced since it
/// started. `false` where one of them cannot be looked at.
#[must_use]
pub fn is_outdated(id: i32, path: &Path) -> bool {
    let of = |path: &Path| {
        let about = fs::metadata(path).ok()?;
        Some((about.dev(), about.ino(), about.mtime(), about.mtime_nsec()))
    };
    match (of(Path::new(&format!("/proc/{id}/exe"))), of(path)) {
        (Some(runs), Some(stands)) => runs != stands,
        _ => false,
    }
}

/// An id of this boot of the machine.
///
/// # Errors
/// The kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
