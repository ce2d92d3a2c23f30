//! The store loses power at every step of random histories, and loses nothing that it promised.
//!
//! `COMMONHOLD_CRASH_SEEDS=N` runs N seeds instead of the default few. A failure names its seed
//! and its crash step; `COMMONHOLD_CRASH_SEED=S` runs that one seed alone.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

#[path = "store_crash/history.rs"]
mod history;
#[path = "store_crash/model.rs"]
mod model;

use std::future::Future;
use std::ops::Range;

use futures::executor::block_on;
use history::History;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The seeds to run: from the environment, or the first few.
fn seeds(default: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("COMMONHOLD_CRASH_SEED") {
        return seed..seed + 1;
    }
    0..number("COMMONHOLD_CRASH_SEEDS").unwrap_or(default)
}

/// Say what was running when a check fails.
struct Running {
    scenario: &'static str,
    seed: u64,
    step: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { scenario, seed, step } = self;
            eprintln!("{scenario}: seed {seed}, crash at step {step}");
        }
    }
}

fn run(scenario: &'static str, seed: u64, step: u64, work: impl Future<Output = ()>) {
    let _running = Running { scenario, seed, step };
    block_on(work);
}

/// Operations until the power goes, or so many.
async fn some_steps(history: &mut History, count: usize) {
    for _ in 0..count {
        if history.disk.crashed() {
            return;
        }
        history.step().await;
    }
}

/// From an empty disk, or from a volume with snapshots; the power goes so many steps after that.
/// Returns how many steps there were.
async fn short_history(seed: u64, crash_after: u64, operations: usize) -> u64 {
    let mut history = History::new(seed, false);
    if seed > 0 {
        history.open().await.unwrap();
        history.prelude().await;
    }
    let start = history.disk.steps();
    history.disk.crash_at(start.saturating_add(crash_after));
    if seed > 0 || history.open().await.is_ok() {
        some_steps(&mut history, operations).await;
    }
    let steps = history.disk.steps() - start;
    history.disk.crash();
    history.recover().await;
    some_steps(&mut history, 3).await;
    history.finish().await;
    steps
}

#[test]
fn a_crash_at_every_step_of_a_short_history_loses_nothing_that_was_promised() {
    for seed in seeds(3) {
        let mut steps = 0;
        run("short", seed, u64::MAX, async { steps = short_history(seed, u64::MAX, 9).await });
        for crash_after in 0..steps {
            run("short", seed, crash_after, async {
                short_history(seed, crash_after, 9).await;
            });
        }
    }
}

#[test]
fn many_crashes_in_a_long_history_lose_nothing_that_was_promised() {
    for seed in seeds(10) {
        run("long", seed, 0, async {
            let mut random = StdRng::seed_from_u64(seed);
            let mut history = History::new(seed + 1_000_000, false);
            history.open().await.unwrap();
            for _ in 0..6 {
                history.disk.crash_at(history.disk.steps() + random.random_range(1..1500));
                some_steps(&mut history, 60).await;
                history.disk.crash();
                history.recover().await;
            }
            history.finish().await;
        });
    }
}

#[test]
fn full_and_broken_disks_lose_nothing_that_was_promised() {
    for seed in seeds(25) {
        run("faults", seed, 0, async {
            let mut history = History::new(seed + 2_000_000, true);
            history.disk.slow_down(20);
            history.open().await.unwrap();
            some_steps(&mut history, 30).await;
            history.disk.crash();
            history.recover().await;
            some_steps(&mut history, 10).await;
            history.finish().await;
        });
    }
}
