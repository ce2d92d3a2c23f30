//! Making, removing, growing, reverting and exporting volumes.

use model::event::EventResult;
use model::id::{OperationId, VolumeId};
use model::operation::{Operation, OperationKind, OperationState};
use model::order::{Order, OrderError, Source};
use model::snapshot::{Snapshot, SnapshotState};
use model::volume::{Origin, Volume, VolumeKind, VolumeStatus};

use super::{Outcome, is_final};
use crate::attachment::settled;
use crate::board::Claim;
use crate::caller::Caller;
use crate::catalog::{self, Query, Transaction};
use crate::error::Result;
use crate::facade::Inner;
use crate::schedule;

/// The end of a piece of work on a volume.
struct End {
    /// The status that it must still be in.
    from: VolumeStatus,
    /// The status that it gets; `None` is what its attachments say.
    to: Option<VolumeStatus>,
    action: &'static str,
    operation: Option<OperationId>,
}

impl Inner {
    pub(super) async fn create_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let VolumeStatus::Creating { import } = volume.status else { return Ok(Outcome::Nothing) };
        let end = End {
            from: volume.status.clone(),
            to: Some(VolumeStatus::Available),
            action: "volume.created",
            operation: import,
        };
        if let Some(error) = self.source_fault(&volume).await? {
            return self.end_work(id, end, Err(error)).await;
        }
        let source = match (volume.origin.volume(), volume.origin.snapshot()) {
            (Some(volume), Some(snapshot)) => Source::Snapshot { volume, snapshot },
            _ => Source::Blank,
        };
        let order =
            Order::CreateVolume { volume: id, pool: volume.pool, size: volume.size, source };
        let mut answer = self.order_at(volume.pool, order).await.map(drop);
        if let (Ok(()), Some(operation)) = (&answer, import) {
            answer = self.run_operation(operation, &volume).await?;
        }
        if answer.is_ok() && volume.kind() == VolumeKind::File {
            answer = self.serve(id).await?;
        }
        match answer {
            Err(error) if !is_final(&error, claim) => self.volume_retry(id, error).await,
            answer => self.end_work(id, end, answer).await,
        }
    }

    /// Why the clone's own snapshot of its source could not be taken.
    async fn source_fault(&self, volume: &Volume) -> Result<Option<OrderError>> {
        let Origin::Volume { snapshot, .. } = volume.origin else { return Ok(None) };
        let snapshot = self.read_one::<Snapshot>(snapshot.0).await?;
        let failed = snapshot.filter(|snapshot| snapshot.state == SnapshotState::Error);
        Ok(failed.map(|snapshot| {
            let why = snapshot.fault.unwrap_or_default();
            OrderError::Refused { why: format!("no snapshot of the source could be taken: {why}") }
        }))
    }

    pub(super) async fn delete_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        if volume.status != VolumeStatus::Deleting {
            return Ok(Outcome::Nothing);
        }
        let end = End {
            from: VolumeStatus::Deleting,
            to: None,
            action: "volume.deleted",
            operation: None,
        };
        let left = {
            let mut on = self.catalog.read().await?;
            catalog::select(&mut on, Query::<Snapshot>::all().eq("volume", id)).await?
        };
        if let Some(snapshot) = left.first() {
            if snapshot.state != SnapshotState::Error {
                return Ok(Outcome::Nothing);
            }
            let why = format!("snapshot '{}' could not be deleted", snapshot.name);
            return self.end_work(id, end, Err(OrderError::Refused { why })).await;
        }
        match self.unexport(&volume).await {
            Ok(()) => {}
            // Somebody mounted it between the request and now: it stays as it was.
            Err(error @ OrderError::Refused { .. }) => {
                let end = End { to: Some(VolumeStatus::Available), ..end };
                return self.end_work(id, end, Err(error)).await;
            }
            Err(error) => return self.volume_retry(id, error).await,
        }
        if let Err(error) = self.delete_left(&volume).await {
            return self.volume_retry(id, error).await;
        }
        let order = Order::DeleteVolume { volume: id, pool: volume.pool };
        match self.order_at(volume.pool, order).await {
            Ok(_) | Err(OrderError::Missing { .. }) => self.volume_gone(id).await,
            Err(error) if !is_final(&error, claim) => self.volume_retry(id, error).await,
            Err(error) => self.end_work(id, end, Err(error)).await,
        }
    }

    async fn volume_gone(&self, id: VolumeId) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(volume) = catalog::get::<Volume>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        schedule::end_with(&mut tx, id).await?;
        catalog::delete::<Volume>(&mut tx, id.0).await?;
        drop_hidden(&mut tx, id).await?;
        self.board.forget(id.0);
        self.done(&mut tx, &Caller::system(), &volume, "volume.deleted").await?;
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }

    pub(super) async fn resize_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let (VolumeStatus::Extending { to } | VolumeStatus::Shrinking { to }) = volume.status
        else {
            return Ok(Outcome::Nothing);
        };
        let order = Order::ResizeVolume { volume: id, pool: volume.pool, size: to };
        let end = End { from: volume.status, to: None, action: "volume.resized", operation: None };
        match self.order_at(volume.pool, order).await {
            Err(error) if !is_final(&error, claim) => self.volume_retry(id, error).await,
            answer => self.end_work(id, end, answer.map(drop)).await,
        }
    }

    pub(super) async fn revert_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let VolumeStatus::Reverting { to } = volume.status else { return Ok(Outcome::Nothing) };
        let order = Order::RevertVolume { volume: id, pool: volume.pool, snapshot: to };
        let is_file = volume.kind() == VolumeKind::File;
        let mut answer = self.unexport(&volume).await;
        if answer.is_ok() {
            answer = self.order_at(volume.pool, order).await.map(drop);
        }
        let end = End { from: volume.status, to: None, action: "volume.reverted", operation: None };
        match answer {
            Err(error) if !is_final(&error, claim) => self.volume_retry(id, error).await,
            answer => {
                // Clients have it back before anybody is told that it is through. What fails here
                // is left to the plan.
                if is_file && self.serve(id).await?.is_err() {
                    self.board.renew(id.0);
                }
                self.end_work(id, end, answer).await
            }
        }
    }

    pub(super) async fn export_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let VolumeStatus::Exporting { operation } = volume.status else {
            return Ok(Outcome::Nothing);
        };
        let answer = self.run_operation(operation, &volume).await?;
        let end = End {
            from: volume.status,
            to: None,
            action: "volume.exported",
            operation: Some(operation),
        };
        match answer {
            Err(error) if !is_final(&error, claim) => self.volume_retry(id, error).await,
            answer => self.end_work(id, end, answer).await,
        }
    }

    /// Send the image order of an operation and wait for its end, however long.
    async fn run_operation(
        &self,
        id: OperationId,
        volume: &Volume,
    ) -> Result<Result<(), OrderError>> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut operation) = catalog::get::<Operation>(&mut tx, id.0).await? else {
            let what = format!("operation {id}");
            return Ok(Err(OrderError::Missing { what }));
        };
        if operation.cancel_requested {
            return Ok(Err(OrderError::Cancelled));
        }
        let again = operation.state == OperationState::Running;
        if operation.state.may_become(OperationState::Running) {
            operation.state = OperationState::Running;
            catalog::update(&mut tx, &operation).await?;
        }
        tx.commit().await?;
        let (volume, pool) = (volume.id, volume.pool);
        let order = match operation.kind {
            OperationKind::ImportImage { path, format } => {
                Order::ImportImage { volume, pool, path, format }
            }
            OperationKind::ExportImage { path, format } => {
                Order::ExportImage { volume, pool, path, format }
            }
            OperationKind::RestartNode { .. }
            | OperationKind::UpgradeNode { .. }
            | OperationKind::EvacuateNode { .. } => {
                let why = "it is no work on a volume".to_owned();
                return Ok(Err(OrderError::Refused { why }));
            }
            OperationKind::MergeSnapshot { .. } => {
                let why = "a merge runs by itself".to_owned();
                return Ok(Err(OrderError::Refused { why }));
            }
        };
        let exports = matches!(order, Order::ExportImage { .. });
        let answer = self.order_at(pool, order).await.map(drop);
        Ok(answer.map_err(|error| match error {
            // The file is there because the first try made it: what it holds, nobody can tell.
            OrderError::Refused { why } if exports && again => {
                let why = format!(
                    "the export was interrupted, and its file may be incomplete: {why}; then \
                     export again"
                );
                OrderError::Refused { why }
            }
            other => other,
        }))
    }

    /// Note the end of the work, if the volume still waits for it.
    async fn end_work(
        &self,
        id: VolumeId,
        end: End,
        answer: Result<(), OrderError>,
    ) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut volume) = catalog::get::<Volume>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        if volume.status != end.from {
            return Ok(Outcome::Nothing);
        }
        if let (VolumeStatus::Extending { to } | VolumeStatus::Shrinking { to }, Ok(())) =
            (&end.from, &answer)
        {
            volume.size = *to;
        }
        if volume.kind() == VolumeKind::File && matches!(end.from, VolumeStatus::Creating { .. }) {
            // The tree is its own from here on: the snapshot that was taken for it can go.
            drop_hidden(&mut tx, id).await?;
        }
        volume.fault = answer.as_ref().err().map(ToString::to_string);
        volume.status = match (&answer, &end.from) {
            // What was never made, or is half gone, is no volume to use.
            (Err(_), VolumeStatus::Creating { .. }) => VolumeStatus::Error,
            (Err(_), VolumeStatus::Deleting) if end.to.is_none() => VolumeStatus::Error,
            _ => match end.to {
                Some(status) => status,
                None => settled(&mut tx, id).await?,
            },
        };
        debug_assert!(end.from.may_become(&volume.status), "{:?} to {:?}", end.from, volume.status);
        catalog::update(&mut tx, &volume).await?;
        let (result, detail) = match &answer {
            Ok(()) => (EventResult::Done, String::new()),
            Err(error) => (EventResult::Failed, error.to_string()),
        };
        self.record(&mut tx, &Caller::system(), &volume, end.action, result, detail).await?;
        if let Some(operation) = end.operation {
            self.end_operation(&mut tx, operation, answer).await?;
        }
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }

    /// Show why it takes so long, and try again.
    async fn volume_retry(&self, id: VolumeId, error: OrderError) -> Result<Outcome> {
        let mut tx: Transaction = self.catalog.begin().await?;
        if let Some(mut volume) = catalog::get::<Volume>(&mut tx, id.0).await? {
            volume.fault = Some(error.to_string());
            catalog::update(&mut tx, &volume).await?;
            tx.commit().await?;
        }
        Ok(Outcome::Retry(error.into()))
    }
}

/// The snapshots that only this clone knows go.
pub(crate) async fn drop_hidden(tx: &mut Transaction, clone: VolumeId) -> Result<()> {
    let hidden = Query::<Snapshot>::all().eq("hidden_for", clone);
    for mut snapshot in catalog::select(tx, hidden).await? {
        snapshot.state = SnapshotState::Deleting;
        catalog::update(tx, &snapshot).await?;
    }
    Ok(())
}
