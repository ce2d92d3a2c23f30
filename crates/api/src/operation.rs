//! Operations: long work with progress and a final state.

use model::id::{NodeId, OperationId, ProjectId, SnapshotId, VolumeId};
use model::operation::Subject;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;
use crate::volume::ImageFile;

/// Where the work stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum OperationState {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// How far the work has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// An operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    #[schema(value_type = Uuid)]
    pub id: OperationId,
    /// Absent for the work of nodes, which only admins see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub project_id: Option<ProjectId>,
    /// `import_image`, `export_image`, `merge_snapshot`, `restart_node`, `upgrade_node`,
    /// `evacuate_node`.
    pub kind: String,
    /// The image file, of an import or export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFile>,
    /// The snapshot, of a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub snapshot_id: Option<SnapshotId>,
    /// The volume that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub volume_id: Option<VolumeId>,
    /// The volume's name when the work began: it may be gone by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// Or the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub node_id: Option<NodeId>,
    /// The node's name when the work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The version that an upgrade leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[schema(value_type = OperationState)]
    pub state: String,
    /// Will nothing more happen?
    pub finished: bool,
    /// Absent before the first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Somebody asked for its end; it ends as soon as the node lets go.
    pub cancel_requested: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What to do about it; there where a fault is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub created_at: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<jiff::Timestamp>,
}

impl From<model::operation::Operation> for Operation {
    fn from(operation: model::operation::Operation) -> Self {
        use model::operation::OperationKind::{
            EvacuateNode, ExportImage, ImportImage, MergeSnapshot, RestartNode, UpgradeNode,
        };
        let kind = operation.kind.word().to_owned();
        let hint = match operation.kind {
            _ if operation.fault.is_none() => None,
            ImportImage { .. } => Some(
                "Check the image (`qemu-img check`), its format and that the volume is as large; \
                 delete the volume and create it again.",
            ),
            ExportImage { .. } => Some(
                "Make room for the file or choose another one that does not exist yet, and export \
                 again; the volume is unchanged.",
            ),
            MergeSnapshot { .. } => Some("Nothing is lost: the merge is tried again by itself."),
            RestartNode { .. } => Some(
                "File volumes may not be served: look at the daemon's log, then restart the node \
                 or the daemon again.",
            ),
            UpgradeNode { .. } => Some(
                "`node show` says which version runs, and the daemon's log why it does; mend the \
                 binary and upgrade again.",
            ),
            EvacuateNode { .. } => Some(
                "What stays is served where it is; mend what is said of each, and evacuate again. \
                 `node update --placement on` lets new volumes onto the node again.",
            ),
        };
        let (mut image, mut snapshot_id, mut version) = (None, None, None);
        match operation.kind {
            ImportImage { path, format } | ExportImage { path, format } => {
                image = Some(ImageFile { path, format: format.into() });
            }
            MergeSnapshot { snapshot } => snapshot_id = Some(snapshot),
            UpgradeNode { to, .. } => version = Some(to),
            RestartNode { .. } | EvacuateNode { .. } => {}
        }
        let (volume_id, node_id) = (operation.subject.volume(), operation.subject.node());
        let (volume_name, node_name) = match operation.subject {
            Subject::Volume { volume_name, .. } => (Some(volume_name), None),
            Subject::Node { node_name, .. } => (None, Some(node_name)),
        };
        Self {
            id: operation.id,
            project_id: operation.project,
            kind,
            image,
            snapshot_id,
            volume_id,
            volume_name,
            node_id,
            node_name,
            version,
            state: operation.state.word().to_owned(),
            finished: operation.state.is_final(),
            progress: operation.progress.map(|progress| Progress {
                done_bytes: progress.done,
                total_bytes: progress.total,
            }),
            cancel_requested: operation.cancel_requested,
            hint: hint.map(str::to_owned),
            fault: operation.fault,
            created_at: crate::timestamp_ms(operation.created_ms),
            finished_at: operation.finished_ms.map(crate::timestamp_ms),
        }
    }
}

list_query! {
    /// Which operations.
    OperationQuery -> Operation, "v1/operations", {
        /// Only those in this state.
        state: String,
        /// Only those on this volume, by name or id.
        volume: String,
    }
}
