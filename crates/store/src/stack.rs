//! The layers that make up a volume's content, and how a range is read from them.
//!
//! Reads take no lock. They hold the `Arc` of the stack, so nothing they use is closed under them,
//! and three moves may happen while they run:
//!
//! - *A write in place, a copy-up, a discard*: the read overlaps it in time and may see each block
//!   before or after it.
//! - *A swap of the stack* (snapshot, end of a merge, revert): the old stack stays readable, and
//!   shares its maps with the new one. What it lacks was written after the read began.
//! - *A merge* moves a chunk from a layer to the one below: data, then the bit below, then the bit
//!   above is cleared, and only then may the data above be punched. A reader that saw the bit
//!   cleared therefore finds the chunk below. A reader that saw it set may read punched bytes; so
//!   every read from an overlay looks at the bits again when it has the bytes, and starts over
//!   when one is no longer set.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use env::{BlockIo, Buffer};

use crate::error::StoreError;
use crate::layer::{Layer, chunks_of};
use crate::map::{CHUNK_BYTES, Chunk};

/// Shared zeros: what a discarded chunk reads as.
static ZEROS: LazyLock<Bytes> = LazyLock::new(|| Buffer::zeroed(1 << 20).into_bytes());

/// `length` zeros, without allocating them.
pub(crate) fn zeros(mut length: u64) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while length > 0 {
        let part = length.min(ZEROS.len() as u64);
        parts.push(ZEROS.slice(..usize::try_from(part).expect("at most 1 MiB")));
        length -= part;
    }
    parts
}

/// A volume's layers, the head first. Immutable; swapped whole. Empty once the volume is deleted.
pub(crate) struct Stack {
    pub(crate) layers: Vec<Arc<Layer>>,
    /// The head is being merged into the layer below: chunks that it lacks are written there.
    pub(crate) merging: bool,
}

/// Where a chunk's content is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In the layer at this depth.
    Layer(usize),
    Zeros,
}

/// Consecutive bytes from one source.
struct Run {
    source: Source,
    offset: u64,
    length: u64,
}

fn source_of(layers: &[Arc<Layer>], chunk: u64) -> Source {
    for (depth, layer) in layers.iter().enumerate() {
        if layer.is_base() {
            return Source::Layer(depth);
        }
        match layer.map.get(chunk) {
            Chunk::Data => return Source::Layer(depth),
            Chunk::Zero => return Source::Zeros,
            Chunk::Absent => {}
        }
    }
    Source::Zeros
}

fn runs_of(layers: &[Arc<Layer>], offset: u64, length: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for chunk in chunks_of(offset, length) {
        let start = offset.max(chunk * CHUNK_BYTES);
        let end = (offset + length).min((chunk + 1) * CHUNK_BYTES);
        let source = source_of(layers, chunk);
        match runs.last_mut() {
            Some(run) if run.source == source => run.length += end - start,
            _ => runs.push(Run { source, offset: start, length: end - start }),
        }
    }
    runs
}

/// Is the run's content still where it was looked for?
fn still_there(layers: &[Arc<Layer>], run: &Run) -> bool {
    let Source::Layer(depth) = run.source else { return true };
    let layer = &layers[depth];
    let kept = |chunk| layer.map.get(chunk) == Chunk::Data;
    layer.is_base() || chunks_of(run.offset, run.length).all(kept)
}

/// The content of a range, from these layers (top first).
pub(crate) async fn read_layers(
    io: &dyn BlockIo,
    layers: &[Arc<Layer>],
    offset: u64,
    length: u64,
) -> Result<Vec<Bytes>, StoreError> {
    loop {
        let runs = runs_of(layers, offset, length);
        let reads = runs.iter().map(async |run| match run.source {
            Source::Zeros => Ok(zeros(run.length)),
            Source::Layer(depth) => {
                let length = usize::try_from(run.length).map_err(|_| {
                    StoreError::refused("a read of more than the address space".to_owned())
                })?;
                Ok(vec![layers[depth].read(io, run.offset, length).await?])
            }
        });
        let parts: Result<Vec<_>, StoreError> =
            futures::future::join_all(reads).await.into_iter().collect();
        let parts = parts?;
        if runs.iter().all(|run| still_there(layers, run)) {
            return Ok(parts.concat());
        }
    }
}

impl Stack {
    /// The only layer, when nothing lies below it.
    pub(crate) fn plain(&self) -> Option<&Arc<Layer>> {
        match &self.layers[..] {
            [layer] => Some(layer),
            _ => None,
        }
    }
    /// The depth of the layer that takes writes to this chunk.
    pub(crate) fn target(&self, chunk: u64) -> usize {
        let pass = self.merging && self.layers[0].map.get(chunk) == Chunk::Absent;
        usize::from(pass)
    }
    /// The layers that may hold unflushed writes, top first.
    pub(crate) fn writable(&self) -> &[Arc<Layer>] {
        &self.layers[..self.layers.len().min(1 + usize::from(self.merging))]
    }
    /// May this chunk hold anything but zeros?
    pub(crate) fn is_mapped(&self, chunk: u64) -> bool {
        match source_of(&self.layers, chunk) {
            Source::Zeros => false,
            Source::Layer(depth) => self.layers[depth].map.get(chunk) == Chunk::Data,
        }
    }
}
