//! Snapshots: read-only images of a volume at a point.

use model::id::{ProjectId, SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Take a snapshot; crash consistent across all writers of the volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// Name or id of the volume.
    pub volume: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSnapshot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    #[schema(value_type = Uuid)]
    pub id: SnapshotId,
    pub name: String,
    pub description: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    /// The volume's size when it was taken.
    pub size_bytes: u64,
    /// `creating`, `available`, `deleting`, `error`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub created_at: jiff::Timestamp,
}

list_query! {
    /// Which snapshots.
    SnapshotQuery -> Snapshot, "v1/snapshots", {
        /// Only those of this volume, by name or id.
        volume: String,
    }
}
