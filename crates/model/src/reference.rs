//! Reference: a named use of a file volume, which keeps it from being deleted.
//!
//! A reference names its volume, and may do so before there is one of that name: then it is a
//! reservation, and holds as soon as the volume is made.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, ReferenceId, VolumeId};

/// What uses the volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    Container,
    Instance,
    Mount,
}

impl ReferenceKind {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Instance => "instance",
            Self::Mount => "mount",
        }
    }
}

/// A reference. Name and kind are unique among those of one volume name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reference {
    pub id: ReferenceId,
    pub project: ProjectId,
    /// The user of the volume: a container's id, an instance's name, a mount point.
    pub name: String,
    pub kind: ReferenceKind,
    /// The name of the volume that is used or will be.
    pub volume_name: String,
    /// `None` while there is no volume of that name.
    pub volume: Option<VolumeId>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When its holder last said that it is there: milliseconds since the Unix epoch.
    pub last_seen_ms: u64,
}
