//! Pools: where bytes lie.

use model::id::{NodeId, PoolId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

/// Who keeps a pool's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// Block volumes, in a directory of the node.
    #[default]
    Local,
    /// File volumes, a directory each, on any file system.
    Dir,
    /// File volumes, a subvolume each, on btrfs.
    Btrfs,
}

impl Driver {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dir => "dir",
            Self::Btrfs => "btrfs",
        }
    }
}

impl From<Driver> for model::pool::Driver {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Local => Self::Local,
            Driver::Dir => Self::Dir,
            Driver::Btrfs => Self::Btrfs,
        }
    }
}

impl From<model::pool::Driver> for Driver {
    fn from(driver: model::pool::Driver) -> Self {
        match driver {
            model::pool::Driver::Local => Self::Local,
            model::pool::Driver::Dir => Self::Dir,
            model::pool::Driver::Btrfs => Self::Btrfs,
        }
    }
}

/// Make a pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    pub name: String,
    /// `ssd`, `hdd`, or a word of your own.
    pub class: String,
    /// Name or id of the node that it lies on. May be left out where there is one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Absolute path of the pool's directory on the node.
    pub path: String,
    #[serde(default)]
    pub driver: Driver,
    /// Of block volumes.
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

/// Where a pool is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum PoolState {
    Opening,
    Online,
    Closing,
    Error,
}

/// What lies in a pool, as its node last said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolUsage {
    /// What it can hold.
    pub capacity_bytes: u64,
    /// What volumes and snapshots take now.
    pub used_bytes: u64,
    /// The sum of the sizes promised to volumes; may exceed the capacity.
    pub provisioned_bytes: u64,
    /// How snapshots of file volumes are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<CopyMethod>,
}

/// How a tree is copied, for a snapshot or a clone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CopyMethod {
    /// As a subvolume of btrfs: in constant time.
    Subvolume,
    /// File by file, sharing blocks.
    Reflink,
    /// File by file and byte by byte.
    Bytes,
}

impl From<model::pool::CopyMethod> for CopyMethod {
    fn from(method: model::pool::CopyMethod) -> Self {
        match method {
            model::pool::CopyMethod::Subvolume => Self::Subvolume,
            model::pool::CopyMethod::Reflink => Self::Reflink,
            model::pool::CopyMethod::Bytes => Self::Bytes,
        }
    }
}

impl From<model::pool::Usage> for PoolUsage {
    fn from(usage: model::pool::Usage) -> Self {
        Self {
            capacity_bytes: usage.capacity.bytes(),
            used_bytes: usage.used.bytes(),
            provisioned_bytes: usage.provisioned.bytes(),
            copies: usage.copies.map(Into::into),
        }
    }
}

/// A pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    #[schema(value_type = Uuid)]
    pub id: PoolId,
    pub name: String,
    pub driver: Driver,
    pub class: String,
    #[schema(value_type = Uuid)]
    pub node_id: NodeId,
    pub path: String,
    pub io: IoMode,
    #[schema(value_type = PoolState)]
    pub state: String,
    /// Why the node cannot serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The limit that the operator set; absent where the file system's holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Absent until the node has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<PoolUsage>,
    pub created_at: jiff::Timestamp,
}

impl From<model::pool::Pool> for Pool {
    fn from(pool: model::pool::Pool) -> Self {
        Self {
            id: pool.id,
            name: pool.name,
            driver: pool.driver.into(),
            class: pool.class,
            node_id: pool.node,
            path: pool.path,
            io: pool.io.into(),
            state: pool.state.word().to_owned(),
            fault: pool.fault,
            limit_bytes: pool.capacity.map(model::size::ByteSize::bytes),
            usage: pool.usage.map(Into::into),
            created_at: crate::timestamp_ms(pool.created_ms),
        }
    }
}

/// How to give a pool up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeletePool {
    /// Although its node does not answer: it is forgotten at once, with what moves have left in it.
    #[serde(default)]
    pub force: bool,
}

list_query! {
    /// Which pools.
    PoolQuery -> Pool, "v1/pools", {
        /// Only those with this name.
        name: String,
        /// Only those of this class.
        class: String,
    }
}
