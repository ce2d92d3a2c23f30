//! Schedules: snapshots by the clock, and how many of them stay.
//!
//! The time of the next one is in the catalog, and moves on in the transaction that asks for the
//! snapshot: a crash neither loses one nor takes it twice. What is too many goes in the
//! transaction that notes that a new one is whole.

use std::sync::Weak;
use std::time::Duration;

use model::event::EventResult;
use model::id::{ScheduleId, VolumeId};
use model::project::Project;
use model::schedule::{EVERY_MS_MAX, EVERY_MS_MIN, PER_VOLUME_MAX, Schedule};
use model::snapshot::{Snapshot, SnapshotState};
use model::text;
use model::user::Role;
use model::volume::{Volume, VolumeStatus};

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, invalid, listed_project, name_is_free, resolve, valid_name};
use crate::page::Page;
use crate::params::{ScheduleCreate, ScheduleFilter, ScheduleUpdate, ScheduleView};
use crate::snapshot::New;
use crate::volume::{busy, expected};

/// How often the clock is looked at: how late a snapshot may be after the clock was set.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

fn valid_period(every_ms: u64) -> Result<u64> {
    if (EVERY_MS_MIN..=EVERY_MS_MAX).contains(&every_ms) {
        return Ok(every_ms);
    }
    let why = "the period is between a minute and 366 days".to_owned();
    Err(ControlError::Invalid { field: "every", why })
}

async fn of_volume(on: &mut Connection, volume: &Volume) -> Result<Vec<Schedule>> {
    catalog::select(on, Query::<Schedule>::all().eq("volume", volume.id)).await
}

/// Refuse a schedule that the volume's limit could not hold: what all of them keep, and the one
/// that is new before an old one goes.
async fn fits(on: &mut Connection, volume: &Volume, schedule: &Schedule) -> Result<()> {
    if schedule.keep == 0 {
        let why = "a schedule that keeps nothing is none".to_owned();
        return Err(ControlError::Invalid { field: "keep", why });
    }
    let project: Project = expected(on, volume.project.0).await?;
    let limit = project.quotas.snapshots_per_volume;
    let others = of_volume(on, volume).await?;
    let others = others.iter().filter(|other| other.id != schedule.id);
    let used: u64 = others.map(|other| u64::from(other.keep) + 1).sum();
    let asked = u64::from(schedule.keep) + 1;
    if used + asked <= limit {
        return Ok(());
    }
    Err(ControlError::QuotaExceeded {
        what: "snapshots of one volume",
        limit: limit.to_string(),
        used: format!("{used} by its schedules"),
        asked: format!("{asked} (what it keeps, and the newest)"),
    })
}

/// The volume is going: nothing is to be taken of it any more.
pub(crate) async fn end_with(tx: &mut Transaction, volume: VolumeId) -> Result<()> {
    catalog::delete_all(tx, Query::<Schedule>::all().eq("volume", volume)).await?;
    Ok(())
}

impl Control {
    /// A new schedule; its first snapshot is taken at once.
    ///
    /// # Errors
    /// A reader; a bad value; the volume's limit of snapshots or of schedules; the volume is on
    /// its way out.
    pub async fn schedule_create(
        &self,
        caller: &Caller,
        new: ScheduleCreate,
    ) -> Result<ScheduleView> {
        caller.must_be(Role::Member, "create schedules")?;
        let name = valid_name(&new.name)?;
        let every_ms = valid_period(new.every_ms)?;
        let mut tx = self.inner.catalog.begin().await?;
        let volume: Volume = resolve(&mut tx, caller, &new.volume).await?;
        if volume.status == VolumeStatus::Deleting {
            return Err(busy(&volume, "schedule snapshots of"));
        }
        let now_ms = self.inner.now_ms();
        let schedule = Schedule {
            id: ScheduleId(self.inner.new_id()),
            project: volume.project,
            volume: volume.id,
            name,
            every_ms,
            keep: new.keep,
            due_ms: now_ms,
            last_ms: None,
            fault: None,
            created_ms: now_ms,
        };
        // The names of its snapshots are browsed, where there is a tree.
        text::file_volume_name(&schedule.snapshot_name(now_ms)).map_err(invalid("name"))?;
        let among = Query::<Schedule>::all().eq("volume", volume.id);
        name_is_free(&mut tx, among, &schedule.name, None).await?;
        let count = of_volume(&mut tx, &volume).await?.len();
        if count >= PER_VOLUME_MAX {
            return Err(ControlError::QuotaExceeded {
                what: "schedules of one volume",
                limit: PER_VOLUME_MAX.to_string(),
                used: count.to_string(),
                asked: "1".to_owned(),
            });
        }
        fits(&mut tx, &volume, &schedule).await?;
        catalog::insert(&mut tx, &schedule).await?;
        let detail = format!("of volume '{}'", volume.name);
        let (action, result) = ("schedule.create", EventResult::Done);
        self.inner.record(&mut tx, caller, &schedule, action, result, detail).await?;
        self.inner.commit(tx).await?;
        self.inner.clockwork.notify_one();
        Ok(ScheduleView { schedule, volume_name: volume.name })
    }

    /// # Errors
    /// No such volume or project; bad paging.
    pub async fn schedule_list(
        &self,
        caller: &Caller,
        filter: &ScheduleFilter,
    ) -> Result<Page<ScheduleView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let volume = match &filter.volume {
            None => None,
            Some(name) => Some(resolve::<Volume>(&mut on, caller, name).await?.id),
        };
        let query = Query::<Schedule>::all()
            .maybe("project", project)
            .maybe("volume", volume)
            .maybe("name", filter.name.as_deref());
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        let volumes = page.items.iter().map(|schedule| schedule.volume.0);
        let names = catalog::names::<Volume>(&mut on, volumes).await?;
        Ok(page.map(|schedule| ScheduleView {
            volume_name: names.get(&schedule.volume.0).cloned().unwrap_or_default(),
            schedule,
        }))
    }

    /// # Errors
    /// No such schedule, or ambiguous.
    pub async fn schedule_get(&self, caller: &Caller, schedule: &str) -> Result<ScheduleView> {
        let mut on = self.inner.catalog.read().await?;
        let schedule: Schedule = resolve(&mut on, caller, schedule).await?;
        let volume: Volume = expected(&mut on, schedule.volume.0).await?;
        Ok(ScheduleView { schedule, volume_name: volume.name })
    }

    /// Another period counts from the last snapshot on. Keeping fewer removes the others.
    ///
    /// # Errors
    /// A reader; no such schedule, or ambiguous; a bad value; the volume's limit of snapshots.
    pub async fn schedule_update(
        &self,
        caller: &Caller,
        schedule: &str,
        change: ScheduleUpdate,
    ) -> Result<ScheduleView> {
        caller.must_be(Role::Member, "change schedules")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut schedule: Schedule = resolve(&mut tx, caller, schedule).await?;
        let volume: Volume = expected(&mut tx, schedule.volume.0).await?;
        if let Some(every_ms) = change.every_ms {
            schedule.every_ms = valid_period(every_ms)?;
            schedule.due_ms = schedule.last_ms.unwrap_or(schedule.created_ms) + every_ms;
        }
        schedule.keep = change.keep.unwrap_or(schedule.keep);
        fits(&mut tx, &volume, &schedule).await?;
        catalog::update(&mut tx, &schedule).await?;
        self.inner.done(&mut tx, caller, &schedule, "schedule.update").await?;
        self.inner.remove_surplus(&mut tx, schedule.id).await?;
        self.inner.commit(tx).await?;
        self.inner.clockwork.notify_one();
        Ok(ScheduleView { schedule, volume_name: volume.name })
    }

    /// No more snapshots are taken by it; those that there are stay.
    ///
    /// # Errors
    /// A reader; no such schedule, or ambiguous.
    pub async fn schedule_delete(&self, caller: &Caller, schedule: &str) -> Result<()> {
        caller.must_be(Role::Member, "delete schedules")?;
        let mut tx = self.inner.catalog.begin().await?;
        let schedule: Schedule = resolve(&mut tx, caller, schedule).await?;
        catalog::delete::<Schedule>(&mut tx, schedule.id.0).await?;
        self.inner.done(&mut tx, caller, &schedule, "schedule.delete").await?;
        self.inner.commit(tx).await
    }

    /// Ask for every snapshot that is due now: for the loop, and for whoever has none. One that
    /// is due while its volume is at other work is taken afterwards.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn schedules_run(&self) -> Result<()> {
        let now_ms = self.inner.now_ms();
        let mut on = self.inner.catalog.read().await?;
        let due = Query::<Schedule>::all().less("due_ms", now_ms.saturating_add(1));
        let due = catalog::select(&mut on, due).await?;
        drop(on);
        if !due.is_empty() {
            self.refresh_usage().await;
        }
        for schedule in due {
            self.inner.take_scheduled(schedule.id, now_ms).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// One snapshot, or the reason why not; and the time of the next one.
    async fn take_scheduled(&self, id: ScheduleId, now_ms: u64) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        // It may have gone, or had its turn, since it was looked up.
        let Some(mut schedule) = catalog::get::<Schedule>(&mut tx, id.0).await? else {
            return Ok(());
        };
        if !schedule.is_due(now_ms) {
            return Ok(());
        }
        let volume: Volume = expected(&mut tx, schedule.volume.0).await?;
        if !volume.status.takes_snapshots() {
            let fault = Some(format!("it waits: the volume is {}", volume.status.word()));
            if schedule.fault != fault {
                schedule.fault = fault;
                catalog::update(&mut tx, &schedule).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        let new = New {
            name: schedule.snapshot_name(now_ms),
            schedule: Some(&schedule),
            ..New::default()
        };
        let caller = Caller::system();
        let fault = match self.take_snapshot(&mut tx, &caller, &volume, new).await {
            Ok(_) => None,
            Err(error @ ControlError::Catalog(_)) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        schedule.due_ms = schedule.due_after(now_ms);
        schedule.last_ms = Some(now_ms);
        schedule.fault = fault;
        catalog::update(&mut tx, &schedule).await?;
        if let Some(why) = schedule.fault.clone() {
            let (action, result) = ("schedule.run", EventResult::Failed);
            self.record(&mut tx, &caller, &schedule, action, result, why).await?;
        }
        self.commit(tx).await
    }

    /// A snapshot of a schedule is whole, or has failed: the oldest go, or it goes itself.
    pub(crate) async fn scheduled_ended(
        &self,
        tx: &mut Transaction,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        let Some(id) = snapshot.schedule else { return Ok(()) };
        if snapshot.state == SnapshotState::Available {
            return self.remove_surplus(tx, id).await;
        }
        if let Some(mut schedule) = catalog::get::<Schedule>(tx, id.0).await? {
            schedule.fault.clone_from(&snapshot.fault);
            catalog::update(tx, &schedule).await?;
        }
        // Nobody is there to look at it, and each would take up room in the volume's limit.
        self.remove(tx, snapshot, "it failed").await
    }

    async fn remove_surplus(&self, tx: &mut Transaction, id: ScheduleId) -> Result<()> {
        let Some(schedule) = catalog::get::<Schedule>(tx, id.0).await? else { return Ok(()) };
        let volume: Volume = expected(tx, schedule.volume.0).await?;
        let all = catalog::select(tx, Query::<Snapshot>::all().eq("volume", volume.id)).await?;
        let surplus = schedule.surplus(&all);
        for mut snapshot in all.into_iter().filter(|one| surplus.contains(&one.id)) {
            // What clones or a rollback need stays until the next time.
            let clones = Query::<Volume>::all().eq("origin_snapshot", snapshot.id);
            let is_needed = volume.status == VolumeStatus::Reverting { to: snapshot.id }
                || catalog::count(tx, clones).await? > 0;
            if !is_needed {
                let why = format!("more than schedule '{}' keeps", schedule.name);
                self.remove(tx, &mut snapshot, &why).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, tx: &mut Transaction, one: &mut Snapshot, why: &str) -> Result<()> {
        one.state = SnapshotState::Deleting;
        catalog::update(tx, one).await?;
        let (action, result) = ("snapshot.delete", EventResult::Accepted);
        self.record(tx, &Caller::system(), one, action, result, why).await
    }

    /// How long nothing is due.
    async fn until_due(&self) -> Result<Duration> {
        let mut on = self.catalog.read().await?;
        let first = "COALESCE(MIN(due_ms), 9223372036854775807)";
        let due_ms = catalog::least(&mut on, Query::<Schedule>::all(), first).await?;
        Ok(Duration::from_millis(due_ms.saturating_sub(self.now_ms())))
    }
}

/// Take what is due, for ever. It ends with the last clone of the `Control`.
pub(crate) async fn run(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade().filter(|inner| !inner.board.is_stopped()) {
        let control = Control { inner };
        let pause = match control.schedules_run().await {
            Ok(()) => control.inner.until_due().await.unwrap_or(LOOK_PAUSE),
            Err(error) => {
                tracing::warn!(%error, "scheduled snapshots could not be asked for; trying again");
                LOOK_PAUSE
            }
        };
        let clockwork = std::sync::Arc::clone(&control.inner.clockwork);
        drop(control);
        // What is due and waits for its volume is looked at again, but not at once.
        let pause = pause.clamp(SHORTEST_PAUSE, LOOK_PAUSE);
        let _changed_or_due = tokio::time::timeout(pause, clockwork.notified()).await;
    }
}
