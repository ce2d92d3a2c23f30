//! The guard's record on disk, and the lock that says that something of this host still runs.

use std::io;
use std::path::{Path, PathBuf};

use ::guard::Standing;
use env::{Files, RealFiles, whole};

/// The file that holds the record.
const STANDING: &str = "standing";

/// Who holds the lock besides the guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heirs {
    /// The command and all that it starts: as long as one of them lives, no other guard can begin
    /// here.
    Children,
    /// Nobody: what the guard has started can be adopted by the next one.
    Nobody,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(
        "a guard of this volume, or something that its command started, runs here already and \
         holds {0}"
    )]
    Busy(PathBuf),
    /// It may have said that this host is fenced.
    #[error("{path}: {why}")]
    Malformed { path: PathBuf, why: ::guard::Malformed },
    #[error("{path}: {why}")]
    Io { path: PathBuf, why: io::Error },
}

/// The directory of one volume's guard on this host.
pub struct Record {
    directory: PathBuf,
    _lock: Box<dyn Send + Sync>,
}

impl Record {
    /// # Errors
    /// [`RecordError::Busy`] while another guard runs here.
    pub fn open(directory: &Path, heirs: Heirs) -> Result<Self, RecordError> {
        let failed = |why: io::Error| match why.kind() {
            io::ErrorKind::WouldBlock => RecordError::Busy(directory.join("lock")),
            _ => RecordError::Io { path: directory.to_path_buf(), why },
        };
        RealFiles.create_dir(directory).map_err(failed)?;
        let lock = match heirs {
            Heirs::Children => RealFiles.lock_dir_with_heirs(directory),
            Heirs::Nobody => RealFiles.lock_dir(directory),
        };
        Ok(Self { directory: directory.to_path_buf(), _lock: lock.map_err(failed)? })
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
