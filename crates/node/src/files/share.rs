//! Who may hold how much memory for calls and replies on their way.
//!
//! A connection may hold as much as is left for all others together: with n that take all they
//! can get, each ends with one part in n + 1, and as much is left for whoever comes next. However
//! full it is, each has a floor of its own, so that small calls always run.
//!
//! Invariant: values in, values out; what all hold exceeds the capacity by no more than the floors
//! and one call and reply for each thread.

/// The bounds, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Share {
    pub capacity: u64,
    /// What each connection may hold however full it is.
    pub floor: u64,
    /// Replies that a connection has not taken off us: with more than that it is served no more
    /// until it has.
    pub unsent_max: u64,
}

impl Share {
    /// How many bytes a connection may take in now. `held` is its own, `all` that of all.
    pub(super) fn room(&self, held: u64, all: u64, unsent: u64) -> u64 {
        if unsent >= self.unsent_max {
            return 0;
        }
        let left = self.capacity.saturating_sub(all);
        // Half of the difference: what it takes it also takes from what is left.
        let fair = left.saturating_sub(held) / 2;
        fair.max(self.floor.saturating_sub(held))
    }

    /// Whether connections that had no room may be asked again.
    pub(super) fn is_relaxed(&self, all: u64) -> bool {
        all <= self.capacity / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { capacity: 1 << 20, floor: 1 << 10, unsent_max: 1 << 16 };

    #[test]
    fn among_the_greedy_each_has_an_equal_part_and_one_is_left() {
        for count in [1, 2, 3, 7, 31] {
            let mut held = vec![0; count];
            for _ in 0..2000 {
                for at in 0..count {
                    let all = held.iter().sum();
                    held[at] += SHARE.room(held[at], all, 0).min(1 << 10);
                }
            }
            let part = SHARE.capacity / (u64::try_from(count).unwrap() + 1);
            for one in &held {
                assert!(one.abs_diff(part) <= part / 50 + 2, "{count}: {held:?}");
            }
            assert!(held.iter().sum::<u64>() <= SHARE.capacity);
        }
    }

    #[test]
    fn a_small_call_has_room_however_full_it_is() {
        assert_eq!(SHARE.room(0, 2 << 20, 0), 1 << 10);
        assert_eq!(SHARE.room(1000, 2 << 20, 0), 24);
        assert_eq!(SHARE.room(1 << 10, 2 << 20, 0), 0);
    }

    #[test]
    fn who_does_not_read_its_replies_is_served_no_more() {
        assert_eq!(SHARE.room(0, 0, 1 << 16), 0);
        assert_ne!(SHARE.room(0, 0, (1 << 16) - 1), 0);
    }
}
