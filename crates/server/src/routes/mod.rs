//! The routes, one file per resource: authenticate, parse, call the use case, convert.

mod agent;
mod attachment;
pub(crate) mod backup;
mod event;
mod export;
mod group;
mod host;
mod network;
mod node;
mod operation;
mod pool;
mod project;
mod reference;
mod reservation;
mod schedule;
mod service;
mod snapshot;
mod token;
mod user;
mod volume;
mod volume_type;

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use control::Paging;
use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::Shared;
use crate::refusal::Refusal;

pub(crate) fn all() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(service::routes())
        .merge(project::routes())
        .merge(user::routes())
        .merge(token::routes())
        .merge(volume_type::routes())
        .merge(node::routes())
        .merge(pool::routes())
        .merge(volume::routes())
        .merge(reservation::routes())
        .merge(snapshot::routes())
        .merge(network::routes())
        .merge(export::routes())
        .merge(reference::routes())
        .merge(schedule::routes())
        .merge(host::routes())
        .merge(agent::routes())
        .merge(group::routes())
        .merge(backup::routes())
        .merge(attachment::routes())
        .merge(operation::routes())
        .merge(event::routes())
}

/// A status and a body, or a refusal.
type Answer<T> = Result<(StatusCode, Json<T>), Refusal>;
/// 204, or a refusal.
type Empty = Result<StatusCode, Refusal>;

/// 200: here it is.
fn found<T>(view: T) -> Answer<T> {
    Ok((StatusCode::OK, Json(view)))
}

/// 201: it is there.
fn created<T>(view: T) -> Answer<T> {
    Ok((StatusCode::CREATED, Json(view)))
}

/// 202: it is wanted, and the work goes on; the body says where it stands.
fn accepted<T>(view: T) -> Answer<T> {
    Ok((StatusCode::ACCEPTED, Json(view)))
}

fn paging(limit: Option<u32>, marker: Option<String>) -> Paging {
    Paging { limit, marker }
}

/// 200 with one page of views.
fn page<T, V>(page: control::Page<T>, view: impl FnMut(T) -> V) -> Answer<api::Page<V>> {
    found(api::Page { items: page.items.into_iter().map(view).collect(), next: page.next })
}

/// What every route may answer instead, for the document.
struct Refusals;

const REFUSALS: &[(u16, &str)] = &[
    (400, "The request is not one: malformed, an unknown field, a value out of bounds."),
    (401, "No token, or one that is unknown, revoked or expired."),
    (403, "The role does not allow it."),
    (404, "No such thing, or none that the caller may see."),
    (409, "The state of things forbids it now; the hint says what to change."),
    (413, "The body is larger than 1 MiB."),
    (500, "The service failed; its log has the request id."),
    (503, "Not now: busy, or a part does not answer. Trying again may help."),
    (507, "No pool has room."),
];

/// The refusals by status, each once for the whole document.
pub(crate) fn refusals() -> impl Iterator<Item = (String, Response)> {
    REFUSALS.iter().map(|(status, description)| {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody")));
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/json", body.build())
            .build();
        (format!("Refused{status}"), response)
    })
}

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let named = |status| Ref::from_response_name(format!("Refused{status}"));
        REFUSALS.iter().map(|(status, _)| (status.to_string(), named(status).into())).collect()
    }
}
