//! Users.

use api::Page;
use api::user::{CreateUser, UpdateUser, User, UserQuery};
use axum::extract::State;
use axum::http::StatusCode;
use control::{UserCreate, UserFilter, UserUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(user_create, user_list)).routes(routes!(
        user_show,
        user_update,
        user_delete
    ))
}

/// Make a user. For admins.
#[utoipa::path(
    post, path = "/v1/users", tag = "user",
    responses((status = 201, description = "Made", body = User), Refusals)
)]
async fn user_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateUser>,
) -> Answer<User> {
    let new = UserCreate { name: new.name, project: new.project, role: new.role.into() };
    created(app.control.user_create(&signed.caller, new).await?.into())
}

/// The users that the caller may see.
#[utoipa::path(
    get, path = "/v1/users", tag = "user", params(UserQuery),
    responses((status = 200, description = "A page", body = Page<User>), Refusals)
)]
async fn user_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<UserQuery>,
) -> Answer<Page<User>> {
    let filter = UserFilter {
        name: query.name,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.user_list(&signed.caller, &filter).await?, User::from)
}

/// One user.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "user",
    responses((status = 200, description = "The user", body = User), Refusals)
)]
async fn user_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(user): Path<String>,
) -> Answer<User> {
    found(app.control.user_get(&signed.caller, &user).await?.into())
}

/// Change a user. For admins.
#[utoipa::path(
    patch, path = "/v1/users/{user}", tag = "user",
    responses((status = 200, description = "Changed", body = User), Refusals)
)]
async fn user_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(user): Path<String>,
    Json(change): Json<UpdateUser>,
) -> Answer<User> {
    let change = UserUpdate { name: change.name, role: change.role.map(Into::into) };
    found(app.control.user_update(&signed.caller, &user, change).await?.into())
}

/// Delete a user, with all tokens. For admins.
#[utoipa::path(
    delete, path = "/v1/users/{user}", tag = "user",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn user_delete(State(app): State<Shared>, signed: Signed, Path(user): Path<String>) -> Empty {
    app.control.user_delete(&signed.caller, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
