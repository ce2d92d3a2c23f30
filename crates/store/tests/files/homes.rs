//! Where volumes lie in these tests.

use model::export::Durability;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::file::{Caller, Creation, FileId, FileStore, Made, SetAttributes};
use model::id::{PoolId, VolumeId};
use model::pool::Driver;
use model::size::ByteSize;
use store::StoreError;
use store::files::{FilePool, FileVolume};
use uuid::Uuid;

pub(crate) const MIB: u64 = 1 << 20;

/// A pool in a directory of its own, which ends with it.
pub(crate) struct Home {
    pub(crate) driver: Driver,
    path: PathBuf,
    pool: Option<FilePool>,
    _mounted: Option<Mounted>,
    _directory: tempfile::TempDir,
}

static MOUNTING: Mutex<()> = Mutex::new(());

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(arguments).output();
    let done = done.map_err(|why| format!("{program}: {why}"))?;
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(format!("{program}: {text}")) }
}

/// A file system in a file, until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// At a path that it makes; more options begin with a comma.
    pub(crate) fn new(image: &Path, at: &Path, more: &str) -> Result<Self, String> {
        std::fs::create_dir(at).unwrap();
        // Two that look for a free loop device at once may find the same one.
        let _one_at_a_time = MOUNTING.lock();
        let options = format!("loop{more}");
        run("mount", &["-o", &options, image.to_str().unwrap(), at.to_str().unwrap()])?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A process that another test has just forked holds our descriptors until it runs.
        let path = self.0.to_str().unwrap();
        let ended = (0..100).any(|_| {
            let ended = run("umount", &[path]).is_ok();
            if !ended {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended
        });
        assert!(ended || std::thread::panicking(), "{path} is in use");
    }
}

impl Home {
    /// On the file system of the directory for temporary files.
    pub(crate) fn dir() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool");
        Self::at(directory, path, Driver::Dir, None)
    }

    /// On a btrfs in a sparse file.
    pub(crate) fn btrfs() -> Option<Self> {
        Self::image("mkfs.btrfs", Driver::Btrfs, 1024 * MIB)
    }

    /// The driver `dir` on XFS, in a sparse file.
    pub(crate) fn xfs() -> Option<Self> {
        Self::image("mkfs.xfs", Driver::Dir, 1024 * MIB)
    }

    /// File systems that are soon full.
    pub(crate) fn small() -> Vec<Self> {
        let ext4 = Self::image("mkfs.ext4", Driver::Dir, 64 * MIB);
        [ext4, Self::image("mkfs.btrfs", Driver::Btrfs, 160 * MIB)].into_iter().flatten().collect()
    }

    fn image(mkfs: &str, driver: Driver, bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (image, path) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let made = run(mkfs, &["-q", image.to_str().unwrap()]);
        match made.and_then(|()| Mounted::new(&image, &path, "")) {
            Ok(mounted) => Self::on(directory, mounted, driver),
            Err(why) => {
                eprintln!("skipped: no file system in a loop device: {why}");
                None
            }
        }
    }

    /// On what is mounted in this directory.
    pub(crate) fn on(
        directory: tempfile::TempDir,
        mounted: Mounted,
        driver: Driver,
    ) -> Option<Self> {
        let path = mounted.0.clone();
        Self::at(directory, path, driver, Some(mounted))
    }

    fn at(
        directory: tempfile::TempDir,
        path: PathBuf,
        driver: Driver,
        mounted: Option<Mounted>,
    ) -> Option<Self> {
        let mut home = Self { driver, path, pool: None, _mounted: mounted, _directory: directory };
        match home.open() {
            Ok(()) => Some(home),
            Err(StoreError::Refused { why }) => {
                eprintln!("skipped: {why}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// All that work here.
    pub(crate) fn all() -> Vec<Self> {
        [Self::dir(), Self::btrfs(), Self::xfs()].into_iter().flatten().collect()
    }

    fn open(&mut self) -> Result<(), StoreError> {
        let id = PoolId(Uuid::from_bytes([7; 16]));
        let random = Arc::new(env::OsRandom);
        self.pool = Some(FilePool::open(&self.path, id, self.driver, random, None)?);
        Ok(())
    }
    pub(crate) fn pool(&self) -> &FilePool {
        self.pool.as_ref().unwrap()
    }
    /// The living tree of a new volume, as a directory.
    pub(crate) fn tree(&self, number: u8) -> PathBuf {
        self.path.join("volumes").join(volume_id(number).to_string()).join("trees/00000001")
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// As after an orderly restart of the daemon. Volumes that are held stop this.
    pub(crate) fn reopen(&mut self) {
        self.pool().settle().unwrap();
        self.reopen_killed();
    }
    /// As after the daemon was killed.
    pub(crate) fn reopen_killed(&mut self) {
        self.pool = None;
        // As at the end: a process that was just forked may still hold the lock.
        let opened = (0..100).any(|_| {
            let opened = self.open().is_ok();
            if !opened {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened
        });
        assert!(opened, "{} cannot be opened again", self.path.display());
    }
    pub(crate) fn volume(&self, number: u8, size: u64) -> FileVolume {
        let pool = self.pool();
        pool.create_volume(volume_id(number), ByteSize(size), Durability::Strict).unwrap()
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn volume_id(number: u8) -> VolumeId {
    VolumeId(Uuid::from_bytes([number; 16]))
}

pub(crate) fn user(uid: u32) -> Caller {
    Caller { uid, gid: uid, gids: Vec::new() }
}

pub(crate) fn mode(mode: u32) -> SetAttributes {
    SetAttributes { mode: Some(mode), ..SetAttributes::default() }
}

pub(crate) fn size(size: u64) -> SetAttributes {
    SetAttributes { size_bytes: Some(size), ..SetAttributes::default() }
}

pub(crate) fn create(store: &dyn FileStore, who: &Caller, at: FileId, name: &str) -> Made {
    store.create(who, at, name.as_bytes(), &Creation::Guarded(mode(0o644))).unwrap()
}

pub(crate) fn make_directory(
    store: &dyn FileStore,
    who: &Caller,
    at: FileId,
    name: &str,
) -> FileId {
    let new = model::file::New::Directory;
    store.make(who, at, name.as_bytes(), &new, &mode(0o755)).unwrap().attributes.file
}

pub(crate) fn write(store: &dyn FileStore, who: &Caller, file: FileId, at: u64, text: &[u8]) {
    let data = Bytes::copy_from_slice(text);
    let written = store.write(who, file, at, &data, model::file::Stability::File).unwrap();
    assert_eq!(written.bytes as usize, text.len());
}

pub(crate) fn text(store: &dyn FileStore, who: &Caller, file: FileId) -> Vec<u8> {
    store.read(who, file, 0, 1 << 20).unwrap().data.to_vec()
}

/// All names of a directory, by small pieces.
pub(crate) fn names(store: &dyn FileStore, who: &Caller, directory: FileId) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), 0);
    loop {
        let listing = store.read_directory(who, directory, after, 3, false).unwrap();
        for entry in &listing.entries {
            assert!(entry.cookie > 2);
            after = entry.cookie;
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        }
        if listing.end {
            names.sort();
            return names;
        }
    }
}
