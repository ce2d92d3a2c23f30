//! The guard's record on disk, and the lock that says that something of this host still runs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use guard::Standing;
use host::guard::Keeper;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::failure::Failure;

/// The directory of one volume's guard on this host.
pub(super) struct Record {
    directory: PathBuf,
    /// Inherited by the command and all that it starts, on purpose: as long as one of them lives,
    /// no other guard can begin here.
    _lock: File,
}

impl Record {
    pub(super) fn open(directory: &Path) -> Result<Self, Failure> {
        let failed = |why| Failure::Io { what: directory.display().to_string(), why };
        fs::create_dir_all(directory).map_err(failed)?;
        let path = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(&path)),
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        fcntl_setfd(&lock, FdFlags::empty()).map_err(|why| failed(why.into()))?;
        Ok(Self { directory: directory.to_path_buf(), _lock: lock })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("standing")
    }

    pub(super) fn load(&self) -> Result<Standing, Failure> {
        read(&self.path())
    }

    /// For an operator who has looked: an unreadable record is begun anew.
    pub(super) fn load_or_reset(&self) -> Result<Standing, Failure> {
        match read(&self.path()) {
            Err(Failure::Guard { .. }) => Ok(Standing::default()),
            other => other,
        }
    }

    pub(super) fn save(&mut self, standing: &Standing) -> Result<(), Failure> {
        let failed = |why| Failure::Io { what: self.path().display().to_string(), why };
        self.write(standing).map_err(failed)
    }

    /// Old or new, never torn; durable when it returns.
    fn write(&self, standing: &Standing) -> io::Result<()> {
        let new = self.directory.join("standing.new");
        let mut file = File::create(&new)?;
        file.write_all(standing.encode().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path())?;
        File::open(&self.directory)?.sync_all()
    }
}

impl Keeper for Record {
    fn remember(&mut self, standing: &Standing) -> io::Result<()> {
        self.write(standing)
    }
}

/// The record at this path; one that was never written is that of a host without a past.
pub(super) fn read(path: &Path) -> Result<Standing, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Standing::default()),
        Err(why) => return Err(Failure::Io { what: path.display().to_string(), why }),
    };
    Standing::decode(&text).map_err(|error| Failure::Guard {
        message: format!("{}: {error}", path.display()),
        hint: "It may have said that this host is fenced. See that nothing of it runs, then \
               `commonhold guard permit` begins a new record."
            .to_owned(),
        code: super::FENCED,
    })
}

fn busy(path: &Path) -> Failure {
    Failure::Guard {
        message: "a guard of this volume, or something that its command started, runs here already"
            .to_owned(),
        hint: format!("`fuser {}` names it; stop it first.", path.display()),
        code: super::FAILED,
    }
}
