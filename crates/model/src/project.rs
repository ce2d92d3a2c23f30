//! Project: the tenant. Owns volumes, snapshots and hosts; has quotas.

use serde::{Deserialize, Serialize};

use crate::id::ProjectId;

/// What a project may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quotas {
    /// Volumes.
    pub volumes: u64,
    /// Sum of the volumes' sizes, in GiB.
    pub gigabytes: u64,
    /// Snapshots in all.
    pub snapshots: u64,
    /// Snapshots of any one volume.
    pub snapshots_per_volume: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { volumes: 1000, gigabytes: 100_000, snapshots: 10_000, snapshots_per_volume: 64 }
    }
}

/// What a project holds now; the same units as [`Quotas`], bytes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProjectUsage {
    pub volumes: u64,
    /// Sum of the volumes' sizes, in bytes.
    pub bytes: u64,
    pub snapshots: u64,
}

/// A tenant. Its name is unique.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub description: String,
    pub quotas: Quotas,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}
