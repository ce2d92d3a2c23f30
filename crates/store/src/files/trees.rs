//! Trees as directories: made, copied and removed, in the way of the pool's driver.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use env::posix::btrfs;
use env::posix::handle::inode_of;
use model::pool::Driver;
use rustix::fs::{AtFlags, Mode, StatxFlags, fchmod, mkdirat, renameat, statx};
use rustix::io::Errno;

use super::CopyMethod;
use super::copying::copy_tree;
use super::holds;
use super::pool::PoolShared;
use super::volume::Tree;
use super::walk::open_ours;

/// The root of a new tree: everybody may use it, so that a squashed root can, and nobody may
/// remove what is another's.
const ROOT_MODE: u32 = 0o1777;
const OURS_MODE: Mode = Mode::RWXU;

pub(super) fn raw(why: io::Error) -> Errno {
    Errno::from_io_error(&why).unwrap_or(Errno::IO)
}

/// The directory of a tree with this number.
pub(super) fn name(tree: u32) -> String {
    format!("{tree:08x}")
}

impl Tree {
    pub(super) fn open(trees: &OwnedFd, tree: u32) -> Result<Self, Errno> {
        let root = open_ours(trees, name(tree))?;
        let inode = inode_of(root.as_fd(), c"").map_err(raw)?.0;
        let found = statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
        let device = (found.stx_dev_major, found.stx_dev_minor);
        Ok(Self { root, inode, salt: tree, device })
    }

    /// As the living one. A subvolume's copy has the inodes of the original, and their ids.
    pub(super) fn living(self, driver: Driver) -> Self {
        let salt = if driver == Driver::Btrfs { 0 } else { self.salt };
        Self { salt, ..self }
    }
}

impl PoolShared {
    /// An empty tree; durable after the next sync.
    pub(super) fn make_tree(&self, trees: &OwnedFd, tree: u32) -> Result<Tree, Errno> {
        match self.driver {
            Driver::Btrfs => btrfs::create(trees.as_fd(), &name(tree)).map_err(raw)?,
            Driver::Dir | Driver::Local => mkdirat(trees, name(tree), OURS_MODE)?,
        }
        let made = Tree::open(trees, tree)?;
        fchmod(&made.root, Mode::from_raw_mode(ROOT_MODE))?;
        Ok(made)
    }

    /// A copy of a tree in which nothing changes meanwhile, and what it took: durable.
    pub(super) fn copy_tree(
        &self,
        source: &Tree,
        trees: &OwnedFd,
        tree: u32,
        read_only: bool,
    ) -> Result<(Tree, CopyMethod, u64), Errno> {
        if self.driver == Driver::Btrfs {
            btrfs::snapshot(source.root.as_fd(), trees.as_fd(), &name(tree), read_only)
                .map_err(raw)?;
            if !read_only {
                holds::purge(&open_ours(trees, name(tree))?)?;
            }
            btrfs::sync(trees.as_fd()).map_err(raw)?;
            return Ok((Tree::open(trees, tree)?, CopyMethod::Subvolume, 0));
        }
        mkdirat(trees, name(tree), OURS_MODE)?;
        let copy = Tree::open(trees, tree)?;
        let (method, bytes) = copy_tree(source, &copy)?;
        rustix::fs::syncfs(trees)?;
        Ok((copy, method, bytes))
    }

    /// Takes a tree away. Where that takes long it is only put aside, for [`Self::sweep`].
    pub(super) fn remove_tree(&self, trees: &OwnedFd, tree: &str) -> Result<(), Errno> {
        if self.driver == Driver::Btrfs {
            return btrfs::destroy(trees.as_fd(), tree).map_err(raw);
        }
        renameat(trees, tree, &self.deleted, self.fresh_name())
    }
}
