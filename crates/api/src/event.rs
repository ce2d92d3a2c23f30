//! Events: the audit trail.

use model::id::{EventId, ProjectId, UserId};
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
    /// The user's name then; `system` or `node` when no user did it.
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub actor_id: Option<UserId>,
    /// The address that the request came from; empty for the system.
    pub from: String,
    /// `resource.verb`, for example `attachment.fence`.
    pub action: String,
    /// The kind of the resource, for example `volume`.
    pub resource: String,
    pub resource_id: uuid::Uuid,
    /// The resource's name then.
    pub resource_name: String,
    /// `accepted` (a later event says how it ended), `done`, `refused`, `failed`.
    pub result: String,
    /// More, as a sentence.
    pub detail: String,
}

impl From<model::event::Event> for Event {
    fn from(event: model::event::Event) -> Self {
        Self {
            id: event.id,
            at: crate::timestamp_ms(event.at_ms),
            project_id: event.project,
            actor: event.actor_name,
            actor_id: event.actor,
            from: event.from,
            action: event.action,
            resource: event.resource.word().to_owned(),
            resource_id: event.resource_id,
            resource_name: event.resource_name,
            result: event.result.word().to_owned(),
            detail: event.detail,
        }
    }
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
        resource_id: uuid::Uuid,
        /// Only those at or after this moment.
        since: jiff::Timestamp,
        /// Only those before this moment.
        until: jiff::Timestamp,
    }
}
