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
use super::holds::Holds;
use super::ids::LIVING;
use super::record::{self, CountRecord, PoolRecord, Record, VolumeRecord, failed};
use super::room::Room;
use super::usage::{self, Usage};
use super::volume::{Inner, Tree};
use super::walk::{self, each_entry, open_ours};
use super::{CopyMethod, FileVolume};
use crate::error::StoreError;
use crate::pool::locked;

const VOLUMES: &str = "volumes";
const DELETED: &str = "deleted";
pub(super) const TREES: &str = "trees";
const OURS: Mode = Mode::RWXU;
const FIRST_TREE: u32 = 1;
const EXT4: i64 = 0xef53;
const EXT4_FILE_BYTES_MAX: u64 = (1 << 44) - 4096;
const OPEN_FILES_MIN: u64 = 256;
const OPEN_FILES_MAX: u64 = 1 << 16;

pub(super) struct PoolShared {
    pub(super) id: PoolId,
    pub(super) driver: Driver,
    volumes: OwnedFd,
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
    shared: Arc<PoolShared>,
    random: Arc<dyn Random>,
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
        self.create(volume, size, durability, |trees| {
            let made = self.shared.make_tree(trees, FIRST_TREE);
            let found = made.and_then(|tree| walk::stat_open(&tree.root));
            let blocks = usage::blocks(&found.map_err(|e| failed("make a tree", e))?);
            let bytes = usage::counted(1, blocks);
            Ok(CountRecord { exact: true, carried: 0, files: 1, bytes })
        })
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
        // Made where it counts for nothing yet, and put in its place when it is whole.
        let shared = &self.shared;
        let aside = shared.fresh_name();
        let io = |errno| failed("make a volume", errno);
        mkdirat(&shared.deleted, &aside, OURS).map_err(io)?;
        let made = open_ours(&shared.deleted, &aside).map_err(io).and_then(|home| {
            let trees = made_or_there(&home, TREES).map_err(io)?;
            let count = fill(&trees)?;
            let mut key = [0; 16];
            self.random.fill(&mut key);
            let record = VolumeRecord {
                size_bytes: size.0,
                relaxed: durability == Durability::Relaxed,
                key,
                living: FIRST_TREE,
                next_tree: FIRST_TREE + 1,
                snapshots: Vec::new(),
            };
            record::place(home.as_fd(), &record)?;
            record::place(home.as_fd(), &count)?;
            rustix::fs::syncfs(&home).map_err(io)?;
            renameat(&shared.deleted, &aside, &shared.volumes, volume.to_string()).map_err(io)?;
            shared.room.space.add(count.bytes);
            fsync(&shared.volumes).map_err(io)
        });
        if let Err(error) = made {
            // What is left of it stands among what is put aside.
            let _ = shared.sweep();
            return Err(error);
        }
        self.volume(volume)
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
        let shared = Arc::clone(&self.shared);
        let count = home.try_clone().map_err(|why| StoreError::from_io(&*what, 0, why))?;
        let room = Arc::clone(&self.shared.room);
        let usage = Usage::open(count, room, &what, record.size_bytes)?;
        let found = open_volume(shared, volume, open.next_number, home, record, usage)
            .map_err(|errno| failed(&what, errno))?;
        open.volumes.insert(volume, found.clone());
        Ok(found)
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

fn made_or_there(within: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
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

fn open_volume(
    pool: Arc<PoolShared>,
    id: VolumeId,
    number: u64,
    home: OwnedFd,
    record: VolumeRecord,
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
    let holds = Holds::of(&living, &record.id_key())?;
    let mut trees = BTreeMap::from([(LIVING, living)]);
    for snapshot in &record.snapshots {
        trees.insert(snapshot.tree, Tree::open(&trees_home, snapshot.tree)?);
    }
    let verifier = AtomicU64::new(pool.verifier);
    Ok(FileVolume(Arc::new(Inner {
        pool,
        id,
        number,
        key: record.id_key(),
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
    })))
}

impl Inner {
    /// Nothing of the volume is reached any more, and nothing of it is open. Answers the bytes that
    /// it used, its snapshots' copies with it.
    fn end(&self) -> u64 {
        let copied = locked(&self.browsed).iter().map(|snapshot| snapshot.copied_bytes).sum();
        let _changes = super::volume::alone(&self.changes);
        let mut trees = super::volume::alone(&self.trees);
        self.deleted.store(true, Ordering::Relaxed);
        trees.clear();
        self.pool.cache.purge(self.number, None);
        self.usage.used().saturating_add(copied)
    }
}
