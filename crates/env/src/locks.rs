//! Locks on files (flock), and who has them.
//!
//! Entry points: [`take`], [`is_taken`], [`holders`].

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

/// For the owner alone.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Held for as long as the value lives, and no longer than the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, never asked")] OwnedFd);

/// Who holds a lock besides the process that took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heirs {
    /// Every process that it starts from then on, and what those start: as long as one of them
    /// lives, the lock is held.
    Children,
    Nobody,
}

/// A process that has a file open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    pub id: i32,
    /// Of its program, as the kernel cuts it short.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.name)
    }
}

/// Take the lock on this file, which is made where it is not there.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] while somebody holds it.
pub fn take(file: &Path, heirs: Heirs) -> io::Result<Lock> {
    let inheritance = match heirs {
        Heirs::Children => OFlags::empty(),
        Heirs::Nobody => OFlags::CLOEXEC,
    };
    let lock = open(file, OFlags::RDWR | OFlags::CREATE | inheritance, MODE)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(lock)),
        Err(Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another process holds {}", file.display()),
        )),
        Err(why) => Err(why.into()),
    }
}

/// Whether somebody holds it. Who takes it in the very moment of this question is refused.
///
/// # Errors
/// It cannot be asked.
pub fn is_taken(file: &Path) -> io::Result<bool> {
    let lock = match open(file, OFlags::RDONLY | OFlags::CLOEXEC, MODE) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(why) => Err(why.into()),
    }
}

/// The processes that have this file open, but for this one: as many as may be looked at.
///
/// # Errors
/// The file is not there, or /proc cannot be read.
pub fn holders(file: &Path) -> io::Result<Vec<Holder>> {
    let about = fs::metadata(file)?;
    let is_it = |entry: io::Result<fs::DirEntry>| {
        let other = entry.and_then(|entry| fs::metadata(entry.path()));
        other.is_ok_and(|other| (other.dev(), other.ino()) == (about.dev(), about.ino()))
    };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have gone meanwhile, or be another user's.
        let Ok(mut open) = fs::read_dir(format!("/proc/{id}/fd")) else { continue };
        if id != own && open.any(is_it) {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            found.push(Holder { id, name: name.trim().to_owned() });
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_by_the_children_that_inherit_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        assert!(!is_taken(&file).unwrap());
        for heirs in [Heirs::Children, Heirs::Nobody] {
            let lock = take(&file, heirs).unwrap();
            let refused = take(&file, heirs).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
            drop(lock);
            let id = i32::try_from(child.id()).unwrap();
            let inherited = Holder { id, name: "sleep".to_owned() };
            let found = holders(&file).unwrap();
            assert_eq!(found.contains(&inherited), heirs == Heirs::Children, "{found:?}");
            assert_eq!(inherited.to_string(), format!("{id} (sleep)"));
            assert!(is_taken(&file).unwrap() || heirs == Heirs::Nobody);
            child.kill().unwrap();
            child.wait().unwrap();
            // What another test starts may have inherited it, too, and ends soon.
            let begun = Instant::now();
            while is_taken(&file).unwrap() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", holders(&file));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
