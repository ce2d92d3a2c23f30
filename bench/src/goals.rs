//! What we mean to reach, as a table, and whether a report reaches it.

use crate::report::{Backing, Files, GANESHA, NBDKIT, OURS, RELAXED, Report, Sample, TGT};
use crate::statistics::confidence;

/// The verdict on one goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// The samples allow both.
    Undecided,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Undecided => "undecided",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A goal with what was found.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
}

/// The bar: a server and by how much we must be better.
type Bar = (&'static str, f64);

/// Throughput against a peer: pattern and bars.
const THROUGHPUT: [(&str, [Bar; 2]); 6] = [
    ("rr4k-32x4", [(TGT, 4.0), (NBDKIT, 1.0)]),
    ("rw4k-32x4", [(TGT, 4.0), (NBDKIT, 1.0)]),
    ("sr128k-8", [(TGT, 2.0), (NBDKIT, 1.0)]),
    ("sw128k-8", [(TGT, 2.0), (NBDKIT, 1.0)]),
    ("sr1m-4", [(TGT, 2.0), (NBDKIT, 1.0)]),
    ("sw1m-4", [(TGT, 2.0), (NBDKIT, 1.0)]),
];

/// CPU time of the server for one I/O in microseconds, at most.
const CPU_US: [(&str, f64); 2] = [("rr4k-32x4", 5.0), ("rw4k-32x4", 8.0)];

/// Median latency no worse than nbdkit's: wherever the scheduler puts server and load, and with
/// both bound to the same places.
const LATENCY: [&str; 9] = [
    "rr4k-1",
    "rw4k-1",
    "rw4k-1f",
    "rr4k-1@1",
    "rw4k-1@1",
    "rw4k-1f@1",
    "rr4k-1@2",
    "rw4k-1@2",
    "rw4k-1f@2",
];

/// A share of one core below which a daemon counts as idle.
const IDLE_SHARE: f64 = 0.001;
/// What safety may add to a write.
const SAFETY_SHARE: f64 = 0.02;
/// What many writers reach together, of what one session per core reaches.
const WRITERS_SHARE: f64 = 0.95;
/// More connections never cost more than this share of the best so far.
const SCALING_SHARE: f64 = 0.95;
/// Connections to one volume, in the order of the picture.
pub(crate) const CONNECTIONS: [u32; 5] = [1, 2, 4, 8, 16];

/// What a file server is measured by.
#[derive(Clone, Copy)]
enum FileMeasure {
    /// Operations in a second, against the peer's.
    Rate,
    /// CPU time of the server for each, as a share of the peer's.
    Cpu,
}

/// Pattern, measure, bar, and which of our trees: the one with the durability that the peer has in
/// this pattern. Reads and writes that wait for no medium are the same in both of ours; names are
/// made by the peer without waiting for one.
const FILES: [(&str, FileMeasure, f64, &str); 23] = [
    ("read4k-32", FileMeasure::Cpu, 1.0 / 3.0, OURS),
    ("write4k-32", FileMeasure::Cpu, 1.0 / 3.0, OURS),
    ("read4k-32", FileMeasure::Rate, 2.0, OURS),
    ("write4k-32", FileMeasure::Rate, 2.0, OURS),
    ("sync4k-1", FileMeasure::Rate, 1.0, OURS),
    ("read1m-4", FileMeasure::Rate, 1.0, OURS),
    ("write1m-4", FileMeasure::Rate, 1.0, OURS),
    ("create-1", FileMeasure::Rate, 2.0, RELAXED),
    ("stat-1", FileMeasure::Rate, 2.0, RELAXED),
    ("read-1", FileMeasure::Rate, 2.0, RELAXED),
    ("unlink-1", FileMeasure::Rate, 2.0, RELAXED),
    ("create-16", FileMeasure::Rate, 2.0, RELAXED),
    ("stat-16", FileMeasure::Rate, 2.0, RELAXED),
    ("read-16", FileMeasure::Rate, 2.0, RELAXED),
    ("unlink-16", FileMeasure::Rate, 2.0, RELAXED),
    ("create-1x8", FileMeasure::Rate, 2.0, RELAXED),
    ("stat-1x8", FileMeasure::Rate, 2.0, RELAXED),
    ("read-1x8", FileMeasure::Rate, 2.0, RELAXED),
    ("unlink-1x8", FileMeasure::Rate, 2.0, RELAXED),
    ("create-16x8", FileMeasure::Rate, 2.0, RELAXED),
    ("stat-16x8", FileMeasure::Rate, 2.0, RELAXED),
    ("read-16x8", FileMeasure::Rate, 2.0, RELAXED),
    ("unlink-16x8", FileMeasure::Rate, 2.0, RELAXED),
];

/// All goals, on the figures with the memory-backed file.
pub(crate) fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    goals.extend(CPU_US.iter().map(|(pattern, most)| cpu(report, pattern, *most)));
    for (pattern, bars) in &THROUGHPUT {
        goals.extend(bars.iter().map(|bar| throughput(report, pattern, *bar)));
    }
    goals.extend(LATENCY.iter().map(|pattern| latency(report, pattern)));
    goals.push(scaling(report));
    goals.push(writers(report));
    goals.push(safety(report));
    goals.push(idle(report));
    goals.extend(FILES.iter().map(|wanted| of_files(report.files.as_ref(), wanted)));
    goals
}

fn goal(name: String, wanted: String, found: Option<(String, bool)>) -> Goal {
    let (found, verdict) = match found {
        None => ("-".to_owned(), Verdict::NotMeasured),
        Some((found, true)) => (found, Verdict::Met),
        Some((found, false)) => (found, Verdict::Missed),
    };
    Goal { name, wanted, found, verdict }
}

fn cpu(report: &Report, pattern: &str, most: f64) -> Goal {
    let found = report.median((Backing::Memory, pattern, OURS), |sample| sample.server_us);
    let found = found.map(|us| (format!("{us:.1} µs"), us <= most));
    goal(format!("server CPU per I/O, {pattern}"), format!("at most {most} µs"), found)
}

fn throughput(report: &Report, pattern: &str, (peer, least): Bar) -> Goal {
    let of = |server| report.median((Backing::Memory, pattern, server), |s| s.bytes_per_s);
    let ratio = of(OURS).zip(of(peer)).map(|(ours, theirs)| ours / theirs);
    let found = ratio.map(|ratio| (format!("{ratio:.2}"), ratio >= least));
    let wanted = format!("at least {least:.0} × {peer}");
    goal(format!("throughput, {pattern}, against {peer}"), wanted, found)
}

fn latency(report: &Report, pattern: &str) -> Goal {
    let of = |server| {
        // A generator that tells no latencies still tells it at depth 1: one after the other.
        let latency = |s: &crate::report::Sample| s.p50_us.unwrap_or(1e6 / s.iops);
        report.row(Backing::Memory, pattern, server)?.spread(latency)
    };
    let (name, wanted) = (format!("median latency, {pattern}"), "no worse than nbdkit".to_owned());
    let Some((ours, theirs)) = of(OURS).zip(of(NBDKIT)) else { return goal(name, wanted, None) };
    let found = format!(
        "{:.1} µs ({:.1}-{:.1}), nbdkit {:.1} µs ({:.1}-{:.1})",
        ours.median, ours.least, ours.most, theirs.median, theirs.least, theirs.most
    );
    let verdict = if ours.median <= theirs.median {
        Verdict::Met
    } else if ours.least > theirs.most {
        Verdict::Missed
    } else {
        Verdict::Undecided
    };
    Goal { name, wanted, found, verdict }
}

/// Our throughput with so many connections.
fn over_connections(report: &Report, base: &str) -> Vec<(u32, f64)> {
    let of = |connections: u32| {
        let pattern = match connections {
            1 => base.to_owned(),
            many => format!("{base}x{many}"),
        };
        report.median((Backing::Memory, &pattern, OURS), |sample| sample.iops)
    };
    CONNECTIONS.iter().filter_map(|count| of(*count).map(|iops| (*count, iops))).collect()
}

fn scaling(report: &Report) -> Goal {
    let points = over_connections(report, "rr4k-32");
    let complete = points.len() == CONNECTIONS.len();
    let found = complete.then(|| {
        let mut best = 0.0_f64;
        let holds = points.iter().all(|(_, iops)| {
            let holds = *iops >= SCALING_SHARE * best;
            best = best.max(*iops);
            holds
        });
        let gains = points.first().is_some_and(|(_, first)| best > *first);
        let list: Vec<_> =
            points.iter().map(|(count, iops)| format!("{count}: {:.0}k", iops / 1e3)).collect();
        (list.join(", "), holds && gains)
    });
    let wanted = "more than one connection reaches, and never 5 % below the best".to_owned();
    goal("reads over more connections".to_owned(), wanted, found)
}

fn writers(report: &Report) -> Goal {
    let points = over_connections(report, "rw4k-32");
    let cores = u32::try_from(report.machine.cores).unwrap_or(u32::MAX);
    let base = points.iter().rfind(|(count, _)| *count <= cores.max(1)).copied();
    let found = base.filter(|_| points.len() == CONNECTIONS.len()).map(|(at, base)| {
        let shares = points.iter().filter(|(count, _)| *count >= 2 && *count != at);
        let shares: Vec<_> = shares.map(|(count, iops)| (*count, iops / base)).collect();
        let list: Vec<_> =
            shares.iter().map(|(count, share)| format!("{count}: {share:.2}")).collect();
        (list.join(", "), shares.iter().all(|(_, share)| *share >= WRITERS_SHARE))
    });
    let wanted = format!("together at least {WRITERS_SHARE} of one session per core");
    goal("2, 4, 8, 16 writers on one volume".to_owned(), wanted, found)
}

fn safety(report: &Report) -> Goal {
    let name = "cost of safety: server CPU of a write, 16 registrants and type 5".to_owned();
    let wanted = format!("at most {:.0} %", SAFETY_SHARE * 100.0);
    let spread = report.safety.as_ref().and_then(|safety| confidence(&safety.cpu_ratios));
    let Some(spread) = spread else { return goal(name, wanted, None) };
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let found = format!(
        "{:+.2} % (95 % confidence: {:+.2} to {:+.2})",
        percent(spread.median),
        percent(spread.least),
        percent(spread.most)
    );
    let verdict = if spread.most <= 1.0 + SAFETY_SHARE {
        Verdict::Met
    } else if spread.least > 1.0 + SAFETY_SHARE {
        Verdict::Missed
    } else {
        Verdict::Undecided
    };
    Goal { name, wanted, found, verdict }
}

fn of_files(
    files: Option<&Files>,
    (pattern, measure, bar, ours): &(&str, FileMeasure, f64, &str),
) -> Goal {
    let (what, of): (_, fn(&Sample) -> f64) = match measure {
        FileMeasure::Rate => ("rate", |sample| sample.iops),
        FileMeasure::Cpu => ("server CPU", |sample| sample.server_us),
    };
    let median = |server: &str| Some(files?.row(pattern, server)?.spread(of)?.median);
    let ratio = median(ours).zip(median(GANESHA)).map(|(ours, theirs)| ours / theirs);
    let (found, wanted) = match measure {
        FileMeasure::Rate => {
            let floor = files.and_then(|files| files.floor(pattern)).zip(median(GANESHA));
            let found = ratio.map(|ratio| {
                let is_met = ratio >= *bar;
                // Whether anybody could have met it is worth knowing where it was not.
                let beside = floor.filter(|_| !is_met).map(|(floor, theirs)| floor / theirs);
                let beside = beside.map(|of| format!("; a server that does nothing: {of:.2}"));
                (format!("{ratio:.2}{}", beside.unwrap_or_default()), is_met)
            });
            (found, format!("at least {bar:.0} × {GANESHA}"))
        }
        FileMeasure::Cpu => (
            ratio.map(|ratio| (format!("{ratio:.2}"), ratio <= *bar)),
            format!("at most {bar:.2} × {GANESHA}"),
        ),
    };
    goal(format!("files: {what}, {pattern}, {ours}"), wanted, found)
}

fn idle(report: &Report) -> Goal {
    let found = report.idle.iter().find(|idle| idle.server == OURS).map(|idle| {
        let text = format!(
            "{:.2} ms in {:.0} s with {} sessions",
            idle.cpu_ms, idle.seconds, idle.sessions
        );
        (text, idle.cpu_ms / 1e3 <= IDLE_SHARE * idle.seconds)
    });
    let wanted = format!("at most {:.1} % of a core", IDLE_SHARE * 100.0);
    goal("CPU of an idle daemon".to_owned(), wanted, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{files, report};
    use crate::report::{FLOORS, Idle, Safety, Taken};

    fn verdict(report: &Report, start: &str) -> Verdict {
        let goals = judge(report);
        goals.iter().find(|goal| goal.name.starts_with(start)).expect("such a goal").verdict
    }

    #[test]
    fn a_ratio_is_met_at_its_bar_and_missed_below() {
        let with = |ours: f64| {
            report(&[
                ("rr4k-32x4", OURS, ours, 4.0),
                ("rr4k-32x4", TGT, 10.0, 25.0),
                ("rr4k-32x4", NBDKIT, 39.0, 11.0),
            ])
        };
        let name = "throughput, rr4k-32x4, against ";
        assert_eq!(verdict(&with(40.0), &format!("{name}tgt")), Verdict::Met);
        assert_eq!(verdict(&with(39.9), &format!("{name}tgt")), Verdict::Missed);
        assert_eq!(verdict(&with(38.0), &format!("{name}nbdkit")), Verdict::Missed);
        assert_eq!(verdict(&with(40.0), "server CPU per I/O, rr4k-32x4"), Verdict::Met);
        assert_eq!(verdict(&with(40.0), "throughput, sr1m-4"), Verdict::NotMeasured);
    }

    #[test]
    fn latency_compares_with_nbdkit_alone() {
        let report = report(&[("rr4k-1", OURS, 20e3, 9.0), ("rr4k-1", NBDKIT, 19e3, 9.0)]);
        assert_eq!(verdict(&report, "median latency, rr4k-1"), Verdict::Met);
        assert_eq!(verdict(&report, "median latency, rw4k-1"), Verdict::NotMeasured);
        let slower =
            |iops| self::report(&[("rr4k-1", OURS, iops, 9.0), ("rr4k-1", NBDKIT, 20e3, 9.0)]);
        // The samples of a figure go from 0.9 of it to 1.2: these overlap, those do not.
        assert_eq!(verdict(&slower(19e3), "median latency, rr4k-1"), Verdict::Undecided);
        assert_eq!(verdict(&slower(10e3), "median latency, rr4k-1"), Verdict::Missed);
    }

    #[test]
    fn scaling_and_writers_want_every_point() {
        let at = |figures: [f64; 5]| {
            let names = ["rw4k-32", "rw4k-32x2", "rw4k-32x4", "rw4k-32x8", "rw4k-32x16"];
            let reads = ["rr4k-32", "rr4k-32x2", "rr4k-32x4", "rr4k-32x8", "rr4k-32x16"];
            let rows = names.iter().zip(figures).chain(reads.iter().zip(figures));
            let rows: Vec<_> = rows.map(|(name, iops)| (*name, OURS, iops, 1.0)).collect();
            let mut report = report(&rows);
            report.machine.cores = 2;
            report
        };
        let good = at([50.0, 100.0, 100.0, 99.0, 96.0]);
        assert_eq!(verdict(&good, "2, 4, 8, 16 writers"), Verdict::Met);
        assert_eq!(verdict(&good, "reads over more"), Verdict::Met);
        let falls = at([50.0, 100.0, 100.0, 99.0, 94.0]);
        assert_eq!(verdict(&falls, "2, 4, 8, 16 writers"), Verdict::Missed);
        assert_eq!(verdict(&falls, "reads over more"), Verdict::Missed);
        let flat = at([100.0, 100.0, 99.0, 99.0, 99.0]);
        assert_eq!(verdict(&flat, "reads over more"), Verdict::Missed, "nothing was added");
        let mut some = good;
        some.rows.retain(|row| row.pattern != "rw4k-32x8");
        assert_eq!(verdict(&some, "2, 4, 8, 16 writers"), Verdict::NotMeasured);
    }

    #[test]
    fn safety_is_decided_only_by_what_the_samples_show() {
        let with = |ratios: &[f64]| Report {
            safety: Some(Safety {
                taken: Taken::default(),
                registrants: 16,
                slice_s: 0.5,
                cpu_ratios: ratios.to_vec(),
                time_ratios: ratios.to_vec(),
                plain_cpu_us: 5.0,
                plain_time_us: 9.0,
            }),
            ..Report::default()
        };
        assert_eq!(verdict(&with(&[1.0, 1.01, 1.005]), "cost of safety"), Verdict::Met);
        assert_eq!(verdict(&with(&[1.04, 1.05, 1.06]), "cost of safety"), Verdict::Missed);
        assert_eq!(verdict(&with(&[0.9, 1.0, 1.1]), "cost of safety"), Verdict::Undecided);
        assert_eq!(verdict(&with(&[]), "cost of safety"), Verdict::NotMeasured);
    }

    #[test]
    fn idle_allows_a_thousandth_of_a_core() {
        let with = |cpu_ms| {
            let idle = Idle { server: OURS.into(), sessions: 16, seconds: 10.0, cpu_ms };
            Report { idle: vec![idle], ..Report::default() }
        };
        assert_eq!(verdict(&with(9.9), "CPU of an idle"), Verdict::Met);
        assert_eq!(verdict(&with(10.1), "CPU of an idle"), Verdict::Missed);
    }

    #[test]
    fn files_are_judged_by_the_tree_that_is_as_durable() {
        let files = files(&[
            ("create-1", OURS, 10.0, 9.0),
            ("create-1", RELAXED, 200.0, 9.0),
            ("create-1", GANESHA, 100.0, 9.0),
            ("read4k-32", OURS, 199.0, 10.0),
            ("read4k-32", GANESHA, 100.0, 30.0),
        ]);
        let report = Report { files: Some(files), ..Report::default() };
        assert_eq!(verdict(&report, "files: rate, create-1, "), Verdict::Met);
        assert_eq!(verdict(&report, "files: rate, read4k-32"), Verdict::Missed);
        assert_eq!(verdict(&report, "files: server CPU, read4k-32"), Verdict::Met);
        assert_eq!(verdict(&report, "files: rate, stat-1, "), Verdict::NotMeasured);
    }

    #[test]
    fn what_was_missed_stands_beside_what_a_server_that_does_nothing_reaches() {
        let found = |ours: f64, floor: Option<f64>| {
            let mut figures =
                vec![("stat-1x8", RELAXED, ours, 9.0), ("stat-1x8", GANESHA, 100.0, 9.0)];
            figures.extend(floor.map(|floor| ("stat-1x8", FLOORS[1], floor, 1.0)));
            let report = Report { files: Some(files(&figures)), ..Report::default() };
            let name = format!("files: rate, stat-1x8, {RELAXED}");
            let goal = judge(&report).into_iter().find(|goal| goal.name == name).expect("a goal");
            (goal.found, goal.verdict)
        };
        let missed = |text: &str| (text.to_owned(), Verdict::Missed);
        let beside = missed("1.56; a server that does nothing: 1.90");
        assert_eq!(found(156.0, Some(190.0)), beside);
        assert_eq!(found(156.0, None), missed("1.56"), "older results");
        assert_eq!(found(200.0, Some(190.0)), ("2.00".to_owned(), Verdict::Met));
    }

    #[test]
    fn every_goal_of_files_is_measured_by_default() {
        for (pattern, ..) in FILES {
            assert!(crate::files::DEFAULT.contains(&pattern), "{pattern}");
        }
    }
}
