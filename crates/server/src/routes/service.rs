//! The service itself: health, metrics, and who the caller is.

use api::node::Health;
use api::user::WhoAmI;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use control::{Caller, Paging, ProjectFilter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, found};
use crate::Shared;
use crate::auth::Signed;
use crate::metrics::content_type;
use crate::refusal::Refusal;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(metrics)).routes(routes!(whoami))
}

/// Is the service well? Needs no token.
#[utoipa::path(
    get, path = "/health", tag = "service",
    responses((status = 200, description = "It is", body = Health),
              (status = 503, description = "The catalog does not answer", body = api::ErrorBody))
)]
async fn health(State(app): State<Shared>) -> Answer<Health> {
    let one = Paging { limit: Some(1), marker: None };
    let filter = ProjectFilter { paging: one, ..ProjectFilter::default() };
    app.control.project_list(&Caller::system(), &filter).await.map_err(|error| {
        tracing::error!(%error, "the catalog does not answer");
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "catalog_failed",
            "the catalog does not answer",
            "Look at the daemon's log and its disk.",
        )
    })?;
    found(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// The metrics in the OpenMetrics text format. Needs no token: no secret is in it, but ids of
/// volumes and names of hosts and nodes.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, description = "OpenMetrics text", body = String,
               content_type = "application/openmetrics-text"))
)]
async fn metrics(State(app): State<Shared>) -> Result<Response, Refusal> {
    // A catalog that does not answer is no reason to say nothing at all.
    let nodes = app.control.nodes_heard().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "which nodes there are could not be read");
        Vec::new()
    });
    let text = app.metrics.text(&nodes).map_err(|_| Refusal::internal())?;
    Ok((content_type(), text).into_response())
}

/// Who the token stands for.
#[utoipa::path(
    get, path = "/v1/whoami", tag = "user",
    responses((status = 200, description = "The caller", body = WhoAmI), Refusals)
)]
async fn whoami(State(app): State<Shared>, signed: Signed) -> Answer<WhoAmI> {
    let Signed { caller, .. } = signed;
    let project_name = match caller.project {
        Some(id) => Some(app.control.project_get(&caller, &id.to_string()).await?.project.name),
        None => None,
    };
    found(WhoAmI {
        user_id: caller.user.ok_or_else(Refusal::internal)?,
        user_name: caller.user_name,
        project_id: caller.project,
        project_name,
        role: caller.role.into(),
    })
}
