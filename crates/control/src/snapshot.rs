//! Snapshots: create, list, show, change, delete. Cloning is `volume_create` from one.

use std::collections::{BTreeSet, HashMap};

use model::event::EventResult;
use model::id::{SnapshotId, VolumeId};
use model::pool::Pool;
use model::project::Project;
use model::schedule::Schedule;
use model::size::ByteSize;
use model::snapshot::{Snapshot, SnapshotState};
use model::text::{self, Metadata};
use model::user::Role;
use model::volume::{Volume, VolumeKind};
use uuid::Uuid;

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{
    Control, Inner, invalid, listed_project, name_is_free, resolve, valid_description,
    valid_metadata, valid_name,
};
use crate::page::Page;
use crate::params::{SnapshotCreate, SnapshotFilter, SnapshotUpdate, SnapshotView};
use crate::pool::has_room;
use crate::project;
use crate::volume::{busy, expected};

/// A snapshot starts small, but not from nothing: with less room than this in the pool, the next
/// write to the volume would fail, and it is better to say so now.
const LEAST_ROOM: ByteSize = ByteSize(1 << 20);

/// Refuse what would take the project or the volume past its quotas.
async fn within_quota(on: &mut Connection, project: &Project, volume: &Volume) -> Result<()> {
    let quotas = project.quotas;
    let used = project::usage(on, project.id).await?.snapshots;
    let of_volume = Query::<Snapshot>::all().eq("volume", volume.id).null("hidden_for");
    let of_volume = catalog::count(on, of_volume).await?;
    let limits = [
        ("snapshots", quotas.snapshots, used),
        ("snapshots of one volume", quotas.snapshots_per_volume, of_volume),
    ];
    for (what, limit, used) in limits {
        if used >= limit {
            return Err(ControlError::QuotaExceeded {
                what,
                limit: limit.to_string(),
                used: used.to_string(),
                asked: "1".to_owned(),
            });
        }
    }
    Ok(())
}

async fn view(on: &mut Connection, snapshot: Snapshot) -> Result<SnapshotView> {
    let volume: Volume = expected(on, snapshot.volume.0).await?;
    Ok(SnapshotView { snapshot, volume_name: volume.name, held: None })
}

/// A snapshot of a file volume is browsed under its name, in `.snapshots`: one of each there.
async fn browsable(on: &mut Connection, volume: &Volume, name: &str) -> Result<()> {
    if volume.kind() == VolumeKind::Block {
        return Ok(());
    }
    text::file_volume_name(name).map_err(invalid("name"))?;
    let among = Query::<Snapshot>::all().eq("volume", volume.id);
    name_is_free(on, among, name, None).await
}

/// What a new snapshot is called, and who asks for it when nobody does.
#[derive(Default)]
pub(crate) struct New<'a> {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) metadata: Metadata,
    pub(crate) schedule: Option<&'a Schedule>,
}

impl Inner {
    /// A new snapshot of a volume that takes some now. Nothing is written when it is refused.
    pub(crate) async fn take_snapshot(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &Volume,
        new: New<'_>,
    ) -> Result<Snapshot> {
        browsable(tx, volume, &new.name).await?;
        let project: Project = expected(tx, volume.project.0).await?;
        within_quota(tx, &project, volume).await?;
        let pool: Pool = expected(tx, volume.pool.0).await?;
        has_room(&pool, LEAST_ROOM)?;
        let snapshot = Snapshot {
            id: SnapshotId(self.new_id()),
            project: volume.project,
            volume: volume.id,
            name: new.name,
            description: new.description,
            metadata: new.metadata,
            size: volume.size,
            state: SnapshotState::Creating,
            fault: None,
            hidden_for: None,
            schedule: new.schedule.map(|schedule| schedule.id),
            created_ms: self.now_ms(),
        };
        catalog::insert(tx, &snapshot).await?;
        let by =
            new.schedule.map_or_else(String::new, |one| format!(" by schedule '{}'", one.name));
        let detail = format!("of volume '{}'{by}", volume.name);
        let (action, result) = ("snapshot.create", EventResult::Accepted);
        self.record(tx, caller, &snapshot, action, result, detail).await?;
        Ok(snapshot)
    }
}

impl Control {
    /// A new snapshot, in state `creating`; attached hosts notice nothing.
    ///
    /// # Errors
    /// A reader; a bad value; a quota; the pool is full; other work goes on with the volume.
    pub async fn snapshot_create(
        &self,
        caller: &Caller,
        new: SnapshotCreate,
    ) -> Result<SnapshotView> {
        caller.must_be(Role::Member, "create snapshots")?;
        let asked = New {
            name: valid_name(&new.name)?,
            description: valid_description(&new.description)?,
            metadata: valid_metadata(&new.metadata)?,
            schedule: None,
        };
        self.refresh_usage().await;
        let mut tx = self.inner.catalog.begin().await?;
        let volume: Volume = resolve(&mut tx, caller, &new.volume).await?;
        if !volume.status.takes_snapshots() {
            return Err(busy(&volume, "snapshot"));
        }
        let snapshot = self.inner.take_snapshot(&mut tx, caller, &volume, asked).await?;
        self.inner.commit(tx).await?;
        Ok(SnapshotView { snapshot, volume_name: volume.name, held: None })
    }

    /// # Errors
    /// No such volume or project; bad paging.
    pub async fn snapshot_list(
        &self,
        caller: &Caller,
        filter: &SnapshotFilter,
    ) -> Result<Page<SnapshotView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let volume = match &filter.volume {
            None => None,
            Some(name) => Some(resolve::<Volume>(&mut on, caller, name).await?.id),
        };
        let query = Query::<Snapshot>::all()
            .null("hidden_for")
            .maybe("project", project)
            .maybe("volume", volume)
            .maybe("name", filter.name.as_deref());
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        let volumes = page.items.iter().map(|snapshot| snapshot.volume.0);
        let volumes: BTreeSet<Uuid> = volumes.collect();
        let volumes = Query::<Volume>::all().one_of("id", volumes);
        let volumes = catalog::select(&mut on, volumes).await?;
        drop(on);
        let held = self.held(&volumes).await;
        let names: HashMap<VolumeId, String> =
            volumes.into_iter().map(|volume| (volume.id, volume.name)).collect();
        Ok(page.map(|snapshot| SnapshotView {
            volume_name: names.get(&snapshot.volume).cloned().unwrap_or_default(),
            held: held.get(&snapshot.id).copied(),
            snapshot,
        }))
    }

    /// # Errors
    /// No such snapshot, or ambiguous.
    pub async fn snapshot_get(&self, caller: &Caller, snapshot: &str) -> Result<SnapshotView> {
        let mut on = self.inner.catalog.read().await?;
        let snapshot: Snapshot = resolve(&mut on, caller, snapshot).await?;
        let volume: Volume = expected(&mut on, snapshot.volume.0).await?;
        drop(on);
        let held = self.held(std::slice::from_ref(&volume)).await.remove(&snapshot.id);
        Ok(SnapshotView { snapshot, volume_name: volume.name, held })
    }

    /// What the snapshots of these file volumes hold for themselves, if the node can say.
    async fn held(&self, volumes: &[Volume]) -> HashMap<SnapshotId, ByteSize> {
        let mut held = HashMap::new();
        for volume in volumes.iter().filter(|volume| volume.kind() == VolumeKind::File) {
            let usage = self.inner.snapshot_usage(volume).await.unwrap_or_default();
            held.extend(usage.into_iter().map(|usage| (usage.snapshot, usage.held)));
        }
        held
    }

    /// # Errors
    /// A reader; no such snapshot, or ambiguous; a bad value; another name for one of a file volume,
    /// which clients browse under the name that it has.
    pub async fn snapshot_update(
        &self,
        caller: &Caller,
        snapshot: &str,
        change: SnapshotUpdate,
    ) -> Result<SnapshotView> {
        caller.must_be(Role::Member, "change snapshots")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut snapshot: Snapshot = resolve(&mut tx, caller, snapshot).await?;
        if let Some(name) = &change.name {
            let volume: Volume = expected(&mut tx, snapshot.volume.0).await?;
            must_be(&volume, VolumeKind::Block, "rename a snapshot")?;
            snapshot.name = valid_name(name)?;
        }
        if let Some(description) = &change.description {
            snapshot.description = valid_description(description)?;
        }
        if let Some(metadata) = &change.metadata {
            snapshot.metadata = valid_metadata(metadata)?;
        }
        catalog::update(&mut tx, &snapshot).await?;
        self.inner.done(&mut tx, caller, &snapshot, "snapshot.update").await?;
        let view = view(&mut tx, snapshot).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }

    /// The snapshot goes to `deleting`; its bytes are merged afterwards, as an operation.
    ///
    /// # Errors
    /// A reader; clones depend on it; it is being made, or reverted to.
    pub async fn snapshot_delete(&self, caller: &Caller, snapshot: &str) -> Result<SnapshotView> {
        caller.must_be(Role::Member, "delete snapshots")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut snapshot: Snapshot = resolve(&mut tx, caller, snapshot).await?;
        if snapshot.state == SnapshotState::Deleting {
            return view(&mut tx, snapshot).await;
        }
        let clones = Query::<Volume>::all().eq("origin_snapshot", snapshot.id);
        let clones = catalog::select(&mut tx, clones).await?;
        if !clones.is_empty() {
            return Err(ControlError::SnapshotHasClones {
                snapshot: snapshot.name,
                clones: clones.into_iter().map(|clone| clone.name).collect(),
            });
        }
        if !snapshot.state.may_become(SnapshotState::Deleting) {
            return Err(ControlError::SnapshotBusy {
                snapshot: snapshot.name,
                state: snapshot.state.word(),
                action: "delete",
            });
        }
        let volume: Volume = expected(&mut tx, snapshot.volume.0).await?;
        if volume.status == (model::volume::VolumeStatus::Reverting { to: snapshot.id }) {
            return Err(busy(&volume, "delete a snapshot of"));
        }
        snapshot.state = SnapshotState::Deleting;
        snapshot.fault = None;
        catalog::update(&mut tx, &snapshot).await?;
        let (action, result) = ("snapshot.delete", EventResult::Accepted);
        self.inner.record(&mut tx, caller, &snapshot, action, result, "").await?;
        let view = view(&mut tx, snapshot).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }
}
