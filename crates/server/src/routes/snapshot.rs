//! Snapshots.

use api::Page;
use api::snapshot::{CreateSnapshot, Snapshot, SnapshotQuery, UpdateSnapshot};
use axum::extract::State;
use control::{SnapshotCreate, SnapshotFilter, SnapshotUpdate, SnapshotView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, accepted, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(snapshot_create, snapshot_list)).routes(routes!(
        snapshot_show,
        snapshot_update,
        snapshot_delete
    ))
}

/// Take a snapshot; crash consistent across all writers of the volume.
#[utoipa::path(
    post, path = "/v1/snapshots", tag = "snapshot",
    responses((status = 202, description = "Creating", body = Snapshot), Refusals)
)]
async fn snapshot_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateSnapshot>,
) -> Answer<Snapshot> {
    let new = SnapshotCreate {
        volume: new.volume,
        name: new.name,
        description: new.description.unwrap_or_default(),
        metadata: new.metadata,
    };
    accepted(view(app.control.snapshot_create(&signed.caller, new).await?))
}

/// The snapshots that the caller may see.
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshot", params(SnapshotQuery),
    responses((status = 200, description = "A page", body = Page<Snapshot>), Refusals)
)]
async fn snapshot_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<SnapshotQuery>,
) -> Answer<Page<Snapshot>> {
    let filter = SnapshotFilter {
        name: query.name,
        volume: query.volume,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.snapshot_list(&signed.caller, &filter).await?, view)
}

/// One snapshot.
#[utoipa::path(
    get, path = "/v1/snapshots/{snapshot}", tag = "snapshot",
    responses((status = 200, description = "The snapshot", body = Snapshot), Refusals)
)]
async fn snapshot_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(snapshot): Path<String>,
) -> Answer<Snapshot> {
    found(view(app.control.snapshot_get(&signed.caller, &snapshot).await?))
}

/// Change a snapshot's name, description or metadata.
#[utoipa::path(
    patch, path = "/v1/snapshots/{snapshot}", tag = "snapshot",
    responses((status = 200, description = "Changed", body = Snapshot), Refusals)
)]
async fn snapshot_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(snapshot): Path<String>,
    Json(change): Json<UpdateSnapshot>,
) -> Answer<Snapshot> {
    let change = SnapshotUpdate {
        name: change.name,
        description: change.description,
        metadata: change.metadata,
    };
    found(view(app.control.snapshot_update(&signed.caller, &snapshot, change).await?))
}

/// Delete a snapshot; its bytes are merged in the background. Refused while clones depend on it.
#[utoipa::path(
    delete, path = "/v1/snapshots/{snapshot}", tag = "snapshot",
    responses((status = 202, description = "Deleting", body = Snapshot), Refusals)
)]
async fn snapshot_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(snapshot): Path<String>,
) -> Answer<Snapshot> {
    accepted(view(app.control.snapshot_delete(&signed.caller, &snapshot).await?))
}

fn view(found: SnapshotView) -> Snapshot {
    let held = found.held.map(|held| held.bytes());
    Snapshot::new(found.snapshot, found.volume_name, held)
}
