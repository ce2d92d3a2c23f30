//! Carrying out orders, on a worker of their own: each idempotent, each durable before it is
//! reported.
//!
//! Orders of different volumes run side by side. Those that change a volume's structure (create,
//! grow, snapshot, open for the first host) take that volume's turn; attaching a further host does
//! not, so sixteen hosts attach at once (design, invariant 8).

mod attachments;
mod backup;
mod carrying;
mod files;
mod sanitizing;

pub use backup::Pieces;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use env::BlockIo;
use model::id::{AttachmentId, PoolId, SnapshotId, VolumeId};
use model::order::{Found, ImageFormat, Order, OrderError, Report, Source};
use model::size::ByteSize;
use model::volume::VolumeKind;
use scsi::unit_attention::UnitAttention;
use store::{Pool, StoreError, Volume};
use tokio::sync::RwLock;

use crate::NodeError;
use crate::journal::PoolRecord;
use crate::node::Shared;
use crate::worker::{Worker, WorkerHandle};

/// How long a host may take to log out by itself when it is detached.
const LOGOUT_GRACE: Duration = Duration::from_secs(3);

/// Locks that all attachments share; two that meet in one only wait for a small record's write.
const TERMS: usize = 64;

/// Long work on one volume.
#[derive(Default)]
struct Work {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

struct State {
    shared: Arc<Shared>,
    /// Taken whole to change a volume's structure, shared to attach a host to it.
    turns: Mutex<HashMap<VolumeId, Arc<RwLock<()>>>>,
    /// By attachment: its record in the journal and its entry in the book change together.
    terms: [tokio::sync::Mutex<()>; TERMS],
    work: Mutex<HashMap<VolumeId, Arc<Work>>>,
    /// File volumes, and who serves them.
    files: files::Files,
    /// A merge may be possible: wakes the background loop.
    merge: tokio::sync::Notify,
}

/// The door for orders.
#[derive(Clone)]
pub(crate) struct Orders {
    state: Arc<State>,
    worker: WorkerHandle,
}

impl Orders {
    pub(crate) fn new(shared: Arc<Shared>, worker: WorkerHandle) -> Self {
        let state = Arc::new(State {
            shared,
            turns: Mutex::default(),
            terms: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            work: Mutex::default(),
            files: files::Files::default(),
            merge: tokio::sync::Notify::new(),
        });
        let background = Arc::clone(&state);
        worker.spawn(move |worker| async move { background.merge_loop(&worker).await });
        let background = Arc::clone(&state);
        worker.spawn(move |worker| async move { background.sanitize_loop(&worker).await });
        let background = Arc::clone(&state);
        worker.spawn(move |worker| async move { background.await_exports(&*worker.io).await });
        Self { state, worker }
    }

    /// Serve what was last ordered.
    pub(crate) async fn restore(&self) -> Result<(), NodeError> {
        let state = Arc::clone(&self.state);
        self.worker
            .run(move |worker| async move { state.restore(&*worker.io).await })
            .await
            .unwrap_or(Err(NodeError::Stopped))
    }

    pub(crate) async fn run(&self, order: Order) -> Result<Report, OrderError> {
        let state = Arc::clone(&self.state);
        self.worker
            .run(move |worker| async move { state.carry_out(&worker, order).await })
            .await
            .unwrap_or_else(|| Err(OrderError::Unreachable { why: "the node stops".into() }))
    }

    pub(crate) async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        let state = Arc::clone(&self.state);
        self.worker
            .run(move |worker| async move {
                let missing = || OrderError::Missing { what: format!("volume {volume}") };
                let (_, pool) = state.shared.pool_of(volume).ok_or_else(missing)?;
                let volume = pool.volume(&*worker.io, volume).await.map_err(order_error)?;
                let io = &*worker.io;
                let read = async |offset, length| {
                    let parts = volume.read(io, offset, length).await?;
                    Ok(bytes::Bytes::from(parts.concat()))
                };
                store::probe::probe(volume.size(), read).await.map_err(order_error)
            })
            .await
            .unwrap_or_else(|| Err(OrderError::Unreachable { why: "the node stops".into() }))
    }

    pub(crate) async fn image_size(
        &self,
        path: String,
        format: ImageFormat,
    ) -> Result<ByteSize, OrderError> {
        let files = Arc::clone(&self.state.shared.world.files);
        self.worker
            .run(move |worker| async move {
                let path = std::path::Path::new(&path);
                let size = store::image::size(&*files, &*worker.io, path, format).await;
                size.map(ByteSize).map_err(image_error)
            })
            .await
            .unwrap_or_else(|| Err(OrderError::Unreachable { why: "the node stops".into() }))
    }

    pub(crate) fn progress(&self, volume: VolumeId) -> Option<(u64, u64)> {
        let work = self.state.work.lock().expect("no panic while the lock is held");
        let work = work.get(&volume)?;
        Some((work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed)))
    }

    pub(crate) fn cancel(&self, volume: VolumeId) {
        let work = self.state.work.lock().expect("no panic while the lock is held");
        if let Some(work) = work.get(&volume) {
            work.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Flush every volume: the last thing before the daemon ends.
    pub(crate) async fn flush_all(&self) {
        let units = self.state.shared.book.units();
        let flush = self.worker.run(move |worker| async move {
            for unit in units {
                if let Err(error) = unit.volume.flush(&*worker.io).await {
                    tracing::error!(volume = %unit.id, %error, "the last flush failed");
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(30), flush).await;
    }
}

impl State {
    async fn restore(&self, io: &dyn BlockIo) -> Result<(), NodeError> {
        let (pools, attachments) =
            self.shared.journal.load(io).await.map_err(NodeError::Journal)?;
        for record in pools {
            let opened = match record.driver.kind() {
                VolumeKind::File => self.reopen_file_pool(record.clone()).await,
                VolumeKind::Block => self.open_pool(io, record.clone()).await,
            };
            if let Err(error) = opened {
                // The others are served all the same; the order comes again from the control plane.
                tracing::error!(pool = %record.pool, %error, "a pool could not be opened");
            }
        }
        self.restore_exports(io).await?;
        for access in attachments {
            let (attachment, volume) = (access.attachment, access.volume);
            if let Err(error) = self.attach(io, access, false).await {
                tracing::error!(%attachment, %volume, %error, "an attachment was not restored");
            }
        }
        Ok(())
    }

    async fn carry_out(&self, worker: &Rc<Worker>, order: Order) -> Result<Report, OrderError> {
        let io = &*worker.io;
        if let Some(pool) = self.file_pool_of(&order) {
            return self.carry_out_on_files(pool, order).await;
        }
        match order {
            Order::OpenPool { pool, driver, path, io: mode, capacity } => {
                let record = PoolRecord { pool, driver, path, io: mode, capacity };
                self.open_pool(io, record.clone()).await?;
                self.shared.journal.save_pool(io, &record).await.map_err(failed)?;
                Ok(Report::Done)
            }
            Order::ClosePool { pool } => self.close_pool(pool),
            Order::CreateVolume { volume, pool, size, source } => {
                self.create_volume(io, pool, volume, size, &source).await
            }
            Order::DeleteVolume { volume, pool } => self.delete_volume(io, pool, volume).await,
            Order::ResizeVolume { volume, pool, size } => self.grow(io, pool, volume, size).await,
            Order::CreateSnapshot { volume, pool, snapshot, name: _ } => {
                let _turn = self.turn(volume).await;
                let store = self.pool(pool)?;
                store.create_snapshot(io, volume, snapshot).await.map_err(order_error)?;
                Ok(Report::Done)
            }
            Order::DeleteSnapshot { volume, pool, snapshot } => {
                self.delete_snapshot(io, pool, volume, snapshot).await
            }
            Order::RevertVolume { volume, pool, snapshot } => {
                self.revert(io, pool, volume, snapshot).await
            }
            Order::ImportImage { volume, pool, path, format } => {
                self.import(io, pool, volume, (&path, format)).await
            }
            Order::ExportImage { volume, pool, path, format } => {
                self.export(io, pool, volume, (&path, format)).await
            }
            Order::Attach { access } => self.attach(io, access, true).await,
            Order::Detach { volume, attachment } => {
                self.cut_off(io, volume, attachment, Some(LOGOUT_GRACE)).await
            }
            Order::Fence { volume, attachment } => self.cut_off(io, volume, attachment, None).await,
            Order::ClearReservations { volume } => self.clear(io, volume).await,
            Order::Export { terms } => self.export_files(io, terms).await,
            Order::Unexport { volume, evict } => self.unexport_files(volume, evict).await,
            Order::Hold { terms } => self.hold_files(io, terms).await,
        }
    }

    async fn open_pool(&self, io: &dyn BlockIo, record: PoolRecord) -> Result<(), OrderError> {
        if record.driver.kind() == VolumeKind::File {
            return self.open_file_pool(record).await;
        }
        if let Some(open) = self.shared.pool(record.pool) {
            open.set_capacity(record.capacity);
            return Ok(());
        }
        let files = Arc::clone(&self.shared.world.files);
        let path = std::path::Path::new(&record.path);
        let pool = Pool::open(files, io, path, record.pool, record.io, record.capacity)
            .await
            .map_err(order_error)?;
        let mut pools = self.shared.pools.lock().expect("no panic while the lock is held");
        pools.entry(record.pool).or_insert(pool);
        // A merge that the last end cut short goes on at once.
        self.merge.notify_one();
        Ok(())
    }

    fn close_pool(&self, pool: PoolId) -> Result<Report, OrderError> {
        if let Some(open) = self.shared.pool(pool) {
            let held = open.volumes().len();
            if held > 0 {
                let why = format!("the pool holds {held} volumes; delete or move them first");
                return Err(OrderError::Refused { why });
            }
            self.shared.pools.lock().expect("no panic while the lock is held").remove(&pool);
        }
        self.shared.journal.forget_pool(pool).map_err(failed)?;
        Ok(Report::Done)
    }

    async fn create_volume(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        size: ByteSize,
        source: &Source,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        self.pool(pool)?.create_volume(io, volume, size, source).await.map_err(order_error)?;
        let made = self.volume(io, pool, volume).await?;
        Ok(Report::Sized { size: ByteSize(made.size()) })
    }

    async fn delete_volume(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        self.refuse_while_attached(volume)?;
        self.pool(pool)?.delete_volume(io, volume).await.map_err(order_error)?;
        self.turns.lock().expect("no panic while the lock is held").remove(&volume);
        self.merge.notify_one();
        Ok(Report::Done)
    }

    async fn grow(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        size: ByteSize,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        let open = self.volume(io, pool, volume).await?;
        if open.size() < size.bytes() {
            open.grow(io, size.bytes()).await.map_err(order_error)?;
        }
        if let Some(unit) = self.shared.book.unit(volume) {
            let blocks = open.size() / unit.block_bytes();
            if unit.facts().blocks < blocks {
                let change = |facts: &scsi::unit::Unit| scsi::unit::Unit {
                    blocks: facts.blocks.max(blocks),
                    ..facts.clone()
                };
                unit.change_facts(change, UnitAttention::CapacityChanged, None);
            }
        }
        Ok(Report::Sized { size: ByteSize(open.size()) })
    }

    async fn delete_snapshot(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        self.pool(pool)?.delete_snapshot(io, volume, snapshot).await.map_err(order_error)?;
        self.merge.notify_one();
        Ok(Report::Done)
    }

    async fn revert(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        self.refuse_while_attached(volume)?;
        self.pool(pool)?.revert(io, volume, snapshot).await.map_err(order_error)?;
        self.merge.notify_one();
        Ok(Report::Done)
    }

    async fn import(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        (path, format): (&str, ImageFormat),
    ) -> Result<Report, OrderError> {
        self.refuse_while_attached(volume)?;
        let open = self.volume(io, pool, volume).await?;
        open.refuse_while_sanitizing().map_err(order_error)?;
        let work = self.begin_work(volume)?;
        let tell = |done, total| work.tell(done, total);
        let path = std::path::Path::new(path);
        let result = store::image::import(&open, io, path, format, &tell, &work.cancelled).await;
        self.end_work(volume);
        match result {
            Ok(()) => Ok(Report::Done),
            Err(error) => Err(image_error(error)),
        }
    }

    async fn export(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
        (path, format): (&str, ImageFormat),
    ) -> Result<Report, OrderError> {
        let open = self.volume(io, pool, volume).await?;
        open.refuse_while_sanitizing().map_err(order_error)?;
        let work = self.begin_work(volume)?;
        let tell = |done, total| work.tell(done, total);
        let path = std::path::Path::new(path);
        let result = store::image::export(&open, io, path, format, &tell, &work.cancelled).await;
        self.end_work(volume);
        result.map_err(order_error)?;
        Ok(Report::Done)
    }

    fn refuse_while_attached(&self, volume: VolumeId) -> Result<(), OrderError> {
        match self.shared.book.access_count(volume) {
            0 => {
                // An attach that failed half-way may have left it open.
                let _ = self.shared.book.close_if_unused(volume);
                Ok(())
            }
            hosts => {
                let why = format!("{hosts} hosts are attached to the volume; detach them first");
                Err(OrderError::Refused { why })
            }
        }
    }

    fn pool(&self, pool: PoolId) -> Result<Arc<Pool>, OrderError> {
        self.shared.pool(pool).ok_or_else(|| OrderError::Missing { what: format!("pool {pool}") })
    }

    async fn volume(
        &self,
        io: &dyn BlockIo,
        pool: PoolId,
        volume: VolumeId,
    ) -> Result<Arc<Volume>, OrderError> {
        self.pool(pool)?.volume(io, volume).await.map_err(order_error)
    }

    async fn turn(&self, volume: VolumeId) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        self.turn_of(volume).write_owned().await
    }

    async fn shared_turn(&self, volume: VolumeId) -> tokio::sync::OwnedRwLockReadGuard<()> {
        self.turn_of(volume).read_owned().await
    }

    fn turn_of(&self, volume: VolumeId) -> Arc<RwLock<()>> {
        let mut turns = self.turns.lock().expect("no panic while the lock is held");
        Arc::clone(turns.entry(volume).or_default())
    }

    fn terms(&self, attachment: AttachmentId) -> &tokio::sync::Mutex<()> {
        let [.., last] = *attachment.0.as_bytes();
        &self.terms[usize::from(last) % TERMS]
    }

    fn begin_work(&self, volume: VolumeId) -> Result<Arc<Work>, OrderError> {
        let mut all = self.work.lock().expect("no panic while the lock is held");
        if all.contains_key(&volume) {
            let why = "other long work on the volume is still running".to_owned();
            return Err(OrderError::Refused { why });
        }
        let work = Arc::<Work>::default();
        all.insert(volume, Arc::clone(&work));
        Ok(work)
    }

    fn end_work(&self, volume: VolumeId) {
        self.work.lock().expect("no panic while the lock is held").remove(&volume);
    }

    /// Merge what deleted snapshots left behind, a little at a time, for ever.
    async fn merge_loop(&self, worker: &Worker) {
        let mut ending = self.shared.ending.clone();
        while !*ending.borrow() {
            let mut merged = false;
            for (pool, store) in self.shared.pools() {
                match store.merge_step(&*worker.io).await {
                    Ok(Some(_)) => merged = true,
                    Ok(None) => {}
                    Err(error) => tracing::error!(%pool, %error, "a merge did not go on"),
                }
            }
            if merged {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.merge.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(30)) => {}
                changed = ending.changed() => {
                    if changed.is_err() {
                        // The node is gone without having said so.
                        return;
                    }
                }
            }
        }
    }
}

impl Work {
    fn tell(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

fn failed(error: std::io::Error) -> OrderError {
    OrderError::Failed { why: error.to_string() }
}

/// The store's words in the order's.
/// Of an image that is to be read: that it is not there, or not ours to read, is its own fault.
fn image_error(error: StoreError) -> OrderError {
    use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
    match error {
        StoreError::Format { why, .. } => OrderError::BadImage { why },
        StoreError::Io { source, .. }
            if matches!(source.kind(), NotFound | PermissionDenied | IsADirectory) =>
        {
            OrderError::BadImage { why: source.to_string() }
        }
        other => order_error(other),
    }
}

fn order_error(error: StoreError) -> OrderError {
    match error {
        StoreError::NoSpace { needed, free } => OrderError::NoSpace { needed, free },
        StoreError::Missing { what } => OrderError::Missing { what },
        StoreError::Refused { why } => OrderError::Refused { why },
        StoreError::Cancelled => OrderError::Cancelled,
        other => OrderError::Failed { why: other.to_string() },
    }
}
