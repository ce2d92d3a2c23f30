//! Volumes: create, list, show, change, delete.

use std::collections::HashMap;

use model::event::{EventResult, ResourceKind};
use model::host::Host;
use model::id::{
    AttachmentId, NodeId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId, VolumeTypeId,
};
use model::operation::OperationKind;
use model::order::OrderError;
use model::pool::Pool;
use model::project::Project;
use model::size::ByteSize;
use model::snapshot::{Snapshot, SnapshotState};
use model::user::Role;
use model::volume::{self, Origin, Volume, VolumeKind, VolumeStatus};
use model::volume_type::VolumeType;

use crate::bootstrap::FILE_TYPE;
use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{
    Control, Inner, invalid, listed_project, not_found, project_for, resolve, valid_description,
    valid_metadata, valid_name,
};
use crate::page::Page;
use crate::params::{
    VolumeCreate, VolumeDelete, VolumeFilter, VolumeSource, VolumeUpdate, VolumeView,
};
use crate::pool::Among;
use crate::volume_type::{fitting_types, usable_type};
use crate::{export, group, pool, project, reference};

/// What a source settles for the new volume.
#[derive(Default)]
struct Start {
    /// The new volume must be at least this large.
    size: ByteSize,
    volume_type: Option<VolumeTypeId>,
    /// Clones lie where their source lies.
    pool: Option<PoolId>,
    /// The volume, and the snapshot of it; none yet when the clone is to own one.
    shared: Option<(VolumeId, Option<SnapshotId>)>,
}

/// An image file that a volume is made from.
struct Image {
    size: ByteSize,
    /// Where it lies.
    nodes: Vec<NodeId>,
}

/// Refuse what would take the project past its quotas.
pub(crate) async fn within_quota(
    on: &mut Connection,
    project: &Project,
    volumes: u64,
    more: ByteSize,
) -> Result<()> {
    let used = project::usage(on, project.id).await?;
    let quotas = project.quotas;
    if volumes > 0 && used.volumes + volumes > quotas.volumes {
        return Err(ControlError::QuotaExceeded {
            what: "volumes",
            limit: quotas.volumes.to_string(),
            used: used.volumes.to_string(),
            asked: volumes.to_string(),
        });
    }
    let limit = u128::from(quotas.gigabytes) << 30;
    if u128::from(used.bytes) + u128::from(more.0) > limit {
        return Err(ControlError::QuotaExceeded {
            what: "gigabytes",
            limit: format!("{} GiB", quotas.gigabytes),
            used: ByteSize(used.bytes).to_string(),
            asked: more.to_string(),
        });
    }
    Ok(())
}

/// Refuse a size that the type does not have.
pub(crate) fn within_type(kind: &VolumeType, size: ByteSize) -> Result<()> {
    if !kind.sizes.is_empty() && !kind.sizes.contains(&size) {
        let (kind, available) = (kind.name.clone(), kind.sizes.clone());
        return Err(ControlError::SizeNotAvailable { kind, size, available });
    }
    match kind.max_size {
        Some(max) if size > max => Err(ControlError::Invalid {
            field: "size",
            why: format!("{size} is more than {max}, the most that type '{}' allows", kind.name),
        }),
        _ => Ok(()),
    }
}

/// Refuse a type whose volumes lie elsewhere than in this pool.
pub(crate) async fn pool_serves(
    on: &mut Connection,
    project: ProjectId,
    pool: &Pool,
    kind: &VolumeType,
) -> Result<()> {
    let same = pool.class == kind.class && pool.driver.kind() == kind.kind;
    if same && (kind.pools.is_empty() || kind.pools.contains(&pool.id)) {
        return Ok(());
    }
    Err(ControlError::RetypeNeedsMove {
        from: pool.class.clone(),
        to: kind.class.clone(),
        fits: fitting_types(on, project, pool).await?,
    })
}

/// Names of the hosts that have the volume, or are on their way in or out.
pub(crate) async fn host_names(on: &mut Connection, volume: VolumeId) -> Result<Vec<String>> {
    let query = Query::<Host>::all().fragment(
        "id IN (SELECT host FROM attachments WHERE volume =",
        volume,
        ")",
    );
    Ok(catalog::select(on, query).await?.into_iter().map(|host| host.name).collect())
}

/// A row that must be there because a foreign key says so.
pub(crate) async fn expected<R: catalog::Record>(on: &mut Connection, id: uuid::Uuid) -> Result<R> {
    let found = catalog::get::<R>(on, id).await?;
    found.ok_or_else(|| not_found(R::KIND, &id.to_string()))
}

pub(crate) fn busy(volume: &Volume, action: &'static str) -> ControlError {
    ControlError::VolumeBusy { volume: volume.name.clone(), status: volume.status.word(), action }
}

impl Control {
    /// What a volume from an image is as large as when nobody says a size.
    async fn image_size(&self, caller: &Caller, source: &VolumeSource) -> Result<Option<Image>> {
        let VolumeSource::Image { path, format } = source else { return Ok(None) };
        let path = self.inner.image_path(caller, path)?;
        let mut found: Option<Image> = None;
        let mut fault = None;
        for (node, size) in self.inner.image_sizes(&path, *format).await {
            match (size, &mut found) {
                (Ok(size), None) => found = Some(Image { size, nodes: vec![node] }),
                // Files of one name that are not alike: the first node's counts.
                (Ok(size), Some(found)) if size == found.size => found.nodes.push(node),
                (Ok(_), Some(_)) => {}
                (Err(error), _) => fault = Some(error),
            }
        }
        match (found, fault) {
            (Some(mut image), _) => {
                image.size = volume::size(image.size).map_err(invalid("size"))?;
                Ok(Some(image))
            }
            (None, Some(error)) => Err(error.into()),
            (None, None) => {
                let why = "there is no node that has said what it is".to_owned();
                Err(OrderError::Unreachable { why }.into())
            }
        }
    }

    /// A new volume, in status `creating`.
    ///
    /// # Errors
    /// A reader; a bad value; an unknown source, type or project; a quota; no room.
    pub async fn volume_create(&self, caller: &Caller, new: VolumeCreate) -> Result<VolumeView> {
        caller.must_be(Role::Member, "create volumes")?;
        let name = valid_name(&new.name)?;
        let description = valid_description(&new.description)?;
        let metadata = valid_metadata(&new.metadata)?;
        let affinity = pool::valid_rules(&new.affinity)?;
        let asked = new.size.map(volume::size).transpose().map_err(invalid("size"))?;
        let inner = &self.inner;
        let image = match asked {
            // A sole node is asked when it makes the volume.
            Some(_) if inner.linked_nodes().len() < 2 => None,
            _ => self.image_size(caller, &new.source).await?,
        };
        let asked = asked.or(image.as_ref().map(|image| image.size));
        let answer = self.refresh_usage().await;
        let mut tx = inner.catalog.begin().await?;
        let project = project_for(&mut tx, caller, new.project.as_deref()).await?;
        let start = start_from(&mut tx, caller, project.id, &new.source).await?;
        let kind = self.type_of(&mut tx, caller, &project, &new, &start).await?;
        let size = size_of(asked, start.size, &kind)?;
        let export = export::for_new(&mut tx, caller, (&project, &kind), &new).await?;
        within_type(&kind, size)?;
        let (pool, placed) = match start.pool {
            Some(id) => beside_source(&mut tx, project.id, id, &kind).await?,
            None => {
                let portals = export::portals_of_network(&mut tx, export.as_ref()).await?;
                let among = Among {
                    answer: &answer,
                    only: image.as_ref().map(|image| &image.nodes[..]),
                    but: None,
                    portals: &portals,
                };
                pool::choose(&mut tx, project.id, (&kind, size), &affinity, &among).await?
            }
        };
        within_quota(&mut tx, &project, 1, size).await?;

        let id = VolumeId(inner.new_id());
        let mut volume = Volume {
            id,
            project: project.id,
            name,
            description,
            metadata,
            volume_type: kind.id,
            pool: pool.id,
            size,
            origin: Origin::Blank,
            export,
            affinity,
            placed,
            left_in: Vec::new(),
            status: VolumeStatus::Creating { import: None },
            fault: None,
            created_ms: inner.now_ms(),
        };
        inner.set_origin(&mut tx, caller, &mut volume, &new.source, &start).await?;
        catalog::insert(&mut tx, &volume).await?;
        if volume.kind() == VolumeKind::File {
            reference::take_name(&mut tx, &volume).await?;
        }
        let detail = format!("{size} of type '{}'", kind.name);
        let (action, result) = ("volume.create", EventResult::Accepted);
        inner.record(&mut tx, caller, &volume, action, result, detail).await?;
        let view = view(&mut tx, volume).await?;
        inner.commit(tx).await?;
        Ok(view)
    }

    async fn type_of(
        &self,
        on: &mut Connection,
        caller: &Caller,
        project: &Project,
        new: &VolumeCreate,
        start: &Start,
    ) -> Result<VolumeType> {
        let inherited = start.volume_type.map(|id| id.to_string());
        let name = new.volume_type.as_deref().or(inherited.as_deref());
        let name = name.unwrap_or(match new.kind {
            Some(VolumeKind::File) => FILE_TYPE,
            Some(VolumeKind::Block) | None => &self.inner.settings.default_type,
        });
        let kind = usable_type(on, caller, project.id, name).await?;
        match new.kind {
            Some(asked) if asked != kind.kind => Err(ControlError::Invalid {
                field: "kind",
                why: format!("type '{}' is one of {} volumes", kind.name, kind.kind.word()),
            }),
            _ => Ok(kind),
        }
    }

    /// # Errors
    /// No such project or type; bad paging.
    pub async fn volume_list(
        &self,
        caller: &Caller,
        filter: &VolumeFilter,
    ) -> Result<Page<VolumeView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let kind = match &filter.volume_type {
            None => None,
            Some(name) => Some(resolve::<VolumeType>(&mut on, caller, name).await?.id),
        };
        let query = Query::<Volume>::all()
            .maybe("project", project)
            .maybe("name", filter.name.as_deref())
            .maybe("kind", filter.kind.map(VolumeKind::word))
            .maybe("status", filter.status.as_deref())
            .maybe("volume_type", kind);
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        Ok(Page { items: views(&mut on, page.items).await?, next: page.next })
    }

    /// A file volume comes with what it holds and who has it mounted, if the node can say.
    ///
    /// # Errors
    /// No such volume, or ambiguous.
    pub async fn volume_get(&self, caller: &Caller, volume: &str) -> Result<VolumeView> {
        let mut on = self.inner.catalog.read().await?;
        let volume: Volume = resolve(&mut on, caller, volume).await?;
        let references = reference::names_of(&mut on, &volume).await?;
        let mut view = view(&mut on, volume).await?;
        drop(on);
        if let Some(file) = &mut view.file {
            file.references = references;
        }
        if let Some(file) = view.file.as_mut().filter(|_| view.volume.status.is_exported()) {
            file.usage = self.inner.file_usage(&view.volume).await.ok();
            file.clients = self.inner.file_clients(&view.volume).await.unwrap_or_default();
        }
        Ok(view)
    }

    /// Rename, describe, label.
    ///
    /// # Errors
    /// A reader; no such volume, or ambiguous; a bad value.
    pub async fn volume_update(
        &self,
        caller: &Caller,
        volume: &str,
        change: VolumeUpdate,
    ) -> Result<VolumeView> {
        caller.must_be(Role::Member, "change volumes")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume: Volume = resolve(&mut tx, caller, volume).await?;
        let mut moved = false;
        if let Some(name) = &change.name {
            match volume.export {
                None => volume.name = valid_name(name)?,
                Some(_) => moved = rename(&mut tx, &mut volume, name).await?,
            }
        }
        if let Some(description) = &change.description {
            volume.description = valid_description(description)?;
        }
        if let Some(metadata) = &change.metadata {
            volume.metadata = valid_metadata(metadata)?;
        }
        catalog::update(&mut tx, &volume).await?;
        if moved {
            reference::take_name(&mut tx, &volume).await?;
        }
        self.inner.done(&mut tx, caller, &volume, "volume.update").await?;
        let view = view(&mut tx, volume).await?;
        self.inner.commit(tx).await?;
        if moved {
            self.renew([view.volume.id]).await?;
        }
        Ok(view)
    }

    /// The volume goes to `deleting`, and is gone when the node has let go of it. One that is `lost`
    /// with its node is gone at once.
    ///
    /// # Errors
    /// A reader; attached; a group of it; references to it; clients have it mounted, without `force`;
    /// clones depend on it; snapshots without `cascade`; other work goes on. A lost one: not an
    /// admin; its node answers.
    pub async fn volume_delete(
        &self,
        caller: &Caller,
        volume: &str,
        how: VolumeDelete,
    ) -> Result<VolumeView> {
        if how.lost {
            return self.volume_lost(caller, volume, how).await;
        }
        caller.must_be(Role::Member, "delete volumes")?;
        self.nobody_is_connected(caller, volume, how.force, "deleted").await?;
        let inner = &self.inner;
        let mut tx = inner.catalog.begin().await?;
        let mut volume: Volume = resolve(&mut tx, caller, volume).await?;
        if volume.status == VolumeStatus::Deleting {
            return view(&mut tx, volume).await;
        }
        group::holds_no_volume(&mut tx, &volume).await?;
        let hosts = host_names(&mut tx, volume.id).await?;
        if !hosts.is_empty() {
            let (volume, action) = (volume.name, "deleted");
            return Err(ControlError::VolumeInUse { volume, hosts, action });
        }
        reference::nobody_uses(&mut tx, &volume, "deleted").await?;
        if !volume.status.may_become(&VolumeStatus::Deleting) {
            return Err(busy(&volume, "delete"));
        }
        let snapshots = nothing_depends(&mut tx, &volume, how.cascade).await?;
        for mut snapshot in snapshots {
            snapshot.state = SnapshotState::Deleting;
            catalog::update(&mut tx, &snapshot).await?;
            let (action, result) = ("snapshot.delete", EventResult::Accepted);
            inner.record(&mut tx, caller, &snapshot, action, result, "with its volume").await?;
        }
        volume.status = VolumeStatus::Deleting;
        volume.fault = None;
        if let Some(export) = &mut volume.export {
            export.evict = how.force;
        }
        catalog::update(&mut tx, &volume).await?;
        let (action, result) = ("volume.delete", EventResult::Accepted);
        inner.record(&mut tx, caller, &volume, action, result, "").await?;
        let view = view(&mut tx, volume).await?;
        inner.commit(tx).await?;
        Ok(view)
    }
}

/// The snapshots that go along with the volume; an error when something else depends on it.
async fn nothing_depends(
    on: &mut Connection,
    volume: &Volume,
    cascade: bool,
) -> Result<Vec<Snapshot>> {
    let snapshots = only_snapshots(on, volume, cascade).await?;
    // Without clones, a hidden snapshot is one that the node could not remove: it goes now.
    if let Some(busy) = snapshots.iter().find(|s| s.state == SnapshotState::Creating) {
        return Err(ControlError::SnapshotBusy {
            snapshot: busy.name.clone(),
            state: busy.state.word(),
            action: "delete",
        });
    }
    Ok(snapshots.into_iter().filter(|s| s.state != SnapshotState::Deleting).collect())
}

/// The volume's snapshots, whatever they are at; an error when something else depends on it.
pub(crate) async fn only_snapshots(
    on: &mut Connection,
    volume: &Volume,
    cascade: bool,
) -> Result<Vec<Snapshot>> {
    let clones = Query::<Volume>::all().eq("origin_volume", volume.id);
    let clones: Vec<String> =
        catalog::select(on, clones).await?.into_iter().map(|clone| clone.name).collect();
    let own = Query::<Snapshot>::all().eq("volume", volume.id);
    let snapshots: Vec<Snapshot> = catalog::select(on, own).await?;
    let listed: Vec<String> = snapshots
        .iter()
        .filter(|snapshot| snapshot.hidden_for.is_none())
        .map(|snapshot| snapshot.name.clone())
        .collect();
    if !clones.is_empty() || (!cascade && !listed.is_empty()) {
        return Err(ControlError::VolumeHasDependents {
            volume: volume.name.clone(),
            snapshots: if cascade { Vec::new() } else { listed },
            clones,
        });
    }
    Ok(snapshots)
}

/// The size asked for, else the source's, else the smallest that the type has.
fn size_of(asked: Option<ByteSize>, least: ByteSize, kind: &VolumeType) -> Result<ByteSize> {
    let missing = || "it is needed where no source gives it".to_owned();
    match asked {
        Some(size) if size < least => Err(ControlError::Invalid {
            field: "size",
            why: format!("{size} is less than the source, which is {least}"),
        }),
        Some(size) => Ok(size),
        None if least > ByteSize(0) => Ok(least),
        None => kind
            .sizes
            .first()
            .copied()
            .ok_or_else(|| ControlError::Invalid { field: "size", why: missing() }),
    }
}

async fn start_from(
    on: &mut Connection,
    caller: &Caller,
    project: ProjectId,
    source: &VolumeSource,
) -> Result<Start> {
    let (volume, snapshot): (Volume, Option<Snapshot>) = match source {
        VolumeSource::Blank | VolumeSource::Image { .. } => return Ok(Start::default()),
        VolumeSource::Snapshot(name) => {
            let snapshot: Snapshot = resolve(on, caller, name).await?;
            if snapshot.state != SnapshotState::Available {
                return Err(ControlError::SnapshotBusy {
                    snapshot: snapshot.name,
                    state: snapshot.state.word(),
                    action: "clone",
                });
            }
            let volume: Volume = expected(on, snapshot.volume.0).await?;
            if matches!(volume.status, VolumeStatus::Moving { .. }) {
                return Err(busy(&volume, "clone"));
            }
            (volume, Some(snapshot))
        }
        VolumeSource::Volume(name) => {
            let volume: Volume = resolve(on, caller, name).await?;
            if !volume.status.takes_snapshots() {
                return Err(busy(&volume, "clone"));
            }
            (volume, None)
        }
    };
    if volume.project != project {
        let (VolumeSource::Snapshot(name) | VolumeSource::Volume(name)) = source else {
            return Err(not_found(ResourceKind::Volume, &volume.name));
        };
        let kind = snapshot.map_or(ResourceKind::Volume, |_| ResourceKind::Snapshot);
        return Err(not_found(kind, name));
    }
    Ok(Start {
        size: snapshot.as_ref().map_or(volume.size, |snapshot| snapshot.size),
        volume_type: Some(volume.volume_type),
        pool: Some(volume.pool),
        shared: Some((volume.id, snapshot.map(|snapshot| snapshot.id))),
    })
}

/// A clone lies where its source lies, whatever its rules say.
async fn beside_source(
    on: &mut Connection,
    project: ProjectId,
    pool: PoolId,
    kind: &VolumeType,
) -> Result<(Pool, String)> {
    let pool: Pool = expected(on, pool.0).await?;
    pool_serves(on, project, &pool, kind).await?;
    Ok((pool, "beside its source".to_owned()))
}

impl Inner {
    async fn set_origin(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &mut Volume,
        source: &VolumeSource,
        start: &Start,
    ) -> Result<()> {
        if let VolumeSource::Image { path, format } = source {
            let path = self.image_path(caller, path)?;
            let kind = OperationKind::ImportImage { path: path.clone(), format: *format };
            let operation = self.new_operation(tx, caller, volume, kind).await?;
            volume.origin = Origin::Image { path };
            volume.status = VolumeStatus::Creating { import: Some(operation.id) };
        }
        volume.origin = match start.shared {
            None => return Ok(()),
            Some((of, Some(snapshot))) => Origin::Snapshot { volume: of, snapshot },
            Some((of, None)) => {
                let snapshot = self.hidden_snapshot(tx, of, start.size, volume).await?;
                Origin::Volume { volume: of, snapshot }
            }
        };
        Ok(())
    }

    /// The snapshot of the source that only this clone knows, and that goes with it.
    async fn hidden_snapshot(
        &self,
        tx: &mut Transaction,
        of: VolumeId,
        size: ByteSize,
        clone: &Volume,
    ) -> Result<SnapshotId> {
        let snapshot = Snapshot {
            id: SnapshotId(self.new_id()),
            project: clone.project,
            volume: of,
            name: format!("for clone {}", clone.id),
            description: String::new(),
            metadata: model::text::Metadata::new(),
            size,
            state: SnapshotState::Creating,
            fault: None,
            hidden_for: Some(clone.id),
            schedule: None,
            created_ms: self.now_ms(),
        };
        catalog::insert(tx, &snapshot).await?;
        Ok(snapshot.id)
    }
}

/// The long work that goes on with a volume.
fn operation_of(volume: &Volume) -> Option<OperationId> {
    match volume.status {
        VolumeStatus::Creating { import } => import,
        VolumeStatus::Exporting { operation } => Some(operation),
        _ => None,
    }
}

/// A volume with what people want to see beside it.
pub(crate) async fn view(on: &mut Connection, volume: Volume) -> Result<VolumeView> {
    let kind: VolumeType = expected(on, volume.volume_type.0).await?;
    let attachments = attachments_of(on, [volume.id]).await?.remove(&volume.id);
    let names = export::Names::of(on, std::slice::from_ref(&volume)).await?;
    let pool: Pool = expected(on, volume.pool.0).await?;
    Ok(VolumeView {
        pool_name: pool.name,
        file: names.file(&volume),
        type_name: kind.name,
        multiattach: kind.multiattach,
        attachments: attachments.unwrap_or_default(),
        operation: operation_of(&volume),
        volume,
    })
}

/// The attachments of these volumes.
async fn attachments_of(
    on: &mut Connection,
    volumes: impl IntoIterator<Item = VolumeId>,
) -> Result<HashMap<VolumeId, Vec<AttachmentId>>> {
    let query = Query::<AttachmentRecord>::all().one_of("volume", volumes);
    let mut all: HashMap<VolumeId, Vec<AttachmentId>> = HashMap::new();
    for (volume, id) in catalog::pairs(on, query, "volume, id").await? {
        let volume = VolumeId(catalog::parse_id::<Volume>(&volume)?);
        let id = AttachmentId(catalog::parse_id::<AttachmentRecord>(&id)?);
        all.entry(volume).or_default().push(id);
    }
    Ok(all)
}

/// Give a file volume another name, and so another path; `false` when it has it already.
async fn rename(on: &mut Connection, volume: &mut Volume, name: &str) -> Result<bool> {
    let name = export::free_name(on, volume.project, name, Some(volume.id)).await?;
    if name == volume.name {
        return Ok(false);
    }
    let project: Project = expected(on, volume.project.0).await?;
    if let Some(export) = &mut volume.export {
        export.path = model::export::path(project.id, &project.name, &name);
    }
    volume.name = name;
    Ok(true)
}

/// The same for many, with few look-ups for all of them.
async fn views(on: &mut Connection, volumes: Vec<Volume>) -> Result<Vec<VolumeView>> {
    let kinds = catalog::select(on, Query::<VolumeType>::all()).await?;
    let kinds: HashMap<VolumeTypeId, VolumeType> =
        kinds.into_iter().map(|kind| (kind.id, kind)).collect();
    let mut attachments = attachments_of(on, volumes.iter().map(|volume| volume.id)).await?;
    let names = export::Names::of(on, &volumes).await?;
    let pools = volumes.iter().map(|volume| volume.pool.0);
    let pools = catalog::names::<Pool>(on, pools.collect::<Vec<_>>()).await?;
    let view = |volume: Volume| {
        let kind = kinds.get(&volume.volume_type);
        VolumeView {
            type_name: kind.map(|kind| kind.name.clone()).unwrap_or_default(),
            multiattach: kind.is_some_and(|kind| kind.multiattach),
            attachments: attachments.remove(&volume.id).unwrap_or_default(),
            operation: operation_of(&volume),
            file: names.file(&volume),
            pool_name: pools.get(&volume.pool.0).cloned().unwrap_or_default(),
            volume,
        }
    };
    Ok(volumes.into_iter().map(view).collect())
}
