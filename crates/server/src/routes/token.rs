//! Tokens.

use api::Page;
use api::token::{CreateToken, CreatedToken, Token, TokenQuery, UpdateToken};
use axum::extract::State;
use axum::http::StatusCode;
use control::{TokenCreate, TokenFilter, TokenUpdate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(token_create, token_list)).routes(routes!(
        token_show,
        token_update,
        token_delete
    ))
}

/// Make a token. The answer holds the secret, this once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "token",
    responses((status = 201, description = "Made", body = CreatedToken), Refusals)
)]
async fn token_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateToken>,
) -> Answer<CreatedToken> {
    let new = TokenCreate {
        user: new.user,
        description: new.description.unwrap_or_default(),
        expires_in_seconds: new.expires_in_seconds,
    };
    let made = app.control.token_create(&signed.caller, new).await?;
    created(CreatedToken { token: made.token.into(), secret: made.secret })
}

/// The caller's tokens; for admins, everybody's.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "token", params(TokenQuery),
    responses((status = 200, description = "A page", body = Page<Token>), Refusals)
)]
async fn token_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<TokenQuery>,
) -> Answer<Page<Token>> {
    let filter = TokenFilter { user: query.user, paging: paging(query.limit, query.marker) };
    page(app.control.token_list(&signed.caller, &filter).await?, Token::from)
}

/// One token, by its id; never its secret.
#[utoipa::path(
    get, path = "/v1/tokens/{token}", tag = "token",
    responses((status = 200, description = "The token", body = Token), Refusals)
)]
async fn token_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(token): Path<String>,
) -> Answer<Token> {
    found(app.control.token_get(&signed.caller, &token).await?.into())
}

/// Change what a token is for, or when it expires.
#[utoipa::path(
    patch, path = "/v1/tokens/{token}", tag = "token",
    responses((status = 200, description = "Changed", body = Token), Refusals)
)]
async fn token_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(token): Path<String>,
    Json(change): Json<UpdateToken>,
) -> Answer<Token> {
    let change = TokenUpdate {
        description: change.description,
        expires_in_seconds: change.expires_in_seconds,
    };
    found(app.control.token_update(&signed.caller, &token, change).await?.into())
}

/// Revoke a token, by its id.
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "token",
    responses((status = 204, description = "Revoked"), Refusals)
)]
async fn token_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(token): Path<String>,
) -> Empty {
    app.control.token_delete(&signed.caller, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}
