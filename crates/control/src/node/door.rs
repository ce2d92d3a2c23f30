//! Nodes come and go: the one in this process at each start, others by the operator.

use std::sync::Arc;

use model::event::{EventResult, ResourceKind};
use model::id::NodeId;
use model::node::{Node, NodeReport, NoticeMark};
use model::order::OrderError;
use model::pool::Pool;
use model::user::Role;
use uuid::Uuid;

use super::{NodeView, pools_of};
use crate::board::Step;
use crate::caller::Caller;
use crate::catalog::{self, DoorRecord, Query};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, name_is_free, resolve, valid_name};
use crate::links::Way;
use crate::lost;

/// In the catalog's facts: what this control plane calls itself to nodes, and how often it started.
const CONTROL: &str = "control";
const TERM: &str = "term";
/// Longest secret and address that make sense.
const TEXT_MAX: usize = 255;

/// A node of another machine.
#[derive(Clone)]
pub struct NodeCreate {
    pub name: String,
    /// Its door, as `http://HOST:PORT`.
    pub address: String,
    /// What its daemon has made at its first start.
    pub secret: String,
}

impl std::fmt::Debug for NodeCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCreate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Change what is given; leave the rest.
#[derive(Clone, Debug, Default)]
pub struct NodeUpdate {
    /// Are new volumes placed on it?
    pub takes_volumes: Option<bool>,
    /// Where its door is now. The same node must be there.
    pub address: Option<String>,
}

/// An address of a door as it is kept.
fn valid_address(text: &str) -> Result<String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let (host, port) = rest.rsplit_once(':').unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
    // An IPv6 address stands in brackets (RFC 3986 3.2.2).
    let is_host = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_good = !host.is_empty() && is_host && is_port && host.bytes().all(plain);
    if text.len() > TEXT_MAX || !is_good {
        let tls = text.starts_with("https://");
        let tls = if tls { "; a node's door speaks HTTP without TLS" } else { "" };
        let why = format!("'{text}' is not http://HOST:PORT{tls}");
        return Err(ControlError::Invalid { field: "address", why });
    }
    Ok(text.to_owned())
}

fn valid_secret(text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let why = "it is not what a node's daemon has made; node/secret in the node's data \
                   directory is"
            .to_owned();
        return Err(ControlError::Invalid { field: "secret", why });
    }
    Ok(text.to_owned())
}

impl Control {
    /// Make a node of another machine known, and have it take orders of this control plane alone.
    ///
    /// # Errors
    /// Not an admin; a bad value; name or node are known already; the node cannot be reached, does
    /// not know the secret, or belongs to another control plane.
    pub async fn node_create(&self, caller: &Caller, new: NodeCreate) -> Result<NodeView> {
        caller.must_be(Role::Admin, "create nodes")?;
        let inner = &self.inner;
        let name = valid_name(&new.name)?;
        let (address, secret) = (valid_address(&new.address)?, valid_secret(&new.secret)?);
        {
            let mut on = inner.catalog.read().await?;
            name_is_free::<Node>(&mut on, Query::all(), &name, None).await?;
        }
        let doors = inner.links.doors()?;
        let identity = match doors.adopt(&address, &secret, inner.own.id).await {
            Ok(identity) => identity,
            Err(why) => return Err(ControlError::NotAdopted { address, why }),
        };
        let now_ms = inner.now_ms();
        let id = NodeId(inner.new_id());
        let door = DoorRecord {
            node: id,
            address,
            secret,
            identity,
            heard_ms: now_ms,
            mark: NoticeMark::default(),
        };
        let link = doors.link(inner.way(&door));
        let report = link.node().await?;
        let node = Node {
            id,
            name,
            version: report.version.clone(),
            boot: report.boot.unwrap_or(1),
            started_ms: now_ms,
            created_ms: now_ms,
            address: Some(door.address.clone()),
            takes_volumes: true,
            file_portals: report.file_portals(),
        };
        let mut tx = inner.catalog.begin().await?;
        name_is_free::<Node>(&mut tx, Query::all(), &node.name, None).await?;
        for known in catalog::select(&mut tx, Query::<DoorRecord>::all()).await? {
            if known.identity != identity {
                continue;
            }
            if let Some(known) = catalog::get::<Node>(&mut tx, known.node.0).await? {
                let why = format!("the node there is known as '{}'", known.name);
                return Err(ControlError::Invalid { field: "address", why });
            }
            // It was forgotten while it was away, and has not been told yet what it has to be.
            catalog::delete::<DoorRecord>(&mut tx, known.node.0).await?;
            lost::follow(&mut tx, |node| node == known.node, id).await?;
            inner.links.forget(known.node);
        }
        catalog::insert(&mut tx, &node).await?;
        catalog::insert(&mut tx, &door).await?;
        let (action, result) = ("node.create", EventResult::Done);
        let detail = format!("at {}", door.address);
        inner.record(&mut tx, caller, &node, action, result, detail).await?;
        inner.commit(tx).await?;
        inner.links.add(id, link, now_ms);
        inner.watch(id);
        let mut on = inner.catalog.read().await?;
        inner.node_view(&mut on, node, Some(report)).await
    }

    /// Change where a node is found, and whether new volumes are placed on it.
    ///
    /// # Errors
    /// Not an admin; no such node; a bad value; another node is at the new address.
    pub async fn node_update(
        &self,
        caller: &Caller,
        node: &str,
        change: NodeUpdate,
    ) -> Result<NodeView> {
        caller.must_be(Role::Admin, "change nodes")?;
        let inner = &self.inner;
        let address = change.address.as_deref().map(valid_address).transpose()?;
        let mut moved = None;
        if let Some(address) = address {
            let mut on = inner.catalog.read().await?;
            let node: Node = resolve(&mut on, caller, node).await?;
            let door = catalog::get::<DoorRecord>(&mut on, node.id.0).await?;
            drop(on);
            let Some(door) = door else {
                let why = "the node runs in the control plane's process".to_owned();
                return Err(ControlError::Invalid { field: "address", why });
            };
            let door = DoorRecord { address, ..door };
            let link = inner.links.doors()?.link(inner.way(&door));
            link.node().await?;
            moved = Some((door, link));
        }
        let mut tx = inner.catalog.begin().await?;
        let mut node: Node = resolve(&mut tx, caller, node).await?;
        let mut said = Vec::new();
        if let Some(takes) = change.takes_volumes {
            node.takes_volumes = takes;
            said.push(format!("new volumes are {}placed on it", if takes { "" } else { "not " }));
        }
        if let Some((door, _)) = &moved {
            node.address = Some(door.address.clone());
            catalog::update(&mut tx, door).await?;
            said.push(format!("its door is at {}", door.address));
        }
        catalog::update(&mut tx, &node).await?;
        let (action, result) = ("node.update", EventResult::Done);
        inner.record(&mut tx, caller, &node, action, result, said.join("; ")).await?;
        inner.commit(tx).await?;
        if let Some((door, link)) = moved {
            inner.links.add(door.node, link, inner.now_ms());
        }
        self.node_get(caller, &node.id.to_string()).await
    }

    /// Forget a node of another machine and let it go. One that is gone for good is forgotten by
    /// force.
    ///
    /// # Errors
    /// Not an admin; no such node; it has pools, or runs in this process; it cannot be reached, and
    /// it is not forced.
    pub async fn node_delete(&self, caller: &Caller, node: &str, force: bool) -> Result<()> {
        caller.must_be(Role::Admin, "delete nodes")?;
        let inner = &self.inner;
        let mut on = inner.catalog.read().await?;
        let node: Node = resolve(&mut on, caller, node).await?;
        let door = catalog::get::<DoorRecord>(&mut on, node.id.0).await?;
        without_pools(&node, &pools_of(&mut on, node.id).await?)?;
        drop(on);
        if door.is_none() && inner.links.local() == Some(node.id) {
            let why = "it runs in the control plane's process".to_owned();
            return Err(ControlError::Invalid { field: "node", why });
        }
        let owed = inner.is_owed(node.id).await?;
        if owed && !force {
            let why = "it has not heard yet which of its volumes were given up".to_owned();
            return Err(OrderError::Unreachable { why }.into());
        }
        // One that is away serves what was lost with it until it has heard of that.
        if let Some(door) = door.as_ref().filter(|_| !owed) {
            let released = match inner.links.doors() {
                Ok(doors) => doors.release(&inner.way(door)).await,
                Err(error) => Err(error),
            };
            if let (Err(error), false) = (released, force) {
                return Err(error.into());
            }
        }
        let mut tx = inner.catalog.begin().await?;
        without_pools(&node, &pools_of(&mut tx, node.id).await?)?;
        if !owed {
            catalog::delete::<DoorRecord>(&mut tx, node.id.0).await?;
        }
        catalog::delete::<Node>(&mut tx, node.id.0).await?;
        inner.done(&mut tx, caller, &node, "node.delete").await?;
        inner.commit(tx).await?;
        match owed {
            true => inner.links.discount(node.id),
            false => inner.links.forget(node.id),
        }
        Ok(())
    }
}

fn without_pools(node: &Node, pools: &[Pool]) -> Result<()> {
    if pools.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = pools.iter().map(|pool| pool.name.clone()).collect();
    Err(ControlError::InUse {
        kind: ResourceKind::Node,
        name: node.name.clone(),
        by: format!("the pools {}", crate::error::list(&names)),
    })
}

/// What a control plane is to nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Own {
    pub(crate) id: Uuid,
    /// The number of its start.
    pub(crate) term: u64,
}

impl Own {
    /// This start's: each one's term is higher than the one's before.
    ///
    /// A clock counts along: a catalog that comes back from a backup would begin again below what
    /// its nodes have heard, and they would refuse it.
    pub(crate) async fn of(catalog: &catalog::Catalog, fresh: Uuid, now_ms: u64) -> Result<Self> {
        let mut tx = catalog.begin().await?;
        let known = catalog::fact(&mut tx, CONTROL).await?;
        let id = known.and_then(|text| text.parse().ok()).unwrap_or(fresh);
        let before = catalog::fact(&mut tx, TERM).await?;
        let term = before.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) + 1;
        let term = term.max(now_ms);
        catalog::set_fact(&mut tx, CONTROL, &id.to_string()).await?;
        catalog::set_fact(&mut tx, TERM, &term.to_string()).await?;
        tx.commit().await?;
        Ok(Self { id, term })
    }
}

impl Inner {
    /// Has the node not been told of everything that was lost with it? Asked, it is told first.
    async fn is_owed(self: &Arc<Self>, node: NodeId) -> Result<bool> {
        let mut on = self.catalog.read().await?;
        let owed = lost::untold_on(&mut on, node).await?;
        drop(on);
        if owed.is_empty() || !self.answers(node).await {
            return Ok(!owed.is_empty());
        }
        self.links.hear(node, self.now_ms());
        for lost in &owed {
            self.run_now(Step::Bury(lost.volume)).await;
        }
        let mut on = self.catalog.read().await?;
        Ok(!lost::untold_on(&mut on, node).await?.is_empty())
    }

    pub(crate) fn way(&self, door: &DoorRecord) -> Way {
        Way {
            address: door.address.clone(),
            secret: door.secret.clone(),
            control: self.own.id,
            term: self.own.term,
            identity: door.identity,
        }
    }

    /// Make the node in this process known, or its new start.
    pub(crate) async fn register_local(&self) -> Result<()> {
        let Some(link) = self.links.given.local.clone() else { return Ok(()) };
        let mut on = self.catalog.read().await?;
        let nodes = catalog::select(&mut on, Query::<Node>::all()).await?;
        let known = nodes.into_iter().find(|node| node.address.is_none());
        drop(on);
        let now_ms = self.now_ms();
        if let Some(known) = &known {
            self.links.add(known.id, link.clone(), 0);
            self.links.set_local(known.id);
        }
        let (file_portals, NodeReport { name, version, .. }) = match link.node().await {
            Ok(report) => (report.file_portals(), report),
            Err(error) => {
                tracing::warn!(%error, "the node does not say what it is");
                return Ok(());
            }
        };
        let mut tx = self.catalog.begin().await?;
        let id = if let Some(known) = known {
            let boot = known.boot + 1;
            let started_ms = now_ms;
            let node = Node { name, version, boot, started_ms, file_portals, ..known };
            catalog::update(&mut tx, &node).await?;
            node.id
        } else {
            // Pools of before nodes were known have its id.
            let known = catalog::select(&mut tx, Query::<Node>::all()).await?;
            let is_strange = |pool: &Pool| known.iter().all(|node| node.id != pool.node);
            let pools = catalog::select(&mut tx, Query::<Pool>::all()).await?;
            let pool = pools.into_iter().find(is_strange);
            let id = pool.map_or_else(|| NodeId(self.new_id()), |pool| pool.node);
            let node = Node {
                id,
                name,
                version,
                boot: 1,
                started_ms: now_ms,
                created_ms: now_ms,
                address: None,
                takes_volumes: true,
                file_portals,
            };
            catalog::insert(&mut tx, &node).await?;
            let doors = catalog::select(&mut tx, Query::<DoorRecord>::all()).await?;
            let is_nobody = |one: NodeId| {
                known.iter().all(|node| node.id != one) && doors.iter().all(|door| door.node != one)
            };
            lost::follow(&mut tx, is_nobody, id).await?;
            id
        };
        tx.commit().await?;
        self.links.add(id, link, now_ms);
        self.links.set_local(id);
        Ok(())
    }

    /// The ways to the nodes of other machines. None of them is gone by now.
    pub(crate) async fn open_doors(&self) -> Result<()> {
        let mut on = self.catalog.read().await?;
        for door in catalog::select(&mut on, Query::<DoorRecord>::all()).await? {
            let Ok(doors) = self.links.doors() else { return Ok(()) };
            let link = doors.link(self.way(&door));
            self.links.add(door.node, link, door.heard_ms);
            if catalog::get::<Node>(&mut on, door.node.0).await?.is_none() {
                self.links.discount(door.node);
            }
        }
        Ok(())
    }

    /// A node of another machine has been heard. One that has started anew knows nothing of what
    /// its daemon was asked before: it is sent all of that again.
    pub(super) async fn heard_from(&self, node: NodeId, report: NodeReport) -> Result<()> {
        /// How much older than the truth the catalog's word of it may be.
        const NOTE_MS: u64 = 60_000;
        let now_ms = self.now_ms();
        self.links.hear(node, now_ms);
        let mut on = self.catalog.read().await?;
        let known = catalog::get::<Node>(&mut on, node.0).await?;
        let door = catalog::get::<DoorRecord>(&mut on, node.0).await?;
        drop(on);
        let (known, door) = match (known, door) {
            (Some(known), Some(door)) => (known, door),
            (None, Some(door)) => return self.part_with(door).await,
            _ => return Ok(()),
        };
        let boot = report.boot.unwrap_or(known.boot);
        let file_portals = report.file_portals();
        let is_new = boot != known.boot
            || report.version != known.version
            || file_portals != known.file_portals;
        if !is_new && now_ms.saturating_sub(door.heard_ms) < NOTE_MS {
            return Ok(());
        }
        let mut tx = self.catalog.begin().await?;
        if let Some(mut door) = catalog::get::<DoorRecord>(&mut tx, node.0).await? {
            door.heard_ms = now_ms;
            catalog::update(&mut tx, &door).await?;
        }
        if let (true, Some(known)) = (is_new, catalog::get::<Node>(&mut tx, node.0).await?) {
            let started_ms = if boot == known.boot { known.started_ms } else { now_ms };
            let known = Node { version: report.version, boot, started_ms, file_portals, ..known };
            catalog::update(&mut tx, &known).await?;
        }
        // No wake: that it is heard asks for no work.
        tx.commit().await?;
        if is_new {
            self.end_upgrades(node, report.upgrade).await?;
            self.forget_of(node).await?;
        }
        Ok(())
    }
}
