//! Pool: where bytes lie.
//!
//! ```text
//!  (create) -> opening -> online -> closing -> (gone)
//!                 |       ^  |         ^
//!         cannot  |  can  |  | cannot  |
//!                 |  again|  v any more|
//!                 +-----> error -------+
//! ```

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PoolId};
use crate::order::{IoMode, PoolUsage};
use crate::size::ByteSize;
use crate::volume::VolumeKind;

/// Who keeps the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// Block volumes: layers in a directory of the node.
    Local,
    /// File volumes: a directory each, on any file system; snapshots by reflink or by copying.
    Dir,
    /// File volumes: a subvolume each, on btrfs.
    Btrfs,
}

impl Driver {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dir => "dir",
            Self::Btrfs => "btrfs",
        }
    }
    /// The volumes that such a pool holds.
    #[must_use]
    pub const fn kind(self) -> VolumeKind {
        match self {
            Self::Local => VolumeKind::Block,
            Self::Dir | Self::Btrfs => VolumeKind::File,
        }
    }
}

/// Where a pool is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// The node has been asked to open it.
    Opening,
    /// It serves.
    Online,
    /// It is being given up.
    Closing,
    /// The node cannot open it; `fault` says why.
    Error,
}

/// The legal moves.
pub const MOVES: &[(PoolState, PoolState)] = &[
    (PoolState::Opening, PoolState::Online),
    (PoolState::Opening, PoolState::Error),
    (PoolState::Opening, PoolState::Closing),
    (PoolState::Error, PoolState::Online),
    (PoolState::Error, PoolState::Closing),
    (PoolState::Online, PoolState::Error),
    (PoolState::Online, PoolState::Closing),
];

impl PoolState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Online => "online",
            Self::Closing => "closing",
            Self::Error => "error",
        }
    }
    /// Is the move in the list?
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        MOVES.contains(&(self, next))
    }
}

/// How a tree is copied, for a snapshot or a clone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyMethod {
    /// As a subvolume: in constant time.
    Subvolume,
    /// File by file, sharing blocks.
    Reflink,
    /// File by file and byte by byte.
    Bytes,
}

/// What lies in a pool, as its node last said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Usage {
    pub capacity: ByteSize,
    pub used: ByteSize,
    /// Sum of the sizes promised to volumes.
    pub provisioned: ByteSize,
    /// How snapshots are made; of pools of file volumes.
    #[serde(default)]
    pub copies: Option<CopyMethod>,
}

impl From<&PoolUsage> for Usage {
    fn from(seen: &PoolUsage) -> Self {
        let &PoolUsage { capacity, used, provisioned, copies, .. } = seen;
        Self { capacity, used, provisioned, copies }
    }
}

impl Usage {
    /// What can still be written.
    #[must_use]
    pub const fn free(&self) -> ByteSize {
        ByteSize(self.capacity.0.saturating_sub(self.used.0))
    }
}

/// A pool. Its name is unique.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pool {
    pub id: PoolId,
    pub name: String,
    pub driver: Driver,
    /// The node that serves it.
    pub node: NodeId,
    pub class: String,
    /// Absolute path on the node.
    pub path: String,
    pub io: IoMode,
    /// Limit set by the operator; `None` is the file system's.
    pub capacity: Option<ByteSize>,
    pub state: PoolState,
    pub fault: Option<String>,
    /// `None` until the node has reported.
    pub usage: Option<Usage>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}
