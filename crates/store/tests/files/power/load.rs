//! Clients that write down what they are answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::file::{
    Creation, FileId, FileKind, FileStore, New, Range, Removal, SetAttributes, Stability,
};
use model::id::SnapshotId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::files::{FilePool, FileVolume};
use uuid::Uuid;

use super::CLIENTS;
use super::ledger::{Expected, Files, Found, Key, Ledger};
use crate::homes::{make_directory, mode, user};

const FILES_MAX: usize = 12;
const BLOCK_BYTES: usize = 4096;

/// A block that says which version it is, in every eight bytes.
fn block(version: u64) -> Bytes {
    version.to_be_bytes().repeat(BLOCK_BYTES / 8).into()
}

/// The version of a block; `u64::MAX` when it is mixed.
fn version(data: &[u8]) -> u64 {
    let mut words = data.chunks(8).map(|word| word.try_into().map_or(u64::MAX, u64::from_be_bytes));
    let first = words.next().unwrap_or(0);
    if words.all(|word| word == first) { first } else { u64::MAX }
}

fn home_name(client: usize, directory: usize) -> String {
    format!("client-{client}-{directory}")
}

/// All that is found of a client's files. The last client makes snapshots.
pub(super) fn found(volume: &FileVolume, client: usize) -> BTreeMap<Key, Found> {
    let (who, root) = (user(0), volume.root());
    let mut all = BTreeMap::new();
    if client == CLIENTS {
        for snapshot in volume.snapshots().unwrap() {
            let found = Found { is_directory: true, mode: 0, version: 0 };
            all.insert((0, snapshot.name), found);
        }
        return all;
    }
    for directory in 0..2 {
        let Ok(home) = volume.lookup(&who, root, home_name(client, directory).as_bytes()) else {
            continue;
        };
        for name in crate::homes::names(volume, &who, home.file) {
            let found = volume.lookup(&who, home.file, name.as_bytes()).unwrap();
            let is_directory = found.kind == FileKind::Directory;
            let version = if is_directory {
                0
            } else {
                version(&crate::homes::text(volume, &who, found.file))
            };
            let found = Found { is_directory, mode: found.mode, version };
            all.insert((directory, name), found);
        }
    }
    all
}

/// Makes and deletes snapshots, each of which is a file in this ledger.
pub(super) fn snapshots(pool: &FilePool, volume: &FileVolume, ledger: &Ledger, stop: &AtomicBool) {
    for number in 1u128.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (id, key) = (SnapshotId(Uuid::from_u128(number)), (0, format!("s{number}")));
        let mut files = ledger.files();
        files.insert(key.clone(), Expected { is_directory: true, ..Expected::default() });
        ledger.begin(format!("snapshot {number}"), vec![key.clone()], files.clone());
        volume.create_snapshot(id, Some(&key.1)).unwrap();
        ledger.answered();
        std::thread::sleep(Duration::from_millis(20));
        if number > 2 {
            let (id, key) =
                (SnapshotId(Uuid::from_u128(number - 2)), (0, format!("s{}", number - 2)));
            files.remove(&key);
            ledger.begin(format!("delete snapshot {}", number - 2), vec![key], files);
            volume.delete_snapshot(id).unwrap();
            ledger.answered();
            pool.sweep().unwrap();
        }
    }
}

/// One client, in two directories that nobody else uses.
pub(super) struct Client<'a> {
    volume: &'a FileVolume,
    ledger: &'a Ledger,
    directories: [FileId; 2],
    random: StdRng,
    last: u64,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        volume: &'a FileVolume,
        number: usize,
        ledger: &'a Ledger,
        seed: u64,
    ) -> Self {
        let make = |n| make_directory(volume, &user(0), volume.root(), &home_name(number, n));
        let random = StdRng::seed_from_u64(seed << 8 | number as u64);
        Self { volume, ledger, directories: [make(0), make(1)], random, last: 0 }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn id(&self, key: &Key) -> FileId {
        let home = self.directories[key.0];
        self.volume.lookup(&user(0), home, key.1.as_bytes()).unwrap().file
    }

    fn any(&mut self, files: &Files, directories: bool) -> Option<Key> {
        let fit: Vec<_> =
            files.iter().filter(|(_, file)| directories || !file.is_directory).collect();
        if fit.is_empty() {
            return None;
        }
        Some(fit[self.random.random_range(0..fit.len())].0.clone())
    }

    /// One call, or none when chance asks for what there is not.
    pub(super) fn step(&mut self) {
        let mut files = self.ledger.files();
        if files.len() < FILES_MAX && self.random.random_bool(0.4) || files.is_empty() {
            return self.create(&mut files);
        }
        match self.random.random_range(0..7) {
            0 => self.remove(&mut files),
            1 | 2 => self.rename(&mut files),
            3 => self.set_mode(&mut files),
            4 | 5 => self.write(&mut files, true),
            _ => self.write(&mut files, false),
        }
    }

    fn create(&mut self, files: &mut Files) {
        let key = (self.random.random_range(0..2), format!("f{}", self.next()));
        let is_directory = self.random.random_bool(0.2);
        let bits = self.random.random_range(0..0o1000);
        let expected = Expected { is_directory, mode: bits, ..Expected::default() };
        files.insert(key.clone(), expected);
        self.ledger.begin(format!("create {key:?}"), vec![key.clone()], files.clone());
        let (home, name) = (self.directories[key.0], key.1.as_bytes());
        if is_directory {
            self.volume.make(&user(0), home, name, &New::Directory, &mode(bits)).unwrap();
        } else {
            let how = Creation::Guarded(mode(bits));
            self.volume.create(&user(0), home, name, &how).unwrap();
        }
        self.ledger.answered();
    }

    fn remove(&mut self, files: &mut Files) {
        let Some(key) = self.any(files, true) else { return };
        files.remove(&key);
        self.ledger.begin(format!("remove {key:?}"), vec![key.clone()], files.clone());
        let home = self.directories[key.0];
        self.volume.remove(&user(0), home, key.1.as_bytes(), Removal::Any).unwrap();
        self.ledger.answered();
    }

    /// To a new name, or over another file.
    fn rename(&mut self, files: &mut Files) {
        let Some(from) = self.any(files, false) else { return };
        let over = self.any(files, false).filter(|over| *over != from);
        let to = match over {
            Some(over) if self.random.random_bool(0.4) => over,
            _ => (self.random.random_range(0..2), format!("r{}", self.next())),
        };
        let Some(moved) = files.remove(&from) else { return };
        files.insert(to.clone(), moved);
        let touched = vec![from.clone(), to.clone()];
        self.ledger.begin(format!("rename {from:?} {to:?}"), touched, files.clone());
        let source = (self.directories[from.0], from.1.as_bytes());
        let target = (self.directories[to.0], to.1.as_bytes());
        self.volume.rename(&user(0), source, target).unwrap();
        self.ledger.answered();
    }

    fn set_mode(&mut self, files: &mut Files) {
        let Some(key) = self.any(files, true) else { return };
        let bits = self.random.random_range(0..0o1000);
        if let Some(file) = files.get_mut(&key) {
            file.mode = bits;
        }
        self.ledger.begin(format!("mode of {key:?}"), vec![key.clone()], files.clone());
        let set = SetAttributes { mode: Some(bits), ..SetAttributes::default() };
        self.volume.set_attributes(&user(0), self.id(&key), &set, None).unwrap();
        self.ledger.answered();
    }

    /// Stable, or unstable with a commit behind it.
    fn write(&mut self, files: &mut Files, stable: bool) {
        let Some(key) = self.any(files, false) else { return };
        let (version, id) = (self.next(), self.id(&key));
        let Some(file) = files.get_mut(&key) else { return };
        if stable {
            (file.durable, file.volatile) = (version, [].into());
        } else {
            file.volatile.insert(version);
        }
        self.ledger.begin(format!("write {version} to {key:?}"), vec![key.clone()], files.clone());
        let how = if stable { Stability::File } else { Stability::Unstable };
        let written = self.volume.write(&user(0), id, 0, &block(version), how).unwrap();
        assert_eq!(written.bytes as usize, BLOCK_BYTES);
        self.ledger.answered();
        if stable || self.random.random_bool(0.3) {
            return;
        }
        if let Some(file) = files.get_mut(&key) {
            (file.durable, file.volatile) = (version, [].into());
        }
        self.ledger.begin(format!("commit {key:?}"), vec![key], files.clone());
        self.volume.commit(&user(0), id, Range { offset: 0, bytes: 0 }).unwrap();
        self.ledger.answered();
    }
}
