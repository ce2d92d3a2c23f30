//! Snapshots, clones, roll backs.

use bytes::Bytes;
use model::export::Durability;
use model::file::{FileError, FileKind, FileStore, New, Removal, SetAttributes, SetTime, Time};
use model::id::SnapshotId;
use model::pool::Driver;
use model::size::ByteSize;
use store::StoreError;
use store::files::{CopyMethod, FileVolume};
use uuid::Uuid;

use crate::homes::{
    Home, MIB, create, make_directory, mode, names, size, text, user, volume_id, write,
};

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId(Uuid::from_bytes([number; 16]))
}

fn old(volume: &FileVolume, snapshot: &str, name: &str) -> Vec<u8> {
    let who = user(0);
    let all = volume.lookup(&who, volume.root(), b".snapshots").unwrap().file;
    let tree = volume.lookup(&who, all, snapshot.as_bytes()).unwrap().file;
    let file = volume.lookup(&who, tree, name.as_bytes()).unwrap().file;
    text(volume, &who, file)
}

#[test]
fn a_snapshot_stays_as_it_was_and_a_roll_back_keeps_later_ones() {
    for mut home in Home::all() {
        let who = user(1000);
        {
            let volume = home.volume(1, 64 * MIB);
            let root = volume.root();
            let file = create(&volume, &who, root, "a").attributes.file;
            write(&volume, &who, file, 0, b"one");
            let method = volume.create_snapshot(snapshot(1), Some("first")).unwrap();
            assert_eq!(method, volume.copy_method());
            if home.driver == Driver::Btrfs {
                assert_eq!(method, CopyMethod::Subvolume);
            }
            volume.create_snapshot(snapshot(1), Some("first")).unwrap();
            let taken = volume.create_snapshot(snapshot(9), Some("first"));
            assert!(matches!(taken, Err(StoreError::Refused { .. })));
            write(&volume, &who, file, 0, b"two");
            create(&volume, &who, root, "later");
            volume.create_snapshot(snapshot(2), None).unwrap();
            let verifier = volume.write_verifier();
            volume.roll_back(snapshot(1)).unwrap();
            assert_ne!(volume.write_verifier(), verifier);
            assert_eq!(volume.root(), root);
            assert_eq!(names(&volume, &who, root), ["a"]);
            let back = volume.lookup(&who, root, b"a").unwrap().file;
            assert_eq!(text(&volume, &who, back), b"one");
            write(&volume, &who, back, 0, b"three");
            if method == CopyMethod::Subvolume {
                assert_eq!(back, file);
            } else {
                assert_eq!(volume.attributes(file), Err(FileError::Stale));
            }
            let missing = volume.roll_back(snapshot(7));
            assert!(matches!(missing, Err(StoreError::Missing { .. })));
        }
        home.reopen();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        let known = volume.snapshots().unwrap();
        let found: Vec<_> = known.iter().map(|one| (one.id, &*one.name)).collect();
        let second = snapshot(2).to_string();
        assert_eq!(found, [(snapshot(1), "first"), (snapshot(2), &*second)]);
        assert_eq!(old(&volume, "first", "a"), b"one");
        assert_eq!(old(&volume, &second, "a"), b"two");
        let file = volume.lookup(&who, volume.root(), b"a").unwrap().file;
        assert_eq!(text(&volume, &who, file), b"three");
        volume.delete_snapshot(snapshot(1)).unwrap();
        volume.delete_snapshot(snapshot(1)).unwrap();
        assert_eq!(volume.snapshots().unwrap().len(), 1);
        let all = volume.lookup(&who, volume.root(), b".snapshots").unwrap().file;
        assert_eq!(volume.lookup(&who, all, b"first"), Err(FileError::NotFound));
        home.pool().sweep().unwrap();
    }
}

#[test]
fn a_clone_is_whole_and_on_its_own() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let d = make_directory(&volume, &user(5), root, "d");
        volume.set_attributes(&who, d, &mode(0o777), None).unwrap();
        let file = create(&volume, &user(6), d, "a").attributes.file;
        write(&volume, &user(6), file, 3 * MIB, b"behind a hole");
        volume.link(&who, file, root, b"linked").unwrap();
        let time = SetTime::To(Time { seconds: 1_234_567_890, nanos: 5 });
        let set = SetAttributes { modified: Some(time), ..mode(0o4751) };
        volume.set_attributes(&user(6), file, &set, None).unwrap();
        let new = New::Symlink(Bytes::from_static(b"a/b"));
        volume.make(&user(7), d, b"s", &new, &SetAttributes::default()).unwrap();
        volume.make(&who, d, b"p", &New::Special(FileKind::Fifo), &mode(0o620)).unwrap();
        volume.create_snapshot(snapshot(1), None).unwrap();
        let pool = home.pool();
        let source = (volume_id(1), snapshot(1));
        let small = ByteSize(4096);
        let refused = pool.clone_volume(volume_id(2), small, Durability::Strict, source);
        assert!(matches!(refused, Err(StoreError::Refused { .. })));
        assert_eq!(pool.volumes().unwrap(), [volume_id(1)]);
        let size = ByteSize(64 * MIB);
        let copy = pool.clone_volume(volume_id(2), size, Durability::Strict, source).unwrap();
        let there = |directory, name: &[u8]| copy.lookup(&who, directory, name).unwrap();
        let e = there(copy.root(), b"d");
        assert_eq!((e.uid, e.mode), (5, 0o777));
        let a = there(e.file, b"a");
        assert_eq!((a.uid, a.mode, a.links), (6, 0o4751, 2));
        assert_eq!((a.modified.seconds, a.modified.nanos), (1_234_567_890, 5));
        assert!(a.used_bytes < MIB, "the hole is filled: {}", a.used_bytes);
        assert_eq!(there(copy.root(), b"linked").file, a.file);
        let end = copy.read(&who, a.file, 3 * MIB, 99).unwrap().data;
        assert_eq!(end, &b"behind a hole"[..]);
        let s = there(e.file, b"s");
        assert_eq!((s.uid, copy.read_link(&who, s.file).unwrap()), (7, "a/b".into()));
        let p = there(e.file, b"p");
        assert_eq!((p.kind, p.mode), (FileKind::Fifo, 0o620));
        let same = |volume: &FileVolume| volume.usage().unwrap().inodes_used;
        assert_eq!(same(&copy), same(&volume));
        // Ids of the one are none of the other, though the inodes may be the same.
        assert_eq!(copy.attributes(file), Err(FileError::Stale));
        volume.remove(&who, d, b"a", Removal::File).unwrap();
        pool.delete_volume(volume_id(1)).unwrap();
        pool.sweep().unwrap();
        assert_eq!(copy.read(&who, a.file, 3 * MIB, 6).unwrap().data, &b"behind"[..]);
    }
}

/// Where snapshots are copies, one that finds no room says what it needs and what there is, before
/// it has taken any.
#[test]
fn a_snapshot_without_room_is_refused_with_numbers_and_leaves_nothing() {
    for home in Home::small() {
        let (who, volume) = (user(0), home.volume(1, 1 << 30));
        let file = create(&volume, &who, volume.root(), "a").attributes.file;
        for at in 0..32 {
            write(&volume, &who, file, at * MIB, &vec![7; 1 << 20]);
        }
        let (before, taken) =
            (home.pool().usage().unwrap(), volume.create_snapshot(snapshot(1), None));
        if volume.copy_method() == CopyMethod::Subvolume {
            taken.unwrap();
            assert_eq!(volume.snapshots().unwrap().len(), 1);
            continue;
        }
        let Err(StoreError::NoSpace { needed, free }) = taken else { panic!("{taken:?}") };
        assert!(needed.0 >= 32 * MIB && free < needed, "{needed} {free}");
        assert_eq!(volume.snapshots().unwrap(), []);
        assert_eq!(home.pool().usage().unwrap(), before);
        let trees = home.path().join("volumes").join(volume_id(1).to_string()).join("trees");
        assert_eq!(std::fs::read_dir(trees).unwrap().count(), 1);
        // Half of it can be copied, and what was copied is told and counted.
        volume.set_attributes(&who, file, &size(8 * MIB), None).unwrap();
        volume.create_snapshot(snapshot(2), Some("small")).unwrap();
        let held = volume.snapshots().unwrap()[0].held.0;
        assert!((8 * MIB..9 * MIB).contains(&held), "{held}");
        assert!(home.pool().usage().unwrap().used.0 >= 16 * MIB);
        home.pool().set_capacity(Some(ByteSize(20 * MIB)));
        let refused = volume.create_snapshot(snapshot(3), None);
        assert!(matches!(refused, Err(StoreError::NoSpace { .. })), "{refused:?}");
        volume.delete_snapshot(snapshot(2)).unwrap();
        volume.create_snapshot(snapshot(3), None).unwrap();
    }
}

#[test]
fn what_a_snapshot_holds_is_told() {
    let Some(home) = Home::btrfs() else { return };
    let (who, volume) = (user(0), home.volume(1, 64 * MIB));
    let file = create(&volume, &who, volume.root(), "a").attributes.file;
    let noise = |seed: u64| -> Vec<u8> {
        (0..1u64 << 20).map(|n| (n.wrapping_mul(seed) >> 7).to_le_bytes()[0]).collect()
    };
    for at in 0..4 {
        write(&volume, &who, file, at * MIB, &noise(0x9e37_79b9 + at));
    }
    volume.create_snapshot(snapshot(1), None).unwrap();
    let held = || volume.snapshots().unwrap()[0].held.0;
    assert!(held() < MIB / 4, "all is shared: {}", held());
    volume.remove(&who, volume.root(), b"a", Removal::File).unwrap();
    std::process::Command::new("sync").arg("-f").arg(home.path()).status().unwrap();
    assert!((4 * MIB..5 * MIB).contains(&held()), "all is its own: {}", held());
}
