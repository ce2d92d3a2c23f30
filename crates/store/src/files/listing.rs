//! Listing directories by pieces.
//!
//! A cookie is the kernel's own position of what follows an entry, moved past the three numbers
//! that mean the beginning, "." and "..". On ext4 it is a hash of the name, on btrfs the number
//! that the entry was given when it was made, on XFS its place: none of them changes when other
//! entries come and go. A listing takes the memory of its piece and of one buffer, however large
//! the directory is.

use std::os::fd::AsFd;

use bytes::Bytes;
use env::posix::handle::inode_of;
use model::file::{Caller, Entry, FileError, FileId, FileResult, Listing};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, StatxFlags, openat, seek, statx};
use rustix::io::Errno;

use super::cache::OpenFile;
use super::errno::refused;
use super::holds::is_hidden;
use super::volume::{Inner, Op};

const COOKIE_FIRST: u64 = 3;
/// Entries of a piece, whatever is asked for.
const ENTRIES_MAX: usize = 4096;
const BUFFER_BYTES: usize = 32 << 10;

impl Inner {
    pub(super) fn list(
        &self,
        caller: &Caller,
        directory: FileId,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        let op = self.reading()?;
        let entries_max = entries_max.clamp(1, ENTRIES_MAX);
        if op.is_snapshots(directory) {
            return op.list_snapshots(after, entries_max, with_attributes);
        }
        let file = op.file(directory)?;
        file.directory()?;
        let reader = {
            let _acting = op.act(caller)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(&file.fd, c".", flags, Mode::empty())
        };
        // A position of its own, for this piece alone.
        let reader = match reader {
            // To read a directory asks for no permission to search it, to open "." in it does.
            Err(Errno::ACCESS) => op.reopen(caller, &file)?,
            other => other.map_err(refused)?,
        };
        if let Some(position) = after.checked_sub(COOKIE_FIRST) {
            seek(&reader, SeekFrom::Start(position)).map_err(refused)?;
        } else if after != 0 {
            return Err(FileError::Invalid);
        }
        op.gather(&file, &reader, entries_max, with_attributes)
    }
}

impl Op<'_> {
    fn reopen(&self, caller: &Caller, file: &OpenFile) -> FileResult<std::os::fd::OwnedFd> {
        {
            let _acting = self.act(caller)?;
            env::posix::access::may(file.fd.as_fd(), env::posix::access::READ)
                .map_err(super::errno::refused_io)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&file.fd, c".", flags, Mode::empty()).map_err(refused)
    }

    fn gather(
        &self,
        directory: &OpenFile,
        reader: &std::os::fd::OwnedFd,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut listed = RawDir::new(reader, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        let at_root = self.is_root(directory.id);
        while let Some(entry) = listed.next() {
            let entry = entry.map_err(refused)?;
            let name = entry.file_name();
            if name == c"." || name == c".." || at_root && is_hidden(name) {
                continue;
            }
            if entries.len() == entries_max {
                return Ok(Listing { entries, end: false });
            }
            // One that is gone by now is not listed.
            let Ok((inode, mount)) = inode_of(directory.fd.as_fd(), name) else { continue };
            let tree = directory.id.tree;
            let super::volume::Tree { inode: root, salt, .. } = self.tree(tree)?;
            if mount != self.volume.pool.mount || inode.subvolume != root.subvolume {
                continue;
            }
            let file = self.volume.ids.of(tree, *salt, root, &inode)?;
            let attributes =
                if with_attributes { self.attributes_of(directory, name, file) } else { None };
            entries.push(Entry {
                name: Bytes::copy_from_slice(name.to_bytes()),
                cookie: entry.next_entry_cookie().saturating_add(COOKIE_FIRST),
                file,
                attributes,
            });
        }
        Ok(Listing { entries, end: true })
    }

    fn attributes_of(
        &self,
        directory: &OpenFile,
        name: &std::ffi::CStr,
        file: FileId,
    ) -> Option<model::file::Attributes> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = statx(&directory.fd, name, flags, StatxFlags::BASIC_STATS).ok()?;
        Some(self.volume.seen(file, &found))
    }
}
