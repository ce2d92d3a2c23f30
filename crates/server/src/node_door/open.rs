//! The door on the node: who may ask, and what is done.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use control::{NodeLink, Pieces};
use futures::stream::poll_fn;
use model::file::Acls;
use model::id::{OperationId, PoolId, VolumeId};
use model::node::NodeReport;
use model::order::{Notice, Order, OrderError, Report};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::notices::Notices;
use super::turns::{Manner, Stamp, Turns, about};
use super::wire::{self, Adopted, Ask, BackupOf, RestoreWith, Turned};
use crate::routes::backup::pass;

/// While an order runs, the caller hears of us so often.
const BEAT: Duration = Duration::from_secs(5);

/// Whose orders a node takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Adoption {
    pub control: Uuid,
    /// The highest number of that control plane's starts that was heard.
    pub term: u64,
}

/// What a door must know again after a restart of the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorRecord {
    /// Made at the node's first start: who has another one is another node.
    pub identity: Uuid,
    pub adoption: Option<Adoption>,
}

/// Makes a record durable.
type Keep = Box<dyn Fn(&DoorRecord) -> io::Result<()> + Send + Sync>;

/// A node's door. It is served by [`crate::serve_node`].
pub struct NodeDoor {
    link: Arc<dyn NodeLink>,
    secret: String,
    record: Mutex<DoorRecord>,
    keep: Keep,
    /// The number of the daemon's start.
    boot: u64,
    upgrade: Option<(OperationId, Option<String>)>,
    turns: Arc<Turns>,
    notices: Notices,
    turned_away: Mutex<u64>,
}

impl NodeDoor {
    /// A door to this node, for who shows the secret. `boot` is the number of this start, and
    /// `upgrade` what it is the end of.
    #[must_use]
    pub fn new(
        link: Arc<dyn NodeLink>,
        secret: String,
        record: DoorRecord,
        keep: impl Fn(&DoorRecord) -> io::Result<()> + Send + Sync + 'static,
        (boot, upgrade): (u64, Option<(OperationId, Option<String>)>),
    ) -> Self {
        Self {
            link,
            secret,
            record: Mutex::new(record),
            keep: Box::new(keep),
            boot,
            upgrade,
            turns: Arc::default(),
            notices: Notices::new(boot),
            turned_away: Mutex::default(),
        }
    }

    /// Something that the control plane is to hear.
    pub fn notice(&self, notice: Notice) {
        self.notices.push(notice);
    }

    /// The node ends: who waits for notices is answered.
    pub(crate) fn end(&self) {
        self.notices.end();
    }

    fn record(&self) -> MutexGuard<'_, DoorRecord> {
        self.record.lock().expect("no panic while the lock is held")
    }

    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
        !self.secret.is_empty() && bool::from(shown.ct_eq(self.secret.as_bytes()))
    }

    /// Whether these headers are of the control plane that this node belongs to, in its last start
    /// that was heard or a later one.
    fn admit(&self, headers: &HeaderMap) -> Result<Stamp, Turned> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let id = |name| text(name).and_then(|text| text.parse::<Uuid>().ok());
        let number = |name| text(name).and_then(|text| text.parse::<u64>().ok());
        let all = (id(wire::NODE), id(wire::CONTROL), number(wire::TERM), number(wire::NUMBER));
        let (Some(node), Some(control), Some(term), Some(number)) = all else {
            return Err(Turned::Unreadable);
        };
        let mut record = self.record();
        if node != record.identity {
            return Err(Turned::OtherNode);
        }
        let adoption = record.adoption.ok_or(Turned::Free)?;
        if adoption.control != control {
            return Err(Turned::OtherControl);
        }
        if term < adoption.term {
            return Err(Turned::OlderStart);
        }
        if term > adoption.term {
            let fresh = DoorRecord { adoption: Some(Adoption { control, term }), ..*record };
            self.write(&mut record, fresh)?;
        }
        Ok(Stamp { term, number, control })
    }

    /// Durable before anything is done for it.
    fn write(&self, record: &mut DoorRecord, fresh: DoorRecord) -> Result<(), Turned> {
        (self.keep)(&fresh).map_err(|error| {
            tracing::error!(%error, "whose node this is cannot be written down");
            Turned::Unwritten
        })?;
        *record = fresh;
        Ok(())
    }

    fn adopt(&self, headers: &HeaderMap) -> Result<Adopted, Turned> {
        let control = headers.get(wire::CONTROL).and_then(|value| value.to_str().ok());
        let control: Uuid = control.and_then(|text| text.parse().ok()).ok_or(Turned::Unreadable)?;
        let mut record = self.record();
        match record.adoption {
            Some(adoption) if adoption.control != control => return Err(Turned::OtherControl),
            Some(_) => {}
            None => {
                let adoption = Some(Adoption { control, term: 0 });
                let fresh = DoorRecord { adoption, ..*record };
                self.write(&mut record, fresh)?;
                self.turns.forget();
                tracing::info!(%control, "the node belongs to a control plane");
            }
        }
        Ok(Adopted { identity: record.identity })
    }

    fn is_current(&self, stamp: Stamp) -> bool {
        let adoption = self.record().adoption;
        adoption.is_some_and(|one| one.control == stamp.control && one.term <= stamp.term)
    }

    /// Run this in its turn, unless it was overtaken.
    async fn in_turn<T>(
        &self,
        about: (Uuid, Manner),
        stamp: Stamp,
        work: impl Future<Output = Result<T, OrderError>> + Send,
    ) -> Result<T, OrderError> {
        let late = || OrderError::Unreachable { why: "a later order has come before".to_owned() };
        let turn = self.turns.turn(about, stamp).await.ok_or_else(late)?;
        // A later start of the control plane may have spoken while this one waited.
        if !self.is_current(stamp) {
            return Err(late());
        }
        let answer = work.await;
        drop(turn);
        answer
    }

    async fn order(&self, order: Order, stamp: Stamp) -> Result<Report, OrderError> {
        match about(&order) {
            Some(about) => self.in_turn(about, stamp, self.link.order(order)).await,
            None => self.link.order(order).await,
        }
    }

    async fn report(&self) -> Result<NodeReport, OrderError> {
        let report = self.link.node().await?;
        Ok(NodeReport { boot: Some(self.boot), upgrade: self.upgrade.clone(), ..report })
    }
}

/// The routes of a door.
pub(crate) fn router(door: Arc<NodeDoor>) -> Router {
    Router::new()
        .route(wire::ADOPT, post(adopt))
        .route(wire::RELEASE, post(release))
        .route(wire::ASK, post(ask))
        .route(wire::BACKUP, get(backup))
        .route(wire::RESTORE, post(restore))
        .route(wire::CARRY, get(carry))
        .route(wire::RECEIVE, post(receive))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(wire::ASK_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&door), guard))
        .with_state(door)
}

/// The outermost layer: who has no secret gets no answer but that.
async fn guard(State(door): State<Arc<NodeDoor>>, mut request: Request, next: Next) -> Response {
    if !door.knows_secret(request.headers()) {
        let mut away = door.turned_away.lock().expect("no panic while the lock is held");
        *away += 1;
        // A line for each power of two: a flood must not fill the log.
        if away.is_power_of_two() {
            tracing::warn!(count = *away, "requests came to the node door without its secret");
        }
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if request.uri().path() != wire::ADOPT {
        match door.admit(request.headers()) {
            Ok(stamp) => request.extensions_mut().insert(stamp),
            Err(turned) => return turned.into_response(),
        };
    }
    next.run(request).await
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        (StatusCode::CONFLICT, axum::Json(self)).into_response()
    }
}

async fn adopt(State(door): State<Arc<NodeDoor>>, headers: HeaderMap) -> Response {
    match door.adopt(&headers) {
        Ok(adopted) => axum::Json(adopted).into_response(),
        Err(turned) => turned.into_response(),
    }
}

async fn release(State(door): State<Arc<NodeDoor>>) -> Response {
    let mut record = door.record();
    let fresh = DoorRecord { adoption: None, ..*record };
    match door.write(&mut record, fresh) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(turned) => turned.into_response(),
    }
}

/// Answer when the work has ended, with a blank now and then until then: so the caller can tell
/// long work from a node that is gone. The work goes on when the caller does not.
fn in_time<T: Serialize + Send + 'static>(
    work: impl Future<Output = Result<T, OrderError>> + Send + 'static,
) -> Response {
    let (sender, mut pieces) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::spawn(async move {
        tokio::pin!(work);
        let answer = loop {
            tokio::select! {
                answer = work.as_mut() => break answer,
                () = tokio::time::sleep(BEAT) => {
                    // Who does not read it needs no further one.
                    let _ = sender.try_send(Ok(Bytes::from_static(b" ")));
                }
            }
        };
        let answer = serde_json::to_vec(&answer).map(Bytes::from).map_err(io::Error::other);
        // Who hung up has no use for it.
        let _ = sender.send(answer).await;
    });
    let body = Body::from_stream(poll_fn(move |context| pieces.poll_recv(context)));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn ask(
    State(door): State<Arc<NodeDoor>>,
    axum::Extension(stamp): axum::Extension<Stamp>,
    body: Bytes,
) -> Response {
    let ask: Ask = match serde_json::from_slice(&body) {
        Ok(ask) => ask,
        Err(error) => {
            tracing::warn!(%error, "a request of the control plane cannot be read");
            return Turned::Unreadable.into_response();
        }
    };
    match ask {
        Ask::Order { order } => in_time(async move { door.order(order, stamp).await }),
        Ask::Node => in_time(async move { door.report().await }),
        Ask::Notices { after } => in_time(async move { Ok(door.notices.after(after).await) }),
        Ask::ClientCounts => in_time(async move { door.link.client_counts().await }),
        Ask::RestartFiles { after } => in_time(async move {
            let about = (door.record().identity, Manner::Usual);
            door.in_turn(about, stamp, door.link.restart_files(after)).await
        }),
        Ask::CheckBinary { binary, kept_out } => {
            in_time(async move { door.link.check_binary(binary, kept_out).await })
        }
        Ask::Upgrade { operation, binary } => {
            in_time(async move { door.link.upgrade(operation, binary).await })
        }
        Ask::PoolUsage => in_time(async move { door.link.pool_usage().await }),
        Ask::Probe { volume } => in_time(async move { door.link.probe(volume).await }),
        Ask::ImageSize { path, format } => {
            in_time(async move { door.link.image_size(path, format).await })
        }
        Ask::FileUsage { volume } => in_time(async move { door.link.file_usage(volume).await }),
        Ask::FileClients { volume } => in_time(async move { door.link.file_clients(volume).await }),
        Ask::SnapshotUsage { volume } => {
            in_time(async move { door.link.snapshot_usage(volume).await })
        }
        Ask::Reservations { volume } => {
            in_time(async move { door.link.reservations(volume).await })
        }
        Ask::Progress { volume } => in_time(async move { door.link.progress(volume).await }),
        Ask::Cancel { volume } => in_time(async move { door.link.cancel(volume).await }),
    }
}

/// The stream, or as JSON why there is none.
async fn backup(
    State(door): State<Arc<NodeDoor>>,
    Path(volume): Path<Uuid>,
    Query(BackupOf { snapshot }): Query<BackupOf>,
) -> Response {
    streamed(door.link.backup(VolumeId(volume), snapshot).await)
}

fn streamed(pieces: Result<Pieces, OrderError>) -> Response {
    match pieces {
        Ok(mut pieces) => {
            let body = Body::from_stream(poll_fn(move |context| pieces.poll_recv(context)));
            ([(header::CONTENT_TYPE, "application/zstd")], body).into_response()
        }
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(error)).into_response(),
    }
}

/// A whole file volume, or as JSON why there is none.
async fn carry(
    State(door): State<Arc<NodeDoor>>,
    Path((pool, volume)): Path<(Uuid, Uuid)>,
) -> Response {
    streamed(door.link.carry(VolumeId(volume), PoolId(pool)).await)
}

async fn receive(
    State(door): State<Arc<NodeDoor>>,
    axum::Extension(stamp): axum::Extension<Stamp>,
    Path((pool, volume)): Path<(Uuid, Uuid)>,
    body: Body,
) -> Response {
    let (sender, pieces) = mpsc::channel(4);
    tokio::spawn(pass(body, sender));
    in_time(async move {
        let work = door.link.receive(VolumeId(volume), PoolId(pool), pieces);
        door.in_turn((volume, Manner::Usual), stamp, work).await
    })
}

async fn restore(
    State(door): State<Arc<NodeDoor>>,
    axum::Extension(stamp): axum::Extension<Stamp>,
    Path(volume): Path<Uuid>,
    Query(RestoreWith { drop_acls }): Query<RestoreWith>,
    body: Body,
) -> Response {
    let (sender, pieces) = mpsc::channel(4);
    tokio::spawn(pass(body, sender));
    let acls = if drop_acls { Acls::Drop } else { Acls::Keep };
    in_time(async move {
        let work = door.link.restore(VolumeId(volume), acls, pieces);
        door.in_turn((volume, Manner::Usual), stamp, work).await
    })
}
