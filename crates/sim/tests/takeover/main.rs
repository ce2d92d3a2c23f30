//! Takeovers of a volume among hosts that pause, hang, crash and are cut off: the real takeover
//! machine and the real reservation machine, everything between them simulated.
//!
//! `COMMONHOLD_TAKEOVER_SEEDS=N` runs N seeds instead of the default few; `cargo xtask takeovers`
//! does so optimised. A failure names its seed; `COMMONHOLD_TAKEOVER_SEED=S` runs that one alone.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod checker;
mod faults;
mod host;
mod scripts;
mod target;
mod world;

use checker::Wrong;
use world::{Scheme, World};

const SEEDS: u64 = 60;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(only) = number("COMMONHOLD_TAKEOVER_SEED") {
        return only..only + 1;
    }
    0..number("COMMONHOLD_TAKEOVER_SEEDS").unwrap_or(SEEDS)
}

/// What the controls look for: the seeds among the first few in which this went wrong.
fn caught(scheme: Scheme, is: fn(&Wrong) -> bool) -> usize {
    let wrong = |seed: &u64| World::new(*seed, scheme).run().wrong;
    let count = (0..40).filter_map(|seed| wrong(&seed)).filter(is).count();
    eprintln!("{scheme:?}: caught in {count} of 40 seeds");
    count
}

#[test]
fn nothing_stale_nothing_lost_and_one_owner_at_a_time() {
    let (mut takeovers, mut writes) = (0, 0);
    for seed in seeds() {
        let outcome = World::new(seed, Scheme::Guard).run();
        assert!(outcome.wrong.is_none(), "seed {seed}: {:?}\n{}", outcome.wrong, outcome.story);
        takeovers += outcome.takeovers;
        writes += outcome.landed;
    }
    eprintln!("{takeovers} takeovers, {writes} writes landed, none of them stale and none lost");
    assert!(takeovers > seeds().count(), "{takeovers} takeovers: the faults are too mild");
}

#[test]
fn a_seed_names_one_run() {
    let run = || World::new(77, Scheme::Guard).run();
    let (first, second) = (run(), run());
    assert_eq!(first.story, second.story);
    assert!(first.landed > 100);
}

#[test]
fn the_checker_catches_clear_and_reserve() {
    let stale = caught(Scheme::ClearAndReserve, |wrong| matches!(wrong, Wrong::Stale { .. }));
    assert!(stale > 0, "the scheme of the known scripts looks safe: the checker sees nothing");
}

#[test]
fn the_checker_catches_a_target_that_answers_a_preempt_before_the_drain() {
    let stale = caught(Scheme::GuardWithoutDrain, |wrong| matches!(wrong, Wrong::Stale { .. }));
    assert!(stale > 0, "writes that land after GOOD are not seen");
}

#[test]
fn the_checker_catches_an_owner_that_never_freezes() {
    let twice = caught(Scheme::GuardWithoutFreeze, |wrong| matches!(wrong, Wrong::Twice { .. }));
    assert!(twice > 0, "two running owners are not seen");
}
