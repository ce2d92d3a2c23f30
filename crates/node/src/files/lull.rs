//! Whether to go on looking for a moment when there is nothing to do.
//!
//! To sleep and be woken costs more than a small call, on both sides: the client's send has to wake
//! us, and on an idle core the way back takes tens of microseconds. Where the next request comes
//! within that time, a thread can look for it instead. Whether that is quicker is a matter of the
//! machine: on one with an idle core who looks saves a wake-up; where all cores have work, who
//! sleeps makes room for the client, which then runs where we were. So both are timed, from nothing
//! to do to the next request, and the quicker one is done; the other is tried now and then.
//!
//! Invariant: values in, values out; who has nothing to do for long sleeps.

use std::time::Duration;

/// How long a look goes on: a client on an idle core is woken, and has sent its next request.
pub(super) const LOOK: Duration = Duration::from_nanos(LOOK_NANOS as u64);
const LOOK_NANOS: u32 = 100_000;
/// Who sleeps for longer would look in vain, with what it takes to be woken on both sides.
const WOKEN_NANOS: u32 = 200_000;
/// What was there after so short a time was there before.
pub(super) const AT_ONCE: Duration = Duration::from_micros(3);
/// Of so many times with nothing to do, so many in a row are for what was slower until then.
const ROUND: u32 = 128;
const TRIED: u32 = 8;
/// Requests that came together: who has so much to do at once is woken seldom.
const TOGETHER: usize = 4;

/// How long there is nothing to do, of late: an average in which the last one counts an eighth.
#[derive(Clone, Copy, Default, Debug)]
struct Gap {
    /// None before the first.
    nanos: Option<u32>,
}

impl Gap {
    fn learn(&mut self, took: Duration) {
        // A pause of the client is one long gap, whatever it is.
        let most = 2 * WOKEN_NANOS;
        let took = u32::try_from(took.as_nanos()).unwrap_or(most).min(most);
        let before = self.nanos.unwrap_or(took);
        self.nanos = Some(before - before / 8 + took / 8);
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lull {
    slept: Gap,
    looked: Gap,
    turn: u32,
}

impl Lull {
    /// Whether to look before sleeping, after so many calls that came together.
    pub(super) fn is_worth_a_look(self, calls: usize) -> bool {
        let Some(slept) = self.slept.nanos.filter(|slept| *slept <= WOKEN_NANOS) else {
            return false;
        };
        // Looks that end in sleep, mostly, burn a core for nothing.
        let is_met = |looked| looked <= slept && looked <= LOOK_NANOS;
        let is_quicker = self.looked.nanos.is_none_or(is_met);
        let is_trial = self.turn % ROUND < TRIED && self.looked.nanos.is_some();
        calls < TOGETHER && is_quicker != is_trial
    }
    /// There was nothing to do for so long, looked for first.
    pub(super) fn looked(&mut self, took: Duration) {
        self.turn = self.turn.wrapping_add(1);
        self.looked.learn(took);
    }
    /// The same without a look.
    pub(super) fn slept(&mut self, took: Duration) {
        self.turn = self.turn.wrapping_add(1);
        self.slept.learn(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many turns with gaps of so many microseconds, by what is done: how many looked.
    fn turns(lull: &mut Lull, count: u32, slept: u64, looked: u64) -> u32 {
        let looks = (0..count).filter(|_| {
            let looks = lull.is_worth_a_look(1);
            if looks {
                lull.looked(Duration::from_micros(looked));
            } else {
                lull.slept(Duration::from_micros(slept));
            }
            looks
        });
        u32::try_from(looks.count()).unwrap()
    }

    #[test]
    fn who_is_asked_often_looks_and_who_is_asked_seldom_sleeps() {
        let mut lull = Lull::default();
        assert!(!lull.is_worth_a_look(1));
        assert!(turns(&mut lull, 1000, 100, 50) > 800, "{lull:?}");
        assert!(lull.is_worth_a_look(1));
        assert!(!lull.is_worth_a_look(TOGETHER), "one wake-up for many calls is cheap");
        // The client goes away for good: what it was like until then costs a few looks.
        assert!(turns(&mut lull, 1000, 5000, 5000) < 30, "{lull:?}");
        assert_eq!(turns(&mut lull, 1000, 5000, 5000), 0);
    }

    #[test]
    fn the_quicker_way_is_taken_and_the_other_is_tried() {
        let mut lull = Lull::default();
        turns(&mut lull, 100, 30, 60);
        let looked = turns(&mut lull, 100 * ROUND, 30, 60);
        assert!((1..=100 * TRIED).contains(&looked), "{looked}");
        // Another program leaves a core idle: now it is quicker to look.
        let looked = turns(&mut lull, 100 * ROUND, 110, 60);
        assert!(looked > 90 * (ROUND - TRIED), "{looked}");
        // A look that ends in sleep pays for both.
        let looked = turns(&mut lull, 100 * ROUND, 150, 160);
        assert!(looked <= 104 * TRIED, "{looked}");
    }

    /// It fell behind once a client needed 50 us from the answer to its next request: a look ended
    /// in vain just before, and to be woken for it took longer than what counted as quick.
    #[test]
    fn a_client_on_an_idle_core_is_met() {
        let mut lull = Lull::default();
        turns(&mut lull, 100, 115, 60);
        assert!(turns(&mut lull, ROUND, 115, 60) >= ROUND - TRIED, "{lull:?}");
    }

    #[test]
    fn looks_that_end_in_sleep_are_few_even_where_they_seem_no_slower() {
        let mut lull = Lull::default();
        turns(&mut lull, 100, 160, 150);
        let looked = turns(&mut lull, 100 * ROUND, 160, 150);
        assert!(looked <= 104 * TRIED, "{looked}");
    }

    #[test]
    fn one_pause_does_not_change_what_is_done() {
        let mut lull = Lull::default();
        turns(&mut lull, 5 * ROUND + 2 * TRIED, 100, 50);
        assert!(lull.is_worth_a_look(1));
        lull.looked(Duration::from_secs(2));
        let looked = turns(&mut lull, 2 * ROUND, 100, 50);
        assert!(looked > ROUND, "{looked} {lull:?}");
    }
}
