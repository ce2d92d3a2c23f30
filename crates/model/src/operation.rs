//! Operation: long work with progress and a final state.
//!
//! ```text
//!  (start) -> pending -> running -> succeeded | failed | cancelled
//!                |                      failed | cancelled
//!                +--------------------------^
//! ```

use serde::{Deserialize, Serialize};

use crate::id::{OperationId, ProjectId, SnapshotId, VolumeId};
use crate::order::ImageFormat;

/// What the work is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationKind {
    /// Fill a new volume from an image file.
    ImportImage { path: String, format: ImageFormat },
    /// Write a volume to an image file.
    ExportImage { path: String, format: ImageFormat },
    /// Give back the space of a deleted snapshot.
    MergeSnapshot { snapshot: SnapshotId },
}

impl OperationKind {
    /// The word of the API.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ImportImage { .. } => "import_image",
            Self::ExportImage { .. } => "export_image",
            Self::MergeSnapshot { .. } => "merge_snapshot",
        }
    }
    /// A merge cannot be cancelled: half of it is worth nothing, and it does no harm.
    #[must_use]
    pub const fn can_be_cancelled(&self) -> bool {
        !matches!(self, Self::MergeSnapshot { .. })
    }
}

/// Where the work stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// The legal moves.
pub const MOVES: &[(OperationState, OperationState)] = &[
    (OperationState::Pending, OperationState::Running),
    (OperationState::Pending, OperationState::Failed),
    (OperationState::Pending, OperationState::Cancelled),
    (OperationState::Running, OperationState::Succeeded),
    (OperationState::Running, OperationState::Failed),
    (OperationState::Running, OperationState::Cancelled),
];

impl OperationState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    /// Nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
    /// Is the move in the list?
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        MOVES.contains(&(self, next))
    }
}

/// How far the work has come, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Long work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub project: ProjectId,
    #[serde(flatten)]
    pub kind: OperationKind,
    pub volume: VolumeId,
    /// The volume's name when the work began: it may be gone by now.
    pub volume_name: String,
    pub state: OperationState,
    pub progress: Option<Progress>,
    /// Somebody asked for its end; it ends as soon as the node lets go.
    pub cancel_requested: bool,
    pub fault: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub finished_ms: Option<u64>,
}
