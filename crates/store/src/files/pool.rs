//! A pool of file volumes: a directory with a tree and a record for each.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use env::posix::btrfs;
use env::posix::handle::{Form, inode_of};
use env::posix::identity::act_as;
use env::{Files, Random, RealFiles};
use model::export::Durability;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::PoolUsage;
use model::pool::Driver;
use model::size::ByteSize;
use rustix::fs::{Mode, OFlags, fstatfs, fsync, ioctl_ficlone, mkdirat, openat, renameat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::cache::Cache;
use super::carried::Table;
use super::holds::Holds;
use super::ids::{Ids, LIVING};
use super::record::{self, CountRecord, Kept, PoolRecord, VolumeRecord, failed};
use super::room::Room;
use super::usage::{self, Usage};
use super::volume::{Inner, Tree};
use super::walk::{self, each_entry, open_ours};
use super::{CopyMethod, FileVolume};
use crate::error::StoreError;
use crate::pool::locked;

const VOLUMES: &str = "volumes";
/// What is being made; what the end of a process has left there is removed.
const MAKING: &str = "making";
const DELETED: &str = "deleted";
pub(super) const TREES: &str = "trees";
const OURS: Mode = Mode::RWXU;
const MAKE: &str = "make a volume";
const FIRST_TREE: u32 = 1;
const EXT4: i64 = 0xef53;
const EXT4_FILE_BYTES_MAX: u64 = (1 << 44) - 4096;
const OPEN_FILES_MIN: u64 = 256;
const OPEN_FILES_MAX: u64 = 1 << 16;

pub(super) struct PoolShared {
    pub(super) id: PoolId,
    pub(super) driver: Driver,
    volumes: OwnedFd,
    making: OwnedFd,
    pub(super) deleted: OwnedFd,
    pub(super) next_deleted: AtomicU64,
    pub(super) sweeping: Mutex<()>,
    /// The mount that the pool lies on.
    pub(super) mount: i32,
    pub(super) clones: bool,
    pub(super) file_bytes_max: u64,
    pub(super) cache: Cache,
    verifier: u64,
    pub(super) room: Arc<Room>,
    /// No other process has the pool.
    _lock: Box<dyn Send + Sync>,
}

/// An open pool of file volumes. Holds the directory's lock until it and all its volumes are
/// dropped. Everything here blocks the thread.
pub struct FilePool {
    pub(super) shared: Arc<PoolShared>,
    pub(super) random: Arc<dyn Random>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Recorded {
    /// In bytes, as all else here.
    provisioned: u64,
    used: u64,
}

#[derive(Default)]
struct Open {
    volumes: BTreeMap<VolumeId, FileVolume>,
    next_number: u64,
}

impl FilePool {
    /// Whether a pool was made in `dir`, and its file system is mounted.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        rustix::fs::stat(dir.join(PoolRecord::NAME)).is_ok()
    }

    /// Opens the pool in `dir`, or makes it.
    ///
    /// # Errors
    /// `Refused`, with the reason: without root, on a file system whose files have no lasting
    /// handles, with the `btrfs` driver elsewhere than on btrfs, when another process or another
    /// pool has the directory. `Corrupt`, `Format`, `Io`.
    pub fn open(
        dir: &Path,
        id: PoolId,
        driver: Driver,
        random: Arc<dyn Random>,
        capacity: Option<ByteSize>,
    ) -> Result<Self, StoreError> {
        if driver == Driver::Local {
            return Err(StoreError::refused("the driver local is for block volumes"));
        }
        let io = |source| StoreError::from_io("open the pool", 0, source);
        RealFiles.create_dir(dir).map_err(io)?;
        let lock = RealFiles.lock_dir(dir).map_err(|why| match why.kind() {
            std::io::ErrorKind::WouldBlock => StoreError::refused(why.to_string()),
            _ => io(why),
        })?;
        let errno = |errno| failed("open the pool", errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = rustix::fs::open(dir, flags, Mode::empty()).map_err(errno)?;
        // Whoever reaches a tree by its path is checked by nobody.
        rustix::fs::fchmod(&home, OURS).map_err(errno)?;
        let mount = check(&home, driver)?;
        // What a killed process wrote may be in the page cache only.
        rustix::fs::syncfs(&home).map_err(errno)?;
        let found = record::read::<PoolRecord>(home.as_fd(), "the pool's record")?;
        let record = PoolRecord { id, driver };
        match found {
            Some(found) if found == record => {}
            Some(found) => {
                let why =
                    format!("the directory holds the pool {} ({})", found.id, found.driver.word());
                return Err(StoreError::refused(why));
            }
            None => record::write(home.as_fd(), &record)?,
        }
        let volumes = made_or_there(&home, VOLUMES).map_err(errno)?;
        let making = made_or_there(&home, MAKING).map_err(errno)?;
        let deleted = made_or_there(&home, DELETED).map_err(errno)?;
        fsync(&home).map_err(errno)?;
        if driver == Driver::Btrfs {
            btrfs::enable_quota(home.as_fd()).map_err(io)?;
        }
        let kind = fstatfs(&home).map_err(errno)?.f_type;
        let file_bytes_max =
            if kind == EXT4 { EXT4_FILE_BYTES_MAX } else { i64::MAX.cast_unsigned() };
        let clones = clones(&home);
        let shared = PoolShared {
            id,
            driver,
            clones,
            volumes,
            making,
            deleted,
            next_deleted: AtomicU64::new(number(&*random) >> 1),
            sweeping: Mutex::new(()),
            mount,
            file_bytes_max,
            cache: Cache::new(open_files_max()),
            verifier: number(&*random),
            room: Arc::new(Room::new(home, capacity)),
            _lock: lock,
        };
        shared.put_aside_what_was_made().map_err(errno)?;
        let pool = Self { shared: Arc::new(shared), random, open: Mutex::default() };
        pool.shared.room.space.add(pool.recorded()?.used);
        pool.shared.room.refill();
        Ok(pool)
    }

    /// Changes the limit of what the pool may hold, from now on.
    pub fn set_capacity(&self, capacity: Option<ByteSize>) {
        self.shared.room.space.set_limit(capacity);
    }

    #[must_use]
    pub fn id(&self) -> PoolId {
        self.shared.id
    }

    /// All volumes of the pool, open or not.
    ///
    /// # Errors
    /// `Io`.
    pub fn volumes(&self) -> Result<Vec<VolumeId>, StoreError> {
        let mut volumes = Vec::new();
        let reader = open_ours(&self.shared.volumes, ".");
        reader
            .and_then(|reader| {
                each_entry(&reader, |name| {
                    volumes
                        .extend(name.to_str().ok().and_then(|name| name.parse::<VolumeId>().ok()));
                    Ok(())
                })
            })
            .map_err(|errno| failed("list the volumes", errno))?;
        volumes.sort_unstable();
        Ok(volumes)
    }

    /// How full the pool is: `used` is what volumes use and what was copied for snapshots;
    /// `capacity` is the limit, or what is used and left on the file system when that is less. No
    /// volume is opened for it.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn usage(&self) -> Result<PoolUsage, StoreError> {
        let room = &self.shared.room;
        let used = room.space.used();
        let left = room.left().map_err(|errno| failed("ask for space", errno))?;
        let within = used.saturating_add(left);
        Ok(PoolUsage {
            pool: self.shared.id,
            capacity: ByteSize(room.space.limit().map_or(within, |limit| limit.min(within))),
            used: ByteSize(used),
            provisioned: ByteSize(self.recorded()?.provisioned),
            copies: Some(self.shared.method()),
        })
    }

    /// What the records of all volumes say together.
    fn recorded(&self) -> Result<Recorded, StoreError> {
        let mut all = Recorded::default();
        for volume in self.volumes()? {
            let one = self.recorded_of(volume)?;
            all.provisioned = all.provisioned.saturating_add(one.provisioned);
            all.used = all.used.saturating_add(one.used);
        }
        Ok(all)
    }

    /// Nothing for a volume that is not there, or cannot be read: that is told when it is opened.
    fn recorded_of(&self, volume: VolumeId) -> Result<Recorded, StoreError> {
        let what = format!("file volume {volume}");
        let home = match open_ours(&self.shared.volumes, volume.to_string()) {
            Ok(home) => home,
            Err(Errno::NOENT) => return Ok(Recorded::default()),
            Err(errno) => return Err(failed(&what, errno)),
        };
        let Ok(Some(record)) = record::read::<VolumeRecord>(home.as_fd(), &what) else {
            return Ok(Recorded::default());
        };
        let used = usage::recorded(&home, &what, record.size_bytes)?.bytes;
        let used = used.saturating_add(record.copied_bytes());
        Ok(Recorded { provisioned: record.size_bytes, used })
    }

    /// Makes a volume with an empty tree whose root everybody may use (mode 1777). There already:
    /// nothing to do.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn create_volume(
        &self,
        volume: VolumeId,
        size: ByteSize,
        durability: Durability,
    ) -> Result<FileVolume, StoreError> {
        self.create(volume, size, durability, |trees| self.shared.empty_tree(trees, FIRST_TREE))
    }

    /// Makes a volume that holds what a snapshot of another one holds. There already: nothing to
    /// do.
    ///
    /// # Errors
    /// `Missing` snapshot, `Refused` when it holds more than `size`, `NoSpace`, `Io`.
    pub fn clone_volume(
        &self,
        volume: VolumeId,
        size: ByteSize,
        durability: Durability,
        source: (VolumeId, SnapshotId),
    ) -> Result<FileVolume, StoreError> {
        let from = self.volume(source.0)?;
        self.create(volume, size, durability, |trees| {
            from.0.copy_snapshot(source.1, trees, FIRST_TREE, size)
        })
    }

    fn create(
        &self,
        volume: VolumeId,
        size: ByteSize,
        durability: Durability,
        fill: impl FnOnce(&OwnedFd) -> Result<CountRecord, StoreError>,
    ) -> Result<FileVolume, StoreError> {
        match self.volume(volume) {
            Err(StoreError::Missing { .. }) => {}
            there => return there,
        }
        self.make(volume, |home| {
            let trees = made_or_there(home, TREES).map_err(|errno| failed(MAKE, errno))?;
            let count = fill(&trees)?;
            let (mut key, mut root_key, mut secret) = ([0; 16], [0; 16], [0; 32]);
            self.random.fill(&mut key);
            self.random.fill(&mut root_key);
            self.random.fill(&mut secret);
            let record = VolumeRecord {
                size_bytes: size.0,
                relaxed: durability == Durability::Relaxed,
                key,
                root_key,
                living: FIRST_TREE,
                next_tree: FIRST_TREE + 1,
                snapshots: Vec::new(),
                secret: Some(secret),
                moves: 0,
                living_came: false,
                later_nanos: 0,
            };
            record::place(home.as_fd(), &record)?;
            record::place(home.as_fd(), &count)?;
            Ok(count.bytes)
        })
        .map(|bytes| self.shared.room.space.add(bytes))?;
        self.volume(volume)
    }

    /// Makes a volume where it counts for nothing yet, and puts it in its place when it is whole
    /// and durable.
    pub(super) fn make<R>(
        &self,
        volume: VolumeId,
        fill: impl FnOnce(&OwnedFd) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.make_durable(volume, fill, |volumes| fsync(volumes))
    }

    /// The same, with what makes the new name durable.
    pub(super) fn make_durable<R>(
        &self,
        volume: VolumeId,
        fill: impl FnOnce(&OwnedFd) -> Result<R, StoreError>,
        durable: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<R, StoreError> {
        let shared = &self.shared;
        let aside = shared.fresh_name();
        let io = |errno| failed(MAKE, errno);
        mkdirat(&shared.making, &aside, OURS).map_err(io)?;
        let made = open_ours(&shared.making, &aside).map_err(io).and_then(|home| {
            let made = fill(&home)?;
            rustix::fs::syncfs(&home).map_err(io)?;
            // A volume that is in its place already is not replaced: this one has no such name.
            renameat(&shared.making, &aside, &shared.volumes, volume.to_string()).map_err(io)?;
            if let Err(errno) = durable(&shared.volumes) {
                // It is reported as not made, so nobody is to find it.
                let _ = renameat(&shared.volumes, volume.to_string(), &shared.making, &aside);
                return Err(io(errno));
            }
            Ok(made)
        });
        if made.is_err() && renameat(&shared.making, &aside, &shared.deleted, &aside).is_ok() {
            // What is left of it stands among what is put aside.
            let _ = shared.sweep();
        }
        made
    }

    /// Opens a volume; once it is, it stays open. What it uses is known at once, or a bound of it
    /// until [`FileVolume::recount`].
    ///
    /// # Errors
    /// `Missing`, `Corrupt`, `Format`, `Io`.
    pub fn volume(&self, volume: VolumeId) -> Result<FileVolume, StoreError> {
        let mut open = locked(&self.open);
        if let Some(found) = open.volumes.get(&volume) {
            return Ok(found.clone());
        }
        let what = format!("file volume {volume}");
        let home = match open_ours(&self.shared.volumes, volume.to_string()) {
            Ok(home) => home,
            Err(Errno::NOENT) => return Err(StoreError::missing(what)),
            Err(errno) => return Err(failed(&what, errno)),
        };
        let record = record::read::<VolumeRecord>(home.as_fd(), &what)?
            .ok_or_else(|| StoreError::corrupt(&*what, "it has no record"))?;
        open.next_number += 1;
        let number = open.next_number;
        let shared = Arc::clone(&self.shared);
        let count = home.try_clone().map_err(|why| StoreError::from_io(&*what, 0, why))?;
        let room = Arc::clone(&self.shared.room);
        let usage = Usage::open(count, room, &what, record.size_bytes)?;
        let carried = (record.moves > 0).then(|| Table::open(&home, volume)).transpose()?;
        let opened = (volume, number);
        let found = open_volume(shared, opened, home, (record, carried), usage)
            .map_err(|errno| failed(&what, errno))?;
        open.volumes.insert(volume, found.clone());
        Ok(found)
    }

    /// A number that no open volume has.
    pub(super) fn fresh_number(&self) -> u64 {
        let mut open = locked(&self.open);
        open.next_number += 1;
        open.next_number
    }

    /// Makes all that was done durable, with what each volume uses, so that no volume has to be
    /// counted when it is next opened: to be called at an orderly stop.
    ///
    /// # Errors
    /// `Io`.
    pub fn settle(&self) -> Result<(), StoreError> {
        let open: Vec<_> = locked(&self.open).volumes.values().cloned().collect();
        open.iter().try_for_each(FileVolume::settle)
    }

    /// Deletes a volume with its snapshots: it is gone at once, and its room comes back by
    /// [`Self::sweep`]. Not there: nothing to do. Who still has it gets `Stale` for everything.
    ///
    /// # Errors
    /// `Io`.
    pub fn delete_volume(&self, volume: VolumeId) -> Result<(), StoreError> {
        let io = |errno| failed("delete a volume", errno);
        let mut open = locked(&self.open);
        let mut used = self.recorded_of(volume)?.used;
        if let Some(found) = open.volumes.remove(&volume) {
            used = found.0.end();
        }
        let shared = &self.shared;
        match renameat(&shared.volumes, volume.to_string(), &shared.deleted, shared.fresh_name()) {
            Ok(()) => {
                shared.room.space.release(used);
                fsync(&shared.volumes).map_err(io)
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(io(errno)),
        }
    }

    /// Removes what deleted volumes and replaced trees left over: to be called once after the pool
    /// is opened, and after deletions. Takes long where there are many files.
    ///
    /// # Errors
    /// `Io`.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let swept = self.shared.sweep();
        self.shared.room.refill();
        swept.map_err(|errno| failed("remove what is deleted", errno))
    }
}

impl PoolShared {
    /// What a process that ended was making is none of anybody's.
    fn put_aside_what_was_made(&self) -> Result<(), Errno> {
        each_entry(&open_ours(&self.making, ".")?, |name| {
            renameat(&self.making, name, &self.deleted, self.fresh_name())
        })
    }

    /// Makes a tree, and says what it counts.
    pub(super) fn empty_tree(&self, trees: &OwnedFd, tree: u32) -> Result<CountRecord, StoreError> {
        let made = self.make_tree(trees, tree);
        let found = made.and_then(|tree| walk::stat_open(&tree.root));
        let blocks = usage::blocks(&found.map_err(|errno| failed("make a tree", errno))?);
        Ok(CountRecord { exact: true, carried: 0, files: 1, bytes: usage::counted(1, blocks) })
    }

    /// How a copy of a tree is made here, where that is known beforehand.
    pub(super) fn method(&self) -> CopyMethod {
        match (self.driver, self.clones) {
            (Driver::Btrfs, _) => CopyMethod::Subvolume,
            (_, true) => CopyMethod::Reflink,
            (_, false) => CopyMethod::Bytes,
        }
    }
}

/// Whether file volumes can be here. Answers the number of the mount.
fn check(home: &OwnedFd, driver: Driver) -> Result<i32, StoreError> {
    let needs_root = "file volumes need root: to open files by handle (CAP_DAC_READ_SEARCH), and \
         to act as the callers that the kernel is to check (CAP_SETUID, CAP_SETGID)";
    let (inode, mount) = inode_of(home.as_fd(), c"").map_err(|_| {
        let why = "the file system has no handles that stay good: use ext4, XFS or btrfs";
        StoreError::refused(why)
    })?;
    if inode.open(home.as_fd(), OFlags::PATH).is_err() || act_as(1, 1, &[]).is_err() {
        return Err(StoreError::refused(needs_root));
    }
    if driver == Driver::Btrfs && inode.form != Form::Btrfs {
        let why = "the directory does not lie on btrfs: use the driver dir, or mount a btrfs there";
        return Err(StoreError::refused(why));
    }
    Ok(mount)
}

pub(super) fn made_or_there(within: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(within, name, OURS) {
        Ok(()) | Err(Errno::EXIST) => open_ours(within, name),
        Err(errno) => Err(errno),
    }
}

/// Whether files can share blocks here.
fn clones(home: &OwnedFd) -> bool {
    let nameless = || openat(home, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, OURS);
    let both = nameless().and_then(|one| Ok((one, nameless()?)));
    both.is_ok_and(|(one, other)| ioctl_ficlone(one, other).is_ok())
}

fn number(random: &dyn Random) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

/// A quarter of what the process may open: sockets and block volumes want theirs.
fn open_files_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(OPEN_FILES_MAX * 4);
    usize::try_from((limit / 4).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)).unwrap_or(256)
}

/// The volume that lies in `home`, by its record and the table that belongs to it.
pub(super) fn open_volume(
    pool: Arc<PoolShared>,
    (id, number): (VolumeId, u64),
    home: OwnedFd,
    (record, carried): (VolumeRecord, Option<Table>),
    usage: Usage,
) -> Result<FileVolume, Errno> {
    let trees_home = open_ours(&home, TREES)?;
    // What a change that did not come to its end has left.
    let mut left_over = Vec::new();
    each_entry(&open_ours(&trees_home, ".")?, |name| {
        let tree = name.to_str().map_err(|_| Errno::ILSEQ)?;
        let number = u32::from_str_radix(tree, 16).ok();
        if number.is_none_or(|number| !record.names(number)) {
            left_over.push(tree.to_owned());
        }
        Ok(())
    })?;
    for tree in left_over {
        pool.remove_tree(&trees_home, &tree)?;
    }
    let living = Tree::open(&trees_home, record.living)?.living(pool.driver);
    let living_came = AtomicBool::new(record.living_came);
    let ids = Ids { key: record.id_key(), carried, living_came };
    let holds = Holds::of(&living, &ids)?;
    let mut trees = BTreeMap::from([(LIVING, living)]);
    for snapshot in &record.snapshots {
        trees.insert(snapshot.tree, Tree::open(&trees_home, snapshot.tree)?);
    }
    let verifier = AtomicU64::new(pool.verifier);
    Ok(FileVolume(Arc::new(Inner {
        pool,
        id,
        number,
        ids,
        later_nanos: record.later_nanos,
        secret: record.secret,
        home,
        browsed: Mutex::new(record.snapshots.clone()),
        changes: RwLock::new(()),
        trees: RwLock::new(trees),
        names: RwLock::new(()),
        usage,
        relaxed: AtomicBool::new(record.relaxed),
        record: Mutex::new(record),
        verifier,
        deleted: AtomicBool::new(false),
        holds,
        is_seen: AtomicBool::new(true),
    })))
}

impl Inner {
    /// Nothing of the volume is reached any more, and nothing of it is open. Answers the bytes that
    /// it used, its snapshots' copies with it.
    pub(super) fn end(&self) -> u64 {
        let copied = locked(&self.browsed).iter().map(|snapshot| snapshot.copied_bytes).sum();
        let _changes = super::volume::alone(&self.changes);
        let mut trees = super::volume::alone(&self.trees);
        self.deleted.store(true, Ordering::Relaxed);
        trees.clear();
        self.pool.cache.purge(self.number, None);
        self.usage.used().saturating_add(copied)
    }
}
