//! Schedules: snapshots of volumes by the clock.

use api::schedule::{CreateSchedule, Schedule, ScheduleQuery, UpdateSchedule};
use clap::Subcommand;

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, moment, note, or_dash};

#[derive(Subcommand, Debug)]
pub(crate) enum ScheduleCommand {
    /// Take a snapshot of a volume now and then again and again, and keep the newest of them
    Create {
        volume: String,
        /// What the names of its snapshots begin with; `every-1h` and the like when left out
        #[arg(long)]
        name: Option<String>,
        /// From one to the next: a number with m, h, d or w
        #[arg(long, value_name = "PERIOD", value_parser = period)]
        every: u64,
        /// How many stay
        #[arg(long, value_name = "COUNT")]
        keep: u32,
    },
    /// All schedules, with the time of the next snapshot
    List {
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
    },
    /// One schedule
    #[command(visible_alias = "get")]
    Show { schedule: String },
    /// Change period or number; keeping fewer deletes the oldest
    Update {
        schedule: String,
        #[arg(long, value_name = "PERIOD", value_parser = period)]
        every: Option<u64>,
        #[arg(long, value_name = "COUNT")]
        keep: Option<u32>,
    },
    /// End schedules; the snapshots that they have taken stay
    Delete {
        #[arg(required = true)]
        schedules: Vec<String>,
    },
}

/// Units of periods in seconds, the longest first.
const UNITS: [(&str, u64); 4] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60)];

/// Seconds of `90m`, `1h`, `7d`, `2w`.
fn period(text: &str) -> Result<u64, String> {
    let why = || format!("'{text}' is not a number with m, h, d or w, such as 1h");
    let (unit, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(why)?;
    let number: u64 = text.trim_end_matches(unit).trim().parse().map_err(|_| why())?;
    number.checked_mul(*seconds).filter(|seconds| *seconds > 0).ok_or_else(why)
}

/// A period in the longest unit that it has a whole number of.
fn spoken(seconds: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(word, unit)| format!("{}{word}", seconds / unit))
}

impl Listed for Schedule {
    const WORD: &'static str = "schedules";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |schedule| schedule.name.clone()),
        ("volume", |schedule| schedule.volume_name.clone()),
        ("every", |schedule| spoken(schedule.every_seconds)),
        ("keep", |schedule| schedule.keep.to_string()),
        ("next", |schedule| moment(&schedule.due_at)),
        ("last", |schedule| or_dash(schedule.last_at.as_ref().map(moment))),
        ("fault", |schedule| or_dash(schedule.fault.clone())),
        ("id", |schedule| schedule.id.to_string()),
    ];
}

impl ScheduleCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { volume, name, every, keep } => {
                let name = name.unwrap_or_else(|| format!("every-{}", spoken(every)));
                let body = CreateSchedule { volume, name, every_seconds: every, keep };
                context.show(&client.schedule_create(&body).await?)
            }
            Self::List { volume } => {
                context.list(&ScheduleQuery { volume, ..ScheduleQuery::default() }).await
            }
            Self::Show { schedule } => context.show(&client.schedule_show(&schedule).await?),
            Self::Update { schedule, every, keep } => {
                let body = UpdateSchedule { every_seconds: every, keep };
                context.show(&client.schedule_update(&schedule, &body).await?)
            }
            Self::Delete { schedules } => {
                for schedule in schedules {
                    client.schedule_delete(&schedule).await?;
                    note(&format!("The schedule {schedule} has ended; its snapshots stay."));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_said_in_their_units() {
        for (text, seconds) in [("1m", 60), ("90m", 5400), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(period(text), Ok(seconds), "{text}");
        }
        assert_eq!([60, 5400, 86_400, 1_209_600, 61].map(spoken), ["1m", "90m", "1d", "2w", "61s"]);
        for bad in ["", "1", "h", "0h", "-1h", "1.5h", "1y", "99999999999999999999w"] {
            assert!(period(bad).is_err(), "{bad}");
        }
    }
}
