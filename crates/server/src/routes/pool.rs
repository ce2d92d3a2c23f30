//! Pools.

use api::Page;
use api::pool::{CreatePool, DeletePool, Pool, PoolQuery, UpdatePool};
use axum::extract::State;
use control::{PoolCreate, PoolFilter, PoolUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, accepted, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(pool_create, pool_list)).routes(routes!(
        pool_show,
        pool_update,
        pool_delete
    ))
}

/// Make a pool. For admins.
#[utoipa::path(
    post, path = "/v1/pools", tag = "pool",
    responses((status = 202, description = "Opening", body = Pool), Refusals)
)]
async fn pool_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreatePool>,
) -> Answer<Pool> {
    let new = PoolCreate {
        name: new.name,
        class: new.class,
        node: new.node,
        path: new.path,
        driver: new.driver.into(),
        io: new.io.into(),
        capacity: new.capacity.map(Into::into),
    };
    accepted(app.control.pool_create(&signed.caller, new).await?.into())
}

/// The pools. For admins.
#[utoipa::path(
    get, path = "/v1/pools", tag = "pool", params(PoolQuery),
    responses((status = 200, description = "A page", body = Page<Pool>), Refusals)
)]
async fn pool_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<PoolQuery>,
) -> Answer<Page<Pool>> {
    let filter = PoolFilter {
        name: query.name,
        class: query.class,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.pool_list(&signed.caller, &filter).await?, Pool::from)
}

/// One pool. For admins.
#[utoipa::path(
    get, path = "/v1/pools/{pool}", tag = "pool",
    responses((status = 200, description = "The pool", body = Pool), Refusals)
)]
async fn pool_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(pool): Path<String>,
) -> Answer<Pool> {
    found(app.control.pool_get(&signed.caller, &pool).await?.into())
}

/// Change a pool. For admins.
#[utoipa::path(
    patch, path = "/v1/pools/{pool}", tag = "pool",
    responses((status = 200, description = "Changed", body = Pool), Refusals)
)]
async fn pool_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(pool): Path<String>,
    Json(change): Json<UpdatePool>,
) -> Answer<Pool> {
    let change = PoolUpdate {
        name: change.name,
        class: change.class,
        capacity: change.capacity.map(Into::into),
    };
    found(app.control.pool_update(&signed.caller, &pool, change).await?.into())
}

/// Give up an empty pool; by force, one whose node does not answer is forgotten at once. For admins.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}", tag = "pool", params(DeletePool),
    responses((status = 202, description = "Closing", body = Pool), Refusals)
)]
async fn pool_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(pool): Path<String>,
    Query(how): Query<DeletePool>,
) -> Answer<Pool> {
    accepted(app.control.pool_delete(&signed.caller, &pool, how.force).await?.into())
}
