//! Hosts.

use api::Page;
use api::host::{CreateHost, Host, HostQuery, UpdateHost};
use axum::extract::State;
use axum::http::StatusCode;
use control::{HostCreate, HostFilter, HostUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent::host as view;
use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(host_create, host_list)).routes(routes!(
        host_show,
        host_update,
        host_delete
    ))
}

/// Make a host known.
#[utoipa::path(
    post, path = "/v1/hosts", tag = "host",
    responses((status = 201, description = "Made", body = Host), Refusals)
)]
async fn host_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateHost>,
) -> Answer<Host> {
    let new = HostCreate {
        name: new.name,
        initiators: new.initiators,
        addresses: new.addresses,
        metadata: new.metadata,
        project: signed.project,
    };
    created(Host::new(app.control.host_create(&signed.caller, new).await?, None))
}

/// The hosts that the caller may see.
#[utoipa::path(
    get, path = "/v1/hosts", tag = "host", params(HostQuery),
    responses((status = 200, description = "A page", body = Page<Host>), Refusals)
)]
async fn host_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<HostQuery>,
) -> Answer<Page<Host>> {
    let filter = HostFilter {
        name: query.name,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.host_list(&signed.caller, &filter).await?, view)
}

/// One host.
#[utoipa::path(
    get, path = "/v1/hosts/{host}", tag = "host",
    responses((status = 200, description = "The host", body = Host), Refusals)
)]
async fn host_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(host): Path<String>,
) -> Answer<Host> {
    found(view(app.control.host_get(&signed.caller, &host).await?))
}

/// Change a host.
#[utoipa::path(
    patch, path = "/v1/hosts/{host}", tag = "host",
    responses((status = 200, description = "Changed", body = Host), Refusals)
)]
async fn host_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(host): Path<String>,
    Json(change): Json<UpdateHost>,
) -> Answer<Host> {
    let change = HostUpdate {
        name: change.name,
        initiators: change.initiators,
        addresses: change.addresses,
        metadata: change.metadata,
    };
    found(view(app.control.host_update(&signed.caller, &host, change).await?))
}

/// Forget a host that no volume is attached to.
#[utoipa::path(
    delete, path = "/v1/hosts/{host}", tag = "host",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn host_delete(State(app): State<Shared>, signed: Signed, Path(host): Path<String>) -> Empty {
    app.control.host_delete(&signed.caller, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}
