//! Volume types and their grants.

use api::Page;
use api::volume_type::{
    CreateGrant, CreateVolumeType, Grant, GrantQuery, UpdateVolumeType, VolumeType, VolumeTypeQuery,
};
use axum::extract::State;
use axum::http::StatusCode;
use control::{GrantCreate, GrantView, VolumeTypeCreate, VolumeTypeFilter, VolumeTypeUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(volume_type_create, volume_type_list))
        .routes(routes!(volume_type_show, volume_type_update, volume_type_delete))
        .routes(routes!(grant_create, grant_list))
        .routes(routes!(grant_delete))
}

/// Make a volume type. For admins.
#[utoipa::path(
    post, path = "/v1/volume-types", tag = "volume type",
    responses((status = 201, description = "Made", body = VolumeType), Refusals)
)]
async fn volume_type_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateVolumeType>,
) -> Answer<VolumeType> {
    let new = VolumeTypeCreate {
        name: new.name,
        description: new.description.unwrap_or_default(),
        kind: new.kind.into(),
        class: new.class,
        multiattach: new.multiattach,
        public: new.public,
        max_size: new.max_size.map(Into::into),
        sizes: sizes(new.sizes).unwrap_or_default(),
        pools: new.pools.unwrap_or_default(),
    };
    created(app.control.volume_type_create(&signed.caller, new).await?.into())
}

/// The volume types that the caller may use.
#[utoipa::path(
    get, path = "/v1/volume-types", tag = "volume type", params(VolumeTypeQuery),
    responses((status = 200, description = "A page", body = Page<VolumeType>), Refusals)
)]
async fn volume_type_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<VolumeTypeQuery>,
) -> Answer<Page<VolumeType>> {
    let filter = VolumeTypeFilter { name: query.name, paging: paging(query.limit, query.marker) };
    page(app.control.volume_type_list(&signed.caller, &filter).await?, VolumeType::from)
}

/// One volume type.
#[utoipa::path(
    get, path = "/v1/volume-types/{volume_type}", tag = "volume type",
    responses((status = 200, description = "The type", body = VolumeType), Refusals)
)]
async fn volume_type_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume_type): Path<String>,
) -> Answer<VolumeType> {
    found(app.control.volume_type_get(&signed.caller, &volume_type).await?.into())
}

/// Change a volume type. A type in use cannot change what it promises. For admins.
#[utoipa::path(
    patch, path = "/v1/volume-types/{volume_type}", tag = "volume type",
    responses((status = 200, description = "Changed", body = VolumeType), Refusals)
)]
async fn volume_type_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume_type): Path<String>,
    Json(change): Json<UpdateVolumeType>,
) -> Answer<VolumeType> {
    let change = VolumeTypeUpdate {
        name: change.name,
        description: change.description,
        class: change.class,
        multiattach: change.multiattach,
        public: change.public,
        max_size: change.max_size.map(Into::into),
        sizes: sizes(change.sizes),
        pools: change.pools,
    };
    found(app.control.volume_type_update(&signed.caller, &volume_type, change).await?.into())
}

/// Delete a volume type that no volume has. For admins.
#[utoipa::path(
    delete, path = "/v1/volume-types/{volume_type}", tag = "volume type",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn volume_type_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume_type): Path<String>,
) -> Empty {
    app.control.volume_type_delete(&signed.caller, &volume_type).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a project use a private type. For admins.
#[utoipa::path(
    post, path = "/v1/volume-types/{volume_type}/grants", tag = "volume type",
    responses((status = 201, description = "Granted", body = Grant), Refusals)
)]
async fn grant_create(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume_type): Path<String>,
    Json(new): Json<CreateGrant>,
) -> Answer<Grant> {
    let new =
        GrantCreate { project: new.project, acknowledge_data_loss: new.acknowledge_data_loss };
    created(grant(app.control.volume_type_grant(&signed.caller, &volume_type, new).await?))
}

/// Who may use a private type. For admins.
#[utoipa::path(
    get, path = "/v1/volume-types/{volume_type}/grants", tag = "volume type", params(GrantQuery),
    responses((status = 200, description = "A page", body = Page<Grant>), Refusals)
)]
async fn grant_list(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume_type): Path<String>,
    Query(query): Query<GrantQuery>,
) -> Answer<Page<Grant>> {
    let paging = paging(query.limit, query.marker);
    page(app.control.volume_type_grants(&signed.caller, &volume_type, &paging).await?, grant)
}

/// Take a grant back. For admins.
#[utoipa::path(
    delete, path = "/v1/volume-types/{volume_type}/grants/{project}", tag = "volume type",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn grant_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path((volume_type, project)): Path<(String, String)>,
) -> Empty {
    app.control.volume_type_revoke(&signed.caller, &volume_type, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn grant(found: GrantView) -> Grant {
    Grant::new(found.grant, found.project_name)
}

fn sizes(given: Option<Vec<api::Size>>) -> Option<Vec<model::size::ByteSize>> {
    given.map(|sizes| sizes.into_iter().map(Into::into).collect())
}
