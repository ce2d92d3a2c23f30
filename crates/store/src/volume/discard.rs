//! Giving space back.

use env::BlockIo;

use super::Volume;
use crate::error::StoreError;
use crate::layer::chunks_of;
use crate::map::{CHUNK_BYTES, Chunk};
use crate::stack::{Stack, zeros};

/// Bytes that are handled under one hold of the locks, so that writers do not wait for long.
const STEP_BYTES: u64 = 1 << 30;

/// Consecutive chunks that the layer at one depth answers for.
struct Whole {
    depth: usize,
    chunks: std::ops::Range<u64>,
}

/// The chunks that lie wholly between two offsets; the volume's last one may be short.
fn whole_chunks(start: u64, end: u64, size: u64) -> std::ops::Range<u64> {
    let first = start.div_ceil(CHUNK_BYTES);
    let past = if end == size { end.div_ceil(CHUNK_BYTES) } else { end / CHUNK_BYTES };
    first..past.max(first)
}

impl Volume {
    /// The range reads as zeros from now on, and its whole chunks are given back to the pool.
    /// Like a write, it is durable after the next flush.
    ///
    /// # Errors
    /// Range errors, `Io`; `NoSpace` where part of a chunk must be copied to be zeroed.
    pub async fn discard(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        length: u64,
    ) -> Result<(), StoreError> {
        self.check(offset, length)?;
        let mut at = offset;
        while at < offset + length {
            let end = (offset + length).min((at / STEP_BYTES + 1) * STEP_BYTES);
            let _held = self.ranges.exclusive(at, end - at).await;
            let stack = self.layers()?;
            if let Some(layer) = stack.plain() {
                layer.punch(io, at, end - at).await?;
                layer.set_chunks(whole_chunks(at, end, self.size()), Chunk::Absent);
            } else {
                self.discard_stacked(io, &stack, at, end).await?;
            }
            at = end;
        }
        Ok(())
    }

    async fn discard_stacked(
        &self,
        io: &dyn BlockIo,
        stack: &Stack,
        start: u64,
        end: u64,
    ) -> Result<(), StoreError> {
        let whole = whole_chunks(start, end, self.size());
        let mut runs: Vec<Whole> = Vec::new();
        for chunk in chunks_of(start, end - start) {
            let depth = stack.target(chunk);
            if !whole.contains(&chunk) {
                let from = start.max(chunk * CHUNK_BYTES);
                let to = end.min((chunk + 1) * CHUNK_BYTES);
                if stack.layers[depth].map.get(chunk) != Chunk::Zero {
                    self.write_locked(io, stack, from, zeros(to - from)).await?;
                }
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.depth == depth && run.chunks.end == chunk => run.chunks.end += 1,
                _ => runs.push(Whole { depth, chunks: chunk..chunk + 1 }),
            }
        }
        for run in runs {
            let layer = &stack.layers[run.depth];
            layer.clear(io, run.chunks, self.size()).await?;
        }
        Ok(())
    }
}
