//! Upgrades: a node's daemon goes on as another binary.

use std::time::Duration;

use model::event::EventResult;
use model::id::{NodeId, OperationId};
use model::node::{Node, may_replace};
use model::operation::{Operation, OperationKind, OperationState, Subject};
use model::order::OrderError;
use model::pool::Pool;
use model::user::Role;

use super::{open_work, pools_of, under_way, uses_of};
use crate::caller::Caller;
use crate::catalog::{self};
use crate::error::{ControlError, NodeWork, Result};
use crate::facade::{Control, Inner, resolve};

/// How long an upgrade by force waits for the end of what it has cancelled, and between two looks.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
const CANCEL_PAUSE: Duration = Duration::from_millis(20);

/// Which binary is to take the running one's place.
#[derive(Clone, Debug, Default)]
pub struct NodeUpgrade {
    /// On the node, absolute; what lies now where the running one was started from, by default.
    pub binary: Option<String>,
    /// Although its file volumes are used, although operations are under way (those that can be
    /// cancelled are), and although it is older.
    pub force: bool,
}

impl Control {
    /// Have the node's daemon go on with another binary, in the same process.
    ///
    /// # Errors
    /// Not an admin; no such node; the binary is not fit; the node's file volumes are used or
    /// operations are under way, and it is not forced; it is about to go on with another one; the
    /// node cannot be reached.
    pub async fn node_upgrade(
        &self,
        caller: &Caller,
        node: &str,
        how: NodeUpgrade,
    ) -> Result<Operation> {
        caller.must_be(Role::Admin, "upgrade nodes")?;
        let inner = &self.inner;
        if how.binary.as_ref().is_some_and(|path| !path.starts_with('/')) {
            let why = "it is no absolute path".to_owned();
            return Err(ControlError::Invalid { field: "binary", why });
        }
        let (node, pools): (Node, Vec<Pool>) = {
            let mut on = inner.catalog.read().await?;
            let node: Node = resolve(&mut on, caller, node).await?;
            let pools = pools_of(&mut on, node.id).await?;
            (node, pools)
        };
        let link = inner.links.to(node.id)?;
        let report = inner.report_of(node.id).await?;
        let kept_out = pools.into_iter().map(|pool| pool.path).collect();
        let binary = match link.check_binary(how.binary, kept_out).await {
            Err(OrderError::Refused { why }) => return Err(ControlError::BinaryUnfit { why }),
            other => other?,
        };
        let written = inner.catalog.formats().await?;
        may_replace(&binary, &report.version, &written, how.force).map_err(|unfit| {
            ControlError::BinaryUnfit { why: format!("{}: {unfit}", binary.path) }
        })?;
        let kind = OperationKind::UpgradeNode {
            binary: binary.path.clone(),
            from: report.version,
            to: binary.version,
            boot: node.boot,
        };
        let clients = report.files.map_or(0, |files| files.clients);
        if how.force {
            inner.make_way(caller, &node, &kind).await?;
        }
        let mut tx = inner.catalog.begin().await?;
        if let Some(running) = under_way(&mut tx, &node, &kind).await? {
            return same_upgrade(&node, running, &kind);
        }
        let detail = uses_of(&mut tx, &node, clients).await?.allow("upgraded", how.force)?;
        let work = open_work(&mut tx).await?;
        if !work.is_empty() && !how.force {
            return Err(busy(&node, &work));
        }
        let mut operation = inner.node_operation(&mut tx, caller, &node, kind).await?;
        operation.state = OperationState::Running;
        catalog::update(&mut tx, &operation).await?;
        let (action, result) = ("node.upgrade", EventResult::Accepted);
        let detail = format!("to {}; {detail}", binary.path);
        inner.record(&mut tx, caller, &node, action, result, detail).await?;
        inner.commit(tx).await?;
        if let Err(error) = link.upgrade(operation.id, binary.path).await {
            inner.end_upgrade(&operation, Err(error)).await?;
            return self.operation_get(caller, &operation.id.to_string()).await;
        }
        Ok(operation)
    }

    /// How upgrades of the node in this process that were under way at this start have ended: `by`
    /// is the one that this start is the end of, and why it has failed where it has.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn upgraded(&self, by: Option<(OperationId, Option<String>)>) -> Result<()> {
        match self.inner.links.local() {
            Some(node) => self.inner.end_upgrades(node, by).await,
            None => Ok(()),
        }
    }
}

/// The upgrade that is under way, if it is the one that is asked for.
fn same_upgrade(node: &Node, running: Operation, asked: &OperationKind) -> Result<Operation> {
    let binary = |kind: &OperationKind| match kind {
        OperationKind::UpgradeNode { binary, .. } => Some(binary.clone()),
        _ => None,
    };
    if binary(&running.kind) == binary(asked) { Ok(running) } else { Err(busy(node, &[running])) }
}

fn busy(node: &Node, work: &[Operation]) -> ControlError {
    let one = |one: &Operation| {
        let what = match (&one.kind, &one.subject) {
            (OperationKind::UpgradeNode { binary, .. }, _) => format!("to '{binary}'"),
            (_, Subject::Volume { volume_name, .. }) => format!("of volume '{volume_name}'"),
            (_, Subject::Node { node_name, .. }) => format!("of node '{node_name}'"),
        };
        NodeWork { operation: one.id, what: format!("{} {what}", one.kind.word()) }
    };
    ControlError::NodeBusy { node: node.name.clone(), work: work.iter().map(one).collect() }
}

impl Inner {
    /// Cancel what can be cancelled, and wait a little for its end. What goes on all the same is
    /// cut short by the end of the daemon.
    async fn make_way(&self, caller: &Caller, node: &Node, kind: &OperationKind) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        if under_way(&mut tx, node, kind).await?.is_some() {
            return Ok(());
        }
        let mut work = open_work(&mut tx).await?;
        work.retain(|one| one.kind.can_be_cancelled());
        for operation in work.iter_mut().filter(|one| !one.cancel_requested) {
            operation.cancel_requested = true;
            catalog::update(&mut tx, operation).await?;
            let (action, result) = ("operation.cancel", EventResult::Accepted);
            let detail = format!("node '{}' is upgraded by force", node.name);
            self.record(&mut tx, caller, operation, action, result, detail).await?;
        }
        self.commit(tx).await?;
        let ended = async {
            for operation in &work {
                while self.is_open(operation.id).await? {
                    tokio::time::sleep(CANCEL_PAUSE).await;
                }
            }
            Ok(())
        };
        tokio::time::timeout(CANCEL_LIMIT, ended).await.unwrap_or(Ok(()))
    }

    async fn is_open(&self, id: OperationId) -> Result<bool> {
        let mut on = self.catalog.read().await?;
        let found = catalog::get::<Operation>(&mut on, id.0).await?;
        Ok(found.is_some_and(|operation| !operation.state.is_final()))
    }

    /// How upgrades that were under way at the node's last start have ended; see
    /// [`Control::upgraded`]. Others were cut short; they have succeeded all the same when their
    /// version runs now, which did not before.
    pub(super) async fn end_upgrades(
        &self,
        node: NodeId,
        by: Option<(OperationId, Option<String>)>,
    ) -> Result<()> {
        let (open, node) = {
            let mut on = self.catalog.read().await?;
            (open_work(&mut on).await?, catalog::get::<Node>(&mut on, node.0).await?)
        };
        let Some(node) = node else { return Ok(()) };
        for operation in open.iter().filter(|one| one.subject.node() == Some(node.id)) {
            let OperationKind::UpgradeNode { from, to, .. } = &operation.kind else { continue };
            let failed = |why: String| Err(OrderError::Failed { why });
            let answer = match &by {
                Some((id, None)) if *id == operation.id => Ok(()),
                Some((id, Some(why))) if *id == operation.id => failed(why.clone()),
                _ if *to == node.version && from != to => Ok(()),
                _ => failed("the daemon was started otherwise before it was replaced".to_owned()),
            };
            self.end_upgrade(operation, answer).await?;
        }
        Ok(())
    }

    async fn end_upgrade(
        &self,
        operation: &Operation,
        answer: Result<(), OrderError>,
    ) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        let Some(id) = operation.subject.node() else { return Ok(()) };
        if let Some(node) = catalog::get::<Node>(&mut tx, id.0).await? {
            let runs = format!("{} runs, start {}", node.version, node.boot);
            let what = answer.as_ref().map(|()| runs);
            self.node_event(&mut tx, id, "node.upgrade", what).await?;
        }
        self.end_operation(&mut tx, operation.id, answer).await?;
        tx.commit().await?;
        Ok(())
    }
}
