//! Links: how each node is reached, and whose pool is whose.
//!
//! Invariant: a node that does not answer holds up nobody who asks for another one. What asks all
//! nodes asks them at the same time and waits for each only so long.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use model::export::{ConnectedClient, FileUsage};
use model::id::{NodeId, PoolId, VolumeId};
use model::node::{Node, NodeReport};
use model::order::{Found, ImageFormat, Order, OrderError, PoolUsage, Report, SnapshotUsage};
use model::pool::Pool;
use model::size::ByteSize;
use model::volume::Volume;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::catalog;
use crate::facade::{Control, Inner};
use crate::node_link::NodeLink;

/// Who has been heard within this is there: nodes of other machines are looked at every other
/// second.
const HEARD_MS: u64 = 10_000;
/// How long somebody who looks at all nodes waits for one.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The way to a node of another machine, and who it must be.
#[derive(Clone)]
pub struct Way {
    /// `http://HOST:PORT`.
    pub address: String,
    pub secret: String,
    /// Whose orders they are.
    pub control: Uuid,
    /// The number of the control plane's start: a node refuses those of an earlier one.
    pub term: u64,
    /// What the node calls itself; another one at the same address gets no order.
    pub identity: Uuid,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why no node was adopted at an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdopted {
    #[error("nothing answers there: {why}")]
    Silent { why: String },
    #[error("what answers there is no storage node: {found}")]
    NoNode { found: String },
    #[error("the node there refuses: {why}")]
    Refused { why: String },
}

/// What opens ways to nodes of other machines.
#[async_trait]
pub trait NodeDoors: Send + Sync {
    /// The first contact: from here on the node at the address takes orders of this control plane
    /// and of no other. Gives what the node calls itself. Asked again, it converges.
    ///
    /// # Errors
    /// Nothing answers; what answers is no node; or it refuses, with the reason: the secret is not
    /// its own, or it belongs to another control plane.
    async fn adopt(&self, address: &str, secret: &str, control: Uuid) -> Result<Uuid, NotAdopted>;

    /// Let the node go: any control plane that has its secret may adopt it.
    ///
    /// # Errors
    /// The node cannot be reached; `Refused`.
    async fn release(&self, way: &Way) -> Result<(), OrderError>;

    fn link(&self, way: Way) -> Arc<dyn NodeLink>;
}

/// Nodes that a control plane has from the start.
#[derive(Clone)]
pub struct NodeLinks {
    /// The node in the same process.
    pub local: Option<Arc<dyn NodeLink>>,
    /// None where nodes of other machines are not reached.
    pub doors: Option<Arc<dyn NodeDoors>>,
}

/// A node and when it was last heard.
#[derive(Clone)]
struct Known {
    link: Arc<dyn NodeLink>,
    /// Milliseconds since the Unix epoch.
    heard_ms: Arc<AtomicU64>,
}

pub(crate) struct Links {
    pub(crate) given: NodeLinks,
    known: RwLock<HashMap<NodeId, Known>>,
    /// Forgotten while they were away, and not let go yet: nobody but who has to tell them
    /// something waits for them.
    forgotten: RwLock<HashSet<NodeId>>,
    local: RwLock<Option<NodeId>>,
    /// A pool never moves to another node.
    pools: RwLock<HashMap<PoolId, NodeId>>,
}

impl Links {
    pub(crate) fn new(given: NodeLinks) -> Self {
        let (known, local, pools) = (RwLock::default(), RwLock::default(), RwLock::default());
        Self { given, known, forgotten: RwLock::default(), local, pools }
    }

    pub(crate) fn add(&self, node: NodeId, link: Arc<dyn NodeLink>, heard_ms: u64) {
        let known = Known { link, heard_ms: Arc::new(AtomicU64::new(heard_ms)) };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(node, known);
    }

    /// The node in this process, once it has said what it is.
    pub(crate) fn local(&self) -> Option<NodeId> {
        *self.local.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_local(&self, node: NodeId) {
        *self.local.write().unwrap_or_else(PoisonError::into_inner) = Some(node);
    }

    /// The way to a node stays, and it counts no more.
    pub(crate) fn discount(&self, node: NodeId) {
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    pub(crate) fn forget(&self, node: NodeId) {
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    fn known(&self, node: NodeId) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn all(&self) -> Vec<(NodeId, Known)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(id, known)| (*id, known.clone())).collect()
    }

    /// Those that are asked when all are.
    fn all_that_count(&self) -> Vec<(NodeId, Known)> {
        let forgotten = self.forgotten.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all();
        all.retain(|(node, _)| !forgotten.contains(node));
        all
    }

    pub(crate) fn hear(&self, node: NodeId, now_ms: u64) {
        if let Some(known) = self.known(node) {
            known.heard_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// When the node last said something of itself; 0 for one that never did.
    pub(crate) fn heard_ms(&self, node: NodeId) -> u64 {
        self.known(node).map_or(0, |known| known.heard_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn doors(&self) -> Result<&Arc<dyn NodeDoors>, OrderError> {
        self.given.doors.as_ref().ok_or_else(|| OrderError::Unreachable {
            why: "this control plane reaches no other machines".to_owned(),
        })
    }

    pub(crate) fn to(&self, node: NodeId) -> Result<Arc<dyn NodeLink>, OrderError> {
        self.known(node).map(|known| known.link).ok_or_else(|| OrderError::Unreachable {
            why: "this control plane has no way to it; it ran beside one that is not here".into(),
        })
    }
}

/// Whether a node is heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeHeard {
    pub name: String,
    pub is_up: bool,
    /// Milliseconds since it was last heard; `None` for one that never was.
    pub age_ms: Option<u64>,
}

impl Control {
    /// Whether each node is heard, by name. Nobody is asked: the nodes are looked at all the time.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn nodes_heard(&self) -> crate::Result<Vec<NodeHeard>> {
        let mut on = self.inner.catalog.read().await?;
        let mut nodes = catalog::select(&mut on, catalog::Query::<Node>::all()).await?;
        nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let heard = |node: Node| {
            let (is_up, age_ms) = self.inner.heard(node.id);
            NodeHeard { name: node.name, is_up, age_ms }
        };
        Ok(nodes.into_iter().map(heard).collect())
    }
}

/// What an answer that does not come in time is.
pub(crate) async fn in_time<T>(
    limit: Duration,
    ask: impl Future<Output = Result<T, OrderError>>,
) -> Result<T, OrderError> {
    let late = |_| Err(OrderError::Unreachable { why: "it does not answer in time".to_owned() });
    tokio::time::timeout(limit, ask).await.unwrap_or_else(late)
}

/// A catalog that cannot be read says nothing against the node: the order is sent later.
fn unread(error: &crate::ControlError) -> OrderError {
    OrderError::Unreachable { why: format!("where it lies could not be read: {error}") }
}

impl Inner {
    /// Whether the node is there, and how long ago it was heard. The one in this process is.
    pub(crate) fn heard(&self, node: NodeId) -> (bool, Option<u64>) {
        if self.links.local() == Some(node) {
            return (true, Some(0));
        }
        let heard_ms = Some(self.links.heard_ms(node)).filter(|at| *at > 0);
        let age_ms = heard_ms.map(|at| self.now_ms().saturating_sub(at));
        (age_ms.is_some_and(|age| age <= HEARD_MS), age_ms)
    }

    /// The link to the node that a pool belongs to.
    pub(crate) async fn link_at(&self, pool: PoolId) -> Result<Arc<dyn NodeLink>, OrderError> {
        let links = &self.links;
        let cached = links.pools.read().unwrap_or_else(PoisonError::into_inner).get(&pool).copied();
        if let Some(node) = cached {
            return links.to(node);
        }
        let read = async {
            let mut on = self.catalog.read().await?;
            catalog::get::<Pool>(&mut on, pool.0).await
        };
        let found = read.await.map_err(|error| unread(&error))?;
        let missing = || OrderError::Missing { what: format!("pool {pool}") };
        let node = found.ok_or_else(missing)?.node;
        links.pools.write().unwrap_or_else(PoisonError::into_inner).insert(pool, node);
        links.to(node)
    }

    /// The same of the pool that a volume lies in.
    pub(crate) async fn link_with(
        &self,
        volume: VolumeId,
    ) -> Result<Arc<dyn NodeLink>, OrderError> {
        let read = async {
            let mut on = self.catalog.read().await?;
            catalog::get::<Volume>(&mut on, volume.0).await
        };
        let found = read.await.map_err(|error| unread(&error))?;
        let missing = || OrderError::Missing { what: format!("volume {volume}") };
        self.link_at(found.ok_or_else(missing)?.pool).await
    }

    /// Send an order to the node that a pool belongs to.
    pub(crate) async fn order_at(&self, pool: PoolId, order: Order) -> Result<Report, OrderError> {
        self.link_at(pool).await?.order(order).await
    }

    /// The same of the pool that a volume lies in.
    pub(crate) async fn order_about(
        &self,
        volume: VolumeId,
        order: Order,
    ) -> Result<Report, OrderError> {
        self.link_with(volume).await?.order(order).await
    }

    /// How full a file volume is.
    pub(crate) async fn file_usage(&self, volume: &Volume) -> Result<FileUsage, OrderError> {
        let link = self.link_at(volume.pool).await?;
        in_time(LOOK_LIMIT, link.file_usage(volume.id)).await
    }

    /// Whether the node says what it is.
    pub(crate) async fn answers(&self, node: NodeId) -> bool {
        let Ok(link) = self.links.to(node) else { return false };
        in_time(LOOK_LIMIT, link.node()).await.is_ok()
    }

    /// Who has a file volume mounted.
    pub(crate) async fn file_clients(
        &self,
        volume: &Volume,
    ) -> Result<Vec<ConnectedClient>, OrderError> {
        let link = self.link_at(volume.pool).await?;
        in_time(LOOK_LIMIT, link.file_clients(volume.id)).await
    }

    /// What the snapshots of a file volume hold for themselves.
    pub(crate) async fn snapshot_usage(
        &self,
        volume: &Volume,
    ) -> Result<Vec<SnapshotUsage>, OrderError> {
        let link = self.link_at(volume.pool).await?;
        in_time(LOOK_LIMIT, link.snapshot_usage(volume.id)).await
    }

    /// What lies on a volume, or why its node cannot say.
    pub(crate) async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        self.link_with(volume).await?.probe(volume).await
    }

    /// What a node says of itself, if it does so in time.
    pub(crate) async fn report_of(&self, node: NodeId) -> Result<NodeReport, OrderError> {
        let link = self.links.to(node)?;
        let report = in_time(LOOK_LIMIT, link.node()).await;
        match &report {
            Ok(_) => self.links.hear(node, self.now_ms()),
            Err(error) => tracing::debug!(%node, %error, "the node does not say how it is"),
        }
        report
    }

    /// What these nodes say of themselves; those that do not are left out.
    pub(crate) async fn reports_of(
        self: &Arc<Self>,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> HashMap<NodeId, NodeReport> {
        let mut asked = JoinSet::new();
        for node in nodes {
            let inner = Arc::clone(self);
            asked.spawn(async move { (node, inner.report_of(node).await) });
        }
        let answers = asked.join_all().await.into_iter();
        answers.filter_map(|(node, report)| Some((node, report.ok()?))).collect()
    }

    /// How full the pools of all nodes are; those of a node that does not say are left out.
    pub(crate) async fn usage_of_all(&self) -> Vec<(NodeId, Vec<PoolUsage>)> {
        let mut asked = JoinSet::new();
        for (node, known) in self.links.all_that_count() {
            asked.spawn(async move {
                let usage = in_time(LOOK_LIMIT, known.link.pool_usage()).await;
                if let Err(error) = &usage {
                    tracing::debug!(%node, %error, "the node does not say how full its pools are");
                }
                (node, usage)
            });
        }
        let answers = asked.join_all().await.into_iter();
        answers.filter_map(|(node, usage)| Some((node, usage.ok()?))).collect()
    }

    /// What each node makes of an image file, in the order of the nodes.
    pub(crate) async fn image_sizes(
        &self,
        path: &str,
        format: ImageFormat,
    ) -> Vec<(NodeId, Result<ByteSize, OrderError>)> {
        let mut asked = JoinSet::new();
        for (node, known) in self.links.all_that_count() {
            let path = path.to_owned();
            asked.spawn(async move {
                (node, in_time(LOOK_LIMIT, known.link.image_size(path, format)).await)
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_unstable_by_key(|(node, _)| *node);
        answers
    }

    /// The nodes that there is a way to.
    pub(crate) fn linked_nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.links.all().into_iter().map(|(node, _)| node).collect();
        nodes.sort_unstable();
        nodes
    }
}
