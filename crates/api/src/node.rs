//! Nodes: the machines that serve volumes. And the service itself: is it well.

use model::id::{NodeId, PoolId, ProjectId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::page::{ListQuery, list_query};
use crate::pool::Driver;

/// Answer of `/health`: needs no token and tells no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`; a service that is not well answers with an error instead.
    pub status: String,
    pub version: String,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Node {
    #[schema(value_type = Uuid)]
    pub id: NodeId,
    /// The machine's own name.
    pub name: String,
    /// `online`, or `offline`: it does not answer.
    pub state: String,
    /// Since when it is so.
    pub since: jiff::Timestamp,
    /// Where its door is; absent for the one in the control plane's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Are new volumes placed on it?
    pub takes_volumes: bool,
    /// Of the binary that it runs.
    pub version: String,
    /// The number of its daemon's start.
    pub boot: u64,
    /// Where initiators find it.
    pub block_portals: Vec<String>,
    /// Sessions of initiators that are open.
    pub sessions: u64,
    pub pools: Vec<NodePool>,
    pub block_volumes: u64,
    pub file_volumes: u64,
    /// Its file service; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_service: Option<FileService>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_service_fault: Option<String>,
}

/// A pool of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodePool {
    #[schema(value_type = Uuid)]
    pub id: PoolId,
    pub name: String,
    pub driver: Driver,
    pub state: String,
}

/// How a node's file service is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileService {
    /// The number of its start.
    pub boot: u32,
    /// When it started.
    pub since: jiff::Timestamp,
    /// Where clients find it.
    pub portals: Vec<String>,
    /// How long an NFSv4 client may be silent.
    pub lease_ms: u64,
    /// Clients may reclaim what they held before the start, and nobody gets anything new.
    pub in_grace: bool,
    /// Clients that are connected or hold something.
    pub clients: u64,
    pub connections: u64,
}

list_query! {
    /// Which nodes.
    NodeQuery -> Node, "v1/nodes"
}

/// A volume as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeVolume {
    #[schema(value_type = Uuid)]
    pub id: VolumeId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub project_name: String,
    /// `block` or `file`.
    pub kind: String,
    pub size_bytes: u64,
    pub status: String,
    /// What hosts and clients are told: the target's name, or what is mounted. Absent where nobody
    /// has been told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Hosts that may reach it.
    pub attachments: u64,
    /// Of a file volume: clients that have it mounted. Absent while the node does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// What uses a file volume: kind and name.
    pub references: Vec<String>,
}

/// Which volumes of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodeVolumeQuery {
    /// Name or id of the node: part of the path, not of the query.
    #[serde(skip)]
    #[param(ignore)]
    pub node: String,
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How many items at most: 1 to 1000, 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where to continue: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

impl ListQuery for NodeVolumeQuery {
    type Item = NodeVolume;
    fn path(&self) -> Vec<String> {
        ["v1", "nodes", &self.node, "volumes"].map(str::to_owned).to_vec()
    }
    fn set_marker(&mut self, marker: String) {
        self.marker = Some(marker);
    }
    fn whole_pages(&mut self) {
        self.limit.get_or_insert(crate::page::MAX_LIMIT);
    }
}

/// Make a node of another machine known.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNode {
    pub name: String,
    /// Its door: `http://HOST:PORT`.
    pub address: String,
    /// What its daemon has made at its first start, in `node/secret` of its data directory.
    pub secret: String,
}

impl std::fmt::Debug for CreateNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateNode").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateNode {
    /// Where its door is now. The same node must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Are new volumes placed on it?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_volumes: Option<bool>,
}

/// How to forget a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteNode {
    /// Although it does not answer, and goes on with its last orders.
    #[serde(default)]
    pub force: bool,
}

/// Start a node's file service anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartNode {
    /// Although references to its file volumes exist.
    #[serde(default)]
    pub force: bool,
}

/// Have a node's daemon go on with another binary, in the same process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeNode {
    /// On the node, an absolute path. What lies now where the running one was started from, when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Although references to its file volumes exist, operations are under way (imports and exports
    /// are cancelled), or the binary is older.
    #[serde(default)]
    pub force: bool,
}

/// An evacuation that was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Evacuation {
    pub operation: crate::operation::Operation,
    /// The node's block volumes, by name: they stay.
    pub block_volumes: Vec<String>,
}

/// Have other nodes take a node's file volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvacuateNode {
    /// Although references to them exist and clients have them mounted, which are cut off.
    #[serde(default)]
    pub force: bool,
}
