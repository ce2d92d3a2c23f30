//! Names: looking up, making, removing, renaming, linking.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, RwLockReadGuard};

use bytes::Bytes;
use env::leftovers::let_go;
use model::file::{
    Attributes, Before, Caller, Changed, Creation, FileError, FileId, FileKind, FileResult, Made,
    New, Removal, SetAttributes,
};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Statx, XattrFlags, fgetxattr, fsetxattr, linkat, makedev,
    mkdirat, mknodat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::attributes::{count, set_mode};
use super::cache::{OpenFile, State};
use super::errno::refused;
use super::holds::HIDDEN;
use super::ids::LIVING;
use super::usage::{FILE_BYTES, blocks};
use super::volume::{Inner, Op, SNAPSHOTS, alone, kind_of, path, shared, stat};
use crate::pool::locked;

const DAEMON: Caller = Caller { uid: 0, gid: 0, gids: Vec::new() };
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
const SET_GID: u32 = 0o2000;
/// Of an exclusive creation: its verifier, and the time of the file's last write then. In the
/// namespace that only the daemon sees.
pub(super) const VERIFIER: &CStr = c"trusted.commonhold.verifier";
pub(super) const VERIFIER_BYTES: usize = 20;

/// A directory in which a name is being changed: nobody else changes one in it.
struct Place<'a> {
    directory: &'a OpenFile,
    state: MutexGuard<'a, State>,
    found: Statx,
    before: Before,
}

impl<'a> Place<'a> {
    /// The caller holds the volume's `names`.
    fn enter(directory: &'a OpenFile) -> FileResult<Self> {
        directory.directory()?;
        let state = locked(&directory.state);
        if state.gone {
            return Err(FileError::Stale);
        }
        let found = stat(&directory.fd)?;
        let before = directory.attributes(&found).before();
        Ok(Self { directory, state, found, before })
    }

    fn leave(mut self, op: &Op<'_>) -> FileResult<Changed> {
        let after = op.stat_changed(self.directory, &self.found)?;
        count(&op.volume.usage, self.directory.id.inode, &mut self.state, &after);
        Ok(Changed { before: self.before, after: self.directory.attributes(&after) })
    }

    fn unchanged(self) -> Changed {
        Changed { before: self.before, after: self.directory.attributes(&self.found) }
    }
}

/// A file that was made just now.
struct Fresh {
    found: Statx,
    /// Something was set since it was found, which the directory's flush does not cover.
    is_set: bool,
}

impl Op<'_> {
    /// The names of the directories of snapshots and of nameless files are taken, though no listing
    /// has them.
    fn is_reserved(&self, directory: FileId, name: &[u8]) -> bool {
        let is_ours = name == SNAPSHOTS || name == HIDDEN.to_bytes();
        is_ours && directory.tree == LIVING && self.is_root(directory)
    }

    /// Takes a file's last name or one of several; `victim` is locked and `unlink` removes it.
    /// Says whether it is nameless now, which is to be made durable.
    fn take_away(
        &self,
        victim: &OpenFile,
        unlink: impl FnOnce() -> FileResult<()>,
    ) -> FileResult<bool> {
        let mut state = locked(&victim.state);
        let is_last = victim.is_directory() || stat(&victim.fd)?.stx_nlink <= 1;
        let hidden = is_last && self.hide(victim);
        unlink().inspect_err(|_| {
            if hidden {
                self.unhide(victim.id);
            }
        })?;
        if hidden {
            self.note_nameless(victim, state.blocks);
        } else if is_last {
            state.gone = true;
            self.volume.usage.gone(victim.id.inode, state.blocks);
            self.volume.pool.cache.remove(self.volume.number, victim.id);
        }
        Ok(hidden)
    }

    /// A file that was made just now gets the rest of its attributes.
    fn finish(&self, caller: &Caller, file: &OpenFile, set: &SetAttributes) -> FileResult<Fresh> {
        let found = stat(&file.fd)?;
        let is_set = self.set_rest(caller, file, &found, set)?;
        Ok(Fresh { found, is_set })
    }

    /// Says whether there was anything to set.
    fn set_rest(
        &self,
        caller: &Caller,
        file: &OpenFile,
        found: &Statx,
        set: &SetAttributes,
    ) -> FileResult<bool> {
        let mut set = set.clone();
        let mut masked = false;
        if let Some(mode) = set.mode {
            let has = u32::from(found.stx_mode) & 0o7777;
            // A directory inherits the bit that makes files inherit its group.
            let inherited = if file.is_directory() { has & SET_GID } else { 0 };
            let wanted = mode & 0o7777 | inherited;
            set.mode = (wanted != has && file.kind != FileKind::Symlink).then_some(wanted);
            // What only the daemon's own umask took away, it gives back itself: done by a caller
            // who is not of the file's group, the same would take the inherited bit away.
            masked = set.mode.is_some() && (wanted ^ has) & !0o777 == 0;
            if masked {
                set_mode(&DAEMON, file, wanted)?;
                set.mode = None;
            }
        }
        if set == SetAttributes::default() {
            return Ok(masked);
        }
        self.apply(caller, file, &set)?;
        Ok(true)
    }
}

impl Inner {
    pub(super) fn lookup(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<Attributes> {
        let op = self.reading()?;
        if op.is_snapshots(directory) {
            return op.snapshot_root(name);
        }
        let parent = op.file(directory)?;
        parent.directory()?;
        if name == SNAPSHOTS && op.is_reserved(directory, name) {
            return op.snapshots_attributes();
        }
        let (id, found) = op.find(caller, &parent, name)?;
        Ok(self.seen(id, &found))
    }

    pub(super) fn parent(&self, caller: &Caller, directory: FileId) -> FileResult<FileId> {
        let op = self.reading()?;
        if op.is_snapshots(directory) {
            return Ok(self.ids.root(LIVING));
        }
        let file = op.file(directory)?;
        file.directory()?;
        if op.is_root(directory) {
            let living = directory.tree == LIVING;
            return Ok(if living { directory } else { self.ids.snapshots() });
        }
        let _acting = op.act(caller)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&file.fd, c"..", flags, Mode::empty()).map_err(refused)?;
        op.id_of(directory.tree, &fd)
    }

    pub(super) fn read_link(&self, link: FileId) -> FileResult<Bytes> {
        let op = self.reading()?;
        if op.is_snapshots(link) {
            return Err(FileError::Invalid);
        }
        let file = op.file(link)?;
        if file.kind != FileKind::Symlink {
            return Err(FileError::Invalid);
        }
        let target = readlinkat(&file.fd, c"", Vec::new()).map_err(refused)?;
        Ok(target.into_bytes().into())
    }

    pub(super) fn create(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        how: &Creation,
    ) -> FileResult<Made> {
        let op = self.changing(directory)?;
        let parent = op.file(directory)?;
        parent.directory()?;
        let set = match how {
            Creation::Unchecked(set) | Creation::Guarded(set) | Creation::Exclusive(_, set) => set,
        };
        let names = shared(&self.names);
        let place = Place::enter(&parent)?;
        let name_path = path(name)?;
        if op.is_reserved(directory, name) {
            return Err(FileError::Exists);
        }
        let reserved = self.usage.reserve(FILE_BYTES);
        let mode = Mode::from_raw_mode(set.mode.unwrap_or(FILE_MODE) & 0o7777);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let opened = match &reserved {
            Err(_) => Err(Errno::EXIST),
            Ok(_) => {
                let _acting = op.act(caller)?;
                openat(&parent.fd, &name_path, flags | OFlags::CLOEXEC, mode)
            }
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::EXIST) => {
                drop(names);
                let found = op.find(caller, &parent, name);
                if matches!(found, Err(FileError::NotFound)) {
                    drop(reserved?);
                }
                let directory = place.unchanged();
                let attributes = self.found(&op, caller, found?, how)?;
                return Ok(Made { attributes, is_new: false, directory });
            }
            Err(errno) => return Err(refused(errno)),
        };
        let id = op.id_of(directory.tree, &fd)?;
        let file = op.keep(OpenFile::new(id, FileKind::Regular, fd, (0, self.later_nanos)));
        let verifier =
            if let Creation::Exclusive(verifier, _) = how { Some(verifier) } else { None };
        let fresh = op.finish(caller, &file, set).and_then(|fresh| match verifier {
            None => Ok(fresh),
            Some(verifier) => {
                put_verifier(&file.fd, verifier).map(|()| Fresh { is_set: true, ..fresh })
            }
        });
        self.made(&op, place, names, &file, &name_path, fresh)
    }

    /// The last steps of making a file: it counts, and it is durable; or it is undone.
    fn made(
        &self,
        op: &Op<'_>,
        place: Place<'_>,
        names: RwLockReadGuard<'_, ()>,
        file: &Arc<OpenFile>,
        name: &CStr,
        fresh: FileResult<Fresh>,
    ) -> FileResult<Made> {
        let parent = place.directory;
        let fresh = fresh.inspect_err(|_| {
            let flags = if file.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // Nobody knows the file yet; what cannot be removed stays as an empty file.
            let _ = unlinkat(&parent.fd, name, flags);
            self.pool.cache.remove(self.number, file.id);
        })?;
        let found = {
            let mut state = locked(&file.state);
            let found = if fresh.is_set { stat(&file.fd)? } else { fresh.found };
            state.blocks = blocks(&found);
            self.usage.made(file.id.inode, state.blocks);
            found
        };
        let directory = place.leave(op)?;
        drop(names);
        if fresh.is_set {
            self.make_durable(file)?;
        }
        self.make_durable(parent)?;
        Ok(Made { attributes: file.attributes(&found), is_new: true, directory })
    }

    /// A creation found its name taken.
    fn found(
        &self,
        op: &Op<'_>,
        caller: &Caller,
        (id, found): (FileId, Statx),
        how: &Creation,
    ) -> FileResult<Attributes> {
        match how {
            Creation::Unchecked(set) => {
                let file = op.file(id)?;
                file.regular()?;
                if set.size_bytes != Some(0) {
                    return Ok(self.seen(id, &found));
                }
                let size = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
                Ok(self.set_found(op, caller, &file, &size)?.after)
            }
            Creation::Exclusive(verifier, _) if kind_of(&found) == FileKind::Regular => {
                let file = op.file(id)?;
                let mut held = [0; VERIFIER_BYTES];
                let read = fgetxattr(&file.fd, VERIFIER, &mut held[..]);
                let same = read == Ok(VERIFIER_BYTES) && held == stamp(verifier, &stat(&file.fd)?);
                if same { Ok(self.seen(id, &found)) } else { Err(FileError::Exists) }
            }
            _ => Err(FileError::Exists),
        }
    }

    pub(super) fn make(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        new: &New,
        set: &SetAttributes,
    ) -> FileResult<Made> {
        let op = self.changing(directory)?;
        let parent = op.file(directory)?;
        parent.directory()?;
        let names = shared(&self.names);
        let place = Place::enter(&parent)?;
        let name = {
            if op.is_reserved(directory, name) {
                return Err(FileError::Exists);
            }
            path(name)?
        };
        let room = self.usage.reserve(FILE_BYTES);
        if let Err(full) = room {
            let taken = op.find(caller, &parent, name.to_bytes());
            return Err(if taken.is_ok() { FileError::Exists } else { full });
        }
        {
            let _acting = op.act(caller)?;
            place_new(&parent.fd, &name, new, set)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&parent.fd, &name, flags, Mode::empty()).map_err(refused)?;
        let file = op.file(op.id_of(directory.tree, &fd)?)?;
        let default = if *new == New::Directory { DIRECTORY_MODE } else { FILE_MODE };
        let wanted = SetAttributes { mode: set.mode.or(Some(default)), ..set.clone() };
        let fresh = op.finish(caller, &file, &wanted);
        self.made(&op, place, names, &file, &name, fresh)
    }

    pub(super) fn remove(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        what: Removal,
    ) -> FileResult<Changed> {
        let op = self.changing(directory)?;
        let parent = op.file(directory)?;
        let (changed, hidden) = {
            let _names = shared(&self.names);
            let place = Place::enter(&parent)?;
            if op.is_reserved(directory, name) {
                return Err(FileError::ReadOnly);
            }
            // Nobody else changes a name in this directory.
            let victim = op.find_file(caller, &parent, name)?;
            let is_directory = victim.is_directory();
            match what {
                Removal::File if is_directory => return Err(FileError::IsDirectory),
                Removal::Directory if !is_directory => return Err(FileError::NotDirectory),
                _ => {}
            }
            let name = path(name)?;
            let hidden = op.take_away(&victim, || {
                let _acting = op.act(caller)?;
                let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                unlinkat(&parent.fd, &name, flags).map_err(not_empty)
            })?;
            let_go(victim);
            (place.leave(&op)?, hidden)
        };
        if hidden {
            op.flush_hidden()?;
        }
        self.make_durable(&parent)?;
        Ok(changed)
    }

    pub(super) fn rename(
        &self,
        caller: &Caller,
        (from, from_name): (FileId, &[u8]),
        (to, to_name): (FileId, &[u8]),
    ) -> FileResult<(Changed, Changed)> {
        let op = self.changing(from)?;
        op.check(to)?;
        if to.tree != LIVING {
            return Err(FileError::ReadOnly);
        }
        let (source, target) = (op.file(from)?, op.file(to)?);
        source.directory()?;
        target.directory()?;
        let (changed, hidden) = {
            let _names = alone(&self.names);
            if op.is_reserved(from, from_name) || op.is_reserved(to, to_name) {
                return Err(FileError::ReadOnly);
            }
            let left = Place::enter(&source)?;
            let gained = if from == to { None } else { Some(Place::enter(&target)?) };
            let (moved, moved_stat) = op.find(caller, &source, from_name)?;
            let replaced = match op.find(caller, &target, to_name) {
                Ok(found) => Some(found),
                Err(FileError::NotFound) => None,
                Err(error) => return Err(error),
            };
            let (old, new) = (path(from_name)?, path(to_name)?);
            if moved != from && moved != to {
                op.meet(&source.fd, &old, moved);
            }
            let rename = || {
                let _acting = op.act(caller)?;
                renameat(&source.fd, &old, &target.fd, &new).map_err(not_empty)
            };
            if replaced.is_some_and(|(replaced, _)| replaced == moved) {
                let left = left.unchanged();
                return Ok((left.clone(), gained.map_or(left, Place::unchanged)));
            }
            let hidden = match replaced {
                None => rename().map(|()| false)?,
                Some((_, found)) if is_directory(&found) != is_directory(&moved_stat) => {
                    return Err(FileError::Exists);
                }
                // It holds what is to be moved; and its lock is taken.
                Some((replaced, _)) if replaced == from => return Err(FileError::NotEmpty),
                Some((replaced, _)) => {
                    let replaced = op.file(replaced)?;
                    let hidden = op.take_away(&replaced, rename)?;
                    let_go(replaced);
                    hidden
                }
            };
            let left = left.leave(&op)?;
            let gained = gained.map_or(Ok(left.clone()), |gained| gained.leave(&op))?;
            ((left, gained), hidden)
        };
        if hidden {
            op.flush_hidden()?;
        }
        // First where it is now, so that no crash can lose both names.
        self.make_durable(&target)?;
        if from != to {
            self.make_durable(&source)?;
        }
        Ok(changed)
    }

    pub(super) fn link(
        &self,
        caller: &Caller,
        id: FileId,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<(Attributes, Changed)> {
        let op = self.changing(directory)?;
        op.check(id)?;
        if id.tree != LIVING {
            return Err(FileError::CrossDevice);
        }
        let (file, parent) = (op.file(id)?, op.file(directory)?);
        if file.is_directory() {
            return Err(FileError::IsDirectory);
        }
        let (linked, changed) = {
            let _names = shared(&self.names);
            let place = Place::enter(&parent)?;
            if op.is_reserved(directory, name) {
                return Err(FileError::Exists);
            }
            let state = locked(&file.state);
            if state.gone || file.nameless.load(Ordering::Relaxed) {
                return Err(FileError::Stale);
            }
            let before = stat(&file.fd)?;
            {
                let _acting = op.act(caller)?;
                // Of the ways to link an open file this one asks for no capability.
                let source = format!("/proc/self/fd/{}", file.fd.as_raw_fd());
                let follow = AtFlags::SYMLINK_FOLLOW;
                linkat(CWD, source, &parent.fd, path(name)?, follow).map_err(refused)?;
            }
            self.usage.recount.met(id.inode, state.blocks);
            (self.seen(id, &op.stat_changed(&file, &before)?), place.leave(&op)?)
        };
        self.make_durable(&parent)?;
        if file.is_open() {
            self.make_durable(&file)?;
        }
        Ok((linked, changed))
    }
}

fn is_directory(found: &Statx) -> bool {
    kind_of(found) == FileKind::Directory
}

/// Some file systems say of a directory that is not empty that the name is taken.
fn not_empty(errno: Errno) -> FileError {
    if errno == Errno::EXIST { FileError::NotEmpty } else { refused(errno) }
}

fn place_new(parent: &OwnedFd, name: &CStr, new: &New, set: &SetAttributes) -> FileResult<()> {
    let mode = |default| Mode::from_raw_mode(set.mode.unwrap_or(default) & 0o7777);
    let special = |kind, device| mknodat(parent, name, kind, mode(FILE_MODE), device);
    let placed = match new {
        New::Directory => mkdirat(parent, name, mode(DIRECTORY_MODE)),
        New::Symlink(target) => {
            if target.is_empty() {
                return Err(FileError::Invalid);
            }
            symlinkat(&target[..], parent, name)
        }
        New::Special(FileKind::BlockDevice(major, minor)) => {
            special(FileType::BlockDevice, makedev(*major, *minor))
        }
        New::Special(FileKind::CharacterDevice(major, minor)) => {
            special(FileType::CharacterDevice, makedev(*major, *minor))
        }
        New::Special(FileKind::Socket) => special(FileType::Socket, 0),
        New::Special(FileKind::Fifo) => special(FileType::Fifo, 0),
        New::Special(_) => return Err(FileError::Invalid),
    };
    placed.map_err(refused)
}

/// A verifier, and the time of the file's last write: who writes the file makes them differ.
fn stamp(verifier: &[u8; 8], found: &Statx) -> [u8; VERIFIER_BYTES] {
    let mut bytes = [0; VERIFIER_BYTES];
    bytes[..8].copy_from_slice(verifier);
    bytes[8..16].copy_from_slice(&found.stx_mtime.tv_sec.to_be_bytes());
    bytes[16..].copy_from_slice(&found.stx_mtime.tv_nsec.to_be_bytes());
    bytes
}

fn put_verifier(fd: &OwnedFd, verifier: &[u8; 8]) -> FileResult<()> {
    let value = stamp(verifier, &stat(fd)?);
    fsetxattr(fd, VERIFIER, &value, XattrFlags::empty()).map_err(refused)
}
