//! What a run found, as it stands in the results file; everything shown is made of it.

use serde::{Deserialize, Serialize};

use crate::statistics::{self, Spread};

/// The system under test, and the two that it is measured beside.
pub(crate) const OURS: &str = "commonhold";
pub(crate) const TGT: &str = "tgt";
pub(crate) const NBDKIT: &str = "nbdkit";
/// The peer of file volumes, and our own with the durability that it has.
pub(crate) const GANESHA: &str = "nfs-ganesha";
pub(crate) const RELAXED: &str = "commonhold, relaxed";
/// Servers that do nothing: one sleeps until something comes, one looks for it first. Which of the
/// two is faster depends on the machine and the load.
pub(crate) const FLOORS: [&str; 2] = ["floor, sleeps", "floor, looks"];

/// Where the bytes lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backing {
    /// A file in memory: what the server itself costs
    Memory,
    /// A file on disk, through the page cache
    PageCache,
}

impl Backing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::PageCache => "page-cache",
        }
    }
}

/// One run of the load generator.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) iops: f64,
    pub(crate) bytes_per_s: f64,
    /// From submission to completion, where the generator tells it.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// User and system time of the server's process for each I/O.
    pub(crate) server_us: f64,
    pub(crate) server_cores: f64,
}

/// All rounds of one pattern against one server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) backing: Backing,
    pub(crate) pattern: String,
    pub(crate) server: String,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn spread(&self, measure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let values: Vec<f64> = self.samples.iter().map(measure).collect();
        statistics::spread(&values)
    }
}

/// CPU time of a server with sessions that do nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) server: String,
    pub(crate) sessions: u32,
    pub(crate) seconds: f64,
    pub(crate) cpu_ms: f64,
}

/// What a write costs with registrants and a reservation, as a share of what it costs without:
/// 1.01 is 1 % more. Each ratio is of two slices next to each other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Safety {
    #[serde(default)]
    pub(crate) taken: Taken,
    pub(crate) registrants: u32,
    pub(crate) slice_s: f64,
    pub(crate) cpu_ratios: Vec<f64>,
    pub(crate) time_ratios: Vec<f64>,
    /// Without: CPU time of the server, and time by the clock, for a write.
    pub(crate) plain_cpu_us: f64,
    pub(crate) plain_time_us: f64,
}

/// A server and how it was started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) how: String,
}

/// The machine and the moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) system: String,
    pub(crate) kernel: String,
    /// Of the last minute, before the first round: above 0.5, others were at work.
    pub(crate) load: f64,
    /// `YYYY-MM-DD`
    pub(crate) date: String,
    pub(crate) commit: String,
}

/// When a part of the report was measured, where and how.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) machine: Machine,
    pub(crate) command: String,
}

/// All rounds of one load against one tree of files.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct FileRow {
    pub(crate) pattern: String,
    pub(crate) server: String,
    pub(crate) samples: Vec<Sample>,
}

impl FileRow {
    pub(crate) fn spread(&self, measure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let values: Vec<f64> = self.samples.iter().map(measure).collect();
        statistics::spread(&values)
    }
}

/// File volumes beside their peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Files {
    pub(crate) taken: Taken,
    /// Where the servers' directories lie, such as `ext4 on /dev/sda1`.
    #[serde(default)]
    pub(crate) file_system: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) servers: Vec<Server>,
    pub(crate) rows: Vec<FileRow>,
    pub(crate) skipped: Vec<String>,
}

impl Files {
    pub(crate) fn row(&self, pattern: &str, server: &str) -> Option<&FileRow> {
        self.rows.iter().find(|row| row.pattern == pattern && row.server == server)
    }

    /// Median rate of the faster of the servers that do nothing. None where they were not measured,
    /// as in older results.
    pub(crate) fn floor(&self, pattern: &str) -> Option<f64> {
        let rate = |server| Some(self.row(pattern, server)?.spread(|sample| sample.iops)?.median);
        FLOORS.into_iter().filter_map(rate).max_by(f64::total_cmp)
    }

    /// In the order of their measuring, each once.
    pub(crate) fn patterns(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !found.contains(&row.pattern.as_str()) {
                found.push(&row.pattern);
            }
        }
        found
    }
}

/// The whole run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) command: String,
    pub(crate) generator: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) volume_bytes: u64,
    pub(crate) minutes: f64,
    pub(crate) servers: Vec<Server>,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) safety: Option<Safety>,
    #[serde(default)]
    pub(crate) files: Option<Files>,
    /// What could not be measured, and why.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    pub(crate) fn row(&self, backing: Backing, pattern: &str, server: &str) -> Option<&Row> {
        let same =
            |row: &&Row| row.backing == backing && row.pattern == pattern && row.server == server;
        self.rows.iter().find(same)
    }

    /// Median of a measure; None where nothing was measured.
    pub(crate) fn median(
        &self,
        (backing, pattern, server): (Backing, &str, &str),
        measure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        self.row(backing, pattern, server)?.spread(measure).map(|spread| spread.median)
    }

    /// Patterns of one backing, in the order of their measuring, each once.
    pub(crate) fn patterns(&self, backing: Backing) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.backing == backing) {
            if !found.contains(&row.pattern.as_str()) {
                found.push(&row.pattern);
            }
        }
        found
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with one row for each figure: `(pattern, server, iops, server_us)`, in memory.
    pub(crate) fn report(figures: &[(&str, &str, f64, f64)]) -> Report {
        let row = |(pattern, server, iops, server_us): &(&str, &str, f64, f64)| Row {
            backing: Backing::Memory,
            pattern: (*pattern).to_owned(),
            server: (*server).to_owned(),
            samples: [0.9, 1.0, 1.2]
                .map(|share| Sample {
                    iops: iops * share,
                    bytes_per_s: iops * share * 4096.0,
                    p50_us: Some((1e6 / iops / share).round()),
                    p99_us: None,
                    server_us: *server_us,
                    server_cores: 1.0,
                })
                .to_vec(),
        };
        Report { rows: figures.iter().map(row).collect(), ..Report::default() }
    }

    /// Files with one row for each figure: `(pattern, server, iops, server_us)`.
    pub(crate) fn files(figures: &[(&str, &str, f64, f64)]) -> Files {
        let row = |row: Row| FileRow {
            pattern: row.pattern,
            server: row.server,
            samples: vec![Sample { bytes_per_s: 0.0, ..row.samples[1] }],
        };
        let rows = report(figures).rows.into_iter().map(row);
        Files { rows: rows.collect(), ..Files::default() }
    }

    #[test]
    fn the_floor_is_the_faster_of_the_two() {
        let [sleeps, looks] = FLOORS;
        let files = files(&[
            ("stat-1", sleeps, 50.0, 1.0),
            ("stat-1", looks, 80.0, 1.0),
            ("stat-16", sleeps, 90.0, 1.0),
            ("stat-16", looks, 70.0, 1.0),
            ("stat-16", OURS, 99.0, 1.0),
            ("read4k-32", OURS, 99.0, 1.0),
        ]);
        let floors = ["stat-1", "stat-16", "read4k-32"].map(|pattern| files.floor(pattern));
        assert_eq!(floors, [Some(80.0), Some(90.0), None]);
    }

    #[test]
    fn a_median_is_of_its_own_row_only() {
        let report = report(&[("rr4k-1", OURS, 10.0, 3.0), ("rr4k-1", TGT, 5.0, 9.0)]);
        let of = |server| report.median((Backing::Memory, "rr4k-1", server), |s| s.iops);
        assert_eq!((of(OURS), of(TGT), of(NBDKIT)), (Some(10.0), Some(5.0), None));
        assert_eq!(report.patterns(Backing::Memory), ["rr4k-1"]);
        assert!(report.patterns(Backing::PageCache).is_empty());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
