//! Schedules of snapshots.

use api::Page;
use api::schedule::{CreateSchedule, Schedule, ScheduleQuery, UpdateSchedule};
use axum::extract::State;
use axum::http::StatusCode;
use control::{ScheduleCreate, ScheduleFilter, ScheduleUpdate, ScheduleView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(schedule_create, schedule_list)).routes(routes!(
        schedule_show,
        schedule_update,
        schedule_delete
    ))
}

/// Take snapshots of a volume by the clock, the first one now.
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedule",
    responses((status = 201, description = "It runs", body = Schedule), Refusals)
)]
async fn schedule_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateSchedule>,
) -> Answer<Schedule> {
    let new = ScheduleCreate {
        volume: new.volume,
        name: new.name,
        every_ms: new.every_seconds.saturating_mul(1000),
        keep: new.keep,
    };
    created(view(app.control.schedule_create(&signed.caller, new).await?))
}

/// The schedules that the caller may see.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedule", params(ScheduleQuery),
    responses((status = 200, description = "A page", body = Page<Schedule>), Refusals)
)]
async fn schedule_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<ScheduleQuery>,
) -> Answer<Page<Schedule>> {
    let filter = ScheduleFilter {
        name: query.name,
        volume: query.volume,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.schedule_list(&signed.caller, &filter).await?, view)
}

/// One schedule.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}", tag = "schedule",
    responses((status = 200, description = "The schedule", body = Schedule), Refusals)
)]
async fn schedule_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(schedule): Path<String>,
) -> Answer<Schedule> {
    found(view(app.control.schedule_get(&signed.caller, &schedule).await?))
}

/// Change period or number. Keeping fewer deletes the oldest of its snapshots.
#[utoipa::path(
    patch, path = "/v1/schedules/{schedule}", tag = "schedule",
    responses((status = 200, description = "Changed", body = Schedule), Refusals)
)]
async fn schedule_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(schedule): Path<String>,
    Json(change): Json<UpdateSchedule>,
) -> Answer<Schedule> {
    let change = ScheduleUpdate {
        every_ms: change.every_seconds.map(|seconds| seconds.saturating_mul(1000)),
        keep: change.keep,
    };
    found(view(app.control.schedule_update(&signed.caller, &schedule, change).await?))
}

/// End a schedule. The snapshots that it has taken stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{schedule}", tag = "schedule",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn schedule_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(schedule): Path<String>,
) -> Empty {
    app.control.schedule_delete(&signed.caller, &schedule).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(found: ScheduleView) -> Schedule {
    Schedule::new(found.schedule, found.volume_name)
}
