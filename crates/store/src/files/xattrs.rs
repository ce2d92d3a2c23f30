//! Extended attributes: those that the kernel keeps in the namespace of users. Who may read and
//! write a file may read and write them; the kernel checks it.

use std::ffi::CString;

use bytes::Bytes;
use model::file::{AttributeIs, Caller, Changed, FileError, FileId, FileKind, FileResult};
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};

use super::attributes::count;
use super::cache::OpenFile;
use super::errno::refused;
use super::usage::FS_BLOCK_BYTES;
use super::volume::{Inner, stat};
use crate::pool::locked;

/// What NFS calls "name" the kernel calls "user.name" (RFC 8276 7).
const PREFIX: &[u8] = b"user.";
/// Most bytes of a value, and of a file's list of names (XATTR_SIZE_MAX and XATTR_LIST_MAX).
const BYTES_MAX: usize = 64 << 10;
/// Most bytes of a name with its prefix (XATTR_NAME_MAX).
const NAME_BYTES_MAX: usize = 255;

fn full(name: &[u8]) -> FileResult<CString> {
    if PREFIX.len() + name.len() > NAME_BYTES_MAX {
        return Err(FileError::NameTooLong);
    }
    CString::new([PREFIX, name].concat()).map_err(|_| FileError::Invalid)
}

/// The kernel has them for these alone.
fn check_kind(file: &OpenFile) -> FileResult<()> {
    match file.kind {
        FileKind::Regular | FileKind::Directory if file.is_open() => Ok(()),
        _ => Err(FileError::WrongKind),
    }
}

impl Inner {
    pub(super) fn xattr(&self, caller: &Caller, id: FileId, name: &[u8]) -> FileResult<Bytes> {
        let (op, name) = (self.reading()?, full(name)?);
        if op.is_snapshots(id) {
            return Err(FileError::NoAttribute);
        }
        let file = op.file(id)?;
        check_kind(&file)?;
        let mut value = Vec::with_capacity(BYTES_MAX);
        let _acting = op.act(caller)?;
        fgetxattr(&file.fd, &name, spare_capacity(&mut value)).map_err(refused)?;
        Ok(value.into())
    }

    pub(super) fn xattrs(&self, caller: &Caller, id: FileId) -> FileResult<Vec<Bytes>> {
        let op = self.reading()?;
        if op.is_snapshots(id) {
            return Ok(Vec::new());
        }
        let file = op.file(id)?;
        check_kind(&file)?;
        let mut names = Vec::with_capacity(BYTES_MAX);
        let _acting = op.act(caller)?;
        flistxattr(&file.fd, spare_capacity(&mut names)).map_err(refused)?;
        let names = names.split(|byte| *byte == 0).filter_map(|name| name.strip_prefix(PREFIX));
        Ok(names.map(Bytes::copy_from_slice).collect())
    }

    pub(super) fn set_xattr(
        &self,
        caller: &Caller,
        id: FileId,
        (name, value): (&[u8], &[u8]),
        is: AttributeIs,
    ) -> FileResult<Changed> {
        let name = full(name)?;
        if value.len() > BYTES_MAX {
            return Err(FileError::AttributeTooLarge);
        }
        let flags = match is {
            AttributeIs::Either => XattrFlags::empty(),
            AttributeIs::New => XattrFlags::CREATE,
            AttributeIs::There => XattrFlags::REPLACE,
        };
        // At least a block of its own, where the inode has no room for it.
        let bytes = (value.len() as u64).next_multiple_of(FS_BLOCK_BYTES) + FS_BLOCK_BYTES;
        self.change_xattrs(caller, id, bytes, |file| {
            fsetxattr(&file.fd, &name, value, flags).map_err(refused)
        })
    }

    pub(super) fn remove_xattr(
        &self,
        caller: &Caller,
        id: FileId,
        name: &[u8],
    ) -> FileResult<Changed> {
        let name = full(name)?;
        self.change_xattrs(caller, id, 0, |file| fremovexattr(&file.fd, &name).map_err(refused))
    }

    /// `bytes` is the most that it can take.
    fn change_xattrs(
        &self,
        caller: &Caller,
        id: FileId,
        bytes: u64,
        work: impl FnOnce(&OpenFile) -> FileResult<()>,
    ) -> FileResult<Changed> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        check_kind(&file)?;
        let changed = {
            let mut state = locked(&file.state);
            if state.gone {
                return Err(FileError::Stale);
            }
            let found = stat(&file.fd)?;
            let reserved = self.usage.reserve(bytes)?;
            {
                let _acting = op.act(caller)?;
                work(&file)?;
            }
            let after = op.stat_changed(&file, &found)?;
            count(&self.usage, id.inode, &mut state, &after);
            drop(reserved);
            Changed { before: file.attributes(&found).before(), after: file.attributes(&after) }
        };
        self.make_durable(&file)?;
        Ok(changed)
    }
}
