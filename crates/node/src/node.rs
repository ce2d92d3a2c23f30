//! The node as a whole: its workers, its portals, its state on disk, and the door for orders.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use env::{BlockIo, Clock, Files, IoEngine, Random};
use model::export::{ConnectedClient, FileUsage};
use model::file::Acls;
use model::id::{AttachmentId, PoolId, VolumeId};
use model::node::FileServiceReport;
use model::order::{
    Carried, Found, ImageFormat, Notice, Order, OrderError, PoolUsage, RegistrantView, Report,
    ReservationView, SnapshotUsage,
};
use model::size::ByteSize;
use store::Pool;
use tokio::sync::{broadcast, mpsc, watch};

use crate::NodeError;
use crate::anteroom::Places;
use crate::book::Book;
use crate::connection::{self, Guest};
use crate::door::Door;
use crate::files::FileSettings;
use crate::journal::Journal;
use crate::metrics::{self, Sample};
use crate::nexus::Signal;
use crate::notice::Notices;
use crate::orders::{Orders, Pieces};
use crate::portal;
use crate::sockets::Sockets;
use crate::unit::LogicalUnit;
use crate::wire::Wire;
use crate::worker::{BlockIoFactory, WorkerHandle};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the node keeps its orders.
    pub data_dir: PathBuf,
    /// Addresses to listen on; port 0 takes a free one.
    pub portals: Vec<SocketAddr>,
    /// Addresses told to initiators instead of the above (behind a forwarder, or for `0.0.0.0`).
    pub advertise: Vec<SocketAddr>,
    /// Worker threads for connections; zero: one per core.
    pub workers: usize,
    pub engine: IoEngine,
    /// What the target offers at login.
    pub iscsi: iscsi::target::Settings,
    pub limits: Limits,
    /// How file volumes are served.
    pub files: FileSettings,
}

/// What initiators may take of a node, together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections and sessions.
    pub places: Places,
    /// Memory for the data of commands, in bytes, dealt out to the workers in equal parts; each
    /// has at least [`WORKER_BUFFER_BYTES_MIN`]. Every connection has a floor of 128 KiB beside it.
    pub buffer_bytes: u64,
    /// File descriptors that the process may have open. Portals leave a quarter of them to others.
    pub descriptors: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let places = Places { sessions: 4096, logins: 512, logins_per_address: 128 };
        Self { places, buffer_bytes: 1 << 30, descriptors: u64::MAX }
    }
}

/// Room for a few of the largest commands: twice what one moves is the least that lets it run.
pub(crate) const WORKER_BUFFER_BYTES_MIN: u64 = 32 << 20;

/// The world that a node lives in.
#[derive(Clone)]
pub struct World {
    pub files: Arc<dyn Files>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// What all parts of a node share.
pub(crate) struct Shared {
    pub settings: Settings,
    pub world: World,
    pub book: Arc<Book>,
    pub notices: Notices,
    pub door: Arc<Door>,
    pub pools: Mutex<HashMap<PoolId, Arc<Pool>>>,
    pub journal: Arc<Journal>,
    /// Where it listens.
    pub sockets: Sockets,
    /// Turns true when the node is to end.
    pub ending: watch::Receiver<bool>,
    last_tsih: AtomicU16,
}

impl Shared {
    /// A target session identifying handle: never zero, not used again soon (RFC 7143 4.4.2).
    pub(crate) fn next_tsih(&self) -> u16 {
        match self.last_tsih.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
            0 => self.next_tsih(),
            tsih => tsih,
        }
    }

    pub(crate) fn pool(&self, pool: PoolId) -> Option<Arc<Pool>> {
        self.pools.lock().expect("no panic while the lock is held").get(&pool).cloned()
    }

    /// The pool that holds a volume.
    pub(crate) fn pool_of(&self, volume: VolumeId) -> Option<(PoolId, Arc<Pool>)> {
        self.pools().into_iter().find(|(_, pool)| pool.has_volume(volume))
    }

    pub(crate) fn pools(&self) -> Vec<(PoolId, Arc<Pool>)> {
        let pools = self.pools.lock().expect("no panic while the lock is held");
        pools.iter().map(|(id, pool)| (*id, Arc::clone(pool))).collect()
    }
}

/// A running storage node.
pub struct Node {
    shared: Arc<Shared>,
    orders: Orders,
    workers: Vec<WorkerHandle>,
    threads: Vec<JoinHandle<()>>,
    portals: Vec<SocketAddr>,
    end: watch::Sender<bool>,
}

impl Node {
    /// Start: open the journal, serve what was last ordered, then open the portals.
    ///
    /// # Errors
    /// When a portal's address cannot be had, or the node's own state cannot be read.
    pub async fn start(
        settings: Settings,
        world: World,
        sockets: Sockets,
    ) -> Result<Self, NodeError> {
        let engine = settings.engine;
        let block_io: BlockIoFactory = Arc::new(move || env::block_io(engine));
        Self::begin(share(settings, world, sockets)?, block_io).await
    }

    /// The same over other block I/O than [`Settings::engine`] names: each worker makes its own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        settings: Settings,
        world: World,
        block_io: BlockIoFactory,
    ) -> Result<Self, NodeError> {
        Self::begin(share(settings, world, Sockets::default())?, block_io).await
    }

    async fn begin(
        (shared, end): (Arc<Shared>, watch::Sender<bool>),
        block_io: BlockIoFactory,
    ) -> Result<Self, NodeError> {
        let (workers, mut threads) = start_workers(&shared, &block_io)?;
        let (housekeeper, thread) =
            WorkerHandle::start("orders".into(), block_io, 0).map_err(NodeError::Thread)?;
        threads.push(thread);
        let orders = Orders::new(Arc::clone(&shared), housekeeper);
        orders.start_files().await?;
        orders.restore().await?;
        orders.open_files()?;
        let portals = portal::open(&shared, &workers).await?;
        Ok(Self { shared, orders, workers, threads, portals, end })
    }

    /// The node on the caller's own thread, in its `LocalSet`, without portals: what a simulated
    /// world drives. Connections come by [`Self::serve`].
    ///
    /// # Errors
    /// When the node's own state cannot be read.
    pub async fn start_here(
        settings: Settings,
        world: World,
        io: Rc<dyn BlockIo>,
    ) -> Result<Self, NodeError> {
        let buffer_bytes = settings.limits.buffer_bytes;
        let (shared, end) = share(settings, world, Sockets::default())?;
        let (worker, work) = WorkerHandle::here(io, buffer_bytes);
        tokio::task::spawn_local(work);
        let orders = Orders::new(Arc::clone(&shared), worker.clone());
        orders.restore().await?;
        let (workers, threads, portals) = (vec![worker], Vec::new(), Vec::new());
        Ok(Self { shared, orders, workers, threads, portals, end })
    }

    /// Serve a connection that came through no portal; it is dropped when there is no place for it.
    pub fn serve<W: Wire + Send + 'static>(&self, wire: W) {
        let shared = Arc::clone(&self.shared);
        let ([worker, ..], Ok((peer, _))) = (&self.workers[..], wire.ends()) else { return };
        let (signal_to_me, signals) = mpsc::unbounded_channel();
        let Some(place) = shared.door.knock(0, peer.ip(), signal_to_me.clone()) else { return };
        let guest = Guest { place, signal_to_me, signals };
        worker.spawn(move |worker| connection::serve(wire, guest, worker, shared));
    }

    /// The logical unit of a volume that somebody may reach.
    #[must_use]
    pub fn unit(&self, volume: VolumeId) -> Option<Arc<LogicalUnit>> {
        self.shared.book.unit(volume)
    }

    /// The addresses that the node listens on.
    #[must_use]
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// Carry out an order. Long ones (image import and export) take their time; see `progress`.
    ///
    /// # Errors
    /// What the node could not do, and why.
    pub async fn order(&self, order: Order) -> Result<Report, OrderError> {
        self.orders.run(order).await
    }

    /// Bytes done and in all, of the long work on a volume.
    #[must_use]
    pub fn progress(&self, volume: VolumeId) -> Option<(u64, u64)> {
        self.orders.progress(volume)
    }

    /// Stop the long work on a volume at the next opportunity.
    pub fn cancel(&self, volume: VolumeId) {
        self.orders.cancel(volume);
    }

    /// How full the pools are.
    ///
    /// # Errors
    /// When a pool's file system cannot be asked.
    pub async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        let of_blocks = self.shared.pools().into_iter().map(|(_, pool)| {
            pool.usage().map_err(|error| OrderError::Failed { why: error.to_string() })
        });
        let mut all: Vec<_> = of_blocks.collect::<Result<_, _>>()?;
        all.extend(self.orders.file_pool_usage().await?);
        Ok(all)
    }

    /// What lies on a volume.
    ///
    /// # Errors
    /// When the volume is not here or cannot be read.
    pub async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        self.orders.probe(volume).await
    }

    /// Bytes that a volume needs to take in an image file, in whole blocks.
    ///
    /// # Errors
    /// `BadImage` where the file is no image that can be read.
    pub async fn image_size(
        &self,
        path: String,
        format: ImageFormat,
    ) -> Result<ByteSize, OrderError> {
        self.orders.image_size(path, format).await
    }

    /// How full a file volume is.
    ///
    /// # Errors
    /// When the volume is not here, or its file system cannot be asked.
    pub async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError> {
        self.orders.file_usage(volume).await
    }

    /// Who has a file volume mounted.
    ///
    /// # Errors
    /// When the volume is not here.
    pub async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError> {
        self.orders.file_clients(volume)
    }

    /// What each snapshot of a file volume holds for itself.
    ///
    /// # Errors
    /// When the volume is not here, or its file system cannot be asked.
    pub async fn snapshot_usage(&self, volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError> {
        self.orders.snapshot_usage(volume).await
    }

    /// The tree of a file volume, or of one of its snapshots by name, as a tar.zst stream.
    ///
    /// # Errors
    /// When volume or snapshot are not here. What goes wrong later is in the stream.
    pub async fn backup(
        &self,
        volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<Pieces, OrderError> {
        self.orders.backup_tree(volume, snapshot).await
    }

    /// Fills an empty file volume from such a stream.
    ///
    /// # Errors
    /// When the volume is not here or not empty, the stream is none, or there is no room.
    pub async fn restore(
        &self,
        volume: VolumeId,
        acls: Acls,
        from: Pieces,
    ) -> Result<(), OrderError> {
        self.orders.restore_tree(volume, acls, from).await
    }

    /// A whole file volume as a stream that another node receives; see `control::NodeLink::carry`.
    ///
    /// # Errors
    /// When the volume is not in the pool, or is served.
    pub async fn carry(&self, volume: VolumeId, pool: PoolId) -> Result<Pieces, OrderError> {
        self.orders.carry_files(volume, pool).await
    }

    /// Makes a file volume of such a stream; see `control::NodeLink::receive`.
    ///
    /// # Errors
    /// When the pool is not here or has the volume, the stream is not whole, or there is no room.
    pub async fn receive(
        &self,
        volume: VolumeId,
        pool: PoolId,
        from: Pieces,
    ) -> Result<Carried, OrderError> {
        self.orders.receive_files(volume, pool, from).await
    }

    /// What the node sees by itself, from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// The addresses that it listens on for NFS clients.
    #[must_use]
    pub fn file_portals(&self) -> Vec<SocketAddr> {
        self.orders.file_portals()
    }

    /// Reservation state of a volume; of one that nobody may reach, nothing.
    #[must_use]
    pub fn reservations(&self, volume: VolumeId) -> ReservationView {
        self.shared.book.unit(volume).map_or_else(ReservationView::default, |unit| view(&unit))
    }

    /// Sessions open on a volume: `(attachment, initiator port)`.
    #[must_use]
    pub fn sessions(&self, volume: VolumeId) -> Vec<(AttachmentId, String)> {
        let Some(unit) = self.shared.book.unit(volume) else { return Vec::new() };
        unit.nexuses()
            .iter()
            .filter(|state| state.session().is_some())
            .map(|state| (state.access.attachment, state.nexus.initiator.name().to_owned()))
            .collect()
    }

    /// Sessions of initiators that are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        let units = self.shared.book.units();
        let open = |unit: &Arc<LogicalUnit>| {
            unit.nexuses().iter().filter(|state| state.session().is_some()).count()
        };
        units.iter().map(open).sum()
    }

    /// How the file service is; `None` on a node without one.
    #[must_use]
    pub fn files_standing(&self) -> Option<FileServiceReport> {
        self.orders.files_standing()
    }

    /// Start the file service anew, unless that has been done since the start of that number; gives
    /// the number of the start that serves then.
    ///
    /// # Errors
    /// There is none, or it could not be begun; to be tried again.
    pub async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        self.orders.restart_files(after).await
    }

    #[cfg(test)]
    pub(crate) const fn orders(&self) -> &Orders {
        &self.orders
    }

    /// How many clients have each file volume mounted.
    #[must_use]
    pub fn client_counts(&self) -> HashMap<VolumeId, u64> {
        self.orders.client_counts()
    }

    /// The Prometheus page of all attachments, and of the limits.
    #[must_use]
    pub fn metrics_page(&self) -> String {
        let mut rows = Vec::new();
        for unit in self.shared.book.units() {
            for (attachment, figures) in unit.figures() {
                let host = unit
                    .nexuses_of(attachment)
                    .first()
                    .map_or_else(|| attachment.to_string(), |s| s.access.host_name.clone());
                rows.push((unit.id.to_string(), host, figures));
            }
        }
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let samples: Vec<_> = rows
            .iter()
            .map(|(volume, host, figures)| Sample {
                volume: volume.clone(),
                host: host.clone(),
                figures,
            })
            .collect();
        let mut page = metrics::page(&samples);
        page += &self.shared.door.page();
        let drawn: u64 = self.workers.iter().map(WorkerHandle::buffer_bytes_drawn).sum();
        page += &metrics::buffers(drawn);
        page += &self.orders.files_page();
        page
    }

    /// End in order: no new connections, ask the initiators to log out, let running commands end,
    /// flush, stop the threads.
    pub async fn stop(self) {
        let _ = self.end.send(true);
        self.orders.stop_files().await;
        let mut links = Vec::new();
        for unit in self.shared.book.units() {
            for state in unit.nexuses() {
                links.extend(state.session());
            }
        }
        for link in &links {
            link.signal(Signal::Close { why: "the daemon stops" });
        }
        for link in links {
            let _ = tokio::time::timeout(Duration::from_secs(10), link.signals.closed()).await;
        }
        self.orders.flush_all().await;
        drop(self.orders);
        drop(self.workers);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(10), joined).await;
    }
}

fn share(
    settings: Settings,
    world: World,
    sockets: Sockets,
) -> Result<(Arc<Shared>, watch::Sender<bool>), NodeError> {
    world.files.create_dir(&settings.data_dir).map_err(NodeError::Journal)?;
    let journal =
        Journal::open(Arc::clone(&world.files), &settings.data_dir).map_err(NodeError::Journal)?;
    let (end, ending) = watch::channel(false);
    let door = Arc::new(Door::new(&settings.limits, Arc::clone(&world.clock)));
    let shared = Shared {
        settings,
        door,
        world,
        book: Arc::default(),
        notices: Notices::default(),
        pools: Mutex::default(),
        journal: Arc::new(journal),
        sockets,
        ending,
        last_tsih: AtomicU16::new(0),
    };
    Ok((Arc::new(shared), end))
}

fn start_workers(
    shared: &Shared,
    block_io: &BlockIoFactory,
) -> Result<(Vec<WorkerHandle>, Vec<JoinHandle<()>>), NodeError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if shared.settings.workers == 0 { cores } else { shared.settings.workers };
    let mut workers = Vec::new();
    let mut threads = Vec::new();
    let part = shared.settings.limits.buffer_bytes / count.max(1) as u64;
    let part = part.max(WORKER_BUFFER_BYTES_MIN);
    for index in 0..count {
        let name = format!("worker-{index}");
        let (worker, thread) =
            WorkerHandle::start(name, Arc::clone(block_io), part).map_err(NodeError::Thread)?;
        workers.push(worker);
        threads.push(thread);
    }
    Ok((workers, threads))
}

fn view(unit: &LogicalUnit) -> ReservationView {
    let reservations = unit.reservations();
    let registrants = reservations
        .registrations()
        .iter()
        .map(|registration| {
            let nexus = &registration.nexus;
            let state = unit.state_of(nexus);
            let state = state.as_ref();
            RegistrantView {
                host: state.map(|state| state.access.host),
                host_name: state.map(|state| state.access.host_name.clone()),
                iqn: nexus.initiator.device().to_owned(),
                isid: nexus.initiator.isid().to_owned(),
                key: registration.key,
                holder: reservations.is_holder(nexus),
                last_command_age_ms: state.and_then(|s| s.last_command_age_ms(unit.now_ms())),
                session: state.is_some_and(|state| state.session().is_some()),
            }
        })
        .collect();
    let kind = reservations.reservation().map(|reservation| reservation.kind);
    ReservationView {
        generation: reservations.generation(),
        reservation_type: kind.map(|kind| kind.name().to_owned()),
        type_code: kind.map(|kind| kind.code()),
        persist_through_power_loss: reservations.aptpl(),
        lost: reservations.is_lost(),
        registrants,
        history: unit.history(),
    }
}
