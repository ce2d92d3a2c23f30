//! The other side: a node of another machine, as the control plane sees it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use control::{NodeDoors, NodeLink, NotAdopted, Pieces, Way};
use futures::stream::poll_fn;
use model::export::{ConnectedClient, FileUsage};
use model::file::Acls;
use model::id::{OperationId, PoolId, VolumeId};
use model::node::{Binary, Heard, NodeReport, NoticeMark};
use model::order::{
    Carried, Found, ImageFormat, Order, OrderError, PoolUsage, Report, ReservationView,
    SnapshotUsage,
};
use model::size::ByteSize;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::first;
use super::wire::{self, Ask, BackupOf, RestoreWith, Turned};

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A node that works says so more often than this.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// The same of streams, where one side may wait for the disk of the other.
const STREAM_SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// An idle connection goes before the node closes it.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer but for streams.
const ANSWER_BYTES_MAX: usize = 64 << 20;

fn unreachable(why: impl std::fmt::Display) -> OrderError {
    OrderError::Unreachable { why: why.to_string() }
}

/// The innermost sentence: the outer ones repeat the address.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn broken(error: &reqwest::Error) -> OrderError {
    unreachable(root_cause(error))
}

/// Ways to nodes over HTTP.
pub struct HttpDoors {
    http: reqwest::Client,
    streams: reqwest::Client,
    /// Of requests: each one's is higher than the one's before.
    number: Arc<AtomicU64>,
}

impl HttpDoors {
    /// # Errors
    /// The system gives no connections, for example.
    pub fn new() -> Result<Self, String> {
        // A proxy from the environment would get the secret. A redirect could carry it elsewhere.
        let client = |silence: Duration| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(silence)
                .pool_idle_timeout(IDLE_LIMIT)
                .user_agent(concat!("commonhold/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| root_cause(&error))
        };
        let (http, streams) = (client(SILENCE_LIMIT)?, client(STREAM_SILENCE_LIMIT)?);
        Ok(Self { http, streams, number: Arc::new(AtomicU64::new(1)) })
    }

    fn node(&self, way: Way) -> FarNode {
        let (http, streams) = (self.http.clone(), self.streams.clone());
        FarNode { http, streams, number: Arc::clone(&self.number), way }
    }
}

#[async_trait]
impl NodeDoors for HttpDoors {
    async fn adopt(&self, address: &str, secret: &str, control: Uuid) -> Result<Uuid, NotAdopted> {
        let request = self.http.post(format!("{address}{}", wire::ADOPT));
        let request = request.bearer_auth(secret).header(wire::CONTROL, control.to_string());
        match request.send().await {
            Ok(response) => first::heard(response).await,
            Err(error) => Err(first::unheard(&error)),
        }
    }

    async fn release(&self, way: &Way) -> Result<(), OrderError> {
        let node = self.node(way.clone());
        let request = node.request(node.http.post(node.url(wire::RELEASE)));
        let response = request.send().await.map_err(|error| broken(&error))?;
        heard(response).await.map(drop)
    }

    fn link(&self, way: Way) -> Arc<dyn NodeLink> {
        Arc::new(self.node(way))
    }
}

async fn turned(response: Response) -> Turned {
    read(response).await.unwrap_or(Turned::Unreadable)
}

/// An answer that is none of a door's refusals.
async fn heard(response: Response) -> Result<Response, OrderError> {
    match response.status() {
        StatusCode::UNAUTHORIZED => Err(unreachable(
            "it does not know the secret: another node is at its address, or it was emptied",
        )),
        StatusCode::CONFLICT => Err(unreachable(turned(response).await)),
        StatusCode::UNPROCESSABLE_ENTITY => Err(read(response).await?),
        status if status.is_success() => Ok(response),
        status => Err(unreachable(format!("what answers there is no node: {status}"))),
    }
}

/// A whole body of JSON.
async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, OrderError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(unreachable("it answers without end"));
        }
    }
    let other = |error| {
        unreachable(format!(
            "it answers in another form than this release reads, so run the same release on both \
             ({error})"
        ))
    };
    serde_json::from_slice(&body).map_err(other)
}

struct FarNode {
    http: reqwest::Client,
    streams: reqwest::Client,
    number: Arc<AtomicU64>,
    way: Way,
}

impl FarNode {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.way.address)
    }

    fn volume_url(&self, path: &str, volume: VolumeId) -> String {
        self.url(&path.replace("{volume}", &volume.to_string()))
    }

    fn request(&self, request: RequestBuilder) -> RequestBuilder {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        request
            .bearer_auth(&self.way.secret)
            .header(wire::NODE, self.way.identity.to_string())
            .header(wire::CONTROL, self.way.control.to_string())
            .header(wire::TERM, self.way.term)
            .header(wire::NUMBER, number)
    }

    async fn stream(&self, request: RequestBuilder) -> Result<Pieces, OrderError> {
        let response = self.request(request).send().await.map_err(|error| broken(&error))?;
        let mut response = heard(response).await?;
        let (sender, pieces) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let piece = match response.chunk().await {
                    Ok(None) => return,
                    Ok(Some(piece)) => Ok(piece),
                    Err(error) => Err(io::Error::other(root_cause(&error))),
                };
                let is_last = piece.is_err();
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(pieces)
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, OrderError> {
        let request = self.request(self.http.post(self.url(wire::ASK))).json(&ask);
        let response = request.send().await.map_err(|error| broken(&error))?;
        read::<Result<T, OrderError>>(heard(response).await?).await?
    }
}

#[async_trait]
impl NodeLink for FarNode {
    async fn order(&self, order: Order) -> Result<Report, OrderError> {
        self.ask(Ask::Order { order }).await
    }

    async fn node(&self) -> Result<NodeReport, OrderError> {
        self.ask(Ask::Node).await
    }

    async fn notices(&self, after: NoticeMark) -> Result<Heard, OrderError> {
        self.ask(Ask::Notices { after }).await
    }

    async fn client_counts(&self) -> Result<HashMap<VolumeId, u64>, OrderError> {
        self.ask(Ask::ClientCounts).await
    }

    async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        self.ask(Ask::RestartFiles { after }).await
    }

    async fn check_binary(
        &self,
        binary: Option<String>,
        kept_out: Vec<String>,
    ) -> Result<Binary, OrderError> {
        self.ask(Ask::CheckBinary { binary, kept_out }).await
    }

    async fn upgrade(&self, operation: OperationId, binary: String) -> Result<(), OrderError> {
        self.ask(Ask::Upgrade { operation, binary }).await
    }

    async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        self.ask(Ask::PoolUsage).await
    }

    async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        self.ask(Ask::Probe { volume }).await
    }

    async fn image_size(&self, path: String, format: ImageFormat) -> Result<ByteSize, OrderError> {
        self.ask(Ask::ImageSize { path, format }).await
    }

    async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError> {
        self.ask(Ask::FileUsage { volume }).await
    }

    async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError> {
        self.ask(Ask::FileClients { volume }).await
    }

    async fn snapshot_usage(&self, volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError> {
        self.ask(Ask::SnapshotUsage { volume }).await
    }

    async fn backup(
        &self,
        volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<Pieces, OrderError> {
        let request = self.streams.get(self.volume_url(wire::BACKUP, volume));
        self.stream(request.query(&BackupOf { snapshot })).await
    }

    async fn carry(&self, volume: VolumeId, pool: PoolId) -> Result<Pieces, OrderError> {
        let url = self.volume_url(wire::CARRY, volume).replace("{pool}", &pool.to_string());
        self.stream(self.streams.get(url)).await
    }

    async fn receive(
        &self,
        volume: VolumeId,
        pool: PoolId,
        mut from: Pieces,
    ) -> Result<Carried, OrderError> {
        let url = self.volume_url(wire::RECEIVE, volume).replace("{pool}", &pool.to_string());
        let body = reqwest::Body::wrap_stream(poll_fn(move |context| from.poll_recv(context)));
        let request = self.request(self.streams.post(url)).body(body);
        let response = request.send().await.map_err(|error| broken(&error))?;
        read::<Result<Carried, OrderError>>(heard(response).await?).await?
    }

    async fn restore(
        &self,
        volume: VolumeId,
        acls: Acls,
        mut from: Pieces,
    ) -> Result<(), OrderError> {
        let body = reqwest::Body::wrap_stream(poll_fn(move |context| from.poll_recv(context)));
        let request = self.streams.post(self.volume_url(wire::RESTORE, volume));
        let query = RestoreWith { drop_acls: acls == Acls::Drop };
        let request = self.request(request).query(&query).body(body);
        let response = request.send().await.map_err(|error| broken(&error))?;
        read::<Result<(), OrderError>>(heard(response).await?).await?
    }

    async fn reservations(&self, volume: VolumeId) -> Result<ReservationView, OrderError> {
        self.ask(Ask::Reservations { volume }).await
    }

    async fn progress(&self, volume: VolumeId) -> Result<Option<(u64, u64)>, OrderError> {
        self.ask(Ask::Progress { volume }).await
    }

    async fn cancel(&self, volume: VolumeId) -> Result<(), OrderError> {
        self.ask(Ask::Cancel { volume }).await
    }
}
