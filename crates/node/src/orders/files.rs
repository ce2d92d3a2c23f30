//! Orders of file volumes: their pools, their trees, and who serves them.
//!
//! What the store does here blocks: it runs on threads that may.

mod hold;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use env::BlockIo;
use model::export::{ConnectedClient, Durability, FileUsage, Rule, Squash, Terms};
use model::id::{PoolId, VolumeId};
use model::node::FileServiceReport;
use model::order::{Mode, Order, OrderError, PoolUsage, Report, SnapshotUsage, Source};
use nfs::export::{self as served, ExportError};
use nfs::handle::{FileSystemId, HandleKey};
use store::StoreError;
use store::files::{FilePool, FileVolume};

use super::{Orders, State, failed, order_error};
use crate::NodeError;
use crate::files::{FileService, Served};
use crate::journal::PoolRecord;

/// File volumes of a node.
#[derive(Default)]
pub(super) struct Files {
    pools: Mutex<HashMap<PoolId, Arc<FilePool>>>,
    /// None on a node without portals for it.
    service: ArcSwapOption<FileService<FileVolume>>,
    /// Something could not be opened.
    wait: tokio::sync::Notify,
    /// What is served; held while it changes.
    exports: tokio::sync::Mutex<Exported>,
}

/// What NFS clients are served, and what they have to wait for.
#[derive(Default)]
struct Exported {
    ready: BTreeMap<VolumeId, (Terms, FileVolume)>,
    /// Volumes that were served before the node started and could not be opened since.
    waiting: BTreeMap<VolumeId, Terms>,
    /// Volumes whose clients are to wait until another order comes; in none of the others.
    held: BTreeMap<VolumeId, Terms>,
}

impl Exported {
    async fn serve(&self, service: &FileService<FileVolume>) -> Result<(), ExportError> {
        let ready = self.ready.values().map(|(terms, volume)| {
            let keys = volume.handle_secret().map(|secret| HandleKey::new(&secret));
            export(terms, volume.clone(), keys)
        });
        let waiting = self.waiting.values().chain(self.held.values());
        let waiting = waiting.map(|terms| export(terms, (), None));
        service.serve(&ready.collect::<Vec<_>>(), &waiting.collect::<Vec<_>>()).await
    }
}

/// Between two tries to open what could not be opened at the start.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl Files {
    fn pool(&self, pool: PoolId) -> Option<Arc<FilePool>> {
        self.pools.lock().expect("no panic while the lock is held").get(&pool).cloned()
    }
    pub(super) fn must_have(&self, pool: PoolId) -> Result<Arc<FilePool>, OrderError> {
        self.pool(pool).ok_or_else(|| OrderError::Missing { what: format!("pool {pool}") })
    }
    fn pools(&self) -> Vec<Arc<FilePool>> {
        self.pools.lock().expect("no panic while the lock is held").values().cloned().collect()
    }
    fn service(&self) -> Result<Arc<FileService<FileVolume>>, OrderError> {
        self.service.load_full().ok_or_else(|| OrderError::Refused {
            why: "the node has no NFS portal; start it with --nfs-portals".to_owned(),
        })
    }
    /// A volume, whichever pool holds it.
    async fn volume(&self, volume: VolumeId) -> Result<FileVolume, OrderError> {
        let pools = self.pools();
        blocking(move || {
            for pool in pools {
                match opened(&pool, volume) {
                    Err(StoreError::Missing { .. }) => {}
                    found => return found,
                }
            }
            Err(StoreError::Missing { what: format!("file volume {volume}") })
        })
        .await
    }
}

/// Runs what blocks, elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, OrderError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(order_error),
        Err(error) => Err(OrderError::Failed { why: error.to_string() }),
    }
}

/// Opens a volume; what it uses is counted meanwhile, where a crash left only a bound.
fn opened(pool: &FilePool, volume: VolumeId) -> Result<FileVolume, StoreError> {
    let volume = pool.volume(volume)?;
    if volume.needs_count() {
        let counted = volume.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = counted.recount() {
                let volume = counted.id();
                tracing::error!(%volume, %error, "what the volume uses is only bounded");
            }
        });
    }
    Ok(volume)
}

/// Gives the room of what was deleted back, meanwhile.
fn sweep(pool: Arc<FilePool>) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pool.sweep() {
            tracing::error!(pool = %pool.id(), %error, "what was deleted still takes room");
        }
    });
}

fn id_of(volume: VolumeId) -> FileSystemId {
    FileSystemId(*volume.0.as_bytes())
}

fn rule(rule: &Rule) -> served::Rule {
    let clients = rule.clients;
    served::Rule {
        network: served::Network { address: clients.address(), prefix_bits: clients.prefix_bits() },
        read_only: rule.mode == Mode::ReadOnly,
        squash: match rule.squash {
            Squash::None => served::Squash::None,
            Squash::Root => served::Squash::Root,
            Squash::All => served::Squash::All,
        },
        anonymous: (rule.anonymous_uid, rule.anonymous_gid),
    }
}

fn export<F>(terms: &Terms, store: F, keys: Option<HandleKey>) -> Served<F> {
    let names = terms.path.split('/').filter(|name| !name.is_empty());
    let export = served::Export {
        file_system: id_of(terms.volume),
        path: names.map(|name| Bytes::copy_from_slice(name.as_bytes())).collect(),
        store,
        keys,
        rules: terms.rules.iter().map(rule).collect(),
    };
    Served { export, portals: terms.portals.clone() }
}

impl Orders {
    pub(crate) fn files_page(&self) -> String {
        let service = self.state.files.service.load_full();
        service.map_or_else(String::new, |service| service.metrics_page())
    }

    pub(crate) fn file_portals(&self) -> Vec<SocketAddr> {
        self.state.files.service.load_full().map_or_else(Vec::new, |service| service.portals())
    }

    /// How the file service is; `None` on a node without one.
    pub(crate) fn files_standing(&self) -> Option<FileServiceReport> {
        self.state.files.service.load_full().map(|service| service.standing())
    }

    /// How many clients have each file volume mounted.
    pub(crate) fn client_counts(&self) -> HashMap<VolumeId, u64> {
        let counts = self.state.files.service.load_full().map(|service| service.client_counts());
        let volume = |id: FileSystemId| VolumeId(uuid::Uuid::from_bytes(id.0));
        counts.unwrap_or_default().into_iter().map(|(id, count)| (volume(id), count)).collect()
    }

    pub(crate) async fn file_pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        let pools = self.state.files.pools();
        blocking(move || pools.iter().map(|pool| pool.usage()).collect()).await
    }

    pub(crate) async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError> {
        let volume = self.state.files.volume(volume).await?;
        let usage = blocking(move || volume.usage()).await?;
        Ok(FileUsage {
            used_bytes: usage.used.0,
            available_bytes: usage.available.0,
            used_inodes: usage.inodes_used,
            available_inodes: Some(usage.inodes_available),
        })
    }

    pub(crate) fn file_clients(
        &self,
        volume: VolumeId,
    ) -> Result<Vec<ConnectedClient>, OrderError> {
        Ok(self.state.files.service()?.clients(id_of(volume)))
    }

    pub(super) async fn file_volume(&self, volume: VolumeId) -> Result<FileVolume, OrderError> {
        self.state.files.volume(volume).await
    }

    pub(crate) async fn snapshot_usage(
        &self,
        volume: VolumeId,
    ) -> Result<Vec<SnapshotUsage>, OrderError> {
        let volume = self.state.files.volume(volume).await?;
        let all = blocking(move || volume.snapshots()).await?;
        let usage =
            |one: store::files::FileSnapshot| SnapshotUsage { snapshot: one.id, held: one.held };
        Ok(all.into_iter().map(usage).collect())
    }
}

impl State {
    /// Serves again what was served. Clients of what cannot be opened are kept waiting, and it is
    /// tried again until it can.
    pub(super) async fn restore_exports(&self, io: &dyn BlockIo) -> Result<(), NodeError> {
        let held = self.shared.journal.load_held(io).await.map_err(NodeError::Journal)?;
        let held: BTreeMap<_, _> = held.into_iter().map(|terms| (terms.volume, terms)).collect();
        self.files.exports.lock().await.held.clone_from(&held);
        let all = self.shared.journal.load_exports(io).await.map_err(NodeError::Journal)?;
        // One that is held may have been served before: the crash came between the two records.
        for terms in all.into_iter().filter(|terms| !held.contains_key(&terms.volume)) {
            let volume = terms.volume;
            if let Err(error) = self.serve_files(terms.clone()).await {
                tracing::error!(%volume, %error, "a file volume is not served again yet");
                self.files.exports.lock().await.waiting.insert(volume, terms);
            }
        }
        let exports = self.files.exports.lock().await;
        let all_served = exports.waiting.is_empty() && exports.held.is_empty();
        if let (false, Ok(service)) = (all_served, self.files.service())
            && let Err(error) = exports.serve(&service).await
        {
            tracing::error!(%error, "clients of file volumes are not told to wait");
        }
        drop(exports);
        self.files.wait.notify_one();
        Ok(())
    }

    /// Tries again to open what clients wait for, until the node ends.
    pub(super) async fn await_exports(&self, io: &dyn BlockIo) {
        let mut ending = self.shared.ending.clone();
        while !*ending.borrow() {
            let waiting = self.files.exports.lock().await.waiting.clone();
            let pause = async {
                if waiting.is_empty() {
                    self.files.wait.notified().await;
                } else {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            };
            tokio::select! {
                () = pause => {}
                changed = ending.changed() => match changed {
                    Ok(()) => continue,
                    // The node is gone without having said so.
                    Err(_) => return,
                }
            }
            let pools = self.shared.journal.load(io).await.map_or_else(|_| vec![], |all| all.0);
            for terms in waiting.into_values() {
                let volume = terms.volume;
                let pool = pools.iter().find(|record| record.pool == terms.pool).cloned();
                match self.try_again(pool, terms).await {
                    Ok(()) => tracing::info!(%volume, "a file volume is served again"),
                    Err(error) => tracing::debug!(%volume, %error, "it is not served again yet"),
                }
            }
        }
    }

    async fn try_again(&self, pool: Option<PoolRecord>, terms: Terms) -> Result<(), OrderError> {
        let _turn = self.turn(terms.volume).await;
        if let Some(pool) = pool {
            self.reopen_file_pool(pool).await?;
        }
        let opened = self.open_exported(&terms).await?;
        let exports = &mut *self.files.exports.lock().await;
        // An order may have come between.
        if exports.waiting.get(&terms.volume) == Some(&terms) {
            self.serve_opened(exports, terms, opened).await?;
        }
        Ok(())
    }

    /// Opens a pool that was there before; it is not made anew where its file system is not mounted.
    pub(super) async fn reopen_file_pool(&self, record: PoolRecord) -> Result<(), OrderError> {
        let path = record.path.clone();
        if !blocking(move || Ok(FilePool::is_in(std::path::Path::new(&path)))).await? {
            return Err(OrderError::Missing { what: format!("file pool in {}", record.path) });
        }
        self.open_file_pool(record).await
    }

    pub(super) async fn open_file_pool(&self, record: PoolRecord) -> Result<(), OrderError> {
        let PoolRecord { pool, driver, path, capacity, .. } = record;
        if let Some(open) = self.files.pool(pool) {
            open.set_capacity(capacity);
            return Ok(());
        }
        let random = Arc::clone(&self.shared.world.random);
        let open =
            move || FilePool::open(std::path::Path::new(&path), pool, driver, random, capacity);
        let open = Arc::new(blocking(open).await?);
        let mut pools = self.files.pools.lock().expect("no panic while the lock is held");
        let open = Arc::clone(pools.entry(pool).or_insert(open));
        drop(pools);
        // What the last end left half deleted.
        sweep(open);
        Ok(())
    }

    /// The pool that an order is for, when it is one of file volumes and open.
    pub(super) fn file_pool_of(&self, order: &Order) -> Option<Arc<FilePool>> {
        match order {
            Order::ClosePool { pool }
            | Order::CreateVolume { pool, .. }
            | Order::DeleteVolume { pool, .. }
            | Order::ResizeVolume { pool, .. }
            | Order::CreateSnapshot { pool, .. }
            | Order::DeleteSnapshot { pool, .. }
            | Order::RevertVolume { pool, .. }
            | Order::ImportImage { pool, .. }
            | Order::ExportImage { pool, .. } => self.files.pool(*pool),
            _ => None,
        }
    }

    pub(super) async fn carry_out_on_files(
        &self,
        pool: Arc<FilePool>,
        order: Order,
    ) -> Result<Report, OrderError> {
        match order {
            Order::ClosePool { pool: id } => self.close_file_pool(&pool, id).await,
            Order::CreateVolume { volume, size, source, .. } => {
                let _turn = self.turn(volume).await;
                blocking(move || {
                    let durability = Durability::default();
                    let made = match source {
                        Source::Blank => pool.create_volume(volume, size, durability),
                        Source::Snapshot { volume: of, snapshot } => {
                            pool.clone_volume(volume, size, durability, (of, snapshot))
                        }
                    }?;
                    Ok(Report::Sized { size: made.usage()?.size })
                })
                .await
            }
            Order::DeleteVolume { volume, .. } => {
                let _turn = self.turn(volume).await;
                self.refuse_while_served(volume).await?;
                let swept = Arc::clone(&pool);
                blocking(move || pool.delete_volume(volume)).await?;
                self.turns.lock().expect("no panic while the lock is held").remove(&volume);
                sweep(swept);
                Ok(Report::Done)
            }
            Order::ResizeVolume { volume, size, .. } => {
                let _turn = self.turn(volume).await;
                blocking(move || pool.volume(volume)?.resize(size)).await?;
                Ok(Report::Sized { size })
            }
            Order::CreateSnapshot { volume, snapshot, name, .. } => {
                let _turn = self.turn(volume).await;
                let make = move || pool.volume(volume)?.create_snapshot(snapshot, name.as_deref());
                blocking(make).await?;
                Ok(Report::Done)
            }
            Order::DeleteSnapshot { volume, snapshot, .. } => {
                let _turn = self.turn(volume).await;
                let swept = Arc::clone(&pool);
                blocking(move || pool.volume(volume)?.delete_snapshot(snapshot)).await?;
                sweep(swept);
                Ok(Report::Done)
            }
            Order::RevertVolume { volume, snapshot, .. } => {
                let _turn = self.turn(volume).await;
                self.refuse_while_served(volume).await?;
                let swept = Arc::clone(&pool);
                blocking(move || pool.volume(volume)?.roll_back(snapshot)).await?;
                sweep(swept);
                Ok(Report::Done)
            }
            _ => {
                let why = "the volume is a file tree: no disk image holds it".to_owned();
                Err(OrderError::Refused { why })
            }
        }
    }

    async fn close_file_pool(
        &self,
        pool: &Arc<FilePool>,
        id: PoolId,
    ) -> Result<Report, OrderError> {
        let asked = Arc::clone(pool);
        let held = blocking(move || asked.volumes()).await?.len();
        if held > 0 {
            let why = format!("the pool holds {held} volumes; delete or move them first");
            return Err(OrderError::Refused { why });
        }
        self.files.pools.lock().expect("no panic while the lock is held").remove(&id);
        self.shared.journal.forget_pool(id).map_err(failed)?;
        Ok(Report::Done)
    }

    pub(super) async fn refuse_while_served(&self, volume: VolumeId) -> Result<(), OrderError> {
        if self.files.exports.lock().await.ready.contains_key(&volume) {
            let why = "the volume is served to NFS clients; end that first".to_owned();
            return Err(OrderError::Refused { why });
        }
        Ok(())
    }

    /// Only what is held does not change: an order that comes late could serve any other.
    pub(super) async fn refuse_unless_held(&self, volume: VolumeId) -> Result<(), OrderError> {
        if self.files.exports.lock().await.held.contains_key(&volume) {
            return Ok(());
        }
        let why = "the volume is not held: only with its clients waiting is it carried".to_owned();
        Err(OrderError::Refused { why })
    }

    pub(super) async fn export_files(
        &self,
        io: &dyn BlockIo,
        terms: Terms,
    ) -> Result<Report, OrderError> {
        // Not while it is carried to another pool: what came after that would be lost.
        let _turn = self.turn(terms.volume).await;
        let portals = self.serve_files(terms.clone()).await?;
        self.shared.journal.save_export(io, &terms).await.map_err(failed)?;
        self.shared.journal.forget_held(terms.volume).map_err(failed)?;
        Ok(Report::Exported { portals: portals.iter().map(SocketAddr::to_string).collect() })
    }

    /// Serves a volume from the next call of each client on; says on which portals.
    async fn serve_files(&self, terms: Terms) -> Result<Vec<SocketAddr>, OrderError> {
        let volume = self.open_exported(&terms).await?;
        self.serve_opened(&mut *self.files.exports.lock().await, terms, volume).await
    }

    /// Opens a volume that is to be served.
    async fn open_exported(&self, terms: &Terms) -> Result<FileVolume, OrderError> {
        let ours = self.files.service()?.portals();
        if let Some(other) = terms.portals.iter().find(|one| !ours.contains(one)) {
            let ours: Vec<_> = ours.iter().map(SocketAddr::to_string).collect();
            let why =
                format!("{other} is no NFS portal of the node; those are {}", ours.join(", "));
            return Err(OrderError::Refused { why });
        }
        let pool = self.files.must_have(terms.pool)?;
        let (id, wanted) = (terms.volume, terms.durability);
        blocking(move || {
            let volume = opened(&pool, id)?;
            if volume.durability() != wanted {
                volume.set_durability(wanted)?;
            }
            Ok(volume)
        })
        .await
    }

    async fn serve_opened(
        &self,
        exports: &mut Exported,
        terms: Terms,
        volume: FileVolume,
    ) -> Result<Vec<SocketAddr>, OrderError> {
        let (service, id) = (self.files.service()?, terms.volume);
        let portals =
            if terms.portals.is_empty() { service.portals() } else { terms.portals.clone() };
        let waited = exports.waiting.remove(&id);
        let held = exports.held.remove(&id);
        let before = exports.ready.insert(id, (terms, volume));
        if let Err(error) = exports.serve(&service).await {
            match before {
                Some(before) => exports.ready.insert(id, before),
                None => exports.ready.remove(&id),
            };
            exports.waiting.extend(waited.map(|terms| (id, terms)));
            exports.held.extend(held.map(|terms| (id, terms)));
            return Err(OrderError::Refused { why: error.to_string() });
        }
        Ok(portals)
    }

    pub(super) async fn unexport_files(
        &self,
        volume: VolumeId,
        evict: bool,
    ) -> Result<Report, OrderError> {
        let mut exports = self.files.exports.lock().await;
        let Exported { ready, waiting, held } = &*exports;
        let is_waiting = waiting.contains_key(&volume) || held.contains_key(&volume);
        if is_waiting || ready.contains_key(&volume) {
            let service = self.files.service()?;
            let clients = service.clients(id_of(volume));
            if !evict && !clients.is_empty() {
                let names: Vec<_> = clients.iter().map(|one| one.address.to_string()).collect();
                let why = format!("clients have the volume mounted: {}", names.join(", "));
                return Err(OrderError::Refused { why });
            }
            exports.held.remove(&volume);
            self.end_serving(&mut exports, volume).await?;
        }
        drop(exports);
        self.shared.journal.forget_held(volume).map_err(failed)?;
        self.shared.journal.forget_export(volume).map_err(failed)?;
        Ok(Report::Done)
    }

    /// What was served is served no more; opens and locks are dropped, and when this is done,
    /// nothing of any client can land any more.
    async fn end_serving(
        &self,
        exports: &mut Exported,
        volume: VolumeId,
    ) -> Result<(), OrderError> {
        let service = self.files.service()?;
        let ended = exports.ready.remove(&volume);
        exports.waiting.remove(&volume);
        // One less stands against no other.
        exports.serve(&service).await.map_err(|e| OrderError::Failed { why: e.to_string() })?;
        service.evict(id_of(volume));
        let Some((_, volume)) = ended else { return Ok(()) };
        blocking(move || {
            volume.end_holds();
            Ok(())
        })
        .await
    }
}
