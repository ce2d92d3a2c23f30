//! Nodes: where they stand, and what they serve.

use std::collections::HashMap;
use std::time::Duration;

use model::event::EventResult;
use model::id::{NodeId, OperationId, PoolId, VolumeId};
use model::node::{Node, NodeReport, may_replace};
use model::operation::{Operation, OperationKind, OperationState, Subject};
use model::order::OrderError;
use model::pool::Pool;
use model::project::Project;
use model::reference::Reference;
use model::user::Role;
use model::volume::{Volume, VolumeKind};

use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query, Transaction};
use crate::error::{ControlError, NodeReference, NodeWork, Result};
use crate::export::Names;
use crate::facade::{Control, Inner, resolve};
use crate::page::{Page, Paging};

/// How long an upgrade by force waits for the end of what it has cancelled, and between two looks.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
const CANCEL_PAUSE: Duration = Duration::from_millis(20);

/// A node and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    pub node: Node,
    /// What it says of itself; `None` while it is offline.
    pub report: Option<NodeReport>,
    /// Since when it is online or offline: milliseconds since the Unix epoch.
    pub since_ms: u64,
    pub pools: Vec<Pool>,
    pub block_volumes: u64,
    pub file_volumes: u64,
    /// Milliseconds since the Unix epoch, for ages.
    pub now_ms: u64,
}

/// Which volumes of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeVolumeFilter {
    /// Only those of this project.
    pub project: Option<String>,
    pub paging: Paging,
}

/// A volume as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeVolumeView {
    pub volume: Volume,
    pub project_name: String,
    /// What hosts and clients are told: a target's name, or what is mounted.
    pub resource: Option<String>,
    pub attachments: u64,
    /// Of a file volume: clients that have it mounted. `None` while the node is offline.
    pub clients: Option<u64>,
    /// What uses it, as a sentence names it.
    pub references: Vec<String>,
}

impl Control {
    /// # Errors
    /// Not an admin; bad paging.
    pub async fn node_list(&self, caller: &Caller, paging: &Paging) -> Result<Page<NodeView>> {
        caller.must_be(Role::Admin, "see nodes")?;
        let mut on = self.inner.catalog.read().await?;
        let page = self.inner.page(&mut on, Query::<Node>::all(), paging).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for node in page.items {
            items.push(self.inner.node_view(&mut on, node).await?);
        }
        Ok(Page { items, next: page.next })
    }

    /// # Errors
    /// Not an admin; no such node.
    pub async fn node_get(&self, caller: &Caller, node: &str) -> Result<NodeView> {
        caller.must_be(Role::Admin, "see nodes")?;
        let mut on = self.inner.catalog.read().await?;
        let node = resolve(&mut on, caller, node).await?;
        self.inner.node_view(&mut on, node).await
    }

    /// What a node serves.
    ///
    /// # Errors
    /// Not an admin; no such node or project; bad paging.
    pub async fn node_volumes(
        &self,
        caller: &Caller,
        node: &str,
        filter: &NodeVolumeFilter,
    ) -> Result<Page<NodeVolumeView>> {
        caller.must_be(Role::Admin, "see the volumes of nodes")?;
        let mut on = self.inner.catalog.read().await?;
        let node: Node = resolve(&mut on, caller, node).await?;
        let project = match &filter.project {
            Some(text) => Some(resolve::<Project>(&mut on, caller, text).await?.id),
            None => None,
        };
        let query = on_node(&mut on, node.id).await?.maybe("project", project);
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        let items = self.inner.node_volume_views(&mut on, page.items).await?;
        Ok(Page { items, next: page.next })
    }
}

impl Control {
    /// Start the node's file service anew. One that is to be already is not asked twice.
    ///
    /// # Errors
    /// Not an admin; no such node, or none with a file service; its volumes are used, and it is not
    /// forced; the node cannot be reached.
    pub async fn node_restart(
        &self,
        caller: &Caller,
        node: &str,
        force: bool,
    ) -> Result<Operation> {
        caller.must_be(Role::Admin, "restart nodes")?;
        let inner = &self.inner;
        let node: Node = {
            let mut on = inner.catalog.read().await?;
            resolve(&mut on, caller, node).await?
        };
        let report = inner.node.node().await?;
        let files = report
            .files
            .map_err(|why| ControlError::NoFileService { node: node.name.clone(), why })?;
        let kind = OperationKind::RestartNode { after: files.boot };
        let mut tx = inner.catalog.begin().await?;
        let uses = uses_of(&mut tx, &node, files.clients).await?;
        if let Some(running) = under_way(&mut tx, &node, &kind).await? {
            return Ok(running);
        }
        let detail = uses.allow("restarted", force)?;
        let operation = inner.node_operation(&mut tx, caller, &node, kind).await?;
        let (action, result) = ("node.restart", EventResult::Accepted);
        inner.record(&mut tx, caller, &node, action, result, detail).await?;
        inner.commit(tx).await?;
        Ok(operation)
    }
}

impl Control {
    /// Have other nodes take the file volumes of this one. One that has none is empty already.
    ///
    /// # Errors
    /// Not an admin; no such node; its volumes are used, and it is not forced; there is no other
    /// node.
    pub async fn node_evacuate(
        &self,
        caller: &Caller,
        node: &str,
        force: bool,
    ) -> Result<NodeView> {
        caller.must_be(Role::Admin, "evacuate nodes")?;
        let inner = &self.inner;
        let node: Node = {
            let mut on = inner.catalog.read().await?;
            resolve(&mut on, caller, node).await?
        };
        let clients = inner.node.client_counts().await.unwrap_or_default().values().sum();
        let mut tx = inner.catalog.begin().await?;
        let of_files = on_node(&mut tx, node.id).await?.eq("kind", VolumeKind::File.word());
        let volumes = catalog::count(&mut tx, of_files).await?;
        uses_of(&mut tx, &node, clients).await?.allow("evacuated", force)?;
        if volumes > 0 {
            // The catalog knows the node in this process, and no other can be made known.
            return Err(ControlError::NoOtherNode { node: node.name, volumes });
        }
        let (action, result) = ("node.evacuate", EventResult::Done);
        inner.record(&mut tx, caller, &node, action, result, "it has no file volumes").await?;
        inner.commit(tx).await?;
        let mut on = inner.catalog.read().await?;
        inner.node_view(&mut on, node).await
    }
}

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
        let report = inner.node.node().await?;
        let kept_out = pools.into_iter().map(|pool| pool.path).collect();
        let binary = match inner.node.check_binary(how.binary, kept_out).await {
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
        if let Err(error) = inner.node.upgrade(operation.id, binary.path).await {
            inner.end_upgrade(&operation, Err(error)).await?;
            return self.operation_get(caller, &operation.id.to_string()).await;
        }
        Ok(operation)
    }

    /// How upgrades that were under way at this start have ended: `by` is the one that this start is
    /// the end of, and why it has failed where it has. Others were cut short; they have succeeded
    /// all the same when their version runs now, which did not before.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn upgraded(&self, by: Option<(OperationId, Option<String>)>) -> Result<()> {
        let inner = &self.inner;
        let (open, node) = {
            let mut on = inner.catalog.read().await?;
            let nodes = Query::<Node>::all().limit(1);
            (open_work(&mut on).await?, catalog::select(&mut on, nodes).await?.pop())
        };
        let Some(node) = node else { return Ok(()) };
        for operation in open {
            let OperationKind::UpgradeNode { from, to, .. } = &operation.kind else { continue };
            let failed = |why: String| Err(OrderError::Failed { why });
            let answer = match &by {
                Some((id, None)) if *id == operation.id => Ok(()),
                Some((id, Some(why))) if *id == operation.id => failed(why.clone()),
                _ if *to == node.version && from != to => Ok(()),
                _ => failed("the daemon was started otherwise before it was replaced".to_owned()),
            };
            inner.end_upgrade(&operation, answer).await?;
        }
        Ok(())
    }
}

/// What keeps a node's file service from being interrupted.
struct Uses {
    node: String,
    references: Vec<NodeReference>,
    clients: u64,
}

impl Uses {
    /// What the event says of it, when it may be done.
    fn allow(self, action: &'static str, force: bool) -> Result<String> {
        let Self { node, references, clients } = self;
        if references.is_empty() {
            return Ok(format!("{clients} clients are connected"));
        }
        let count = references.len();
        if force {
            return Ok(format!("forced, past {count} references; {clients} clients are connected"));
        }
        Err(ControlError::NodeReferenced { node, references, clients, action })
    }
}

async fn uses_of(on: &mut Connection, node: &Node, clients: u64) -> Result<Uses> {
    let query = on_node(on, node.id).await?.eq("kind", VolumeKind::File.word());
    let volumes = catalog::select(on, query).await?;
    let projects = volumes.iter().map(|volume| volume.project.0);
    let projects = catalog::names::<Project>(on, projects.collect::<Vec<_>>()).await?;
    let by_id: HashMap<VolumeId, Volume> =
        volumes.into_iter().map(|volume| (volume.id, volume)).collect();
    let named = |one: Reference| {
        let volume = by_id.get(&one.volume?)?;
        Some(NodeReference {
            project: projects.get(&volume.project.0).cloned().unwrap_or_default(),
            volume: volume.name.clone(),
            kind: one.kind.word(),
            name: one.name,
        })
    };
    // All of them: to name each volume in the question would meet the limit of a statement.
    let all = catalog::select(on, Query::<Reference>::all()).await?;
    let references = all.into_iter().filter_map(named).collect();
    Ok(Uses { node: node.name.clone(), references, clients })
}

/// Work of this kind that the node has been asked for and has not ended.
async fn under_way(
    on: &mut Connection,
    node: &Node,
    kind: &OperationKind,
) -> Result<Option<Operation>> {
    let is_same =
        |one: &Operation| one.subject.node() == Some(node.id) && one.kind.word() == kind.word();
    Ok(open_work(on).await?.into_iter().find(is_same))
}

/// Operations that have not ended.
async fn open_work(on: &mut Connection) -> Result<Vec<Operation>> {
    catalog::select(on, Query::all().one_of("state", ["pending", "running"])).await
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

/// The pools of a node. There are few.
async fn pools_of(on: &mut Connection, node: NodeId) -> Result<Vec<Pool>> {
    let mut pools = catalog::select(on, Query::<Pool>::all()).await?;
    pools.retain(|pool| pool.node == node);
    Ok(pools)
}

/// The volumes of a node.
pub(crate) async fn on_node(on: &mut Connection, node: NodeId) -> Result<Query<Volume>> {
    let pools: Vec<PoolId> = pools_of(on, node).await?.into_iter().map(|pool| pool.id).collect();
    Ok(Query::all().one_of("pool", pools))
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

    async fn node_operation(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        node: &Node,
        kind: OperationKind,
    ) -> Result<Operation> {
        let subject = Subject::Node { node: node.id, node_name: node.name.clone() };
        let detail = format!("{} of node '{}'", kind.word(), node.name);
        let operation = self.pending(None, kind, subject);
        catalog::insert(tx, &operation).await?;
        let (action, result) = ("operation.create", EventResult::Accepted);
        self.record(tx, caller, &operation, action, result, detail).await?;
        Ok(operation)
    }

    /// Make the node in this process known, or its new start.
    pub(crate) async fn register_node(&self) -> Result<()> {
        let report = match self.node.node().await {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(%error, "the node does not say what it is");
                return Ok(());
            }
        };
        let now_ms = self.now_ms();
        self.hear_node();
        let mut tx = self.catalog.begin().await?;
        let known = catalog::select(&mut tx, Query::<Node>::all().limit(1)).await?.pop();
        let NodeReport { name, version, .. } = report;
        if let Some(known) = known {
            let boot = known.boot + 1;
            let node = Node { name, version, boot, started_ms: now_ms, ..known };
            catalog::update(&mut tx, &node).await?;
        } else {
            // Pools of before nodes were known have its id.
            let pool = catalog::select(&mut tx, Query::<Pool>::all().limit(1)).await?.pop();
            let id = pool.map_or_else(|| NodeId(self.new_id()), |pool| pool.node);
            let node = Node { id, name, version, boot: 1, started_ms: now_ms, created_ms: now_ms };
            catalog::insert(&mut tx, &node).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What the node says of itself, if it can be asked.
    async fn node_report(&self) -> Option<NodeReport> {
        match self.node.node().await {
            Ok(report) => {
                self.hear_node();
                Some(report)
            }
            Err(error) => {
                tracing::debug!(%error, "the node does not say how it is");
                None
            }
        }
    }

    async fn node_view(&self, on: &mut Connection, node: Node) -> Result<NodeView> {
        let report = self.node_report().await;
        let since_ms = report.as_ref().map_or_else(|| self.node_heard_ms(), |_| node.started_ms);
        let pools = pools_of(on, node.id).await?;
        let of_kind = async |on: &mut Connection, kind: VolumeKind| {
            let query = on_node(on, node.id).await?.eq("kind", kind.word());
            catalog::count(on, query).await
        };
        let block_volumes = of_kind(on, VolumeKind::Block).await?;
        let file_volumes = of_kind(on, VolumeKind::File).await?;
        let now_ms = self.now_ms();
        Ok(NodeView { node, report, since_ms, pools, block_volumes, file_volumes, now_ms })
    }

    async fn node_volume_views(
        &self,
        on: &mut Connection,
        volumes: Vec<Volume>,
    ) -> Result<Vec<NodeVolumeView>> {
        let ids: Vec<VolumeId> = volumes.iter().map(|volume| volume.id).collect();
        let projects = volumes.iter().map(|volume| volume.project.0);
        let projects = catalog::names::<Project>(on, projects.collect::<Vec<_>>()).await?;
        let names = Names::of(on, &volumes).await?;
        let mut references: HashMap<VolumeId, Vec<String>> = HashMap::new();
        let query = Query::<Reference>::all().one_of("volume", ids.clone());
        for one in catalog::select(on, query).await? {
            if let Some(volume) = one.volume {
                let text = format!("{} '{}'", one.kind.word(), one.name);
                references.entry(volume).or_default().push(text);
            }
        }
        let mut attachments: HashMap<VolumeId, (u64, Option<String>)> = HashMap::new();
        let query = Query::<AttachmentRecord>::all().one_of("volume", ids);
        for AttachmentRecord { attachment, .. } in catalog::select(on, query).await? {
            let of = attachments.entry(attachment.volume).or_default();
            of.0 += 1;
            of.1 = attachment.connection.map(|connection| connection.target).or(of.1.take());
        }
        let counts = self.node.client_counts().await.ok();
        let view = |volume: Volume| {
            let (attachments, target) = attachments.remove(&volume.id).unwrap_or_default();
            let mounted = names.file(&volume).and_then(|file| file.resources.into_iter().next());
            let clients = counts.as_ref().filter(|_| volume.kind() == VolumeKind::File);
            NodeVolumeView {
                project_name: projects.get(&volume.project.0).cloned().unwrap_or_default(),
                resource: mounted.or(target),
                attachments,
                clients: clients.map(|counts| counts.get(&volume.id).copied().unwrap_or(0)),
                references: references.remove(&volume.id).unwrap_or_default(),
                volume,
            }
        };
        Ok(volumes.into_iter().map(view).collect())
    }
}
