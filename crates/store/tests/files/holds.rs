//! Files that are open when their last name goes.

use bytes::Bytes;
use model::file::{
    AttributeIs, FileError, FileId, FileStore, Range, Removal, SetAttributes, Stability,
};
use model::id::SnapshotId;
use uuid::Uuid;

use crate::conformance::each;
use crate::homes::{Home, MIB, create, names, text, user, volume_id, write};

/// What rounding to blocks and the directories take.
const SLACK: u64 = 64 << 10;

fn snapshot_id(number: u8) -> SnapshotId {
    SnapshotId(Uuid::from_bytes([number; 16]))
}

fn remove(store: &dyn FileStore, name: &[u8]) {
    store.remove(&user(1000), store.root(), name, Removal::File).unwrap();
}

/// Now or in a moment: a program that another test starts has a copy of every descriptor of this
/// process until it is that program, and a file without a name is there as long.
fn is_gone(store: &dyn FileStore, file: FileId) -> bool {
    const LOOKS: u32 = 100;
    (0..LOOKS).any(|_| {
        let is_gone = store.attributes(file) == Err(FileError::Stale);
        if !is_gone {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        is_gone
    })
}

#[test]
fn a_removed_file_stays_until_the_last_who_has_it_open_is_done() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let file = create(store, &who, root, "a").attributes.file;
        write(store, &who, file, 0, b"before");
        store.hold(file).unwrap();
        store.hold(file).unwrap();
        remove(store, b"a");
        assert_eq!(store.lookup(&who, root, b"a"), Err(FileError::NotFound));
        assert!(names(store, &who, root).is_empty(), "nothing of it is listed");
        assert_eq!(store.attributes(file).unwrap().links, 0);
        write(store, &who, file, 6, b", after");
        assert_eq!(text(store, &who, file), b"before, after");
        let again = store.link(&who, file, root, b"b");
        assert_eq!(again.unwrap_err(), FileError::Stale, "what is removed gets no name");
        // The name is free, and another file.
        let other = create(store, &who, root, "a").attributes.file;
        assert_ne!(other, file);
        store.let_go(file);
        assert_eq!(text(store, &who, file), b"before, after", "another has it open");
        store.let_go(file);
        assert!(is_gone(store, file));
        assert_eq!(store.hold(file), Err(FileError::Stale));
        assert_eq!(names(store, &who, root), ["a"]);
        // Who lets go of what he does not hold changes nothing.
        store.let_go(other);
        remove(store, b"a");
        assert!(is_gone(store, other));
    });
}

#[test]
fn a_removed_file_has_no_link_in_any_attributes_of_it() {
    each(|store| {
        let who = user(1000);
        let file = create(store, &who, store.root(), "a").attributes.file;
        store.hold(file).unwrap();
        remove(store, b"a");
        let written = store.write(&who, file, 0, &Bytes::from_static(b"x"), Stability::Unstable);
        assert_eq!(written.unwrap().file.after.links, 0);
        let range = Range { offset: 0, bytes: 0 };
        assert_eq!(store.commit(&who, file, range).unwrap().after.links, 0);
        assert_eq!(store.read(&who, file, 0, 1).unwrap().attributes.links, 0);
        let shorter = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
        for set in [shorter, SetAttributes::default()] {
            let set = store.set_attributes(&who, file, &set, None).unwrap();
            assert_eq!(set.after.links, 0);
        }
        if store.limits().xattrs {
            let attribute = (&b"name"[..], &b"value"[..]);
            let set = store.set_xattr(&who, file, attribute, AttributeIs::Either).unwrap();
            assert_eq!(set.after.links, 0);
        }
        store.let_go(file);
    });
}

#[test]
fn a_file_that_another_is_renamed_over_stays_while_it_is_open() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let old = create(store, &who, root, "a").attributes.file;
        write(store, &who, old, 0, b"old");
        let new = create(store, &who, root, "b").attributes.file;
        store.hold(old).unwrap();
        store.rename(&who, (root, b"b"), (root, b"a")).unwrap();
        assert_eq!(store.lookup(&who, root, b"a").unwrap().file, new);
        assert_eq!(text(store, &who, old), b"old");
        store.let_go(old);
        assert!(is_gone(store, old));
        assert_eq!(names(store, &who, root), ["a"]);
    });
}

#[test]
fn one_name_of_several_goes_and_nothing_is_kept_for_it() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let file = create(store, &who, root, "a").attributes.file;
        store.link(&who, file, root, b"b").unwrap();
        store.hold(file).unwrap();
        remove(store, b"a");
        assert_eq!(store.attributes(file).unwrap().links, 1);
        store.let_go(file);
        assert_eq!(store.lookup(&who, root, b"b").unwrap().file, file);
    });
}

#[test]
fn a_removal_that_is_refused_leaves_an_open_file_its_name() {
    each(|store| {
        let (owner, other, root) = (user(1000), user(1001), store.root());
        let at = crate::homes::make_directory(store, &owner, root, "mine");
        let file = create(store, &owner, at, "a").attributes.file;
        store.hold(file).unwrap();
        let refused = store.remove(&other, at, b"a", Removal::File);
        assert_eq!(refused.unwrap_err(), FileError::Access);
        assert_eq!(store.attributes(file).unwrap().links, 1);
        store.let_go(file);
        assert_eq!(store.lookup(&owner, at, b"a").unwrap().file, file);
    });
}

#[test]
fn while_holders_may_come_back_every_file_is_held() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let [kept, left] = ["kept", "left"].map(|name| create(store, &who, root, name));
        let [kept, left] = [kept, left].map(|made| made.attributes.file);
        store.await_holders(true);
        remove(store, b"kept");
        remove(store, b"left");
        store.hold(kept).unwrap();
        store.await_holders(false);
        assert!(is_gone(store, left), "nobody has come back for it");
        assert_eq!(store.attributes(kept).unwrap().links, 0);
        store.let_go(kept);
        assert!(is_gone(store, kept));
    });
}

#[test]
fn who_held_files_before_the_server_began_anew_holds_them_once_when_it_is_back() {
    for home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        let who = user(1000);
        let [kept, left] = ["kept", "left"].map(|name| {
            let file = create(&volume, &who, volume.root(), name).attributes.file;
            volume.hold(file).unwrap();
            remove(&volume, name.as_bytes());
            file
        });
        volume.forget_holders();
        assert_eq!(volume.attributes(left).unwrap().links, 0, "it may be held again");
        volume.hold(kept).unwrap();
        volume.await_holders(false);
        assert!(is_gone(&volume, left), "nobody has come back for it");
        volume.let_go(kept);
        assert!(is_gone(&volume, kept), "it was counted from before");
    }
}

#[test]
fn an_open_file_without_a_name_outlives_a_kill_and_counts_until_it_is_let_go() {
    for mut home in Home::all() {
        let who = user(1000);
        let (file, lost) = {
            let volume = home.volume(1, 64 * MIB);
            let make = |name: &str| {
                let file = create(&volume, &who, volume.root(), name).attributes.file;
                let data = Bytes::from(vec![3; 1 << 20]);
                volume.write(&who, file, 0, &data, Stability::File).unwrap();
                volume.hold(file).unwrap();
                remove(&volume, name.as_bytes());
                file
            };
            (make("a"), make("b"))
        };
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        volume.await_holders(true);
        volume.hold(file).unwrap();
        assert_eq!(volume.attributes(file).unwrap().links, 0);
        volume.recount().unwrap();
        let used = |files: u64| {
            let usage = volume.usage().unwrap();
            assert_eq!(usage.inodes_used, files + 1);
            let most = files * MIB + SLACK;
            assert!((files * MIB..most).contains(&usage.used.0), "{}", usage.used);
        };
        used(2);
        volume.await_holders(false);
        assert!(is_gone(&volume, lost), "nobody came back for it");
        used(1);
        write(&volume, &who, file, 0, b"still");
        assert!(text(&volume, &who, file).starts_with(b"still\x03"));
        assert!(names(&volume, &who, volume.root()).is_empty());
        volume.let_go(file);
        used(0);
        assert!(is_gone(&volume, file));
    }
}

#[test]
fn no_copy_of_the_tree_has_what_is_removed_and_open() {
    for home in Home::all() {
        let (who, volume) = (user(1000), home.volume(1, 64 * MIB));
        let root = volume.root();
        create(&volume, &who, root, "b");
        let file = create(&volume, &who, root, "a").attributes.file;
        volume.write(&who, file, 0, &Bytes::from(vec![3; 1 << 20]), Stability::File).unwrap();
        volume.hold(file).unwrap();
        remove(&volume, b"a");
        volume.create_snapshot(snapshot_id(1), Some("one")).unwrap();
        let snapshots = volume.lookup(&who, root, b".snapshots").unwrap().file;
        let frozen = volume.lookup(&who, snapshots, b"one").unwrap().file;
        assert_eq!(names(&volume, &who, frozen), ["b"]);
        let hidden = b".commonhold-removed";
        for at in [root, frozen] {
            assert_eq!(volume.lookup(&who, at, hidden), Err(FileError::NotFound));
        }
        let source = (volume_id(1), snapshot_id(1));
        let (pool, size) = (home.pool(), model::size::ByteSize(64 * MIB));
        let durability = model::export::Durability::Strict;
        let clone = pool.clone_volume(volume_id(2), size, durability, source).unwrap();
        clone.recount().unwrap();
        assert_eq!(names(&clone, &who, clone.root()), ["b"]);
        assert!(clone.usage().unwrap().used.0 < MIB);
        volume.roll_back(snapshot_id(1)).unwrap();
        assert!(volume.usage().unwrap().used.0 < MIB, "it went with the tree");
        assert!(is_gone(&volume, file));
        // Whoever had it open says so late.
        volume.let_go(file);
        assert_eq!(names(&volume, &who, volume.root()), ["b"]);
        let taken = volume.make(
            &who,
            volume.root(),
            hidden,
            &model::file::New::Directory,
            &model::file::SetAttributes::default(),
        );
        assert_eq!(taken.unwrap_err(), FileError::Exists);
    }
}

#[test]
fn who_is_cut_off_leaves_nothing_behind() {
    for home in Home::all() {
        let (who, volume) = (user(1000), home.volume(1, 64 * MIB));
        let file = create(&volume, &who, volume.root(), "a").attributes.file;
        volume.hold(file).unwrap();
        remove(&volume, b"a");
        volume.end_holds();
        assert!(is_gone(&volume, file));
        assert_eq!(volume.usage().unwrap().inodes_used, 1);
    }
}
