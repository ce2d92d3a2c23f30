//! Figures as text: for the terminal and for the page.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::goals::{self, Verdict};
use crate::pattern::Pattern;
use crate::report::{
    Backing, FLOORS, FileRow, Files, GANESHA, NBDKIT, OURS, RELAXED, Report, Row, Sample, TGT,
};
use crate::statistics::Spread;

/// Three digits that count: 174k, 15.2k, 980, 3.4.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 999_500.0 => format!("{:.2}M", value / 1e6),
        large if large >= 99_950.0 => format!("{:.0}k", value / 1e3),
        large if large >= 9_995.0 => format!("{:.1}k", value / 1e3),
        large if large >= 999.5 => format!("{:.2}k", value / 1e3),
        large if large >= 99.95 => format!("{value:.0}"),
        large if large >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn is_sequential(pattern: &str) -> bool {
    pattern.parse::<Pattern>().is_ok_and(|pattern| pattern.access.is_sequential())
}

/// The measure that a pattern is judged by, and its unit.
fn measure(pattern: &str) -> (fn(&Sample) -> f64, &'static str) {
    if is_sequential(pattern) {
        (|sample| sample.bytes_per_s / 1e6, "MB/s")
    } else {
        (|sample| sample.iops, "IOPS")
    }
}

/// One pattern as one line, while the run goes on.
pub(crate) fn line(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let (of, unit) = measure(&first.pattern);
    let parts = rows.iter().filter_map(|row| {
        let value = row.spread(of)?.median;
        let cpu = row.spread(|sample| sample.server_us)?.median;
        Some(format!("{:>10} {:>6} ({cpu:>6.1} µs)", row.server, short(value)))
    });
    let parts: Vec<_> = parts.collect();
    format!("{:<10} {:<11} {} {unit}", first.backing.name(), first.pattern, parts.join("  "))
}

/// One kind of load on file servers as one line, while the run goes on.
pub(crate) fn file_line(rows: &[FileRow]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let parts = rows.iter().filter_map(|row| {
        let value = row.spread(|sample| sample.iops)?.median;
        let cpu = row.spread(|sample| sample.server_us)?.median;
        Some(format!("{} {:>6} ({cpu:>6.1} µs)", row.server, short(value)))
    });
    format!("{:<11} {} a second", first.pattern, parts.collect::<Vec<_>>().join("  "))
}

/// Rates and costs of file servers.
pub(crate) fn files(files: &Files) -> Grid {
    let servers = [OURS, RELAXED, GANESHA];
    let mut head = cells(["pattern", "unit"]);
    head.extend(cells(servers));
    head.extend(cells(["of ganesha", "relaxed of ganesha"]));
    for what in ["CPU µs", "p50 µs", "p99 µs"] {
        head.push(format!("{what}: {OURS}"));
        head.extend(cells(["relaxed", "ganesha"]));
    }
    let rows = files.patterns().into_iter().map(|pattern| {
        let of = |server: &str, measure: fn(&Sample) -> f64| {
            files.row(pattern, server).and_then(|row| row.spread(measure))
        };
        let large = files.rows.iter().any(|row| {
            let bytes = |sample: &Sample| sample.bytes_per_s > 300_000.0 * sample.iops;
            row.pattern == pattern && row.samples.iter().any(bytes)
        });
        let (unit, measure): (_, fn(&Sample) -> f64) = if large {
            ("MB/s", |sample| sample.bytes_per_s / 1e6)
        } else {
            ("a second", |sample| sample.iops)
        };
        let spreads = servers.map(|server| of(server, measure));
        let mut row = cells([pattern, unit]);
        row.extend(spreads.map(range));
        row.extend([ratio(spreads[0], spreads[2]), ratio(spreads[1], spreads[2])]);
        let costs: [fn(&Sample) -> f64; 3] = [
            |sample| sample.server_us,
            |sample| sample.p50_us.unwrap_or(f64::NAN),
            |sample| sample.p99_us.unwrap_or(f64::NAN),
        ];
        for cost in costs {
            let value = |server: &str| of(server, cost).map(|spread| spread.median);
            let shown = |value: Option<f64>| {
                value.filter(|value| value.is_finite()).map_or_else(|| "-".to_owned(), short)
            };
            row.extend(servers.map(|server| shown(value(server))));
        }
        row
    });
    Grid { head, rows: rows.collect(), numbers_from: 2 }
}

/// Small files beside the servers that do nothing: their rates, how much of the faster one's the
/// others reach, and what that is of nfs-ganesha's. None where these were not measured.
pub(crate) fn floor(files: &Files) -> Option<Grid> {
    let rate = |pattern: &str, server: &str| files.row(pattern, server)?.spread(|s| s.iops);
    let rows = files.patterns().into_iter().filter_map(|pattern| {
        let floor = files.floor(pattern)?;
        let of = |part: Option<f64>, whole: Option<f64>| {
            let both = part.zip(whole).filter(|(_, whole)| *whole > 0.0);
            both.map_or_else(|| "-".to_owned(), |(part, whole)| format!("{:.2}", part / whole))
        };
        let median = |server: &str| rate(pattern, server).map(|spread| spread.median);
        let mut row = cells([pattern]);
        row.extend(FLOORS.map(|server| range(rate(pattern, server))));
        row.extend([OURS, RELAXED, GANESHA].map(|server| of(median(server), Some(floor))));
        row.push(of(Some(floor), median(GANESHA)));
        Some(row)
    });
    let rows: Vec<_> = rows.collect();
    let mut head =
        cells(["pattern", "floor a second: sleeps", "looks", "of the floor: commonhold"]);
    head.extend(cells(["relaxed", "ganesha", "floor, of ganesha"]));
    (!rows.is_empty()).then_some(Grid { head, rows, numbers_from: 1 })
}

/// A heading and rows of cells.
pub(crate) struct Grid {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Columns from this one on are numbers and stand to the right.
    pub(crate) numbers_from: usize,
}

fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |s| format!("{} ({}-{})", short(s.median), short(s.least), short(s.most)),
    )
}

fn ratio(ours: Option<Spread>, theirs: Option<Spread>) -> String {
    let both = ours.zip(theirs).filter(|(_, theirs)| theirs.median > 0.0);
    both.map_or_else(|| "-".to_owned(), |(a, b)| format!("{:.2}", a.median / b.median))
}

/// Throughput of all servers: median and spread, and our share of the peers'.
pub(crate) fn throughput(report: &Report, backing: Backing) -> Grid {
    let head = ["pattern", "unit", OURS, TGT, NBDKIT, "of tgt", "of nbdkit"];
    let rows = report.patterns(backing).into_iter().map(|pattern| {
        let (of, unit) = measure(pattern);
        let [ours, tgt, nbdkit] = [OURS, TGT, NBDKIT]
            .map(|server| report.row(backing, pattern, server).and_then(|row| row.spread(of)));
        let mut row = cells([pattern, unit]);
        row.extend([ours, tgt, nbdkit].map(range));
        row.extend([ratio(ours, tgt), ratio(ours, nbdkit)]);
        row
    });
    Grid { head: cells(head), rows: rows.collect(), numbers_from: 2 }
}

/// CPU of the servers and latencies, medians.
pub(crate) fn costs(report: &Report, backing: Backing) -> Grid {
    let servers = [OURS, TGT, NBDKIT];
    let mut head = cells(["pattern"]);
    for what in ["CPU µs", "p50 µs", "p99 µs"] {
        head.push(format!("{what}: {OURS}"));
        head.extend(cells([TGT, NBDKIT]));
    }
    let rows = report.patterns(backing).into_iter().map(|pattern| {
        let mut row = cells([pattern]);
        let median = |server: &str, of: fn(&Sample) -> f64| {
            let value = report.median((backing, pattern, server), of);
            value.filter(|value| value.is_finite()).map_or_else(|| "-".to_owned(), short)
        };
        row.extend(servers.map(|server| median(server, |s| s.server_us)));
        row.extend(servers.map(|server| median(server, |s| s.p50_us.unwrap_or(f64::NAN))));
        row.extend(servers.map(|server| median(server, |s| s.p99_us.unwrap_or(f64::NAN))));
        row
    });
    Grid { head, rows: rows.collect(), numbers_from: 1 }
}

/// Goals, what was found, and the verdict.
pub(crate) fn goals(report: &Report) -> Grid {
    let rows = goals::judge(report)
        .into_iter()
        .map(|goal| vec![goal.name, goal.wanted, goal.found, goal.verdict.word().to_owned()]);
    let head = cells(["goal", "wanted", "found", "verdict"]);
    Grid { head, rows: rows.collect(), numbers_from: 4 }
}

/// `15 of 20 goals met, 2 missed, ...`
pub(crate) fn summary(report: &Report) -> String {
    let goals = goals::judge(report);
    let count = |verdict| goals.iter().filter(|goal| goal.verdict == verdict).count();
    format!(
        "{} of {} goals met, {} missed, {} undecided, {} not measured",
        count(Verdict::Met),
        goals.len(),
        count(Verdict::Missed),
        count(Verdict::Undecided),
        count(Verdict::NotMeasured)
    )
}

impl Grid {
    /// For people at a terminal.
    pub(crate) fn terminal(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(&self.head);
        for row in &self.rows {
            // What is bold on a page is not here.
            table.add_row(row.iter().map(|cell| cell.replace("**", "")));
        }
        for column in table.column_iter_mut().skip(self.numbers_from) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// For a page.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = (0..self.head.len())
            .map(|at| if at < self.numbers_from { "---" } else { "---:" }.to_owned());
        let mut text = line(&self.head);
        text.push_str(&line(&rule.collect::<Vec<_>>()));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{files as files_of, report};

    #[test]
    fn numbers_keep_three_digits() {
        let wanted = [
            (0.0, "0.00"),
            (3.449, "3.45"),
            (44.04, "44.0"),
            (980.4, "980"),
            (1231.0, "1.23k"),
            (15_240.0, "15.2k"),
            (174_000.0, "174k"),
            (999_600.0, "1.00M"),
        ];
        for (value, text) in wanted {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_table_has_medians_spreads_and_ratios() {
        let report = report(&[
            ("rr4k-32", OURS, 100_000.0, 5.0),
            ("rr4k-32", TGT, 25_000.0, 21.0),
            ("sr1m-4", OURS, 1000.0, 90.0),
        ]);
        let text = throughput(&report, Backing::Memory).markdown();
        assert!(text.contains("| rr4k-32 | IOPS | 100k (90.0k-120k) | 25.0k"), "{text}");
        assert!(text.contains("| 4.00 | - |"), "{text}");
        assert!(text.contains("| sr1m-4 | MB/s | 4.10 (3.69-4.92) | - | - | - | - |"), "{text}");
        let text = costs(&report, Backing::Memory).terminal();
        assert!(text.contains("21.0") && text.contains("90.0"), "{text}");
        assert!(line(&report.rows[..2]).contains("commonhold   100k (   5.0 µs)"));
        assert!(summary(&report).contains("goals met"));
    }

    #[test]
    fn the_floor_has_a_table_of_its_own_where_it_was_measured() {
        let mut figures = vec![
            ("stat-1x8", RELAXED, 30_000.0, 9.0),
            ("stat-1x8", GANESHA, 20_000.0, 9.0),
            ("read4k-32", GANESHA, 20_000.0, 9.0),
        ];
        assert!(floor(&files_of(&figures)).is_none());
        figures.extend([("stat-1x8", FLOORS[0], 40_000.0, 1.0)]);
        let text = floor(&files_of(&figures)).expect("a table").markdown();
        let line = "| stat-1x8 | 40.0k (40.0k-40.0k) | - | - | 0.75 | 0.50 | 2.00 |\n";
        assert!(text.ends_with(line), "{text}");
        assert!(!text.contains("read4k-32"), "{text}");
    }
}
