//! What a pool and its volumes share: paths, the tree of layers, open files, space.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use env::{BlockIo, Files};
use model::id::{PoolId, VolumeId};
use model::size::ByteSize;

use crate::error::StoreError;
use crate::layer::{self, Layer, Opening};
use crate::map::{CHUNK_BYTES, CHUNKS_PER_PAGE, PAGE_BYTES};
use crate::record::{Kind, Record};
use crate::space::Space;
use crate::tree::{LayerId, LayerRecord, Tree, VolumeRecord};

/// Bytes of the records and directory entries that one more layer needs, generously.
const LAYER_RECORDS_BYTES: u64 = 64 << 10;

/// Lock a mutex whose holders never leave its content half changed.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Shared {
    pub(crate) id: PoolId,
    pub(crate) names: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) direct: bool,
    pub(crate) space: Arc<Space>,
    /// Held while the structure changes. The tree's own mutex is held for look-ups only.
    pub(crate) structure: tokio::sync::Mutex<()>,
    pub(crate) tree: Mutex<Tree>,
    /// Open layers by the number of their files.
    pub(crate) open_layers: Mutex<BTreeMap<u64, Arc<Layer>>>,
    /// What the files that are not open count for in the pool, in bytes.
    pub(crate) closed_bytes: Mutex<BTreeMap<u64, u64>>,
    /// Volumes whose record is unreadable, and whether any record at all is.
    pub(crate) damaged: Mutex<BTreeSet<VolumeId>>,
    pub(crate) next_layer: AtomicU64,
    /// Keeps other processes out.
    pub(crate) _dir_lock: Box<dyn Send + Sync>,
}

/// A durable layer that no durable record names yet.
pub(crate) struct MadeLayer {
    pub(crate) id: LayerId,
    pub(crate) layer: Arc<Layer>,
    record: LayerRecord,
}

pub(crate) fn layers_dir(pool: &Path) -> PathBuf {
    pool.join("layers")
}

pub(crate) fn layer_path(pool: &Path, id: LayerId) -> PathBuf {
    layers_dir(pool).join(format!("{:016x}.rec", id.0))
}

impl Shared {
    pub(crate) fn volume_path(&self, volume: VolumeId) -> PathBuf {
        self.dir.join("volumes").join(format!("{volume}.rec"))
    }
    pub(crate) fn reservations_path(&self, volume: VolumeId) -> PathBuf {
        self.dir.join("reservations").join(format!("{volume}.rec"))
    }

    pub(crate) fn atomic_path(&self, volume: VolumeId) -> PathBuf {
        self.dir.join("atomic").join(format!("{volume}.rec"))
    }

    pub(crate) fn sanitize_path(&self, volume: VolumeId) -> PathBuf {
        self.dir.join("sanitize").join(format!("{volume}.rec"))
    }

    pub(crate) fn file_system_free(&self) -> Result<u64, StoreError> {
        let space = self.names.space(&self.dir);
        let fail = |source| StoreError::from_io("asking for free space", 0, source);
        space.map(|(_, free)| free).map_err(fail)
    }

    /// Is there room for the records and the map of one more layer of this size?
    pub(crate) fn room_for_layer(&self, size: u64) -> Result<(), StoreError> {
        let pages = size.div_ceil(CHUNK_BYTES).div_ceil(CHUNKS_PER_PAGE);
        let needed = LAYER_RECORDS_BYTES + pages * 2 * PAGE_BYTES as u64;
        let limit = self.space.limit().unwrap_or(u64::MAX);
        let free = self.file_system_free()?.min(limit.saturating_sub(self.space.used()));
        if free < needed {
            return Err(StoreError::NoSpace { needed: ByteSize(needed), free: ByteSize(free) });
        }
        Ok(())
    }

    pub(crate) fn refuse_damaged(&self, volume: VolumeId) -> Result<(), StoreError> {
        if locked(&self.damaged).contains(&volume) {
            return Err(StoreError::corrupt(
                format!("the record of volume {volume}"),
                "it was unreadable at the start, or its last change failed halfway; check the disk, \
                 then restart the node",
            ));
        }
        Ok(())
    }
    pub(crate) fn mark_damaged(&self, volume: VolumeId) {
        locked(&self.damaged).insert(volume);
    }
    pub(crate) fn forget_damaged(&self, volume: VolumeId) {
        locked(&self.damaged).remove(&volume);
    }

    pub(crate) fn volume_record(&self, volume: VolumeId) -> Result<VolumeRecord, StoreError> {
        let found = locked(&self.tree).volumes.get(&volume).cloned();
        found.ok_or_else(|| StoreError::missing(format!("volume {volume}")))
    }

    /// Replace a volume's record, on disk and then here.
    pub(crate) async fn write_volume(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        record: VolumeRecord,
    ) -> Result<(), StoreError> {
        let path = self.volume_path(volume);
        let (mut file, _) = Record::open(&*self.names, io, &path, Kind::Volume).await?;
        file.write(&*self.names, io, &record.encode()).await?;
        locked(&self.tree).volumes.insert(volume, record);
        Ok(())
    }

    fn opening<'a>(&'a self, layers: &'a Path) -> Opening<'a> {
        Opening { names: &*self.names, layers, direct: self.direct, space: &self.space }
    }

    /// Make a durable, empty layer. It is nobody's until a volume's record names it; a crash
    /// before that leaves files that the next open removes.
    pub(crate) async fn create_layer(
        &self,
        io: &dyn BlockIo,
        size: u64,
        parent: Option<LayerId>,
    ) -> Result<MadeLayer, StoreError> {
        let id = LayerId(self.next_layer.fetch_add(1, Ordering::Relaxed));
        let layers = layers_dir(&self.dir);
        let layer = Layer::create(&self.opening(&layers), id.0, size, parent.is_none())?;
        let layer = Arc::new(layer);
        layer::commit(io, std::slice::from_ref(&layer)).await?;
        let record = LayerRecord { parent, files: id.0 };
        // Syncs the directory, and so the names of the data and map files too.
        let path = layer_path(&self.dir, id);
        Record::create(&*self.names, io, &path, Kind::Layer, &record.encode()).await?;
        Ok(MadeLayer { id, layer, record })
    }

    /// A durable record names the layer now.
    pub(crate) fn adopt_layer(&self, made: MadeLayer) {
        locked(&self.open_layers).insert(made.record.files, made.layer);
        locked(&self.tree).layers.insert(made.id, made.record);
    }

    /// The layers from `top` to its base, opened. The caller holds the structure lock.
    pub(crate) async fn open_chain(
        &self,
        io: &dyn BlockIo,
        top: LayerId,
    ) -> Result<Vec<Arc<Layer>>, StoreError> {
        let records: Option<Vec<LayerRecord>> = {
            let tree = locked(&self.tree);
            let chain = tree.chain(top).unwrap_or_default();
            let records: Vec<_> =
                chain.iter().filter_map(|id| tree.layers.get(id)).cloned().collect();
            (!records.is_empty()).then_some(records)
        };
        let records = records.ok_or_else(|| {
            StoreError::corrupt(format!("{top:?}"), "a layer below it is missing")
        })?;
        let mut layers = Vec::with_capacity(records.len());
        for record in records {
            layers.push(self.open_layer(io, &record).await?);
        }
        Ok(layers)
    }

    /// The caller holds the structure lock, so that nobody opens the same files twice.
    pub(crate) async fn open_layer(
        &self,
        io: &dyn BlockIo,
        record: &LayerRecord,
    ) -> Result<Arc<Layer>, StoreError> {
        if let Some(layer) = locked(&self.open_layers).get(&record.files) {
            return Ok(layer.clone());
        }
        let layers = layers_dir(&self.dir);
        let opening = self.opening(&layers);
        let layer = Layer::open(&opening, io, record.files, record.parent.is_none()).await?;
        let layer = Arc::new(layer);
        let estimate = locked(&self.closed_bytes).remove(&record.files).unwrap_or(0);
        self.space.release(estimate);
        locked(&self.open_layers).insert(record.files, layer.clone());
        Ok(layer)
    }

    /// What a layer's files count for in the pool.
    pub(crate) fn data_bytes(&self, files: u64) -> u64 {
        let open = locked(&self.open_layers).get(&files).map(|layer| layer.data_bytes());
        open.unwrap_or_else(|| locked(&self.closed_bytes).get(&files).copied().unwrap_or(0))
    }

    /// Remove a file so that it stays removed. Gone already: nothing to do.
    pub(crate) fn remove_durably(&self, path: &Path) -> Result<(), StoreError> {
        let fail = |source| StoreError::from_io(format!("removing {}", path.display()), 0, source);
        if self.names.exists(path) {
            self.names.remove(path).map_err(fail)?;
        }
        self.names.sync_dir(path.parent().unwrap_or(&self.dir)).map_err(fail)
    }

    /// Remove the layers that no volume needs any more. What cannot be removed now is removed at
    /// the next open.
    pub(crate) fn drop_unreachable(&self) {
        let unreachable = locked(&self.tree).unreachable();
        for id in unreachable {
            let record = locked(&self.tree).layers.remove(&id);
            let Some(record) = record else { continue };
            // Never the files before the record: a record whose files are gone is damage.
            match self.remove_durably(&layer_path(&self.dir, id)) {
                Ok(()) => self.remove_files(record.files),
                Err(error) => tracing::warn!("{id:?} stays until the next start: {error}"),
            }
        }
    }

    /// Remove the data and map files that no layer's record names any more.
    pub(crate) fn remove_files(&self, files: u64) {
        let open = locked(&self.open_layers).remove(&files);
        let estimate = locked(&self.closed_bytes).remove(&files).unwrap_or(0);
        self.space.release(open.map_or(estimate, |layer| layer.data_bytes()));
        let layers = layers_dir(&self.dir);
        for path in [layer::map_path(&layers, files), layer::data_path(&layers, files)] {
            if self.names.exists(&path)
                && let Err(error) = self.names.remove(&path)
            {
                tracing::warn!("{} stays until the next start: {error}", path.display());
            }
        }
    }
}
