//! References: named uses of file volumes.

use model::id::{ProjectId, ReferenceId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// What uses the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    Container,
    Instance,
    #[default]
    Mount,
}

impl ReferenceKind {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Instance => "instance",
            Self::Mount => "mount",
        }
    }
}

impl From<ReferenceKind> for model::reference::ReferenceKind {
    fn from(kind: ReferenceKind) -> Self {
        match kind {
            ReferenceKind::Container => Self::Container,
            ReferenceKind::Instance => Self::Instance,
            ReferenceKind::Mount => Self::Mount,
        }
    }
}

impl From<model::reference::ReferenceKind> for ReferenceKind {
    fn from(kind: model::reference::ReferenceKind) -> Self {
        match kind {
            model::reference::ReferenceKind::Container => Self::Container,
            model::reference::ReferenceKind::Instance => Self::Instance,
            model::reference::ReferenceKind::Mount => Self::Mount,
        }
    }
}

/// Note a use of a file volume. May be sent again: each time says that the user is still there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReference {
    /// Name or id of the volume; the name of one that is still to be made reserves it.
    pub volume: String,
    /// A container's id, an instance's name, a mount point.
    pub name: String,
    pub kind: ReferenceKind,
}

/// A reference.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reference {
    #[schema(value_type = Uuid)]
    pub id: ReferenceId,
    pub name: String,
    pub kind: ReferenceKind,
    pub volume_name: String,
    /// Absent while there is no volume of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub volume_id: Option<VolumeId>,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub created_at: jiff::Timestamp,
    pub age_seconds: u64,
    pub last_seen_at: jiff::Timestamp,
    pub last_seen_age_seconds: u64,
}

impl Reference {
    /// The view of a reference of this age.
    #[must_use]
    pub fn new(reference: model::reference::Reference, age_ms: u64, last_seen_age_ms: u64) -> Self {
        Self {
            id: reference.id,
            name: reference.name,
            kind: reference.kind.into(),
            volume_name: reference.volume_name,
            volume_id: reference.volume,
            project_id: reference.project,
            created_at: crate::timestamp_ms(reference.created_ms),
            age_seconds: age_ms / 1000,
            last_seen_at: crate::timestamp_ms(reference.last_seen_ms),
            last_seen_age_seconds: last_seen_age_ms / 1000,
        }
    }
}

list_query! {
    /// Which references.
    ReferenceQuery -> Reference, "v1/references", {
        /// Only those with this name.
        name: String,
        /// Only those of the volume with this name or id.
        volume: String,
        /// Only those of this kind.
        kind: ReferenceKind,
    }
}
