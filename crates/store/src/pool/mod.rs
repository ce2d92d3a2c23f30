//! A pool: a directory with volumes, their layers and records.
//!
//! Every change of structure (create, delete, snapshot, revert, grow, merge) is made durable by
//! exactly one record write or removal. What a change needs is made durable before that write;
//! what it leaves over is removed after it, or at the next open. After a failed record write
//! nothing is removed, because either state may be the durable one.

mod merge;
mod recover;
mod shared;
mod snapshots;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use env::{BlockIo, Files};
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, PoolUsage, Source};
use model::size::ByteSize;

use crate::error::StoreError;
use crate::record::{Kind, Record};
use crate::stack::Stack;
use crate::tree::{LayerId, VolumeRecord};
use crate::volume::Volume;

pub use merge::Progress;
pub(crate) use shared::{Shared, locked};

/// An open pool. Holds the directory's lock until it and all its volumes are dropped.
pub struct Pool {
    shared: Arc<Shared>,
    /// Volumes stay open once they are: their maps may hold what no flush has asked for yet.
    open: Mutex<BTreeMap<VolumeId, Arc<Volume>>>,
    /// Of which deleted snapshot a layer was the content; for the merge's progress.
    dropped: Mutex<BTreeMap<LayerId, (VolumeId, SnapshotId)>>,
    /// The parent of the last merge that was worked on.
    merged_last: AtomicU64,
}

/// A snapshot as its volume's record has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotInfo {
    pub id: SnapshotId,
    /// Of the volume when it was taken.
    pub size: ByteSize,
}

/// A volume as the pool knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeInfo {
    pub id: VolumeId,
    pub size: ByteSize,
    /// Oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// Bytes that its layers take, in whole chunks; layers shared with clones count for each.
    pub allocated: ByteSize,
}

impl Pool {
    /// Open the pool in `dir`, or make it: the directory is locked, every interrupted change is
    /// completed or undone, and what no volume needs is removed.
    ///
    /// # Errors
    /// `Refused` when another process has it, or another pool lies there; `Corrupt` when the
    /// pool's own record is unreadable (a volume's unreadable record only makes that volume
    /// unusable); `Io`.
    pub async fn open(
        files: Arc<dyn Files>,
        io: &dyn BlockIo,
        dir: &Path,
        id: PoolId,
        mode: IoMode,
        capacity: Option<ByteSize>,
    ) -> Result<Arc<Self>, StoreError> {
        let shared = recover::open(files, io, dir, id, mode, capacity).await?;
        Ok(Arc::new(Self {
            shared: Arc::new(shared),
            open: Mutex::default(),
            dropped: Mutex::default(),
            merged_last: AtomicU64::new(0),
        }))
    }

    #[must_use]
    pub fn id(&self) -> PoolId {
        self.shared.id
    }

    /// Change the limit of what the pool may hold, from now on.
    pub fn set_capacity(&self, capacity: Option<ByteSize>) {
        self.shared.space.set_limit(capacity);
    }

    /// Does this pool hold the volume (readable or not)?
    #[must_use]
    pub fn has_volume(&self, volume: VolumeId) -> bool {
        locked(&self.shared.tree).volumes.contains_key(&volume)
    }

    /// What the pool holds. `capacity` is the limit, or what is used and free on the file system
    /// when that is less; `used` counts whole chunks of data, without records and maps.
    ///
    /// # Errors
    /// `Io`.
    pub fn usage(&self) -> Result<PoolUsage, StoreError> {
        let used = self.shared.space.used();
        let within = used.saturating_add(self.shared.file_system_free()?);
        let capacity = self.shared.space.limit().map_or(within, |limit| limit.min(within));
        let sizes = |tree: &crate::tree::Tree| tree.volumes.values().map(|v| v.size).sum();
        let provisioned = ByteSize(sizes(&locked(&self.shared.tree)));
        Ok(PoolUsage {
            pool: self.shared.id,
            capacity: ByteSize(capacity),
            used: ByteSize(used),
            provisioned,
            copies: None,
        })
    }

    /// All readable volumes, by id.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let tree = locked(&self.shared.tree);
        let info = |(id, record): (&VolumeId, &VolumeRecord)| {
            let snapshot =
                |s: &crate::tree::Snapshot| SnapshotInfo { id: s.id, size: ByteSize(s.size) };
            let layers = tree.layers_of(record);
            let files = layers.iter().filter_map(|layer| tree.layers.get(layer)).map(|l| l.files);
            VolumeInfo {
                id: *id,
                size: ByteSize(record.size),
                snapshots: record.snapshots.iter().map(snapshot).collect(),
                allocated: ByteSize(files.map(|files| self.shared.data_bytes(files)).sum()),
            }
        };
        tree.volumes.iter().map(info).collect()
    }

    /// Make a volume of `size` bytes (rounded up to whole blocks), from zeros or as a clone of a
    /// snapshot in this pool. There already: nothing to do.
    ///
    /// # Errors
    /// `Missing` source, `Refused` when it is larger than `size`, `NoSpace`, `Io`.
    pub async fn create_volume(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        size: ByteSize,
        source: &Source,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _alone = shared.structure.lock().await;
        shared.refuse_damaged(volume)?;
        if locked(&shared.tree).volumes.contains_key(&volume) {
            return Ok(());
        }
        let size = size.bytes().checked_next_multiple_of(512).filter(|size| *size > 0);
        let size =
            size.ok_or_else(|| StoreError::refused("a volume needs a size of some bytes"))?;
        let parent = match source {
            Source::Blank => None,
            Source::Snapshot { volume, snapshot } => {
                let record = shared.volume_record(*volume)?;
                let found = record.snapshot(*snapshot).ok_or_else(|| {
                    StoreError::missing(format!("snapshot {snapshot} of volume {volume}"))
                })?;
                if found.size > size {
                    return Err(StoreError::refused(format!(
                        "the snapshot has {} bytes, more than the {size} of the clone",
                        found.size
                    )));
                }
                Some(found.layer)
            }
        };
        shared.room_for_layer(size)?;
        // Without a record a reservation cannot be told from a lost one; so it comes first.
        let reservations = shared.reservations_path(volume);
        Record::create(&*shared.names, io, &reservations, Kind::Reservations, &[]).await?;
        let made = shared.create_layer(io, size, parent).await?;
        let record = VolumeRecord { size, head: made.id, snapshots: Vec::new() };
        let path = shared.volume_path(volume);
        Record::create(&*shared.names, io, &path, Kind::Volume, &record.encode()).await?;
        shared.adopt_layer(made);
        locked(&shared.tree).volumes.insert(volume, record);
        Ok(())
    }

    /// Remove a volume with its snapshots and reservations. Layers that clones stand on stay.
    /// Gone already: nothing to do.
    ///
    /// # Errors
    /// `Io`: the volume may or may not be there after a restart.
    pub async fn delete_volume(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _alone = shared.structure.lock().await;
        shared.remove_durably(&shared.volume_path(volume))?;
        shared.forget_damaged(volume);
        let known = locked(&shared.tree).volumes.remove(&volume).is_some();
        let open = locked(&self.open).remove(&volume);
        if let Some(open) = open {
            // Writes in flight end first; whoever comes later finds no volume.
            let _quiet = open.ranges.exclusive_all().await;
            open.stack.store(Arc::new(Stack { layers: Vec::new(), merging: false }));
        }
        shared.remove_durably(&shared.reservations_path(volume))?;
        shared.remove_durably(&shared.atomic_path(volume))?;
        shared.remove_durably(&shared.sanitize_path(volume))?;
        if known {
            shared.drop_unreachable();
        }
        // The removal itself waits for no block I/O; the parameter keeps all orders alike.
        let _ = io;
        Ok(())
    }

    /// The open volume: the same `Arc` for every caller.
    ///
    /// # Errors
    /// `Missing`, `Corrupt`, `Io`.
    pub async fn volume(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
    ) -> Result<Arc<Volume>, StoreError> {
        if let Some(open) = locked(&self.open).get(&volume) {
            return Ok(open.clone());
        }
        let _alone = self.shared.structure.lock().await;
        self.volume_locked(io, volume).await
    }

    /// The same for who holds the structure lock.
    async fn volume_locked(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
    ) -> Result<Arc<Volume>, StoreError> {
        if let Some(open) = locked(&self.open).get(&volume) {
            return Ok(open.clone());
        }
        self.shared.refuse_damaged(volume)?;
        let record = self.shared.volume_record(volume)?;
        let layers = self.shared.open_chain(io, record.head).await?;
        layers[0].extend(&*self.shared.names, record.size)?;
        let stack = Stack { layers, merging: false };
        let opened = Arc::new(Volume::new(self.shared.clone(), volume, record.size, stack));
        opened.finish_atomic(io).await?;
        locked(&self.open).insert(volume, opened.clone());
        Ok(opened)
    }
}
