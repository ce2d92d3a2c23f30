//! Attributes: what they are, setting them, and who may do what.

use env::posix::access::{EXECUTE, READ, WRITE, may};
use model::file::{
    Access, Attributes, Caller, Changed, FileError, FileId, FileKind, FileResult, SetAttributes,
    SetTime, Time,
};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmodat,
    chownat, fchmod, ftruncate, utimensat,
};
use std::os::fd::{AsFd, AsRawFd};

use super::cache::{OpenFile, State};
use super::errno::refused;
use super::ids::LIVING;
use super::usage::{Usage, blocks};
use super::volume::{Inner, Op, stat};
use crate::pool::locked;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
const SET_ID: u32 = 0o6000;
/// The number that chown(2) takes for "as it is".
const NOBODY: u32 = u32::MAX;

impl Inner {
    pub(super) fn attributes(&self, id: FileId) -> FileResult<Attributes> {
        let op = self.reading()?;
        if op.is_snapshots(id) {
            return op.snapshots_attributes();
        }
        let file = op.file(id)?;
        Ok(file.attributes(&stat(&file.fd)?))
    }

    pub(super) fn set_attributes(
        &self,
        caller: &Caller,
        id: FileId,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        self.set_guarded(&op, caller, &file, set, guard)
    }

    /// As part of another operation.
    pub(super) fn set_found(
        &self,
        op: &Op<'_>,
        caller: &Caller,
        file: &OpenFile,
        set: &SetAttributes,
    ) -> FileResult<Changed> {
        self.set_guarded(op, caller, file, set, None)
    }

    fn set_guarded(
        &self,
        op: &Op<'_>,
        caller: &Caller,
        file: &OpenFile,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed> {
        let changed = {
            let mut state = locked(&file.state);
            if state.gone {
                return Err(FileError::Stale);
            }
            let found = stat(&file.fd)?;
            let before = file.attributes(&found).before();
            if guard.is_some_and(|guard| guard != before.changed) {
                return Err(FileError::NotSame);
            }
            check_kind(file, set)?;
            if set.size_bytes.is_some() {
                op.check_data(caller, file, &found, WRITE)?;
            }
            if *set == SetAttributes::default() {
                return Ok(Changed { before, after: file.attributes(&found) });
            }
            op.apply(caller, file, set)?;
            let after = op.stat_changed(file, &found)?;
            count(&self.usage, file.id.inode, &mut state, &after);
            Changed { before, after: file.attributes(&after) }
        };
        self.make_durable(file)?;
        Ok(changed)
    }

    pub(super) fn access(&self, caller: &Caller, id: FileId, wanted: Access) -> FileResult<Access> {
        let op = self.reading()?;
        if op.is_snapshots(id) {
            return Ok(wanted.and(Access(Access::READ.0 | Access::LOOKUP.0)));
        }
        let file = op.file(id)?;
        let directory = file.is_directory();
        let asks = |bits: &[Access]| bits.iter().any(|bits| wanted.0 & bits.0 != 0);
        let changes = id.tree == LIVING && asks(&[Access::MODIFY, Access::EXTEND, Access::DELETE]);
        let passes = asks(&[Access::LOOKUP, Access::EXECUTE, Access::DELETE]);
        let (reads, writes, executes) = {
            let _acting = op.act(caller)?;
            let may = |wanted| may(file.fd.as_fd(), wanted).is_ok();
            let reads = asks(&[Access::READ]);
            // Who asks for both mostly may both, which is one question.
            let both = reads && changes && may(READ | WRITE);
            (both || (reads && may(READ)), both || (changes && may(WRITE)), passes && may(EXECUTE))
        };
        let mut allowed = 0;
        let mut allow = |condition: bool, bits: &[Access]| {
            if condition {
                bits.iter().for_each(|bits| allowed |= bits.0);
            }
        };
        allow(reads, &[Access::READ]);
        allow(executes, &[if directory { Access::LOOKUP } else { Access::EXECUTE }]);
        allow(writes, &[Access::MODIFY, Access::EXTEND]);
        allow(writes && executes && directory, &[Access::DELETE]);
        Ok(wanted.and(Access(allowed)))
    }
}

/// The file's blocks as they are now are what the volume's usage counts for it.
pub(super) fn count(usage: &Usage, inode: u64, state: &mut State, found: &Statx) {
    let now = blocks(found);
    usage.changed(inode, state.blocks, now);
    state.blocks = now;
}

fn check_kind(file: &OpenFile, set: &SetAttributes) -> FileResult<()> {
    if set.size_bytes.is_some() {
        file.regular().map_err(|error| match error {
            FileError::IsSymlink => FileError::Invalid,
            other => other,
        })?;
    }
    let wrong = |time: &SetTime| matches!(time, SetTime::To(at) if at.nanos >= NANOS_PER_SECOND);
    if [set.accessed, set.modified].iter().flatten().any(wrong) {
        return Err(FileError::Invalid);
    }
    if set.uid == Some(NOBODY) || set.gid == Some(NOBODY) {
        return Err(FileError::Invalid);
    }
    Ok(())
}

impl Op<'_> {
    /// Sets what is to be set, as the caller. What the kernel may refuse comes before the size,
    /// which cannot be taken back; the times come after it once more, because it changes one.
    pub(super) fn apply(
        &self,
        caller: &Caller,
        file: &OpenFile,
        set: &SetAttributes,
    ) -> FileResult<()> {
        check_kind(file, set)?;
        let _acting = self.act(caller)?;
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            chownat(&file.fd, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(refused)?;
        }
        if let Some(mode) = set.mode {
            set_mode(caller, file, mode)?;
        }
        let times = Timestamps {
            last_access: timespec(set.accessed),
            last_modification: timespec(set.modified),
        };
        let set_times = || {
            if set.accessed.is_none() && set.modified.is_none() {
                return Ok(());
            }
            utimensat(&file.fd, c"", &times, AtFlags::EMPTY_PATH).map_err(refused)
        };
        set_times()?;
        if let Some(size) = set.size_bytes {
            ftruncate(&file.fd, size).map_err(|errno| match errno {
                // A length that does not fit its type is one that no file can have.
                rustix::io::Errno::INVAL => FileError::TooLarge,
                other => refused(other),
            })?;
            if let Some(mode) = set.mode.filter(|mode| mode & SET_ID != 0) {
                // A truncation takes these bits away.
                set_mode(caller, file, mode)?;
            }
            set_times()?;
        }
        Ok(())
    }
}

pub(super) fn set_mode(caller: &Caller, file: &OpenFile, mode: u32) -> FileResult<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    if file.is_open() {
        return fchmod(&file.fd, mode).map_err(refused);
    }
    if file.kind == FileKind::Symlink {
        // Linux has no mode of symbolic links; who may not set one is told so all the same.
        let owner = stat(&file.fd)?.stx_uid;
        let may = caller.uid == 0 || caller.uid == owner;
        return if may { Ok(()) } else { Err(FileError::NotOwner) };
    }
    let path = format!("/proc/self/fd/{}", file.fd.as_raw_fd());
    chmodat(CWD, path, mode, AtFlags::empty()).map_err(refused)
}

fn timespec(set: Option<SetTime>) -> Timespec {
    match set {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::To(Time { seconds, nanos })) => {
            Timespec { tv_sec: seconds, tv_nsec: nanos.into() }
        }
    }
}
