//! `/metrics`: the shell's own text, which nodes are heard, and the requests of this door.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use control::NodeHeard;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Metrics that this door serves and somebody else keeps: the storage node's.
pub trait MetricsSource: Send + Sync {
    /// The metrics in the OpenMetrics text format, with or without the closing `# EOF`.
    fn metrics(&self) -> String;
}

/// One kind of answered request. The route is the pattern, never the names in the path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

/// What is counted, and where the rest comes from.
pub(crate) struct Metrics {
    source: Arc<dyn MetricsSource>,
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram>,
}

impl Metrics {
    pub(crate) fn new(source: Arc<dyn MetricsSource>) -> Self {
        let requests = Family::<Answered, Counter>::default();
        let durations = Family::<Route, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 9))
        });
        let mut registry = Registry::with_prefix("commonhold");
        registry.register("api_requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "api_request_duration",
            "Time from a request's head to its answer",
            Unit::Seconds,
            durations.clone(),
        );
        Self { source, registry, requests, durations }
    }

    pub(crate) fn count(&self, answered: Answered, took: Duration) {
        let route = Route { method: answered.method.clone(), route: answered.route.clone() };
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
        self.requests.get_or_create(&answered).inc();
    }

    /// All parts as one OpenMetrics text, which ends with exactly one `# EOF`.
    pub(crate) fn text(&self, nodes: &[NodeHeard]) -> Result<String, std::fmt::Error> {
        let mut text = of_node(&*self.source);
        heard(&mut text, nodes)?;
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The part of a storage node, without an end mark.
fn of_node(source: &dyn MetricsSource) -> String {
    let source = source.metrics();
    let mut text = source.trim_end().trim_end_matches("# EOF").trim_end().to_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Whether each node is heard, and since when not.
fn heard(text: &mut String, nodes: &[NodeHeard]) -> std::fmt::Result {
    if nodes.is_empty() {
        return Ok(());
    }
    let label = |node: &NodeHeard| {
        node.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    };
    writeln!(text, "# HELP commonhold_node_up Whether the node is heard (1) or not (0).")?;
    writeln!(text, "# TYPE commonhold_node_up gauge")?;
    for node in nodes {
        let up = u8::from(node.is_up);
        writeln!(text, "commonhold_node_up{{node=\"{}\"}} {up}", label(node))?;
    }
    writeln!(text, "# HELP commonhold_node_heard_age_seconds Time since the node was last heard.")?;
    writeln!(text, "# TYPE commonhold_node_heard_age_seconds gauge")?;
    for (node, age_ms) in nodes.iter().filter_map(|node| Some((node, node.age_ms?))) {
        let age = Duration::from_millis(age_ms).as_secs_f64();
        writeln!(text, "commonhold_node_heard_age_seconds{{node=\"{}\"}} {age}", label(node))?;
    }
    Ok(())
}

/// The one page of a storage node of its own: what the control plane in one process with it would
/// show, and to whom.
pub(crate) fn router_of_node(source: Arc<dyn MetricsSource>) -> Router {
    let page = move || async move { (content_type(), of_node(&*source) + "# EOF\n") };
    Router::new().route("/metrics", get(page)).fallback(|| async { StatusCode::NOT_FOUND })
}

/// What the text is.
pub(crate) const fn content_type() -> [(HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static str);

    impl MetricsSource for Fixed {
        fn metrics(&self) -> String {
            self.0.to_owned()
        }
    }

    #[test]
    fn both_parts_end_with_one_end_mark() {
        for source in ["", "# EOF\n", "# TYPE a counter\na_total 1\n# EOF\n", "a_total 1"] {
            let metrics = Metrics::new(Arc::new(Fixed(source)));
            let answered =
                Answered { method: "GET".into(), route: "/v1/volumes".into(), status: 200 };
            metrics.count(answered, Duration::from_millis(3));
            let age_ms = Some(1500);
            let there = NodeHeard { name: "n\"1".to_owned(), is_up: true, age_ms };
            let never = NodeHeard { name: "n2".to_owned(), is_up: false, age_ms: None };
            let text = metrics.text(&[there, never]).unwrap();
            for line in [
                "commonhold_node_up{node=\"n\\\"1\"} 1\n",
                "commonhold_node_up{node=\"n2\"} 0\n",
                "commonhold_node_heard_age_seconds{node=\"n\\\"1\"} 1.5\n",
            ] {
                assert!(text.contains(line), "{text}");
            }
            assert!(!text.contains("age_seconds{node=\"n2\""), "{text}");
            assert_eq!(text.matches("# EOF").count(), 1, "{text}");
            assert!(text.ends_with("# EOF\n"), "{text}");
            assert_eq!(text.contains("a_total 1\n"), source.contains("a_total"), "{text}");
            assert!(text.contains(
                "commonhold_api_requests_total{method=\"GET\",route=\"/v1/volumes\",status=\"200\"} 1"
            ));
        }
    }
}
