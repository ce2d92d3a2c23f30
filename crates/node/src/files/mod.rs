//! The file service: NFS over TCP, on threads of its own.
//!
//! ```text
//!  client --TCP--> input: records --.-- quick ones: run where they were read --.--> output --> client
//!                                   '-- behind a slow one: queue --> any thread --'
//! ```
//!
//! As few threads as keep up wait for the sockets (`crew`). Who is woken reads what is there, runs
//! the calls and sends the replies together: no call changes threads as long as calls are quick.
//! Where they are slow (they wait for a disk), the connection's calls go through a queue to as many
//! threads as there are; a thread that is at one call for long is relieved of the others that it has
//! read. Connections take turns in the line of those that have something queued. Where a client sends
//! one request after another, a thread stays with its connection for as long as that goes on
//! (`stay`).
//!
//! Entry points: [`FileService::start`], [`FileService::serve`] (a change of exports counts from
//! the next call on), [`FileService::stop`].
//!
//! Invariant: nothing that clients send makes the service hold more memory, threads or
//! connections than its settings allow, and a client that does not read its replies stops nobody
//! but itself.

mod connection;
mod crew;
mod exports;
mod figures;
mod input;
mod keeper;
mod lull;
mod output;
mod pace;
mod poll;
mod post;
mod records;
mod restart;
mod rpcbind;
mod seat;
mod share;
mod standing;
mod stay;
mod worker;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use env::Clock;
use model::file::FileStore;
use nfs::export::Exports;
use nfs::handle::{FileSystemId, HandleKey};
use nfs::replay::{Replays, SharedReplays};
use nfs::v4::state::{ClientRecord, ClientRecords, Config, Shared, State};

use self::connection::{Connection, Held, lock};
use self::crew::Crew;
use self::figures::Figures;
use self::poll::{Interest, Poller};
use self::post::Post;
use self::rpcbind::Told;
use self::share::Share;

pub use self::exports::Served;
pub use self::records::Records;

/// How the file service is set up.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// Addresses to listen on; port 0 takes a free one. Empty: nothing is served.
    pub portals: Vec<SocketAddr>,
    /// NFSv4: how long a client may be silent.
    pub lease_ms: u64,
    /// NFSv4: how long after a start clients may reclaim; it ends earlier when all have.
    pub grace_ms: u64,
    /// Tell this machine's rpcbind the port, where one runs.
    pub rpcbind: bool,
    pub limits: FileLimits,
}

/// What clients may take of the service, together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileLimits {
    pub connections: usize,
    pub connections_per_address: usize,
    /// Most threads; they are started when they are needed.
    pub threads: usize,
    /// Memory for calls and replies on their way, in bytes. Every connection has a floor of
    /// 64 KiB beside it.
    pub buffer_bytes: u64,
    /// How long a client may keep a call or a reply half done, in milliseconds.
    pub patience_ms: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            threads: 64,
            buffer_bytes: 1 << 30,
            patience_ms: 60_000,
        }
    }
}

impl Default for FileSettings {
    fn default() -> Self {
        let Config { lease_ms, grace_ms, .. } = Config::default();
        let limits = FileLimits::default();
        Self { portals: Vec::new(), lease_ms, grace_ms, rpcbind: false, limits }
    }
}

/// Most bytes of a call: the largest write, and what is around it.
const RECORD_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// What a connection may hold however full it is.
const FLOOR_BYTES: u64 = 64 << 10;
/// Connections of clients that no export lets in: they are told so.
const STRANGERS_MAX: usize = 64;
/// What such a client has to say fits into.
const STRANGER_RECORD_BYTES_MAX: usize = 4096;
/// How long it has for that; a later connection is looked at anew.
const STRANGER_MS: u64 = 5000;
/// Replies that wait for a connection before it is served no more.
const UNSENT_BYTES_MAX: u64 = 4 << 20;
/// Replies that are kept for calls of NFSv3 and NFSv4.0 that are sent again: the last minute of a
/// hundred clients that each change a hundred names in a second.
const REPLAY_BYTES_MAX: usize = 256 << 20;
/// Threads that are there from the start.
const THREADS_MIN: usize = 2;

/// What a start needs of the node's own memory.
pub struct Kept {
    /// Signs the handles; see [`HandleKey`].
    pub secret: [u8; 32],
    /// Differs from that of every earlier start.
    pub boot: u32,
    /// Of the clients that may reclaim.
    pub clients: Vec<ClientRecord>,
    pub records: Box<dyn ClientRecords + Send + Sync>,
}

/// The state behind its lock.
struct Locked(Mutex<State>);

impl Shared for Locked {
    fn enter(&self, step: &mut dyn FnMut(&mut State)) {
        step(&mut lock(&self.0));
    }
}

/// The duplicate request cache behind its lock, which is held for a look alone.
struct LockedReplays(Mutex<Replays>);

impl SharedReplays for LockedReplays {
    fn enter(&self, step: &mut dyn FnMut(&mut Replays)) {
        step(&mut lock(&self.0));
    }
}

struct Portal<F> {
    listener: TcpListener,
    address: SocketAddr,
    exports: ArcSwap<Exports<F>>,
}

/// Who called upon which file system by which version of the protocol.
type SeenBy = HashMap<(FileSystemId, IpAddr, u32), u64>;

/// What all threads share.
struct Service<F> {
    settings: FileSettings,
    share: Share,
    clock: Arc<dyn Clock>,
    started_ms: u64,
    poller: Poller,
    keys: HandleKey,
    state: Locked,
    records: Box<dyn ClientRecords + Send + Sync>,
    replays: LockedReplays,
    /// Names the server to clients, who compare it with that of other addresses.
    name: Vec<u8>,
    portals: Vec<Portal<F>>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    next_token: AtomicU64,
    /// Itself, for the threads that it starts.
    me: Weak<Self>,
    crew: Crew,
    held: Arc<Held>,
    /// Connections that found no room, and how many they are.
    paused: Mutex<HashMap<u64, Arc<Connection>>>,
    paused_count: AtomicUsize,
    seen: Mutex<SeenBy>,
    figures: Figures,
    threads: Mutex<Vec<JoinHandle<()>>>,
    told: Mutex<Option<Told>>,
    posts: Mutex<Vec<Arc<Post>>>,
    ending: AtomicBool,
    /// Something came since the keeper's last look.
    stirs: AtomicBool,
    keeper_rests: AtomicBool,
    /// Wakes the keeper before its time.
    keeper_wake: (Mutex<()>, Condvar),
    /// Wakes who makes records durable before its time.
    wake: (Mutex<()>, Condvar),
}

/// A running file service.
pub struct FileService<F>(Arc<Service<F>>);

impl<F: FileStore + Clone + Send + Sync> FileService<F> {
    /// Opens the portals; nothing is exported yet, and no connection is taken before
    /// [`Self::open`].
    ///
    /// # Errors
    /// An address that cannot be had, or what the kernel does not give.
    pub fn start(
        settings: FileSettings,
        kept: Kept,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, crate::NodeError> {
        let listen = |&address: &SocketAddr| {
            let failed = |source| crate::NodeError::Portal { address, source };
            crate::portal::listen(address).map_err(failed)
        };
        let listeners = settings.portals.iter().map(listen).collect::<Result<_, _>>()?;
        Self::start_on(listeners, settings, kept, clock)
    }

    /// The same on sockets that listen already, one for each portal.
    ///
    /// # Errors
    /// What the kernel does not give.
    pub fn start_on(
        listeners: Vec<TcpListener>,
        settings: FileSettings,
        kept: Kept,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, crate::NodeError> {
        let mut portals = Vec::new();
        for (listener, &address) in listeners.into_iter().zip(&settings.portals) {
            let failed = |source| crate::NodeError::Portal { address, source };
            let address = listener.local_addr().map_err(failed)?;
            let exports = Exports::new(Vec::new()).expect("none stands against another");
            portals.push(Portal { listener, address, exports: ArcSwap::from_pointee(exports) });
        }
        let now_ms = as_ms(clock.now());
        let FileSettings { lease_ms, grace_ms, .. } = settings;
        let config = Config { lease_ms, grace_ms, ..Config::default() };
        let keys = HandleKey::new(&kept.secret);
        let poller = Poller::new().map_err(crate::NodeError::Thread)?;
        let service = Arc::new_cyclic(|me| Service {
            me: Weak::clone(me),
            crew: Crew::new(settings.limits.threads),
            share: Share {
                capacity: settings.limits.buffer_bytes,
                floor: FLOOR_BYTES,
                unsent_max: UNSENT_BYTES_MAX,
            },
            settings,
            clock,
            started_ms: now_ms,
            poller,
            name: keys.name().to_vec(),
            keys,
            state: Locked(Mutex::new(State::new(config, kept.boot, kept.clients, now_ms))),
            records: kept.records,
            replays: LockedReplays(Mutex::new(Replays::new(REPLAY_BYTES_MAX))),
            portals,
            connections: Mutex::default(),
            next_token: AtomicU64::new(worker::CONNECTIONS),
            held: Arc::default(),
            paused: Mutex::default(),
            paused_count: AtomicUsize::new(0),
            seen: Mutex::default(),
            figures: Figures::default(),
            threads: Mutex::default(),
            told: Mutex::default(),
            posts: Mutex::default(),
            ending: AtomicBool::new(false),
            stirs: AtomicBool::new(false),
            keeper_rests: AtomicBool::new(false),
            keeper_wake: (Mutex::default(), Condvar::new()),
            wake: (Mutex::default(), Condvar::new()),
        });
        Ok(Self(service))
    }

    /// Takes connections from now on.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn open(&self) -> Result<(), crate::NodeError> {
        for _ in 0..THREADS_MIN {
            worker::start(&self.0).map_err(crate::NodeError::Thread)?;
        }
        keeper::start(&self.0).map_err(crate::NodeError::Thread)?;
        for (token, portal) in (0..).zip(&self.0.portals) {
            let added = self.0.poller.add(&portal.listener, token, Interest::READ);
            added.map_err(crate::NodeError::Thread)?;
        }
        if self.0.settings.rpcbind {
            let told = Told::start(std::path::Path::new(rpcbind::USUAL), &self.portals());
            *lock(&self.0.told) = Some(told.map_err(crate::NodeError::Thread)?);
        }
        Ok(())
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn portals(&self) -> Vec<SocketAddr> {
        self.0.portals.iter().map(|portal| portal.address).collect()
    }

    /// The service's part of the metrics page.
    #[must_use]
    pub fn metrics_page(&self) -> String {
        let service = &*self.0;
        let exports = service.portals.iter().map(|portal| portal.exports.load().iter().count());
        service.figures.page(&figures::Now {
            connections: lock(&service.connections).len(),
            held_bytes: service.held.bytes(),
            threads: service.crew.threads(),
            exports: exports.sum(),
            state: lock(&service.state.0).counts(),
        })
    }
}

fn as_ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
