//! Schedule: snapshots of a volume that are taken by the clock, and how many of them stay.
//!
//! ```text
//!  created ----> due ----> a snapshot, or a fault ----> due one period later ...
//!                             '--> when it is made, the oldest of the schedule's go until `keep` stay
//! ```
//!
//! A service that was away takes one snapshot when it is back, not all that it has missed.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, ScheduleId, SnapshotId, VolumeId};
use crate::snapshot::{Snapshot, SnapshotState};

/// Shortest and longest period, in milliseconds: a minute, and a year with its leap day.
pub const EVERY_MS_MIN: u64 = 60_000;
pub const EVERY_MS_MAX: u64 = 366 * 86_400_000;
/// Most schedules of one volume.
pub const PER_VOLUME_MAX: usize = 8;

/// A schedule. Its name is unique among those of its volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    pub id: ScheduleId,
    pub project: ProjectId,
    pub volume: VolumeId,
    /// What the names of its snapshots begin with.
    pub name: String,
    /// From one snapshot to the next.
    pub every_ms: u64,
    /// How many of its snapshots stay.
    pub keep: u32,
    /// When the next one is taken: milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// When the last one was asked for.
    pub last_ms: Option<u64>,
    /// Why the last one could not be taken.
    pub fault: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Schedule {
    #[must_use]
    pub const fn is_due(&self, now_ms: u64) -> bool {
        self.due_ms <= now_ms
    }

    /// The first time after `now_ms` that is whole periods away from the one that it had.
    #[must_use]
    pub const fn due_after(&self, now_ms: u64) -> u64 {
        if now_ms < self.due_ms {
            return self.due_ms;
        }
        let periods = (now_ms - self.due_ms) / self.every_ms + 1;
        self.due_ms.saturating_add(periods.saturating_mul(self.every_ms))
    }

    /// The name of a snapshot taken at this time: `hourly-20260131T180000Z`.
    #[must_use]
    pub fn snapshot_name(&self, at_ms: u64) -> String {
        let (seconds, [year, month, day]) = (at_ms / 1000 % 86_400, date(at_ms / 86_400_000));
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{}-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z", self.name)
    }

    /// Those of its snapshots that are too many: the oldest, until `keep` stay. Only whole ones
    /// count. Others of the volume are not its own.
    #[must_use]
    pub fn surplus(&self, snapshots: &[Snapshot]) -> Vec<SnapshotId> {
        let is_own = |one: &&Snapshot| {
            one.schedule == Some(self.id) && one.state == SnapshotState::Available
        };
        let mut own: Vec<_> = snapshots.iter().filter(is_own).collect();
        own.sort_by_key(|one| (one.created_ms, one.id));
        let keep = usize::try_from(self.keep).unwrap_or(usize::MAX);
        let too_many = own.len().saturating_sub(keep);
        own.iter().take(too_many).map(|one| one.id).collect()
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Counted in eras of
/// 400 years of March to February, so that a leap day is a year's last.
fn date(days: u64) -> [u64; 3] {
    const ERA_DAYS: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let leaps = day_of_era / 1460 + day_of_era / (ERA_DAYS - 1);
    let year_of_era = (day_of_era - leaps + day_of_era / 36_524) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on: 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    [era * 400 + year_of_era + u64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ByteSize;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn schedule(every_ms: u64, keep: u32, due_ms: u64) -> Schedule {
        Schedule {
            id: ScheduleId(Uuid::from_u128(1)),
            project: ProjectId(Uuid::from_u128(2)),
            volume: VolumeId(Uuid::from_u128(3)),
            name: "hourly".to_owned(),
            every_ms,
            keep,
            due_ms,
            last_ms: None,
            fault: None,
            created_ms: 0,
        }
    }

    fn snapshot(number: u128, created_ms: u64, state: SnapshotState) -> Snapshot {
        Snapshot {
            id: SnapshotId(Uuid::from_u128(number)),
            project: ProjectId(Uuid::from_u128(2)),
            volume: VolumeId(Uuid::from_u128(3)),
            name: number.to_string(),
            description: String::new(),
            metadata: Default::default(),
            size: ByteSize(0),
            state,
            fault: None,
            hidden_for: None,
            schedule: Some(ScheduleId(Uuid::from_u128(1))),
            created_ms,
        }
    }

    #[test]
    fn names_hold_the_time_in_the_gregorian_calendar() {
        let named = |at_ms| schedule(1, 1, 0).snapshot_name(at_ms);
        assert_eq!(named(0), "hourly-19700101T000000Z");
        assert_eq!(named(951_782_399_999), "hourly-20000228T235959Z");
        assert_eq!(named(951_782_400_000), "hourly-20000229T000000Z");
        assert_eq!(named(1_769_882_400_000), "hourly-20260131T180000Z");
        assert_eq!(named(4_107_542_399_000), "hourly-21000228T235959Z");
        assert_eq!(named(4_107_542_400_000), "hourly-21000301T000000Z");
    }

    #[test]
    fn a_service_that_was_away_is_due_once() {
        let hourly = schedule(3_600_000, 3, 1000);
        assert!(!hourly.is_due(999) && hourly.is_due(1000));
        assert_eq!(hourly.due_after(1000), 3_601_000);
        assert_eq!(hourly.due_after(10 * 3_600_000), 10 * 3_600_000 + 1000);
        assert_eq!(hourly.due_after(5), 1000);
    }

    #[test]
    fn the_oldest_whole_ones_are_too_many() {
        use SnapshotState::{Available, Creating, Deleting, Error};
        let mut all = vec![
            snapshot(10, 40, Available),
            snapshot(11, 10, Available),
            snapshot(12, 30, Available),
            snapshot(13, 20, Available),
            snapshot(14, 5, Deleting),
            snapshot(15, 1, Error),
            snapshot(16, 50, Creating),
        ];
        let mut by_hand = snapshot(17, 0, Available);
        by_hand.schedule = None;
        all.push(by_hand);
        let ids = |numbers: &[u128]| -> Vec<_> {
            numbers.iter().map(|number| SnapshotId(Uuid::from_u128(*number))).collect()
        };
        assert_eq!(schedule(1, 2, 0).surplus(&all), ids(&[11, 13]));
        assert_eq!(schedule(1, 4, 0).surplus(&all), ids(&[]));
    }

    proptest! {
        #[test]
        fn the_next_time_is_after_now_and_whole_periods_on(
            every_ms in EVERY_MS_MIN..EVERY_MS_MAX, due_ms in 0..1u64 << 42, now_ms in 0..1u64 << 42,
        ) {
            let next = schedule(every_ms, 1, due_ms).due_after(now_ms);
            prop_assert!(next > now_ms || next == due_ms);
            prop_assert!(next >= due_ms && (next - due_ms).is_multiple_of(every_ms));
            prop_assert!(next <= now_ms.max(due_ms) + every_ms);
        }

        #[test]
        fn days_follow_each_other(day in 0u64..200_000) {
            let ([year, month, of_month], next) = (date(day), date(day + 1));
            let same_month = next == [year, month, of_month + 1];
            let new_month = next == [year, month + 1, 1] || next == [year + 1, 1, 1] && month == 12;
            prop_assert!(same_month || new_month && of_month >= 28);
        }
    }
}
