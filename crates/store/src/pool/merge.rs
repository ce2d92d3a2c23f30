//! Merging layers that nobody names any more.
//!
//! An unnamed layer with one child is merged by moving the child's chunks *down* into it; then
//! the child's record takes over its files:
//!
//! ```text
//!   head C ──┐            C's chunks move into P's files            head C
//!   P (unnamed)   ──►     bit below set, bit above cleared   ──►    (P's files)
//!   base                  (while C is a live head, chunks           base
//!                          that C lacks are written to P)
//! ```
//!
//! Nothing else sees P, so P may hold anything as long as C over P reads right: which holds after
//! every single chunk, and so at every crash. The merge needs no record of its own: while P is
//! unnamed and has one child there is a merge to do, and what is left of it is what C's map holds.
//!
//! A layer that is itself the target of a merge is not merged down at the same time: it may be
//! taking writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use env::BlockIo;
use model::id::{SnapshotId, VolumeId};
use model::size::ByteSize;

use super::{Pool, locked, shared};
use crate::error::StoreError;
use crate::layer::{Layer, commit};
use crate::map::{CHUNK_BYTES, Chunk};
use crate::record::{Kind, Record};
use crate::stack::Stack;
use crate::tree::{LayerRecord, Merge};
use crate::volume::Volume;

/// Chunks that one step moves: 2 MiB, a few milliseconds.
const STEP_CHUNKS: usize = 32;

/// What one step of a merge did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The deleted snapshot whose layer is merged; unknown after a restart.
    pub snapshot: Option<(VolumeId, SnapshotId)>,
    /// Bytes moved by this step.
    pub moved: ByteSize,
    /// Bytes still to move.
    pub left: ByteSize,
    /// This merge is done.
    pub finished: bool,
}

/// Two layers to be made one, opened.
struct Pair {
    merge: Merge,
    child: Arc<Layer>,
    parent: Arc<Layer>,
    /// What the child's record will be.
    merged: LayerRecord,
    /// The volume that writes to the child, if it is a head.
    head: Option<Arc<Volume>>,
}

impl Pool {
    /// Move a bounded amount, or finish one merge; `None` when there is nothing to merge. To be
    /// called again and again in the background; after an error the next call tries another pair
    /// of layers first.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `Corrupt`. Nothing is lost; the merge goes on later.
    pub async fn merge_step(&self, io: &dyn BlockIo) -> Result<Option<Progress>, StoreError> {
        let _alone = self.shared.structure.lock().await;
        let merges = locked(&self.shared.tree).merges();
        let last = self.merged_last.load(Ordering::Relaxed);
        let next = merges.iter().find(|merge| merge.parent.0 >= last).or(merges.first());
        let Some(merge) = next.cloned() else { return Ok(None) };
        self.merged_last.store(merge.parent.0 + 1, Ordering::Relaxed);
        let parent = merge.parent;
        let pair = self.open_pair(io, merge).await?;
        let moved = pair.move_chunks(io).await?;
        let (left, _) = pair.child.map.count();
        let snapshot = locked(&self.dropped).get(&parent).copied();
        if left == 0 {
            self.finish(io, &pair).await?;
        }
        self.merged_last.store(parent.0, Ordering::Relaxed);
        Ok(Some(Progress {
            snapshot,
            moved: ByteSize(moved * CHUNK_BYTES),
            left: ByteSize(left * CHUNK_BYTES),
            finished: left == 0,
        }))
    }

    async fn open_pair(&self, io: &dyn BlockIo, merge: Merge) -> Result<Pair, StoreError> {
        let records = {
            let tree = locked(&self.shared.tree);
            (tree.layers.get(&merge.parent).cloned(), tree.layers.get(&merge.child).cloned())
        };
        let (Some(parent_record), Some(child_record)) = records else {
            return Err(StoreError::missing(format!("{:?}", merge.parent)));
        };
        let parent = self.shared.open_layer(io, &parent_record).await?;
        let child = self.shared.open_layer(io, &child_record).await?;
        parent.extend_like(&*self.shared.names, &child)?;
        let head = match merge.head_of {
            Some(volume) => Some(self.volume_locked(io, volume).await?),
            None => None,
        };
        if let Some(head) = head.as_ref().filter(|head| !head.stack.load().merging) {
            // No write may be half done that still believes that the head takes every chunk.
            let _quiet = head.ranges.exclusive_all().await;
            let layers = head.layers()?.layers.clone();
            head.stack.store(Arc::new(Stack { layers, merging: true }));
        }
        let merged = LayerRecord { parent: parent_record.parent, files: parent_record.files };
        Ok(Pair { merge, child, parent, merged, head })
    }

    /// The child is empty: let its record take over the parent's files.
    async fn finish(&self, io: &dyn BlockIo, pair: &Pair) -> Result<(), StoreError> {
        let shared = &self.shared;
        let layers = [pair.child.clone(), pair.parent.clone()];
        // Most of the flushing is done before writers have to wait.
        commit(io, &layers).await?;
        let path = shared::layer_path(&shared.dir, pair.merge.child);
        let (mut record, _) = Record::open(&*shared.names, io, &path, Kind::Layer).await?;
        {
            let _quiet = match &pair.head {
                Some(head) => Some(head.ranges.exclusive_all().await),
                None => None,
            };
            commit(io, &layers).await?;
            record.write(&*shared.names, io, &pair.merged.encode()).await?;
            for volume in locked(&self.open).values() {
                leave_out(volume, &pair.child);
            }
        }
        {
            let mut tree = locked(&shared.tree);
            tree.layers.remove(&pair.merge.parent);
            tree.layers.insert(pair.merge.child, pair.merged.clone());
        }
        locked(&self.dropped).remove(&pair.merge.parent);
        let parent_path = shared::layer_path(&shared.dir, pair.merge.parent);
        if let Err(error) = shared.remove_durably(&parent_path) {
            tracing::warn!("{:?} stays until the next start: {error}", pair.merge.parent);
        }
        shared.remove_files(pair.child.files);
        Ok(())
    }
}

/// Take the emptied layer out of a volume's stack, if it is in it. Readers of the old stack find
/// it empty and go on to the layer below.
fn leave_out(volume: &Volume, emptied: &Arc<Layer>) {
    let stack = volume.stack.load();
    let Some(depth) = stack.layers.iter().position(|layer| Arc::ptr_eq(layer, emptied)) else {
        return;
    };
    let mut layers = stack.layers.clone();
    layers.remove(depth);
    volume.stack.store(Arc::new(Stack { layers, merging: stack.merging && depth > 0 }));
}

impl Pair {
    /// Move some chunks down, make that durable, and give back their bytes above. Returns how
    /// many.
    async fn move_chunks(&self, io: &dyn BlockIo) -> Result<u64, StoreError> {
        let mut moved = Vec::new();
        let mut from = 0;
        while moved.len() < STEP_CHUNKS
            && let Some(chunk) = self.child.map.next_present(from)
        {
            self.move_chunk(io, chunk).await?;
            moved.push(chunk);
            from = chunk + 1;
        }
        if !moved.is_empty() {
            commit(io, &[self.child.clone(), self.parent.clone()]).await?;
        }
        // Only now: a crash must not find the bytes gone and the bit still set.
        for chunk in &moved {
            self.child.punch(io, chunk * CHUNK_BYTES, CHUNK_BYTES).await?;
        }
        Ok(moved.len() as u64)
    }

    async fn move_chunk(&self, io: &dyn BlockIo, chunk: u64) -> Result<(), StoreError> {
        let start = chunk * CHUNK_BYTES;
        let _held = match &self.head {
            Some(head) => Some(head.ranges.exclusive(start, CHUNK_BYTES).await),
            None => None,
        };
        match self.child.map.get(chunk) {
            Chunk::Data => {
                let length = usize::try_from(CHUNK_BYTES).expect("64 KiB");
                let bytes = self.child.read(io, start, length).await?;
                self.parent.write_moved(io, start, bytes).await?;
            }
            Chunk::Zero => self.parent.clear(io, chunk..chunk + 1, u64::MAX).await?,
            Chunk::Absent => {}
        }
        self.child.set_chunks(chunk..chunk + 1, Chunk::Absent);
        Ok(())
    }
}
