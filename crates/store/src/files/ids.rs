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

use std::hash::Hasher;

use env::posix::handle::{Form, Inode};
use model::file::{FileError, FileId, FileResult};
use siphasher::sip::SipHasher24;

/// The living tree.
pub(super) const LIVING: u32 = 0;
/// The directory of snapshots, which no file system holds.
const SNAPSHOTS_TREE: u32 = u32::MAX;
const SNAPSHOTS_INODE: u64 = 2;
/// The root of every tree, whatever its inode is: so the root outlives a roll back. No file
/// system that we know uses this number for a file below its own root.
const ROOT_INODE: u64 = 1;

/// The secret of one volume's ids.
#[derive(Clone, Copy)]
pub(super) struct IdKey(pub(super) [u8; 16]);

/// What an id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// The root of its tree.
    Root,
    Inode {
        number: u64,
        generation: u32,
    },
    /// The directory of snapshots.
    Snapshots,
}

impl IdKey {
    fn id(&self, tree: u32, salt: u32, inode: u64, generation: u32) -> FileId {
        let mut hash = SipHasher24::new_with_key(&self.0);
        hash.write(&tree.to_be_bytes());
        hash.write(&salt.to_be_bytes());
        hash.write(&inode.to_be_bytes());
        hash.write(&generation.to_be_bytes());
        let tag = hash.finish() & (u64::from(u32::MAX) << 32);
        FileId { tree, inode, generation: tag | u64::from(generation) }
    }
    pub(super) fn root(&self, tree: u32) -> FileId {
        self.id(tree, 0, ROOT_INODE, 0)
    }
    /// Whether it is the root of its tree. A hash is a part of a quick call: of others it is not
    /// computed.
    pub(super) fn is_root(&self, file: FileId) -> bool {
        file.inode == ROOT_INODE && file == self.root(file.tree)
    }
    pub(super) fn snapshots(&self) -> FileId {
        self.id(SNAPSHOTS_TREE, 0, SNAPSHOTS_INODE, 0)
    }
    /// The id of an inode in a tree whose root is this one.
    pub(super) fn of(&self, tree: u32, salt: u32, root: &Inode, inode: &Inode) -> FileId {
        if inode == root {
            return self.root(tree);
        }
        self.id(tree, salt, inode.number, inode.generation)
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
        let low = file.generation & u64::from(u32::MAX);
        let generation = u32::try_from(low).map_err(|_| FileError::Stale)?;
        if self.id(file.tree, salt, file.inode, generation) != file {
            return Err(FileError::Stale);
        }
        Ok(Named::Inode { number: file.inode, generation })
    }
}

/// The inode of an id in the subvolume of its tree.
pub(super) fn inode(root: &Inode, number: u64, generation: u32) -> Inode {
    let Inode { form, subvolume, .. } = *root;
    let subvolume = if form == Form::Btrfs { subvolume } else { 0 };
    Inode { form, number, generation, subvolume }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_for_the_volume_that_gave_it_and_as_it_was_given() {
        let (ours, other) = (IdKey([1; 16]), IdKey([2; 16]));
        let root = Inode { form: Form::Inode32, number: 77, generation: 5, subvolume: 0 };
        let file = Inode { number: 78, generation: 9, ..root };
        let id = ours.of(0, 6, &root, &file);
        assert_eq!(ours.named(id, 6), Ok(Named::Inode { number: 78, generation: 9 }));
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
}
