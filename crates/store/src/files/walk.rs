//! Going through a whole tree, with memory for its directories' numbers alone.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use env::posix::handle::{Inode, inode_of};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::path::Arg;

use super::holds::is_hidden;
use super::trees::raw;

const BUFFER_BYTES: usize = 32 << 10;

/// Everything in a directory but "." and "..".
pub(super) fn each_entry(
    directory: &OwnedFd,
    mut step: impl FnMut(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            step(name)?;
        }
    }
    Ok(())
}

pub(super) fn stat_entry(directory: &OwnedFd, name: &CStr) -> Result<Statx, Errno> {
    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

pub(super) fn stat_open(file: &OwnedFd) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// A directory to list: its own position, whoever else has it open.
pub(super) fn open_directory(mount: &OwnedFd, inode: &Inode) -> Result<OwnedFd, Errno> {
    inode.open(mount.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(raw)
}

/// Files and blocks of a tree, its root included, without what a copy of it would be without.
///
/// A file with several names is met once for each; it counts a share of itself every time, so
/// nothing has to be remembered of it.
pub(super) fn count(root: &OwnedFd) -> Result<(u64, u64), Errno> {
    /// Of files with so many names: how often one was met, and their blocks together.
    type Met = BTreeMap<u32, (u64, u64)>;
    let mut met = Met::new();
    let mut meet = |found: &Statx, links| {
        let sums = met.entry(links).or_default();
        *sums = (sums.0 + 1, sums.1 + super::usage::blocks(found));
    };
    meet(&stat_open(root)?, 1);
    let top = inode_of(root.as_fd(), c"").map_err(raw)?.0;
    let mut directories = vec![top];
    while let Some(inode) = directories.pop() {
        let directory = open_directory(root, &inode)?;
        each_entry(&directory, |name| {
            if inode == top && is_hidden(name) {
                return Ok(());
            }
            let found = stat_entry(&directory, name)?;
            let is_directory = super::volume::kind_of(&found) == model::file::FileKind::Directory;
            meet(&found, if is_directory { 1 } else { found.stx_nlink.max(1) });
            if is_directory {
                directories.push(inode_of(directory.as_fd(), name).map_err(raw)?.0);
            }
            Ok(())
        })?;
    }
    let share = |(links, sums): (&u32, &(u64, u64))| {
        let links = u64::from(*links);
        (sums.0 / links, sums.1 / links)
    };
    Ok(met.iter().map(share).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
}

/// Opens a directory of ours by name.
pub(super) fn open_ours(within: &OwnedFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(within, name, flags, Mode::empty())
}
