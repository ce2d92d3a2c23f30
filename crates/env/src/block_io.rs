//! Positioned reads and writes on open files: the trait that the ring, the thread pool and the
//! simulated disk implement.

use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Buffer;

/// An open file. Cheap to clone; closed when the last clone is dropped. May be used from any
/// worker's [`BlockIo`] of the same world.
#[derive(Clone)]
pub struct IoFile {
    handle: i32,
    direct: bool,
    keep: Arc<dyn Any + Send + Sync>,
}

impl IoFile {
    /// `handle` is the file descriptor (real) or the file's number (simulated); `keep` owns it.
    /// `direct` says that offsets, lengths and memory must be aligned to [`crate::buffer::ALIGN`].
    #[must_use]
    pub fn new(handle: i32, direct: bool, keep: Arc<dyn Any + Send + Sync>) -> Self {
        Self { handle, direct, keep }
    }
    /// File descriptor, or the simulated file's number.
    #[must_use]
    pub fn handle(&self) -> i32 {
        self.handle
    }
    /// Does this file want aligned I/O?
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }
    /// What keeps the handle alive.
    #[must_use]
    pub fn owner(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.keep
    }
}

/// A running operation. Not `Send`: it belongs to the worker whose [`BlockIo`] started it.
/// Dropping it does not recall the operation; buffers stay owned by the engine until it ends.
pub type IoFuture<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// Block I/O of one worker thread.
///
/// Operations may run and become durable in any order; only [`BlockIo::sync`] orders: what was
/// answered before it was submitted is durable once it is answered. An operation starts when the
/// method is called, not when the future is first polled.
///
/// Any file may be given to any method: where `file.is_direct()` and memory, offset or length is
/// not aligned, the engine goes through an aligned buffer (for writes: the caller only ever writes
/// whole 512-byte blocks, and the engine does read-modify-write of the edges when the device needs
/// more, or falls back to a page-cache descriptor; concurrent writers of one 4 KiB edge must not
/// lose each other's bytes).
pub trait BlockIo {
    /// Fill `buffer[..buffer.len()]` from `offset`. Past the end of the file: zeros.
    fn read(&self, file: &IoFile, offset: u64, buffer: Buffer) -> IoFuture<Buffer>;
    /// Write the parts one after another from `offset`. Short writes are continued inside.
    fn write(&self, file: &IoFile, offset: u64, parts: Vec<Bytes>) -> IoFuture<()>;
    /// Data and what is needed to read it back is durable (fdatasync).
    fn sync(&self, file: &IoFile) -> IoFuture<()>;
    /// Give the range back; it reads as zeros. The file keeps its length.
    fn punch(&self, file: &IoFile, offset: u64, length: u64) -> IoFuture<()>;
}
