//! Volumes that were lost with their nodes, forgotten by the operator's word.
//!
//! ```text
//!  a volume --volume delete --lost, its node does not answer--> a record of it and of its places
//!  the node answers again --> it is told to serve the volume to nobody --> told
//!  told, and the pool is forgotten, too --> (no record)
//!  a forgotten node is let go when it has been told of all of its volumes
//! ```
//!
//! Invariant: nothing of the data is erased or taken over here, and no node is let go that may
//! still serve a volume which nobody knows any more.

use model::event::EventResult;
use model::id::{NodeId, PoolId};
use model::node::Node;
use model::operation::{Operation, OperationState};
use model::pool::Pool;
use model::user::Role;
use model::volume::{Volume, VolumeStatus};

use crate::board::Step;
use crate::caller::Caller;
use crate::catalog::{
    self, AttachmentRecord, Connection, DoorRecord, LostPlace, LostRecord, Query, Transaction,
};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, resolve};
use crate::params::{VolumeDelete, VolumeView};
use crate::volume::{busy, expected, host_names, only_snapshots, view};
use crate::work::drop_hidden;
use crate::{group, reference, schedule};

/// Lost volumes of which some node has not been told yet.
pub(crate) async fn untold(on: &mut Connection) -> Result<Vec<LostRecord>> {
    catalog::select(on, Query::<LostRecord>::all().eq("untold", 1_u64)).await
}

/// Those that this node has not been told of.
pub(crate) async fn untold_on(on: &mut Connection, node: NodeId) -> Result<Vec<LostRecord>> {
    let mut all = untold(on).await?;
    let is_owed = |place: &LostPlace| place.node == node && !place.told;
    all.retain(|lost| lost.places.iter().any(is_owed));
    Ok(all)
}

/// The names of lost volumes whose data lies in a pool, as far as anybody knows.
pub(crate) async fn in_pool(on: &mut Connection, pool: PoolId) -> Result<Vec<String>> {
    let mut all = catalog::select(on, Query::<LostRecord>::all()).await?;
    all.retain(|lost| lost.places.iter().any(|place| place.pool == pool));
    Ok(all.into_iter().map(|lost| lost.name).collect())
}

/// A pool is forgotten: of what was told, nothing is left to say.
pub(crate) async fn forget_pool(tx: &mut Transaction, pool: PoolId) -> Result<()> {
    for mut lost in catalog::select(tx, Query::<LostRecord>::all()).await? {
        lost.places.retain(|place| place.pool != pool || !place.told);
        keep(tx, &lost).await?;
    }
    Ok(())
}

/// A node that was forgotten is known under another id.
pub(crate) async fn follow(
    tx: &mut Transaction,
    was: impl Fn(NodeId) -> bool + Send,
    now: NodeId,
) -> Result<()> {
    for mut lost in untold(tx).await? {
        for place in lost.places.iter_mut().filter(|place| was(place.node)) {
            place.node = now;
        }
        catalog::update(tx, &lost).await?;
    }
    Ok(())
}

/// As it is now; a record without a place has nothing to say.
pub(crate) async fn keep(tx: &mut Transaction, lost: &LostRecord) -> Result<()> {
    if lost.places.is_empty() {
        return catalog::delete::<LostRecord>(tx, lost.volume.0).await;
    }
    catalog::update(tx, lost).await
}

impl Control {
    /// Forget a volume whose node is gone for good. Its data is not erased; should the node come
    /// back, it is told to serve the volume to nobody.
    pub(crate) async fn volume_lost(
        &self,
        caller: &Caller,
        volume: &str,
        how: VolumeDelete,
    ) -> Result<VolumeView> {
        caller.must_be(Role::Admin, "give volumes up as lost")?;
        let inner = &self.inner;
        let (known, node) = {
            let mut on = inner.catalog.read().await?;
            let volume: Volume = resolve(&mut on, caller, volume).await?;
            let pool: Pool = expected(&mut on, volume.pool.0).await?;
            (volume, pool.node)
        };
        if inner.answers(node).await {
            let mut on = inner.catalog.read().await?;
            let node = catalog::get::<Node>(&mut on, node.0).await?;
            let node = node.map(|node| node.name).unwrap_or_default();
            return Err(ControlError::NodeAnswers { volume: known.name, node });
        }
        let mut tx = inner.catalog.begin().await?;
        let volume: Volume = resolve(&mut tx, caller, &known.id.to_string()).await?;
        // What is on its way is given up there by itself, and is served again where it was.
        if volume.pool != known.pool || matches!(volume.status, VolumeStatus::Moving { .. }) {
            return Err(busy(&volume, "give up"));
        }
        group::holds_no_volume(&mut tx, &volume).await?;
        if !how.force {
            let hosts = host_names(&mut tx, volume.id).await?;
            if !hosts.is_empty() {
                let (volume, action) = (volume.name, "given up");
                return Err(ControlError::VolumeInUse { volume, hosts, action });
            }
            reference::nobody_uses(&mut tx, &volume, "given up").await?;
        }
        let snapshots = only_snapshots(&mut tx, &volume, how.cascade).await?;
        let status = VolumeStatus::Deleting;
        let view = view(&mut tx, Volume { status, ..volume.clone() }).await?;
        for snapshot in snapshots {
            catalog::delete::<model::snapshot::Snapshot>(&mut tx, snapshot.id.0).await?;
            let (action, result) = ("snapshot.lost", EventResult::Done);
            inner.record(&mut tx, caller, &snapshot, action, result, "with its volume").await?;
        }
        let lost = inner.give_up(&mut tx, caller, &volume).await?;
        inner.commit(tx).await?;
        inner.board.forget(volume.id.0);
        for attachment in lost.attachments {
            inner.board.forget(attachment.0);
        }
        Ok(view)
    }
}

impl Inner {
    /// The volume is a record of what was lost, and everything that was its own is gone.
    async fn give_up(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &Volume,
    ) -> Result<LostRecord> {
        let mut lost = LostRecord {
            volume: volume.id,
            name: volume.name.clone(),
            project: volume.project,
            kind: volume.kind(),
            attachments: Vec::new(),
            places: Vec::new(),
        };
        let elsewhere = volume.left_in.iter().filter(|left| **left != volume.pool);
        for pool in [&volume.pool].into_iter().chain(elsewhere) {
            let Some(pool) = catalog::get::<Pool>(tx, pool.0).await? else { continue };
            let node = catalog::get::<Node>(tx, pool.node.0).await?;
            lost.places.push(LostPlace {
                pool: pool.id,
                pool_name: pool.name,
                path: pool.path,
                node: pool.node,
                node_name: node.map(|node| node.name).unwrap_or_default(),
                told: false,
            });
        }
        let query = Query::<AttachmentRecord>::all().eq("volume", volume.id);
        for record in catalog::select(tx, query).await? {
            lost.attachments.push(record.attachment.id);
            catalog::delete::<AttachmentRecord>(tx, record.attachment.id.0).await?;
            let (action, result) = ("attachment.lost", EventResult::Done);
            self.record(tx, caller, &record, action, result, "with its volume").await?;
        }
        let open = Query::<Operation>::all().eq("volume", volume.id);
        for operation in catalog::select(tx, open.one_of("state", ["pending", "running"])).await? {
            let fault = Some("the volume was given up as lost".to_owned());
            self.finish(tx, operation.id, OperationState::Failed, fault).await?;
        }
        reference::outlive(tx, volume).await?;
        schedule::end_with(tx, volume.id).await?;
        drop_hidden(tx, volume.id).await?;
        catalog::delete::<Volume>(tx, volume.id.0).await?;
        catalog::insert(tx, &lost).await?;
        let place = lost.places.first().map(|one| (one.node_name.as_str(), one.pool_name.as_str()));
        let (node, pool) = place.unwrap_or_default();
        let hosts = lost.attachments.len();
        let detail = format!(
            "node '{node}' does not answer; nothing is erased in its pool '{pool}'; {hosts} hosts \
             had it attached"
        );
        self.record(tx, caller, volume, "volume.lost", EventResult::Done, detail).await?;
        Ok(lost)
    }

    /// A node answers again: what it has to be told of lost volumes is due now.
    pub(crate) async fn tell_soon(&self, node: NodeId) -> Result<()> {
        let mut on = self.catalog.read().await?;
        for lost in untold_on(&mut on, node).await? {
            self.board.clear(Step::Bury(lost.volume));
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Let a node go that was forgotten while it was away, as soon as it has been told of all that
    /// was lost with it.
    pub(crate) async fn part_with(&self, door: DoorRecord) -> Result<()> {
        let owed = {
            let mut on = self.catalog.read().await?;
            untold_on(&mut on, door.node).await?
        };
        if !owed.is_empty() {
            return Ok(());
        }
        self.links.doors()?.release(&self.way(&door)).await?;
        let mut tx = self.catalog.begin().await?;
        catalog::delete::<DoorRecord>(&mut tx, door.node.0).await?;
        tx.commit().await?;
        self.links.forget(door.node);
        Ok(())
    }
}
