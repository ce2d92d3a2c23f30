//! The shell: accept connections, serve them, and end in order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use control::Control;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::MetricsSource;
use crate::auth::Peer;
use crate::node_door::{self, NodeDoor};

/// Of so many file descriptors one is kept for the files of the catalog and of volumes.
const DESCRIPTORS_KEPT: u64 = 16;
/// Most bytes of a request's head, and of what is read ahead of the work on a request.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// A client that takes nothing of its answer for so long is gone.
const UNTAKEN_LIMIT: Duration = Duration::from_secs(30);
/// The same at a node's door: what is carried waits for the disk of another node.
const CARRY_UNTAKEN_LIMIT: Duration = Duration::from_secs(300);
/// Longest wait for a request's head; also how long a connection may be idle.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long running requests may go on after the shutdown began.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// Pause after the kernel refused a connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many may be connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at the same time; further ones wait in the kernel's queue. One address may have
    /// three quarters of them, so that a proxy is served and somebody else still can be.
    pub connections: usize,
    /// File descriptors that the process may have open.
    pub descriptors: u64,
}

impl Limits {
    fn per_address(&self) -> usize {
        (self.connections - self.connections / 4).max(1)
    }
}

/// Who is connected, and from where.
struct Places {
    limits: Limits,
    untaken: Duration,
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place, given back when dropped.
struct Place {
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _one_of_all: OwnedSemaphorePermit,
}

impl Places {
    fn new(limits: Limits, untaken: Duration) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections));
        Self { limits, untaken, all, by_address: Arc::default() }
    }

    /// The next connection, once there is room for one. `None`: it came from an address that has
    /// too many already, or descriptors are short, and it is closed.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<Option<(TcpStream, SocketAddr, Place)>> {
        let one = Arc::clone(&self.all).acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        let number = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
        let descriptors = self.limits.descriptors;
        if number >= descriptors - descriptors / DESCRIPTORS_KEPT {
            return Ok(None);
        }
        let address = peer.ip().to_canonical();
        let mut by_address = lock(&self.by_address);
        let mine = by_address.entry(address).or_default();
        if *mine >= self.limits.per_address() {
            return Ok(None);
        }
        *mine += 1;
        drop(by_address);
        let by_address = Arc::clone(&self.by_address);
        let place = Place { address, by_address, _one_of_all: one };
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.untaken))?;
        Ok(Some((stream, peer, place)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = lock(&self.by_address);
        if let Entry::Occupied(mut mine) = by_address.entry(self.address) {
            *mine.get_mut() -= 1;
            if *mine.get() == 0 {
                mine.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while the lock is held")
}

/// Serve HTTP on the listener until `shutdown` ends; then let running requests end and return.
///
/// Needs a tokio runtime with I/O and time.
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    control: Control,
    metrics: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = (limits, UNTAKEN_LIMIT);
    serve_router(listener, limits, crate::router(control, metrics), shutdown).await;
}

/// The same for the door of a storage node of its own.
pub async fn serve_node(
    listener: TcpListener,
    limits: Limits,
    door: Arc<NodeDoor>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let ended = async {
        shutdown.await;
        door.end();
    };
    let limits = (limits, CARRY_UNTAKEN_LIMIT);
    serve_router(listener, limits, node_door::router(Arc::clone(&door)), ended).await;
}

/// The metrics of a storage node of its own, for whoever reaches the address.
pub async fn serve_metrics(
    listener: TcpListener,
    limits: Limits,
    source: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = (limits, UNTAKEN_LIMIT);
    serve_router(listener, limits, crate::metrics::router_of_node(source), shutdown).await;
}

async fn serve_router(
    listener: TcpListener,
    (limits, untaken): (Limits, Duration),
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Places::new(limits, untaken);
    let mut turned_away: u64 = 0;
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Connections that have ended give their memory back.
            Some(_) = connections.join_next() => continue,
            accepted = places.accept(&listener) => accepted,
        };
        match accepted {
            Ok(Some((stream, peer, place))) => {
                let served = connection(stream, peer, router.clone(), end.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Ok(None) => {
                // A line for each power of two: a flood must not fill the log.
                turned_away += 1;
                if turned_away.is_power_of_two() {
                    tracing::warn!(turned_away, "connections to the API met their limit");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    ending.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "requests that did not end in time are dropped");
    }
}

/// One connection: HTTP/1.1, request after request, until either side has enough.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut end: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        tower::Service::call(&mut router.clone(), request.map(Body::new))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // The sender lives as long as `serve`; its end is a reason to stop, too.
    let ended = async { drop(end.wait_for(|ending| *ending).await) };
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = ended => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
