//! Volume type: what may be asked for.

use serde::{Deserialize, Serialize};

use crate::id::{PoolId, ProjectId, VolumeTypeId};
use crate::size::ByteSize;
use crate::volume::VolumeKind;

/// What a volume of this type promises. The name is unique.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeType {
    pub id: VolumeTypeId,
    pub name: String,
    pub description: String,
    #[serde(default)]
    pub kind: VolumeKind,
    /// Class of the pools that serve it, for example `ssd`.
    pub class: String,
    /// May several hosts write at once?
    pub multiattach: bool,
    /// Usable by every project; a private type is granted per project.
    pub public: bool,
    /// The largest volume of this type.
    pub max_size: Option<ByteSize>,
    /// The only sizes that there are, ascending; empty is any size.
    #[serde(default)]
    pub sizes: Vec<ByteSize>,
    /// The only pools that serve it; empty is every pool of the class.
    pub pools: Vec<PoolId>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// The sizes of packages: 10 to 100 GiB by 10, then 200 to 1000 GiB by 100.
#[must_use]
pub fn package_sizes() -> Vec<ByteSize> {
    let small = (10..=100).step_by(10);
    small.chain((200..=1000).step_by(100)).map(ByteSize::gib).collect()
}

/// A private type granted to a project, and who answered for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    pub volume_type: VolumeTypeId,
    pub project: ProjectId,
    /// Name of the user who acknowledged the data-loss warning; asked for by multi-attach types.
    pub acknowledged_by: Option<String>,
    /// The warning as it was acknowledged.
    pub warning: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub granted_ms: u64,
}

/// What whoever grants a multi-attach type acknowledges.
pub const DATA_LOSS_WARNING: &str = "Several hosts may write to one volume of this type at the \
same time. An ordinary file system (ext4, XFS, NTFS, ...) mounted read-write by two hosts is \
destroyed without a warning. Use a cluster file system, or software that coordinates through \
reservations.";
