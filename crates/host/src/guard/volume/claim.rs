//! One guard at a time has the gate of a map on this host, whatever it calls the map and wherever
//! it keeps its record.

use std::io;
use std::path::{Path, PathBuf};

use env::locks::{self, Heirs, Holder, Lock};
use env::{Files, RealFiles, mounts, whole};

use crate::guard::record::{list, patiently};

/// As gates do, what is in it goes with a restart of the machine.
pub(super) const CLAIMS: &str = "/run/commonhold";

/// Why a gate is another guard's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(
        "another guard of this host, or something that its command has started, has the gate of \
         this device{}", list(": ", .0)
    )]
    Busy(Vec<Holder>),
    #[error("the gate of this device is there, and belongs to the guard with --state {0}")]
    Other(String),
    #[error("{path}: {why}")]
    Io { path: PathBuf, why: io::Error },
}

/// Held by the guard and, as its record, by its heirs.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: Lock,
    /// Says which directory of a record the gate belongs to.
    owner: PathBuf,
}

impl Claim {
    /// # Errors
    /// [`ClaimError::Busy`] while another guard has it.
    pub(super) fn take(directory: &Path, uuid: &str, heirs: Heirs) -> Result<Self, ClaimError> {
        let name = format!("gate-{}", uuid.replace('/', "-"));
        let file = directory.join(&name);
        let failed = |why| ClaimError::Io { path: file.clone(), why };
        RealFiles.create_dir(directory).map_err(failed)?;
        match patiently(|| locks::take(&file, heirs)) {
            Ok(lock) => Ok(Self { _lock: lock, owner: directory.join(name + "-state") }),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                Err(ClaimError::Busy(locks::holders(&file).unwrap_or_default()))
            }
            Err(why) => Err(failed(why)),
        }
    }

    /// From here on it belongs to the guard whose record is in this directory.
    ///
    /// # Errors
    /// [`ClaimError::Other`] where the gate is in use (`is_used`) by that of another directory:
    /// between `attack` and `defend` nobody holds the lock.
    pub(super) fn assign(&self, state: &Path, is_used: bool) -> Result<(), ClaimError> {
        let failed = |why| ClaimError::Io { path: self.owner.clone(), why };
        let real = mounts::real_path(state).unwrap_or_else(|| state.to_path_buf());
        let state = real.display().to_string();
        let before = whole::read(&self.owner).map_err(failed)?;
        match before.filter(|before| is_used && *before != state) {
            Some(other) => Err(ClaimError::Other(other)),
            None => whole::show(&self.owner, &state).map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two guards named one map differently, and the second shut the gate of the first.
    #[test]
    fn one_map_has_one_guard_whatever_it_is_called() {
        let home = tempfile::tempdir().unwrap();
        let take = |uuid| Claim::take(home.path(), uuid, Heirs::Children);
        let first = take("mpath-a/1").unwrap();
        assert!(matches!(take("mpath-a/1"), Err(ClaimError::Busy(_))));
        take("mpath-b").unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        first.assign(&one, false).unwrap();
        first.assign(&one, true).unwrap();
        let refused = first.assign(&two, true).unwrap_err().to_string();
        assert!(refused.contains("/one"), "{refused}");
        first.assign(&two, false).unwrap();
        assert!(matches!(first.assign(&one, true), Err(ClaimError::Other(_))));
    }
}
