//! Changes of a volume's structure: its size, its durability, its snapshots.
//!
//! Each is one write of the volume's record. A tree that the record needs is made and durable
//! before; one that it does not need any more is removed after, or when the volume is next opened.

use std::os::fd::OwnedFd;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use env::posix::btrfs;
use model::export::Durability;
use model::id::{SnapshotId, VolumeId};
use model::pool::Driver;
use model::size::ByteSize;
use rustix::io::Errno;
use std::os::fd::AsFd;

use super::ids::{LIVING, NEXT_TREE_MAX};
use super::pool::TREES;
use super::record::{CountRecord, SnapshotRecord, VolumeRecord, failed};
use super::trees::name;
use super::usage::{FILE_BYTES, counted};
use super::volume::{Inner, Tree, alone, in_bulk, path, shared};
use super::walk::{self, open_ours};
use super::{CopyMethod, FileSnapshot, FileUsage, FileVolume};
use crate::error::StoreError;
use crate::pool::locked;
use crate::space::Claim;

impl FileVolume {
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.0.id
    }

    /// What the handles of its files are signed with, wherever it is served. None has a volume that
    /// was made before volumes had secrets: its handles are signed with the node's.
    #[must_use]
    pub fn handle_secret(&self) -> Option<[u8; 32]> {
        self.0.secret
    }

    #[must_use]
    pub fn durability(&self) -> Durability {
        let relaxed = self.0.relaxed.load(Ordering::Relaxed);
        if relaxed { Durability::Relaxed } else { Durability::Strict }
    }

    /// # Errors
    /// `Io`.
    pub fn set_durability(&self, durability: Durability) -> Result<(), StoreError> {
        let relaxed = durability == Durability::Relaxed;
        let mut record = locked(&self.0.record);
        self.0.replace(&mut record, |record| record.relaxed = relaxed)?;
        self.0.relaxed.store(relaxed, Ordering::Relaxed);
        if relaxed {
            return Ok(());
        }
        // From now on everything is durable, so what was not must become it.
        rustix::fs::syncfs(&self.0.home).map_err(|errno| failed("sync the volume", errno))
    }

    /// Runs what makes many files, and makes them durable together at its end: for work that is of
    /// no use when it is cut. What clients do meanwhile is durable as ever.
    ///
    /// # Errors
    /// `Io`.
    pub fn in_bulk<R>(&self, work: impl FnOnce() -> R) -> Result<R, StoreError> {
        let done = in_bulk(work);
        rustix::fs::syncfs(&self.0.home).map_err(|errno| failed("sync the volume", errno))?;
        Ok(done)
    }

    /// # Errors
    /// `Io`.
    pub fn usage(&self) -> Result<FileUsage, StoreError> {
        let usage = &self.0.usage;
        let left = self.0.pool.room.left().map_err(|e| failed("ask for space", e))?;
        let available = usage.free().min(left);
        Ok(FileUsage {
            size: ByteSize(usage.limit()),
            used: ByteSize(usage.used().min(usage.limit())),
            available: ByteSize(available),
            inodes_used: usage.files(),
            inodes_available: available / FILE_BYTES,
        })
    }

    /// Nobody has a file of the volume open any more: who had was cut off.
    pub fn end_holds(&self) {
        self.0.end_holds();
    }

    /// The server begins anew: who held files may come back and hold them again, until
    /// [`model::file::FileStore::await_holders`] says that nobody does any more.
    pub fn forget_holders(&self) {
        self.0.forget_holders();
    }

    /// Counts what the volume uses, when only a bound of it is known, while it serves. Takes long
    /// where there are many files.
    ///
    /// # Errors
    /// `Io`.
    pub fn recount(&self) -> Result<(), StoreError> {
        self.0.recount().map_err(|errno| failed("count a volume", errno))
    }

    /// Whether [`Self::recount`] is to be called, and nobody has.
    #[must_use]
    pub fn needs_count(&self) -> bool {
        self.0.usage.is_due() && !self.0.usage.recount.is_on()
    }

    /// See [`super::FilePool::settle`].
    ///
    /// # Errors
    /// `Io`.
    pub fn settle(&self) -> Result<(), StoreError> {
        let _changes = alone(&self.0.changes);
        if self.0.deleted.load(Ordering::Relaxed) {
            return Ok(());
        }
        rustix::fs::syncfs(&self.0.home).map_err(|errno| failed("sync the volume", errno))?;
        self.0.usage.settle()
    }

    /// Gives the volume this size, larger or smaller, while it is in use.
    ///
    /// # Errors
    /// `Refused` when it holds more than that. `NoSpace`, `Io`.
    pub fn resize(&self, size: ByteSize) -> Result<(), StoreError> {
        self.recount()?;
        let mut record = locked(&self.0.record);
        // Nobody writes between the comparison and the new limit.
        let _changes = alone(&self.0.changes);
        let used = self.0.usage.used();
        if size.0 < used && size.0 < record.size_bytes {
            let why = format!(
                "the volume holds {} and cannot be made {size}: delete files first",
                ByteSize(used)
            );
            return Err(StoreError::refused(why));
        }
        self.0.replace(&mut record, |record| record.size_bytes = size.0)?;
        self.0.usage.set_limit(size.0);
        Ok(())
    }

    /// How snapshots are made here.
    #[must_use]
    pub fn copy_method(&self) -> CopyMethod {
        self.0.pool.method()
    }

    /// Takes a snapshot: the tree as it is at one moment. Unless it takes constant time
    /// ([`CopyMethod::Subvolume`]), changes of the volume wait meanwhile. There already: nothing
    /// to do. It is browsed under `name`, or its id.
    ///
    /// # Errors
    /// `Refused` when the name is taken or cannot be one, `NoSpace`, `Io`.
    pub fn create_snapshot(
        &self,
        snapshot: SnapshotId,
        name: Option<&str>,
    ) -> Result<CopyMethod, StoreError> {
        let inner = &*self.0;
        let mut record = locked(&inner.record);
        if record.snapshots.iter().any(|known| known.id == snapshot) {
            return Ok(inner.pool.method());
        }
        let name = name.map_or_else(|| snapshot.to_string(), str::to_owned);
        if path(name.as_bytes()).is_err() {
            return Err(StoreError::refused(format!("{name:?} cannot be a file's name")));
        }
        if record.snapshots.iter().any(|known| known.name == name) {
            return Err(StoreError::refused(format!("another snapshot has the name {name}")));
        }
        let mut claim = inner.claim_copy(inner.usage.used())?;
        let changes = alone(&inner.changes);
        let (number, copy, method, copied_bytes) = {
            let trees = shared(&inner.trees);
            let living = trees.get(&LIVING).ok_or_else(|| missing(inner))?;
            inner.add_tree(&mut record, living, true)?
        };
        drop(changes);
        let of_came = record.living_came && inner.pool.driver == Driver::Btrfs;
        let made = SnapshotRecord { id: snapshot, name, tree: number, copied_bytes, of_came };
        inner.replace(&mut record, |record| record.snapshots.push(made))?;
        claim.spend(copied_bytes);
        alone(&inner.trees).insert(number, copy);
        *locked(&inner.browsed) = record.snapshots.clone();
        Ok(method)
    }

    /// Oldest first.
    ///
    /// # Errors
    /// `Io`.
    pub fn snapshots(&self) -> Result<Vec<FileSnapshot>, StoreError> {
        let trees = shared(&self.0.trees);
        let snapshots = locked(&self.0.browsed).clone();
        let held = |snapshot: &SnapshotRecord| match trees.get(&snapshot.tree) {
            Some(tree) if self.0.pool.driver == Driver::Btrfs => {
                let held = btrfs::held(tree.root.as_fd(), tree.inode.subvolume);
                held.map(|held| held.map_or(0, |held| held.exclusive))
            }
            _ => Ok(snapshot.copied_bytes),
        };
        snapshots
            .into_iter()
            .map(|snapshot| {
                let held = held(&snapshot)
                    .map_err(|why| StoreError::from_io("ask what a snapshot holds", 0, why))?;
                let SnapshotRecord { id, name, .. } = snapshot;
                Ok(FileSnapshot { id, name, held: ByteSize(held) })
            })
            .collect()
    }

    /// Deletes a snapshot; its room comes back a little later ([`super::FilePool::sweep`]). Not
    /// there: nothing to do.
    ///
    /// # Errors
    /// `Io`.
    pub fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), StoreError> {
        let inner = &*self.0;
        let mut record = locked(&inner.record);
        let Some(found) = record.snapshots.iter().find(|known| known.id == snapshot) else {
            return Ok(());
        };
        let (tree, copied_bytes) = (found.tree, found.copied_bytes);
        inner.replace(&mut record, |record| record.snapshots.retain(|known| known.tree != tree))?;
        *locked(&inner.browsed) = record.snapshots.clone();
        inner.pool.room.space.release(copied_bytes);
        {
            let mut trees = alone(&inner.trees);
            trees.remove(&tree);
            inner.pool.cache.purge(inner.number, Some(tree));
        }
        inner.drop_tree(tree)
    }

    /// Makes the volume's content the snapshot's. Later snapshots stay; ids of files stay good
    /// where the snapshot has the file and the copy is a subvolume, else only the root's does.
    ///
    /// # Errors
    /// `Missing`; `Refused` when the snapshot holds more than the volume's size; `NoSpace`, `Io`.
    pub fn roll_back(&self, snapshot: SnapshotId) -> Result<(), StoreError> {
        let inner = &*self.0;
        let mut record = locked(&inner.record);
        let source = record.snapshots.iter().find(|known| known.id == snapshot);
        let source = source.ok_or_else(|| StoreError::missing(format!("snapshot {snapshot}")))?;
        let (source, came) = (source.tree, source.of_came);
        let _changes = alone(&inner.changes);
        let (number, copy, (files, blocks)) = {
            let trees = shared(&inner.trees);
            let tree = trees.get(&source).ok_or_else(|| missing(inner))?;
            let held = fits(tree, ByteSize(record.size_bytes))?;
            let _room = inner.claim_copy(counted(held.0, held.1))?;
            let allowed = inner.usage.allow(counted(held.0, held.1));
            allowed.map_err(|_| StoreError::from_io("roll back", 0, Errno::IO.into()))?;
            let (number, copy, ..) = inner.add_tree(&mut record, tree, false)?;
            (number, copy, held)
        };
        let old = record.living;
        inner.replace(&mut record, |record| {
            (record.living, record.living_came) = (number, came);
        })?;
        {
            let mut trees = alone(&inner.trees);
            inner.ids.living_came.store(came, Ordering::Relaxed);
            trees.insert(LIVING, copy.living(inner.pool.driver));
            inner.pool.cache.purge(inner.number, Some(LIVING));
            inner.holds.clear();
            inner.usage.reset(files, blocks);
            // What was written and not committed is gone.
            inner.verifier.fetch_add(1, Ordering::Relaxed);
        }
        inner.drop_tree(old)
    }
}

fn missing(volume: &Inner) -> StoreError {
    StoreError::missing(format!("file volume {}", volume.id))
}

/// What a tree holds, when a volume of this size can hold it.
fn fits(tree: &Tree, size: ByteSize) -> Result<(u64, u64), StoreError> {
    let (files, blocks) = walk::count(&tree.root).map_err(|errno| failed("count a tree", errno))?;
    let held = ByteSize(counted(files, blocks));
    if held.0 > size.0 {
        let why =
            format!("the snapshot holds {held}, the volume's size is {size}: it must be larger");
        return Err(StoreError::refused(why));
    }
    Ok((files, blocks))
}

impl Inner {
    /// Changes the record on disk, then in memory.
    fn replace(
        &self,
        record: &mut MutexGuard<'_, VolumeRecord>,
        change: impl FnOnce(&mut VolumeRecord),
    ) -> Result<(), StoreError> {
        let mut new = record.clone();
        change(&mut new);
        self.pool.room.write(self.home.as_fd(), &new)?;
        **record = new;
        Ok(())
    }

    /// Room for a copy of a tree that holds so much, where a copy takes any: refused with numbers
    /// before it is begun.
    fn claim_copy(&self, bytes: u64) -> Result<Claim<'_>, StoreError> {
        let room = &self.pool.room;
        if self.pool.method() != CopyMethod::Bytes {
            return room.space.claim(0);
        }
        let left = room.left().map_err(|errno| failed("ask for space", errno))?;
        if bytes > left {
            return Err(StoreError::NoSpace { needed: ByteSize(bytes), free: ByteSize(left) });
        }
        room.space.claim(bytes)
    }

    fn trees_home(&self) -> Result<OwnedFd, StoreError> {
        open_ours(&self.home, TREES).map_err(|errno| failed("open the trees", errno))
    }

    /// A durable copy of a tree under a number that none had, not yet in the record.
    fn add_tree(
        &self,
        record: &mut MutexGuard<'_, VolumeRecord>,
        source: &Tree,
        read_only: bool,
    ) -> Result<(u32, Tree, CopyMethod, u64), StoreError> {
        let number = record.next_tree;
        let why = "the volume has had as many snapshots and roll backs as it can have";
        let next = number.checked_add(1).filter(|next| *next <= NEXT_TREE_MAX);
        record.next_tree = next.ok_or_else(|| StoreError::refused(why))?;
        let trees = self.trees_home()?;
        let copied = self.pool.copy_tree(source, &trees, number, read_only);
        let (tree, method, bytes) = copied.map_err(|errno| {
            // What there is of it counts for nothing, and takes room.
            let removed = self.pool.remove_tree(&trees, &name(number));
            if removed.is_ok() {
                let _ = self.pool.sweep();
            }
            failed("copy the tree", errno)
        })?;
        Ok((number, tree, method, bytes))
    }

    /// For another volume of the pool.
    pub(super) fn copy_snapshot(
        &self,
        snapshot: SnapshotId,
        to: &OwnedFd,
        tree: u32,
        size: ByteSize,
    ) -> Result<CountRecord, StoreError> {
        // Nobody deletes it meanwhile.
        let record = locked(&self.record);
        let source = record.snapshots.iter().find(|known| known.id == snapshot);
        let source = source.ok_or_else(|| StoreError::missing(format!("snapshot {snapshot}")))?;
        let trees = shared(&self.trees);
        let source = trees.get(&source.tree).ok_or_else(|| missing(self))?;
        let (files, blocks) = fits(source, size)?;
        let _room = self.claim_copy(counted(files, blocks))?;
        let copied = self.pool.copy_tree(source, to, tree, false);
        let (_, method, _) = copied.map_err(|e| failed("copy the tree", e))?;
        // What is copied file by file may lie in other blocks.
        let exact = method == CopyMethod::Subvolume;
        let bytes = if exact { counted(files, blocks) } else { size.0 };
        Ok(CountRecord { exact, carried: 0, files, bytes })
    }

    fn drop_tree(&self, tree: u32) -> Result<(), StoreError> {
        let removed = self.pool.remove_tree(&self.trees_home()?, &name(tree));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove a tree", errno)),
        }
    }
}
