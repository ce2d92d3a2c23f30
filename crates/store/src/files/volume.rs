//! One file volume: its trees, and how an operation reaches a file in them.
//!
//! ```text
//!  FileId --ids--> inode --cache or open_by_handle_at--> OpenFile --the caller's identity--> kernel
//!                                                           ^
//!    name --statx: the number of an inode that is open------'
//!      '----name_to_handle_at: inode and generation of any--> FileId
//! ```
//!
//! Locks, in this order: `record` (changes of structure), `changes` (shared by operations that
//! change the living tree, alone for who copies it), `trees` (shared by every operation), `names`
//! (shared by who adds names to a directory or takes them away, alone for who moves them), the locks
//! of files, that of a directory before those of what is in it. Only who holds `names` holds more
//! than one file's lock: as long as it is shared nothing moves, so a directory stays above what it
//! holds and nobody waits in a circle; who moves has no other beside him. No lock is held while a
//! flush runs, so that flushes are shared.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use env::posix::access::{EXECUTE, READ, may};
use env::posix::handle::{Form, Inode, inode_of};
use env::posix::identity::{Acting, act_as};
use model::file::{Attributes, Caller, FileError, FileId, FileKind, FileResult, Time};
use model::id::VolumeId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, fchmod, statx};
use rustix::io::Errno;

use super::cache::OpenFile;
use super::errno::{refused, refused_io};
use super::holds::{HIDDEN, Holds};
use super::ids::{self, Ids, LIVING, Named};
use super::pool::PoolShared;
use super::record::{SnapshotRecord, VolumeRecord};
use super::usage::{Usage, blocks};

pub(super) const NAME_BYTES_MAX: usize = 255;
/// The directory of snapshots, in the root.
pub(super) const SNAPSHOTS: &[u8] = b".snapshots";
/// A tick of the coarsest clock is ten milliseconds.
const TICK_MS_MAX: u32 = 20;
const WANTED: StatxFlags = StatxFlags::BASIC_STATS;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A tree that is there: living or a snapshot.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    pub(super) inode: Inode,
    /// Of its files' ids: see `ids`.
    pub(super) salt: u32,
    /// What stat(2) says that it lies on.
    pub(super) device: (u32, u32),
}

pub(super) struct Inner {
    pub(super) pool: Arc<PoolShared>,
    pub(super) id: VolumeId,
    /// Among the volumes of this pool, since it was opened.
    pub(super) number: u64,
    pub(super) ids: Ids,
    /// What is added to times of change.
    pub(super) later_nanos: u64,
    pub(super) secret: Option<[u8; 32]>,
    /// `<pool>/volumes/<id>`.
    pub(super) home: OwnedFd,
    pub(super) record: Mutex<VolumeRecord>,
    /// The record's snapshots, for who browses them and may not wait for the record.
    pub(super) browsed: Mutex<Vec<SnapshotRecord>>,
    pub(super) changes: RwLock<()>,
    pub(super) trees: RwLock<BTreeMap<u32, Tree>>,
    pub(super) names: RwLock<()>,
    pub(super) usage: Usage,
    pub(super) relaxed: AtomicBool,
    pub(super) verifier: AtomicU64,
    pub(super) deleted: AtomicBool,
    pub(super) holds: Holds,
    /// Clients may look at it: not while it is being received.
    pub(super) is_seen: AtomicBool,
}

/// What an operation holds on to from its start to its end.
pub(super) struct Op<'a> {
    pub(super) volume: &'a Inner,
    pub(super) trees: RwLockReadGuard<'a, BTreeMap<u32, Tree>>,
    _changes: Option<RwLockReadGuard<'a, ()>>,
}

thread_local! {
    static IN_BULK: Cell<bool> = const { Cell::new(false) };
}

/// Ends what [`in_bulk`] began, also when the work panics.
struct Bulk {
    before: bool,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        IN_BULK.set(self.before);
    }
}

/// Work of this thread alone, none of which is durable by itself; what others do meanwhile is.
pub(super) fn in_bulk<R>(work: impl FnOnce() -> R) -> R {
    let _bulk = Bulk { before: IN_BULK.replace(true) };
    work()
}

pub(super) fn shared<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
pub(super) fn alone<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// What clients are told of a file.
    pub(super) fn seen(&self, file: FileId, found: &Statx) -> Attributes {
        attributes(file, found, self.later_nanos)
    }
    /// Begins an operation that changes nothing.
    pub(super) fn reading(&self) -> FileResult<Op<'_>> {
        if self.deleted.load(Ordering::Relaxed) {
            return Err(FileError::Stale);
        }
        Ok(Op { volume: self, trees: shared(&self.trees), _changes: None })
    }
    /// Begins an operation that changes this file, or what is in this directory.
    pub(super) fn changing(&self, file: FileId) -> FileResult<Op<'_>> {
        let changes = Some(shared(&self.changes));
        let op = Op { _changes: changes, ..self.reading()? };
        op.check(file)?;
        if file.tree != LIVING {
            return Err(FileError::ReadOnly);
        }
        self.usage.allow(0)?;
        Ok(op)
    }

    /// What was done to the file is durable, unless the volume's durability is relaxed, or this
    /// thread makes many things durable together ([`in_bulk`]).
    pub(super) fn make_durable(&self, file: &OpenFile) -> FileResult<()> {
        if self.waits_for_medium() { self.flush(file) } else { Ok(()) }
    }

    pub(super) fn waits_for_medium(&self) -> bool {
        !self.relaxed.load(Ordering::Relaxed) && !IN_BULK.get()
    }

    /// Callers that wait for the same file share a flush; the file system puts flushes of
    /// different files that run at once into one commit of its journal.
    pub(super) fn flush(&self, file: &OpenFile) -> FileResult<()> {
        let work = async || {
            if file.is_open() {
                rustix::fs::fsync(&file.fd)
            } else {
                // There is no descriptor that a special file could be synced by.
                rustix::fs::syncfs(&self.home)
            }
        };
        let flushed = futures::executor::block_on(file.flushes.run(work));
        flushed.map_err(|errno| {
            // The kernel forgets what it could not write: clients have to send it again.
            self.verifier.fetch_add(1, Ordering::Relaxed);
            tracing::error!(volume = %self.id, %errno, "a flush failed");
            refused(errno)
        })
    }
}

impl Op<'_> {
    pub(super) fn tree(&self, tree: u32) -> FileResult<&Tree> {
        self.trees.get(&tree).ok_or(FileError::Stale)
    }

    /// # Errors
    /// `Stale` when the id is none that this volume gave; `Io`.
    pub(super) fn check(&self, file: FileId) -> FileResult<()> {
        // To look one up that the file brought along costs more than to know that it is open.
        let is_looked_up = self.volume.ids.carried.is_some();
        if is_looked_up && self.volume.pool.cache.get(self.volume.number, file).is_some() {
            return Ok(());
        }
        self.named(file).map(drop)
    }

    /// # Errors
    /// `Stale` when the id is none that this volume gave; `Io`.
    pub(super) fn named(&self, file: FileId) -> FileResult<Named> {
        let salt = self.trees.get(&file.tree).map_or(0, |tree| tree.salt);
        self.volume.ids.named(file, salt)
    }
    pub(super) fn is_snapshots(&self, file: FileId) -> bool {
        self.volume.ids.is_snapshots(file)
    }
    pub(super) fn is_root(&self, file: FileId) -> bool {
        self.volume.ids.is_root(file)
    }

    /// The file behind an id. The directory of snapshots has none.
    pub(super) fn file(&self, id: FileId) -> FileResult<Arc<OpenFile>> {
        // Who is there was named when it was opened.
        if let Some(found) = self.volume.pool.cache.get(self.volume.number, id) {
            return Ok(found);
        }
        let (tree, inode) = match self.named(id)? {
            Named::Snapshots => return Err(FileError::ReadOnly),
            Named::Root => self.tree(id.tree).map(|tree| (tree, tree.inode))?,
            Named::Inode(place) => {
                let tree = self.tree(id.tree)?;
                (tree, ids::inode(&tree.inode, place))
            }
        };
        let open = |flags| inode.open(tree.root.as_fd(), flags);
        let name = open(OFlags::PATH | OFlags::NOFOLLOW).map_err(refused_io)?;
        let found = stat(&name)?;
        if found.stx_nlink == 0 {
            return Err(FileError::Stale);
        }
        let kind = kind_of(&found);
        if inode.generation == 0 && inode != tree.inode && !is_that(&inode, &name, kind)? {
            return Err(FileError::Stale);
        }
        let fd = match kind {
            FileKind::Directory => open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(refused_io)?,
            // Of an immutable file, or one in a snapshot, there is only reading.
            FileKind::Regular => open(OFlags::RDWR | OFlags::NOFOLLOW)
                .or_else(|_| open(OFlags::RDONLY | OFlags::NOFOLLOW))
                .map_err(refused_io)?,
            _ => name,
        };
        let file = OpenFile::new(id, kind, fd, (blocks(&found), self.volume.later_nanos));
        if kind == FileKind::Regular && self.volume.holds.is_nameless(id) {
            file.nameless.store(true, Ordering::Relaxed);
        }
        Ok(self.keep(file))
    }

    pub(super) fn keep(&self, file: OpenFile) -> Arc<OpenFile> {
        self.volume.pool.cache.insert(self.volume.number, file)
    }

    /// Takes the caller's identity for the calls to the kernel that follow.
    pub(super) fn act(&self, caller: &Caller) -> FileResult<Acting> {
        act_as(caller.uid, caller.gid, &caller.gids).map_err(refused_io)
    }

    /// The id of an inode, on the mount of this number, in a tree.
    fn id_in(&self, tree: &Tree, number: u32, inode: &Inode, mount: i32) -> FileResult<FileId> {
        // What is mounted in a tree is none of ours.
        let ours = mount == self.volume.pool.mount && inode.subvolume == tree.inode.subvolume;
        if !ours {
            return Err(FileError::CrossDevice);
        }
        self.volume.ids.of(number, tree.salt, &tree.inode, inode)
    }

    /// The id of what is behind a descriptor in a tree.
    pub(super) fn id_of(&self, tree: u32, fd: &OwnedFd) -> FileResult<FileId> {
        let (inode, mount) = inode_of(fd.as_fd(), c"").map_err(refused_io)?;
        self.id_in(self.tree(tree)?, tree, &inode, mount)
    }

    /// What a name stands for, as the caller may see it.
    pub(super) fn find(
        &self,
        caller: &Caller,
        directory: &OpenFile,
        name: &[u8],
    ) -> FileResult<(FileId, Statx)> {
        if let Some((file, found)) = self.find_open(caller, directory, name)? {
            return Ok((file.id, found));
        }
        let (id, inode) = self.find_inode(caller, directory, name)?;
        let found = match self.volume.pool.cache.get(self.volume.number, id) {
            Some(file) if file.nameless.load(Ordering::Relaxed) => return Err(FileError::NotFound),
            Some(file) => stat(&file.fd)?,
            None => {
                let root = self.tree(directory.id.tree)?.root.as_fd();
                match inode.open(root, OFlags::PATH | OFlags::NOFOLLOW) {
                    Ok(fd) => stat(&fd)?,
                    Err(why) if why.raw_os_error() == Some(Errno::STALE.raw_os_error()) => {
                        return Err(FileError::NotFound);
                    }
                    Err(why) => return Err(refused_io(why)),
                }
            }
        };
        // It may have gone since the name was looked up.
        if found.stx_nlink == 0 { Err(FileError::NotFound) } else { Ok((id, found)) }
    }

    /// As [`Self::find`], of a file that is open: then the number of its inode is not another's, and
    /// says which one it is. `None`: it is not open, or its number does not tell.
    fn find_open(
        &self,
        caller: &Caller,
        directory: &OpenFile,
        name: &[u8],
    ) -> FileResult<Option<(Arc<OpenFile>, Statx)>> {
        let volume = self.volume;
        let tree = self.tree(directory.id.tree)?;
        // tmpfs can be mounted so that its numbers begin anew.
        if tree.inode.form == Form::Tmpfs || volume.ids.are_carried(directory.id.tree) {
            return Ok(None);
        }
        let name = self.entry(directory, name)?;
        let found = {
            let _acting = self.act(caller)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            statx(&directory.fd, &name, flags, WANTED).map_err(refused)?
        };
        if !self.is_in(tree, &found) {
            return Ok(None);
        }
        let inode = volume.ids.key.shown(found.stx_ino);
        let open = volume.pool.cache.of_inode(volume.number, directory.id.tree, inode);
        let open = open.filter(|file| !self.is_root(file.id));
        match open {
            Some(file) if file.nameless.load(Ordering::Relaxed) => Err(FileError::NotFound),
            open => Ok(open.map(|file| (file, found))),
        }
    }

    /// What is mounted in a tree is none of ours, nor is another subvolume. A kernel that does not
    /// tell is not asked.
    fn is_in(&self, tree: &Tree, found: &Statx) -> bool {
        let tells = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
        let is_mount = i32::try_from(found.stx_mnt_id).is_ok_and(|id| id == self.volume.pool.mount);
        tells && is_mount && (found.stx_dev_major, found.stx_dev_minor) == tree.device
    }

    /// The file that a name stands for, to be opened if it is not.
    pub(super) fn find_file(
        &self,
        caller: &Caller,
        directory: &OpenFile,
        name: &[u8],
    ) -> FileResult<Arc<OpenFile>> {
        if let Some((file, _)) = self.find_open(caller, directory, name)? {
            return Ok(file);
        }
        let (id, _) = self.find_inode(caller, directory, name)?;
        self.file(id).map_err(|error| match error {
            FileError::Stale => FileError::NotFound,
            other => other,
        })
    }

    /// The name of an entry of a directory, for the kernel.
    fn entry(&self, directory: &OpenFile, name: &[u8]) -> FileResult<CString> {
        if name == HIDDEN.to_bytes() && self.is_root(directory.id) {
            return Err(FileError::NotFound);
        }
        path(name)
    }

    /// As [`Self::find`], without a look at it.
    fn find_inode(
        &self,
        caller: &Caller,
        directory: &OpenFile,
        name: &[u8],
    ) -> FileResult<(FileId, Inode)> {
        let name = self.entry(directory, name)?;
        let (inode, mount) = {
            let _acting = self.act(caller)?;
            inode_of(directory.fd.as_fd(), &name).map_err(refused_io)?
        };
        let tree = self.tree(directory.id.tree)?;
        Ok((self.id_in(tree, directory.id.tree, &inode, mount)?, inode))
    }

    /// May the caller have the file's data? The owner may whatever the mode says, and who may
    /// execute a file may read it: see [`model::file::FileStore`].
    pub(super) fn check_data(
        &self,
        caller: &Caller,
        file: &OpenFile,
        found: &Statx,
        wanted: i32,
    ) -> FileResult<()> {
        if caller.uid == found.stx_uid || may_all(caller) {
            return Ok(());
        }
        let _acting = self.act(caller)?;
        let fd = file.fd.as_fd();
        let executes = || wanted == READ && may(fd, EXECUTE).is_ok();
        may(fd, wanted)
            .or_else(|why| if executes() { Ok(()) } else { Err(why) })
            .map_err(refused_io)
    }

    /// A change must show in the change attribute, which is the time of change. Kernels since 6.13
    /// give every change that was looked at a time of its own; older ones have a clock that
    /// ticks every few milliseconds, and there the second change within a tick waits for the next.
    pub(super) fn stat_changed(&self, file: &OpenFile, before: &Statx) -> FileResult<Statx> {
        let mut after = stat(&file.fd)?;
        let ticks = |found: &Statx| (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec);
        for _ in 0..TICK_MS_MAX {
            let shows = ticks(&after) != ticks(before);
            if shows || !file.is_open() || !self.volume.is_seen.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            fchmod(&file.fd, Mode::from_raw_mode(u32::from(after.stx_mode) & 0o7777))
                .map_err(refused)?;
            after = stat(&file.fd)?;
        }
        Ok(after)
    }
}

/// Whether an inode that was opened with generation 0 is meant, which ext4 takes for any of that
/// number. Directories of that generation are those that mkfs has made, and lie in no tree.
fn is_that(inode: &Inode, opened: &OwnedFd, kind: FileKind) -> FileResult<bool> {
    let (found, _) = inode_of(opened.as_fd(), c"").map_err(refused_io)?;
    Ok(found == *inode && kind != FileKind::Directory)
}

/// Whom no mode keeps from a file's data.
pub(super) fn may_all(caller: &Caller) -> bool {
    caller.uid == 0
}

pub(super) fn stat(fd: &OwnedFd) -> FileResult<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, WANTED).map_err(refused)
}

pub(super) fn kind_of(found: &Statx) -> FileKind {
    let device = (found.stx_rdev_major, found.stx_rdev_minor);
    match FileType::from_raw_mode(found.stx_mode.into()) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::BlockDevice => FileKind::BlockDevice(device.0, device.1),
        FileType::CharacterDevice => FileKind::CharacterDevice(device.0, device.1),
        FileType::Socket => FileKind::Socket,
        FileType::Fifo => FileKind::Fifo,
        _ => FileKind::Regular,
    }
}

/// What is known of a file, when times of change are told so much later than the kernel has them.
pub(super) fn attributes(file: FileId, found: &Statx, later_nanos: u64) -> Attributes {
    let time = |at: rustix::fs::StatxTimestamp| Time { seconds: at.tv_sec, nanos: at.tv_nsec };
    let changed = later(time(found.stx_ctime), later_nanos);
    Attributes {
        file,
        kind: kind_of(found),
        mode: u32::from(found.stx_mode) & 0o7777,
        links: found.stx_nlink,
        uid: found.stx_uid,
        gid: found.stx_gid,
        size_bytes: found.stx_size,
        used_bytes: found.stx_blocks * super::usage::BLOCK_BYTES,
        accessed: time(found.stx_atime),
        modified: time(found.stx_mtime),
        changed,
        change: nanos(changed),
    }
}

/// Nanoseconds since 1970: enough for five centuries, and never less than before.
fn nanos(time: Time) -> u64 {
    time.seconds.cast_unsigned().wrapping_mul(NANOS_PER_SECOND).wrapping_add(time.nanos.into())
}

fn later(time: Time, nanos: u64) -> Time {
    let all = u64::from(time.nanos) + nanos % NANOS_PER_SECOND;
    let seconds = (nanos / NANOS_PER_SECOND + all / NANOS_PER_SECOND).cast_signed();
    let nanos = u32::try_from(all % NANOS_PER_SECOND).unwrap_or(0);
    Time { seconds: time.seconds.saturating_add(seconds), nanos }
}

/// A name of one directory entry, for the kernel.
pub(super) fn path(name: &[u8]) -> FileResult<CString> {
    if name.len() > NAME_BYTES_MAX {
        return Err(FileError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(FileError::Invalid);
    }
    CString::new(name).map_err(|_| FileError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_told_later_is_later_by_so_much() {
        let time = Time { seconds: 5, nanos: 700_000_000 };
        for by in [0, 1, 300_000_000, 1_300_000_001, 86_400_000_000_000] {
            assert_eq!(nanos(later(time, by)), nanos(time) + by);
            assert!(later(time, by).nanos < 1_000_000_000);
        }
    }

    #[test]
    fn work_in_bulk_takes_no_others_durability_and_ends_with_a_panic() {
        let panics = || in_bulk(|| in_bulk(|| panic!("the work broke down")));
        in_bulk(|| {
            assert!(IN_BULK.get());
            let other = std::thread::spawn(|| IN_BULK.get());
            assert!(!other.join().unwrap(), "another thread waits for no medium");
        });
        assert!(!IN_BULK.get());
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(!IN_BULK.get());
    }
}
