//! References.

use api::Page;
use api::reference::{CreateReference, Reference, ReferenceQuery};
use axum::extract::State;
use axum::http::StatusCode;
use control::{ReferenceCreate, ReferenceFilter, ReferenceView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(reference_create, reference_list))
        .routes(routes!(reference_show, reference_delete))
}

/// Note a use of a file volume, or reserve the name of one. Sent again, it says that the user is
/// still there.
#[utoipa::path(
    post, path = "/v1/references", tag = "reference",
    responses((status = 201, description = "Noted", body = Reference), Refusals)
)]
async fn reference_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateReference>,
) -> Answer<Reference> {
    let new = ReferenceCreate {
        volume: new.volume,
        name: new.name,
        kind: new.kind.into(),
        project: signed.project,
    };
    created(view(app.control.reference_create(&signed.caller, new).await?))
}

/// The references that the caller may see.
#[utoipa::path(
    get, path = "/v1/references", tag = "reference", params(ReferenceQuery),
    responses((status = 200, description = "A page", body = Page<Reference>), Refusals)
)]
async fn reference_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<ReferenceQuery>,
) -> Answer<Page<Reference>> {
    let filter = ReferenceFilter {
        name: query.name,
        volume: query.volume,
        kind: query.kind.map(Into::into),
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.reference_list(&signed.caller, &filter).await?, view)
}

/// One reference.
#[utoipa::path(
    get, path = "/v1/references/{reference}", tag = "reference",
    responses((status = 200, description = "The reference", body = Reference), Refusals)
)]
async fn reference_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(reference): Path<String>,
) -> Answer<Reference> {
    found(view(app.control.reference_get(&signed.caller, &reference).await?))
}

/// Note that a use has ended; one that is not there has ended already.
#[utoipa::path(
    delete, path = "/v1/references/{reference}", tag = "reference",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn reference_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(reference): Path<String>,
) -> Empty {
    app.control.reference_delete(&signed.caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(found: ReferenceView) -> Reference {
    Reference::new(found.reference, found.age_ms, found.last_seen_age_ms)
}
