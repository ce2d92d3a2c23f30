//! Events: the audit trail, and what nodes saw by themselves.

use model::event::{Event, EventResult, ResourceKind};
use model::id::EventId;
use model::order::Notice;
use model::pool::Pool;
use model::volume::Volume;
use uuid::Uuid;

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, listed_project};
use crate::page::Page;
use crate::params::EventFilter;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Control {
    /// Newest first; everybody sees the own project's, an admin all.
    ///
    /// # Errors
    /// No such project; bad paging.
    pub async fn event_list(&self, caller: &Caller, filter: &EventFilter) -> Result<Page<Event>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let mut query = Query::<Event>::all()
            .newest_first()
            .maybe("project", project)
            .maybe("action", filter.action.as_deref())
            .maybe("actor_name", filter.actor.as_deref())
            .maybe("resource", filter.resource.as_deref())
            .maybe("resource_id", filter.resource_id.as_deref());
        if let Some(since_ms) = filter.since_ms {
            query = query.at_least("at_ms", since_ms);
        }
        if let Some(until_ms) = filter.until_ms {
            query = query.less("at_ms", until_ms);
        }
        self.inner.page(&mut on, query, &filter.paging).await
    }

    /// # Errors
    /// No such event, or none that the caller may see.
    pub async fn event_get(&self, caller: &Caller, id: &str) -> Result<Event> {
        let missing = || ControlError::NotFound { kind: ResourceKind::Event, name: id.to_owned() };
        let id = Uuid::parse_str(id.trim()).map_err(|_| missing())?;
        let project = caller.limited_to()?;
        let mut on = self.inner.catalog.read().await?;
        let event = catalog::get::<Event>(&mut on, id).await?.ok_or_else(missing)?;
        // As in the list: what belongs to no project is the operator's.
        let visible = project.is_none() || event.project == project;
        visible.then_some(event).ok_or_else(missing)
    }

    /// Forget the events that are older than the settings say; gives how many there were. It runs
    /// by itself every hour.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn forget_old_events(&self) -> Result<u64> {
        self.inner.forget_old_events().await
    }

    /// Take what a node saw by itself into the audit trail.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn notice(&self, notice: Notice) -> Result<()> {
        if let Notice::MergeFinished { .. } = notice {
            self.inner.wake.notify_one();
        }
        let mut tx = self.inner.catalog.begin().await?;
        let event = self.inner.event_of(&mut tx, notice).await?;
        catalog::insert(&mut tx, &event).await?;
        // No wake: a notice asks for no work.
        tx.commit().await?;
        Ok(())
    }

    /// The node started anew and knows nothing of what it was asked: send it all again.
    pub fn node_restarted(&self) {
        self.inner.board.forget_all();
        self.inner.wake.notify_one();
    }
}

impl Inner {
    pub(crate) async fn forget_old_events(&self) -> Result<u64> {
        /// At once, so that no request waits long for its turn.
        const BATCH: u32 = 1000;
        let Some(days) = self.settings.event_days else { return Ok(0) };
        let end_ms = self.now_ms().saturating_sub(u64::from(days.get()) * DAY_MS);
        let mut forgotten = 0;
        loop {
            let mut tx = self.catalog.begin().await?;
            let old = Query::<Event>::all().less("at_ms", end_ms).limit(BATCH);
            let gone = catalog::delete_all(&mut tx, old).await?;
            tx.commit().await?;
            forgotten += gone;
            if gone < u64::from(BATCH) {
                return Ok(forgotten);
            }
        }
    }

    pub(crate) async fn event_of(&self, on: &mut Connection, notice: Notice) -> Result<Event> {
        let (done, failed, refused) =
            (EventResult::Done, EventResult::Failed, EventResult::Refused);
        let (volume, action, result, from, detail) = match notice {
            Notice::PoolFull { pool, volume } => {
                let pool = catalog::get::<Pool>(on, pool.0).await?;
                let name = pool.map_or_else(|| "?".to_owned(), |pool| pool.name);
                let detail = format!("pool '{name}' is full; a write was refused");
                (Some(volume), "volume.pool_full", failed, String::new(), detail)
            }
            Notice::MediumError { volume, why, .. } => {
                (Some(volume), "volume.medium_error", failed, String::new(), why)
            }
            Notice::MergeFinished { volume, snapshot } => {
                let detail = format!("the bytes of snapshot {snapshot} are merged");
                (Some(volume), "volume.merge", done, String::new(), detail)
            }
            Notice::SanitizeBegun { volume, by, what } => {
                let detail = format!("{what}, asked for by {by}");
                (Some(volume), "volume.sanitize", done, String::new(), detail)
            }
            Notice::SanitizeRefused { volume, by, why } => {
                let detail = format!("asked for by {by}: {why}");
                (Some(volume), "volume.sanitize", refused, String::new(), detail)
            }
            Notice::SanitizeEnded { volume, failure: None } => {
                let detail = "all blocks are overwritten or erased".to_owned();
                (Some(volume), "volume.sanitized", done, String::new(), detail)
            }
            Notice::SanitizeEnded { volume, failure: Some(why) } => {
                (Some(volume), "volume.sanitized", failed, String::new(), why)
            }
            Notice::ReservationChanged { volume, change } => {
                let detail = format!("{} by {}: {}", change.action, change.by, change.what);
                (Some(volume), "volume.reservation", done, String::new(), detail)
            }
            Notice::SessionOpened { volume, iqn, from, .. } => {
                (Some(volume), "volume.session_open", done, from, iqn)
            }
            Notice::SessionClosed { volume, iqn, why, .. } => {
                let detail = format!("{iqn}: {why}");
                (Some(volume), "volume.session_close", done, String::new(), detail)
            }
            Notice::LoginRefused { iqn, target, from, why } => {
                let detail = format!("{iqn} at {target}: {why}");
                (None, "target.login", refused, from, detail)
            }
        };
        let known = match volume {
            Some(id) => catalog::get::<Volume>(on, id.0).await?,
            None => None,
        };
        let node = Caller { user_name: "node".to_owned(), from, ..Caller::system() };
        Ok(Event {
            id: EventId(self.new_id()),
            at_ms: self.now_ms(),
            actor: None,
            actor_name: node.user_name,
            from: node.from,
            project: known.as_ref().map(|volume| volume.project),
            resource: if volume.is_some() { ResourceKind::Volume } else { ResourceKind::Target },
            resource_id: volume.map_or_else(Uuid::nil, |volume| volume.0),
            resource_name: known.map(|volume| volume.name).unwrap_or_default(),
            action: action.to_owned(),
            result,
            detail,
        })
    }
}
