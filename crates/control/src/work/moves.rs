//! Moving a file volume to a pool of another node.
//!
//! ```text
//!  moving, in pool A:   clear B -> hold at A, and at B -> carry A to B, whole or not at all
//!         |                                          |
//!         | given up: B is left over                 | one transaction: the volume lies in B,
//!         v                                          v and A is left over
//!  available, in pool A                       available, in pool B
//!         |                                          |
//!         +--> the plan: export where it lies, and only then delete what is left over
//! ```
//!
//! Invariant: a node may serve the volume only in the pool that the catalog names. Clients are held
//! where it was before the first byte is read, and where it will be for those that come before it;
//! nothing that is left over is deleted before the volume is served. After a crash anywhere the same steps begin again, from clearing B.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::event::EventResult;
use model::id::{OperationId, PoolId, VolumeId};
use model::node::Node;
use model::operation::{Operation, OperationKind};
use model::order::{Carried, Order, OrderError};
use model::pool::Pool;
use model::volume::{Volume, VolumeStatus};
use tokio::sync::mpsc;

use super::Outcome;
use crate::board::Claim;
use crate::caller::Caller;
use crate::catalog;
use crate::error::Result;
use crate::export::terms;
use crate::facade::Inner;
use crate::node_link::Pieces;
use crate::volume::expected;

/// Tries before a move is given up and clients have the volume back where it was: they wait
/// meanwhile.
const TRIES_MAX: u32 = 3;
/// Pieces on their way between two nodes.
const PIECES_MAX: usize = 4;

impl Inner {
    pub(super) async fn move_volume(&self, id: VolumeId, claim: &Claim) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let VolumeStatus::Moving { to, operation } = volume.status else {
            return Ok(Outcome::Nothing);
        };
        let mut there = There::Perhaps;
        match self.carry(&volume, to, operation, &mut there).await {
            Ok(carried) => self.moved(&volume, to, carried).await,
            Err(error) if claim.failures + 1 < TRIES_MAX && may_help(&error) => {
                let by = self.read_one::<Operation>(operation.0).await?;
                if by.is_none_or(|by| by.cancel_requested) {
                    return self.not_moved(&volume, (to, there), &error).await;
                }
                Ok(Outcome::Retry(error.into()))
            }
            Err(error) => self.not_moved(&volume, (to, there), &error).await,
        }
    }

    /// The volume, whole and durable, in the other pool; and nobody has it where it was.
    async fn carry(
        &self,
        volume: &Volume,
        to: PoolId,
        operation: OperationId,
        there: &mut There,
    ) -> Result<Carried, OrderError> {
        let (source, target) = (self.link_at(volume.pool).await?, self.link_at(to).await?);
        // What an earlier try has left there is of another moment.
        delete(&*target, volume.id, to).await?;
        *there = There::Nothing;
        let terms = self.terms_of(volume).await?;
        let terms_there = self.terms_of(&Volume { pool: to, ..volume.clone() }).await?;
        self.nobody_came(volume, operation).await?;
        self.board.forget(volume.id.0);
        source.order(Order::Hold { terms }).await?;
        *there = There::Perhaps;
        // An address of the service may be there before the volume: its handles are good then.
        target.order(Order::Hold { terms: terms_there }).await?;
        let pieces = source.carry(volume.id, volume.pool).await?;
        let (pieces, why) = counted(pieces, self.moved_bytes.of(operation));
        let carried = target.receive(volume.id, to, pieces).await;
        // What broke off at the source says more than that nothing came any more.
        match (carried, why.lock().ok().and_then(|mut why| why.take())) {
            (Err(_), Some(why)) => Err(OrderError::Failed { why }),
            (carried, _) => carried,
        }
    }

    /// Whoever has mounted it since it was chosen is not cut off, unless the evacuation is forced.
    async fn nobody_came(&self, volume: &Volume, operation: OperationId) -> Result<(), OrderError> {
        let unread = |error: crate::ControlError| OrderError::Unreachable {
            why: format!("its evacuation could not be read: {error}"),
        };
        let by = self.read_one::<Operation>(operation.0).await.map_err(unread)?;
        if by.is_some_and(|by| matches!(by.kind, OperationKind::EvacuateNode { force: true, .. })) {
            return Ok(());
        }
        match self.file_clients(volume).await {
            Ok(clients) if clients.is_empty() => Ok(()),
            Ok(clients) => {
                let why = format!(
                    "{} clients have mounted it meanwhile; have them unmount it and evacuate \
                     again, or use --force",
                    clients.len()
                );
                Err(OrderError::Refused { why })
            }
            // Not exported, it has none.
            Err(OrderError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn terms_of(&self, volume: &Volume) -> Result<model::export::Terms, OrderError> {
        let unread = |error: crate::ControlError| OrderError::Unreachable {
            why: format!("its terms could not be read: {error}"),
        };
        let read = async {
            let mut on = self.catalog.read().await?;
            terms(&mut on, volume).await
        };
        let refused = || OrderError::Refused { why: "it is no file volume".to_owned() };
        read.await.map_err(unread)?.ok_or_else(refused)
    }

    /// From this commit on it lies in the other pool.
    async fn moved(&self, seen: &Volume, to: PoolId, carried: Carried) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut volume) = catalog::get::<Volume>(&mut tx, seen.id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        if volume.status != seen.status {
            return Ok(Outcome::Nothing);
        }
        let from: Pool = expected(&mut tx, volume.pool.0).await?;
        let pool: Pool = expected(&mut tx, to.0).await?;
        let node: Node = expected(&mut tx, pool.node.0).await?;
        let before: Node = expected(&mut tx, from.node.0).await?;
        volume.left_in.retain(|left| *left != to);
        volume.left_in.push(from.id);
        volume.pool = to;
        volume.placed = format!(
            "moved to node '{}' from pool '{}' on node '{}', which was evacuated",
            node.name, from.name, before.name
        );
        volume.fault = None;
        if let Some(export) = &mut volume.export {
            export.portals = Vec::new();
        }
        self.settle_move(&mut tx, &mut volume).await?;
        let detail = format!(
            "to pool '{}' on node '{}': {} entries, {} bytes, {} snapshots",
            pool.name, node.name, carried.entries, carried.bytes, carried.snapshots
        );
        let (action, result) = ("volume.moved", EventResult::Done);
        self.record(&mut tx, &Caller::system(), &volume, action, result, detail).await?;
        self.commit(tx).await?;
        self.board.renew(volume.id.0);
        // Clients wait for it. What fails here is left to the plan.
        if let Err(error) = self.serve(volume.id).await? {
            tracing::warn!(volume = %volume.id, %error, "a moved volume is not served yet");
        }
        Ok(Outcome::Done(None))
    }

    /// Given up: clients have it back where it is.
    async fn not_moved(
        &self,
        seen: &Volume,
        (to, there): (PoolId, There),
        error: &OrderError,
    ) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut volume) = catalog::get::<Volume>(&mut tx, seen.id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let VolumeStatus::Moving { operation, .. } = volume.status else {
            return Ok(Outcome::Nothing);
        };
        if volume.status != seen.status {
            return Ok(Outcome::Nothing);
        }
        if there == There::Perhaps && !volume.left_in.contains(&to) {
            volume.left_in.push(to);
        }
        // It is served as before: the operation and the event tell why it stays.
        volume.fault = None;
        if let Some(mut operation) = catalog::get::<Operation>(&mut tx, operation.0).await? {
            operation.kind.stays(volume.id, &volume.name, error.to_string());
            catalog::update(&mut tx, &operation).await?;
        }
        self.settle_move(&mut tx, &mut volume).await?;
        let (action, result) = ("volume.moved", EventResult::Failed);
        self.record(&mut tx, &Caller::system(), &volume, action, result, error.to_string()).await?;
        self.commit(tx).await?;
        self.board.renew(volume.id.0);
        Ok(Outcome::Done(None))
    }

    async fn settle_move(&self, tx: &mut catalog::Transaction, volume: &mut Volume) -> Result<()> {
        if let VolumeStatus::Moving { operation, .. } = volume.status {
            self.moved_bytes.forget(operation);
        }
        volume.status = VolumeStatus::Available;
        if let Some(export) = &mut volume.export {
            export.evict = false;
        }
        catalog::update(tx, volume).await
    }

    /// Delete what moves have left of a volume in other pools than its own, which it is served
    /// from by now.
    pub(super) async fn clear_left(&self, id: VolumeId) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let is_served = volume.status.is_exported() && self.board.is_confirmed(id.0);
        if is_served {
            self.delete_left(&volume).await?;
        }
        Ok(Outcome::Done(None))
    }

    /// The same of a volume that is going away. A pool that is away holds up none of the others.
    pub(super) async fn delete_left(&self, volume: &Volume) -> Result<(), OrderError> {
        let mut all = Ok(());
        for left in volume.left_in.iter().copied().filter(|left| *left != volume.pool) {
            if let Err(error) = self.delete_one_left(volume.id, left).await {
                all = Err(error);
            }
        }
        all
    }

    async fn delete_one_left(&self, id: VolumeId, left: PoolId) -> Result<(), OrderError> {
        if !self.board.is_confirmed(left.0) {
            let why = "a pool with what a move has left is not open".to_owned();
            return Err(OrderError::Unreachable { why });
        }
        let link = self.link_at(left).await?;
        delete(&*link, id, left).await?;
        let note = async {
            let mut tx = self.catalog.begin().await?;
            if let Some(mut volume) = catalog::get::<Volume>(&mut tx, id.0).await? {
                volume.left_in.retain(|one| *one != left);
                catalog::update(&mut tx, &volume).await?;
            }
            self.commit(tx).await
        };
        note.await.map_err(|error| OrderError::Unreachable { why: error.to_string() })
    }
}

/// What is in a pool of a volume that does not lie there, and is served there by nobody.
async fn delete(
    link: &dyn crate::NodeLink,
    volume: VolumeId,
    pool: PoolId,
) -> Result<(), OrderError> {
    link.order(Order::Unexport { volume, evict: true }).await?;
    match link.order(Order::DeleteVolume { volume, pool }).await {
        Ok(_) => Ok(()),
        // A pool that is not open says of everything that it is not there.
        Err(OrderError::Missing { .. }) => {
            if link.pool_usage().await?.iter().any(|open| open.pool == pool) {
                return Ok(());
            }
            Err(OrderError::Unreachable { why: "the pool is not open on its node".to_owned() })
        }
        Err(error) => Err(error),
    }
}

/// What a move that is given up has brought to the other pool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// This try has seen that nothing is there, and has sent nothing yet.
    Nothing,
    /// This try has had clients held or sent something there, or an earlier one may have.
    Perhaps,
}

/// Is there sense in trying again?
const fn may_help(error: &OrderError) -> bool {
    matches!(error, OrderError::Unreachable { .. } | OrderError::Failed { .. })
}

/// The same pieces, counted; and why they broke off, where they did.
fn counted(
    mut from: Pieces,
    count: Arc<AtomicU64>,
) -> (Pieces, Arc<std::sync::Mutex<Option<String>>>) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let why: Arc<std::sync::Mutex<Option<String>>> = Arc::default();
    let said = Arc::clone(&why);
    count.store(0, Ordering::Relaxed);
    tokio::spawn(async move {
        while let Some(piece) = from.recv().await {
            match &piece {
                Ok(bytes) => {
                    count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    if let Ok(mut said) = said.lock() {
                        *said = Some(error.to_string());
                    }
                }
            }
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    (pieces, why)
}
