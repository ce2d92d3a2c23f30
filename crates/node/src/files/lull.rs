//! Whether who stays with a connection goes on looking for a moment when there is nothing to do.
//!
//! To sleep and be woken costs something on both sides: the client's send has to wake us, and on an
//! idle core the way back takes tens of microseconds. Where the next request comes within that time,
//! a thread can look for it instead. Whether that is quicker is a matter of the machine: on one with
//! an idle core who looks saves a wake-up; where client and server take turns on one core, who sleeps
//! makes room for the client, and no core has to wake another. So what a call takes is timed in both
//! ways, from one request to the next, and the quicker one is done; the other is tried now and then.
//! A trial is long, because the kernel moves threads between cores only after a while.
//!
//! Invariant: values in, values out; who has nothing to do for long sleeps.

use std::time::Duration;

/// How long a look goes on: a client on an idle core is woken, and has sent its next request.
pub(super) const LOOK: Duration = Duration::from_nanos(LOOK_NANOS as u64);
const LOOK_NANOS: u32 = 100_000;
/// Who sleeps for longer would look in vain, with what it takes to be woken on both sides.
const WOKEN_NANOS: u32 = 200_000;
/// A pause of the client, whatever it is, is no longer than this.
const PAUSE_NANOS: u32 = 2 * WOKEN_NANOS;
/// Of so many times with nothing to do, so many in a row are for what was slower until then.
const ROUND: u32 = 16_384;
const TRIED: u32 = 256;
/// So many turns after a change show what was before it.
const SETTLES: u32 = 64;
/// Looks in vain after which no more is tried.
const VAIN: u32 = 8;

/// What is done while there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Way {
    #[default]
    Sleep,
    Look,
}

/// An average in which the last one counts an eighth; none before the first.
#[derive(Clone, Copy, Default, Debug)]
struct Average(Option<u32>);

impl Average {
    fn learn(&mut self, nanos: u32) {
        let before = self.0.unwrap_or(nanos);
        self.0 = Some(before - before / 8 + nanos / 8);
    }
}

/// What is as often exceeded as not: it moves by a part of itself with each one. An average was
/// decided by the one call in a trial during which somebody else had the core.
#[derive(Clone, Copy, Default, Debug)]
struct Median(Option<u32>);

impl Median {
    fn learn(&mut self, nanos: u32) {
        let before = self.0.unwrap_or(nanos);
        let step = before / 32 + 1;
        let after = if nanos > before { before + step } else { before.saturating_sub(step) };
        self.0 = Some(after);
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Known {
    /// How long there is nothing to do.
    gap: Average,
    /// From one call to the next.
    call: Median,
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lull {
    slept: Known,
    looked: Known,
    turn: u32,
    /// The last way, and for how many turns nothing is learned of it yet.
    way: Way,
    settles: u32,
    /// When there was last something to do, and how many calls that was.
    since: Option<(Duration, u32)>,
}

impl Lull {
    /// Whether to look before sleeping.
    pub(super) fn way(&self) -> Way {
        if self.slept.gap.0.is_none_or(|slept| slept > WOKEN_NANOS) {
            return Way::Sleep;
        }
        // Looks that end in sleep, mostly, burn a core for nothing.
        let is_met = self.looked.gap.0.is_none_or(|looked| looked <= LOOK_NANOS);
        let is_quicker = match (self.looked.call.0, self.slept.call.0) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(looked), Some(slept)) => looked < slept,
        };
        let looks = is_met && is_quicker;
        let at = self.turn % ROUND;
        let is_trial = at < TRIED && self.looked.call.0.is_some();
        let is_vain = !looks && !is_met && at >= VAIN;
        if looks == (is_trial && !is_vain) { Way::Sleep } else { Way::Look }
    }

    /// There was nothing to do for so long; now there are so many calls.
    pub(super) fn rested(&mut self, way: Way, waited: Duration, now: Duration, calls: usize) {
        let nanos = |time: Duration| u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        self.turn = self.turn.wrapping_add(1);
        if self.way != way {
            (self.way, self.settles) = (way, SETTLES);
        }
        self.settles = self.settles.saturating_sub(1);
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        let before = self.since.replace((now, calls));
        let known = if way == Way::Look { &mut self.looked } else { &mut self.slept };
        known.gap.learn(nanos(waited).min(PAUSE_NANOS));
        if let Some((since, calls)) = before
            && self.settles == 0
            && calls > 0
            && nanos(waited) <= PAUSE_NANOS
        {
            known.call.learn(nanos(now.saturating_sub(since)) / calls);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client and the machine: microseconds from one request to the next, of which there is
    /// nothing to do in all but ten.
    struct World {
        lull: Lull,
        now: Duration,
    }

    impl World {
        fn new() -> Self {
            Self { lull: Lull::default(), now: Duration::ZERO }
        }
        /// So many turns: how many looked. What a turn takes depends on how many were done in the
        /// same way before it.
        fn turns(&mut self, count: u32, takes: impl Fn(Way, u32) -> u64) -> u32 {
            let (mut looked, mut same, mut last) = (0, 0, None);
            for _ in 0..count {
                let way = self.lull.way();
                same = if last == Some(way) { same + 1 } else { 0 };
                last = Some(way);
                let took = Duration::from_micros(takes(way, same));
                self.now += took;
                let waited = took.saturating_sub(Duration::from_micros(10));
                self.lull.rested(way, waited, self.now, 1);
                looked += u32::from(way == Way::Look);
            }
            looked
        }
        fn steady(&mut self, count: u32, slept: u64, looked: u64) -> u32 {
            self.turns(count, |way, _| if way == Way::Look { looked } else { slept })
        }
    }

    #[test]
    fn who_is_asked_often_looks_and_who_is_asked_seldom_sleeps() {
        let mut world = World::new();
        assert_eq!(world.lull.way(), Way::Sleep);
        assert!(world.steady(10_000, 100, 50) > 9_000, "{:?}", world.lull);
        assert_eq!(world.lull.way(), Way::Look);
        // The client goes away for good: what it was like until then costs a few looks.
        assert!(world.steady(1000, 5000, 5000) < 30, "{:?}", world.lull);
        assert_eq!(world.steady(10_000, 5000, 5000), 0);
    }

    #[test]
    fn the_quicker_way_is_taken_and_the_other_is_tried() {
        let mut world = World::new();
        world.steady(2 * ROUND, 30, 60);
        let looked = world.steady(100 * ROUND, 30, 60);
        assert!((1..=100 * TRIED).contains(&looked), "{looked}");
        // Another program leaves a core idle: now it is quicker to look.
        let looked = world.steady(100 * ROUND, 110, 60);
        assert!(looked > 98 * (ROUND - TRIED), "{looked}");
    }

    /// It went on looking where client and server could have taken turns on one core, in half of
    /// the time: the kernel brought them together only after some turns of sleep, and what was
    /// compared was the pause alone, though to wake another core is paid by who sends.
    #[test]
    fn a_way_that_becomes_quick_after_a_while_is_found() {
        let mut world = World::new();
        let takes = |way, same| match way {
            Way::Look => 35,
            Way::Sleep if same < 50 => 55,
            Way::Sleep => 22,
        };
        world.turns(3 * ROUND, takes);
        let looked = world.turns(20 * ROUND, takes);
        assert!(looked <= 20 * TRIED, "{looked} {:?}", world.lull);
    }

    /// It fell behind once a client needed 50 us from the answer to its next request: a look ended
    /// in vain just before, and to be woken for it took longer than what counted as quick.
    #[test]
    fn a_client_on_an_idle_core_is_met() {
        let mut world = World::new();
        world.steady(2 * SETTLES, 115, 60);
        assert!(world.steady(ROUND, 115, 60) >= ROUND - TRIED - SETTLES, "{:?}", world.lull);
    }

    #[test]
    fn looks_that_end_in_sleep_are_few_even_where_they_seem_no_slower() {
        let mut world = World::new();
        world.steady(ROUND, 160, 150);
        let looked = world.steady(100 * ROUND, 160, 150);
        assert!(looked <= 100 * 2 * VAIN, "{looked}");
    }

    /// It slept for good after a trial in whose end somebody else had had the core for a moment.
    #[test]
    fn one_long_call_in_a_trial_does_not_decide() {
        let mut world = World::new();
        world.steady(ROUND / 2, 30, 20);
        assert_eq!(world.lull.way(), Way::Look);
        for _ in 0..3 {
            world.steady(1, 30, 350);
            assert_eq!(world.lull.way(), Way::Look, "{:?}", world.lull);
            world.steady(100, 30, 20);
        }
    }

    #[test]
    fn one_pause_does_not_change_what_is_done() {
        let mut world = World::new();
        world.steady(2 * ROUND + 2 * TRIED, 100, 50);
        assert_eq!(world.lull.way(), Way::Look);
        world.now += Duration::from_secs(2);
        world.lull.rested(Way::Look, Duration::from_secs(2), world.now, 1);
        let looked = world.steady(2 * ROUND, 100, 50);
        assert!(looked > ROUND, "{looked} {:?}", world.lull);
    }
}
