//! Portals: listening sockets whose connections are dealt out to the workers in turn.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::NodeError;
use crate::connection;
use crate::node::Shared;
use crate::worker::WorkerHandle;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Open every portal of the settings; gives the addresses that they got.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    workers: &[WorkerHandle],
) -> Result<Vec<SocketAddr>, NodeError> {
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for &address in &shared.settings.portals {
        let failed = |source| NodeError::Portal { address, source };
        let listener = listen(address).map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    let advertised = &shared.settings.advertise;
    shared.book.set_portals(if advertised.is_empty() { bound.clone() } else { advertised.clone() });
    for (index, listener) in listeners.into_iter().enumerate() {
        // The first worker accepts; the connections go round.
        let (all, shared) = (workers.to_vec(), Arc::clone(shared));
        workers[index % workers.len()].spawn(move |_| accept(listener, all, shared));
    }
    Ok(bound)
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // A portal is one address family; `[::]` and `0.0.0.0` may be opened side by side.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(listener: std::net::TcpListener, workers: Vec<WorkerHandle>, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a portal could not be opened");
            return;
        }
    };
    let mut ending = shared.ending.clone();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.changed() => return,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let shared = Arc::clone(&shared);
                workers[turn % workers.len()]
                    .spawn(move |worker| connection::serve(stream, worker, shared));
                turn += 1;
            }
            Err(error) => {
                // Out of descriptors, or the peer was gone already: the portal stays open.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
