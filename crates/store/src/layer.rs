//! One layer: a sparse data file and, in an overlay, the map of the chunks that it holds.
//!
//! A base layer stands on nothing. It has no map file: its data file alone says what it holds, and
//! the map in memory only counts which chunks may take space.
//!
//! Invariant: a chunk's bit is never durable before the chunk's data is. [`commit`] takes the
//! changed pages first, then syncs the data, then writes the pages.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use env::{BlockIo, Buffer, Files, IoFile, OpenMode};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::StoreError;
use crate::map::{
    CHUNK_BYTES, Chunk, Map, PAGE_BYTES, PageError, TakenPage, decode_pair, take_top_down,
};
use crate::space::{Claim, Space};

/// The open files of a layer.
pub(crate) struct Layer {
    /// The number in the files' names.
    pub(crate) files: u64,
    pub(crate) map: Map,
    data: IoFile,
    map_file: Option<IoFile>,
    space: Arc<Space>,
    /// Something was written since the data file was last synced.
    unsynced: AtomicBool,
    /// A sync failed: the operating system may have dropped writes, and no later sync can tell.
    lost_writes: AtomicBool,
    committing: Mutex<()>,
}

pub(crate) fn data_path(layers: &Path, files: u64) -> PathBuf {
    layers.join(format!("{files:016x}.data"))
}

pub(crate) fn map_path(layers: &Path, files: u64) -> PathBuf {
    layers.join(format!("{files:016x}.map"))
}

/// How to open a layer's files.
pub(crate) struct Opening<'a> {
    pub(crate) names: &'a dyn Files,
    pub(crate) layers: &'a Path,
    pub(crate) direct: bool,
    pub(crate) space: &'a Arc<Space>,
}

/// The chunks that a byte range touches.
pub(crate) fn chunks_of(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / CHUNK_BYTES..(offset + length).div_ceil(CHUNK_BYTES)
}

impl Layer {
    /// Make the files; their names are durable when the caller has synced the directory.
    pub(crate) fn create(
        opening: &Opening<'_>,
        files: u64,
        size: u64,
        base: bool,
    ) -> Result<Self, StoreError> {
        let (data_path, map_path) =
            (data_path(opening.layers, files), map_path(opening.layers, files));
        let fail = |source| StoreError::from_io(format!("creating layer {files:016x}"), 0, source);
        let names = opening.names;
        let data = names.open(&data_path, OpenMode::CreateNew, opening.direct).map_err(fail)?;
        names.set_length(&data, size).map_err(fail)?;
        let map_file = if base {
            None
        } else {
            Some(names.open(&map_path, OpenMode::CreateNew, false).map_err(fail)?)
        };
        let layer = Self::assemble(opening, files, data, map_file);
        layer.map.grow(size.div_ceil(CHUNK_BYTES));
        Ok(layer)
    }

    /// Open what is there, and count its chunks into the pool's space.
    pub(crate) async fn open(
        opening: &Opening<'_>,
        io: &dyn BlockIo,
        files: u64,
        base: bool,
    ) -> Result<Self, StoreError> {
        let names = opening.names;
        let open = |path: PathBuf, direct| {
            names.open(&path, OpenMode::ReadWrite, direct).map_err(|source| {
                if source.kind() == std::io::ErrorKind::NotFound {
                    StoreError::corrupt(path.display().to_string(), "the file is gone")
                } else {
                    StoreError::from_io(format!("opening {}", path.display()), 0, source)
                }
            })
        };
        let data = open(data_path(opening.layers, files), opening.direct)?;
        let map_file =
            if base { None } else { Some(open(map_path(opening.layers, files), false)?) };
        let layer = Self::assemble(opening, files, data, map_file);
        match &layer.map_file {
            None => layer.scan(names)?,
            Some(map_file) => layer.load(names, io, map_file).await?,
        }
        layer.space.add(layer.data_bytes());
        Ok(layer)
    }

    fn assemble(opening: &Opening<'_>, files: u64, data: IoFile, map_file: Option<IoFile>) -> Self {
        Self {
            files,
            map: Map::new(),
            data,
            map_file,
            space: opening.space.clone(),
            // A killed daemon may have left writes in the page cache.
            unsynced: AtomicBool::new(true),
            lost_writes: AtomicBool::new(false),
            committing: Mutex::new(()),
        }
    }

    /// Count the chunks of a base layer's data file that take space.
    fn scan(&self, names: &dyn Files) -> Result<(), StoreError> {
        let fail = |source| StoreError::from_io(self.describe("examining"), 0, source);
        let length = names.length(&self.data).map_err(fail)?;
        self.map.grow(length.div_ceil(CHUNK_BYTES));
        let mut at = 0;
        while let Some((start, end)) = names.next_data(&self.data, at).map_err(fail)? {
            for chunk in chunks_of(start, end.min(length).saturating_sub(start)) {
                self.map.set(chunk, Chunk::Data);
            }
            at = end.max(at + 1);
        }
        Ok(())
    }

    /// Read the map file. It is synced first, for the same reason as a record.
    async fn load(
        &self,
        names: &dyn Files,
        io: &dyn BlockIo,
        map_file: &IoFile,
    ) -> Result<(), StoreError> {
        let fail = |source| StoreError::from_io(self.describe("reading the map of"), 0, source);
        io.sync(map_file).await.map_err(fail)?;
        let pages = names.length(map_file).map_err(fail)?.div_ceil(2 * PAGE_BYTES as u64);
        for index in 0..pages {
            let pair = Buffer::new(2 * PAGE_BYTES);
            let pair = io.read(map_file, index * 2 * PAGE_BYTES as u64, pair).await;
            let pair = pair.map_err(fail)?;
            let (even, odd) = pair.split_at(PAGE_BYTES);
            let what = || format!("page {index} of the map of layer {:016x}", self.files);
            match decode_pair(self.files, index, even, odd) {
                Ok(page) => self.map.push(&page),
                Err(PageError::Bad) => {
                    return Err(StoreError::corrupt(what(), "neither slot is valid"));
                }
                Err(PageError::Newer(version)) => {
                    return Err(StoreError::Format {
                        what: what(),
                        why: format!("version {version}"),
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn is_base(&self) -> bool {
        self.map_file.is_none()
    }
    /// Bytes that the layer counts for in the pool.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.map.count().1 * CHUNK_BYTES
    }
    /// Room for a volume of this size.
    pub(crate) fn extend(&self, names: &dyn Files, size: u64) -> Result<(), StoreError> {
        self.map.grow(size.div_ceil(CHUNK_BYTES));
        let fail = |source| StoreError::from_io(self.describe("extending"), 0, source);
        if names.length(&self.data).map_err(fail)? < size {
            names.set_length(&self.data, size).map_err(fail)?;
            self.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Room for all that another layer may hold.
    pub(crate) fn extend_like(&self, names: &dyn Files, other: &Self) -> Result<(), StoreError> {
        let fail = |source| StoreError::from_io(self.describe("extending"), 0, source);
        self.map.grow(other.map.chunks());
        self.extend(names, names.length(&other.data).map_err(fail)?)
    }

    pub(crate) async fn read(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, StoreError> {
        let buffer = io.read(&self.data, offset, Buffer::new(length)).await;
        let fail = |source| StoreError::from_io(self.describe("reading"), 0, source);
        Ok(buffer.map_err(fail)?.into_bytes())
    }

    /// How many bytes of room a write there takes.
    fn room_for(&self, offset: u64, length: u64) -> u64 {
        let fresh = |chunk: &u64| self.map.get(*chunk) != Chunk::Data;
        chunks_of(offset, length).filter(fresh).count() as u64 * CHUNK_BYTES
    }

    /// Write, then mark every chunk of the range as data. The caller knows that those that are not
    /// data yet are written whole (in an overlay), and holds their range lock.
    pub(crate) async fn write(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: u64,
        parts: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let claim = self.space.claim(self.room_for(offset, length))?;
        self.write_claimed(io, offset, length, parts, claim).await
    }

    /// The same without asking for room: a merge moves what is already counted.
    pub(crate) async fn write_moved(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        parts: Bytes,
    ) -> Result<(), StoreError> {
        let length = parts.len() as u64;
        let claim = self.space.claim_moved(self.room_for(offset, length));
        self.write_claimed(io, offset, length, vec![parts], claim).await
    }

    async fn write_claimed(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: u64,
        parts: Vec<Bytes>,
        mut claim: Claim<'_>,
    ) -> Result<(), StoreError> {
        let written = io.write(&self.data, offset, parts).await;
        // Before the bits: whoever sees a bit must also see that the data wants a sync.
        self.unsynced.store(true, Ordering::Release);
        written.map_err(|source| StoreError::from_io(self.describe("writing"), length, source))?;
        for chunk in chunks_of(offset, length) {
            if self.map.get(chunk) != Chunk::Data && self.map.set(chunk, Chunk::Data) != Chunk::Data
            {
                claim.spend(CHUNK_BYTES);
            }
        }
        Ok(())
    }

    /// Set chunks to something else than data; says how many were data.
    pub(crate) fn set_chunks(&self, chunks: std::ops::Range<u64>, to: Chunk) -> u64 {
        let changed =
            |chunk: &u64| self.map.get(*chunk) != to && self.map.set(*chunk, to) == Chunk::Data;
        let freed = chunks.filter(changed).count() as u64;
        self.space.release(freed * CHUNK_BYTES);
        freed
    }

    /// Make whole chunks read as zeros in this layer of a volume of `size` bytes, and give their
    /// bytes back. The caller holds them exclusively.
    pub(crate) async fn clear(
        &self,
        io: &dyn BlockIo,
        chunks: std::ops::Range<u64>,
        size: u64,
    ) -> Result<(), StoreError> {
        let start = chunks.start * CHUNK_BYTES;
        let length = (chunks.end * CHUNK_BYTES).min(size).saturating_sub(start);
        if self.is_base() {
            // Here only the data file counts, and the map follows it.
            self.punch(io, start, length).await?;
            self.set_chunks(chunks, Chunk::Absent);
        } else if self.set_chunks(chunks, Chunk::Zero) > 0 {
            // Here the map counts. The punch only saves space.
            self.punch(io, start, length).await?;
        }
        Ok(())
    }

    /// Give the bytes of a range back.
    pub(crate) async fn punch(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: u64,
    ) -> Result<(), StoreError> {
        let punched = io.punch(&self.data, offset, length).await;
        self.unsynced.store(true, Ordering::Release);
        punched.map_err(|source| StoreError::from_io(self.describe("discarding in"), 0, source))
    }

    /// Everything answered before is durable.
    async fn sync_data(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        let fail = |source| StoreError::from_io(self.describe("syncing"), 0, source);
        if self.lost_writes.load(Ordering::Acquire) {
            return Err(fail(std::io::Error::other(
                "an earlier sync failed, and writes may be lost; restart the node, check the content",
            )));
        }
        if self.unsynced.swap(false, Ordering::AcqRel) {
            // Set for the case that this future is dropped while it waits.
            let undone = Undone(&self.unsynced);
            if let Err(source) = io.sync(&self.data).await {
                self.lost_writes.store(true, Ordering::Release);
                return Err(fail(source));
            }
            std::mem::forget(undone);
        }
        Ok(())
    }

    async fn write_pages(&self, io: &dyn BlockIo, pages: Vec<TakenPage>) -> Result<(), StoreError> {
        let Some(map_file) = self.map_file.as_ref().filter(|_| !pages.is_empty()) else {
            return Ok(());
        };
        let fail = |source| {
            StoreError::from_io(self.describe("writing the map of"), PAGE_BYTES as u64, source)
        };
        let writes = pages.iter().map(|page| {
            let (offset, bytes) = page.encode(self.files);
            io.write(map_file, offset, vec![bytes.into_bytes()])
        });
        futures::future::join_all(writes)
            .await
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(fail)?;
        io.sync(map_file).await.map_err(fail)?;
        pages.into_iter().for_each(TakenPage::finish);
        Ok(())
    }

    fn describe(&self, doing: &str) -> String {
        format!("{doing} layer {:016x}", self.files)
    }
}

/// Marks the flag again when it goes.
struct Undone<'a>(&'a AtomicBool);

impl Drop for Undone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Make durable what these layers, top to bottom, have answered.
///
/// A merge moves a chunk down: the parent's bit is set before the child's is cleared. So the
/// pages are taken top to bottom ([`take_top_down`]) and become durable bottom to top (no clear is
/// durable before what it uncovers).
pub(crate) async fn commit(io: &dyn BlockIo, layers: &[Arc<Layer>]) -> Result<(), StoreError> {
    let mut held: Vec<MutexGuard<'_, ()>> = Vec::with_capacity(layers.len());
    for layer in layers {
        held.push(layer.committing.lock().await);
    }
    let mut taken =
        take_top_down(layers.iter().map(|layer| (!layer.is_base()).then_some(&layer.map)));
    for layer in layers.iter().rev() {
        layer.sync_data(io).await?;
        layer.write_pages(io, taken.pop().unwrap_or_default()).await?;
    }
    Ok(())
}
