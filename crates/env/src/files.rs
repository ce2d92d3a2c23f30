//! Names: open, rename, remove, list, make durable. Synchronous; never on the hot path.

use std::io;
use std::path::{Path, PathBuf};

use crate::block_io::IoFile;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Must exist; read only.
    Read,
    /// Must exist; read and write.
    ReadWrite,
    /// Must not exist; read and write.
    CreateNew,
}

/// The file names of one world. Data goes through [`crate::BlockIo`].
pub trait Files: Send + Sync {
    /// `direct` asks for I/O past the page cache; where the file system has none, the file is
    /// opened cached and `IoFile::is_direct` says so.
    fn open(&self, path: &Path, mode: OpenMode, direct: bool) -> io::Result<IoFile>;
    /// The file's length in bytes.
    fn length(&self, file: &IoFile) -> io::Result<u64>;
    /// Cut or extend (with zeros, sparse).
    fn set_length(&self, file: &IoFile, length: u64) -> io::Result<()>;
    /// Bytes that the file takes on the device.
    fn allocated(&self, file: &IoFile) -> io::Result<u64>;
    /// The next range with data at or after `offset`: `(start, end)`, or `None` to the end.
    fn next_data(&self, file: &IoFile, offset: u64) -> io::Result<Option<(u64, u64)>>;
    /// Make the directory and its parents.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names (not paths) in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    fn exists(&self, path: &Path) -> bool;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creations, renames and removals in the directory are durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// `(total, free)` bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// Take an exclusive lock on the directory for as long as the returned value lives, so that
    /// no two daemons serve one pool.
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}
