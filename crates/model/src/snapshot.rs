//! Snapshot: a read-only image of a volume at a point.
//!
//! ```text
//!  (create) -> creating -> available -> deleting -> (gone)
//!                 |                       |  ^
//!                 +------> error <--------+  |
//!                            +---------------+
//! ```

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, ScheduleId, SnapshotId, VolumeId};
use crate::size::ByteSize;
use crate::text::Metadata;

/// Where a snapshot is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    Creating,
    Available,
    Deleting,
    /// It could not be taken or removed; `fault` says why.
    Error,
}

/// The legal moves.
pub const MOVES: &[(SnapshotState, SnapshotState)] = &[
    (SnapshotState::Creating, SnapshotState::Available),
    (SnapshotState::Creating, SnapshotState::Error),
    (SnapshotState::Available, SnapshotState::Deleting),
    (SnapshotState::Deleting, SnapshotState::Error),
    (SnapshotState::Error, SnapshotState::Deleting),
];

impl SnapshotState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }
    /// Is the move in the list?
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        MOVES.contains(&(self, next))
    }
}

/// A snapshot. Names may repeat inside a project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub project: ProjectId,
    pub volume: VolumeId,
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
    /// The volume's size when it was taken.
    pub size: ByteSize,
    pub state: SnapshotState,
    pub fault: Option<String>,
    /// The clone that owns it; such a snapshot is in no list and goes with the clone.
    pub hidden_for: Option<VolumeId>,
    /// The schedule that asked for it, and removes it in its time.
    #[serde(default)]
    pub schedule: Option<ScheduleId>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}
