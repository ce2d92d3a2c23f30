//! The real file names: what the trait promises.

// Helpers of tests are tests too, and a skipped test says why on the terminal.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

use env::{Files, OpenMode, RealFiles};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn open_modes_keep_their_word() {
    let dir = scratch();
    let path = dir.path().join("volume");
    for direct in [false, true] {
        assert!(RealFiles.open(&path, OpenMode::ReadWrite, direct).is_err(), "not there yet");
        let file = RealFiles.open(&path, OpenMode::CreateNew, direct).unwrap();
        let why = RealFiles.open(&path, OpenMode::CreateNew, direct).err().unwrap();
        assert_eq!(why.kind(), std::io::ErrorKind::AlreadyExists);
        RealFiles.set_length(&file, 10_000).unwrap();
        let again = RealFiles.open(&path, OpenMode::Read, direct).unwrap();
        assert_eq!(RealFiles.length(&again).unwrap(), 10_000);
        assert!(RealFiles.set_length(&again, 5).is_err(), "read only");
        RealFiles.remove(&path).unwrap();
    }
}

#[test]
fn sparse_files_tell_where_their_data_is() {
    let dir = scratch();
    let path = dir.path().join("sparse");
    let file = RealFiles.open(&path, OpenMode::CreateNew, false).unwrap();
    RealFiles.set_length(&file, 10 << 20).unwrap();
    assert_eq!(RealFiles.allocated(&file).unwrap(), 0);
    assert_eq!(RealFiles.next_data(&file, 0).unwrap(), None);
    let written = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&written, &[1; 65536], 4 << 20).unwrap();
    written.sync_all().unwrap();
    let start = 4 << 20;
    assert_eq!(RealFiles.next_data(&file, 0).unwrap(), Some((start, start + 65536)));
    assert_eq!(RealFiles.next_data(&file, start + 65536).unwrap(), None);
    assert!(RealFiles.allocated(&file).unwrap() >= 65536);
}

#[test]
fn names_can_be_made_listed_renamed_and_removed() {
    let dir = scratch();
    let pool = dir.path().join("a/b");
    RealFiles.create_dir(&pool).unwrap();
    RealFiles.create_dir(&pool).unwrap();
    for name in ["two", "one"] {
        RealFiles.open(&pool.join(name), OpenMode::CreateNew, false).unwrap();
    }
    RealFiles.sync_dir(&pool).unwrap();
    let names = RealFiles.list(&pool).unwrap();
    assert_eq!(names, [std::path::PathBuf::from("one"), "two".into()]);
    RealFiles.rename(&pool.join("one"), &pool.join("two")).unwrap();
    assert!(!RealFiles.exists(&pool.join("one")) && RealFiles.exists(&pool.join("two")));
    RealFiles.remove(&pool.join("two")).unwrap();
    RealFiles.remove(&pool).unwrap();
    assert!(!RealFiles.exists(&pool));
}

#[test]
fn a_directory_is_locked_for_as_long_as_the_lock_lives() {
    let dir = scratch();
    let lock = RealFiles.lock_dir(dir.path()).unwrap();
    let why = RealFiles.lock_dir(dir.path()).err().unwrap();
    assert_eq!(why.kind(), std::io::ErrorKind::WouldBlock);
    assert!(why.to_string().contains("another process"));
    drop(lock);
    RealFiles.lock_dir(dir.path()).unwrap();
}

#[test]
fn space_is_told_in_bytes() {
    let (total, free) = RealFiles.space(std::path::Path::new("/")).unwrap();
    assert!(total > 1 << 20 && free <= total);
}

#[test]
fn what_could_block_is_not_opened() {
    let dir = scratch();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [pipe.as_path(), dir.path(), std::path::Path::new("/dev/zero")] {
        let why = RealFiles.open(path, OpenMode::Read, false).err().unwrap();
        assert_eq!(why.kind(), std::io::ErrorKind::InvalidInput, "{}", path.display());
    }
}
