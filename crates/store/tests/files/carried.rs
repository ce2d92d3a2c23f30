//! A volume that moves to another pool keeps its files' ids: what clients hold of them stays good.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{Read, Write};

use model::file::{
    Access, Acl, AclEntry, AclKind, AclWho, AttributeIs, Attributes, Caller, Creation, FileError,
    FileId, FileKind, FileStore, New, Removal, SetAttributes, SetTime, Time,
};
use model::id::{SnapshotId, VolumeId};
use model::size::ByteSize;
use siphasher::sip::SipHasher24;
use store::StoreError;
use store::files::FileVolume;
use uuid::Uuid;

use crate::archive::plant;
use crate::homes::{Home, MIB, create, make_directory, mode, names, text, user, volume_id, write};

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0, gids: Vec::new() };
const NODE_SECRET: [u8; 32] = [9; 32];

pub(crate) fn snapshot_id(number: u8) -> SnapshotId {
    SnapshotId(Uuid::from_bytes([number; 16]))
}

pub(crate) fn stream(volume: &FileVolume) -> Vec<u8> {
    volume.carry(&NODE_SECRET, Vec::new()).unwrap().1
}

/// The volume in the other pool, where the first is gone as it is after a move.
pub(crate) fn moved(volume: &FileVolume, from: &Home, to: &Home) -> FileVolume {
    let (sent, bytes) = volume.carry(&NODE_SECRET, Vec::new()).unwrap();
    let received = to.pool().receive(volume.id(), &bytes[..]).unwrap();
    assert_eq!(received, sent);
    from.pool().delete_volume(volume.id()).unwrap();
    to.pool().volume(volume.id()).unwrap()
}

/// Pairs of homes on all file systems that there are.
pub(crate) fn ways() -> Vec<(Home, Home)> {
    let all = [Home::dir, Home::btrfs, Home::xfs];
    let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (from, to)));
    let pairs: Vec<_> = pairs.filter_map(|(from, to)| Some((from()?, to()?))).collect();
    assert!(!pairs.is_empty() || !rustix::process::geteuid().is_root(), "nothing is tested");
    pairs
}

/// All files below a directory, by path: what a client could hold of each.
fn held(tree: &FileVolume, within: FileId, path: &str, all: &mut BTreeMap<String, Attributes>) {
    all.insert(path.to_owned(), tree.attributes(within).unwrap());
    let mut after = 0;
    loop {
        let listing = tree.read_directory(&ROOT, within, after, 100, true).unwrap();
        for entry in &listing.entries {
            let path = format!("{path}/{}", entry.name.escape_ascii());
            let found = entry.attributes.clone().unwrap();
            assert_eq!(found.file, entry.file);
            assert_eq!(tree.lookup(&ROOT, within, &entry.name).unwrap().file, entry.file);
            if found.kind == FileKind::Directory {
                held(tree, entry.file, &path, all);
                assert_eq!(tree.parent(&ROOT, entry.file), Ok(within));
            } else {
                all.insert(path, found);
            }
            after = entry.cookie;
        }
        if listing.end {
            return;
        }
    }
}

pub(crate) fn all_of(tree: &FileVolume, top: FileId) -> BTreeMap<String, Attributes> {
    let mut all = BTreeMap::new();
    held(tree, top, "", &mut all);
    all
}

/// What is to be the same; the change and its time are to be later.
fn same(before: &Attributes, after: &Attributes, path: &str) {
    let is_link = before.kind == FileKind::Symlink;
    let is_directory = before.kind == FileKind::Directory;
    let kept = |of: &Attributes| Attributes {
        used_bytes: 0,
        changed: Time::default(),
        change: 0,
        // A directory's length is the file system's, and so are links of directories on btrfs.
        size_bytes: if is_directory { 0 } else { of.size_bytes },
        // Whoever looks changes it.
        accessed: Time::default(),
        links: if is_directory { 0 } else { of.links },
        mode: if is_link { 0 } else { of.mode },
        ..of.clone()
    };
    assert_eq!(kept(before), kept(after), "{path}");
    assert!(after.change > before.change, "{path}");
    assert!(after.changed > before.changed, "{path}");
}

/// Everything that an archive has, and what only a move has.
fn plant_all(tree: &FileVolume) {
    plant(tree);
    let top = tree.root();
    let special = |name: &[u8], kind| {
        tree.make(&ROOT, top, name, &New::Special(kind), &mode(0o640)).unwrap().attributes.file
    };
    special(b"socket", FileKind::Socket);
    special(b"block", FileKind::BlockDevice(7, 300));
    let pipe = special(b"pipe \xfe", FileKind::Fifo);
    tree.link(&ROOT, pipe, top, b"same pipe").unwrap();
    let named = create(tree, &ROOT, top, "odd attributes").attributes.file;
    for name in [&b"\xff\xfe"[..], b"a\nb", b"plain"] {
        tree.set_xattr(&ROOT, named, (name, b"value"), AttributeIs::New).unwrap();
    }
    let accessed = SetTime::To(Time { seconds: 77, nanos: 5 });
    let set = SetAttributes { accessed: Some(accessed), ..SetAttributes::default() };
    tree.set_attributes(&ROOT, named, &set, None).unwrap();
    let entry = |who, may| AclEntry { who, may };
    let acl = Acl(vec![
        entry(AclWho::Owner, 6),
        entry(AclWho::User(33), 4),
        entry(AclWho::OwningGroup, 4),
        entry(AclWho::Mask, 4),
        entry(AclWho::Others, 0),
    ]);
    tree.set_acl(&ROOT, named, AclKind::Access, Some(&acl)).unwrap();
    let how = Creation::Exclusive(*b"verifier", SetAttributes::default());
    tree.create(&ROOT, top, b"exclusive", &how).unwrap();
}

#[test]
fn every_id_stays_good_on_every_file_system_and_changes_are_later() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        plant_all(&volume);
        // Ids of other volumes lie in the same file system, in both.
        let (beside, other) = (from.volume(2, 64 * MIB), to.volume(3, 64 * MIB));
        plant(&beside);
        plant(&other);
        let top = volume.root();
        let gone = create(&volume, &ROOT, top, "gone before").attributes.file;
        volume.remove(&ROOT, top, b"gone before", Removal::File).unwrap();
        volume.create_snapshot(snapshot_id(1), Some("one")).unwrap();
        let snapshots = volume.lookup(&ROOT, top, b".snapshots").unwrap().file;
        let snapshot = volume.lookup(&ROOT, snapshots, b"one").unwrap().file.tree;
        let before = all_of(&volume, top);
        let (used, secret) = (volume.usage().unwrap(), volume.handle_secret());
        let volume = moved(&volume, &from, &to);
        assert_eq!(volume.root(), top);
        assert_eq!(volume.handle_secret(), secret);
        let after = all_of(&volume, top);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        for (path, was) in &before {
            // By the id that was held, by name and in a listing.
            same(was, &volume.attributes(was.file).unwrap(), path);
            same(was, &after[path], path);
            if was.kind == FileKind::Directory {
                let read = volume.read_directory(&ROOT, was.file, 0, 10, false);
                assert!(read.is_ok(), "{path}");
            }
            for guessed in [
                FileId { tree: snapshot, ..was.file },
                FileId { inode: was.file.inode ^ 1 << 30, ..was.file },
                FileId { generation: was.file.generation ^ 1 << 40, ..was.file },
                FileId { generation: was.file.generation ^ 1, ..was.file },
            ] {
                assert_eq!(volume.attributes(guessed), Err(FileError::Stale), "{path}");
            }
        }
        assert_eq!(volume.attributes(gone), Err(FileError::Stale));
        for stranger in
            all_of(&beside, beside.root()).values().chain(all_of(&other, other.root()).values())
        {
            assert_eq!(volume.attributes(stranger.file), Err(FileError::Stale));
        }
        for id in before.values().map(|one| one.file) {
            assert_eq!(other.attributes(id), Err(FileError::Stale));
        }
        // An exclusive creation whose reply was lost finds its own file.
        let how = Creation::Exclusive(*b"verifier", SetAttributes::default());
        let made = volume.create(&ROOT, top, b"exclusive", &how).unwrap();
        assert!(!made.is_new && made.attributes.file == before["/exclusive"].file);
        let odd = before["/odd attributes"].file;
        assert_eq!(volume.attributes(odd).unwrap().accessed, Time { seconds: 77, nanos: 5 });
        assert_eq!(volume.xattrs(&ROOT, odd).unwrap().len(), 3);
        assert!(volume.acl(&ROOT, odd, AclKind::Access).unwrap().is_some());
        let counted = volume.usage().unwrap();
        assert_eq!((counted.size, counted.inodes_used), (used.size, used.inodes_used));
    }
}

#[test]
fn what_is_made_after_a_move_has_ids_of_its_own_and_all_live_on() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        let who = user(1000);
        let directory = make_directory(&volume, &who, volume.root(), "d");
        let kept = create(&volume, &who, directory, "kept").attributes.file;
        write(&volume, &who, kept, 0, b"of before");
        let removed = create(&volume, &who, directory, "removed").attributes.file;
        let held = create(&volume, &who, directory, "held").attributes.file;
        let mut to = to;
        let mut volume = moved(&volume, &from, &to);
        let mut made = Vec::new();
        for n in 0..200 {
            made.push(create(&volume, &who, directory, &format!("new-{n}")).attributes.file);
        }
        volume.remove(&who, directory, b"removed", Removal::File).unwrap();
        // It lives on while it is open, under its own number.
        volume.hold(held).unwrap();
        volume.remove(&who, directory, b"held", Removal::File).unwrap();
        write(&volume, &who, held, 0, b"nameless");
        for again in [false, true] {
            if again {
                drop(volume);
                to.reopen();
                volume = to.pool().volume(volume_id(1)).unwrap();
                volume.await_holders(true);
            }
            assert_eq!(volume.attributes(removed), Err(FileError::Stale));
            assert_eq!(text(&volume, &who, kept), b"of before");
            assert_eq!(text(&volume, &who, held), b"nameless");
            assert_eq!(volume.attributes(held).unwrap().links, 0);
            let mut numbers: Vec<u64> = all_of(&volume, volume.root())
                .values()
                .map(|one| one.file.inode)
                .chain([held.inode])
                .collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "each file has a number of its own");
            assert!(made.iter().all(|id| volume.attributes(*id).is_ok()));
        }
        volume.await_holders(false);
        assert_eq!(volume.attributes(held), Err(FileError::Stale));
        // The count is that of a walk, by the numbers that clients see.
        let before = volume.usage().unwrap();
        drop(volume);
        to.reopen_killed();
        let volume = to.pool().volume(volume_id(1)).unwrap();
        volume.recount().unwrap();
        assert_eq!(volume.usage().unwrap().inodes_used, before.inodes_used);
        volume.rename(&who, (directory, b"kept"), (volume.root(), b"moved")).unwrap();
        volume.link(&who, kept, directory, b"another").unwrap();
        assert_eq!(volume.lookup(&who, directory, b"another").unwrap().file, kept);
        volume.remove(&who, volume.root(), b"moved", Removal::File).unwrap();
        volume.remove(&who, directory, b"another", Removal::File).unwrap();
        assert_eq!(volume.attributes(kept), Err(FileError::Stale));
        assert!(volume.access(&who, directory, Access::ALL).is_ok());
    }
}

#[test]
fn ids_of_two_moves_before_are_good_and_those_between_too() {
    for (first, second) in ways() {
        let Some(third) = Home::dir() else { return };
        let volume = first.volume(1, 64 * MIB);
        plant_all(&volume);
        let oldest = all_of(&volume, volume.root());
        let volume = moved(&volume, &first, &second);
        let late = create(&volume, &ROOT, volume.root(), "late").attributes;
        write(&volume, &ROOT, late.file, 0, b"second place");
        let gone = oldest["/plain"].file;
        // Its time of change is another.
        let oldest = oldest.into_iter().filter(|(path, _)| !["", "/plain"].contains(&&**path));
        let oldest: Vec<_> = oldest.collect();
        volume.remove(&ROOT, volume.root(), b"plain", Removal::File).unwrap();
        let between = all_of(&volume, volume.root());
        let verifier = volume.cookie_verifier();
        let volume = moved(&volume, &second, &third);
        assert_ne!(volume.cookie_verifier(), verifier);
        for (path, was) in &oldest {
            same(was, &volume.attributes(was.file).unwrap(), path);
        }
        for (path, was) in &between {
            same(was, &volume.attributes(was.file).unwrap(), path);
        }
        assert_eq!(text(&volume, &ROOT, late.file), b"second place");
        assert_eq!(volume.attributes(gone), Err(FileError::Stale));
        // And back to where it began, where the first one's inodes may be taken again.
        let volume = moved(&volume, &third, &first);
        for (path, was) in &between {
            same(was, &volume.attributes(was.file).unwrap(), path);
        }
        assert_eq!(volume.attributes(gone), Err(FileError::Stale));
    }
}

#[test]
fn snapshots_go_along_and_are_browsed_by_the_ids_that_they_had() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        let file = create(&volume, &ROOT, volume.root(), "file").attributes.file;
        write(&volume, &ROOT, file, 0, b"first");
        volume.create_snapshot(snapshot_id(1), Some("one")).unwrap();
        write(&volume, &ROOT, file, 0, b"second");
        volume.create_snapshot(snapshot_id(2), Some("two")).unwrap();
        write(&volume, &ROOT, file, 0, b"third!");
        volume.delete_snapshot(snapshot_id(1)).unwrap();
        volume.create_snapshot(snapshot_id(3), Some("three")).unwrap();
        let directory =
            |volume: &FileVolume| volume.lookup(&ROOT, volume.root(), b".snapshots").unwrap().file;
        let all = directory(&volume);
        let before = all_of(&volume, all);
        let mut to = to;
        drop(moved(&volume, &from, &to));
        to.reopen();
        let volume = to.pool().volume(volume_id(1)).unwrap();
        assert_eq!(directory(&volume), all);
        assert_eq!(names(&volume, &ROOT, all), ["three", "two"]);
        for (path, was) in before.iter().filter(|(path, _)| !path.is_empty()) {
            same(was, &volume.attributes(was.file).unwrap(), path);
            assert_eq!(all_of(&volume, all)[path].file, was.file);
        }
        let old = before["/two/file"].file;
        assert_eq!(text(&volume, &ROOT, old), b"second");
        let set = volume.set_attributes(&ROOT, old, &mode(0o600), None);
        assert_eq!(set.unwrap_err(), FileError::ReadOnly);
        let id = |one: &store::files::FileSnapshot| one.id;
        let kept: Vec<_> = volume.snapshots().unwrap().iter().map(id).collect();
        assert_eq!(kept, [snapshot_id(2), snapshot_id(3)]);
        // Rolled back, no id of the tree that was there names a file of the one that is.
        volume.create_snapshot(snapshot_id(4), None).unwrap();
        volume.roll_back(snapshot_id(2)).unwrap();
        assert_eq!(volume.attributes(file), Err(FileError::Stale));
        let now = volume.lookup(&ROOT, volume.root(), b"file").unwrap().file;
        assert_eq!(text(&volume, &ROOT, now), b"second");
        volume.roll_back(snapshot_id(4)).unwrap();
        assert_eq!(
            text(&volume, &ROOT, volume.lookup(&ROOT, volume.root(), b"file").unwrap().file),
            b"third!"
        );
        // Where a roll back keeps ids, it does so for those that came along.
        let is_kept = to.driver == model::pool::Driver::Btrfs;
        assert_eq!(volume.attributes(file).is_ok(), is_kept);
        drop(volume);
        to.reopen();
        let volume = to.pool().volume(volume_id(1)).unwrap();
        assert_eq!(volume.attributes(file).is_ok(), is_kept);
    }
}

#[test]
fn what_is_cut_or_changed_leaves_nothing_and_takes_no_room() {
    for home in Home::all() {
        let Some(from) = Home::dir() else { return };
        let volume = from.volume(1, 64 * MIB);
        plant_all(&volume);
        volume.create_snapshot(snapshot_id(1), None).unwrap();
        let whole = stream(&volume);
        let used = home.pool().usage().unwrap().used;
        let step = whole.len() / 40;
        let changed = |at: usize| {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            changed
        };
        let content = whole.windows(9).position(|some| some == b"some text").unwrap();
        let end = whole.len() - 1;
        let places = (0..whole.len()).step_by(step.max(1));
        let cut = places.clone().map(|at| (whole[..at].to_vec(), "cut"));
        let other = places.map(|at| (changed(at), "changed"));
        // Only the digest tells of content, and a checksum of the records.
        let more = [&whole[..], b"more"].concat();
        let corrupt = [changed(content), changed(30), changed(end), more];
        let corrupt = corrupt.into_iter().map(|bytes| (bytes, "corrupt"));
        for (bytes, how) in cut.chain(other).chain(corrupt) {
            let error = home.pool().receive(volume.id(), &bytes[..]).unwrap_err();
            let is_right = match error {
                StoreError::Io { .. } => how != "corrupt",
                StoreError::Corrupt { .. } => how != "cut",
                // Names and kinds that cannot be; never the lack of anything here.
                StoreError::Refused { .. } | StoreError::Format { .. } => how == "changed",
                _ => false,
            };
            assert!(is_right, "{how}: {error:?}");
            assert_eq!(home.pool().volumes().unwrap(), []);
            assert_eq!(home.pool().usage().unwrap().used, used);
        }
        let making = std::fs::read_dir(home.path().join("making")).unwrap();
        assert_eq!(making.count(), 0);
        // Another one's stream, and one that is there already.
        let other = home.pool().receive(volume_id(9), &whole[..]);
        assert!(matches!(other, Err(StoreError::Refused { .. })));
        home.pool().receive(volume.id(), &whole[..]).unwrap();
        let again = home.pool().receive(volume.id(), &whole[..]);
        assert!(matches!(again, Err(StoreError::Refused { .. })));
    }
}

/// A stream that stops in the middle, where something happens.
struct Stopping<'a, F>(&'a [u8], Option<F>);

impl<F: FnOnce()> Read for Stopping<'_, F> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            if let Some(happens) = self.1.take() {
                happens();
            }
            return Err(std::io::Error::other("the other end is gone"));
        }
        self.0.read(to)
    }
}

#[test]
fn nothing_of_a_volume_that_is_still_coming_is_swept_or_seen() {
    for home in Home::all() {
        let Some(from) = Home::dir() else { return };
        let volume = from.volume(1, 64 * MIB);
        plant_all(&volume);
        let whole = stream(&volume);
        let half = &whole[..whole.len() / 2];
        let look = || {
            // As any deletion does meanwhile.
            home.pool().sweep().unwrap();
            assert_eq!(home.pool().volumes().unwrap(), []);
            assert!(home.pool().volume(volume_id(1)).is_err());
            let making = std::fs::read_dir(home.path().join("making")).unwrap();
            let home = making.into_iter().next().unwrap().unwrap().path();
            assert!(home.join("trees").read_dir().unwrap().count() > 0, "it is still there");
        };
        let broken = home.pool().receive(volume.id(), Stopping(half, Some(look)));
        assert!(matches!(broken, Err(StoreError::Io { .. })), "{broken:?}");
    }
}

#[test]
fn what_a_crash_has_left_of_a_volume_that_came_is_removed() {
    for mut home in Home::all() {
        let (left, name) = (home.path().join("making/00ff/trees/00000001"), "making/00ff");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("file"), b"half").unwrap();
        home.reopen_killed();
        home.pool().sweep().unwrap();
        assert!(!home.path().join(name).exists());
        assert_eq!(std::fs::read_dir(home.path().join("deleted")).unwrap().count(), 0);
        assert_eq!(home.pool().volumes().unwrap(), []);
    }
}

#[test]
fn changes_are_later_though_the_clock_of_the_other_node_is_behind() {
    let (Some(from), Some(to), Some(third)) = (Home::dir(), Home::dir(), Home::dir()) else {
        return;
    };
    let volume = from.volume(1, 64 * MIB);
    let before = create(&volume, &ROOT, volume.root(), "file").attributes;
    // A node whose clock was a day ahead has told clients of changes a day ahead.
    let day = 86_400_000_000_000;
    let mut whole = stream(&volume);
    let end = whole.len() - 76;
    let change = u64::from_be_bytes(whole[end + 36..end + 44].try_into().unwrap());
    assert!(change >= before.change);
    let ahead = change + day;
    whole[end + 36..end + 44].copy_from_slice(&ahead.to_be_bytes());
    whole[end + 16..end + 20].fill(0);
    let crc = crc32c::crc32c(&whole[end..]);
    whole[end + 16..end + 20].copy_from_slice(&crc.to_be_bytes());
    to.pool().receive(volume.id(), &whole[..]).unwrap();
    let volume = to.pool().volume(volume.id()).unwrap();
    let now = volume.attributes(before.file).unwrap();
    assert!(now.change > ahead);
    assert_eq!(now.changed.seconds.cast_unsigned(), now.change / 1_000_000_000);
    // A guard by the time that clients saw holds.
    let set = volume.set_attributes(&ROOT, now.file, &mode(0o600), Some(now.changed)).unwrap();
    assert!(set.before.change == now.change && set.after.change > now.change);
    let volume = moved(&volume, &to, &third);
    assert!(volume.attributes(before.file).unwrap().change > set.after.change);
}

#[test]
fn a_full_volume_moves_though_it_takes_more_room_where_it_goes() {
    for home in Home::all() {
        let Some(from) = Home::dir() else { return };
        let volume = from.volume(1, MIB);
        let file = create(&volume, &ROOT, volume.root(), "file").attributes.file;
        write(&volume, &ROOT, file, 0, &[7; 900 << 10]);
        for n in 0..60 {
            create(&volume, &ROOT, volume.root(), &format!("{n}"));
        }
        volume.resize(ByteSize(volume.usage().unwrap().used.0)).unwrap();
        let size = volume.usage().unwrap().size;
        let volume = moved(&volume, &from, &home);
        assert_eq!(volume.usage().unwrap().size, size);
        assert_eq!(volume.usage().unwrap().inodes_used, 62);
        // The limit is in force again.
        let data = bytes::Bytes::from(vec![1; 1 << 20]);
        let stable = model::file::Stability::File;
        assert!(volume.write(&ROOT, file, 900 << 10, &data, stable).is_err());
    }
}

#[test]
fn a_volume_of_before_secrets_goes_with_that_of_its_node() {
    let (Some(from), Some(to)) = (Home::dir(), Home::dir()) else { return };
    let volume = from.volume(1, 64 * MIB);
    assert!(volume.handle_secret().is_some());
    let file = create(&volume, &ROOT, volume.root(), "file").attributes.file;
    drop(volume);
    // The record of version 1 of the same volume.
    let path = from.path().join(format!("volumes/{}/record", volume_id(1)));
    let new = std::fs::read(&path).unwrap();
    let mut old = new[..new.len() - 62].to_vec();
    let bytes = u32::try_from(old.len() - 20).unwrap();
    old[8..10].copy_from_slice(&1_u16.to_be_bytes());
    old[12..16].copy_from_slice(&bytes.to_be_bytes());
    old[16..20].fill(0);
    let crc = crc32c::crc32c(&old);
    old[16..20].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, old).unwrap();
    let mut from = from;
    from.reopen_killed();
    let volume = from.pool().volume(volume_id(1)).unwrap();
    assert_eq!(volume.handle_secret(), None);
    assert!(volume.attributes(file).is_ok());
    // All of its ids have one key.
    let key: [u8; 16] = new[30..46].try_into().unwrap();
    let root = volume.root();
    assert_eq!(root, with_key(&key, (0, 0), 1, 0));
    // The record is written anew, in this version's form.
    volume.resize(ByteSize(32 * MIB)).unwrap();
    drop(volume);
    from.reopen_killed();
    assert_ne!(std::fs::read(&path).unwrap()[8..10], [0, 1]);
    let volume = from.pool().volume(volume_id(1)).unwrap();
    assert_eq!((volume.handle_secret(), volume.root()), (None, root));
    assert!(volume.attributes(file).is_ok());
    let volume = moved(&volume, &from, &to);
    assert_eq!(volume.handle_secret(), Some(NODE_SECRET));
    assert_eq!(volume.root(), root);
    assert!(volume.attributes(file).is_ok());
}

/// An id as a volume gives it whose key is this one.
pub(crate) fn with_key(
    key: &[u8; 16],
    (tree, salt): (u32, u32),
    inode: u64,
    generation: u32,
) -> FileId {
    let mut hash = SipHasher24::new_with_key(key);
    hash.write(&tree.to_be_bytes());
    hash.write(&salt.to_be_bytes());
    hash.write(&inode.to_be_bytes());
    hash.write(&generation.to_be_bytes());
    let tag = hash.finish() >> 32 << 32;
    FileId { tree, inode, generation: tag | u64::from(generation) }
}

#[test]
fn a_stream_that_nobody_takes_any_more_ends_the_carrying() {
    struct Gone(usize);
    impl Write for Gone {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            let left = self.0.checked_sub(data.len());
            self.0 = left.ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let Some(home) = Home::dir() else { return };
    let volume: FileVolume = home.volume(1, 64 * MIB);
    plant_all(&volume);
    let id: VolumeId = volume.id();
    assert!(matches!(volume.carry(&NODE_SECRET, Gone(5000)), Err(StoreError::Io { .. })));
    // It goes on as it was.
    create(&volume, &ROOT, volume.root(), "after");
    assert_eq!(
        home.pool().volume(id).unwrap().carry(&NODE_SECRET, Vec::new()).unwrap().0.snapshots,
        0
    );
}
