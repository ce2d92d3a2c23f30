//! Takeovers of a volume among hosts that pause, hang, crash and are cut off: the real takeover
//! machine and the real reservation machine, everything between them simulated.
//!
//! `COMMONHOLD_TAKEOVERS=N` runs seeds until there were N takeovers; `cargo xtask takeovers` does
//! so optimised. A failure names its seed; `COMMONHOLD_TAKEOVER_SEED=S` runs that one alone, and
//! with a number of takeovers begins there.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod checker;
mod command;
mod faults;
mod host;
mod scripts;
mod target;
mod ways;
mod world;

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use checker::Wrong;
use faults::HEARD_AGAIN;
use world::{Faults, Outcome, Scheme, World};

/// Takeovers in `cargo test`.
const TAKEOVERS: u64 = 250;
/// A campaign says how far it is after each so many.
const STRETCH: u64 = 50_000;

/// What a campaign has seen.
#[derive(Default)]
struct Seen {
    seeds: u64,
    takeovers: u64,
    landed: u64,
    faults: Faults,
}

impl Seen {
    fn add(&mut self, outcome: Outcome) {
        if self.takeovers / STRETCH != (self.takeovers + outcome.takeovers) / STRETCH {
            eprintln!("{} takeovers and {} writes so far", self.takeovers, self.landed);
        }
        self.seeds += 1;
        self.takeovers += outcome.takeovers;
        self.landed += outcome.landed;
        for (fault, times) in outcome.faults {
            *self.faults.entry(fault).or_default() += times;
        }
    }

    fn tell(&self) {
        let Self { seeds, takeovers, landed, faults } = self;
        eprintln!("{takeovers} takeovers from one host to another, of {seeds} seeds");
        eprintln!("{landed} writes landed, none of them stale and none lost");
        faults.iter().for_each(|(fault, times)| eprintln!("{times:>12}  {fault}"));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn play(scheme: Scheme, seed: u64) -> Outcome {
    let outcome = World::new(seed, scheme).run();
    assert!(outcome.wrong.is_none(), "seed {seed}: {:?}\n{}", outcome.wrong, outcome.story);
    outcome
}

/// One seed after the other, on every core, until there were so many takeovers.
fn campaign(scheme: Scheme, first: u64, takeovers: u64) -> Seen {
    let (next, seen) = (AtomicU64::new(first), Mutex::new(Seen::default()));
    let work = || {
        while seen.lock().unwrap().takeovers < takeovers {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let outcome = play(scheme, seed);
            seen.lock().unwrap().add(outcome);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    seen.into_inner().unwrap()
}

/// What the controls look for: the seeds among the first few in which this went wrong.
fn caught(scheme: Scheme, is: fn(&Wrong) -> bool) -> usize {
    let wrong = |seed: &u64| World::new(*seed, scheme).run().wrong;
    let count = (0..40).filter_map(|seed| wrong(&seed)).filter(is).count();
    eprintln!("{scheme:?}: caught in {count} of 40 seeds");
    count
}

/// As long as the environment says.
fn demand(scheme: Scheme) {
    let (seed, takeovers) = (number("COMMONHOLD_TAKEOVER_SEED"), number("COMMONHOLD_TAKEOVERS"));
    if let (Some(seed), None) = (seed, takeovers) {
        let outcome = play(scheme, seed);
        return eprintln!("{}{} takeovers", outcome.story, outcome.takeovers);
    }
    let seen = campaign(scheme, seed.unwrap_or(0), takeovers.unwrap_or(TAKEOVERS));
    seen.tell();
    assert!(seen.takeovers > seen.seeds, "{} takeovers: the faults are too mild", seen.takeovers);
    assert!(seen.faults.contains_key(HEARD_AGAIN), "no owner had to be heard again");
}

#[test]
fn nothing_stale_nothing_lost_and_one_owner_at_a_time() {
    demand(Scheme::Guard);
}

#[test]
fn the_same_with_one_to_three_paths_that_die_and_come_back() {
    demand(Scheme::Paths);
}

/// A guard that began on a machine that stood still took the time of that for its own: its clock
/// went back when the machine went on, and its next look was late. No guard does that.
#[test]
fn a_guard_that_adopts_on_a_paused_machine_begins_when_that_goes_on() {
    for seed in [10_116_736, 10_221_076] {
        play(Scheme::Guard, seed);
    }
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

#[test]
fn the_checker_catches_a_gate_that_opens_while_a_registration_has_no_answer() {
    let stale = caught(Scheme::PathsWithoutDoubt, |wrong| matches!(wrong, Wrong::Stale { .. }));
    assert!(stale > 0, "a fenced host that is registered late is not seen");
}

/// A guard was killed while it registered a path, and the next one knew nothing of it.
#[test]
fn the_checker_catches_a_guard_that_forgets_what_it_had_sent() {
    let stale = caught(Scheme::PathsWithoutNote, |wrong| matches!(wrong, Wrong::Stale { .. }));
    assert!(stale > 0, "a registration that outlives its guard is not seen");
}

#[test]
fn the_checker_catches_a_path_that_is_let_in_while_the_host_writes() {
    let stale = caught(Scheme::PathsWithoutGate, |wrong| matches!(wrong, Wrong::Stale { .. }));
    assert!(stale > 0, "a fenced host that comes back by another path is not seen");
}
