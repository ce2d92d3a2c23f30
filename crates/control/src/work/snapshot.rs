//! Taking and removing snapshots.

use model::event::EventResult;
use model::id::SnapshotId;
use model::operation::{Operation, OperationKind, OperationState};
use model::order::{Order, OrderError};
use model::snapshot::{Snapshot, SnapshotState};
use model::volume::{Volume, VolumeKind, VolumeStatus};

use super::{Outcome, is_final};
use crate::board::Claim;
use crate::caller::Caller;
use crate::catalog;
use crate::error::Result;
use crate::facade::Inner;
use crate::volume::expected;

impl Inner {
    pub(super) async fn create_snapshot(&self, id: SnapshotId, claim: &Claim) -> Result<Outcome> {
        let Some((snapshot, volume)) = self.snapshot_in(id, SnapshotState::Creating).await? else {
            return Ok(Outcome::Nothing);
        };
        let browsed = volume.kind() == VolumeKind::File && snapshot.hidden_for.is_none();
        let order = Order::CreateSnapshot {
            volume: volume.id,
            pool: volume.pool,
            snapshot: id,
            name: browsed.then_some(snapshot.name),
        };
        let (state, fault) = match self.order_at(volume.pool, order).await {
            Ok(_) => (SnapshotState::Available, None),
            Err(error) if !is_final(&error, claim) => return self.snapshot_retry(id, error).await,
            Err(error) => (SnapshotState::Error, Some(error.to_string())),
        };
        self.snapshot_ended(id, SnapshotState::Creating, state, fault, "snapshot.created").await
    }

    pub(super) async fn delete_snapshot(&self, id: SnapshotId, claim: &Claim) -> Result<Outcome> {
        let Some((snapshot, volume)) = self.snapshot_in(id, SnapshotState::Deleting).await? else {
            return Ok(Outcome::Nothing);
        };
        let order =
            Order::DeleteSnapshot { volume: snapshot.volume, pool: volume.pool, snapshot: id };
        match self.order_at(volume.pool, order).await {
            Ok(_) | Err(OrderError::Missing { .. }) => {}
            Err(error) if !is_final(&error, claim) => return self.snapshot_retry(id, error).await,
            Err(error) => {
                let (from, to) = (SnapshotState::Deleting, SnapshotState::Error);
                let fault = Some(error.to_string());
                return self.snapshot_ended(id, from, to, fault, "snapshot.deleted").await;
            }
        }
        let mut tx = self.catalog.begin().await?;
        let Some(snapshot) = catalog::get::<Snapshot>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        catalog::delete::<Snapshot>(&mut tx, id.0).await?;
        let volume: Volume = expected(&mut tx, snapshot.volume.0).await?;
        // The bytes are merged from here on. Where people see the snapshot, they see that too.
        if snapshot.hidden_for.is_none() {
            self.done(&mut tx, &Caller::system(), &snapshot, "snapshot.deleted").await?;
            let merges = volume.kind() == VolumeKind::Block;
            if merges && volume.status != VolumeStatus::Deleting {
                let kind = OperationKind::MergeSnapshot { snapshot: id };
                let mut merge: Operation =
                    self.new_operation(&mut tx, &Caller::system(), &volume, kind).await?;
                merge.state = OperationState::Running;
                catalog::update(&mut tx, &merge).await?;
            }
        }
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }

    /// The snapshot and its volume, if it still is in this state.
    async fn snapshot_in(
        &self,
        id: SnapshotId,
        state: SnapshotState,
    ) -> Result<Option<(Snapshot, Volume)>> {
        let Some(snapshot) = self.read_one::<Snapshot>(id.0).await? else { return Ok(None) };
        if snapshot.state != state {
            return Ok(None);
        }
        let volume = self.read_one::<Volume>(snapshot.volume.0).await?;
        // What is on its way has the snapshot in two places: it waits until there is one.
        let is_settled = |volume: &Volume| !matches!(volume.status, VolumeStatus::Moving { .. });
        Ok(volume.filter(is_settled).map(|volume| (snapshot, volume)))
    }

    async fn snapshot_ended(
        &self,
        id: SnapshotId,
        from: SnapshotState,
        to: SnapshotState,
        fault: Option<String>,
        action: &str,
    ) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut snapshot) = catalog::get::<Snapshot>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        // A hidden one may be on its way out already, because its clone is gone.
        if snapshot.state != from {
            return Ok(Outcome::Nothing);
        }
        snapshot.state = to;
        snapshot.fault.clone_from(&fault);
        catalog::update(&mut tx, &snapshot).await?;
        if snapshot.hidden_for.is_none() {
            let result = if fault.is_none() { EventResult::Done } else { EventResult::Failed };
            let detail = fault.unwrap_or_default();
            self.record(&mut tx, &Caller::system(), &snapshot, action, result, detail).await?;
        }
        if from == SnapshotState::Creating {
            self.scheduled_ended(&mut tx, &mut snapshot).await?;
        }
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }

    async fn snapshot_retry(&self, id: SnapshotId, error: OrderError) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        if let Some(mut snapshot) = catalog::get::<Snapshot>(&mut tx, id.0).await? {
            snapshot.fault = Some(error.to_string());
            catalog::update(&mut tx, &snapshot).await?;
            tx.commit().await?;
        }
        Ok(Outcome::Retry(error.into()))
    }
}
