//! An open file of the real world, and how a piece of I/O has to travel to it.
//!
//! Invariant: an operation that runs holds its [`Descriptor`] (and a write its [`Room`]), so a
//! descriptor is never closed, and a room never left, under a running operation.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::at_once::AtOnce;
use crate::block_io::IoFile;
use crate::buffer::Buffer;
use crate::gate::Gate;

/// What a descriptor opened with O_DIRECT wants, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Alignment {
    /// Start of memory.
    pub(crate) memory: usize,
    /// Offset in the file, and length.
    pub(crate) offset: usize,
}

/// The descriptors of one open file.
pub(crate) struct Descriptor {
    /// Through the page cache; always there.
    cached: OwnedFd,
    /// Past the page cache, where the file was opened so.
    direct: Option<(OwnedFd, Alignment)>,
    gate: Gate,
    pub(crate) at_once: AtOnce,
}

impl Descriptor {
    pub(crate) fn new(cached: OwnedFd, direct: Option<(OwnedFd, Alignment)>) -> Self {
        let at_once = AtOnce::of(&cached);
        Self { cached, direct, gate: Gate::default(), at_once }
    }
    /// The file that callers hold.
    pub(crate) fn into_file(self) -> IoFile {
        let direct = self.direct.is_some();
        let handle = self.fd(direct).as_raw_fd();
        IoFile::new(handle, direct, Arc::new(self))
    }
    /// The descriptor behind a file that [`crate::RealFiles`] opened.
    pub(crate) fn of(file: &IoFile) -> io::Result<Arc<Self>> {
        Arc::clone(file.owner()).downcast().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file was opened by another world than the one that is asked to use it",
            )
        })
    }
    pub(crate) fn cached(&self) -> BorrowedFd<'_> {
        self.cached.as_fd()
    }
    pub(crate) fn fd(&self, direct: bool) -> BorrowedFd<'_> {
        match &self.direct {
            Some((fd, _)) if direct => fd.as_fd(),
            _ => self.cached.as_fd(),
        }
    }
    /// The alignment of the direct descriptor, if the range fits it.
    fn fits(&self, offset: u64, length: usize) -> Option<Alignment> {
        let (_, alignment) = self.direct.as_ref()?;
        let fits = length.is_multiple_of(alignment.offset) && is_multiple(offset, alignment.offset);
        fits.then_some(*alignment)
    }
}

fn is_multiple(offset: u64, of: usize) -> bool {
    u64::try_from(of).is_ok_and(|of| offset.is_multiple_of(of))
}

/// The room that a write occupies (see [`crate::gate`]); left when dropped.
pub(crate) enum Room {
    /// The file has only one descriptor.
    Alone,
    Direct(Arc<Descriptor>),
    Cached(Arc<Descriptor>),
}

impl Drop for Room {
    fn drop(&mut self) {
        match self {
            Room::Alone => {}
            Room::Direct(file) => file.gate.leave_direct(),
            Room::Cached(file) => file.gate.leave_cached(),
        }
    }
}

/// A read under way: what is still to be read, and where it goes.
pub(crate) struct ReadJob {
    pub(crate) file: Arc<Descriptor>,
    pub(crate) direct: bool,
    /// The caller's buffer.
    buffer: Buffer,
    /// An aligned cover of the range, where the range itself is not aligned, and how many of its
    /// first bytes the caller did not ask for.
    bounce: Option<(Buffer, usize)>,
    start: u64,
    done: usize,
}

impl ReadJob {
    pub(crate) fn new(file: Arc<Descriptor>, offset: u64, buffer: Buffer) -> Self {
        let direct = file.direct.is_some();
        let mut job = Self { direct, buffer, bounce: None, start: offset, done: 0, file };
        if direct && job.file.fits(offset, job.buffer.len()).is_none() {
            let skip = usize::try_from(offset % ALIGN_OFFSET).unwrap_or_default();
            let cover = (skip + job.buffer.len()).next_multiple_of(crate::buffer::ALIGN);
            job.start = offset - offset % ALIGN_OFFSET;
            job.bounce = Some((Buffer::new(cover), skip));
        }
        job
    }
    /// Where the next bytes come from, and the memory that takes them.
    pub(crate) fn rest(&mut self) -> (u64, &mut [u8]) {
        let memory = match &mut self.bounce {
            Some((cover, _)) => cover,
            None => &mut self.buffer,
        };
        (self.start + self.done as u64, &mut memory[self.done..])
    }
    /// `count` bytes came (0: end of file). Says whether the job is done.
    pub(crate) fn advance(&mut self, count: usize) -> bool {
        self.done += count;
        let done = self.done;
        let at_end = count == 0 || (self.direct && !done.is_multiple_of(512));
        let (_, rest) = self.rest();
        if at_end {
            // A direct read stops inside a sector only at the end of the file.
            rest.fill(0);
            return true;
        }
        rest.is_empty()
    }
    pub(crate) fn finish(mut self) -> Buffer {
        if let Some((cover, skip)) = &self.bounce {
            let end = skip + self.buffer.len();
            self.buffer.copy_from_slice(&cover[*skip..end]);
        }
        self.buffer
    }
}

const ALIGN_OFFSET: u64 = crate::buffer::ALIGN as u64;

/// A write under way: what is still to be written, and on which road.
pub(crate) struct WriteJob {
    pub(crate) file: Arc<Descriptor>,
    room: Room,
    offset: u64,
    parts: Vec<Bytes>,
    /// Parts before this one are written.
    first: usize,
}

impl WriteJob {
    pub(crate) fn new(file: Arc<Descriptor>, offset: u64, mut parts: Vec<Bytes>) -> Self {
        parts.retain(|part| !part.is_empty());
        let mut job = Self { room: Room::Alone, offset, parts, first: 0, file };
        job.choose_room();
        job
    }
    fn choose_room(&mut self) {
        if self.file.direct.is_none() {
            return;
        }
        let length = self.rest().iter().map(Bytes::len).sum();
        match self.file.fits(self.offset, length) {
            Some(alignment) if self.file.gate.enter_direct() => {
                self.room = Room::Direct(Arc::clone(&self.file));
                self.align_memory(alignment, length);
            }
            _ => self.go_cached(),
        }
    }
    fn go_cached(&mut self) {
        self.file.gate.enter_cached();
        self.room = Room::Cached(Arc::clone(&self.file));
    }
    /// Gather the parts into aligned memory, unless the device can take them where they are.
    fn align_memory(&mut self, alignment: Alignment, length: usize) {
        let fits = |part: &Bytes| {
            (part.as_ptr() as usize).is_multiple_of(alignment.memory)
                && part.len().is_multiple_of(alignment.offset)
        };
        if self.rest().iter().all(fits) {
            return;
        }
        let mut gathered = Buffer::new(length);
        let mut end = 0;
        for part in self.rest() {
            gathered[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.parts = vec![gathered.into_bytes()];
        self.first = 0;
    }
    /// No other write of the file can be in its way: it has only the one descriptor.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.room, Room::Alone)
    }
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.room, Room::Direct(_))
    }
    /// May it run now? If not, the waker is woken when it may.
    pub(crate) fn poll_ready(&self, waker: &std::task::Waker) -> bool {
        match &self.room {
            Room::Cached(file) => file.gate.poll_quiet(waker),
            _ => true,
        }
    }
    pub(crate) fn wait_ready(&self) {
        if let Room::Cached(file) = &self.room {
            file.gate.wait_quiet();
        }
    }
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
    /// The parts that are still to be written.
    pub(crate) fn rest(&self) -> &[Bytes] {
        &self.parts[self.first..]
    }
    /// `count` bytes are written. Says whether the job is done. The rest of a short write may
    /// have to change rooms: ask [`WriteJob::poll_ready`] again.
    pub(crate) fn advance(&mut self, mut count: usize) -> bool {
        self.offset += count as u64;
        while count > 0 && self.first < self.parts.len() {
            let part = &mut self.parts[self.first];
            let step = count.min(part.len());
            part.advance(step);
            count -= step;
            if part.is_empty() {
                self.first += 1;
            }
        }
        let done = self.rest().is_empty();
        if !done && self.is_direct() {
            let length = self.rest().iter().map(Bytes::len).sum();
            if self.file.fits(self.offset, length).is_none() {
                self.room = Room::Alone;
                self.go_cached();
            }
        }
        done
    }
}

/// Zeros in place of a hole, where the file system cannot punch one: the range as parts of one
/// shared piece of memory, cut at the end of the file so that it does not grow.
pub(crate) fn zeros_for(file: &Descriptor, offset: u64, length: u64) -> io::Result<Vec<Bytes>> {
    const PIECE: usize = 1 << 20;
    let end = u64::try_from(rustix::fs::fstat(file.cached())?.st_size).unwrap_or_default();
    let mut left = length.min(end.saturating_sub(offset));
    let piece = Buffer::zeroed(PIECE).into_bytes();
    let mut parts = Vec::new();
    while left > 0 {
        let step = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        parts.push(piece.slice(..step));
        left -= step as u64;
    }
    Ok(parts)
}
