//! Whether the calls of a connection are quick, so that who has read them runs them one after
//! another, or slow, so that they are spread over threads.
//!
//! One slow call says little: a lock whose holder was not given the processor looks like a disk.
//! Where a disk is waited for, many calls are slow.
//!
//! Who has one call under way at a time gains nothing by another thread, and loses the time that it
//! takes to wake one. Whether that is so is seen by what has come when a call has ended, before it
//! is answered.
//!
//! Invariant: values in, values out.

/// What a slow call adds, where a quick one takes one away.
const SLOW: u32 = 8;
/// What a quick one takes away while calls are spread: otherwise who commits each ninth call would
/// be spread for ever, once two commits had come together.
const QUICK: u32 = 2;
/// Two slow ones among few.
const SPREAD: u32 = 12;
const MAX: u32 = 64;
/// Calls for which a client that had two under way is taken for one that has.
const COMPANY: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Pace {
    score: u32,
    is_spread: bool,
    company: u32,
}

impl Pace {
    pub(super) fn is_spread(self) -> bool {
        self.is_spread
    }
    /// Whether a call goes to another thread, which is the only one that is known of.
    pub(super) fn spreads_one(self) -> bool {
        self.is_spread && self.company > 0
    }
    /// Another call had come before this one was answered.
    pub(super) fn meet(&mut self) {
        self.company = COMPANY;
    }
    /// A call has run.
    pub(super) fn learn(&mut self, was_slow: bool) {
        self.company = self.company.saturating_sub(1);
        if was_slow {
            self.score = (self.score + SLOW).min(MAX);
        } else {
            self.score = self.score.saturating_sub(if self.is_spread { QUICK } else { 1 });
        }
        match self.score {
            0 => self.is_spread = false,
            SPREAD.. => self.is_spread = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_spreads_calls_and_a_slow_call_now_and_then_does_not() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.learn(true);
            (0..8).for_each(|_| pace.learn(false));
            assert!(!pace.is_spread());
        }
        pace.learn(true);
        pace.learn(true);
        assert!(pace.is_spread(), "two in a row");
        // Half of it is in the cache.
        for turn in 0..1000 {
            pace.learn(turn % 2 == 0);
            assert!(pace.is_spread());
        }
        (0..MAX).for_each(|_| pace.learn(false));
        assert!(!pace.is_spread(), "it was spread for ever");
    }

    #[test]
    fn who_has_one_call_under_way_at_a_time_is_not_spread_and_who_had_two_is() {
        let mut pace = Pace::default();
        (0..10).for_each(|_| pace.learn(true));
        assert!(pace.is_spread() && !pace.spreads_one());
        pace.meet();
        for _ in 1..COMPANY {
            pace.learn(true);
            assert!(pace.spreads_one());
        }
        pace.learn(true);
        assert!(!pace.spreads_one(), "it is looked at again");
        pace.meet();
        (0..MAX).for_each(|_| pace.learn(false));
        assert!(!pace.spreads_one(), "quick ones are never spread");
    }

    #[test]
    fn two_slow_calls_together_do_not_spread_for_ever_who_is_slow_now_and_then() {
        let mut pace = Pace::default();
        pace.learn(true);
        pace.learn(true);
        assert!(pace.is_spread());
        for _ in 0..10 {
            pace.learn(true);
            (0..8).for_each(|_| pace.learn(false));
        }
        assert!(!pace.is_spread(), "{pace:?}");
    }
}
