//! Event: one line of the audit trail.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{EventId, ProjectId, UserId};

/// The kinds of resource that events and errors speak of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    Project,
    User,
    Token,
    VolumeType,
    Pool,
    Volume,
    Snapshot,
    Host,
    Attachment,
    Network,
    Reference,
    Schedule,
    Group,
    Node,
    Operation,
    Event,
    /// A login that no attachment answers for.
    Target,
}

impl ResourceKind {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::User => "user",
            Self::Token => "token",
            Self::VolumeType => "volume_type",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Host => "host",
            Self::Attachment => "attachment",
            Self::Network => "network",
            Self::Reference => "reference",
            Self::Schedule => "schedule",
            Self::Group => "group",
            Self::Node => "node",
            Self::Operation => "operation",
            Self::Event => "event",
            Self::Target => "target",
        }
    }
    /// The word in a sentence.
    #[must_use]
    pub const fn spoken(self) -> &'static str {
        match self {
            Self::VolumeType => "volume type",
            other => other.word(),
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventResult {
    /// Asked for and recorded; a later event says how it ended.
    Accepted,
    Done,
    Refused,
    Failed,
}

impl EventResult {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Who, what, when, from where, result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `None` when the system itself, or a node, did it.
    pub actor: Option<UserId>,
    /// The actor's name then; `system` or `node` without a user.
    pub actor_name: String,
    /// Address that the request came from; empty for the system.
    pub from: String,
    /// `None` for what belongs to no project.
    pub project: Option<ProjectId>,
    pub resource: ResourceKind,
    pub resource_id: Uuid,
    /// The resource's name then.
    pub resource_name: String,
    /// `resource.verb`, for example `attachment.fence`.
    pub action: String,
    pub result: EventResult,
    /// A sentence.
    pub detail: String,
}
