//! A volume: read, write, flush, discard. Shared by all workers, each with its own block I/O.

mod atomic;
mod discard;
mod placing;
mod reservations;
mod sanitize;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use env::{BlockIo, Files};
use model::id::VolumeId;
use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::group_commit::GroupCommit;
use crate::layer::{chunks_of, commit};
use crate::map::CHUNK_BYTES;
use crate::pool::Shared;
use crate::range_lock::RangeLock;
use crate::record::Record;
use crate::stack::{Stack, read_layers, zeros};

pub use sanitize::{Sanitize, SanitizeMethod, SanitizeOrder};

/// Logical block: offsets and lengths are whole multiples of it.
const BLOCK_BYTES: u64 = 512;

/// One open volume. There is one per volume and process; clones of the `Arc` go to the workers.
pub struct Volume {
    id: VolumeId,
    shared: Arc<Shared>,
    size: AtomicU64,
    pub(crate) stack: ArcSwap<Stack>,
    pub(crate) ranges: RangeLock,
    flushes: GroupCommit,
    reservations: Mutex<Option<Record>>,
    atomic: Mutex<Option<Record>>,
    /// Held by the one sanitize that runs.
    sanitizing: Mutex<()>,
    /// Odd while the bytes of an atomic write are put in place.
    being_replaced: AtomicU64,
    /// An atomic write was noted and not completed.
    unsettled: AtomicBool,
}

impl Volume {
    pub(crate) fn new(shared: Arc<Shared>, id: VolumeId, size: u64, stack: Stack) -> Self {
        Self {
            id,
            shared,
            size: AtomicU64::new(size),
            stack: ArcSwap::from_pointee(stack),
            ranges: RangeLock::new(),
            flushes: GroupCommit::default(),
            reservations: Mutex::new(None),
            atomic: Mutex::new(None),
            sanitizing: Mutex::new(()),
            being_replaced: AtomicU64::new(0),
            unsettled: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Bytes. Grows, never shrinks.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Whole blocks, inside the volume.
    fn check(&self, offset: u64, length: u64) -> Result<(), StoreError> {
        if !offset.is_multiple_of(BLOCK_BYTES) || !length.is_multiple_of(BLOCK_BYTES) {
            return Err(StoreError::Unaligned { offset, length });
        }
        let size = self.size();
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(StoreError::OutOfRange { offset, length, size }),
        }
    }

    /// The layers of now. Whoever writes to them holds a range lock since before this call: a
    /// swap of the stack waits until all range locks are free.
    pub(crate) fn layers(&self) -> Result<Arc<Stack>, StoreError> {
        let stack = self.stack.load_full();
        if stack.layers.is_empty() {
            return Err(StoreError::missing(format!("volume {}", self.id)));
        }
        Ok(stack)
    }

    /// The files of the world that the pool lives in.
    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.shared.names
    }

    /// The content of `length` bytes at `offset`, in order; one part on a volume without
    /// snapshots. Whole 512-byte blocks.
    ///
    /// # Errors
    /// Range errors, `Io`, `Missing` after the volume was deleted.
    pub async fn read(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.check(offset, length as u64)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let before = self.being_replaced.load(Ordering::SeqCst);
        let found = self.read_now(io, offset, length).await?;
        if before.is_multiple_of(2) && self.being_replaced.load(Ordering::SeqCst) == before {
            return Ok(found);
        }
        // An atomic write was put in place meanwhile: again, when none touches the range.
        let _held = self.ranges.shared(offset, length as u64).await;
        self.read_now(io, offset, length).await
    }

    async fn read_now(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let stack = self.layers()?;
        match stack.plain() {
            Some(layer) => Ok(vec![layer.read(io, offset, length).await?]),
            None => read_layers(io, &stack.layers, offset, length as u64).await,
        }
    }

    /// Write the parts one after another from `offset`. `durable` (FUA): on stable storage when
    /// this returns; otherwise after the next flush.
    ///
    /// # Errors
    /// Range errors, `NoSpace`, `Io`: then each block holds its old content or the new one.
    pub async fn write(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        parts: Vec<Bytes>,
        durable: bool,
    ) -> Result<(), StoreError> {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        self.check(offset, length)?;
        let deferred = {
            let _held = self.ranges.shared(offset, length).await;
            let stack = self.layers()?;
            if let Some(layer) = stack.plain() {
                layer.write(io, offset, length, parts).await?;
                Vec::new()
            } else {
                placing::place(io, &stack, self.size(), offset, parts).await?
            }
        };
        for piece in deferred {
            let _held = self.ranges.exclusive(piece.offset, piece.length).await;
            placing::copy_up(io, &*self.layers()?, self.size(), piece).await?;
        }
        if durable { self.flush(io).await } else { Ok(()) }
    }

    /// Make durable every write, discard and update that was answered before this call.
    /// Concurrent callers share the work.
    ///
    /// # Errors
    /// `Io`. After a failed sync of a data file every later flush of the volume fails too, until
    /// it is opened anew: the operating system does not say what it dropped.
    pub async fn flush(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        self.commit_layers(io).await?;
        // One that is under way settles itself; asked again when it is certain that none is.
        if self.unsettled.load(Ordering::SeqCst)
            && let Ok(_none) = self.atomic.try_lock()
            && self.unsettled.load(Ordering::SeqCst)
        {
            return Err(self.unsettled_error());
        }
        Ok(())
    }

    async fn commit_layers(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        self.flushes
            .run(async || {
                let stack = self.layers()?;
                commit(io, stack.writable()).await
            })
            .await
    }

    /// Read `length` bytes, let `change` decide, and write what it gives (of the same length) in
    /// their place: atomic against every other write. `Ok(Err(_))` is `change`'s refusal. For
    /// COMPARE AND WRITE and ORWRITE.
    ///
    /// # Errors
    /// As for reads and writes.
    pub async fn update<E>(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: usize,
        durable: bool,
        change: impl FnOnce(&[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<Result<(), E>, StoreError> {
        self.check(offset, length as u64)?;
        {
            let _held = self.ranges.exclusive(offset, length as u64).await;
            let stack = self.layers()?;
            let found = read_layers(io, &stack.layers, offset, length as u64).await?;
            let found = match &found[..] {
                [part] => part.clone(),
                parts => Bytes::from(parts.concat()),
            };
            match change(&found) {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(None) => {}
                Ok(Some(new)) if new.len() != length => {
                    return Err(StoreError::refused("an update must not change the length"));
                }
                Ok(Some(new)) => {
                    self.write_locked(io, &stack, offset, vec![new]).await?;
                }
            }
        }
        if durable {
            self.flush(io).await?;
        }
        Ok(Ok(()))
    }

    /// Write while the caller holds the range exclusively.
    async fn write_locked(
        &self,
        io: &dyn BlockIo,
        stack: &Stack,
        offset: u64,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        for piece in placing::place(io, stack, self.size(), offset, parts).await? {
            placing::copy_up(io, stack, self.size(), piece).await?;
        }
        Ok(())
    }

    /// Write zeros. With `may_discard` the range may be given back to the pool (it reads as
    /// zeros either way).
    ///
    /// # Errors
    /// As for writes.
    pub async fn write_zeros(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: u64,
        may_discard: bool,
    ) -> Result<(), StoreError> {
        if may_discard {
            return self.discard(io, offset, length).await;
        }
        self.check(offset, length)?;
        let step = 16 * CHUNK_BYTES;
        let mut at = offset;
        while at < offset + length {
            let end = (offset + length).min((at / step + 1) * step);
            self.write(io, at, zeros(end - at), false).await?;
            at = end;
        }
        Ok(())
    }

    /// Which parts of the range may hold something: `(start, length, mapped)` in bytes, in order,
    /// without gaps, to the precision of a chunk (64 KiB).
    #[must_use]
    pub fn status(&self, offset: u64, length: u64) -> Vec<(u64, u64, bool)> {
        let mut found: Vec<(u64, u64, bool)> = Vec::new();
        let end = offset.saturating_add(length).min(self.size());
        let Ok(stack) = self.layers() else { return found };
        for chunk in chunks_of(offset, end.saturating_sub(offset)) {
            let start = offset.max(chunk * CHUNK_BYTES);
            let stop = end.min((chunk + 1) * CHUNK_BYTES);
            let mapped = stack.is_mapped(chunk);
            match found.last_mut() {
                Some(last) if last.2 == mapped => last.1 += stop - start,
                _ => found.push((start, stop - start, mapped)),
            }
        }
        found
    }

    /// Make the volume at least `size` bytes, rounded up to whole blocks; the new part reads as
    /// zeros. Durable when this returns. Smaller than it is: nothing to do.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `Missing`.
    pub async fn grow(&self, io: &dyn BlockIo, size: u64) -> Result<(), StoreError> {
        let size = size
            .checked_next_multiple_of(BLOCK_BYTES)
            .ok_or_else(|| StoreError::refused("no volume can be that large".to_owned()))?;
        let _alone = self.shared.structure.lock().await;
        if size <= self.size() {
            return Ok(());
        }
        let stack = self.layers()?;
        for layer in stack.writable() {
            layer.extend(&*self.shared.names, size)?;
        }
        let mut record = self.shared.volume_record(self.id)?;
        record.size = size;
        self.shared.write_volume(io, self.id, record).await?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }
}
