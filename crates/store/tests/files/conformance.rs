//! What every [`FileStore`] does: the one in memory, and trees on each file system.

use bytes::Bytes;
use model::file::{
    Access, Changed, Content, Creation, FileError, FileId, FileKind, FileStore, New, Range,
    Removal, SetAttributes, SetTime, Stability, Time,
};
use nfs::memory::Memory;

use crate::homes::{Home, MIB, create, make_directory, mode, names, size, text, user, write};

/// Runs a test over all stores.
pub(crate) fn each(test: impl Fn(&dyn FileStore)) {
    test(&Memory::new(1_700_000_000, 64 * MIB));
    for home in Home::all() {
        eprintln!("{:?} in {}", home.driver, home.path().display());
        test(&home.volume(1, 64 * MIB));
    }
}

pub(crate) fn changed(changed: &Changed) {
    assert_ne!(changed.before.change, changed.after.change);
}

#[test]
fn a_file_is_made_written_read_and_removed() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let made = create(store, &who, root, "a");
        changed(&made.directory);
        let a = &made.attributes;
        assert!(made.is_new);
        assert_eq!((a.kind, a.mode, a.links), (FileKind::Regular, 0o644, 1));
        assert_eq!((a.uid, a.gid, a.size_bytes), (1000, 1000, 0));
        let file = a.file;
        assert_eq!(store.lookup(&who, root, b"a").unwrap(), *a);
        let data = Bytes::from_static(b"hello");
        let written = store.write(&who, file, 3, &data, Stability::Unstable).unwrap();
        assert_eq!(written.bytes, 5);
        changed(&written.file);
        assert_eq!(written.file.after.size_bytes, 8);
        store.commit(&who, file, Range { offset: 0, bytes: 0 }).unwrap();
        let read = store.read(&who, file, 2, 4).unwrap();
        assert_eq!((&read.data[..], read.end), (&b"\0hel"[..], false));
        let read = store.read(&who, file, 6, 100).unwrap();
        assert_eq!((&read.data[..], read.end), (&b"lo"[..], true));
        let read = store.read(&who, file, 100, 1).unwrap();
        assert!(read.data.is_empty() && read.end);
        let read = store.read(&who, file, 0x7fff_ffff_ffff_fffc, 10).unwrap();
        assert!(read.data.is_empty() && read.end, "no file reaches there");
        let none = store.write(&who, file, 9, &Bytes::new(), Stability::File).unwrap();
        assert_eq!(none.file.before.change, none.file.after.change);
        changed(&store.remove(&who, root, b"a", Removal::File).unwrap());
        assert_eq!(store.attributes(file), Err(FileError::Stale));
        assert_eq!(store.lookup(&who, root, b"a"), Err(FileError::NotFound));
        assert_eq!(
            store.write(&who, file, 0, &data, Stability::File).unwrap_err(),
            FileError::Stale
        );
    });
}

#[test]
fn creation_finds_what_is_there_or_refuses_it() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let file = create(store, &who, root, "a").attributes.file;
        write(store, &who, file, 0, b"text");
        let open = |set| store.create(&who, root, b"a", &Creation::Unchecked(set));
        let found = open(mode(0o600)).unwrap();
        assert_eq!((found.is_new, found.attributes.mode), (false, 0o644));
        assert_eq!(found.attributes.size_bytes, 4);
        assert_eq!(open(size(0)).unwrap().attributes.size_bytes, 0);
        let guarded = Creation::Guarded(SetAttributes::default());
        assert_eq!(store.create(&who, root, b"a", &guarded), Err(FileError::Exists));
        make_directory(store, &who, root, "d");
        let how = Creation::Unchecked(SetAttributes::default());
        assert_eq!(store.create(&who, root, b"d", &how), Err(FileError::IsDirectory));
        assert_eq!(store.create(&who, file, b"x", &how), Err(FileError::NotDirectory));
        let long = [b'x'; 256];
        assert_eq!(store.create(&who, root, &long, &how), Err(FileError::NameTooLong));
        assert!(store.create(&who, root, &long[..255], &how).unwrap().is_new);
    });
}

#[test]
fn an_exclusive_creation_is_found_again_until_the_file_is_written() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let create = |verifier: u8| {
            let how = Creation::Exclusive([verifier; 8], mode(0o640));
            store.create(&who, root, b"f", &how)
        };
        let made = create(1).unwrap();
        assert!(made.is_new);
        assert_eq!(made.attributes.mode, 0o640);
        let again = create(1).unwrap();
        assert_eq!((again.is_new, again.attributes.file), (false, made.attributes.file));
        assert_eq!(create(2), Err(FileError::Exists));
        write(store, &who, made.attributes.file, 0, b"x");
        assert_eq!(create(1), Err(FileError::Exists));
    });
}

#[test]
fn attributes_are_set_and_guarded() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let file = create(store, &who, root, "a").attributes.file;
        write(store, &who, file, 0, b"0123456789");
        let at = |seconds| Some(SetTime::To(Time { seconds, nanos: 5 }));
        let set = SetAttributes {
            mode: Some(0o4711),
            size_bytes: Some(4),
            accessed: at(1_000_000),
            modified: at(2_000_000),
            ..SetAttributes::default()
        };
        let done = store.set_attributes(&who, file, &set, None).unwrap();
        changed(&done);
        let a = done.after;
        assert_eq!((a.mode, a.size_bytes), (0o4711, 4));
        assert_eq!((a.accessed.seconds, a.modified.seconds), (1_000_000, 2_000_000));
        assert_eq!(a.modified.nanos, 5);
        let wrong = Time { seconds: 1, nanos: 1 };
        let guarded = store.set_attributes(&who, file, &size(0), Some(wrong));
        assert_eq!(guarded, Err(FileError::NotSame));
        store.set_attributes(&who, file, &size(8), Some(a.changed)).unwrap();
        assert_eq!(text(store, &who, file), b"0123\0\0\0\0");
        let owner = SetAttributes { uid: Some(0), ..SetAttributes::default() };
        assert_eq!(store.set_attributes(&who, file, &owner, None), Err(FileError::NotOwner));
        let bad = SetAttributes {
            modified: Some(SetTime::To(Time { seconds: 0, nanos: 1_000_000_000 })),
            ..SetAttributes::default()
        };
        assert_eq!(store.set_attributes(&who, file, &bad, None), Err(FileError::Invalid));
        assert_eq!(
            store.set_attributes(&user(0), root, &size(0), None),
            Err(FileError::IsDirectory)
        );
        let group = SetAttributes { uid: Some(3), gid: Some(4), ..SetAttributes::default() };
        let a = store.set_attributes(&user(0), file, &group, None).unwrap().after;
        assert_eq!((a.uid, a.gid), (3, 4));
    });
}

#[test]
fn directories_count_their_links_and_know_their_parent() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let d = make_directory(store, &who, root, "d");
        let e = make_directory(store, &who, d, "e");
        assert_eq!(store.attributes(e).unwrap().kind, FileKind::Directory);
        assert_eq!(store.parent(&who, e), Ok(d));
        assert_eq!(store.parent(&who, d), Ok(root));
        assert_eq!(store.parent(&who, root), Ok(root));
        let file = create(store, &who, e, "f").attributes.file;
        assert_eq!(store.parent(&who, file), Err(FileError::NotDirectory));
        assert_eq!(store.remove(&who, root, b"d", Removal::File), Err(FileError::IsDirectory));
        assert_eq!(store.remove(&who, e, b"f", Removal::Directory), Err(FileError::NotDirectory));
        assert_eq!(store.remove(&who, d, b"e", Removal::Any), Err(FileError::NotEmpty));
        store.remove(&who, e, b"f", Removal::Any).unwrap();
        changed(&store.remove(&who, d, b"e", Removal::Directory).unwrap());
        assert_eq!(store.attributes(e), Err(FileError::Stale));
        assert_eq!(
            store.create(&who, e, b"x", &Creation::Guarded(mode(0o600))),
            Err(FileError::Stale)
        );
        assert_eq!(store.read_link(&who, d), Err(FileError::Invalid));
        let again = store.make(&who, root, b"d", &New::Directory, &mode(0o700));
        assert_eq!(again, Err(FileError::Exists));
    });
}

#[test]
fn links_of_both_kinds() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let new = New::Symlink(Bytes::from_static(b"../../etc/passwd"));
        let link =
            store.make(&who, root, b"s", &new, &SetAttributes::default()).unwrap().attributes;
        assert_eq!(link.kind, FileKind::Symlink);
        assert_eq!(store.read_link(&who, link.file).unwrap(), &b"../../etc/passwd"[..]);
        assert_eq!(store.read(&who, link.file, 0, 1), Err(FileError::IsSymlink));
        assert_eq!(store.lookup(&who, link.file, b"x"), Err(FileError::NotDirectory));
        let file = create(store, &who, root, "a").attributes.file;
        let (linked, directory) = store.link(&who, file, root, b"b").unwrap();
        assert_eq!((linked.file, linked.links), (file, 2));
        changed(&directory);
        assert_eq!(store.link(&who, file, root, b"b"), Err(FileError::Exists));
        let d = make_directory(store, &who, root, "d");
        assert_eq!(store.link(&who, d, root, b"e"), Err(FileError::IsDirectory));
        store.remove(&who, root, b"a", Removal::File).unwrap();
        assert_eq!(store.attributes(file).unwrap().links, 1);
        write(store, &who, file, 0, b"still");
        let found = store.lookup(&who, root, b"b").unwrap();
        assert_eq!((found.file, found.size_bytes), (file, 5));
        store.link(&who, link.file, root, b"t").unwrap();
        assert_eq!(names(store, &who, root), ["b", "d", "s", "t"]);
    });
}

#[test]
fn special_files_are_what_they_were_made_as() {
    each(|store| {
        let root = store.root();
        for (name, kind) in [
            ("fifo", FileKind::Fifo),
            ("socket", FileKind::Socket),
            ("char", FileKind::CharacterDevice(1, 3)),
            ("block", FileKind::BlockDevice(7, 200)),
        ] {
            let new = New::Special(kind);
            let made = store.make(&user(0), root, name.as_bytes(), &new, &mode(0o666)).unwrap();
            assert_eq!((made.attributes.kind, made.attributes.mode), (kind, 0o666));
            let file = made.attributes.file;
            assert_eq!(store.read(&user(0), file, 0, 1), Err(FileError::WrongKind));
            let a = store.set_attributes(&user(0), file, &mode(0o600), None).unwrap().after;
            assert_eq!(a.mode, 0o600);
            assert_eq!(store.attributes(file).unwrap().kind, kind);
            store.remove(&user(0), root, name.as_bytes(), Removal::File).unwrap();
        }
    });
}

#[test]
fn renaming_moves_and_replaces() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let (d, e) =
            (make_directory(store, &who, root, "d"), make_directory(store, &who, root, "e"));
        let a = create(store, &who, d, "a").attributes.file;
        let rename = |from: (FileId, &str), to: (FileId, &str)| {
            store.rename(&who, (from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()))
        };
        let (left, gained) = rename((d, "a"), (e, "b")).unwrap();
        changed(&left);
        changed(&gained);
        assert_eq!(store.lookup(&who, e, b"b").unwrap().file, a);
        assert_eq!(rename((d, "a"), (e, "c")), Err(FileError::NotFound));
        let c = create(store, &who, e, "c").attributes.file;
        rename((e, "b"), (e, "c")).unwrap();
        assert_eq!(store.lookup(&who, e, b"c").unwrap().file, a);
        assert_eq!(store.attributes(c), Err(FileError::Stale));
        assert_eq!(rename((e, "c"), (root, "d")), Err(FileError::Exists));
        assert_eq!(rename((root, "d"), (e, "c")), Err(FileError::Exists));
        assert_eq!(rename((root, "d"), (root, "e")), Err(FileError::NotEmpty));
        assert_eq!(rename((root, "e"), (e, "x")), Err(FileError::Invalid));
        rename((root, "d"), (e, "d")).unwrap();
        assert_eq!(store.parent(&who, d), Ok(e));
        store.link(&who, a, root, b"a").unwrap();
        let (left, gained) = rename((root, "a"), (e, "c")).unwrap();
        assert_eq!(left.before.change, left.after.change);
        assert_eq!(gained.before.change, gained.after.change);
        assert_eq!(store.attributes(a).unwrap().links, 2);
        assert_eq!(names(store, &who, e), ["c", "d"]);
    });
}

/// It once waited for a lock that it held itself.
#[test]
fn a_directory_is_not_replaced_by_what_it_holds() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let d = make_directory(store, &who, root, "d");
        make_directory(store, &who, d, "inner");
        let moved = store.rename(&who, (d, b"inner"), (root, b"d"));
        assert_eq!(moved, Err(FileError::NotEmpty));
        assert_eq!(names(store, &who, d), ["inner"]);
    });
}

#[test]
fn who_may_do_what_is_told_and_kept() {
    each(|store| {
        let (owner, other, root) = (user(1000), user(2000), store.root());
        let file = create(store, &owner, root, "a").attributes.file;
        store.set_attributes(&owner, file, &mode(0o640), None).unwrap();
        let write_bits = Access::MODIFY.0 | Access::EXTEND.0;
        let access = |who, file| store.access(who, file, Access::ALL).unwrap().0;
        assert_eq!(access(&owner, file), Access::READ.0 | write_bits);
        assert_eq!(access(&other, file), 0);
        let member = model::file::Caller { gids: vec![5, 1000], ..user(2000) };
        assert_eq!(access(&member, file), Access::READ.0);
        assert_eq!(store.read(&other, file, 0, 1), Err(FileError::Access));
        let data = Bytes::from_static(b"x");
        let denied = store.write(&member, file, 0, &data, Stability::File);
        assert_eq!(denied.unwrap_err(), FileError::Access);
        assert_eq!(store.set_attributes(&other, file, &size(0), None), Err(FileError::Access));
        assert_eq!(store.set_attributes(&other, file, &mode(0), None), Err(FileError::NotOwner));
        // The owner may have had it open, and who may execute a file may read it.
        store.set_attributes(&owner, file, &mode(0o001), None).unwrap();
        write(store, &owner, file, 0, b"x");
        assert_eq!(store.read(&other, file, 0, 1).unwrap().data, &b"x"[..]);
        let d = make_directory(store, &owner, root, "d");
        store.set_attributes(&owner, d, &mode(0o700), None).unwrap();
        assert_eq!(access(&other, d), 0);
        assert_eq!(
            access(&owner, d),
            Access::READ.0 | Access::LOOKUP.0 | Access::DELETE.0 | write_bits
        );
        assert_eq!(store.lookup(&other, d, b"x"), Err(FileError::Access));
        let guarded = Creation::Guarded(mode(0o600));
        assert_eq!(store.create(&other, d, b"x", &guarded), Err(FileError::Access));
        let listed = store.read_directory(&other, d, 0, 9, false);
        assert_eq!(listed, Err(FileError::Access));
        store.set_attributes(&owner, d, &mode(0o1777), None).unwrap();
        create(store, &owner, d, "x");
        assert_eq!(store.remove(&other, d, b"x", Removal::File), Err(FileError::NotOwner));
        store.set_attributes(&owner, d, &mode(0o744), None).unwrap();
        assert_eq!(store.read_directory(&other, d, 0, 9, false).unwrap().entries.len(), 1);
    });
}

#[test]
fn holes_are_found_made_and_filled() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let file = create(store, &who, root, "a").attributes.file;
        let piece = 1 << 16;
        write(store, &who, file, 2 * piece, &vec![1; 1 << 16]);
        let seek = |at, what| store.seek(&who, file, at, what);
        assert_eq!(seek(0, Content::Data), Ok(2 * piece));
        assert_eq!(seek(0, Content::Hole), Ok(0));
        assert_eq!(seek(2 * piece, Content::Hole), Ok(3 * piece));
        assert_eq!(seek(3 * piece, Content::Data), Err(FileError::NoDevice));
        let range = Range { offset: 2 * piece, bytes: piece };
        changed(&store.deallocate(&who, file, range).unwrap());
        assert_eq!(seek(0, Content::Data), Err(FileError::NoDevice));
        assert_eq!(store.attributes(file).unwrap().size_bytes, 3 * piece);
        let range = Range { offset: 3 * piece, bytes: piece };
        let after = store.allocate(&who, file, range).unwrap().after;
        assert_eq!(after.size_bytes, 4 * piece);
        assert!(after.used_bytes >= piece);
        let everything = Range { offset: piece, bytes: u64::MAX - piece };
        store.deallocate(&who, file, everything).unwrap();
    });
}

#[test]
fn bytes_are_copied_within_the_store() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let from = create(store, &who, root, "a").attributes.file;
        let to = create(store, &who, root, "b").attributes.file;
        let data: Vec<u8> = (0..100_000u32).map(|n| n.to_be_bytes()[3]).collect();
        write(store, &who, from, 0, &data);
        let mut done = 0;
        while done < 100_000 {
            let copied = store.copy(&who, (from, done), (to, done), 200_000).unwrap();
            assert!(copied > 0);
            done += copied;
        }
        assert_eq!(done, 100_000);
        assert_eq!(text(store, &who, to), data);
        assert_eq!(store.copy(&user(5), (from, 0), (to, 0), 1), Err(FileError::Access));
        if store.limits().clones {
            let c = create(store, &who, root, "c").attributes.file;
            store.clone_range(&who, (from, 0), (c, 0), 0).unwrap();
            assert_eq!(text(store, &who, c), data);
            let past = store.clone_range(&who, (from, 0), (c, 0), 1 << 20);
            assert_eq!(past, Err(FileError::Invalid));
        }
    });
}
