//! The guard's record on disk, and the locks that say that something of this host still runs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::guard::Standing;
use env::locks::{self, Holder, Lock};
use env::{Files, RealFiles, whole};

pub use env::locks::Heirs;

/// The file that holds the record.
const STANDING: &str = "standing";
/// Held by whatever of this host may still use the volume.
const LOCK: &str = "lock";
/// Held by the guard itself, where the other one is inherited.
const GUARD: &str = "guard";
/// Who asks whether a lock is held holds it for a moment; so a guard tries a few times.
const TRIES: u32 = 10;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a guard of this volume runs here already{}", list(": ", .0))]
    Busy(Vec<Holder>),
    /// The command, or something that it has started, has outlived its guard.
    #[error(
        "no guard of this volume runs here any more, but what the command of the last one has \
         started does{}", list(": ", .holders)
    )]
    Left { lock: PathBuf, holders: Vec<Holder> },
    /// It may have said that this host is fenced.
    #[error("{path}: {why}")]
    Malformed { path: PathBuf, why: ::guard::Malformed },
    #[error("{path}: {why}")]
    Io { path: PathBuf, why: io::Error },
}

/// Who of this host may still use the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    Nobody,
    /// A guard runs, and whatever it has started.
    Guard(Vec<Holder>),
    /// No guard runs, and these are left of the command of the last one: as many as may be seen.
    Left(Vec<Holder>),
}

impl Presence {
    /// As `guard status` has it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Guard(_) => "running",
            Self::Left(_) => "left",
        }
    }

    /// What is left of a command whose guard is gone.
    #[must_use]
    pub fn left(&self) -> &[Holder] {
        if let Self::Left(holders) = self { holders } else { &[] }
    }
}

/// The directory of one volume's guard on this host.
pub struct Record {
    directory: PathBuf,
    _locks: Vec<Lock>,
}

impl Record {
    /// # Errors
    /// [`RecordError::Busy`] while another guard runs here, [`RecordError::Left`] while something
    /// of its command does.
    pub fn open(directory: &Path, heirs: Heirs) -> Result<Self, RecordError> {
        let failed = |why| RecordError::Io { path: directory.to_path_buf(), why };
        RealFiles.create_dir(directory).map_err(failed)?;
        let (guard, lock) = (directory.join(GUARD), directory.join(LOCK));
        let taken = |result: io::Result<Lock>| match result {
            Ok(lock) => Ok(Some(lock)),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(why) => Err(failed(why)),
        };
        let found = |path: &Path| locks::holders(path).unwrap_or_default();
        let mut all = Vec::new();
        if heirs == Heirs::Children {
            let own = taken(patiently(|| locks::take(&guard, Heirs::Nobody)))?;
            all.push(own.ok_or_else(|| RecordError::Busy(found(&guard)))?);
            let all_of_it = taken(patiently(|| locks::take(&lock, Heirs::Children)))?;
            let left = || RecordError::Left { holders: found(&lock), lock: lock.clone() };
            all.push(all_of_it.ok_or_else(left)?);
        } else {
            let own = taken(locks::take(&lock, Heirs::Nobody))?;
            all.push(own.ok_or_else(|| RecordError::Busy(found(&lock)))?);
        }
        Ok(Self { directory: directory.to_path_buf(), _locks: all })
    }

    /// Who is there, without being in anybody's way.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn presence(directory: &Path) -> Result<Presence, RecordError> {
        let is_taken = |path: &Path| {
            let failed = |why| RecordError::Io { path: path.to_path_buf(), why };
            locks::is_taken(path).map_err(failed)
        };
        let found = |path: &Path| locks::holders(path).unwrap_or_default();
        let (guard, lock) = (directory.join(GUARD), directory.join(LOCK));
        if is_taken(&guard)? {
            return Ok(Presence::Guard(found(&guard)));
        }
        Ok(if is_taken(&lock)? { Presence::Left(found(&lock)) } else { Presence::Nobody })
    }

    /// # Errors
    /// [`RecordError::Malformed`], or it cannot be read.
    pub fn load(&self) -> Result<Standing, RecordError> {
        Self::read(&self.directory)
    }

    /// The record in this directory, while a guard may run there; one that was never written is
    /// that of a host without a past.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], or it cannot be read.
    pub fn read(directory: &Path) -> Result<Standing, RecordError> {
        let path = directory.join(STANDING);
        match whole::read(&path) {
            Ok(None) => Ok(Standing::default()),
            Ok(Some(text)) => Standing::decode(&text)
                .map_err(|why| RecordError::Malformed { path: path.clone(), why }),
            Err(why) => Err(RecordError::Io { path, why }),
        }
    }

    /// Old or new, never torn; durable when it returns.
    ///
    /// # Errors
    /// It may not be durable.
    pub fn save(&mut self, standing: &Standing) -> io::Result<()> {
        whole::replace(&self.directory.join(STANDING), &standing.encode())
    }
}

pub(super) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(TRY_AGAIN),
            other => return other,
        }
    }
    attempt()
}

/// Processes in a sentence, after `head`; nothing where none can be seen.
pub(super) fn list(head: &str, holders: &[Holder]) -> String {
    let all: Vec<String> = holders.iter().map(Holder::to_string).collect();
    if all.is_empty() { String::new() } else { format!("{head}{}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard and what a dead one had left were told apart by nobody.
    #[test]
    fn a_guard_that_runs_and_what_is_left_of_one_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path();
        assert_eq!(Record::presence(directory).unwrap(), Presence::Nobody);
        let record = Record::open(directory, Heirs::Children).unwrap();
        assert!(matches!(Record::presence(directory), Ok(Presence::Guard(_))));
        let refused = Record::open(directory, Heirs::Children).err().unwrap();
        assert!(matches!(refused, RecordError::Busy(_)), "{refused}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(record);
        let id = i32::try_from(child.id()).unwrap();
        let is_it = |holders: &[Holder]| holders.iter().any(|one| one.id == id);
        // What another test is about to start has all locks until its program is there.
        let begun = std::time::Instant::now();
        while Record::presence(directory).unwrap().word() == "running" {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        let presence = Record::presence(directory).unwrap();
        assert!(is_it(presence.left()), "{presence:?}");
        match Record::open(directory, Heirs::Children) {
            Err(error @ RecordError::Left { .. }) => {
                assert!(error.to_string().contains(&format!("{id} (sleep)")), "{error}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was not refused"),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What another test starts may have inherited the lock, too, and ends soon.
        while Record::presence(directory).unwrap() != Presence::Nobody {
            std::thread::sleep(Duration::from_millis(5));
        }
        let next = Record::open(directory, Heirs::Children).unwrap();
        assert_eq!(Record::presence(directory).unwrap().word(), "running");
        drop(next);
    }

    /// `guard status` looked in the very moment in which a guard began.
    #[test]
    fn who_only_asks_refuses_no_guard() {
        let home = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(home.path().join(GUARD)).unwrap();
        file.lock_shared().unwrap();
        let asks = std::thread::spawn(move || {
            std::thread::sleep(TRY_AGAIN * 2);
            drop(file);
        });
        Record::open(home.path(), Heirs::Children).unwrap();
        asks.join().unwrap();
    }
}
