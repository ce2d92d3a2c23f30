//! Schedules: snapshots of a volume by the clock.

use model::id::{ProjectId, ScheduleId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Take a snapshot of a volume again and again, the first one now, and keep so many of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// Name or id of the volume.
    pub volume: String,
    /// What the names of its snapshots begin with; the time follows.
    pub name: String,
    /// From one snapshot to the next: at least a minute.
    #[schema(minimum = 60)]
    pub every_seconds: u64,
    /// How many of its snapshots stay; older ones are deleted when a new one is made.
    #[schema(minimum = 1)]
    pub keep: u32,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A schedule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    #[schema(value_type = Uuid)]
    pub id: ScheduleId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    pub every_seconds: u64,
    pub keep: u32,
    /// When the next snapshot is taken.
    pub due_at: jiff::Timestamp,
    /// When the last one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<jiff::Timestamp>,
    /// Why the last one could not be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    pub created_at: jiff::Timestamp,
}

impl Schedule {
    /// The view of a schedule of the volume of this name.
    #[must_use]
    pub fn new(schedule: model::schedule::Schedule, volume_name: String) -> Self {
        Self {
            id: schedule.id,
            name: schedule.name,
            project_id: schedule.project,
            volume_id: schedule.volume,
            volume_name,
            every_seconds: schedule.every_ms / 1000,
            keep: schedule.keep,
            due_at: crate::timestamp_ms(schedule.due_ms),
            last_at: schedule.last_ms.map(crate::timestamp_ms),
            fault: schedule.fault,
            created_at: crate::timestamp_ms(schedule.created_ms),
        }
    }
}

list_query! {
    /// Which schedules.
    ScheduleQuery -> Schedule, "v1/schedules", {
        /// Only those with this name.
        name: String,
        /// Only those of this volume, by name or id.
        volume: String,
    }
}
