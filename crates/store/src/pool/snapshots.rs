//! Snapshots: take, delete, revert to.

use std::sync::Arc;

use env::BlockIo;
use model::id::{SnapshotId, VolumeId};

use super::{Pool, locked};
use crate::error::StoreError;
use crate::layer::commit;
use crate::stack::Stack;
use crate::tree::Snapshot;

impl Pool {
    /// Freeze the volume's content under this name, in constant time, while writes run. Every
    /// write answered before this call is in it, and it is durable. There already: nothing to do.
    ///
    /// # Errors
    /// `Missing`, `NoSpace` with numbers, `Io`: it may then be there after a restart.
    pub async fn create_snapshot(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _alone = shared.structure.lock().await;
        let open = self.volume_locked(io, volume).await?;
        let mut record = shared.volume_record(volume)?;
        if record.snapshot(snapshot).is_some() {
            return Ok(());
        }
        // It would keep what is being overwritten.
        shared.refuse_while_sanitizing(volume)?;
        shared.room_for_layer(record.size)?;
        let made = shared.create_layer(io, record.size, Some(record.head)).await?;
        record.snapshots.push(Snapshot { id: snapshot, layer: record.head, size: record.size });
        record.head = made.id;
        // Most of the flushing is done before writers have to wait.
        open.flush(io).await?;
        let _quiet = open.ranges.exclusive_all().await;
        let stack = open.layers()?;
        commit(io, stack.writable()).await?;
        shared.write_volume(io, volume, record).await?;
        let layers = std::iter::once(made.layer.clone()).chain(stack.layers.iter().cloned());
        open.stack.store(Arc::new(Stack { layers: layers.collect(), merging: false }));
        shared.adopt_layer(made);
        Ok(())
    }

    /// Drop the name. The space comes back when [`Pool::merge_step`] has merged the layer.
    /// Gone already: nothing to do.
    ///
    /// # Errors
    /// `Io`.
    pub async fn delete_snapshot(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _alone = shared.structure.lock().await;
        shared.refuse_damaged(volume)?;
        let mut record = match shared.volume_record(volume) {
            Err(StoreError::Missing { .. }) => return Ok(()),
            other => other?,
        };
        let Some(found) = record.snapshot(snapshot).cloned() else { return Ok(()) };
        record.snapshots.retain(|other| other.id != snapshot);
        shared.write_volume(io, volume, record).await?;
        locked(&self.dropped).insert(found.layer, (volume, snapshot));
        shared.drop_unreachable();
        Ok(())
    }

    /// Make the volume's content the snapshot's. Its size and its other snapshots stay.
    ///
    /// # Errors
    /// `Missing`, `NoSpace`, `Io`: the content may then be either after a restart.
    pub async fn revert(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _alone = shared.structure.lock().await;
        let open = self.volume_locked(io, volume).await?;
        let mut record = shared.volume_record(volume)?;
        let found = record.snapshot(snapshot).ok_or_else(|| {
            StoreError::missing(format!("snapshot {snapshot} of volume {volume}"))
        })?;
        shared.room_for_layer(record.size)?;
        let below = shared.open_chain(io, found.layer).await?;
        let made = shared.create_layer(io, record.size, Some(found.layer)).await?;
        record.head = made.id;
        {
            let _quiet = open.ranges.exclusive_all().await;
            if let Err(error) = shared.write_volume(io, volume, record).await {
                // The next start may find either head, so neither may take another write.
                open.stack.store(Arc::new(Stack { layers: Vec::new(), merging: false }));
                locked(&self.open).remove(&volume);
                shared.mark_damaged(volume);
                return Err(error);
            }
            let layers = std::iter::once(made.layer.clone()).chain(below);
            open.stack.store(Arc::new(Stack { layers: layers.collect(), merging: false }));
        }
        shared.adopt_layer(made);
        shared.drop_unreachable();
        Ok(())
    }
}
