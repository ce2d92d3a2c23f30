//! `/metrics`: the shell's own text, and the requests of this door.

use std::sync::Arc;
use std::time::Duration;

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

    /// Both parts as one OpenMetrics text, which ends with exactly one `# EOF`.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let source = self.source.metrics();
        let mut text = source.trim_end().trim_end_matches("# EOF").trim_end().to_owned();
        if !text.is_empty() {
            text.push('\n');
        }
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
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
            let text = metrics.text().unwrap();
            assert_eq!(text.matches("# EOF").count(), 1, "{text}");
            assert!(text.ends_with("# EOF\n"), "{text}");
            assert_eq!(text.contains("a_total 1\n"), source.contains("a_total"), "{text}");
            assert!(text.contains(
                "commonhold_api_requests_total{method=\"GET\",route=\"/v1/volumes\",status=\"200\"} 1"
            ));
        }
    }
}
