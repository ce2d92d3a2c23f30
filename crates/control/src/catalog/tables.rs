//! Which columns each resource has.

use std::collections::BTreeMap;

use model::agent::Agent;
use model::attachment::Attachment;
use model::event::{Event, ResourceKind};
use model::group::Group;
use model::host::Host;
use model::id::{AttachmentId, HostId, NodeId, PoolId, ProjectId, VolumeId};
use model::network::Network;
use model::node::{Node, NoticeMark};
use model::operation::Operation;
use model::order::Chap;
use model::pool::Pool;
use model::project::Project;
use model::reference::Reference;
use model::schedule::Schedule;
use model::snapshot::Snapshot;
use model::user::{Token, User};
use model::volume::{Volume, VolumeKind, VolumeStatus};
use model::volume_type::{Grant, VolumeType};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::query::Value;
use super::record::Record;
use crate::group::Said;

/// A token with the hash of its secret.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) token: Token,
    /// SHA-256 of the whole secret, hexadecimal.
    pub(crate) hash: String,
}

/// A grant with an id of its own.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GrantRecord {
    pub(crate) id: Uuid,
    pub(crate) grant: Grant,
}

/// An agent with the hash of its token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    pub(crate) agent: Agent,
    /// SHA-256 of the whole secret, hexadecimal.
    pub(crate) hash: String,
}

/// The way to a node of another machine.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DoorRecord {
    pub(crate) node: NodeId,
    /// `http://HOST:PORT`.
    pub(crate) address: String,
    /// Shown to the node with every request: it cannot be kept as a hash.
    pub(crate) secret: String,
    /// What the node called itself when it was made known: no other is taken for it.
    pub(crate) identity: Uuid,
    /// When it was last heard, to within a minute: milliseconds since the Unix epoch.
    pub(crate) heard_ms: u64,
    /// Up to where its notices are in the audit trail.
    #[serde(default)]
    pub(crate) mark: NoticeMark,
}

/// A volume that was given up with its node, and where its data may lie.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LostRecord {
    pub(crate) volume: VolumeId,
    pub(crate) name: String,
    pub(crate) project: ProjectId,
    pub(crate) kind: VolumeKind,
    /// Of hosts that had it.
    pub(crate) attachments: Vec<AttachmentId>,
    pub(crate) places: Vec<LostPlace>,
}

/// A pool in which a lost volume may lie.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LostPlace {
    pub(crate) pool: PoolId,
    pub(crate) pool_name: String,
    pub(crate) path: String,
    pub(crate) node: NodeId,
    pub(crate) node_name: String,
    /// The node has come back, and serves it to nobody.
    pub(crate) told: bool,
}

/// A group with what only its agents may know, and what they said when it last changed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    pub(crate) group: Group,
    /// 32 bytes, hexadecimal.
    pub(crate) heartbeat_key: String,
    pub(crate) said: BTreeMap<HostId, Said>,
    /// The newest generation under which each host was told to have it run, written down before
    /// the host hears of it.
    #[serde(default)]
    pub(crate) told: BTreeMap<HostId, u64>,
}

impl GroupRecord {
    /// The host is none of the group's any more.
    pub(crate) fn forget(&mut self, host: HostId) {
        self.group.hosts.retain(|id| *id != host);
        self.group.leaving.remove(&host);
        self.group.permits.remove(&host);
        self.said.remove(&host);
        self.told.remove(&host);
    }
}

/// An attachment with what only the node may know, and what the promise of its type was.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AttachmentRecord {
    pub(crate) attachment: Attachment,
    pub(crate) chap: Option<Chap>,
    /// Does the volume's type let several hosts write?
    pub(crate) multiattach: bool,
}

/// Does the volume need its origin? A block volume shares its layers for ever; a file volume has a
/// tree of its own as soon as it is made.
fn depends(volume: &Volume) -> Option<()> {
    let shares = volume.kind() == VolumeKind::Block
        || matches!(volume.status, VolumeStatus::Creating { .. });
    shares.then_some(())
}

/// Where a pool lies: two nodes may have the same path.
pub(crate) fn pool_place(node: NodeId, path: &str) -> String {
    format!("{node}:{path}")
}

macro_rules! record {
    ($type:ty, $kind:ident, $table:literal, |$this:ident| {
        id: $id:expr, name: $name:expr, project: $project:expr,
        columns: { $($column:literal: $value:expr),* $(,)? }
        $(, listed: $listed:expr)?
    }) => {
        impl Record for $type {
            const KIND: ResourceKind = ResourceKind::$kind;
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$($column),*];
            fn id(&self) -> Uuid {
                let $this = self;
                $id
            }
            fn name(&self) -> String {
                let $this = self;
                $name
            }
            fn project(&self) -> Option<ProjectId> {
                #[allow(unused_variables, reason = "some resources belong to no project")]
                let $this = self;
                $project
            }
            fn columns(&self) -> Vec<Value> {
                #[allow(unused_variables, reason = "some resources have no columns")]
                let $this = self;
                vec![$($value.into()),*]
            }
            $(fn is_listed(&self) -> bool {
                let $this = self;
                $listed
            })?
        }
    };
}

record!(Project, Project, "projects", |project| {
    id: project.id.0, name: project.name.clone(), project: Some(project.id),
    columns: { "name": project.name.as_str() }
});
record!(User, User, "users", |user| {
    id: user.id.0, name: user.name.clone(), project: Some(user.project),
    columns: { "name": user.name.as_str(), "project": user.project, "role": user.role.word() }
});
record!(TokenRecord, Token, "tokens", |record| {
    id: record.token.id.0, name: record.token.id.to_string(), project: None,
    columns: { "user": record.token.user, "hash": record.hash.as_str() }
});
record!(VolumeType, VolumeType, "volume_types", |kind| {
    id: kind.id.0, name: kind.name.clone(), project: None,
    columns: { "name": kind.name.as_str(), "class": kind.class.as_str(), "public": kind.public }
});
record!(GrantRecord, VolumeType, "grants", |record| {
    id: record.id, name: record.id.to_string(), project: Some(record.grant.project),
    columns: { "volume_type": record.grant.volume_type, "project": record.grant.project }
});
record!(Pool, Pool, "pools", |pool| {
    id: pool.id.0, name: pool.name.clone(), project: None,
    columns: {
        "name": pool.name.as_str(), "class": pool.class.as_str(), "path": pool_place(pool.node, &pool.path).as_str(),
        "state": pool.state.word(),
    }
});
record!(Node, Node, "nodes", |node| {
    id: node.id.0, name: node.name.clone(), project: None,
    columns: { "name": node.name.as_str() }
});
record!(DoorRecord, Node, "node_doors", |record| {
    id: record.node.0, name: record.node.to_string(), project: None,
    columns: {}
});
record!(LostRecord, Volume, "lost_volumes", |lost| {
    id: lost.volume.0, name: lost.name.clone(), project: Some(lost.project),
    columns: { "untold": lost.places.iter().any(|place| !place.told).then_some(1_u64) }
});
record!(Network, Network, "networks", |network| {
    id: network.id.0, name: network.name.clone(), project: None,
    columns: { "name": network.name.as_str() }
});
record!(Volume, Volume, "volumes", |volume| {
    id: volume.id.0, name: volume.name.clone(), project: Some(volume.project),
    columns: {
        "project": volume.project, "name": volume.name.as_str(), "status": volume.status.word(),
        "volume_type": volume.volume_type, "pool": volume.pool,
        "origin_volume": depends(volume).and(volume.origin.volume()),
        "origin_snapshot": depends(volume).and(volume.origin.snapshot()),
        "promised_bytes": volume.promised().0, "kind": volume.kind().word(),
        "network": volume.export.as_ref().map(|export| export.network),
        "left_over": (!volume.left_in.is_empty()).then_some(1_u64),
    }
});
record!(Snapshot, Snapshot, "snapshots", |snapshot| {
    id: snapshot.id.0, name: snapshot.name.clone(), project: Some(snapshot.project),
    columns: {
        "project": snapshot.project, "name": snapshot.name.as_str(), "volume": snapshot.volume,
        "state": snapshot.state.word(), "hidden_for": snapshot.hidden_for,
    },
    listed: snapshot.hidden_for.is_none()
});
record!(Reference, Reference, "volume_references", |reference| {
    id: reference.id.0, name: reference.name.clone(), project: Some(reference.project),
    columns: {
        "project": reference.project, "name": reference.name.as_str(),
        "kind": reference.kind.word(), "volume_name": reference.volume_name.as_str(),
        "volume": reference.volume,
    }
});
record!(Schedule, Schedule, "schedules", |schedule| {
    id: schedule.id.0, name: schedule.name.clone(), project: Some(schedule.project),
    columns: {
        "project": schedule.project, "name": schedule.name.as_str(),
        "volume": schedule.volume, "due_ms": schedule.due_ms,
    }
});
record!(Host, Host, "hosts", |host| {
    id: host.id.0, name: host.name.clone(), project: Some(host.project),
    columns: { "project": host.project, "name": host.name.as_str() }
});
record!(AgentRecord, Host, "agents", |record| {
    id: record.agent.host.0, name: record.agent.host.to_string(), project: None,
    columns: { "hash": record.hash.as_str() }
});
record!(GroupRecord, Group, "failover_groups", |record| {
    id: record.group.id.0, name: record.group.name.clone(), project: Some(record.group.project),
    columns: {
        "project": record.group.project, "name": record.group.name.as_str(),
        "volume": record.group.volume,
    }
});
record!(AttachmentRecord, Attachment, "attachments", |record| {
    id: record.attachment.id.0, name: record.attachment.id.to_string(),
    project: Some(record.attachment.project),
    columns: {
        "project": record.attachment.project, "volume": record.attachment.volume,
        "host": record.attachment.host, "state": record.attachment.state.word(),
        "sole_writer": (record.attachment.may_write() && !record.multiattach)
            .then_some(record.attachment.volume),
        "may_write": record.attachment.may_write(),
    }
});
record!(Operation, Operation, "operations", |operation| {
    id: operation.id.0, name: operation.id.to_string(), project: operation.project,
    columns: {
        "project": operation.project, "volume": operation.subject.volume(),
        "state": operation.state.word(),
    }
});
record!(Event, Event, "events", |event| {
    id: event.id.0, name: event.id.to_string(), project: event.project,
    columns: {
        "at_ms": event.at_ms, "project": event.project, "actor_name": event.actor_name.as_str(),
        "resource": event.resource.word(), "resource_id": event.resource_id,
        "action": event.action.as_str(),
    }
});
