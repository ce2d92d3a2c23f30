//! Copying a tree file by file, with everything that an NFS client can see of it but its times of
//! change: owners, modes, times, holes, hard links, extended attributes.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use env::posix::handle::{Inode, inode_of};
use model::file::FileKind;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, SeekFrom, Statx, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, copy_file_range, fchmod, fgetxattr, flistxattr, fsetxattr, ftruncate,
    getxattr, ioctl_ficlone, linkat, makedev, mkdirat, mknodat, openat, readlinkat, seek, setxattr,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::CopyMethod;
use super::acls;
use super::holds::is_hidden;
use super::trees::raw;
use super::usage::BLOCK_BYTES;
use super::volume::{Tree, kind_of};
use super::walk::{each_entry, open_directory, stat_entry, stat_open};

/// What the kernel allows of one attribute, and of the list of names.
const XATTR_BYTES_MAX: usize = 64 << 10;
const COPY_BYTES_MAX: usize = 1 << 30;

struct Copying<'a> {
    source: &'a Tree,
    copy: &'a Tree,
    /// Directories whose entries are still to be copied.
    directories: Vec<(Inode, Inode)>,
    /// Copies of files that have several names, by the original's number.
    linked: HashMap<u64, Inode>,
    shares: bool,
    copied_bytes: u64,
}

/// Copies what is in a tree into an empty one. Answers how, and the bytes that it took.
pub(super) fn copy_tree(source: &Tree, copy: &Tree) -> Result<(CopyMethod, u64), Errno> {
    let directories = vec![(source.inode, copy.inode)];
    let (linked, shares, copied_bytes) = (HashMap::new(), true, 0);
    let mut copying = Copying { source, copy, directories, linked, shares, copied_bytes };
    while let Some((inode, to)) = copying.directories.pop() {
        let from = open_directory(&source.root, &inode)?;
        let to = open_directory(&copy.root, &to)?;
        each_entry(&from, |name| {
            let is_left = inode == source.inode && is_hidden(name);
            if is_left { Ok(()) } else { copying.entry(&from, &to, name) }
        })?;
        // After its entries, whose making changes its times.
        attributes(&from, &to, &stat_open(&from)?)?;
    }
    let method = if copying.shares { CopyMethod::Reflink } else { CopyMethod::Bytes };
    Ok((method, copying.copied_bytes))
}

impl Copying<'_> {
    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let found = stat_entry(from, name)?;
        let kind = kind_of(&found);
        if kind == FileKind::Directory {
            mkdirat(to, name, Mode::RWXU)?;
            let inode = |within: &OwnedFd| inode_of(within.as_fd(), name).map_err(raw);
            self.directories.push((inode(from)?.0, inode(to)?.0));
            return Ok(());
        }
        if let Some(copy) = self.linked.get(&found.stx_ino) {
            let fd = copy.open(self.copy.root.as_fd(), OFlags::PATH | OFlags::NOFOLLOW);
            return linkat(&fd.map_err(raw)?, c"", to, name, AtFlags::EMPTY_PATH);
        }
        match kind {
            FileKind::Regular => self.regular(from, to, name, &found)?,
            FileKind::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                named_attributes((from, to), name, &found)?;
            }
            _ => {
                let device = makedev(found.stx_rdev_major, found.stx_rdev_minor);
                let kind = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
                mknodat(to, name, kind, Mode::RUSR, device)?;
                named_attributes((from, to), name, &found)?;
            }
        }
        if found.stx_nlink > 1 {
            let copy = inode_of(to.as_fd(), name).map_err(raw)?.0;
            self.linked.insert(found.stx_ino, copy);
        }
        Ok(())
    }

    fn regular(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        found: &Statx,
    ) -> Result<(), Errno> {
        let inode = inode_of(from.as_fd(), name).map_err(raw)?.0;
        let root = self.source.root.as_fd();
        let from = inode.open(root, OFlags::RDONLY | OFlags::NOATIME).map_err(raw)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        self.shares = self.shares && share(&from, &to)?;
        if !self.shares {
            contents(&from, &to, found.stx_size)?;
            self.copied_bytes += stat_open(&to)?.stx_blocks * BLOCK_BYTES;
        }
        attributes(&from, &to, found)
    }
}

/// Says whether the file system can.
fn share(from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Copies data, and leaves holes.
fn contents(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        at = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let end = seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(COPY_BYTES_MAX).min(COPY_BYTES_MAX);
            let (mut read_at, mut write_at) = (at, at);
            let done = copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)?;
            if done == 0 {
                return Ok(());
            }
            at += done as u64;
        }
    }
    Ok(())
}

fn times(found: &Statx) -> Timestamps {
    let time =
        |at: rustix::fs::StatxTimestamp| Timespec { tv_sec: at.tv_sec, tv_nsec: at.tv_nsec.into() };
    Timestamps { last_access: time(found.stx_atime), last_modification: time(found.stx_mtime) }
}

fn owner(found: &Statx) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(found.stx_uid)), Some(Gid::from_raw(found.stx_gid)))
}

/// Owner first, because a change of it takes bits of the mode away; times last.
fn attributes(from: &OwnedFd, to: &OwnedFd, found: &Statx) -> Result<(), Errno> {
    xattrs(from, to)?;
    let (uid, gid) = owner(found);
    rustix::fs::fchown(to, uid, gid)?;
    fchmod(to, Mode::from_raw_mode(u32::from(found.stx_mode) & 0o7777))?;
    rustix::fs::futimens(to, &times(found))
}

/// Of what is not opened.
fn named_attributes(
    (from, to): (&OwnedFd, &OwnedFd),
    name: &CStr,
    found: &Statx,
) -> Result<(), Errno> {
    let (uid, gid) = owner(found);
    chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind_of(found) != FileKind::Symlink {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(to, name, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let from = openat(from, name, flags, Mode::empty())?;
        list(&format!("/proc/self/fd/{}", from.as_raw_fd()), &path)?;
        let mode = Mode::from_raw_mode(u32::from(found.stx_mode) & 0o7777);
        chmodat(CWD, path, mode, AtFlags::empty())?;
    }
    utimensat(to, name, &times(found), AtFlags::SYMLINK_NOFOLLOW)
}

/// Copies the list of access of what is not opened: nothing else can be at it that clients have set.
fn list(from: &str, to: &str) -> Result<(), Errno> {
    let mut value = vec![0; XATTR_BYTES_MAX];
    match getxattr(from, acls::ACCESS, &mut value[..]) {
        Ok(length) => setxattr(to, acls::ACCESS, &value[..length], XattrFlags::empty()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; XATTR_BYTES_MAX];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::IO)?;
        let length = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
