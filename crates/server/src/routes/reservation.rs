//! Persistent reservations of a volume.

use api::reservation::Reservations;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, found};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::Path;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(volume_reservations, volume_reservations_clear))
}

/// Registrants, holder, type, generation and history.
#[utoipa::path(
    get, path = "/v1/volumes/{volume}/reservations", tag = "volume",
    responses((status = 200, description = "The state", body = Reservations), Refusals)
)]
async fn volume_reservations(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
) -> Answer<Reservations> {
    found(app.control.volume_reservations(&signed.caller, &volume).await?.into())
}

/// Operator's clear of all reservations and registrations. Recorded.
#[utoipa::path(
    delete, path = "/v1/volumes/{volume}/reservations", tag = "volume",
    responses((status = 204, description = "Cleared"), Refusals)
)]
async fn volume_reservations_clear(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
) -> Empty {
    app.control.volume_reservations_clear(&signed.caller, &volume).await?;
    Ok(StatusCode::NO_CONTENT)
}
