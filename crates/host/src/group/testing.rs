//! What stands in for a cgroup or a process that hangs.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// A named pipe: whoever opens it to read waits for a writer, and the other way round.
pub(super) fn pipe(path: &Path) -> PathBuf {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.to_owned()
}

/// Let go on who waits there just now.
pub(super) fn release(path: &Path) {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    drop(rustix::fs::open(path, flags, Mode::empty()).unwrap());
}
