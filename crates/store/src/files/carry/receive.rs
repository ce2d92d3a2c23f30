//! From the stream to a volume.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use env::posix::btrfs;
use model::file::{Caller, FileId, FileStore, SetAttributes, SetTime};
use model::id::VolumeId;
use model::pool::Driver;
use rustix::fs::{XattrFlags, fsetxattr, fsync};
use rustix::io::Errno;

use super::note::Note;
use super::send::{all, carried, failed};
use super::stream::{Digested, End, Manifest, Snapshot, Unframed, WHAT, broken, get};
use crate::archive::{self, ArchiveError, Figures};
use crate::error::StoreError;
use crate::files::carried::Builder;
use crate::files::ids::NUMBER_MAX;
use crate::files::names::VERIFIER;
use crate::files::pool::{TREES, made_or_there, open_volume};
use crate::files::record::{self, CountRecord, SnapshotRecord, VolumeRecord};
use crate::files::usage::Usage;
use crate::files::volume::in_bulk;
use crate::files::{Carried, FilePool, FileVolume};

const ROOT: Caller = Caller { uid: 0, gid: 0, gids: Vec::new() };
/// What a tree may take while it is filled: it may lie in more blocks here than it did, and the
/// pool has a limit of its own.
const NO_LIMIT: u64 = u64::MAX >> 1;

/// A volume that is being received.
struct Receiving<'a> {
    pool: &'a FilePool,
    home: &'a OwnedFd,
    manifest: Manifest,
    record: VolumeRecord,
    table: Builder,
    figures: Figures,
    /// What its trees use together.
    used_bytes: &'a Cell<u64>,
    /// The earliest time of change here, in nanoseconds since 1970.
    earliest: u64,
}

impl FilePool {
    /// Makes a volume of what [`FileVolume::carry`] has written. It has its place, and counts, when
    /// all of it is there, is what was sent, and is durable; what breaks off leaves nothing. The
    /// handles that clients hold are good for it, and its secret is the volume's own from then on.
    ///
    /// # Errors
    /// `Refused` when the pool has such a volume already, or what something of it cannot be here;
    /// `Corrupt`, `Format` and `Io` of the stream; `NoSpace`, `Io`.
    pub fn receive(&self, volume: VolumeId, from: impl Read) -> Result<Carried, StoreError> {
        self.receive_durable(volume, from, |volumes| fsync(volumes))
    }

    /// The same, with what makes its place durable.
    pub(super) fn receive_durable(
        &self,
        volume: VolumeId,
        from: impl Read,
        durable: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Carried, StoreError> {
        match self.volume(volume) {
            Err(StoreError::Missing { .. }) => {}
            Ok(_) => {
                let why = "the pool has this volume already; delete it there first";
                return Err(StoreError::refused(why));
            }
            Err(error) => return Err(error),
        }
        let mut from = Digested::new(from);
        let manifest: Manifest = get(&mut from)?;
        if manifest.volume != volume {
            let why = format!("the stream is of volume {}", manifest.volume);
            return Err(StoreError::refused(why));
        }
        let used_bytes = Cell::new(0);
        let fill = |home: &OwnedFd| {
            let mut receiving = Receiving::new(self, (home, &used_bytes), manifest)?;
            receiving.all(&mut from)?;
            let Receiving { table, manifest, figures, .. } = receiving;
            table.finish(home)?;
            Ok(carried(&manifest, figures))
        };
        let made = self.make_durable(volume, fill, durable);
        if made.is_err() {
            self.shared.room.space.release(used_bytes.get());
        }
        made
    }
}

impl<'a> Receiving<'a> {
    fn new(
        pool: &'a FilePool,
        (home, used_bytes): (&'a OwnedFd, &'a Cell<u64>),
        manifest: Manifest,
    ) -> Result<Self, StoreError> {
        // Not the key that ids were given with there: who had the stream could name any inode here.
        let mut key = [0; 16];
        pool.random.fill(&mut key);
        let record = VolumeRecord {
            size_bytes: NO_LIMIT,
            relaxed: manifest.relaxed,
            key,
            root_key: manifest.root_key,
            living: manifest.living,
            next_tree: manifest.next_tree,
            snapshots: Vec::new(),
            secret: Some(manifest.secret),
            moves: manifest.moves.saturating_add(1),
            living_came: false,
            later_nanos: 0,
        };
        let (table, figures) = (Builder::new(home)?, Figures::default());
        let earliest = u64::MAX;
        Ok(Self { pool, home, manifest, record, table, figures, used_bytes, earliest })
    }

    fn all(&mut self, from: &mut Digested<impl Read>) -> Result<(), StoreError> {
        self.fits()?;
        let trees = made_or_there(self.home, TREES)
            .map_err(|errno| record::failed("receive a volume", errno))?;
        for snapshot in self.manifest.snapshots.clone() {
            let Snapshot { id, tree, name } = snapshot;
            let count = self.tree(&trees, tree, from)?;
            let (copied_bytes, of_came) = (count.bytes, false);
            self.record.snapshots.push(SnapshotRecord { id, name, tree, copied_bytes, of_came });
        }
        let count = self.tree(&trees, self.manifest.living, from)?;
        let digest = from.digest();
        let end: End = get(&mut from.stream)?;
        let Figures { entries, bytes, .. } = all(self.figures)?;
        if (entries, bytes, digest) != (end.entries, end.bytes, end.digest) {
            let why = format!(
                "{entries} entries with {bytes} bytes came, of {} with {}, or they are others",
                end.entries, end.bytes
            );
            return Err(StoreError::corrupt(WHAT, why));
        }
        // What is behind the end is read, too: whoever packs the stream has his checksum there.
        if io::copy(&mut from.stream, &mut io::sink()).map_err(broken)? > 0 {
            return Err(StoreError::corrupt(WHAT, "something follows its end"));
        }
        self.record.size_bytes = self.manifest.size_bytes;
        self.record.living_came = true;
        // Each file was changed here, which is to be later than all changes there.
        self.record.later_nanos = end.change.saturating_add(1).saturating_sub(self.earliest);
        record::place(self.home.as_fd(), &self.record)?;
        record::place(self.home.as_fd(), &count)
    }

    /// Whether there can be a record of it: known before its trees come.
    fn fits(&self) -> Result<(), StoreError> {
        let snapshot = |Snapshot { id, tree, name }: Snapshot| {
            let (copied_bytes, of_came) = (0, false);
            SnapshotRecord { id, name, tree, copied_bytes, of_came }
        };
        let snapshots = self.manifest.snapshots.iter().cloned().map(snapshot).collect();
        let all = VolumeRecord { snapshots, ..self.record.clone() };
        record::encode_checked(&all).map(|_| ())
    }

    /// Makes the tree that comes next, and says what it counts.
    fn tree(
        &mut self,
        trees: &OwnedFd,
        tree: u32,
        from: &mut impl Read,
    ) -> Result<CountRecord, StoreError> {
        let shared = &self.pool.shared;
        let empty = shared.empty_tree(trees, tree)?;
        shared.room.space.add(empty.bytes);
        let before = self.used_bytes.get();
        self.used_bytes.set(before + empty.bytes);
        record::place(self.home.as_fd(), &empty)?;
        let volume = self.opened(tree)?;
        let filled = self.fill(&volume, tree, from);
        let (files, bytes) = (volume.0.usage.files(), volume.0.usage.used());
        volume.0.end();
        self.used_bytes.set(before + bytes);
        filled?;
        if shared.driver == Driver::Btrfs {
            // Inodes of each tree begin with the same number, and their generation is the number
            // of the file system's commit: none of the next tree has one of this tree's.
            btrfs::sync(trees.as_fd()).map_err(broken)?;
        }
        Ok(CountRecord { exact: true, carried: 0, files, bytes })
    }

    /// The tree as the living one of a volume that nobody else sees.
    fn opened(&self, tree: u32) -> Result<FileVolume, StoreError> {
        let home = || self.home.try_clone().map_err(broken);
        let shared = Arc::clone(&self.pool.shared);
        let record = VolumeRecord { living: tree, ..self.record.clone() };
        let room = Arc::clone(&shared.room);
        let usage = Usage::open(home()?, room, WHAT, record.size_bytes)?;
        let opened = (self.manifest.volume, self.pool.fresh_number());
        let opened = open_volume(shared, opened, home()?, (record, None), usage)
            .map_err(|errno| record::failed("receive a volume", errno))?;
        opened.0.is_seen.store(false, Ordering::Relaxed);
        Ok(opened)
    }

    fn fill(
        &mut self,
        volume: &FileVolume,
        tree: u32,
        from: &mut impl Read,
    ) -> Result<(), StoreError> {
        let tree_id = if tree == self.manifest.living { 0 } else { tree };
        let (table, earliest) = (&mut self.table, &mut self.earliest);
        let mut take = |file: FileId, note: Option<&[u8]>| {
            let note = note.and_then(Note::decode).filter(|note| note.id.tree == tree_id);
            let changed = noted(volume, file, note, table).map_err(ArchiveError::Stream)?;
            *earliest = changed.min(*earliest);
            Ok(())
        };
        let mut archive = Unframed::begin(tree, from)?;
        let read = in_bulk(|| archive::read_noted(volume, &mut archive, &mut take));
        let figures = read.map_err(failed)?;
        io::copy(&mut archive, &mut io::sink()).map_err(broken)?;
        self.figures.entries += figures.entries;
        self.figures.bytes += figures.bytes;
        self.figures.skipped += figures.skipped;
        Ok(())
    }
}

/// A file was made: its id of before leads to it, and it gets what only the note says. Answers when
/// it was changed.
fn noted(
    volume: &FileVolume,
    file: FileId,
    note: Option<Note>,
    table: &mut Builder,
) -> io::Result<u64> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let (key, is_root) = (volume.0.ids.key, volume.0.ids.is_root(file));
    let is_known = |note: &Note| {
        if is_root { note.id == key.root(note.id.tree) } else { key.is_of_before(note.id) }
    };
    let note = note.filter(is_known).ok_or_else(|| bad("a file has no id that it can have had"))?;
    let Note { id, accessed, verifier } = note;
    if let Some(verifier) = verifier {
        let open = volume.0.reading().and_then(|op| op.file(file)).map_err(io::Error::other)?;
        fsetxattr(&open.fd, VERIFIER, &verifier, XattrFlags::empty())?;
    }
    let set = SetAttributes { accessed: Some(SetTime::To(accessed)), ..Default::default() };
    let set = volume.set_attributes(&ROOT, file, &set, None).map_err(io::Error::other)?;
    // The root has no inode in its id, and keeps it.
    if !is_root {
        let place = key.place(file).map_err(io::Error::other)?;
        if place.number > NUMBER_MAX {
            return Err(bad("this file system has inode numbers above 2^48: nothing moves to it"));
        }
        table.add(id, place)?;
    }
    Ok(set.after.change)
}
