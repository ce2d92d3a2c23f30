//! Portals: listening sockets whose connections are dealt out evenly to the workers.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::NodeError;
use crate::connection::{self, Guest};
use crate::door::Turned;
use crate::node::Shared;
use crate::sockets::Purpose;
use crate::worker::WorkerHandle;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Pause after the kernel gave no connection, so that the lack of something does not make us spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Open every portal of the settings; gives the addresses that they got.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    workers: &[WorkerHandle],
) -> Result<Vec<SocketAddr>, NodeError> {
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for &address in &shared.settings.portals {
        let failed = |source| NodeError::Portal { address, source };
        let listener = shared.sockets.listen(Purpose::Block, address).map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    let advertised = &shared.settings.advertise;
    shared.book.set_portals(if advertised.is_empty() { bound.clone() } else { advertised.clone() });
    for (index, listener) in listeners.into_iter().enumerate() {
        // One worker accepts for all.
        let (all, shared) = (workers.to_vec(), Arc::clone(shared));
        workers[index % workers.len()].spawn(move |_| accept(listener, all, shared));
    }
    Ok(bound)
}

pub(crate) fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
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
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.changed() => return,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                let (signal_to_me, signals) = mpsc::unbounded_channel();
                // The kernel gives the lowest number that is free: a high one says that few are left.
                let number = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
                let knocked = shared.door.knock(number, peer.ip(), signal_to_me.clone());
                let Some(place) = knocked else { continue };
                let guest = Guest { place, signal_to_me, signals };
                let shared = Arc::clone(&shared);
                let Some((worker, seat)) = WorkerHandle::least_busy(&workers) else { return };
                worker.spawn(move |worker| async move {
                    connection::serve_tcp(stream, guest, worker, shared).await;
                    drop(seat);
                });
            }
            Err(error) => {
                // Out of descriptors, or the peer was gone already: the portal stays open.
                shared.door.turn_away(Turned::Accept, &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
