//! Networks.

use api::Page;
use api::network::{CreateNetwork, Network, NetworkQuery, UpdateNetwork};
use axum::extract::State;
use axum::http::StatusCode;
use control::{NetworkCreate, NetworkFilter, NetworkUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(network_create, network_list)).routes(routes!(
        network_show,
        network_update,
        network_delete
    ))
}

/// Make a network. For admins.
#[utoipa::path(
    post, path = "/v1/networks", tag = "network",
    responses((status = 201, description = "Made", body = Network), Refusals)
)]
async fn network_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateNetwork>,
) -> Answer<Network> {
    let new = NetworkCreate {
        name: new.name,
        description: new.description.unwrap_or_default(),
        clients: new.clients,
        portals: new.portals,
    };
    created(app.control.network_create(&signed.caller, new).await?.into())
}

/// The networks.
#[utoipa::path(
    get, path = "/v1/networks", tag = "network", params(NetworkQuery),
    responses((status = 200, description = "A page", body = Page<Network>), Refusals)
)]
async fn network_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<NetworkQuery>,
) -> Answer<Page<Network>> {
    let filter = NetworkFilter { name: query.name, paging: paging(query.limit, query.marker) };
    page(app.control.network_list(&signed.caller, &filter).await?, Network::from)
}

/// One network.
#[utoipa::path(
    get, path = "/v1/networks/{network}", tag = "network",
    responses((status = 200, description = "The network", body = Network), Refusals)
)]
async fn network_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(network): Path<String>,
) -> Answer<Network> {
    found(app.control.network_get(&signed.caller, &network).await?.into())
}

/// Change a network, while its volumes are mounted. For admins.
#[utoipa::path(
    patch, path = "/v1/networks/{network}", tag = "network",
    responses((status = 200, description = "Changed", body = Network), Refusals)
)]
async fn network_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(network): Path<String>,
    Json(change): Json<UpdateNetwork>,
) -> Answer<Network> {
    let change = NetworkUpdate {
        name: change.name,
        description: change.description,
        clients: change.clients,
        portals: change.portals,
    };
    found(app.control.network_update(&signed.caller, &network, change).await?.into())
}

/// Delete a network that no volume is on. For admins.
#[utoipa::path(
    delete, path = "/v1/networks/{network}", tag = "network",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn network_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(network): Path<String>,
) -> Empty {
    app.control.network_delete(&signed.caller, &network).await?;
    Ok(StatusCode::NO_CONTENT)
}
