//! The facade: what all use cases share. Opening, time and ids, look-ups by name, the audit trail.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use env::{Clock, Random};
use model::event::{Event, EventResult, ResourceKind};
use model::id::{EventId, ProjectId};
use model::project::Project;
use model::text;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::agent::Heard;
use crate::board::Board;
use crate::caller::Caller;
use crate::catalog::{self, Catalog, Connection, Query, Record, Transaction};
use crate::error::{Candidate, ControlError, Result};
use crate::links::{Links, NodeLinks};
use crate::node::{Moved, Own};
use crate::page::{PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX, Page, Paging};

/// A year: what audits ask for, and some gigabytes at the most.
pub const EVENT_DAYS_DEFAULT: NonZeroU32 = NonZeroU32::new(365).expect("it is not zero");

/// How the control plane is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The only directory that members may import from and export to. Absolute.
    pub image_dir: PathBuf,
    /// Give attachments CHAP credentials. On, unless the operator switched it off.
    pub chap: bool,
    /// The type of volumes that name none.
    pub default_type: String,
    /// How many days events are kept; `None` is for ever.
    pub event_days: Option<NonZeroU32>,
}

impl Settings {
    /// What is usual, below a data directory (absolute).
    #[must_use]
    pub fn below(data: &Path) -> Self {
        Self {
            catalog: data.join("catalog.db"),
            image_dir: data.join("images"),
            chap: true,
            default_type: "ssd".to_owned(),
            event_days: Some(EVENT_DAYS_DEFAULT),
        }
    }
}

/// The use cases. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    /// What it is to nodes.
    pub(crate) own: Own,
    pub(crate) links: Links,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) board: Board,
    pub(crate) heard: Heard,
    pub(crate) moved_bytes: Moved,
    /// Desired state changed, or work ended: look again.
    pub(crate) wake: Arc<Notify>,
    /// Schedules changed: look at the clock again.
    pub(crate) clockwork: Arc<Notify>,
    last_id: Mutex<LastId>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake.notify_one();
        self.clockwork.notify_one();
    }
}

/// The time part of the last id, so that ids of one process only grow.
#[derive(Default)]
struct LastId {
    at_ms: u64,
    serial: u16,
}

/// Twelve bits of a version 7 UUID count within one millisecond.
const SERIAL_MAX: u16 = 0x0fff;

impl Control {
    /// Open the catalog, create it at the first start. Nothing runs before [`Control::start`].
    ///
    /// The second value is the operator's token, made once at the first start and kept nowhere
    /// in readable form: print it.
    ///
    /// # Errors
    /// The catalog cannot be opened or brought up to date.
    pub async fn open(
        settings: Settings,
        nodes: NodeLinks,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<(Self, Option<String>)> {
        let catalog = Catalog::open(&settings.catalog).await?;
        let id = {
            let mut bytes = [0_u8; 16];
            random.fill(&mut bytes);
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        };
        let own = Own::of(&catalog, id, clock.wall_ms()).await?;
        let inner = Inner {
            settings,
            own,
            catalog,
            links: Links::new(nodes),
            clock,
            random,
            board: Board::default(),
            heard: Heard::default(),
            moved_bytes: Moved::default(),
            wake: Arc::default(),
            clockwork: Arc::default(),
            last_id: Mutex::default(),
        };
        let control = Self { inner: Arc::new(inner) };
        let first_token = control.bootstrap().await?;
        control.ship_files().await?;
        control.inner.register_local().await?;
        control.inner.open_doors().await?;
        Ok((control, first_token))
    }
}

impl Inner {
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// A new version 7 UUID, larger than every one before it (RFC 9562 6.2, method 1).
    pub(crate) fn new_id(&self) -> Uuid {
        let mut bytes = [0_u8; 10];
        self.random.fill(&mut bytes);
        let now_ms = self.now_ms();
        let mut last = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms > last.at_ms {
            *last = LastId { at_ms: now_ms, serial: 0 };
        } else if last.serial < SERIAL_MAX {
            last.serial += 1;
        } else {
            *last = LastId { at_ms: last.at_ms + 1, serial: 0 };
        }
        let serial = last.serial.to_be_bytes();
        bytes[0] = serial[0];
        bytes[1] = serial[1];
        uuid::Builder::from_unix_timestamp_millis(last.at_ms, &bytes).into_uuid()
    }

    /// So many characters, six random bits each, of an alphabet that needs no quoting.
    pub(crate) fn random_text(&self, chars: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
        let mut bytes = vec![0_u8; chars];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
    }

    /// One line of the audit trail, in the same transaction as the change.
    pub(crate) async fn record<R: Record>(
        &self,
        on: &mut Connection,
        caller: &Caller,
        about: &R,
        action: &str,
        result: EventResult,
        detail: impl Into<String> + Send,
    ) -> Result<()> {
        let event = Event {
            id: EventId(self.new_id()),
            at_ms: self.now_ms(),
            actor: caller.user,
            actor_name: caller.user_name.clone(),
            from: caller.from.clone(),
            project: about.project(),
            resource: R::KIND,
            resource_id: about.id(),
            resource_name: about.name(),
            action: action.to_owned(),
            result,
            detail: detail.into(),
        };
        catalog::insert(on, &event).await
    }

    /// Done at once.
    pub(crate) async fn done<R: Record>(
        &self,
        on: &mut Connection,
        caller: &Caller,
        about: &R,
        action: &str,
    ) -> Result<()> {
        self.record(on, caller, about, action, EventResult::Done, "").await
    }

    /// Commit, and have the work that it asks for begun.
    pub(crate) async fn commit(&self, tx: Transaction) -> Result<()> {
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// One page of a list.
    pub(crate) async fn page<R: Record>(
        &self,
        on: &mut Connection,
        query: Query<R>,
        paging: &Paging,
    ) -> Result<Page<R>> {
        let entries = paging.limit.unwrap_or(PAGE_ENTRIES_DEFAULT);
        if entries == 0 || entries > PAGE_ENTRIES_MAX {
            let why = format!("{entries} is not between 1 and {PAGE_ENTRIES_MAX}");
            return Err(ControlError::Invalid { field: "limit", why });
        }
        let query = match &paging.marker {
            None => query,
            Some(marker) => query.after(Uuid::parse_str(marker).map_err(|_| {
                ControlError::Invalid { field: "marker", why: format!("'{marker}' is not an id") }
            })?),
        };
        // One more than asked for tells whether there is a next page.
        let mut items = catalog::select(on, query.limit(entries + 1)).await?;
        let limit = usize::try_from(entries).unwrap_or(usize::MAX);
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last().map(|last| last.id().to_string())
        } else {
            None
        };
        Ok(Page { items, next })
    }
}

/// No such thing, or none that the caller may see: both read the same.
pub(crate) fn not_found(kind: ResourceKind, name: &str) -> ControlError {
    ControlError::NotFound { kind, name: name.to_owned() }
}

/// The record that this id or name means to the caller.
///
/// Names are looked up in the caller's project first; the operator's then in all.
pub(crate) async fn resolve<R: Record>(
    on: &mut Connection,
    caller: &Caller,
    text: &str,
) -> Result<R> {
    let text = text.trim();
    let visible = |record: &R| {
        record.is_listed() && record.project().is_none_or(|project| caller.sees(project))
    };
    if let Ok(id) = Uuid::parse_str(text) {
        let found = catalog::get::<R>(on, id).await?.filter(visible);
        return found.ok_or_else(|| not_found(R::KIND, text));
    }
    if !R::COLUMNS.contains(&"name") {
        return Err(not_found(R::KIND, text));
    }
    let mut found: Vec<R> = catalog::select(on, Query::all().eq("name", text)).await?;
    found.retain(visible);
    if found.len() > 1 && caller.project.is_some() {
        let own = |record: &R| record.project() == caller.project;
        if found.iter().any(own) {
            found.retain(own);
        }
    }
    match found.len() {
        0 => Err(not_found(R::KIND, text)),
        1 => Ok(found.remove(0)),
        _ => Err(ControlError::Ambiguous {
            kind: R::KIND,
            name: text.to_owned(),
            candidates: found
                .iter()
                .map(|record| Candidate {
                    id: record.id().to_string(),
                    name: record.name(),
                    project: record.project(),
                })
                .collect(),
        }),
    }
}

/// The project that a new resource goes to.
pub(crate) async fn project_for(
    on: &mut Connection,
    caller: &Caller,
    asked: Option<&str>,
) -> Result<Project> {
    match (asked, caller.project) {
        (Some(text), _) => resolve(on, caller, text).await,
        (None, Some(project)) => resolve(on, caller, &project.to_string()).await,
        (None, None) => Err(ControlError::Invalid {
            field: "project",
            why: "it must be named, because the caller has none".to_owned(),
        }),
    }
}

/// The project that a list is limited to: what is asked for, within what the caller may see.
pub(crate) async fn listed_project(
    on: &mut Connection,
    caller: &Caller,
    asked: Option<&str>,
) -> Result<Option<ProjectId>> {
    match asked {
        Some(text) => Ok(Some(resolve::<Project>(on, caller, text).await?.id)),
        None => caller.limited_to(),
    }
}

/// Refuse a second one of the same name among those that match.
pub(crate) async fn name_is_free<R: Record>(
    on: &mut Connection,
    among: Query<R>,
    name: &str,
    except: Option<Uuid>,
) -> Result<()> {
    let taken: Vec<R> = catalog::select(on, among.eq("name", name)).await?;
    if taken.iter().any(|record| Some(record.id()) != except) {
        return Err(ControlError::NameTaken { kind: R::KIND, name: name.to_owned() });
    }
    Ok(())
}

/// The error of a value that breaks a rule of `model`.
pub(crate) fn invalid<E: std::fmt::Display>(field: &'static str) -> impl FnOnce(E) -> ControlError {
    move |error| ControlError::Invalid { field, why: error.to_string() }
}

pub(crate) fn valid_name(name: &str) -> Result<String> {
    text::name(name).map_err(invalid("name"))
}

pub(crate) fn valid_description(description: &str) -> Result<String> {
    text::description(description).map_err(invalid("description"))
}

pub(crate) fn valid_metadata(metadata: &text::Metadata) -> Result<text::Metadata> {
    text::metadata(metadata).map_err(invalid("metadata"))?;
    Ok(metadata.clone())
}
