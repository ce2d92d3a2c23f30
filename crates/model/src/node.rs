//! Node: a storage machine of ours. It serves the volumes of its pools.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// A node as the catalog knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// The machine's own name.
    pub name: String,
    /// Of the binary that it runs.
    pub version: String,
    /// The number of its daemon's start: each one's is higher than the one's before.
    pub boot: u64,
    /// When that was: milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    pub name: String,
    pub version: String,
    /// Where initiators find it, as `ADDRESS:PORT`.
    pub block_portals: Vec<String>,
    /// Sessions of initiators that are open.
    pub sessions: u64,
    /// Or why it serves no files.
    pub files: Result<FileServiceReport, String>,
}

/// What a node says of its file service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileServiceReport {
    /// The number of its start, which every one has of its own.
    pub boot: u32,
    /// Milliseconds since that.
    pub age_ms: u64,
    /// Where clients find it, as `ADDRESS:PORT`.
    pub portals: Vec<String>,
    /// How long a client may be silent.
    pub lease_ms: u64,
    /// Clients may reclaim what they held before the start, and nobody gets anything new.
    pub in_grace: bool,
    /// Clients that are known, of every version.
    pub clients: u64,
    pub connections: u64,
}
