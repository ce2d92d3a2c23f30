//! Snapshots: read-only images of a volume at a point.

use std::collections::BTreeMap;

use model::id::{ProjectId, ScheduleId, SnapshotId, VolumeId};
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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSnapshot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Takes the place of all metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Where a snapshot is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum SnapshotState {
    Creating,
    Available,
    Deleting,
    Error,
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
    /// The bytes that its end would free: of a file volume, while the node can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_bytes: Option<u64>,
    #[schema(value_type = SnapshotState)]
    pub state: String,
    /// Why it could not be taken or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The schedule that took it, and deletes it in its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub schedule_id: Option<ScheduleId>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: jiff::Timestamp,
}

impl Snapshot {
    /// The view of a snapshot of the volume of this name.
    #[must_use]
    pub fn new(
        snapshot: model::snapshot::Snapshot,
        volume_name: String,
        held_bytes: Option<u64>,
    ) -> Self {
        Self {
            id: snapshot.id,
            name: snapshot.name,
            description: snapshot.description,
            project_id: snapshot.project,
            volume_id: snapshot.volume,
            volume_name,
            size_bytes: snapshot.size.bytes(),
            held_bytes,
            state: snapshot.state.word().to_owned(),
            fault: snapshot.fault,
            schedule_id: snapshot.schedule,
            metadata: snapshot.metadata,
            created_at: crate::timestamp_ms(snapshot.created_ms),
        }
    }
}

list_query! {
    /// Which snapshots.
    SnapshotQuery -> Snapshot, "v1/snapshots", {
        /// Only those with this name.
        name: String,
        /// Only those of this volume, by name or id.
        volume: String,
    }
}
