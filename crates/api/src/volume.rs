//! Volumes: what we provide.

use model::id::{AttachmentId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId, VolumeTypeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;
use crate::{Metadata, Size};

/// An image file's format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    Raw,
    Qcow2,
}

impl From<ImageFormat> for model::order::ImageFormat {
    fn from(format: ImageFormat) -> Self {
        match format {
            ImageFormat::Raw => Self::Raw,
            ImageFormat::Qcow2 => Self::Qcow2,
        }
    }
}

/// Where a new volume's bytes come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum VolumeSource {
    /// Name or id of a snapshot.
    Snapshot(String),
    /// Name or id of a volume; its content at this moment.
    Volume(String),
    /// An image file that the node can read.
    Image(ImageFile),
}

/// An image file on the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Absolute path on the node.
    pub path: String,
    pub format: ImageFormat,
}

/// Make a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    pub name: String,
    /// May be left out with a snapshot or a volume as source: then as large as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Name or id of the volume type; the service's default, or the source's, when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Zeros when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeSource>,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateVolume {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Takes the place of all metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// Make a volume larger, attached or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowVolume {
    /// The new size; not smaller than the present one.
    pub size: Size,
}

/// Give a volume another type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetypeVolume {
    /// Name or id of the new type.
    #[serde(rename = "type")]
    pub volume_type: String,
}

/// Make a volume's content that of one of its snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertVolume {
    /// Name or id of the snapshot.
    pub snapshot: String,
}

/// Write a volume's content to a new image file on the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportVolume {
    /// Absolute path on the node; must not exist.
    pub path: String,
    pub format: ImageFormat,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    #[schema(value_type = Uuid)]
    pub id: VolumeId,
    pub name: String,
    pub description: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub size_bytes: u64,
    #[schema(value_type = Uuid)]
    pub volume_type_id: VolumeTypeId,
    #[serde(rename = "type")]
    pub volume_type: String,
    pub multiattach: bool,
    #[schema(value_type = Uuid)]
    pub pool_id: PoolId,
    /// `creating`, `available`, `attaching`, `in-use`, `detaching`, ..., `error`.
    pub status: String,
    /// Why the status is an error one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[schema(value_type = Vec<Uuid>)]
    pub attachments: Vec<AttachmentId>,
    /// The snapshot that it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub source_snapshot_id: Option<SnapshotId>,
    /// The long work that runs on it, or ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub operation_id: Option<OperationId>,
    pub metadata: Metadata,
    pub created_at: jiff::Timestamp,
}

list_query! {
    /// Which volumes.
    VolumeQuery -> Volume, "v1/volumes", {
        /// Only those with this status.
        status: String,
        /// Only those of this type, by name or id.
        volume_type: String,
    }
}
