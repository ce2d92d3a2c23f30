//! Volume: what we provide.
//!
//! ```text
//!                                 first host asked for
//!  (create) --> creating --> available -----------> attaching
//!                  |          ^  ^  |                |     ^
//!                  | cannot   |  |  | last host   it |     | that one left, another is
//!                  v          |  |  | has gone   is in     | still on its way in
//!                error        |  |  |                v     |
//!                  |          |  |  +-- detaching <- in-use
//!                  |          |  |          ^ all the rest leave
//!                  |          |  +--- reverting, exporting, moving   (only from available)
//!                  |          |
//!                  |          +------ extending              (from any of the four upper words;
//!                  |          |                               back to what the attachments say)
//!                  v          +------ shrinking              (a file volume)
//!               deleting <--- available, error
//!                  |
//!                  +--> (gone); error when the node cannot; available when clients of a file
//!                       volume hold it
//! ```
//!
//! `available`, `attaching`, `in-use` and `detaching` are never chosen: they say what the
//! volume's attachments are ([`VolumeStatus::settled`]), in the same transaction.

use serde::{Deserialize, Serialize};

use crate::attachment::AttachmentState;
use crate::export::Export;
use crate::id::{OperationId, PoolId, ProjectId, SnapshotId, VolumeId, VolumeTypeId};
use crate::placement::Rule;
use crate::size::ByteSize;
use crate::text::Metadata;

/// Sizes are multiples of this; what is asked for is rounded up to it.
pub const SIZE_STEP: ByteSize = ByteSize(1 << 20);
/// The largest volume.
pub const SIZE_MAX: ByteSize = ByteSize(64 << 40);

/// Why a size is not one a volume can have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VolumeSizeError {
    #[error("a volume of size 0 holds nothing")]
    Zero,
    #[error("{0} is more than the largest volume, {SIZE_MAX}")]
    TooLarge(ByteSize),
}

/// The size that a volume gets when this one is asked for: rounded up to 1 MiB.
///
/// # Errors
/// Zero, or more than 64 TiB.
pub fn size(asked: ByteSize) -> Result<ByteSize, VolumeSizeError> {
    if asked.0 == 0 {
        return Err(VolumeSizeError::Zero);
    }
    if asked > SIZE_MAX {
        return Err(VolumeSizeError::TooLarge(asked));
    }
    Ok(ByteSize(asked.0.div_ceil(SIZE_STEP.0) * SIZE_STEP.0))
}

/// What a volume is to its users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// A block device, reached over iSCSI.
    #[default]
    Block,
    /// A file tree, reached over NFS.
    File,
}

impl VolumeKind {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::File => "file",
        }
    }
}

/// Where a volume is in its life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum VolumeStatus {
    /// The node is making it; with an import operation, filling it from an image.
    Creating { import: Option<OperationId> },
    /// No host has it.
    Available,
    /// Hosts are on their way in, none is in yet.
    Attaching,
    /// At least one host has it.
    InUse,
    /// The last hosts are on their way out.
    Detaching,
    /// Growing, attached or not.
    Extending { to: ByteSize },
    /// Becoming smaller, exported or not: a file volume.
    Shrinking { to: ByteSize },
    /// Its content is becoming a snapshot's.
    Reverting { to: SnapshotId },
    /// A file volume on its way to a pool of another node; clients wait.
    Moving { to: PoolId, operation: OperationId },
    /// Its content is being written to an image file.
    Exporting { operation: OperationId },
    /// It is going away.
    Deleting,
    /// It could not be made or removed; `fault` says why.
    Error,
}

/// The legal moves, by word.
pub const MOVES: &[(&str, &str)] = &[
    ("creating", "available"),
    ("creating", "error"),
    ("available", "attaching"),
    ("available", "extending"),
    ("available", "reverting"),
    ("available", "exporting"),
    ("available", "deleting"),
    ("attaching", "in-use"),
    ("attaching", "detaching"),
    ("attaching", "available"),
    ("attaching", "extending"),
    ("in-use", "attaching"),
    ("in-use", "detaching"),
    ("in-use", "available"),
    ("in-use", "extending"),
    ("detaching", "attaching"),
    ("detaching", "in-use"),
    ("detaching", "available"),
    ("detaching", "extending"),
    ("extending", "available"),
    ("extending", "attaching"),
    ("extending", "in-use"),
    ("extending", "detaching"),
    ("available", "shrinking"),
    ("shrinking", "available"),
    ("reverting", "available"),
    ("exporting", "available"),
    ("available", "moving"),
    ("moving", "available"),
    ("deleting", "available"),
    ("deleting", "error"),
    ("error", "deleting"),
];

impl VolumeStatus {
    /// The word of the API.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "creating",
            Self::Available => "available",
            Self::Attaching => "attaching",
            Self::InUse => "in-use",
            Self::Detaching => "detaching",
            Self::Extending { .. } => "extending",
            Self::Shrinking { .. } => "shrinking",
            Self::Reverting { .. } => "reverting",
            Self::Moving { .. } => "moving",
            Self::Exporting { .. } => "exporting",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }

    /// Is the move in the list?
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        MOVES.contains(&(self.word(), next.word()))
    }

    /// One of the four words that only say what the attachments are.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Available | Self::Attaching | Self::InUse | Self::Detaching)
    }

    /// May a host be let in now? Growing does not stand in the way.
    #[must_use]
    pub const fn takes_attachments(&self) -> bool {
        self.is_settled() || matches!(self, Self::Extending { .. })
    }

    /// May a snapshot be taken now?
    #[must_use]
    pub const fn takes_snapshots(&self) -> bool {
        self.takes_attachments()
    }

    /// Do clients have it, where it is a file volume?
    #[must_use]
    pub const fn is_exported(&self) -> bool {
        self.is_settled() || matches!(self, Self::Extending { .. } | Self::Shrinking { .. })
    }

    /// What the states of all attachments of a volume make of it.
    #[must_use]
    pub fn settled(attachments: &[AttachmentState]) -> Self {
        let any = |state| attachments.contains(&state);
        if any(AttachmentState::Attached) || any(AttachmentState::Changing) {
            Self::InUse
        } else if any(AttachmentState::Attaching) || any(AttachmentState::Error) {
            // One in error is still wanted in: it is not on its way out.
            Self::Attaching
        } else if attachments.is_empty() {
            Self::Available
        } else {
            Self::Detaching
        }
    }
}

/// Where a volume's first content came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// Zeros.
    Blank,
    /// A snapshot; the clone shares its layers and keeps it from being deleted.
    Snapshot { volume: VolumeId, snapshot: SnapshotId },
    /// A volume, through a snapshot of it that the clone owns and nobody sees.
    Volume { volume: VolumeId, snapshot: SnapshotId },
    /// An image file.
    Image { path: String },
}

impl Origin {
    /// The snapshot whose layers it shares.
    #[must_use]
    pub const fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Self::Snapshot { snapshot, .. } | Self::Volume { snapshot, .. } => Some(*snapshot),
            Self::Blank | Self::Image { .. } => None,
        }
    }
    /// The volume whose layers it shares.
    #[must_use]
    pub const fn volume(&self) -> Option<VolumeId> {
        match self {
            Self::Snapshot { volume, .. } | Self::Volume { volume, .. } => Some(*volume),
            Self::Blank | Self::Image { .. } => None,
        }
    }
}

/// A volume. Names may repeat inside a project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
    pub volume_type: VolumeTypeId,
    pub pool: PoolId,
    pub size: ByteSize,
    pub origin: Origin,
    /// How a file volume is handed out; a block volume has none.
    #[serde(default)]
    pub export: Option<Export>,
    /// What its place was chosen by, and why it lies where it lies.
    #[serde(default)]
    pub affinity: Vec<Rule>,
    #[serde(default)]
    pub placed: String,
    /// Pools where a move has left what is to be deleted: copies that nobody serves.
    #[serde(default)]
    pub left_in: Vec<PoolId>,
    pub status: VolumeStatus,
    /// Why the last piece of work on it failed.
    pub fault: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Volume {
    /// Block device or file tree.
    #[must_use]
    pub const fn kind(&self) -> VolumeKind {
        if self.export.is_some() { VolumeKind::File } else { VolumeKind::Block }
    }
    /// The size that quotas count: what it has, or what it is growing to.
    #[must_use]
    pub fn promised(&self) -> ByteSize {
        match self.status {
            VolumeStatus::Extending { to } => to.max(self.size),
            _ => self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_and_have_ends() {
        assert_eq!(size(ByteSize(1)), Ok(SIZE_STEP));
        assert_eq!(size(ByteSize((1 << 20) + 1)), Ok(ByteSize(2 << 20)));
        assert_eq!(size(SIZE_MAX), Ok(SIZE_MAX));
        assert_eq!(size(ByteSize(0)), Err(VolumeSizeError::Zero));
        assert_eq!(size(ByteSize(u64::MAX)), Err(VolumeSizeError::TooLarge(ByteSize(u64::MAX))));
    }

    #[test]
    fn the_settled_words_follow_the_attachments() {
        use AttachmentState::{Attached, Attaching, Changing, Detaching, Error, Fencing};
        assert_eq!(VolumeStatus::settled(&[]), VolumeStatus::Available);
        assert_eq!(VolumeStatus::settled(&[Attaching, Detaching]), VolumeStatus::Attaching);
        assert_eq!(VolumeStatus::settled(&[Fencing, Error]), VolumeStatus::Attaching);
        assert_eq!(VolumeStatus::settled(&[Attaching, Attached]), VolumeStatus::InUse);
        assert_eq!(VolumeStatus::settled(&[Detaching, Changing]), VolumeStatus::InUse);
        assert_eq!(VolumeStatus::settled(&[Fencing, Detaching]), VolumeStatus::Detaching);
    }

    #[test]
    fn the_moves_are_those_of_the_picture() {
        let extending = VolumeStatus::Extending { to: SIZE_MAX };
        assert!(VolumeStatus::InUse.may_become(&extending));
        assert!(extending.may_become(&VolumeStatus::InUse));
        assert!(!VolumeStatus::InUse.may_become(&VolumeStatus::Deleting));
        // Clients of a file volume hold it, and it stays; nothing else comes back.
        assert!(VolumeStatus::Deleting.may_become(&VolumeStatus::Available));
        assert!(!VolumeStatus::Deleting.may_become(&VolumeStatus::InUse));
        assert!(VolumeStatus::Error.may_become(&VolumeStatus::Deleting));
    }
}
