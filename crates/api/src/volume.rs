//! Volumes: what we provide.

use std::collections::BTreeMap;

use model::id::{AttachmentId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId, VolumeTypeId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Size;
use crate::export::{AccessRule, ConnectedClient, Durability};
use crate::page::list_query;

/// Block device or file tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// Reached over iSCSI.
    #[default]
    Block,
    /// Reached over NFS.
    File,
}

impl VolumeKind {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::File => "file",
        }
    }
}

impl From<VolumeKind> for model::volume::VolumeKind {
    fn from(kind: VolumeKind) -> Self {
        match kind {
            VolumeKind::Block => Self::Block,
            VolumeKind::File => Self::File,
        }
    }
}

impl From<model::volume::VolumeKind> for VolumeKind {
    fn from(kind: model::volume::VolumeKind) -> Self {
        match kind {
            model::volume::VolumeKind::Block => Self::Block,
            model::volume::VolumeKind::File => Self::File,
        }
    }
}

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

impl From<model::order::ImageFormat> for ImageFormat {
    fn from(format: model::order::ImageFormat) -> Self {
        match format {
            model::order::ImageFormat::Raw => Self::Raw,
            model::order::ImageFormat::Qcow2 => Self::Qcow2,
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
    /// What the type is, when absent; without a type, `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<VolumeKind>,
    /// May be left out with a snapshot, a volume or an image as source: then as large as that. A
    /// type with a list of sizes gives its smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Name or id of the volume type; the service's default, or the source's, when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Zeros when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeSource>,
    /// Rules about the volumes beside it, in the same pool, and the hosts that have those
    /// attached: `volume==db*`, `LABEL!=VALUE`, `host==web-*`, `host.LABEL!=VALUE`; with `==~` and
    /// `!=~` they are wishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<String>,
    /// Name or id of a file volume's network; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Who may mount a file volume; when absent, every client of its network reads and writes,
    /// with root squashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<AccessRule>>,
    /// Of a file volume; `strict` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
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
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Give a volume another size, while it is used. Only a file volume becomes smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// The new size; not less than a file volume holds.
    pub size: Size,
}

/// How to delete a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteVolume {
    /// Delete its snapshots too; otherwise a volume that has some is refused.
    #[serde(default)]
    pub cascade: bool,
    /// Cut off the clients that have a file volume mounted; otherwise it is refused. Of a lost one,
    /// attachments end with it, and references become reservations of its name.
    #[serde(default)]
    pub force: bool,
    /// Its node does not answer and is gone for good: forget it at once, without erasing anything.
    /// For admins.
    #[serde(default)]
    pub lost: bool,
    /// Name or id of another project than the token's own; for admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
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
    /// Cut off the clients that have a file volume mounted; otherwise it is refused.
    #[serde(default)]
    pub force: bool,
}

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackupQuery {
    /// Name or id of one of the volume's snapshots; the tree as it is when absent, which changes
    /// under the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// How an archive becomes a volume's tree.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RestoreQuery {
    /// Leave access control lists out, and set modes such that nobody may more than with them.
    /// Without this, one that cannot be kept is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_acls: bool,
}

/// Write a volume's content to a new image file on the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportVolume {
    /// Absolute path on the node; must not exist.
    pub path: String,
    pub format: ImageFormat,
}

/// Where a volume is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum VolumeStatus {
    Creating,
    Available,
    Attaching,
    InUse,
    Detaching,
    Extending,
    Shrinking,
    Reverting,
    Exporting,
    Moving,
    Deleting,
    Error,
}

/// Where a volume's first content came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// Zeros.
    Blank,
    /// A snapshot, which cannot be deleted before the clone.
    Snapshot {
        #[schema(value_type = Uuid)]
        volume_id: VolumeId,
        #[schema(value_type = Uuid)]
        snapshot_id: SnapshotId,
    },
    /// A volume as it was then.
    Volume {
        #[schema(value_type = Uuid)]
        volume_id: VolumeId,
    },
    /// An image file.
    Image { path: String },
}

impl From<model::volume::Origin> for Origin {
    fn from(origin: model::volume::Origin) -> Self {
        use model::volume::Origin as From;
        match origin {
            From::Blank => Self::Blank,
            From::Snapshot { volume, snapshot } => {
                Self::Snapshot { volume_id: volume, snapshot_id: snapshot }
            }
            From::Volume { volume, .. } => Self::Volume { volume_id: volume },
            From::Image { path } => Self::Image { path },
        }
    }
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    #[schema(value_type = Uuid)]
    pub id: VolumeId,
    pub name: String,
    pub kind: VolumeKind,
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
    pub pool: String,
    /// Why it lies there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub placed: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<String>,
    #[schema(value_type = VolumeStatus)]
    pub status: String,
    /// The size that it is getting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resizing_to_bytes: Option<u64>,
    /// Why the last piece of work on it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    #[schema(value_type = Vec<Uuid>)]
    pub attachments: Vec<AttachmentId>,
    pub origin: Origin,
    /// The long work that runs on it: an import or an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub operation_id: Option<OperationId>,
    /// Of a file volume, as all that follows down to `references`: its network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `nfs://host[:port]/path`; absent until the node serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// What the tree holds. As all figures of the node: not in lists, and absent while the node
    /// cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_inodes: Option<u64>,
    /// Absent, too, where the file system below has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_inodes: Option<u64>,
    /// Who has it mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ConnectedClient>,
    /// What uses it, kind and name; not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: jiff::Timestamp,
}

/// What people want to see beside a volume's own record.
#[derive(Clone, Debug)]
pub struct Beside {
    pub type_name: String,
    pub pool_name: String,
    pub multiattach: bool,
    pub attachments: Vec<AttachmentId>,
    pub operation: Option<OperationId>,
    /// Of a file volume.
    pub network: Option<String>,
    pub resource: Option<String>,
    pub usage: Option<model::export::FileUsage>,
    pub clients: Vec<model::export::ConnectedClient>,
    pub references: Vec<String>,
}

impl Volume {
    /// The view of a volume.
    #[must_use]
    pub fn new(volume: model::volume::Volume, beside: Beside) -> Self {
        let kind = volume.kind().into();
        let durability = volume.export.as_ref().map(|export| export.durability.into());
        let usage = beside.usage;
        Self {
            id: volume.id,
            name: volume.name,
            kind,
            description: volume.description,
            project_id: volume.project,
            size_bytes: volume.size.bytes(),
            volume_type_id: volume.volume_type,
            volume_type: beside.type_name,
            multiattach: beside.multiattach,
            pool_id: volume.pool,
            pool: beside.pool_name,
            placed: volume.placed,
            affinity: volume.affinity.iter().map(ToString::to_string).collect(),
            status: volume.status.word().to_owned(),
            resizing_to_bytes: match volume.status {
                model::volume::VolumeStatus::Extending { to }
                | model::volume::VolumeStatus::Shrinking { to } => Some(to.bytes()),
                _ => None,
            },
            fault: volume.fault,
            attachments: beside.attachments,
            origin: volume.origin.into(),
            operation_id: beside.operation,
            network: beside.network,
            resource: beside.resource,
            durability,
            used_bytes: usage.map(|usage| usage.used_bytes),
            available_bytes: usage.map(|usage| usage.available_bytes),
            used_inodes: usage.map(|usage| usage.used_inodes),
            available_inodes: usage.and_then(|usage| usage.available_inodes),
            clients: beside.clients.into_iter().map(Into::into).collect(),
            references: beside.references,
            metadata: volume.metadata,
            created_at: crate::timestamp_ms(volume.created_ms),
        }
    }
}

list_query! {
    /// Which volumes.
    VolumeQuery -> Volume, "v1/volumes", {
        /// Only those with this name.
        name: String,
        /// Only those of this kind.
        kind: VolumeKind,
        /// Only those with this status.
        status: String,
        /// Only those of this type, by name or id.
        volume_type: String,
    }
}
