//! Nodes: where they stand, and what they serve.

mod door;
mod evacuate;
mod upgrade;
mod watch;

use std::collections::HashMap;

use model::event::EventResult;
use model::id::{NodeId, PoolId, VolumeId};
use model::node::{Node, NodeReport};
use model::operation::{Operation, OperationKind, Subject};
use model::pool::Pool;
use model::project::Project;
use model::reference::Reference;
use model::user::Role;
use model::volume::{Volume, VolumeKind};

use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query, Transaction};
use crate::error::{ControlError, NodeReference, Result};
use crate::export::Names;
use crate::facade::{Control, Inner, resolve};
use crate::links::{LOOK_LIMIT, in_time};
use crate::page::{Page, Paging};

pub(crate) use door::Own;
pub use door::{NodeCreate, NodeUpdate};
pub(crate) use evacuate::Moved;
pub use evacuate::NodeEvacuation;
pub use upgrade::NodeUpgrade;

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
        drop(on);
        let ids = page.items.iter().map(|node| node.id);
        let mut reports = self.inner.reports_of(ids).await;
        let mut on = self.inner.catalog.read().await?;
        for node in page.items {
            let report = reports.remove(&node.id);
            items.push(self.inner.node_view(&mut on, node, report).await?);
        }
        Ok(Page { items, next: page.next })
    }

    /// # Errors
    /// Not an admin; no such node.
    pub async fn node_get(&self, caller: &Caller, node: &str) -> Result<NodeView> {
        caller.must_be(Role::Admin, "see nodes")?;
        let mut on = self.inner.catalog.read().await?;
        let node: Node = resolve(&mut on, caller, node).await?;
        drop(on);
        let report = self.inner.report_of(node.id).await.ok();
        let mut on = self.inner.catalog.read().await?;
        self.inner.node_view(&mut on, node, report).await
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
        drop(on);
        let counts = match self.inner.links.to(node.id) {
            Ok(link) => in_time(LOOK_LIMIT, link.client_counts()).await.ok(),
            Err(_) => None,
        };
        let mut on = self.inner.catalog.read().await?;
        let items = node_volume_views(&mut on, page.items, counts.as_ref()).await?;
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
        let report = inner.report_of(node.id).await?;
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

/// The pools of a node. There are few.
pub(crate) async fn pools_of(on: &mut Connection, node: NodeId) -> Result<Vec<Pool>> {
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

    /// A node as it is shown, with what it says of itself now.
    async fn node_view(
        &self,
        on: &mut Connection,
        node: Node,
        report: Option<NodeReport>,
    ) -> Result<NodeView> {
        let heard_ms = || self.links.heard_ms(node.id);
        let since_ms = report.as_ref().map_or_else(heard_ms, |_| node.started_ms);
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
}

async fn node_volume_views(
    on: &mut Connection,
    volumes: Vec<Volume>,
    counts: Option<&HashMap<VolumeId, u64>>,
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
    let view = |volume: Volume| {
        let (attachments, target) = attachments.remove(&volume.id).unwrap_or_default();
        let mounted = names.file(&volume).and_then(|file| file.resources.into_iter().next());
        let clients = counts.filter(|_| volume.kind() == VolumeKind::File);
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
