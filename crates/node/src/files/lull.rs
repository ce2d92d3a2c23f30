//! Whether to go on looking for a moment when there is nothing to do.
//!
//! To sleep and be woken costs more than a small call, on both sides: the client's send has to wake
//! us, and on an idle core the way back takes tens of microseconds. Where the next request comes
//! within that time, a thread looks for it instead. It does so only as long as it pays: requests
//! that come later cost the look once, and then no more until some would have been met again.
//!
//! Invariant: values in, values out; who has nothing to do for long sleeps.

use std::time::Duration;

/// How long a look goes on.
pub(super) const LOOK: Duration = Duration::from_micros(50);
/// The same with the time that it takes to be woken: who slept for less would have met it.
const WOKEN: Duration = Duration::from_micros(100);
/// What was there after so short a time was there before.
pub(super) const AT_ONCE: Duration = Duration::from_micros(3);
/// So many requests in a row that were met, or would have been, are worth a look.
const CREDIT: u32 = 4;
const CREDIT_MAX: u32 = 16;
/// What a look in vain takes away.
const VAIN: u32 = 4;
/// Requests that came together: who has so much to do at once is woken seldom.
const TOGETHER: usize = 4;

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lull {
    credit: u32,
}

impl Lull {
    /// Whether to look before sleeping, after so many calls that came together.
    pub(super) fn is_worth_a_look(self, calls: usize) -> bool {
        self.credit >= CREDIT && calls < TOGETHER
    }
    /// A look met something.
    pub(super) fn met(&mut self) {
        self.credit = (self.credit + 1).min(CREDIT_MAX);
    }
    /// A look was in vain.
    pub(super) fn missed(&mut self) {
        self.credit = self.credit.saturating_sub(VAIN);
    }
    /// Slept for so long, without a look before.
    pub(super) fn slept(&mut self, slept: Duration) {
        if slept < WOKEN {
            self.met();
        } else {
            self.credit = self.credit.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_often_looks_and_who_is_asked_seldom_sleeps() {
        let mut lull = Lull::default();
        assert!(!lull.is_worth_a_look(1));
        (0..CREDIT).for_each(|_| lull.slept(Duration::from_micros(30)));
        assert!(lull.is_worth_a_look(1));
        assert!(!lull.is_worth_a_look(TOGETHER), "one wake-up for many calls is cheap");
        (0..100).for_each(|_| lull.met());
        let vain = (0..100).filter(|_| {
            let looks = lull.is_worth_a_look(1);
            if looks {
                lull.missed();
            } else {
                lull.slept(Duration::from_millis(5));
            }
            looks
        });
        assert!(vain.count() <= 4, "it looks in vain again and again");
    }
}
