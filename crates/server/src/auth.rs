//! Who asks: the bearer token, and the project that an admin works in.

use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use control::{AgentCaller, Caller, ControlError};
use serde::Deserialize;

use crate::Shared;
use crate::refusal::Refusal;

/// The address that the connection came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The caller of an authenticated request.
pub(crate) struct Signed {
    pub(crate) caller: Caller,
    /// The project that the request named, as it named it.
    pub(crate) project: Option<String>,
}

#[derive(Deserialize)]
struct ProjectChoice {
    project: Option<String>,
}

impl FromRequestParts<Shared> for Signed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refusal> {
        let token = bearer(&parts.headers).ok_or(ControlError::TokenMissing)?;
        let mut caller = app.control.authenticate(token, &from(parts)).await?;
        let project = chosen_project(parts)?;
        if let Some(name) = &project {
            let chosen = app.control.project_get(&caller, name).await?.project.id;
            if !caller.is_admin() && caller.project != Some(chosen) {
                let needs = model::user::Role::Admin;
                return Err(ControlError::Forbidden { action: "choose a project", needs }.into());
            }
            caller.project = Some(chosen);
        }
        Ok(Self { caller, project })
    }
}

/// The agent whose beat this is: it has a token that opens nothing else.
pub(crate) struct SignedAgent(pub(crate) AgentCaller);

impl FromRequestParts<Shared> for SignedAgent {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refusal> {
        let token = bearer(&parts.headers).ok_or(ControlError::TokenMissing)?;
        let agent = app.control.agent_authenticate(token, &from(parts)).await?;
        Ok(Self(agent))
    }
}

/// The address that the request came from.
fn from(parts: &Parts) -> String {
    parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default()
}

/// The token of `Authorization: Bearer <token>`; the scheme's case does not matter (RFC 9110
/// 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The query's `project`, or the header's.
fn chosen_project(parts: &Parts) -> Result<Option<String>, Refusal> {
    let query = axum::extract::Query::<ProjectChoice>::try_from_uri(&parts.uri)
        .map_err(|error| Refusal::bad_request("invalid_query", error.body_text(), "See /docs."))?;
    if query.0.project.is_some() {
        return Ok(query.0.project);
    }
    let Some(header) = parts.headers.get(api::PROJECT_HEADER) else { return Ok(None) };
    // Names may be written in any script; a header carries them as UTF-8.
    std::str::from_utf8(header.as_bytes()).map(|name| Some(name.to_owned())).map_err(|_| {
        Refusal::bad_request(
            "invalid_header",
            "the header X-Project is not UTF-8",
            "Give the project's id.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_bearer_token_is_one() {
        let token = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer ch_1").as_deref(), Some("ch_1"));
        assert_eq!(token("bearer  ch_1 ").as_deref(), Some("ch_1"));
        for wrong in ["", "ch_1", "Basic ch_1", "Bearer", "Bearer "] {
            assert_eq!(token(wrong), None, "{wrong}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
