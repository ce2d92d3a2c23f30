//! Attachments.

use api::Page;
use api::attachment::{
    Attachment, AttachmentQuery, CreateAttachments, CreatedAttachment, CreatedAttachments, Fenced,
    UpdateAttachment,
};
use axum::extract::State;
use control::{
    AttachmentCreate, AttachmentCreated, AttachmentFilter, AttachmentUpdate, AttachmentView,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, accepted, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(attachment_create, attachment_list))
        .routes(routes!(attachment_show, attachment_update, attachment_delete))
        .routes(routes!(attachment_fence))
}

/// Attach one volume to many hosts: all or none. Secrets are in this answer only.
#[utoipa::path(
    post, path = "/v1/attachments", tag = "attachment",
    responses((status = 202, description = "Attaching", body = CreatedAttachments), Refusals)
)]
async fn attachment_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateAttachments>,
) -> Answer<CreatedAttachments> {
    let new = AttachmentCreate {
        volume: new.volume,
        hosts: new.hosts,
        mode: new.mode.into(),
        accept_data_loss: new.accept_data_loss,
    };
    let made = app.control.attachment_create(&signed.caller, new).await?;
    accepted(CreatedAttachments { attachments: made.into_iter().map(with_secret).collect() })
}

/// The attachments that the caller may see.
#[utoipa::path(
    get, path = "/v1/attachments", tag = "attachment", params(AttachmentQuery),
    responses((status = 200, description = "A page", body = Page<Attachment>), Refusals)
)]
async fn attachment_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<AttachmentQuery>,
) -> Answer<Page<Attachment>> {
    let filter = AttachmentFilter {
        volume: query.volume,
        host: query.host,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.attachment_list(&signed.caller, &filter).await?, view)
}

/// One attachment, with what a host needs to connect.
#[utoipa::path(
    get, path = "/v1/attachments/{attachment}", tag = "attachment",
    responses((status = 200, description = "The attachment", body = Attachment), Refusals)
)]
async fn attachment_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(attachment): Path<String>,
) -> Answer<Attachment> {
    found(view(app.control.attachment_get(&signed.caller, &attachment).await?))
}

/// Change the mode. Answers when the target enforces the new one: after a change to `ro` no write
/// of the host lands any more.
#[utoipa::path(
    patch, path = "/v1/attachments/{attachment}", tag = "attachment",
    responses((status = 200, description = "Changed", body = Attachment), Refusals)
)]
async fn attachment_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(attachment): Path<String>,
    Json(change): Json<UpdateAttachment>,
) -> Answer<Attachment> {
    let change = AttachmentUpdate {
        mode: change.mode.map(Into::into),
        accept_data_loss: change.accept_data_loss,
    };
    found(view(app.control.attachment_update(&signed.caller, &attachment, change).await?))
}

/// Detach: let the host's running commands end, then close its sessions.
#[utoipa::path(
    delete, path = "/v1/attachments/{attachment}", tag = "attachment",
    responses((status = 202, description = "Detaching", body = Attachment), Refusals)
)]
async fn attachment_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(attachment): Path<String>,
) -> Answer<Attachment> {
    accepted(view(app.control.attachment_delete(&signed.caller, &attachment).await?))
}

/// Cut the host off at once. Answers when nothing of it can land any more.
#[utoipa::path(
    post, path = "/v1/attachments/{attachment}/fence", tag = "attachment",
    responses((status = 200, description = "Fenced", body = Fenced), Refusals)
)]
async fn attachment_fence(
    State(app): State<Shared>,
    signed: Signed,
    Path(attachment): Path<String>,
) -> Answer<Fenced> {
    let fenced = app.control.attachment_fence(&signed.caller, &attachment).await?;
    found(Fenced {
        attachment_id: fenced.attachment,
        sessions_closed: fenced.sessions_closed,
        registrations_removed: fenced.registrations_removed,
    })
}

fn view(found: AttachmentView) -> Attachment {
    Attachment::new(found.attachment, found.volume_name, found.host_name)
}

fn with_secret(made: AttachmentCreated) -> CreatedAttachment {
    CreatedAttachment { attachment: view(made.view), credentials: made.chap.map(Into::into) }
}
