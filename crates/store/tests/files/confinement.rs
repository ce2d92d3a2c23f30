//! Nothing outside a volume is reached from inside.

use bytes::Bytes;
use model::file::{Creation, FileError, FileId, FileStore, New, Removal, SetAttributes, Stability};
use model::id::SnapshotId;
use uuid::Uuid;

use crate::homes::{Home, MIB, create, make_directory, mode, names, run, text, user, write};

#[test]
fn an_id_of_another_volume_or_a_guessed_one_opens_nothing() {
    for home in Home::all() {
        let (who, ours, theirs) = (user(0), home.volume(1, 64 * MIB), home.volume(2, 64 * MIB));
        let file = create(&theirs, &who, theirs.root(), "secret").attributes.file;
        write(&theirs, &who, file, 0, b"secret");
        let stale = |file: FileId| {
            let answers = [
                ours.attributes(file).err(),
                ours.read(&who, file, 0, 9).err(),
                ours.write(&who, file, 0, &Bytes::from_static(b"x"), Stability::File).err(),
                ours.set_attributes(&who, file, &mode(0o777), None).err(),
                ours.lookup(&who, file, b"x").err(),
                ours.parent(&who, file).err(),
                ours.read_directory(&who, file, 0, 9, true).err(),
                ours.remove(&who, file, b"x", Removal::Any).err(),
                ours.link(&who, file, ours.root(), b"stolen").err(),
                ours.rename(&who, (ours.root(), b"a"), (file, b"b")).err(),
            ];
            for answer in answers {
                assert_eq!(answer, Some(FileError::Stale), "{file:?}");
            }
        };
        stale(file);
        stale(theirs.root());
        // The kernel's own numbers are known; what is keyed is not.
        for tag in 0..2000u64 {
            stale(FileId { generation: file.generation & 0xffff_ffff | tag << 32, ..file });
        }
        // The pool's own directory, above all volumes.
        let own = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(home.path()).unwrap());
        stale(FileId { tree: 0, inode: own, generation: 0 });
        assert_eq!(text(&theirs, &who, file), b"secret");
    }
}

#[test]
fn no_name_leads_out_of_a_volume() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let d = make_directory(&volume, &who, root, "d");
        for name in [&b".."[..], b".", b"", b"a/b", b"/etc", b"../x", b"d/../..", b"a\0b"] {
            let how = Creation::Unchecked(SetAttributes::default());
            let answers = [
                volume.lookup(&who, d, name).err(),
                volume.create(&who, d, name, &how).err(),
                volume.make(&who, d, name, &New::Directory, &SetAttributes::default()).err(),
                volume.remove(&who, d, name, Removal::Any).err(),
                volume.rename(&who, (root, b"d"), (d, name)).err(),
                volume.rename(&who, (d, name), (root, b"x")).err(),
            ];
            for answer in answers {
                assert_eq!(answer, Some(FileError::Invalid), "{}", name.escape_ascii());
            }
        }
        assert_eq!(volume.parent(&who, root), Ok(root));
    }
}

#[test]
fn a_symbolic_link_is_never_followed() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let outside = home.path().join("outside");
        std::fs::write(&outside, "untouched").unwrap();
        for (name, target) in [("file", outside.to_str().unwrap()), ("directory", "/etc")] {
            let new = New::Symlink(Bytes::copy_from_slice(target.as_bytes()));
            let made = volume.make(&who, root, name.as_bytes(), &new, &SetAttributes::default());
            let link = made.unwrap().attributes.file;
            let how = Creation::Unchecked(SetAttributes::default());
            assert_eq!(volume.create(&who, root, name.as_bytes(), &how), Err(FileError::IsSymlink));
            assert_eq!(volume.lookup(&who, link, b"passwd"), Err(FileError::NotDirectory));
            assert_eq!(volume.create(&who, link, b"x", &how), Err(FileError::NotDirectory));
            assert_eq!(volume.read(&who, link, 0, 9), Err(FileError::IsSymlink));
            let data = Bytes::from_static(b"overwritten");
            let written = volume.write(&who, link, 0, &data, Stability::File);
            assert_eq!(written.unwrap_err(), FileError::IsSymlink);
            let owner = SetAttributes { uid: Some(99), ..SetAttributes::default() };
            assert_eq!(volume.set_attributes(&who, link, &owner, None).unwrap().after.uid, 99);
            volume.set_attributes(&who, link, &mode(0o777), None).unwrap();
            volume.link(&who, link, root, format!("{name}2").as_bytes()).unwrap();
            let read = volume.read_directory(&who, link, 0, 9, false);
            assert_eq!(read, Err(FileError::NotDirectory));
        }
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
        let found = std::fs::metadata(&outside).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), 0);
    }
}

#[test]
fn a_name_that_was_given_another_file_behind_our_back_is_that_file() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let file = create(&volume, &who, root, "a").attributes.file;
        write(&volume, &who, file, 0, b"open");
        assert_eq!(volume.lookup(&who, root, b"a").unwrap().file, file);
        let path = home.tree(1).join("a");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        let found = volume.lookup(&who, root, b"a").unwrap();
        assert_ne!(found.file, file);
        assert_eq!(text(&volume, &who, found.file), b"another");
        assert_eq!(volume.lookup(&who, root, b"a").unwrap().file, found.file, "it is open by now");
        volume.remove(&who, root, b"a", Removal::File).unwrap();
        assert_eq!(volume.lookup(&who, root, b"a"), Err(FileError::NotFound));
        assert_eq!(volume.attributes(found.file), Err(FileError::Stale));
    }
}

/// The same directory of the same file system, in another place: its number tells no difference.
#[test]
fn what_is_mounted_in_a_volume_is_none_of_it_also_where_it_is_open() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let inner = make_directory(&volume, &who, root, "inner");
        make_directory(&volume, &who, root, "d");
        assert_eq!(volume.lookup(&who, root, b"inner").unwrap().file, inner);
        let (from, at) = (home.tree(1).join("inner"), home.tree(1).join("d"));
        let (from, at) = (from.to_str().unwrap(), at.to_str().unwrap());
        for mount in [&["--bind", from, at][..], &["-t", "tmpfs", "none", at]] {
            run("mount", mount).unwrap();
            let found = volume.lookup(&who, root, b"d");
            let removed = volume.remove(&who, root, b"d", Removal::Directory);
            run("umount", &[at]).unwrap();
            assert_eq!(found, Err(FileError::CrossDevice));
            assert_eq!(removed, Err(FileError::CrossDevice));
        }
        assert_eq!(volume.lookup(&who, root, b"inner").unwrap().file, inner);
    }
}

#[test]
fn nothing_is_changed_through_the_path_of_a_snapshot() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let file = create(&volume, &who, root, "a").attributes.file;
        write(&volume, &who, file, 0, b"then");
        let snapshot = SnapshotId(Uuid::from_bytes([1; 16]));
        volume.create_snapshot(snapshot, Some("monday")).unwrap();
        let all = volume.lookup(&who, root, b".snapshots").unwrap().file;
        let tree = volume.lookup(&who, all, b"monday").unwrap().file;
        let old = volume.lookup(&who, tree, b"a").unwrap().file;
        assert_eq!((volume.parent(&who, tree), volume.parent(&who, all)), (Ok(all), Ok(root)));
        let how = Creation::Unchecked(SetAttributes::default());
        let read_only = [
            volume.create(&who, tree, b"x", &how).err(),
            volume.create(&who, all, b"x", &how).err(),
            volume.make(&who, all, b"x", &New::Directory, &mode(0o755)).err(),
            volume.remove(&who, tree, b"a", Removal::Any).err(),
            volume.remove(&who, all, b"monday", Removal::Any).err(),
            volume.remove(&who, root, b".snapshots", Removal::Any).err(),
            volume.rename(&who, (root, b"a"), (tree, b"b")).err(),
            volume.rename(&who, (tree, b"a"), (root, b"b")).err(),
            volume.rename(&who, (root, b".snapshots"), (root, b"b")).err(),
            volume.set_attributes(&who, old, &mode(0o777), None).err(),
            volume.set_attributes(&who, all, &mode(0o777), None).err(),
            volume.write(&who, old, 0, &Bytes::from_static(b"x"), Stability::File).err(),
        ];
        for answer in read_only {
            assert_eq!(answer, Some(FileError::ReadOnly));
        }
        assert_eq!(volume.create(&who, root, b".snapshots", &how), Err(FileError::Exists));
        assert_eq!(volume.link(&who, old, root, b"old"), Err(FileError::CrossDevice));
        assert_eq!(text(&volume, &who, old), b"then");
        assert_eq!(names(&volume, &who, root), ["a"]);
        assert_eq!(names(&volume, &who, all), ["monday"]);
    }
}
