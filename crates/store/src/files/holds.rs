//! Files that somebody has open, and that outlive their last name.
//!
//! ```text
//!   named --the last name goes, held--> nameless --let go, or nobody came back for it--> gone
//!     '------the last name goes, not held------------------------------------------------^
//! ```
//!
//! A file without any name dies with the process that has it open, and clients come back to a
//! restarted server with handles. So a nameless file has a name all the same, its inode's number,
//! in a directory of the tree's root that no client finds ([`HIDDEN`]). It lies in the tree because
//! a subvolume's files have no names outside of it. The file is linked there before its last name
//! goes, so that no crash finds it without either. It counts against the volume's size until it is
//! gone; copies of the tree are without it, and rolling back ends it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use env::posix::handle::inode_of;
use model::file::{FileError, FileId, FileKind, FileResult};
use rustix::fs::{AtFlags, CWD, Mode, fsync, linkat, mkdirat, unlinkat};
use rustix::io::Errno;

use super::cache::OpenFile;
use super::errno::refused;
use super::ids::{Ids, LIVING};
use super::trees::raw;
use super::volume::{Inner, Op, Tree, alone};
use super::walk::{each_entry, open_ours, stat_entry};
use crate::pool::locked;

/// In the root of a tree, while there are nameless files.
pub(super) const HIDDEN: &CStr = c".commonhold-removed";

/// Who is held, and which of them are nameless.
#[derive(Default)]
pub(super) struct Holds(Mutex<Held>);

#[derive(Default)]
struct Held {
    counts: HashMap<FileId, u64>,
    nameless: BTreeSet<FileId>,
    /// Of these, which could not be ended: it is tried again, but told once.
    kept: BTreeSet<FileId>,
    /// Those who held files before a restart may still come back: every file is held.
    all: bool,
}

impl Held {
    fn keeps(&self, file: FileId) -> bool {
        self.all || self.counts.contains_key(&file)
    }
}

impl Holds {
    /// As a tree that is opened has them.
    pub(super) fn of(tree: &Tree, ids: &Ids) -> Result<Self, Errno> {
        let nameless = found(tree, ids)?;
        Ok(Self(Mutex::new(Held { nameless, ..Held::default() })))
    }
    pub(super) fn is_nameless(&self, file: FileId) -> bool {
        locked(&self.0).nameless.contains(&file)
    }
    /// Another tree is the living one, whose files nobody has open.
    pub(super) fn clear(&self) {
        let mut held = locked(&self.0);
        held.counts.clear();
        held.nameless.clear();
        held.kept.clear();
    }
}

/// The nameless files of a tree. Those that a crash has left their last name are not.
fn found(tree: &Tree, ids: &Ids) -> Result<BTreeSet<FileId>, Errno> {
    let mut nameless = BTreeSet::new();
    let hidden = match open_ours(&tree.root, HIDDEN) {
        Err(Errno::NOENT) => return Ok(nameless),
        other => other?,
    };
    each_entry(&hidden, |name| {
        if stat_entry(&hidden, name)?.stx_nlink > 1 {
            return unlinkat(&hidden, name, AtFlags::empty());
        }
        let inode = inode_of(hidden.as_fd(), name).map_err(raw)?.0;
        nameless.insert(ids.of(LIVING, tree.salt, &tree.inode, &inode).map_err(|_| Errno::IO)?);
        Ok(())
    })?;
    Ok(nameless)
}

/// Takes all nameless files out of a tree that was copied with them.
pub(super) fn purge(root: &OwnedFd) -> Result<(), Errno> {
    let hidden = match open_ours(root, HIDDEN) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    each_entry(&hidden, |name| unlinkat(&hidden, name, AtFlags::empty()))?;
    unlinkat(root, HIDDEN, AtFlags::REMOVEDIR)
}

/// Whether an entry of a tree's root is one that clients and counts are to find.
pub(super) fn is_hidden(name: &CStr) -> bool {
    name == HIDDEN
}

fn name_of(file: FileId) -> String {
    format!("{:016x}", file.inode)
}

impl Op<'_> {
    /// Gives a file that is about to lose its last name one that nobody finds, when it is held.
    /// Says whether; a file system without room even for that lets the file go. The caller holds
    /// `names` and the file's lock.
    pub(super) fn hide(&self, file: &OpenFile) -> bool {
        if file.kind != FileKind::Regular || !locked(&self.volume.holds.0).keeps(file.id) {
            return false;
        }
        let link = || {
            let root = &self.tree(LIVING)?.root;
            match mkdirat(root, HIDDEN, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused(errno)),
            }
            let hidden = open_ours(root, HIDDEN).map_err(refused)?;
            let source = format!("/proc/self/fd/{}", file.fd.as_raw_fd());
            match linkat(CWD, source, &hidden, name_of(file.id), AtFlags::SYMLINK_FOLLOW) {
                // As it was left when it could not be taken away again.
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(refused(errno)),
            }
        };
        let linked: FileResult<()> = link();
        if let Err(error) = &linked {
            tracing::warn!(volume = %self.volume.id, %error, "an open file goes with its last name");
        }
        linked.is_ok()
    }

    /// The file has kept its name after all.
    pub(super) fn unhide(&self, file: FileId) {
        // What stays is taken away when the volume is next opened.
        let _ = self.unlink_hidden(file);
    }

    /// The file that was hidden has lost its last name. The caller holds the file's lock.
    pub(super) fn note_nameless(&self, file: &OpenFile, blocks: u64) {
        file.nameless.store(true, Ordering::Relaxed);
        locked(&self.volume.holds.0).nameless.insert(file.id);
        // A count that runs may have been past that directory.
        self.volume.usage.recount.met(file.id.inode, blocks);
    }

    fn unlink_hidden(&self, file: FileId) -> FileResult<()> {
        let root = &self.tree(LIVING)?.root;
        let hidden = match open_ours(root, HIDDEN) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(refused)?,
        };
        match unlinkat(&hidden, name_of(file), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// What was hidden is durable, unless nothing is.
    pub(super) fn flush_hidden(&self) -> FileResult<()> {
        if !self.volume.waits_for_medium() {
            return Ok(());
        }
        match open_ours(&self.tree(LIVING)?.root, HIDDEN) {
            Ok(hidden) => fsync(&hidden).map_err(refused),
            // All of it has been let go meanwhile.
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(refused(errno)),
        }
    }
}

impl Inner {
    pub(super) fn hold(&self, id: FileId) -> FileResult<()> {
        let op = self.reading()?;
        if op.is_snapshots(id) {
            return Err(FileError::IsDirectory);
        }
        let file = op.file(id)?;
        file.regular()?;
        // Who takes the last name away has the file's lock, and looks whether it is held.
        let state = locked(&file.state);
        if state.gone {
            return Err(FileError::Stale);
        }
        *locked(&self.holds.0).counts.entry(id).or_default() += 1;
        Ok(())
    }

    pub(super) fn let_go(&self, id: FileId) {
        let is_over = {
            let mut held = locked(&self.holds.0);
            let Some(count) = held.counts.get_mut(&id) else { return };
            *count -= 1;
            if *count == 0 {
                held.counts.remove(&id);
            }
            held.nameless.contains(&id) && !held.keeps(id)
        };
        if is_over {
            self.end_nameless(id);
        }
    }

    pub(super) fn await_holders(&self, may_come: bool) {
        let over: Vec<FileId> = {
            let mut held = locked(&self.holds.0);
            held.all = may_come;
            held.nameless.iter().filter(|file| !held.keeps(**file)).copied().collect()
        };
        over.into_iter().for_each(|file| self.end_nameless(file));
    }

    /// Who holds what is forgotten, as by a start: all may come back, until they are awaited no more.
    pub(super) fn forget_holders(&self) {
        let mut held = locked(&self.holds.0);
        held.counts.clear();
        held.all = true;
    }

    /// Nobody has a file of the volume open any more, whoever did.
    pub(super) fn end_holds(&self) {
        locked(&self.holds.0).counts.clear();
        self.await_holders(false);
    }

    fn end_nameless(&self, id: FileId) {
        match self.try_end_nameless(id) {
            // Not there: the volume is deleted, or rolled back, and the file with it.
            Ok(()) | Err(FileError::Stale) => {
                locked(&self.holds.0).kept.remove(&id);
            }
            Err(error) => {
                if locked(&self.holds.0).kept.insert(id) {
                    tracing::warn!(volume = %self.id, %error, "a removed file keeps its room");
                }
            }
        }
    }

    fn try_end_nameless(&self, id: FileId) -> FileResult<()> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        // Alone, so that nobody hides a file while the directory goes.
        let _names = alone(&self.names);
        let mut state = locked(&file.state);
        {
            let mut held = locked(&self.holds.0);
            if held.keeps(id) || !held.nameless.remove(&id) {
                return Ok(());
            }
        }
        op.unlink_hidden(id).inspect_err(|_| {
            locked(&self.holds.0).nameless.insert(id);
        })?;
        if locked(&self.holds.0).nameless.is_empty() {
            // Only when nothing is in it.
            let _ = unlinkat(&op.tree(LIVING)?.root, HIDDEN, AtFlags::REMOVEDIR);
        }
        state.gone = true;
        self.usage.gone(id.inode, state.blocks);
        self.pool.cache.remove(self.number, id);
        Ok(())
    }
}
