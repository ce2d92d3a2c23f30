//! One takeover after the other: the owner's host is paused for a while, or its guard is killed.

use std::time::Duration;

use rustix::process::Signal;

use crate::dice::Dice;
use crate::stage::{Guarded, Stage};
use crate::writer::now_us;

/// Takeovers in `cargo test`.
const ROUNDS: usize = 6;
/// No survivor's first write may come later than this on any machine that runs the tests.
const LIMIT_MS: u64 = 5_000;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

struct Pair {
    stage: Stage,
    guards: [Option<Guarded>; 2],
    owner: usize,
    dice: Dice,
}

impl Pair {
    /// A pause that is too short to matter.
    fn blink(&mut self) {
        let (owner, other) = (self.owner, 1 - self.owner);
        let runs = self.stage.diary(other).runs;
        let guard = self.guards[owner].as_ref().unwrap();
        self.stage.signal(owner, guard, Signal::STOP);
        std::thread::sleep(Duration::from_millis(100 + self.dice.below(90) as u64));
        self.stage.signal(owner, guard, Signal::CONT);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(self.stage.diary(other).runs, runs, "a pause below 200 ms moved the volume");
    }

    /// Milliseconds from the fault to the survivor's first acknowledged write.
    fn takeover(&mut self, longest_ms: usize) -> u64 {
        let (loser, winner) = (self.owner, 1 - self.owner);
        let runs = self.stage.diary(winner).runs;
        let mut guard = self.guards[loser].take().unwrap();
        let (kills, begun_us) = (self.dice.below(4) == 0, now_us());
        if kills {
            guard.signal(Signal::KILL);
        } else {
            self.stage.signal(loser, &guard, Signal::STOP);
        }
        let wrote_us = self.stage.writes(winner, runs);
        let picture = self.stage.picture();
        if !kills {
            let paused_ms = self.dice.below(longest_ms) as u64;
            std::thread::sleep(Duration::from_millis(paused_ms));
            self.stage.signal(loser, &guard, Signal::CONT);
        }
        let (code, said) = guard.ended();
        assert!(kills || code == Some(120), "{code:?}: {said}");
        self.stage.check(&picture, winner);
        assert_eq!(self.stage.ends(loser, "permit", &[]).0, 0);
        self.guards[loser] = Some(self.stage.hold(loser));
        std::thread::sleep(Duration::from_millis(400));
        self.owner = winner;
        (wrote_us - begun_us) / 1000
    }
}

/// `COMMONHOLD_GUARD_ROUNDS` sets the takeovers, `COMMONHOLD_GUARD_PAUSE_MS` how long a host that
/// lost may stay paused.
#[test]
fn takeovers_leave_nothing_stale_and_short_pauses_move_nothing() {
    let rounds = number("COMMONHOLD_GUARD_ROUNDS", ROUNDS);
    let longest_ms = number("COMMONHOLD_GUARD_PAUSE_MS", 1_000);
    let stage = Stage::new();
    let first = stage.owner(0);
    let second = stage.hold(1);
    std::thread::sleep(Duration::from_millis(400));
    let guards = [Some(first), Some(second)];
    let mut pair = Pair { stage, guards, owner: 0, dice: Dice(20_261_125) };
    let mut took_ms = Vec::new();
    for _ in 0..rounds {
        pair.blink();
        took_ms.push(pair.takeover(longest_ms));
    }
    took_ms.sort_unstable();
    let at = |part: usize| took_ms[(rounds * part / 100).min(rounds - 1)];
    eprintln!(
        "{rounds} takeovers; from the fault to the survivor's first write: median {} ms, p99 {} \
         ms, most {} ms",
        at(50),
        at(99),
        at(100)
    );
    assert!(at(100) < LIMIT_MS, "{took_ms:?}");
}
