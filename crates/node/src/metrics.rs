//! Figures of volumes and attachments: plain counters, summed when somebody asks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    20, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600,
];

/// What a command did, for the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Read,
    Write,
    Flush,
    Other,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Read, "read"), (Kind::Write, "write"), (Kind::Flush, "flush"), (Kind::Other, "other")];

/// Counters of one attachment. Its commands come from few connections, so the cache lines hardly
/// ever move between cores.
#[derive(Debug, Default)]
pub struct AttachmentFigures {
    commands: [AtomicU64; 4],
    bytes: [AtomicU64; 4],
    latency_us_sum: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    conflicts: AtomicU64,
    errors: AtomicU64,
    inflight: AtomicU64,
    sessions: AtomicU64,
}

impl AttachmentFigures {
    pub(crate) fn begin(&self) {
        self.inflight.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self, kind: Kind, bytes: u64, took: Duration) {
        self.inflight.fetch_sub(1, Relaxed);
        self.commands[kind as usize].fetch_add(1, Relaxed);
        self.bytes[kind as usize].fetch_add(bytes, Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_us_sum.fetch_add(us, Relaxed);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.latency[bucket].fetch_add(1, Relaxed);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn session(&self, opened: bool) {
        if opened {
            self.sessions.fetch_add(1, Relaxed);
        } else {
            self.sessions.fetch_sub(1, Relaxed);
        }
    }

    /// Commands that run now.
    #[must_use]
    pub fn inflight(&self) -> u64 {
        self.inflight.load(Relaxed)
    }
}

/// One attachment's labels and counters, for the page.
pub struct Sample<'a> {
    pub volume: String,
    pub host: String,
    pub figures: &'a AttachmentFigures,
}

/// The Prometheus text page (exposition format 0.0.4) of these attachments.
#[must_use]
pub fn page(samples: &[Sample<'_>]) -> String {
    let mut text = String::new();
    families(&mut text, samples);
    histogram(&mut text, samples);
    text
}

/// The line of the memory that the connections' data takes.
#[must_use]
pub fn buffers(drawn: u64) -> String {
    let mut text = String::new();
    let help = "Memory that the data of commands holds, beyond each connection's floor.";
    head(&mut text, "commonhold_buffer_bytes", "gauge", help);
    let _ = writeln!(text, "commonhold_buffer_bytes {drawn}");
    text
}

fn families(text: &mut String, samples: &[Sample<'_>]) {
    head(text, "commonhold_commands_total", "counter", "SCSI commands ended, by kind.");
    by_kind(text, "commonhold_commands_total", samples, |f| &f.commands);
    head(text, "commonhold_bytes_total", "counter", "Bytes read and written.");
    by_kind(text, "commonhold_bytes_total", samples, |f| &f.bytes);
    type Read = fn(&AttachmentFigures) -> &AtomicU64;
    let single: [(&str, &str, &str, Read); 4] = [
        ("commonhold_inflight_commands", "gauge", "Commands that run now.", |f| &f.inflight),
        ("commonhold_sessions", "gauge", "iSCSI sessions open now.", |f| &f.sessions),
        (
            "commonhold_reservation_conflicts_total",
            "counter",
            "Commands refused by a reservation of somebody else.",
            |f| &f.conflicts,
        ),
        (
            "commonhold_command_errors_total",
            "counter",
            "Commands that ended with CHECK CONDITION, unit attentions left out.",
            |f| &f.errors,
        ),
    ];
    for (name, kind, help, read) in single {
        head(text, name, kind, help);
        for sample in samples {
            let value = read(sample.figures).load(Relaxed);
            let _ = writeln!(text, "{name}{{{}}} {value}", labels(sample));
        }
    }
}

fn by_kind(
    text: &mut String,
    name: &str,
    samples: &[Sample<'_>],
    read: fn(&AttachmentFigures) -> &[AtomicU64; 4],
) {
    for sample in samples {
        for (kind, word) in KINDS {
            let value = read(sample.figures)[kind as usize].load(Relaxed);
            let _ = writeln!(text, "{name}{{{},kind=\"{word}\"}} {value}", labels(sample));
        }
    }
}

fn histogram(text: &mut String, samples: &[Sample<'_>]) {
    let name = "commonhold_command_seconds";
    head(text, name, "histogram", "Time from a command's arrival to its answer.");
    for sample in samples {
        let labels = labels(sample);
        let mut below = 0;
        for (bound_us, bucket) in LATENCY_BOUNDS_US.iter().zip(&sample.figures.latency) {
            below += bucket.load(Relaxed);
            let bound = Duration::from_micros(*bound_us).as_secs_f64();
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        below += sample.figures.latency[LATENCY_BOUNDS_US.len()].load(Relaxed);
        let sum = Duration::from_micros(sample.figures.latency_us_sum.load(Relaxed)).as_secs_f64();
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}");
        let _ = writeln!(text, "{name}_count{{{labels}}} {below}");
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(sample: &Sample<'_>) -> String {
    format!("volume=\"{}\",host=\"{}\"", escape(&sample.volume), escape(&sample.host))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_counts_by_kind_and_bucket() {
        let figures = AttachmentFigures::default();
        figures.begin();
        figures.end(Kind::Write, 4096, Duration::from_micros(90));
        figures.begin();
        figures.end(Kind::Read, 512, Duration::from_secs(60));
        let text = page(&[Sample { volume: "v\"1".into(), host: "h".into(), figures: &figures }]);
        assert!(
            text.contains(
                "commonhold_bytes_total{volume=\"v\\\"1\",host=\"h\",kind=\"write\"} 4096"
            )
        );
        assert!(text.contains("le=\"0.00005\"} 0"));
        assert!(text.contains("le=\"0.0001\"} 1"));
        assert!(text.contains("le=\"+Inf\"} 2"));
        assert!(text.contains("commonhold_inflight_commands{volume=\"v\\\"1\",host=\"h\"} 0"));
    }
}
