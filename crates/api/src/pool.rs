//! Pools: where bytes lie.

use model::id::{NodeId, PoolId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Size;
use crate::page::list_query;

/// How a pool does its I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IoMode {
    /// Past the page cache (O_DIRECT).
    Direct,
    /// Through the page cache; flushes make writes durable.
    #[default]
    Cached,
}

impl From<IoMode> for model::order::IoMode {
    fn from(mode: IoMode) -> Self {
        match mode {
            IoMode::Direct => Self::Direct,
            IoMode::Cached => Self::Cached,
        }
    }
}

impl From<model::order::IoMode> for IoMode {
    fn from(mode: model::order::IoMode) -> Self {
        match mode {
            model::order::IoMode::Direct => Self::Direct,
            model::order::IoMode::Cached => Self::Cached,
        }
    }
}

/// Make a pool of the driver `local`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    pub name: String,
    /// `ssd`, `hdd`, or a word of your own.
    pub class: String,
    /// Absolute path of the pool's directory on the node.
    pub path: String,
    #[serde(default)]
    pub io: IoMode,
    /// What it may hold at most; all that the file system has when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePool {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
}

/// A pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    #[schema(value_type = Uuid)]
    pub id: PoolId,
    pub name: String,
    /// `local`.
    pub driver: String,
    pub class: String,
    #[schema(value_type = Uuid)]
    pub node_id: NodeId,
    pub path: String,
    pub io: IoMode,
    /// What it can hold; absent while the node has not reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// What volumes and snapshots take now; absent while the node has not reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// The sum of the sizes promised to volumes.
    pub provisioned_bytes: u64,
    pub created_at: jiff::Timestamp,
}

list_query! {
    /// Which pools.
    PoolQuery -> Pool, "v1/pools"
}
