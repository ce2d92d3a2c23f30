//! What outlives the daemon: ids, content, settings.

use model::export::Durability;
use model::file::{FileError, FileStore, Removal};
use model::size::ByteSize;

use crate::homes::{Home, MIB, create, make_directory, names, text, user, volume_id, write};

#[test]
fn ids_and_content_outlive_a_restart_and_a_rename() {
    for mut home in Home::all() {
        let who = user(1000);
        let (root, file, directory, gone, verifier) = {
            let volume = home.volume(1, 64 * MIB);
            let root = volume.root();
            let file = create(&volume, &who, root, "a").attributes.file;
            write(&volume, &who, file, 0, b"text");
            let directory = make_directory(&volume, &who, root, "d");
            let to = (directory, &b"b"[..]);
            volume.rename(&who, (root, b"a"), to).unwrap();
            let gone = create(&volume, &who, root, "gone").attributes.file;
            volume.remove(&who, root, b"gone", Removal::File).unwrap();
            volume.set_durability(Durability::Relaxed).unwrap();
            volume.resize(ByteSize(32 * MIB)).unwrap();
            (root, file, directory, gone, volume.write_verifier())
        };
        home.reopen();
        assert_eq!(home.pool().volumes().unwrap(), [volume_id(1)]);
        let volume = home.pool().volume(volume_id(1)).unwrap();
        assert_eq!(volume.root(), root);
        assert_eq!(text(&volume, &who, file), b"text");
        assert_eq!(volume.parent(&who, directory), Ok(root));
        assert_eq!(names(&volume, &who, directory), ["b"]);
        assert_eq!(volume.attributes(gone), Err(FileError::Stale));
        assert_ne!(volume.write_verifier(), verifier);
        assert_eq!(volume.durability(), Durability::Relaxed);
        assert_eq!(volume.usage().unwrap().size, ByteSize(32 * MIB));
    }
}

#[test]
fn a_deleted_volume_is_gone_for_who_still_has_it() {
    for mut home in Home::all() {
        let who = user(1000);
        {
            let volume = home.volume(1, 64 * MIB);
            let mut at = volume.root();
            for depth in 0..50 {
                create(&volume, &who, at, "file");
                at = make_directory(&volume, &who, at, &format!("deep-{depth}"));
            }
            home.pool().delete_volume(volume_id(1)).unwrap();
            home.pool().delete_volume(volume_id(1)).unwrap();
            assert_eq!(volume.attributes(at), Err(FileError::Stale));
            assert_eq!(volume.attributes(volume.root()), Err(FileError::Stale));
        }
        home.reopen();
        assert_eq!(home.pool().volumes().unwrap(), []);
        home.pool().sweep().unwrap();
        let left = std::fs::read_dir(home.path().join("deleted")).unwrap().count();
        assert_eq!(left, 0);
    }
}

/// To close the last descriptor of a removed file frees its blocks, which the answer waited for.
#[test]
fn what_a_removed_file_took_is_freed_behind_the_answer() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 64 * MIB));
        let root = volume.root();
        let taken = || volume.usage().unwrap().used.0;
        for name in ["a", "b", "c"] {
            let file = create(&volume, &who, root, name).attributes.file;
            write(&volume, &who, file, 0, &[7; 1 << 20]);
        }
        let before = taken();
        let remove = || volume.remove(&who, root, b"a", Removal::File).unwrap();
        let (_, left) = env::leftovers::collect(remove);
        assert_eq!(left.len(), 1);
        assert!(before - taken() >= MIB, "the volume has it back at once");
        assert_eq!(volume.lookup(&who, root, b"a"), Err(FileError::NotFound));
        let open = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap();
            let targets = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            let tree = home.tree(1).display().to_string();
            let is_gone = |path: &std::path::PathBuf| {
                let path = path.display().to_string();
                path.starts_with(&tree) && path.ends_with("a (deleted)")
            };
            targets.filter(is_gone).count()
        };
        assert_eq!(open(), 1);
        drop(left);
        assert_eq!(open(), 0);
        // One that another is renamed over.
        let rename = || volume.rename(&who, (root, b"b"), (root, b"c")).unwrap();
        assert_eq!(env::leftovers::collect(rename).1.len(), 1);
        assert!(env::leftovers::collect(|| volume.attributes(root)).1.is_empty());
    }
}
