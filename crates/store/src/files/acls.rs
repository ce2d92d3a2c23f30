//! Access control lists, as the kernel keeps them beside the mode. It checks by them who may do
//! what; NFS clients neither see nor set them.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use model::file::{Acl, AclKind, Caller, FileError, FileId, FileKind, FileResult};
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, getxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::attributes::count;
use super::cache::OpenFile;
use super::errno::refused;
use super::usage::FS_BLOCK_BYTES;
use super::volume::{Inner, stat};
use crate::acl;
use crate::pool::locked;

/// Most bytes of a value (XATTR_SIZE_MAX).
const BYTES_MAX: usize = 64 << 10;

pub(super) const ACCESS: &CStr = c"system.posix_acl_access";

fn key(which: AclKind) -> &'static CStr {
    match which {
        AclKind::Access => ACCESS,
        AclKind::Default => c"system.posix_acl_default",
    }
}

/// Whether a file of this kind can have it.
fn can_have(kind: FileKind, which: AclKind) -> bool {
    match which {
        AclKind::Access => kind != FileKind::Symlink,
        AclKind::Default => kind == FileKind::Directory,
    }
}

/// What only names an inode is reached through its link in /proc.
fn path(file: &OpenFile) -> String {
    format!("/proc/self/fd/{}", file.fd.as_raw_fd())
}

fn get(file: &OpenFile, key: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; BYTES_MAX];
    let length = if file.is_open() {
        fgetxattr(&file.fd, key, &mut value[..])
    } else {
        getxattr(path(file), key, &mut value[..])
    };
    match length {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn set(file: &OpenFile, key: &CStr, value: Option<&[u8]>) -> Result<(), Errno> {
    let flags = XattrFlags::empty();
    match (value, file.is_open()) {
        (Some(value), true) => fsetxattr(&file.fd, key, value, flags),
        (Some(value), false) => setxattr(path(file), key, value, flags),
        (None, true) => fremovexattr(&file.fd, key),
        (None, false) => removexattr(path(file), key),
    }
}

impl Inner {
    pub(super) fn acl(
        &self,
        caller: &Caller,
        id: FileId,
        which: AclKind,
    ) -> FileResult<Option<Acl>> {
        let op = self.reading()?;
        if op.is_snapshots(id) {
            return Ok(None);
        }
        let file = op.file(id)?;
        if !can_have(file.kind, which) {
            return Ok(None);
        }
        let _acting = op.act(caller)?;
        let found = get(&file, key(which)).map_err(refused)?;
        // One that is not understood is not taken for none.
        found.map(|bytes| acl::decode(&bytes).ok_or(FileError::Io)).transpose()
    }

    pub(super) fn set_acl(
        &self,
        caller: &Caller,
        id: FileId,
        which: AclKind,
        acl: Option<&Acl>,
    ) -> FileResult<()> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        if !can_have(file.kind, which) {
            return acl.map_or(Ok(()), |_| Err(FileError::NotSupported));
        }
        {
            let mut state = locked(&file.state);
            if state.gone {
                return Err(FileError::Stale);
            }
            if acl.is_none() && get(&file, key(which)).map_err(refused)?.is_none() {
                return Ok(());
            }
            let found = stat(&file.fd)?;
            let value = acl.map(acl::encode);
            let bytes = value.as_ref().map_or(0, |value| value.len() as u64);
            let reserved = self.usage.reserve(bytes.next_multiple_of(FS_BLOCK_BYTES))?;
            {
                let _acting = op.act(caller)?;
                set(&file, key(which), value.as_deref()).map_err(refused)?;
            }
            let after = op.stat_changed(&file, &found)?;
            count(&self.usage, id.inode, &mut state, &after);
            drop(reserved);
        }
        self.make_durable(&file)
    }
}
