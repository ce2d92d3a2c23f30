//! Backup and restore: bodies that are streams.

use std::io;
use std::time::Duration;

use api::volume::{BackupQuery, RestoreQuery};
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::poll_fn;
use model::file::Acls;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Empty, Refusals};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Path, Query};
use crate::refusal::Refusal;

/// The path of the one request whose body may be of any length and take any time.
pub(crate) const RESTORE: &str = "/v1/volumes/{volume}/restore";
const MEDIA_TYPE: &str = "application/zstd";
/// Longest wait for the next piece of a body.
const PIECE_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(volume_backup)).routes(routes!(volume_restore))
}

/// The tree of a file volume or of one of its snapshots: a tar stream, compressed by zstd.
#[utoipa::path(
    get, path = "/v1/volumes/{volume}/backup", tag = "volume", params(BackupQuery),
    responses(
        (status = 200, description = "The stream", body = [u8], content_type = "application/zstd"),
        Refusals
    )
)]
async fn volume_backup(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Query(query): Query<BackupQuery>,
) -> Result<Response, Refusal> {
    let snapshot = query.snapshot.as_deref();
    let mut pieces = app.control.volume_backup(&signed.caller, &volume, snapshot).await?;
    let body = Body::from_stream(poll_fn(move |context| pieces.poll_recv(context)));
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response())
}

/// Fill an empty file volume from such a stream. Answered when all of it is durable.
#[utoipa::path(
    post, path = "/v1/volumes/{volume}/restore", tag = "volume", params(RestoreQuery),
    request_body(content = [u8], content_type = "application/zstd"),
    responses((status = 204, description = "Restored"), Refusals)
)]
async fn volume_restore(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Query(query): Query<RestoreQuery>,
    body: Body,
) -> Empty {
    let (sender, pieces) = mpsc::channel(4);
    tokio::spawn(pass(body, sender));
    let acls = if query.drop_acls { Acls::Drop } else { Acls::Keep };
    app.control.volume_restore(&signed.caller, &volume, acls, pieces).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands the body on. What nobody takes any more is thrown away for a moment, so that a client that
/// still sends gets the answer and not a connection that is reset.
pub(crate) async fn pass(body: Body, to: mpsc::Sender<io::Result<Bytes>>) {
    let mut pieces = body.into_data_stream();
    hand_on(&mut pieces, to).await;
    let rest = async { while pieces.next().await.is_some_and(|piece| piece.is_ok()) {} };
    // A client that goes on after that is cut off.
    let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
}

async fn hand_on(pieces: &mut BodyDataStream, to: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let piece = match tokio::time::timeout(PIECE_LIMIT, pieces.next()).await {
            Ok(None) => return,
            Ok(Some(piece)) => piece.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("the next piece did not come in time")),
        };
        let is_last = piece.is_err();
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}
