//! Files that are open: one descriptor, one lock and one queue of flushes for each file.
//!
//! Invariant: a file has at most one [`OpenFile`] at a time, so its lock is the only one. Who is
//! in use is never evicted.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use env::leftovers::let_go;
use hashbrown::HashTable;
use model::file::{Attributes, FileError, FileId, FileKind, FileResult};
use rustix::fs::Statx;

use super::volume::attributes;
use crate::group_commit::GroupCommit;
use crate::pool::locked;

/// How many entries an insertion looks at to find one that can go.
const LOOKED_AT_MAX: usize = 64;

/// What changes under a file's lock.
pub(super) struct State {
    /// Its last name is gone.
    pub(super) gone: bool,
    /// As they are counted in the volume's usage.
    pub(super) blocks: u64,
}

pub(super) struct OpenFile {
    pub(super) id: FileId,
    pub(super) kind: FileKind,
    /// Opened by the daemon, for reading and, where it can be, writing; of what is neither a
    /// directory nor a regular file only a name of the inode.
    pub(super) fd: OwnedFd,
    pub(super) state: Mutex<State>,
    pub(super) flushes: GroupCommit,
    /// It has lost its last name, and somebody has it open.
    pub(super) nameless: AtomicBool,
    used: AtomicBool,
    /// See [`attributes`].
    later_nanos: u64,
}

impl OpenFile {
    pub(super) fn new(
        id: FileId,
        kind: FileKind,
        fd: OwnedFd,
        (blocks, later_nanos): (u64, u64),
    ) -> Self {
        let state = Mutex::new(State { gone: false, blocks });
        let (flushes, used) = (GroupCommit::default(), AtomicBool::new(false));
        let nameless = AtomicBool::new(false);
        Self { id, kind, fd, state, flushes, nameless, used, later_nanos }
    }
    /// What is known of it, as the kernel has found it.
    pub(super) fn attributes(&self, found: &Statx) -> Attributes {
        let all = attributes(self.id, found, self.later_nanos);
        // The name that keeps it is not one of its own.
        let links = if self.nameless.load(Ordering::Relaxed) { 0 } else { all.links };
        Attributes { links, ..all }
    }
    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
    /// # Errors
    /// `NotDirectory`.
    pub(super) fn directory(&self) -> FileResult<()> {
        if self.is_directory() { Ok(()) } else { Err(FileError::NotDirectory) }
    }
    /// # Errors
    /// What is said of a file that has no data.
    pub(super) fn regular(&self) -> FileResult<()> {
        match self.kind {
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(FileError::IsDirectory),
            FileKind::Symlink => Err(FileError::IsSymlink),
            _ => Err(FileError::WrongKind),
        }
    }
    /// Whether its descriptor can be used for more than naming the inode.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, FileKind::Regular | FileKind::Directory)
    }
}

/// A volume's number while the pool is open, and a file in it.
type Key = (u64, FileId);

/// The open files of a pool.
pub(super) struct Cache {
    files_max: usize,
    inner: Mutex<Inner>,
}

/// Where a file is kept: volume, tree and the inode that clients see. Its generation is left out, so
/// that it is found also by who does not know that.
type Place = (u64, u32, u64);

fn place((volume, file): Key) -> Place {
    (volume, file.tree, file.inode)
}

struct Kept {
    volume: u64,
    file: Arc<OpenFile>,
}

impl Kept {
    fn key(&self) -> Key {
        (self.volume, self.file.id)
    }
    fn place(&self) -> Place {
        place(self.key())
    }
}

#[derive(Default)]
struct Inner {
    /// By their [`Place`].
    files: HashTable<Kept>,
    hasher: RandomState,
    /// In the order in which they are looked at for eviction; may name some that are gone.
    queue: VecDeque<Key>,
}

impl Cache {
    pub(super) fn new(files_max: usize) -> Self {
        Self { files_max, inner: Mutex::default() }
    }

    pub(super) fn get(&self, volume: u64, file: FileId) -> Option<Arc<OpenFile>> {
        let inner = locked(&self.inner);
        inner.get((volume, file)).map(take)
    }

    /// The file of an inode that is there now, whose number clients see so. As long as it is open
    /// no other file can get this number.
    pub(super) fn of_inode(&self, volume: u64, tree: u32, inode: u64) -> Option<Arc<OpenFile>> {
        let inner = locked(&self.inner);
        let place = (volume, tree, inode);
        let found = inner.files.find(inner.hasher.hash_one(place), |kept| kept.place() == place);
        found.map(|kept| take(&kept.file))
    }

    /// Adds a file, unless another thread was faster: then that one's is the answer.
    pub(super) fn insert(&self, volume: u64, file: OpenFile) -> Arc<OpenFile> {
        let key = (volume, file.id);
        let mut evicted = Vec::new();
        let mut inner = locked(&self.inner);
        if let Some(found) = inner.get(key) {
            return Arc::clone(found);
        }
        inner.evict(self.files_max, &mut evicted);
        let file = Arc::new(file);
        inner.add(Kept { volume, file: Arc::clone(&file) });
        inner.queue.push_back(key);
        drop(inner);
        // Descriptors are closed without the lock.
        if !evicted.is_empty() {
            let_go(evicted);
        }
        file
    }

    pub(super) fn remove(&self, volume: u64, file: FileId) {
        let removed = locked(&self.inner).remove((volume, file));
        drop(removed);
    }

    /// Forgets all files of a volume, or those of one of its trees.
    pub(super) fn purge(&self, volume: u64, tree: Option<u32>) {
        let mut purged = Vec::new();
        let mut inner = locked(&self.inner);
        let Inner { files, queue, .. } = &mut *inner;
        let is_purged = |key: &Key| key.0 == volume && tree.is_none_or(|tree| key.1.tree == tree);
        purged.extend(files.extract_if(|kept| is_purged(&kept.key())));
        queue.retain(|key| !is_purged(key));
        drop(inner);
        drop(purged);
    }
}

/// For who uses it now.
fn take(found: &Arc<OpenFile>) -> Arc<OpenFile> {
    found.used.store(true, Ordering::Relaxed);
    Arc::clone(found)
}

impl Inner {
    fn get(&self, key: Key) -> Option<&Arc<OpenFile>> {
        let found = self.files.find(self.hasher.hash_one(place(key)), |kept| kept.key() == key);
        found.map(|kept| &kept.file)
    }
    fn add(&mut self, kept: Kept) {
        let Self { files, hasher, .. } = self;
        let hash = |kept: &Kept| hasher.hash_one(kept.place());
        files.insert_unique(hash(&kept), kept, hash);
    }
    fn remove(&mut self, key: Key) -> Option<Arc<OpenFile>> {
        let hash = self.hasher.hash_one(place(key));
        let found = self.files.find_entry(hash, |kept| kept.key() == key);
        found.ok().map(|found| found.remove().0.file)
    }

    fn evict(&mut self, files_max: usize, evicted: &mut Vec<Arc<OpenFile>>) {
        for _ in 0..LOOKED_AT_MAX {
            // The queue outgrows the files only by names of files that are gone.
            if self.queue.len() < files_max {
                return;
            }
            let Some(key) = self.queue.pop_front() else { return };
            let Some(file) = self.get(key) else { continue };
            // Nobody can take a new hold while the cache is locked.
            let idle = Arc::strong_count(file) == 1;
            if idle && !file.used.swap(false, Ordering::Relaxed) {
                evicted.extend(self.remove(key));
            } else {
                self.queue.push_back(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> OpenFile {
        let id = FileId { tree: 0, inode, generation: 0 };
        let fd = std::fs::File::open("/").unwrap().into();
        OpenFile::new(id, FileKind::Directory, fd, (0, 0))
    }

    #[test]
    fn who_is_in_use_stays_and_a_file_is_open_once() {
        let cache = Cache::new(4);
        let held = cache.insert(1, file(0));
        assert!(Arc::ptr_eq(&held, &cache.insert(1, file(0))));
        for inode in 1..100 {
            cache.insert(1, file(inode));
        }
        assert!(Arc::ptr_eq(&held, &cache.get(1, held.id).unwrap()));
        assert!(locked(&cache.inner).files.len() <= 5);
        assert!(cache.get(2, held.id).is_none());
        cache.purge(1, Some(1));
        assert!(cache.get(1, held.id).is_some());
        cache.purge(1, None);
        assert!(cache.get(1, held.id).is_none());
    }

    #[test]
    fn names_of_removed_files_do_not_pile_up() {
        let cache = Cache::new(4);
        for inode in 0..1000 {
            let made = cache.insert(1, file(inode)).id;
            cache.remove(1, made);
        }
        assert!(locked(&cache.inner).queue.len() <= 5);
    }
}
