//! Names: open, rename, remove, list, make durable. Synchronous; never on the hot path.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, fstat, ftruncate, seek,
};
use rustix::io::Errno;

use crate::block_io::IoFile;
use crate::buffer::ALIGN;
use crate::descriptor::{Alignment, Descriptor};
use crate::locks::{self, Heirs};

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

/// The file system of this machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFiles;

/// Only the daemon reads pool files.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The file in a directory that [`Files::lock_dir`] locks.
const LOCK_FILE: &str = "lock";

/// `st_blocks` counts these, whatever the file system's block is.
const STAT_BLOCK_BYTES: u64 = 512;

impl Files for RealFiles {
    fn open(&self, path: &Path, mode: OpenMode, direct: bool) -> io::Result<IoFile> {
        let access = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let cached = open_regular(path, access)?;
        // Opened first without O_DIRECT: a file system that refuses the flag may do so after it
        // has created the file.
        let again = access.difference(OFlags::CREATE | OFlags::EXCL);
        let direct = if direct { open_direct(path, again)? } else { None };
        Ok(Descriptor::new(cached, direct).into_file())
    }
    fn length(&self, file: &IoFile) -> io::Result<u64> {
        Ok(not_negative(fstat(Descriptor::of(file)?.cached())?.st_size))
    }
    fn set_length(&self, file: &IoFile, length: u64) -> io::Result<()> {
        Ok(ftruncate(Descriptor::of(file)?.cached(), length)?)
    }
    fn allocated(&self, file: &IoFile) -> io::Result<u64> {
        Ok(not_negative(fstat(Descriptor::of(file)?.cached())?.st_blocks) * STAT_BLOCK_BYTES)
    }
    fn next_data(&self, file: &IoFile, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let file = Descriptor::of(file)?;
        let start = match seek(file.cached(), SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        Ok(Some((start, seek(file.cached(), SeekFrom::Hole(start))?)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        if std::fs::symlink_metadata(path)?.is_dir() {
            return std::fs::remove_dir(path);
        }
        std::fs::remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::fsync(rustix::fs::open(path, flags, Mode::empty())?)?)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let space = rustix::fs::statvfs(path)?;
        // `f_bavail`, not `f_bfree`: what is kept for root is not ours to promise.
        Ok((
            space.f_blocks.saturating_mul(space.f_frsize),
            space.f_bavail.saturating_mul(space.f_frsize),
        ))
    }
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(locks::take(&path.join(LOCK_FILE), Heirs::Nobody)?))
    }
}

fn not_negative(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A descriptor through the page cache. Pipes and devices are refused: opening one of them, or
/// reading it, could block for ever.
fn open_regular(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, FILE_MODE)?;
    if !FileType::from_raw_mode(fstat(&fd)?.st_mode).is_file() {
        let why = format!("{} is not a regular file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    // Only the opening was not to block: io_uring gives up early on such descriptors.
    rustix::fs::fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)?.difference(OFlags::NONBLOCK))?;
    Ok(fd)
}

/// A descriptor past the page cache and what it wants; `None` where there is no such thing.
fn open_direct(path: &Path, access: OFlags) -> io::Result<Option<(OwnedFd, Alignment)>> {
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(alignment(&fd).map(|alignment| (fd, alignment))),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// What the kernel says about the file (since Linux 6.1); the safe guess where it says nothing;
/// `None` where it says that there is no direct I/O.
fn alignment(fd: &OwnedFd) -> Option<Alignment> {
    let guess = Some(Alignment { memory: ALIGN, offset: ALIGN });
    let told = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    match told {
        Ok(Statx { stx_mask, stx_dio_mem_align, stx_dio_offset_align, .. })
            if stx_mask & StatxFlags::DIOALIGN.bits() != 0 =>
        {
            let memory = usize::try_from(stx_dio_mem_align).ok()?;
            // Nothing below a sector is ever asked for, and smaller units only cost checks.
            let offset = usize::try_from(stx_dio_offset_align).ok()?.max(512);
            let known = stx_dio_offset_align != 0 && memory != 0;
            (known && memory <= ALIGN && offset <= ALIGN).then_some(Alignment { memory, offset })
        }
        _ => guess,
    }
}
