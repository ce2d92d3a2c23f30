//! Data: reading, writing, making durable, holes, copies.

use std::os::fd::AsFd;

use bytes::Bytes;
use env::posix::access::{READ, WRITE};
use env::posix::clone::share;
use model::file::{
    Caller, Changed, Content, FileError, FileId, FileResult, Range, ReadData, Stability, Written,
};
use rustix::fs::{FallocateFlags, SeekFrom, Statx, copy_file_range, fallocate, seek};
use rustix::io::{Errno, pread, pwrite};

use super::attributes::count;
use super::cache::OpenFile;
use super::errno::{refused, refused_io};
use super::usage::{FS_BLOCK_BYTES, Reserved};
use super::volume::{Inner, Op, may_all, stat};
use crate::pool::locked;

pub(super) const IO_BYTES_MAX: u32 = 1 << 20;
const IO_LENGTH_MAX: usize = 1 << 20;
/// A piece of a copy that the kernel makes: long enough to be worth the call, short enough that
/// no other operation on the file waits for long.
const COPY_BYTES_MAX: u64 = 16 << 20;
const SET_ID: u16 = 0o6000;

impl Inner {
    pub(super) fn read(
        &self,
        caller: &Caller,
        id: FileId,
        offset: u64,
        bytes: u32,
    ) -> FileResult<ReadData> {
        let op = self.reading()?;
        let file = op.readable(caller, id)?;
        // No file reaches further than the kernel can count.
        let most = i64::MAX.cast_unsigned().saturating_sub(offset);
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(bytes).min(IO_BYTES_MAX);
        let mut data = Vec::with_capacity(most as usize);
        while data.len() < data.capacity() {
            let at = offset.saturating_add(data.len() as u64);
            let spare = rustix::buffer::spare_capacity(&mut data);
            match pread(&file.fd, spare, at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        let found = stat(&file.fd)?;
        let end = offset.saturating_add(data.len() as u64) >= found.stx_size;
        Ok(ReadData { data: data.into(), end, attributes: file.attributes(&found) })
    }

    pub(super) fn write(
        &self,
        caller: &Caller,
        id: FileId,
        offset: u64,
        data: &Bytes,
        stability: Stability,
    ) -> FileResult<Written> {
        let data = &data[..data.len().min(IO_LENGTH_MAX)];
        let range = Range { offset, bytes: data.len() as u64 };
        let (file, changed, bytes) = self.change(caller, id, range, |op, file, found| {
            // Only as the caller does the kernel take set-id bits away from what he writes.
            let _acting = if found.stx_mode & SET_ID == 0 { None } else { Some(op.act(caller)?) };
            write_at(file, offset, data)
        })?;
        if stability != Stability::Unstable && bytes != 0 {
            self.make_durable(&file)?;
        }
        let bytes = u32::try_from(bytes).map_err(|_| FileError::Invalid)?;
        Ok(Written { bytes, stability, file: changed })
    }

    /// Changes a range of a file's data, within the volume's size, and answers with what `work`
    /// does; work of 0 changed nothing.
    fn change(
        &self,
        caller: &Caller,
        id: FileId,
        range: Range,
        work: impl FnOnce(&Op<'_>, &OpenFile, &Statx) -> FileResult<u64>,
    ) -> FileResult<(std::sync::Arc<OpenFile>, Changed, u64)> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        file.regular()?;
        let mut state = locked(&file.state);
        if state.gone {
            return Err(FileError::Stale);
        }
        let found = stat(&file.fd)?;
        op.check_data(caller, &file, &found, WRITE)?;
        let before = file.attributes(&found).before();
        let reserved = self.room(&file, range)?;
        let done = work(&op, &file, &found);
        let after =
            if matches!(done, Ok(1..)) { op.stat_changed(&file, &found)? } else { stat(&file.fd)? };
        count(&self.usage, id.inode, &mut state, &after);
        drop(reserved);
        drop(state);
        let changed = Changed { before, after: file.attributes(&after) };
        Ok((file, changed, done?))
    }

    /// Room for a range that is to be written. First as if none of it were there; only when that
    /// is too much, what is missing is looked up.
    fn room(&self, file: &OpenFile, range: Range) -> FileResult<Reserved<'_>> {
        let end = range.offset.checked_add(range.bytes).ok_or(FileError::TooLarge)?;
        if i64::try_from(end).is_err() {
            return Err(FileError::TooLarge);
        }
        let start = range.offset - range.offset % FS_BLOCK_BYTES;
        let most = end.next_multiple_of(FS_BLOCK_BYTES) - start;
        if range.bytes == 0 {
            return self.usage.reserve(0);
        }
        let reserved = self.usage.reserve(most);
        reserved.or_else(|_| self.usage.reserve(missing(file, start, end)?))
    }

    pub(super) fn commit(&self, id: FileId) -> FileResult<Changed> {
        let op = self.changing(id)?;
        let file = op.file(id)?;
        file.regular()?;
        // Durability may be relaxed, but who asks for it by name gets it.
        self.flush(&file)?;
        let mut state = locked(&file.state);
        let found = stat(&file.fd)?;
        // Written out, a file may have blocks that it did not have before.
        if !state.gone {
            count(&self.usage, id.inode, &mut state, &found);
        }
        let after = file.attributes(&found);
        Ok(Changed { before: after.before(), after })
    }

    pub(super) fn seek(
        &self,
        caller: &Caller,
        id: FileId,
        offset: u64,
        what: Content,
    ) -> FileResult<u64> {
        let op = self.reading()?;
        let file = op.readable(caller, id)?;
        i64::try_from(offset).map_err(|_| FileError::NoDevice)?;
        // The position that this moves is used by nobody.
        let to = match what {
            Content::Data => SeekFrom::Data(offset),
            Content::Hole => SeekFrom::Hole(offset),
        };
        seek(&file.fd, to).map_err(refused)
    }

    pub(super) fn allocate(
        &self,
        caller: &Caller,
        id: FileId,
        range: Range,
    ) -> FileResult<Changed> {
        self.reshape(caller, id, range, range, FallocateFlags::empty())
    }

    pub(super) fn deallocate(
        &self,
        caller: &Caller,
        id: FileId,
        range: Range,
    ) -> FileResult<Changed> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A range may reach behind the end of any file, where there is nothing to give back.
        let most = self.pool.file_bytes_max.saturating_sub(range.offset);
        let range = Range { bytes: range.bytes.min(most), ..range };
        self.reshape(caller, id, Range { bytes: 0, ..range }, range, flags)
    }

    fn reshape(
        &self,
        caller: &Caller,
        id: FileId,
        needs: Range,
        range: Range,
        flags: FallocateFlags,
    ) -> FileResult<Changed> {
        let (file, changed, _) = self.change(caller, id, needs, |op, file, _| {
            if range.bytes == 0 {
                return Ok(0);
            }
            let _acting = op.act(caller)?;
            fallocate(&file.fd, flags, range.offset, range.bytes).map_err(refused)?;
            Ok(1)
        })?;
        self.make_durable(&file)?;
        Ok(changed)
    }

    pub(super) fn copy(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<u64> {
        let source = self.reading()?.readable(caller, from.0)?;
        let size = stat(&source.fd)?.stx_size;
        let bytes = bytes.min(COPY_BYTES_MAX).min(size.saturating_sub(from.1));
        let range = Range { offset: to.1, bytes };
        let (file, _, done) = self.change(caller, to.0, range, |_, file, _| {
            let (mut read_at, mut write_at) = (from.1, to.1);
            let length = usize::try_from(bytes).map_err(|_| FileError::TooLarge)?;
            let (read_at, write_at) = (Some(&mut read_at), Some(&mut write_at));
            let done = copy_file_range(&source.fd, read_at, &file.fd, write_at, length);
            Ok(done.map_err(refused)? as u64)
        })?;
        self.make_durable(&file)?;
        Ok(done)
    }

    pub(super) fn clone_range(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<()> {
        let source = self.reading()?.readable(caller, from.0)?;
        let size = stat(&source.fd)?.stx_size;
        let bytes = if bytes == 0 { size.saturating_sub(from.1) } else { bytes };
        let range = Range { offset: to.1, bytes };
        let (file, ..) = self.change(caller, to.0, range, |_, file, _| {
            if from.1.checked_add(bytes).is_none_or(|end| end > size) {
                return Err(FileError::Invalid);
            }
            if bytes == 0 {
                return Ok(0);
            }
            share((source.fd.as_fd(), from.1), (file.fd.as_fd(), to.1), bytes)
                .map_err(refused_io)?;
            Ok(bytes)
        })?;
        self.make_durable(&file)
    }
}

impl Op<'_> {
    fn readable(&self, caller: &Caller, id: FileId) -> FileResult<std::sync::Arc<OpenFile>> {
        if self.is_snapshots(id) {
            return Err(FileError::IsDirectory);
        }
        let file = self.file(id)?;
        file.regular()?;
        if !may_all(caller) {
            self.check_data(caller, &file, &stat(&file.fd)?, READ)?;
        }
        Ok(file)
    }
}

/// Writes as much as there is room for; an error only when that is nothing.
fn write_at(file: &OpenFile, offset: u64, data: &[u8]) -> FileResult<u64> {
    let mut done = 0;
    while done < data.len() {
        match pwrite(&file.fd, &data[done..], offset + done as u64) {
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(Errno::BADF) => return Err(FileError::ReadOnly),
            Err(errno) => return Err(refused(errno)),
        }
    }
    Ok(done as u64)
}

/// How many bytes of a range are holes.
fn missing(file: &OpenFile, start: u64, end: u64) -> FileResult<u64> {
    let (mut at, mut holes) = (start, 0);
    while at < end {
        let data = match seek(&file.fd, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            Err(errno) => return Err(refused(errno)),
        };
        holes += data - at;
        if data == end {
            break;
        }
        at = seek(&file.fd, SeekFrom::Hole(data)).map_err(refused)?;
    }
    Ok(holes.next_multiple_of(FS_BLOCK_BYTES))
}
