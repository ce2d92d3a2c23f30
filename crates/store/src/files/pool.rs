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
use rustix::fs::{
    Mode, OFlags, fstatfs, fstatvfs, fsync, ioctl_ficlone, mkdirat, openat, renameat,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::cache::Cache;
use super::ids::LIVING;
use super::record::{self, PoolRecord, VolumeRecord, failed};
use super::usage::Usage;
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
    home: OwnedFd,
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
struct Open {
    volumes: BTreeMap<VolumeId, FileVolume>,
    next_number: u64,
}

impl FilePool {
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
        let shared = PoolShared {
            id,
            driver,
            clones: clones(&home),
            home,
            volumes,
            deleted,
            next_deleted: AtomicU64::new(number(&*random) >> 1),
            sweeping: Mutex::new(()),
            mount,
            file_bytes_max,
            cache: Cache::new(open_files_max()),
            verifier: number(&*random),
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared), random, open: Mutex::default() })
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

    /// How full the pool is: bytes of the file system that it lies on, and the sizes that volumes
    /// were promised. No volume is opened for it, which would count all its files.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn usage(&self) -> Result<PoolUsage, StoreError> {
        let found = fstatvfs(&self.shared.home).map_err(|e| failed("ask for space", e))?;
        let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(found.f_frsize));
        let mut provisioned = 0u64;
        for volume in self.volumes()? {
            let what = format!("file volume {volume}");
            let home = match open_ours(&self.shared.volumes, &volume.to_string()) {
                Ok(home) => home,
                // Deleted since the list was made.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(&what, errno)),
            };
            let record = record::read::<VolumeRecord>(home.as_fd(), &what)?;
            provisioned = provisioned.saturating_add(record.map_or(0, |record| record.size_bytes));
        }
        Ok(PoolUsage {
            pool: self.shared.id,
            capacity: bytes(found.f_blocks),
            used: bytes(found.f_blocks.saturating_sub(found.f_bavail)),
            provisioned: ByteSize(provisioned),
        })
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
            self.shared.make_tree(trees, FIRST_TREE).map_err(|e| failed("make a tree", e))?;
            Ok(())
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
        fill: impl FnOnce(&OwnedFd) -> Result<(), StoreError>,
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
            fill(&trees)?;
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
            record::write(home.as_fd(), &record)?;
            rustix::fs::syncfs(&home).map_err(io)?;
            renameat(&shared.deleted, &aside, &shared.volumes, volume.to_string()).map_err(io)?;
            fsync(&shared.volumes).map_err(io)
        });
        if let Err(error) = made {
            // What is left of it stands among what is put aside.
            let _ = shared.sweep();
            return Err(error);
        }
        self.volume(volume)
    }

    /// Opens a volume; once it is, it stays open. Counts what it uses.
    ///
    /// # Errors
    /// `Missing`, `Corrupt`, `Format`, `Io`.
    pub fn volume(&self, volume: VolumeId) -> Result<FileVolume, StoreError> {
        let mut open = locked(&self.open);
        if let Some(found) = open.volumes.get(&volume) {
            return Ok(found.clone());
        }
        let what = format!("file volume {volume}");
        let home = match open_ours(&self.shared.volumes, &volume.to_string()) {
            Ok(home) => home,
            Err(Errno::NOENT) => return Err(StoreError::missing(what)),
            Err(errno) => return Err(failed(&what, errno)),
        };
        let record = record::read::<VolumeRecord>(home.as_fd(), &what)?
            .ok_or_else(|| StoreError::corrupt(&*what, "it has no record"))?;
        open.next_number += 1;
        let shared = Arc::clone(&self.shared);
        let found = open_volume(shared, volume, open.next_number, home, record)
            .map_err(|errno| failed(&what, errno))?;
        open.volumes.insert(volume, found.clone());
        Ok(found)
    }

    /// Deletes a volume with its snapshots: it is gone at once, and its room comes back by
    /// [`Self::sweep`]. Not there: nothing to do. Who still has it gets `Stale` for everything.
    ///
    /// # Errors
    /// `Io`.
    pub fn delete_volume(&self, volume: VolumeId) -> Result<(), StoreError> {
        let io = |errno| failed("delete a volume", errno);
        let mut open = locked(&self.open);
        if let Some(found) = open.volumes.remove(&volume) {
            found.0.end();
        }
        let shared = &self.shared;
        match renameat(&shared.volumes, volume.to_string(), &shared.deleted, shared.fresh_name()) {
            Ok(()) => fsync(&shared.volumes).map_err(io),
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
        self.shared.sweep().map_err(|errno| failed("remove what is deleted", errno))
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
    let mut trees =
        BTreeMap::from([(LIVING, Tree::open(&trees_home, record.living)?.living(pool.driver))]);
    for snapshot in &record.snapshots {
        trees.insert(snapshot.tree, Tree::open(&trees_home, snapshot.tree)?);
    }
    let usage = Usage::new(record.size_bytes);
    let (files, blocks) = walk::count(&trees[&LIVING].root)?;
    usage.reset(files, blocks);
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
        names: Mutex::new(()),
        usage,
        relaxed: AtomicBool::new(record.relaxed),
        record: Mutex::new(record),
        verifier,
        deleted: AtomicBool::new(false),
    })))
}

impl Inner {
    /// Nothing of the volume is reached any more, and nothing of it is open.
    fn end(&self) {
        let _changes = super::volume::alone(&self.changes);
        let mut trees = super::volume::alone(&self.trees);
        self.deleted.store(true, Ordering::Relaxed);
        trees.clear();
        self.pool.cache.purge(self.number, None);
    }
}
