//! What the process takes, and what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What one look at the process found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at_s: f64,
    /// Which process it was: restarts count.
    pub(crate) life: usize,
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: u64,
    /// Commands answered since the beginning.
    pub(crate) commands: u64,
}

/// RSS in KiB, and threads.
pub(crate) fn memory_and_threads(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((field("VmRSS:")?, field("Threads:")?))
}

/// What the file descriptors stand for.
pub(crate) fn descriptors(pid: u32) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Some(links.map(|link| link.display().to_string()).collect())
}

/// The median of all slopes between two points (Theil and Sen): a few outliers do not move it.
pub(crate) fn robust_slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let later = points[at + 1..].iter().filter(|(later, _)| later > x);
        slopes.extend(later.map(|(later, high)| (high - y) / (later - x)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

/// Lines at WARN or ERROR that are no defect, with the reason.
const EXPECTED: &[(&str, &str)] = &[
    (
        "error=the pool is full",
        "the small pool is made full on purpose, which is said once a minute",
    ),
    (
        "time to acquire exceeded slow threshold",
        "the catalog waits for a busy disk; what matters is bounded by the slowest command",
    ),
];

/// Reads the log as it grows; a line that nobody expects is an error.
#[derive(Default)]
pub(crate) struct LogWatch {
    offset: usize,
    /// How many lines of each expected kind came.
    pub(crate) expected: BTreeMap<&'static str, usize>,
}

impl LogWatch {
    pub(crate) fn path(home: &Path) -> PathBuf {
        home.join("log")
    }

    pub(crate) fn begin_again(&mut self) {
        self.offset = 0;
    }

    pub(crate) fn look(&mut self, path: &Path) -> Result<(), String> {
        let log = std::fs::read(path).map_err(|error| error.to_string())?;
        let new = &log[self.offset..];
        // The last line may still be in the making.
        let end = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.offset += end;
        for line in String::from_utf8_lossy(&new[..end]).lines() {
            self.line(line)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let level = line.split_whitespace().nth(1);
        if matches!(level, Some("INFO" | "DEBUG" | "TRACE")) {
            return Ok(());
        }
        match EXPECTED.iter().find(|(pattern, _)| line.contains(pattern)) {
            Some((pattern, _)) => {
                *self.expected.entry(pattern).or_default() += 1;
                Ok(())
            }
            // Also a panic, whose line has no level.
            None => Err(format!("the log has a line that nobody expects: {line}")),
        }
    }
}

#[test]
fn the_slope_is_that_of_most_points() {
    let line: Vec<_> = (0..50).map(|x| (f64::from(x), 7.0 + 2.0 * f64::from(x))).collect();
    assert!((robust_slope(&line) - 2.0).abs() < 1e-9);
    let mut spiked = line;
    for at in (0..50).step_by(7) {
        spiked[at].1 += 1e6;
    }
    assert!((robust_slope(&spiked) - 2.0).abs() < 0.5, "{}", robust_slope(&spiked));
    assert!(robust_slope(&[(1.0, 1.0)]).abs() < 1e-9);
}

#[test]
fn a_line_that_nobody_expects_is_an_error() {
    let mut log = LogWatch::default();
    log.line("2026-11-25T19:00:00Z  INFO node: started").unwrap();
    log.line("2026-11-25T19:00:00Z ERROR node: reservations are lost").unwrap_err();
    log.line("thread 'main' panicked at x.rs:1:1:").unwrap_err();
}
