//! Evacuation: other nodes take a node's file volumes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::event::EventResult;
use model::id::{OperationId, VolumeId};
use model::node::Node;
use model::operation::{Operation, OperationKind, Progress};
use model::user::Role;
use model::volume::{Volume, VolumeKind};

use super::{on_node, open_work, uses_of};
use crate::caller::Caller;
use crate::catalog::{self, Query};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, resolve};
use crate::links::{LOOK_LIMIT, in_time};

/// An evacuation that was begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEvacuation {
    pub operation: Operation,
    /// The block volumes of the node, by name: they stay.
    pub block_volumes: Vec<String>,
}

impl Control {
    /// Have other nodes take the file volumes of this one, and place no new ones on it. One that is
    /// under way is not begun twice.
    ///
    /// # Errors
    /// Not an admin; no such node; its file volumes are used or mounted, and it is not forced; there
    /// is no other node; the node cannot be reached.
    pub async fn node_evacuate(
        &self,
        caller: &Caller,
        node: &str,
        force: bool,
    ) -> Result<NodeEvacuation> {
        caller.must_be(Role::Admin, "evacuate nodes")?;
        let inner = &self.inner;
        let node: Node = {
            let mut on = inner.catalog.read().await?;
            resolve(&mut on, caller, node).await?
        };
        let link = inner.links.to(node.id)?;
        let counts = in_time(LOOK_LIMIT, link.client_counts()).await?;
        let mut tx = inner.catalog.begin().await?;
        let mut node: Node = crate::volume::expected(&mut tx, node.id.0).await?;
        let here = on_node(&mut tx, node.id).await?;
        let volumes = catalog::select(&mut tx, here).await?;
        let (files, blocks): (Vec<Volume>, Vec<Volume>) =
            volumes.into_iter().partition(|volume| volume.kind() == VolumeKind::File);
        let block_volumes: Vec<String> = blocks.into_iter().map(|volume| volume.name).collect();
        let is_it = |one: &Operation| {
            one.subject.node() == Some(node.id)
                && matches!(one.kind, OperationKind::EvacuateNode { .. })
        };
        if let Some(mut operation) = open_work(&mut tx).await?.into_iter().find(is_it) {
            if let (true, OperationKind::EvacuateNode { force: forced @ false, .. }) =
                (force, &mut operation.kind)
            {
                *forced = true;
                catalog::update(&mut tx, &operation).await?;
                inner.done(&mut tx, caller, &node, "node.evacuate_force").await?;
                inner.commit(tx).await?;
            }
            return Ok(NodeEvacuation { operation, block_volumes });
        }
        let clients = counts.values().sum();
        let detail = uses_of(&mut tx, &node, clients).await?.allow("evacuated", force)?;
        nobody_mounts(&node, &files, &counts, force)?;
        let nodes = catalog::count(&mut tx, Query::<Node>::all()).await?;
        if nodes < 2 && !files.is_empty() {
            let volumes = files.len() as u64;
            return Err(ControlError::NoOtherNode { node: node.name, volumes });
        }
        if nodes > 1 {
            // A sole node that took none would leave new volumes no place at all.
            node.takes_volumes = false;
            catalog::update(&mut tx, &node).await?;
        }
        let total = files.iter().map(|volume| volume.size.bytes()).sum();
        let kind = OperationKind::EvacuateNode { force, total, begun: 0, last: 0, stayed: vec![] };
        let operation = inner.node_operation(&mut tx, caller, &node, kind).await?;
        let (action, result) = ("node.evacuate", EventResult::Accepted);
        let detail = format!("{} file volumes; {detail}", files.len());
        inner.record(&mut tx, caller, &node, action, result, detail).await?;
        inner.commit(tx).await?;
        Ok(NodeEvacuation { operation, block_volumes })
    }
}

/// Refuse what clients would notice, naming what they have.
fn nobody_mounts(
    node: &Node,
    files: &[Volume],
    counts: &HashMap<VolumeId, u64>,
    force: bool,
) -> Result<()> {
    let mounted = |volume: &Volume| {
        let count = counts.get(&volume.id).copied().filter(|count| *count > 0)?;
        Some(format!("'{}' by {count}", volume.name))
    };
    let volumes: Vec<String> = files.iter().filter_map(mounted).collect();
    if force || volumes.is_empty() {
        return Ok(());
    }
    Err(ControlError::NodeMounted { node: node.name.clone(), volumes })
}

/// How many bytes the move of each evacuation has carried so far.
#[derive(Default)]
pub(crate) struct Moved(Mutex<HashMap<OperationId, Arc<AtomicU64>>>);

impl Moved {
    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, operation: OperationId) -> Arc<AtomicU64> {
        Arc::clone(self.lock().entry(operation).or_default())
    }

    /// Of the move that goes on, if one does.
    fn now(&self, operation: OperationId) -> Option<u64> {
        self.lock().get(&operation).map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn forget(&self, operation: OperationId) {
        self.lock().remove(&operation);
    }
}

impl Inner {
    /// How far an evacuation is: sizes of what is through, and what went over the wire of the
    /// volume that is on its way.
    pub(crate) fn note_evacuation(&self, operation: &mut Operation) {
        let OperationKind::EvacuateNode { total, begun, last, .. } = operation.kind else { return };
        let on_its_way = self.moved_bytes.now(operation.id);
        let done = begun.saturating_sub(last) + on_its_way.unwrap_or(last).min(last);
        operation.progress = Some(Progress { done: done.min(total), total });
    }
}
