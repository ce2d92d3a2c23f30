//! Volumes.

use api::Page;
use api::operation::Operation;
use api::volume::{
    Beside, CreateVolume, DeleteVolume, ExportVolume, ResizeVolume, RetypeVolume, RevertVolume,
    UpdateVolume, Volume, VolumeQuery, VolumeSource,
};
use axum::extract::State;
use control::{
    ExportChange, VolumeCreate, VolumeDelete, VolumeExport, VolumeFilter, VolumeRevert,
    VolumeUpdate, VolumeView,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::export::given;
use super::{Answer, Refusals, accepted, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(volume_create, volume_list))
        .routes(routes!(volume_show, volume_update, volume_delete))
        .routes(routes!(volume_resize))
        .routes(routes!(volume_retype))
        .routes(routes!(volume_revert))
        .routes(routes!(volume_export))
}

/// Make a volume: empty, or from a snapshot, a volume or an image file.
#[utoipa::path(
    post, path = "/v1/volumes", tag = "volume",
    responses((status = 202, description = "Creating", body = Volume), Refusals)
)]
async fn volume_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateVolume>,
) -> Answer<Volume> {
    let new = VolumeCreate {
        name: new.name,
        description: new.description.unwrap_or_default(),
        metadata: new.metadata,
        size: new.size.map(Into::into),
        kind: new.kind.map(Into::into),
        volume_type: new.volume_type,
        source: source(new.source),
        affinity: new.affinity,
        export: ExportChange {
            network: new.network,
            access: new.access.map(given),
            durability: new.durability.map(Into::into),
        },
        project: signed.project,
    };
    accepted(view(app.control.volume_create(&signed.caller, new).await?))
}

/// The volumes that the caller may see.
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volume", params(VolumeQuery),
    responses((status = 200, description = "A page", body = Page<Volume>), Refusals)
)]
async fn volume_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<VolumeQuery>,
) -> Answer<Page<Volume>> {
    let filter = VolumeFilter {
        name: query.name,
        kind: query.kind.map(Into::into),
        status: query.status,
        volume_type: query.volume_type,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.volume_list(&signed.caller, &filter).await?, view)
}

/// One volume.
#[utoipa::path(
    get, path = "/v1/volumes/{volume}", tag = "volume",
    responses((status = 200, description = "The volume", body = Volume), Refusals)
)]
async fn volume_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
) -> Answer<Volume> {
    found(view(app.control.volume_get(&signed.caller, &volume).await?))
}

/// Change a volume's name, description or metadata.
#[utoipa::path(
    patch, path = "/v1/volumes/{volume}", tag = "volume",
    responses((status = 200, description = "Changed", body = Volume), Refusals)
)]
async fn volume_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(change): Json<UpdateVolume>,
) -> Answer<Volume> {
    let change = VolumeUpdate {
        name: change.name,
        description: change.description,
        metadata: change.metadata,
    };
    found(view(app.control.volume_update(&signed.caller, &volume, change).await?))
}

/// Delete a volume. Refused while a host is attached, a client has it mounted, or something
/// depends on it or refers to it.
///
/// With `lost`, an admin forgets one whose node is gone for good: nothing is erased, and a node
/// that comes back serves it to nobody. Refused while the node answers.
#[utoipa::path(
    delete, path = "/v1/volumes/{volume}", tag = "volume", params(DeleteVolume),
    responses((status = 202, description = "Deleting", body = Volume), Refusals)
)]
async fn volume_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Query(how): Query<DeleteVolume>,
) -> Answer<Volume> {
    let how = VolumeDelete { cascade: how.cascade, force: how.force, lost: how.lost };
    accepted(view(app.control.volume_delete(&signed.caller, &volume, how).await?))
}

/// Give a volume another size, while it is used. Only a file volume becomes smaller.
#[utoipa::path(
    post, path = "/v1/volumes/{volume}/resize", tag = "volume",
    responses((status = 202, description = "Extending or shrinking", body = Volume), Refusals)
)]
async fn volume_resize(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(wanted): Json<ResizeVolume>,
) -> Answer<Volume> {
    let size = wanted.size.into();
    accepted(view(app.control.volume_resize(&signed.caller, &volume, size).await?))
}

/// Give a volume another type.
#[utoipa::path(
    post, path = "/v1/volumes/{volume}/retype", tag = "volume",
    responses((status = 200, description = "Done", body = Volume), Refusals)
)]
async fn volume_retype(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(wanted): Json<RetypeVolume>,
) -> Answer<Volume> {
    let volume_type = &wanted.volume_type;
    found(view(app.control.volume_retype(&signed.caller, &volume, volume_type).await?))
}

/// Make a volume's content that of one of its snapshots. Refused while a host is attached or a
/// client has it mounted.
#[utoipa::path(
    post, path = "/v1/volumes/{volume}/revert", tag = "volume",
    responses((status = 202, description = "Reverting", body = Volume), Refusals)
)]
async fn volume_revert(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(wanted): Json<RevertVolume>,
) -> Answer<Volume> {
    let to = VolumeRevert { snapshot: wanted.snapshot, force: wanted.force };
    accepted(view(app.control.volume_revert(&signed.caller, &volume, to).await?))
}

/// Write a volume's content to a new image file on the node.
#[utoipa::path(
    post, path = "/v1/volumes/{volume}/export", tag = "volume",
    responses((status = 202, description = "Begun", body = Operation), Refusals)
)]
async fn volume_export(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(wanted): Json<ExportVolume>,
) -> Answer<Operation> {
    let wanted = VolumeExport { path: wanted.path, format: wanted.format.into() };
    accepted(app.control.volume_export(&signed.caller, &volume, wanted).await?.into())
}

fn view(found: VolumeView) -> Volume {
    let file = found.file.map(|file| {
        let resource = file.resources.into_iter().next();
        (Some(file.network_name), resource, file.usage, file.clients, file.references)
    });
    let (network, resource, usage, clients, references) = file.unwrap_or_default();
    let beside = Beside {
        type_name: found.type_name,
        pool_name: found.pool_name,
        multiattach: found.multiattach,
        attachments: found.attachments,
        operation: found.operation,
        network,
        resource,
        usage,
        clients,
        references,
    };
    Volume::new(found.volume, beside)
}

fn source(source: Option<VolumeSource>) -> control::VolumeSource {
    match source {
        None => control::VolumeSource::Blank,
        Some(VolumeSource::Snapshot(snapshot)) => control::VolumeSource::Snapshot(snapshot),
        Some(VolumeSource::Volume(volume)) => control::VolumeSource::Volume(volume),
        Some(VolumeSource::Image(file)) => {
            control::VolumeSource::Image { path: file.path, format: file.format.into() }
        }
    }
}
