//! Events: the audit trail.

use model::id::{EventId, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Who did what, when, from where, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    #[schema(value_type = Uuid)]
    pub id: EventId,
    pub at: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub project_id: Option<ProjectId>,
    /// The user, or `node`, or `system`.
    pub actor: String,
    /// The address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For example `volume.create`, `attachment.fence`.
    pub action: String,
    /// The resource's word, for example `volume`.
    pub resource: String,
    /// The resource's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// `ok`, or the code of the refusal.
    pub result: String,
    /// More, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

list_query! {
    /// Which events, newest first.
    EventQuery -> Event, "v1/events", {
        /// Only those with this action.
        action: String,
        /// Only those by this actor.
        actor: String,
        /// Only those on this kind of resource.
        resource: String,
        /// Only those on the resource with this id.
        resource_id: String,
        /// Only those at or after this moment.
        since: jiff::Timestamp,
        /// Only those before this moment.
        until: jiff::Timestamp,
    }
}
