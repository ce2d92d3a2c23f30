//! Counting a volume anew while it serves.
//!
//! The walk goes from directory to directory by their inodes. What it met is remembered, a bit for
//! each inode, and from then on operations on the file change the new count too. What it has not
//! met, and might miss, is met by the operation that would hide it: what is made, renamed or linked.
//! So every file is in the count once, however it moves meanwhile.
//!
//! The walk takes a file's count alone under the volume's `names` and under the file's own lock, where
//! somebody has it open; else nobody changes it just then.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use env::posix::handle::{Inode, inode_of};
use model::file::{FileId, FileKind};
use rustix::io::Errno;

use super::holds::{HIDDEN, is_hidden};
use super::ids::{self, LIVING, Named};
use super::trees::raw;
use super::usage::blocks;
use super::volume::{Inner, Op, alone, kind_of, shared};
use super::walk::{each_entry, open_directory, stat_entry, stat_open};
use crate::pool::locked;

const PAGE_BITS: u64 = 4096;
const PAGE_WORDS: usize = 64;

/// A set of inode numbers: a bit for each where they lie close, as file systems give them.
#[derive(Default)]
struct Numbers(HashMap<u64, Box<[u64; PAGE_WORDS]>>);

impl Numbers {
    fn place(number: u64) -> (u64, usize, u64) {
        let within = number % PAGE_BITS;
        (number / PAGE_BITS, usize::try_from(within / 64).unwrap_or(0), 1 << (within % 64))
    }
    fn has(&self, number: u64) -> bool {
        let (page, word, bit) = Self::place(number);
        self.0.get(&page).is_some_and(|words| words[word] & bit != 0)
    }
    /// Whether it was not in it.
    fn insert(&mut self, number: u64) -> bool {
        let (page, word, bit) = Self::place(number);
        let words = self.0.entry(page).or_insert_with(|| Box::new([0; PAGE_WORDS]));
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }
    /// Whether it was in it.
    fn remove(&mut self, number: u64) -> bool {
        let (page, word, bit) = Self::place(number);
        let Some(words) = self.0.get_mut(&page) else { return false };
        let was_in = words[word] & bit != 0;
        words[word] &= !bit;
        was_in
    }
}

#[derive(Default)]
struct Count {
    met: Numbers,
    /// Met, and their entries not yet.
    directories: Vec<Inode>,
    files: u64,
    blocks: u64,
}

impl Count {
    /// Whether it was not met before.
    fn meet(&mut self, inode: u64, blocks: u64) -> bool {
        let is_new = self.met.insert(inode);
        if is_new {
            self.files += 1;
            self.blocks += blocks;
        }
        is_new
    }
}

/// The count that is being taken, if any.
#[derive(Default)]
pub(super) struct Recount {
    is_on: AtomicBool,
    count: Mutex<Option<Count>>,
    /// Held by who counts.
    turn: Mutex<()>,
}

impl Recount {
    fn with(&self, work: impl FnOnce(&mut Count)) {
        if self.is_on.load(Ordering::Acquire)
            && let Some(count) = &mut *locked(&self.count)
        {
            work(count);
        }
    }
    fn begin(&self) {
        *locked(&self.count) = Some(Count::default());
        self.is_on.store(true, Ordering::Release);
    }
    pub(super) fn end(&self) {
        self.is_on.store(false, Ordering::Release);
        *locked(&self.count) = None;
    }
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }
    pub(super) fn changed(&self, inode: u64, before: u64, after: u64) {
        self.with(|count| {
            if count.met.has(inode) {
                count.blocks = (count.blocks + after).saturating_sub(before);
            }
        });
    }
    /// A file that is in the volume, whose lock is held.
    pub(super) fn met(&self, inode: u64, blocks: u64) {
        self.with(|count| {
            count.meet(inode, blocks);
        });
    }
    /// Its last name is gone; another file may get its number.
    pub(super) fn gone(&self, inode: u64, blocks: u64) {
        self.with(|count| {
            if count.met.remove(inode) {
                count.files = count.files.saturating_sub(1);
                count.blocks = count.blocks.saturating_sub(blocks);
            }
        });
    }
}

impl Op<'_> {
    /// A file is about to get another name, where a count that runs may not find it. The caller
    /// holds `names` alone, and no lock of the file.
    pub(super) fn meet(&self, directory: &OwnedFd, name: &CStr, id: FileId) {
        let recount = &self.volume.usage.recount;
        let (true, Ok(tree)) = (recount.is_on(), self.tree(LIVING)) else { return };
        let Ok(Named::Inode(place)) = self.named(id) else { return };
        let inode = ids::inode(&tree.inode, place);
        // It was just found; who cannot be asked any more is gone.
        let _ = self.volume.meet(directory, name, id, inode);
    }
}

impl Inner {
    /// Takes one entry into the count. The caller holds `names` alone.
    fn meet(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        id: FileId,
        inode: Inode,
    ) -> Result<(), Errno> {
        let open = || self.pool.cache.get(self.number, id);
        let mut file = open();
        if file.is_none() {
            let mut count = locked(&self.usage.recount.count);
            let Some(count) = &mut *count else { return Ok(()) };
            if count.met.has(id.inode) {
                return Ok(());
            }
            let found = stat_entry(directory, name)?;
            // Who opened it meanwhile cannot have counted a change while this lock is held, but
            // may have made one.
            file = open();
            if file.is_none() {
                let is_new = count.meet(id.inode, blocks(&found));
                if is_new && kind_of(&found) == FileKind::Directory {
                    count.directories.push(inode);
                }
                return Ok(());
            }
        }
        let Some(file) = file else { return Ok(()) };
        let state = locked(&file.state);
        if !state.gone {
            self.usage.recount.with(|count| {
                if count.meet(id.inode, state.blocks) && file.is_directory() {
                    count.directories.push(inode);
                }
            });
        }
        Ok(())
    }

    /// Counts what the volume uses, when that is not known, while it serves.
    pub(super) fn recount(&self) -> Result<(), Errno> {
        let _turn = locked(&self.usage.recount.turn);
        if !self.usage.is_due() {
            return Ok(());
        }
        let (root, tree, salt) = {
            let _changes = alone(&self.changes);
            let trees = shared(&self.trees);
            let Some(tree) = trees.get(&LIVING) else { return Ok(()) };
            self.usage.recount.begin();
            let root = tree.root.try_clone().map_err(raw)?;
            let found = stat_open(&root)?;
            self.usage.recount.with(|count| {
                count.meet(self.ids.root(LIVING).inode, blocks(&found));
                count.directories.push(tree.inode);
            });
            self.meet_nameless(&root)?;
            (root, tree.inode, tree.salt)
        };
        let walked = self.walk(&root, &tree, salt);
        let _changes = alone(&self.changes);
        let count = locked(&self.usage.recount.count).take();
        match (walked, count) {
            (Ok(()), Some(count)) => self.usage.reset(count.files, count.blocks),
            // A roll back has brought another tree, and its count.
            (Ok(()), None) => {}
            (Err(errno), _) => {
                self.usage.recount.end();
                return Err(errno);
            }
        }
        Ok(())
    }

    /// Nameless files count, and the directory that holds them does not.
    fn meet_nameless(&self, root: &OwnedFd) -> Result<(), Errno> {
        let hidden = match inode_of(root.as_fd(), HIDDEN) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(raw)?.0,
        };
        self.usage.recount.with(|count| count.directories.push(hidden));
        Ok(())
    }

    fn walk(&self, root: &OwnedFd, tree: &Inode, salt: u32) -> Result<(), Errno> {
        let next = || locked(&self.usage.recount.count).as_mut()?.directories.pop();
        while let Some(inode) = next() {
            let directory = match open_directory(root, &inode) {
                Err(Errno::STALE | Errno::NOENT) => continue,
                other => other?,
            };
            each_entry(&directory, |name| {
                if inode == *tree && is_hidden(name) {
                    return Ok(());
                }
                let _names = alone(&self.names);
                // What is gone since it was listed is in no count.
                let Ok((inode, mount)) = inode_of(directory.as_fd(), name) else { return Ok(()) };
                if mount != self.pool.mount || inode.subvolume != tree.subvolume {
                    return Ok(());
                }
                let id = self.ids.of(LIVING, salt, tree, &inode).map_err(|_| Errno::IO)?;
                match self.meet(&directory, name, id, inode) {
                    Err(Errno::NOENT) => Ok(()),
                    other => other,
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_remembered_one_by_one() {
        let mut numbers = Numbers::default();
        let all = [0, 1, 63, 64, 4095, 4096, u64::MAX];
        assert!(all.iter().all(|number| numbers.insert(*number)));
        assert!(all.iter().all(|number| numbers.has(*number) && !numbers.insert(*number)));
        assert!(!numbers.has(2) && !numbers.has(4097));
        assert!(numbers.remove(64) && !numbers.remove(64) && !numbers.has(64));
        assert!(numbers.has(63) && numbers.has(4095));
    }
}
