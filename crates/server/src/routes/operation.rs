//! Operations.

use api::Page;
use api::operation::{Operation, OperationQuery};
use axum::extract::State;
use control::OperationFilter;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, accepted, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(operation_list))
        .routes(routes!(operation_show))
        .routes(routes!(operation_cancel))
}

/// The operations that the caller may see.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operation", params(OperationQuery),
    responses((status = 200, description = "A page", body = Page<Operation>), Refusals)
)]
async fn operation_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<OperationQuery>,
) -> Answer<Page<Operation>> {
    let filter = OperationFilter {
        state: query.state,
        volume: query.volume,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.operation_list(&signed.caller, &filter).await?, Operation::from)
}

/// One operation, with its progress.
#[utoipa::path(
    get, path = "/v1/operations/{operation}", tag = "operation",
    responses((status = 200, description = "The operation", body = Operation), Refusals)
)]
async fn operation_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(operation): Path<String>,
) -> Answer<Operation> {
    found(app.control.operation_get(&signed.caller, &operation).await?.into())
}

/// Ask for the end of an operation.
#[utoipa::path(
    post, path = "/v1/operations/{operation}/cancel", tag = "operation",
    responses((status = 202, description = "Asked", body = Operation), Refusals)
)]
async fn operation_cancel(
    State(app): State<Shared>,
    signed: Signed,
    Path(operation): Path<String>,
) -> Answer<Operation> {
    accepted(app.control.operation_cancel(&signed.caller, &operation).await?.into())
}
