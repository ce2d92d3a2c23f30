//! What every request passes through: an id, a span, limits, a count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::Shared;
use crate::metrics::Answered;
use crate::refusal::Refusal;
use crate::routes::backup::RESTORE;

/// Requests that are worked on at the same time; the others wait for their turn.
const REQUESTS_AT_ONCE: usize = 256;
/// Longest wait for a turn.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for the work on one request.
const WORK_LIMIT: Duration = Duration::from_secs(60);
/// The same for one that brings a volume's content along.
const STREAM_LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest id that a client may give its request.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// How much is worked on at once.
pub(crate) struct Limits {
    turns: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)) }
    }
}

/// The outermost layer.
pub(crate) async fn attend(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method_of(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    // Neither query nor headers are in the span: they may hold what is not for logs.
    let span = tracing::info_span!("request", %id, method, route);
    let mut response = work(&app, request, next)
        .instrument(span.clone())
        .await
        .unwrap_or_else(IntoResponse::into_response);
    let took = started.elapsed();
    let status = response.status().as_u16();
    span.in_scope(|| tracing::info!(status, took_ms = took.as_secs_f64() * 1e3, "answered"));
    app.metrics.count(Answered { method, route, status }, took);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(api::REQUEST_ID_HEADER, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Answers may hold what is shown once; no cache between may keep it.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The method for log lines and metrics: what clients make up is one of them.
fn method_of(method: &Method) -> String {
    const KNOWN: [Method; 6] =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let known = KNOWN.contains(method);
    if known { method.to_string() } else { "other".to_owned() }
}

/// Let the route work, as a task of its own: work that was begun goes on to its end even when
/// the client hangs up or the time is over, so that nothing stops half-way.
async fn work(app: &Shared, request: Request, next: Next) -> Result<Response, Refusal> {
    // Whether the service is well can be asked when it is busy, too.
    let turn = if request.uri().path().starts_with("/v1/") {
        let turn = Arc::clone(&app.limits.turns).acquire_owned();
        Some(tokio::time::timeout(TURN_LIMIT, turn).await.map_err(|_| busy())?)
    } else {
        None
    };
    let span = tracing::Span::current();
    let is_stream =
        request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == RESTORE);
    let limit = if is_stream { STREAM_LIMIT } else { WORK_LIMIT };
    let task = tokio::spawn(
        async move {
            let response = next.run(request).await;
            drop(turn);
            response
        }
        .instrument(span),
    );
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            tracing::error!(%error, "the work on a request ended without an answer");
            Err(Refusal::internal())
        }
        Err(_) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timed_out",
            "the request takes longer than the service lets a client wait",
            "The work goes on: look at the resource before trying again.",
        )),
    }
}

fn busy() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "the service works on as many requests as it can",
        "Try again in a moment.",
    )
}

/// The client's own id for the request when it is fit for a log line, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let fit = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    headers
        .get(api::REQUEST_ID_HEADER)
        .and_then(|id| id.to_str().ok())
        .filter(fit)
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}
