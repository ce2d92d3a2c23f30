//! The HTTP door: authenticate, parse, call a use case, convert the answer.
//!
//! ```text
//! socket -> serve (connections) -> attend (request id, limits, metrics) -> routes/<resource>.rs
//!                                                                            |  auth, extract
//!                                                                            v
//!                                                                    control's use cases
//! ```
//!
//! Beside it stands the node door, for a storage node of its own: see [`NodeDoor`].
//!
//! Entry points: [`serve()`], [`serve_node`] and [`serve_metrics`] for the daemon, [`HttpDoors`] for its control
//! plane, [`openapi_json`] for the committed document.
//!
//! Invariant: nothing is decided here. Whatever goes wrong is answered with the contract's error
//! body; no secret reaches a log line, a span or a metric.

mod attend;
mod auth;
mod document;
mod extract;
mod metrics;
mod node_door;
mod refusal;
mod routes;
mod serve;

use std::sync::Arc;

use control::Control;

pub use document::openapi_json;
pub use metrics::MetricsSource;
pub use node_door::{Adoption, DoorRecord, HttpDoors, NodeDoor};
pub use serve::{Limits, serve, serve_metrics, serve_node};

/// What the routes share.
pub(crate) struct App {
    pub(crate) control: Control,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) limits: attend::Limits,
}

/// The state of the router.
pub(crate) type Shared = Arc<App>;

/// The whole router of this door over one control plane.
pub(crate) fn router(control: Control, source: Arc<dyn MetricsSource>) -> axum::Router {
    let app = Arc::new(App {
        control,
        metrics: metrics::Metrics::new(source),
        limits: attend::Limits::default(),
    });
    let (routes, document) = document::routes_and_document();
    routes
        .fallback(refusal::unknown_route)
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .merge(document::pages(document))
        .layer(axum::extract::DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), attend::attend))
        .with_state(app)
}
