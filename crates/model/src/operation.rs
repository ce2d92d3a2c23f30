//! Operation: long work with progress and a final state.
//!
//! ```text
//!  (start) -> pending -> running -> succeeded | failed | cancelled
//!                |                      failed | cancelled
//!                +--------------------------^
//! ```

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, OperationId, ProjectId, SnapshotId, VolumeId};
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
    /// Start a node's file service anew, behind the start of that number.
    RestartNode { after: u32 },
    /// Have a node go on with another binary, from one version to another; `boot` is the number of
    /// the daemon's start that was asked.
    UpgradeNode { binary: String, from: String, to: String, boot: u64 },
    /// Have other nodes take a node's file volumes.
    EvacuateNode {
        /// Although they are used and mounted.
        force: bool,
        /// Bytes of all of them, by their sizes.
        total: u64,
        /// Bytes of those whose move has begun, and of the last one of these.
        begun: u64,
        last: u64,
        /// Those that could not be moved.
        stayed: Vec<Stayed>,
    },
}

/// A volume that an evacuation could not move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stayed {
    pub volume: VolumeId,
    pub name: String,
    pub why: String,
}

impl OperationKind {
    /// The word of the API.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ImportImage { .. } => "import_image",
            Self::ExportImage { .. } => "export_image",
            Self::MergeSnapshot { .. } => "merge_snapshot",
            Self::RestartNode { .. } => "restart_node",
            Self::UpgradeNode { .. } => "upgrade_node",
            Self::EvacuateNode { .. } => "evacuate_node",
        }
    }
    /// Note that a volume stays where it is.
    pub fn stays(&mut self, volume: VolumeId, name: &str, why: String) {
        if let Self::EvacuateNode { stayed, .. } = self
            && stayed.iter().all(|one| one.volume != volume)
        {
            stayed.push(Stayed { volume, name: name.to_owned(), why });
        }
    }
    /// Note that the move of a volume of this size begins.
    pub const fn goes(&mut self, size: u64) {
        if let Self::EvacuateNode { begun, last, .. } = self {
            *begun = begun.saturating_add(size);
            *last = size;
        }
    }
    /// A merge cannot be cancelled: half of it is worth nothing, and it does no harm. What a node
    /// does with itself is not half done either. An evacuation ends behind the volume that is on
    /// its way.
    #[must_use]
    pub const fn can_be_cancelled(&self) -> bool {
        matches!(
            self,
            Self::ImportImage { .. } | Self::ExportImage { .. } | Self::EvacuateNode { .. }
        )
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

/// What the work is done to, with its name when the work began: it may be gone by now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    Volume { volume: VolumeId, volume_name: String },
    Node { node: NodeId, node_name: String },
}

impl Subject {
    #[must_use]
    pub const fn volume(&self) -> Option<VolumeId> {
        match self {
            Self::Volume { volume, .. } => Some(*volume),
            Self::Node { .. } => None,
        }
    }
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Volume { .. } => None,
            Self::Node { node, .. } => Some(*node),
        }
    }
}

/// Long work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    /// `None` for the work of nodes.
    pub project: Option<ProjectId>,
    #[serde(flatten)]
    pub kind: OperationKind,
    #[serde(flatten)]
    pub subject: Subject,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_was_written_before_nodes_had_some_is_read() {
        let id = uuid::Uuid::nil();
        let text = format!(
            r#"{{"id":"{id}","project":"{id}","kind":"merge_snapshot","snapshot":"{id}",
            "volume":"{id}","volume_name":"v","state":"running","progress":null,
            "cancel_requested":false,"fault":null,"created_ms":1,"finished_ms":null}}"#
        );
        let operation: Operation = serde_json::from_str(&text).unwrap();
        assert_eq!(operation.subject.volume(), Some(VolumeId(id)));
        assert_eq!(operation.project, Some(ProjectId(id)));
        let kind = OperationKind::RestartNode { after: 7 };
        let subject = Subject::Node { node: NodeId(id), node_name: "n".to_owned() };
        let of_node = Operation { kind, subject, project: None, ..operation };
        let text = serde_json::to_string(&of_node).unwrap();
        assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), of_node);
    }
}
