//! What routes take out of a request, refused in the contract's words when it is not as agreed.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// The largest body of a request.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a body: a client that sends a byte now and then must not hold a place.
const BODY_LIMIT: Duration = Duration::from_secs(20);

const SEE_DOCS: &str = "See /docs for what this request takes.";

/// A JSON body: at most [`BODY_BYTES_MAX`], of the right media type, exactly of the type `T`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "the request's body is not marked as JSON",
                "Send the header 'Content-Type: application/json'.",
            ));
        }
        let body = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, state)).await;
        match body {
            Ok(Ok(body)) => parse(&body).map(Self),
            Ok(Err(rejection)) => Err(refuse_body(&rejection)),
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                "the request's body did not arrive in time",
                "Send the request again over a better connection.",
            )),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
}

fn refuse_body(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the request's body is larger than {BODY_BYTES_MAX} bytes"),
            "Send less in one request; images are named by their path, not sent.",
        )
    } else {
        Refusal::bad_request(
            "body_unreadable",
            "the request's body did not arrive whole",
            "Send the request again.",
        )
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let cause = error.into_inner();
        if cause.is_data() {
            let whole = field == ".";
            let message = if whole { cause.to_string() } else { format!("{field}: {cause}") };
            let mut refusal = Refusal::bad_request("invalid_request", message, SEE_DOCS);
            refusal.details = (!whole).then(|| serde_json::json!({ "field": field }));
            refusal
        } else {
            malformed(&cause)
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Refusal {
    let message = format!("the request's body is not JSON: {error}");
    Refusal::bad_request("malformed_json", message, "Check the body for a cut or a stray comma.")
}

/// The query of a request, exactly of the type `T`.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| Refusal::bad_request("invalid_query", error.body_text(), SEE_DOCS))
    }
}

/// The names in the path of a request.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(names)| Self(names))
            .map_err(|error| Refusal::bad_request("invalid_path", error.body_text(), SEE_DOCS))
    }
}
