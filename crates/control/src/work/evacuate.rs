//! Emptying a node of its file volumes, one after the other.

use std::time::Duration;

use model::event::EventResult;
use model::id::{NodeId, OperationId};
use model::network::Network;
use model::operation::{Operation, OperationKind, OperationState, Stayed};
use model::order::OrderError;
use model::snapshot::Snapshot;
use model::volume::{Volume, VolumeKind, VolumeStatus};
use model::volume_type::VolumeType;

use super::Outcome;
use crate::caller::Caller;
use crate::catalog::{self, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::Inner;
use crate::node::{on_node, pools_of};
use crate::pool::{self, Among};
use crate::reference;
use crate::volume::expected;

/// How often the move that goes on is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What an evacuation does next.
enum Next {
    /// A volume is on its way.
    Wait,
    /// Whether this one may move.
    Try(Box<Volume>),
    End(End),
}

/// How an evacuation ends.
enum End {
    Empty,
    Cancelled,
    /// Which volumes stay, and why.
    Stayed(String),
}

impl Inner {
    /// One look at an evacuation: begin the next move, or end it. Every answer is in the catalog,
    /// so that it goes on after a crash where it was.
    pub(super) async fn evacuate_node(&self, id: OperationId) -> Result<Outcome> {
        let (next, operation) = {
            let mut tx = self.catalog.begin().await?;
            let Some(mut operation) = catalog::get::<Operation>(&mut tx, id.0).await? else {
                return Ok(Outcome::Nothing);
            };
            if operation.state.may_become(OperationState::Running) {
                operation.state = OperationState::Running;
                catalog::update(&mut tx, &operation).await?;
            }
            let Some(node) = operation.subject.node() else { return Ok(Outcome::Nothing) };
            let next = next(&mut tx, &operation, node).await?;
            tx.commit().await?;
            (next, operation)
        };
        match next {
            Next::Wait => Ok(Outcome::Wait(LOOK_PAUSE)),
            Next::Try(volume) => {
                self.begin_move(&operation, *volume).await?;
                Ok(Outcome::Wait(LOOK_PAUSE))
            }
            Next::End(end) => {
                let mut tx = self.catalog.begin().await?;
                let (state, fault) = match end {
                    End::Empty => (OperationState::Succeeded, None),
                    End::Cancelled => {
                        (OperationState::Cancelled, Some(OrderError::Cancelled.to_string()))
                    }
                    End::Stayed(why) => (OperationState::Failed, Some(why)),
                };
                if let Some(node) = operation.subject.node() {
                    let empty = || "it has no file volumes any more".to_owned();
                    let what = fault.as_ref().map_or_else(|| Ok(empty()), Err);
                    self.node_event(&mut tx, node, "node.evacuate", what).await?;
                }
                self.finish(&mut tx, id, state, fault).await?;
                tx.commit().await?;
                Ok(Outcome::Done(None))
            }
        }
    }

    /// The volume moves, or the operation says why it stays.
    async fn begin_move(&self, operation: &Operation, volume: Volume) -> Result<()> {
        let OperationKind::EvacuateNode { force, .. } = operation.kind else { return Ok(()) };
        // Asked before the transaction begins.
        let answer = self.refresh_usage().await;
        let clients = self.file_clients(&volume).await;
        let mut tx = self.catalog.begin().await?;
        let Some(mut operation) = catalog::get::<Operation>(&mut tx, operation.id.0).await? else {
            return Ok(());
        };
        let Some(mut volume) = catalog::get::<Volume>(&mut tx, volume.id.0).await? else {
            return Ok(());
        };
        let clients = match clients {
            Ok(clients) if !force => clients.len(),
            Err(OrderError::Missing { .. }) | Ok(_) => 0,
            Err(error) => {
                operation.kind.stays(volume.id, &volume.name, error.to_string());
                catalog::update(&mut tx, &operation).await?;
                return self.commit(tx).await;
            }
        };
        match judge(&mut tx, &volume, (force, clients), &answer).await? {
            Err(why) => operation.kind.stays(volume.id, &volume.name, why),
            Ok(pool) => {
                operation.kind.goes(volume.size.bytes());
                let to = pool.id;
                volume.status = VolumeStatus::Moving { to, operation: operation.id };
                volume.fault = None;
                catalog::update(&mut tx, &volume).await?;
                let (action, result) = ("volume.move", EventResult::Accepted);
                let detail = format!("to pool '{}'", pool.name);
                self.record(&mut tx, &Caller::system(), &volume, action, result, detail).await?;
            }
        }
        catalog::update(&mut tx, &operation).await?;
        self.commit(tx).await
    }
}

async fn next(tx: &mut Transaction, operation: &Operation, node: NodeId) -> Result<Next> {
    let OperationKind::EvacuateNode { stayed, .. } = &operation.kind else {
        return Ok(Next::End(End::Empty));
    };
    let moving = Query::<Volume>::all().eq("status", "moving");
    let own = |volume: &Volume| matches!(volume.status, VolumeStatus::Moving { operation: by, .. } if by == operation.id);
    if catalog::select(tx, moving).await?.iter().any(own) {
        return Ok(Next::Wait);
    }
    if operation.cancel_requested {
        return Ok(Next::End(End::Cancelled));
    }
    let here = on_node(tx, node).await?.eq("kind", VolumeKind::File.word());
    let is_new = |volume: &Volume| stayed.iter().all(|one| one.volume != volume.id);
    if let Some(volume) = catalog::select(tx, here).await?.into_iter().find(is_new) {
        return Ok(Next::Try(Box::new(volume)));
    }
    if stayed.is_empty() {
        // The node is empty when what moved is deleted there, too.
        let pools = pools_of(tx, node).await?;
        let left = catalog::select(tx, Query::<Volume>::all().eq("left_over", 1_u64)).await?;
        let is_here = |volume: &Volume| pools.iter().any(|pool| volume.left_in.contains(&pool.id));
        return Ok(if left.iter().any(is_here) { Next::Wait } else { Next::End(End::Empty) });
    }
    Ok(Next::End(End::Stayed(why_they_stay(stayed))))
}

/// `2 file volumes stay: 'a': reason; 'b': reason`, the first of many.
fn why_they_stay(stayed: &[Stayed]) -> String {
    const SHOWN: usize = 8;
    let each = |one: &Stayed| format!("'{}': {}", one.name, one.why);
    let shown: Vec<String> = stayed.iter().take(SHOWN).map(each).collect();
    let more = match stayed.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("; and {more} more"),
        _ => String::new(),
    };
    let what = if stayed.len() == 1 { "file volume stays" } else { "file volumes stay" };
    format!("{} {what}: {}{more}", stayed.len(), shown.join("; "))
}

/// Where the volume may go now, or why it may not.
async fn judge(
    tx: &mut Transaction,
    volume: &Volume,
    (force, clients): (bool, usize),
    answer: &std::collections::HashSet<NodeId>,
) -> Result<std::result::Result<model::pool::Pool, String>> {
    if volume.status != VolumeStatus::Available {
        let status = volume.status.word();
        return Ok(Err(format!("it is {status}, so evacuate again when that is through")));
    }
    let snapshots = Query::<Snapshot>::all().eq("volume", volume.id);
    let snapshots = catalog::select(tx, snapshots).await?;
    let clones = Query::<Volume>::all().eq("origin_volume", volume.id);
    let clones = catalog::count(tx, clones).await?;
    if clones > 0 || snapshots.iter().any(|one| one.hidden_for.is_some()) {
        return Ok(Err(
            "a clone of it is being made, so evacuate again when that is through".into()
        ));
    }
    if let Some(busy) = snapshots.iter().find(|one| one.state.word() != "available") {
        let (name, state) = (&busy.name, busy.state.word());
        return Ok(Err(format!("its snapshot '{name}' is {state}, so delete it, or wait")));
    }
    let references = reference::names_of(tx, volume).await?;
    if !references.is_empty() && !force {
        return Ok(Err(format!("it is used by {}", references.join(", "))));
    }
    if clients > 0 {
        return Ok(Err(format!("{clients} clients have it mounted")));
    }
    let from: model::pool::Pool = expected(tx, volume.pool.0).await?;
    let kind: VolumeType = expected(tx, volume.volume_type.0).await?;
    let portals = match &volume.export {
        Some(export) => expected::<Network>(tx, export.network.0).await?.portals,
        None => Vec::new(),
    };
    let among = Among { answer, only: None, but: Some(from.node), portals: &portals };
    let size = (&kind, volume.size);
    match pool::choose(tx, volume.project, size, &volume.affinity, &among).await {
        Ok((pool, _)) if volume.left_in.contains(&pool.id) => Ok(Err(
            "what an earlier try has left there is not deleted yet, so try again".to_owned(),
        )),
        Ok((pool, _)) => Ok(Ok(pool)),
        Err(
            refusal @ (ControlError::NoPool { .. }
            | ControlError::PoolUnavailable { .. }
            | ControlError::NoSpace { .. }
            | ControlError::Unplaceable { .. }),
        ) => Ok(Err(refusal.to_string())),
        Err(other) => Err(other),
    }
}
