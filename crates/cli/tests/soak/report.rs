//! What the campaign measured: a text for the terminal and for a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use crate::actions::Action;
use crate::watch::{Sample, robust_slope};
use crate::world::World;
use crate::{GROWTH_KIB_MAX, SLOWEST, TREND_SAMPLES_MIN, TREND_SECONDS_MIN, WARM_UP};

/// Rows of the table over time.
const ROWS: usize = 24;

/// How a figure moved over the long life, warm-up left out.
struct Trend {
    seconds: f64,
    samples: usize,
    rss_kib: [u64; 3],
    descriptors: [usize; 3],
    threads: [u64; 3],
    rss_growth_kib: f64,
    descriptors_growth: f64,
    threads_growth: f64,
}

pub(crate) struct Report {
    text: String,
    trend: Option<Trend>,
    slowest: std::time::Duration,
    pub(crate) path: PathBuf,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The samples of the life that had the most.
fn longest_life(samples: &[Sample]) -> Vec<Sample> {
    let mut lives: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        lives.entry(sample.life).or_default().push(*sample);
    }
    lives.into_values().max_by_key(Vec::len).unwrap_or_default()
}

impl Trend {
    fn new(life: &[Sample]) -> Option<Self> {
        let (first, last) = (life.first()?, life.last()?);
        let warm_s = first.at_s + (last.at_s - first.at_s) * WARM_UP;
        let warm: Vec<&Sample> = life.iter().filter(|sample| sample.at_s >= warm_s).collect();
        let begin = *warm.first()?;
        let seconds = last.at_s - begin.at_s;
        let growth = |of: fn(&Sample) -> f64| {
            // A hundred points give the slope as well as thousands.
            let step = warm.len().div_ceil(300);
            let points: Vec<_> =
                warm.iter().step_by(step).map(|sample| (sample.at_s, of(sample))).collect();
            robust_slope(&points) * seconds
        };
        Some(Self {
            seconds,
            samples: warm.len(),
            rss_kib: [first.rss_kib, begin.rss_kib, last.rss_kib],
            descriptors: [first.descriptors, begin.descriptors, last.descriptors],
            threads: [first.threads, begin.threads, last.threads],
            rss_growth_kib: growth(|sample| small(sample.rss_kib)),
            descriptors_growth: growth(|sample| small(sample.descriptors.try_into().unwrap())),
            threads_growth: growth(|sample| small(sample.threads)),
        })
    }
}

fn small(value: u64) -> f64 {
    f64::from(u32::try_from(value).expect("a figure of one process"))
}

impl Report {
    pub(crate) fn new(
        seed: u64,
        world: &World,
        counts: &BTreeMap<Action, usize>,
        samples: &[Sample],
        snapshots_read: Option<usize>,
    ) -> Self {
        let figures = &world.figures;
        let (slowest, what) = figures.slowest();
        let actions: Vec<_> =
            counts.iter().map(|(action, count)| format!("{action:?} {count}")).collect();
        let seconds = samples.last().map_or(0.0, |sample| sample.at_s);
        let commands = figures.commands.load(Relaxed);
        let end = snapshots_read.map_or("still running".to_owned(), |read| {
            format!("ended in order, {read} snapshots read back")
        });
        let mut text = format!(
            "seed {seed}, {seconds:.0} s, {end}\n\nactions: {}\n\n{commands} commands ({:.0}/s), {} blocks \
             read and found right, {} reservation conflicts, {} writes refused by a read-only \
             attachment, {} for want of space\n\
             slowest command: {} ms ({what})\nexpected lines in the log: {:?}\n",
            actions.join(", "),
            small(commands) / seconds.max(1.0),
            figures.blocks_read.load(Relaxed),
            figures.conflicts.load(Relaxed),
            figures.protected.load(Relaxed),
            figures.no_space.load(Relaxed),
            slowest.as_millis(),
            world.log.expected,
        );
        let trend = Trend::new(&longest_life(samples));
        if let Some(trend) = &trend {
            text += &trend_text(trend);
        }
        text += &table(samples);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{seed}.txt"));
        Self { text, trend, slowest, path }
    }

    pub(crate) fn write(&self) {
        std::fs::write(&self.path, &self.text).unwrap();
    }

    /// What must not be.
    pub(crate) fn judge(&self) {
        assert!(self.slowest < SLOWEST, "a command took {:?}", self.slowest);
        let Some(trend) = &self.trend else { return };
        if trend.samples < TREND_SAMPLES_MIN || trend.seconds < TREND_SECONDS_MIN {
            println!("too short for a trend of memory");
            return;
        }
        assert!(trend.rss_growth_kib < GROWTH_KIB_MAX, "memory grows");
        assert!(trend.descriptors_growth < 16.0, "file descriptors grow");
        assert!(trend.threads_growth < 4.0, "threads grow");
    }
}

fn trend_text(trend: &Trend) -> String {
    let [a, b, c] = trend.rss_kib;
    format!(
        "longest life (begin, after warm-up, end): RSS {a}, {b}, {c} KiB; descriptors {:?}; \
         threads {:?}\ntrend over its last {:.0} s (median slope of {} samples): RSS {:+.0} KiB, \
         descriptors {:+.1}, threads {:+.1}\n",
        trend.descriptors,
        trend.threads,
        trend.seconds,
        trend.samples,
        trend.rss_growth_kib,
        trend.descriptors_growth,
        trend.threads_growth,
    )
}

fn table(samples: &[Sample]) -> String {
    let mut text = "\nseconds  life  RSS KiB  descriptors  threads  commands/s\n".to_owned();
    let step = samples.len().div_ceil(ROWS).max(1);
    let mut before = (0.0, 0);
    for sample in samples.iter().skip(step - 1).step_by(step) {
        let rate = small(sample.commands - before.1) / (sample.at_s - before.0).max(0.001);
        before = (sample.at_s, sample.commands);
        text += &format!(
            "{:7.0} {:5} {:8} {:12} {:8} {rate:11.0}\n",
            sample.at_s, sample.life, sample.rss_kib, sample.descriptors, sample.threads,
        );
    }
    text
}
