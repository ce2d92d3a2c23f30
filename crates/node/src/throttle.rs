//! Saying a thing now and then instead of each time: floods must fill neither log nor catalog.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Time between two lines that say the same.
const PAUSE: Duration = Duration::from_secs(10);

/// One kind of log line.
#[derive(Default, Debug)]
pub(crate) struct Throttle {
    next: Duration,
    silent: u64,
}

impl Throttle {
    /// It happened once more. `Some`: say it now, and that it happened so often since the last
    /// time.
    pub(crate) fn tell(&mut self, now: Duration) -> Option<u64> {
        self.silent += 1;
        if now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        Some(std::mem::take(&mut self.silent))
    }
}

/// Notices that strangers can cause, in one span of time.
#[derive(Default, Debug)]
pub(crate) struct Quota {
    since: Duration,
    by_address: HashMap<IpAddr, u32>,
    all: u32,
    suppressed: u64,
}

/// The span, and how many in it: of one address, and of all.
const SPAN: Duration = Duration::from_secs(60);
const EACH_MAX: u32 = 10;
const ALL_MAX: u32 = 100;

impl Quota {
    /// True: this one may be told.
    pub(crate) fn allows(&mut self, from: IpAddr, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= SPAN {
            *self = Self { since: now, suppressed: self.suppressed, ..Self::default() };
        }
        let mine = self.by_address.get(&from).copied().unwrap_or(0);
        if mine >= EACH_MAX || self.all >= ALL_MAX {
            self.suppressed += 1;
            return false;
        }
        self.by_address.insert(from, mine + 1);
        self.all += 1;
        true
    }

    /// How many were not told, ever.
    #[must_use]
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_at_once_then_rarely_and_counts_the_silent_ones() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.tell(Duration::ZERO), Some(1));
        for ms in 1..1000 {
            assert_eq!(throttle.tell(Duration::from_millis(ms)), None);
        }
        assert_eq!(throttle.tell(Duration::from_secs(10)), Some(1000));
    }

    #[test]
    fn one_address_cannot_use_up_the_quota_of_all() {
        let (mut quota, now) = (Quota::default(), Duration::from_secs(1));
        let loud = [192, 0, 2, 1].into();
        let told = (0..1000).filter(|_| quota.allows(loud, now)).count();
        assert_eq!((told, quota.suppressed()), (10, 990));
        assert!(quota.allows([192, 0, 2, 2].into(), now));
        // Many addresses together end at the quota of all, and the table with them.
        let told = (0..=255).filter(|n| quota.allows([198, 51, 100, *n].into(), now)).count();
        assert_eq!((told, quota.by_address.len()), (89, 91));
        assert!(quota.allows(loud, now + SPAN));
        assert_eq!(quota.by_address.len(), 1);
    }
}
