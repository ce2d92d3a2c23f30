//! Attachment: one volume made reachable to one host.
//!
//! ```text
//!  (create) -> attaching -> attached -> detaching -> (gone)
//!                |  |        ^ |  |        |  |        ^
//!                |  |        | v  |        |  +-----+  |
//!                |  |     changing|        |        |  |
//!                |  +-- detach / fence ----+        v  |
//!                |             +------------> fencing--+
//!                +-> error ----- detach / fence --^
//!                      |
//!                      +-- asked for again: attaching
//! ```
//!
//! Leaving is never refused by a state: a host must always be able to go, from `changing` too.
//!
//! `changing` is on the way to the other mode. The mode of before stands until the node has said
//! that it enforces the other one, and for the rules the host may write all that time: it may
//! still, or it may already ([`Attachment::may_write`]).

use serde::{Deserialize, Serialize};

use crate::id::{AttachmentId, HostId, ProjectId, VolumeId};
use crate::order::Mode;

/// Where an attachment is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// Wanted; the node has not said yes yet.
    Attaching,
    /// The host may log in.
    Attached,
    /// The host goes over to the other mode; the node has not said yes yet.
    Changing,
    /// The node lets the host's commands end and then closes its sessions.
    Detaching,
    /// The node cuts the host off at once.
    Fencing,
    /// The node cannot let the host in; `fault` says why.
    Error,
}

/// The legal moves; leaving `Detaching` and `Fencing` is the end.
pub const MOVES: &[(AttachmentState, AttachmentState)] = &[
    (AttachmentState::Attaching, AttachmentState::Attached),
    (AttachmentState::Attaching, AttachmentState::Error),
    (AttachmentState::Attaching, AttachmentState::Detaching),
    (AttachmentState::Attaching, AttachmentState::Fencing),
    (AttachmentState::Attached, AttachmentState::Error),
    (AttachmentState::Attached, AttachmentState::Changing),
    (AttachmentState::Changing, AttachmentState::Attached),
    (AttachmentState::Changing, AttachmentState::Detaching),
    (AttachmentState::Changing, AttachmentState::Fencing),
    (AttachmentState::Attached, AttachmentState::Detaching),
    (AttachmentState::Attached, AttachmentState::Fencing),
    (AttachmentState::Detaching, AttachmentState::Fencing),
    (AttachmentState::Error, AttachmentState::Attaching),
    (AttachmentState::Error, AttachmentState::Detaching),
    (AttachmentState::Error, AttachmentState::Fencing),
];

impl AttachmentState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Changing => "changing",
            Self::Detaching => "detaching",
            Self::Fencing => "fencing",
            Self::Error => "error",
        }
    }
    /// The state of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        MOVES.iter().flat_map(|(from, to)| [*from, *to]).find(|state| state.word() == word)
    }
    /// Is the move in the list?
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        MOVES.contains(&(self, next))
    }
    /// On its way out?
    #[must_use]
    pub const fn is_leaving(self) -> bool {
        matches!(self, Self::Detaching | Self::Fencing)
    }
}

/// How the host reaches the volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// iSCSI name of the volume's target.
    pub target: String,
    /// `address:port`, or `[address]:port` for IPv6.
    pub portals: Vec<String>,
    pub lun: u16,
}

/// An attachment, without its secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub id: AttachmentId,
    pub project: ProjectId,
    pub volume: VolumeId,
    pub host: HostId,
    pub mode: Mode,
    pub state: AttachmentState,
    pub fault: Option<String>,
    /// `None` until the node has let the host in.
    pub connection: Option<Connection>,
    /// `None` where the operator switched CHAP off.
    pub chap_user: Option<String>,
    /// Who accepted that data may be lost, where the content is not made for sharing.
    pub data_loss_accepted_by: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Attachment {
    /// The mode that the node is to enforce.
    #[must_use]
    pub fn wanted_mode(&self) -> Mode {
        match (self.state, self.mode) {
            (AttachmentState::Changing, Mode::ReadWrite) => Mode::ReadOnly,
            (AttachmentState::Changing, Mode::ReadOnly) => Mode::ReadWrite,
            (_, mode) => mode,
        }
    }
    /// Does the host count as a writer? Also while it stops or begins to be one.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.mode == Mode::ReadWrite || self.state == AttachmentState::Changing
    }
}
