//! Removing trees that are put aside, in little memory and without recursion.
//!
//! A directory that is met is moved up beside the one that it lies in, and removed in a later
//! round. So nothing is ever deeper than one level, however deep clients have nested it.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use env::posix::btrfs;
use model::file::FileKind;
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::pool::PoolShared;
use super::trees::raw;
use super::volume::kind_of;
use super::walk::{each_entry, open_ours, stat_entry};
use crate::pool::locked;

/// The inode number of every subvolume's root.
const SUBVOLUME_INODE: u64 = 256;

impl PoolShared {
    /// A name that nothing put aside has.
    pub(super) fn fresh_name(&self) -> String {
        format!("{:016x}", self.next_deleted.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes all that is put aside. Takes as long as it takes.
    pub(super) fn sweep(&self) -> Result<(), Errno> {
        let _one_at_a_time = locked(&self.sweeping);
        loop {
            let reader = open_ours(&self.deleted, ".")?;
            let mut any = false;
            each_entry(&reader, |name| {
                any = true;
                self.sweep_one(name)
            })?;
            if !any {
                return Ok(());
            }
        }
    }

    fn sweep_one(&self, name: &CStr) -> Result<(), Errno> {
        if self.is_subvolume(&self.deleted, name)? {
            return self.destroy(&self.deleted, name);
        }
        let directory = open_ours(&self.deleted, name)?;
        each_entry(&directory, |name| {
            if kind_of(&stat_entry(&directory, name)?) != FileKind::Directory {
                return unlinkat(&directory, name, AtFlags::empty());
            }
            if self.is_subvolume(&directory, name)? {
                return self.destroy(&directory, name);
            }
            renameat(&directory, name, &self.deleted, self.fresh_name())
        })?;
        match unlinkat(&self.deleted, name, AtFlags::REMOVEDIR) {
            // A listing may miss what is there when much is taken away under it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    fn is_subvolume(&self, within: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        let found = stat_entry(within, name)?;
        Ok(self.driver == model::pool::Driver::Btrfs && found.stx_ino == SUBVOLUME_INODE)
    }

    fn destroy(&self, within: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let name = name.to_str().map_err(|_| Errno::ILSEQ)?;
        btrfs::destroy(within.as_fd(), name).map_err(raw)
    }
}
