//! Ids of files: the kernel's inode, and proof that this volume gave the id.
//!
//! All volumes of a pool lie in one file system, where any inode could be opened by its number. So
//! the upper half of an id's generation is a keyed hash over the rest, with a key of the volume's
//! own: an id that another volume gave, or that somebody guessed, is refused before the kernel is
//! asked. It costs no lookup, no attribute on every file, and survives renames and restarts; the
//! ancestry of an inode that is no directory could not be checked at all.
//!
//! The hash also covers a `salt` of the tree: where a roll back copies files, the old ones are there
//! until they are swept, and their ids must not open them.
//!
//! A volume that has moved has files that were made elsewhere, which keep the ids that they had
//! there ([`super::carried`]). Roots keep theirs by a key of their own, which is good for them
//! alone: it goes along, and others may know it. The key of all others never leaves the pool, since
//! whoever has it could name any inode of the file system. So that no two files have the same inode
//! number to clients, and no id of elsewhere is taken for one of here, a number of here has the
//! count of the volume's moves in its upper bits: no file system that is in use has numbers that
//! large (2^48 inodes of 512 bytes are 128 PiB).

use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, Ordering};

use env::posix::handle::{Form, Inode};
use model::file::{FileError, FileId, FileResult};
use siphasher::sip::SipHasher24;

use super::carried::{Place, Table};
use crate::error::StoreError;

/// The living tree.
pub(super) const LIVING: u32 = 0;
/// The directory of snapshots, which no file system holds.
const SNAPSHOTS_TREE: u32 = u32::MAX;
const SNAPSHOTS_INODE: u64 = 2;
/// Of what no tree's number has reached: the directory of snapshots is no tree.
pub(super) const NEXT_TREE_MAX: u32 = SNAPSHOTS_TREE - 1;
/// The root of every tree, whatever its inode is: so the root outlives a roll back. No file
/// system that we know uses this number for a file below its own root.
const ROOT_INODE: u64 = 1;

/// Where the count of moves begins in an inode's number.
const MOVES_SHIFT: u32 = 48;
/// Of what a volume can hold that moves.
pub(super) const NUMBER_MAX: u64 = (1 << MOVES_SHIFT) - 1;

/// The secret of one volume's ids.
#[derive(Clone, Copy)]
pub(super) struct IdKey {
    pub(super) key: [u8; 16],
    /// For the roots of trees, and the directory of snapshots.
    pub(super) root_key: [u8; 16],
    /// How often the volume has moved.
    pub(super) moves: u16,
}

/// What an id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// The root of its tree.
    Root,
    Inode(Place),
    /// The directory of snapshots.
    Snapshots,
}

fn id(key: &[u8; 16], tree: u32, salt: u32, inode: u64, generation: u32) -> FileId {
    let mut hash = SipHasher24::new_with_key(key);
    hash.write(&tree.to_be_bytes());
    hash.write(&salt.to_be_bytes());
    hash.write(&inode.to_be_bytes());
    hash.write(&generation.to_be_bytes());
    let tag = hash.finish() & (u64::from(u32::MAX) << 32);
    FileId { tree, inode, generation: tag | u64::from(generation) }
}

impl IdKey {
    fn id(&self, tree: u32, salt: u32, inode: u64, generation: u32) -> FileId {
        id(&self.key, tree, salt, inode, generation)
    }
    pub(super) fn root(&self, tree: u32) -> FileId {
        id(&self.root_key, tree, 0, ROOT_INODE, 0)
    }
    /// Whether it is the root of its tree. A hash is a part of a quick call: of others it is not
    /// computed.
    pub(super) fn is_root(&self, file: FileId) -> bool {
        file.inode == ROOT_INODE && file == self.root(file.tree)
    }
    pub(super) fn snapshots(&self) -> FileId {
        id(&self.root_key, SNAPSHOTS_TREE, 0, SNAPSHOTS_INODE, 0)
    }
    /// The id of an inode in a tree whose root is this one.
    pub(super) fn of(&self, tree: u32, salt: u32, root: &Inode, inode: &Inode) -> FileId {
        if inode == root {
            return self.root(tree);
        }
        self.id(tree, salt, self.shown(inode.number), inode.generation)
    }
    /// The number that clients see of an inode that was made here; and back.
    pub(super) fn shown(&self, number: u64) -> u64 {
        number ^ u64::from(self.moves) << MOVES_SHIFT
    }
    /// Whether an id may have been given where the volume was before.
    pub(super) fn is_of_before(&self, file: FileId) -> bool {
        file.inode >> MOVES_SHIFT < self.moves.into()
    }
    /// The inode of an id that was given here, whoever says so.
    pub(super) fn place(&self, file: FileId) -> FileResult<Place> {
        let low = file.generation & u64::from(u32::MAX);
        let generation = u32::try_from(low).map_err(|_| FileError::Stale)?;
        Ok(Place { number: self.shown(file.inode), generation })
    }
    /// # Errors
    /// `Stale` when this volume did not give the id, for a tree of this salt.
    pub(super) fn named(&self, file: FileId, salt: u32) -> FileResult<Named> {
        if self.is_root(file) {
            return Ok(Named::Root);
        }
        if file.tree == SNAPSHOTS_TREE && file == self.snapshots() {
            return Ok(Named::Snapshots);
        }
        let place = self.place(file)?;
        if self.id(file.tree, salt, file.inode, place.generation) != file {
            return Err(FileError::Stale);
        }
        Ok(Named::Inode(place))
    }
}

/// All ids of a volume: those that are given here, and those that its files brought along.
pub(super) struct Ids {
    pub(super) key: IdKey,
    /// Of a volume that has moved.
    pub(super) carried: Option<Table>,
    /// Whether the living tree is the one that came here, or on btrfs a copy of it.
    pub(super) living_came: AtomicBool,
}

impl Ids {
    /// Whether files of a tree may have ids that they brought along, of which no inode tells.
    pub(super) fn are_carried(&self, tree: u32) -> bool {
        self.table(tree).is_some()
    }
    fn table(&self, tree: u32) -> Option<&Table> {
        let came = tree != LIVING || self.living_came.load(Ordering::Relaxed);
        self.carried.as_ref().filter(|_| came)
    }
    /// The id of an inode in a tree whose root is this one.
    ///
    /// # Errors
    /// `Io`: another id would be that of another file.
    pub(super) fn of(
        &self,
        tree: u32,
        salt: u32,
        root: &Inode,
        inode: &Inode,
    ) -> FileResult<FileId> {
        if let Some(table) = self.table(tree).filter(|_| inode != root) {
            let place = Place { number: inode.number, generation: inode.generation };
            if let Some(id) = table.id(tree, place).map_err(unreadable)? {
                return Ok(id);
            }
        }
        Ok(self.key.of(tree, salt, root, inode))
    }
    /// # Errors
    /// `Stale` when this volume did not give the id, for a tree of this salt; `Io`.
    pub(super) fn named(&self, file: FileId, salt: u32) -> FileResult<Named> {
        if !self.key.is_of_before(file) || self.is_root(file) || self.is_snapshots(file) {
            return self.key.named(file, salt);
        }
        let table = self.table(file.tree).ok_or(FileError::Stale)?;
        let place = table.place(file).map_err(unreadable)?;
        place.map(Named::Inode).ok_or(FileError::Stale)
    }
    pub(super) fn root(&self, tree: u32) -> FileId {
        self.key.root(tree)
    }
    pub(super) fn is_root(&self, file: FileId) -> bool {
        self.key.is_root(file)
    }
    pub(super) fn snapshots(&self) -> FileId {
        self.key.snapshots()
    }
    pub(super) fn is_snapshots(&self, file: FileId) -> bool {
        file.tree == SNAPSHOTS_TREE && file == self.snapshots()
    }
}

/// Nobody is told that a file is gone because the table cannot be read.
fn unreadable(error: StoreError) -> FileError {
    tracing::error!(%error, "ids of files cannot be looked up");
    FileError::Io
}

/// The inode of an id in the subvolume of its tree.
pub(super) fn inode(root: &Inode, place: Place) -> Inode {
    let (Inode { form, subvolume, .. }, Place { number, generation }) = (*root, place);
    let subvolume = if form == Form::Btrfs { subvolume } else { 0 };
    Inode { form, number, generation, subvolume }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_for_the_volume_that_gave_it_and_as_it_was_given() {
        let key = |byte, moves| IdKey { key: [byte; 16], root_key: [byte; 16], moves };
        let (ours, other) = (key(1, 0), key(2, 0));
        let root = Inode { form: Form::Inode32, number: 77, generation: 5, subvolume: 0 };
        let file = Inode { number: 78, generation: 9, ..root };
        let id = ours.of(0, 6, &root, &file);
        assert_eq!(ours.named(id, 6), Ok(Named::Inode(Place { number: 78, generation: 9 })));
        assert_eq!(ours.named(ours.of(3, 6, &root, &root), 7), Ok(Named::Root));
        assert_eq!(ours.named(ours.snapshots(), 7), Ok(Named::Snapshots));
        assert_eq!(other.named(id, 6), Err(FileError::Stale));
        assert_eq!(ours.named(id, 7), Err(FileError::Stale));
        for wrong in [
            FileId { tree: 1, ..id },
            FileId { inode: 79, ..id },
            FileId { generation: id.generation ^ 1, ..id },
            FileId { generation: id.generation ^ 1 << 40, ..id },
        ] {
            assert_eq!(ours.named(wrong, 6), Err(FileError::Stale));
        }
    }

    #[test]
    fn an_id_tells_how_often_the_volume_had_moved_and_roots_stay() {
        let key = |moves| IdKey { key: [1; 16], root_key: [2; 16], moves };
        let root = Inode { form: Form::Inode32, number: 77, generation: 5, subvolume: 0 };
        let file = Inode { number: 78, generation: 9, ..root };
        let ids = [0, 1, 2, u16::MAX].map(|moves| key(moves).of(0, 6, &root, &file));
        for (at, moves) in [0, 1, 2, u16::MAX].into_iter().enumerate() {
            let named = Named::Inode(Place { number: 78, generation: 9 });
            assert_eq!(key(moves).named(ids[at], 6), Ok(named));
            assert!(!key(moves).is_of_before(ids[at]));
            assert!(ids[..at].iter().all(|id| key(moves).is_of_before(*id)));
            assert!(ids[..at].iter().all(|id| id.inode != ids[at].inode));
            assert_eq!(key(moves).root(3), key(0).root(3));
        }
    }

    #[test]
    fn the_key_of_roots_gave_ids_of_any_inode() {
        let root_key = [2; 16];
        let ours = IdKey { key: [1; 16], root_key, moves: 1 };
        for (tree, inode) in [(0, 2 ^ 1 << 48), (0, 78 ^ 1 << 48), (SNAPSHOTS_TREE, 78 ^ 1 << 48)] {
            let forged = id(&root_key, tree, 6, inode, 0);
            assert_eq!(ours.named(forged, 6), Err(FileError::Stale));
        }
        assert_eq!(ours.named(id(&root_key, 5, 0, ROOT_INODE, 0), 6), Ok(Named::Root));
    }
}
