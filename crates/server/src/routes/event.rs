//! Events.

use api::Page;
use api::event::{Event, EventQuery};
use axum::extract::State;
use control::EventFilter;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(event_list)).routes(routes!(event_show))
}

/// The audit trail, newest first.
#[utoipa::path(
    get, path = "/v1/events", tag = "event", params(EventQuery),
    responses((status = 200, description = "A page", body = Page<Event>), Refusals)
)]
async fn event_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<EventQuery>,
) -> Answer<Page<Event>> {
    // A moment before 1970 is before every event.
    let ms = |at: jiff::Timestamp| u64::try_from(at.as_millisecond()).unwrap_or(0);
    let filter = EventFilter {
        action: query.action,
        actor: query.actor,
        resource: query.resource,
        resource_id: query.resource_id.map(|id| id.to_string()),
        project: signed.project,
        since_ms: query.since.map(ms),
        until_ms: query.until.map(ms),
        paging: paging(query.limit, query.marker),
    };
    page(app.control.event_list(&signed.caller, &filter).await?, Event::from)
}

/// One event.
#[utoipa::path(
    get, path = "/v1/events/{event}", tag = "event",
    responses((status = 200, description = "The event", body = Event), Refusals)
)]
async fn event_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(event): Path<String>,
) -> Answer<Event> {
    found(app.control.event_get(&signed.caller, &event).await?.into())
}
