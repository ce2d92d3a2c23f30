//! The shell: accept connections, serve them, and end in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use control::Control;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::MetricsSource;
use crate::auth::Peer;

/// Connections that are open at the same time; the others wait in the kernel's queue.
const CONNECTIONS_AT_ONCE: usize = 2048;
/// Longest wait for a request's head; also how long a connection may be idle.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long running requests may go on after the shutdown began.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// Pause after the kernel refused a connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serve HTTP on the listener until `shutdown` ends; then let running requests end and return.
///
/// Needs a tokio runtime with I/O and time.
pub async fn serve(
    listener: TcpListener,
    control: Control,
    metrics: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = crate::router(control, metrics);
    let places = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE));
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Connections that have ended give their memory back.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let served = connection(stream, peer, router.clone(), end.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
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

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
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
