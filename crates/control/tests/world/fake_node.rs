//! A storage node in memory. It obeys, and it writes down what no node should ever be asked.

mod carrying;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use control::NodeLink;
use model::export::{ConnectedClient, FileUsage, Terms};
use model::id::{AttachmentId, OperationId, PoolId, SnapshotId, VolumeId};
use model::node::{Binary, FileServiceReport, Heard, NodeReport, NoticeMark};
use model::order::{
    Access, Found, ImageFormat, Mode, Notice, Order, OrderError, PoolUsage, Report,
    ReservationView, SnapshotUsage, Source,
};
use model::size::ByteSize;
use model::volume::VolumeKind;

#[derive(Default)]
pub(crate) struct FakeNode {
    state: Mutex<State>,
}

/// Which node serves each file volume.
pub(crate) type Served = Arc<Mutex<HashMap<VolumeId, String>>>;

#[derive(Default)]
struct State {
    name: Option<String>,
    /// Of a node of another machine.
    boot: Option<u64>,
    notices: Vec<Notice>,
    /// Lost by a restart.
    open: HashSet<PoolId>,
    let_in: HashMap<AttachmentId, Access>,
    /// How many hosts could write to a volume at the same time, at the most.
    most_writers: HashMap<VolumeId, usize>,
    /// On disk.
    volumes: HashMap<VolumeId, (PoolId, ByteSize)>,
    snapshots: HashMap<SnapshotId, VolumeId>,
    /// The pools of file volumes.
    file_pools: HashSet<PoolId>,
    browsed: HashMap<SnapshotId, Option<String>>,
    exports: HashMap<VolumeId, Terms>,
    /// Whose clients wait.
    waiting: HashSet<VolumeId>,
    /// Volumes that went out as streams, with all that is theirs.
    carried: HashSet<VolumeId>,
    /// What the trees of file volumes hold.
    trees: HashMap<VolumeId, u64>,
    /// Which node serves which volume, among all that share this.
    served: Served,
    connected: HashMap<VolumeId, Vec<ConnectedClient>>,
    held: HashMap<VolumeId, u64>,
    gone: HashSet<uuid::Uuid>,
    files_boot: u32,
    /// Of the binary that lies ready.
    binary_version: Option<String>,
    upgrades: Vec<(OperationId, String)>,
    content: HashMap<VolumeId, Vec<Found>>,
    used: ByteSize,
    capacity: Option<ByteSize>,
    /// Behaviour.
    away: bool,
    failing: HashMap<&'static str, OrderError>,
    stalled: HashSet<&'static str>,
    loses_every_first_report: bool,
    seen: HashSet<String>,
    working: HashMap<VolumeId, (u64, u64)>,
    cancelled: HashSet<VolumeId>,
    sent: Vec<&'static str>,
    violations: Vec<String>,
}

fn name(order: &Order) -> &'static str {
    match order {
        Order::OpenPool { .. } => "OpenPool",
        Order::ClosePool { .. } => "ClosePool",
        Order::CreateVolume { .. } => "CreateVolume",
        Order::DeleteVolume { .. } => "DeleteVolume",
        Order::ResizeVolume { .. } => "ResizeVolume",
        Order::CreateSnapshot { .. } => "CreateSnapshot",
        Order::DeleteSnapshot { .. } => "DeleteSnapshot",
        Order::RevertVolume { .. } => "RevertVolume",
        Order::ImportImage { .. } => "ImportImage",
        Order::ExportImage { .. } => "ExportImage",
        Order::Attach { .. } => "Attach",
        Order::Detach { .. } => "Detach",
        Order::Fence { .. } => "Fence",
        Order::ClearReservations { .. } => "ClearReservations",
        Order::Export { .. } => "Export",
        Order::Unexport { .. } => "Unexport",
        Order::Hold { .. } => "Hold",
    }
}

impl FakeNode {
    /// One of another machine.
    pub(crate) fn named(name: &str) -> Self {
        let node = Self::default();
        {
            let mut state = node.lock();
            state.name = Some(name.to_owned());
            state.boot = Some(1);
        }
        node
    }
    /// Nodes that share this never serve one volume at the same time.
    pub(crate) fn share(&self, served: &Served) {
        self.lock().served = Arc::clone(served);
    }
    /// Put something into a tree.
    pub(crate) fn plant(&self, volume: VolumeId, tree: u64) {
        self.lock().trees.insert(volume, tree);
    }
    pub(crate) fn tree(&self, volume: VolumeId) -> Option<u64> {
        self.lock().trees.get(&volume).copied()
    }
    /// Are clients of the volume told to try again?
    pub(crate) fn holds(&self, volume: VolumeId) -> bool {
        self.lock().waiting.contains(&volume)
    }
    pub(crate) fn see(&self, notice: Notice) {
        self.lock().notices.push(notice);
    }
    fn portal(name: Option<&str>) -> String {
        format!("127.0.0.{}:2049", if name.is_some() { 2 } else { 1 })
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }
    pub(crate) fn fail(&self, order: &'static str, error: OrderError) {
        self.lock().failing.insert(order, error);
    }
    pub(crate) fn heal(&self, order: &'static str) {
        self.lock().failing.remove(order);
    }
    pub(crate) fn stall(&self, order: &'static str) {
        self.lock().stalled.insert(order);
    }
    pub(crate) fn release(&self, order: &'static str) {
        self.lock().stalled.remove(order);
    }
    /// Nothing reaches it any more; it goes on with its last orders.
    pub(crate) fn go_away(&self) {
        self.lock().away = true;
    }
    pub(crate) fn come_back(&self) {
        self.lock().away = false;
    }
    pub(crate) fn reached(&self) -> Result<(), OrderError> {
        let away = || OrderError::Unreachable { why: "nobody listens there".to_owned() };
        if self.lock().away { Err(away()) } else { Ok(()) }
    }
    /// Carry out every order, but say so only the second time that it comes.
    pub(crate) fn lose_first_reports(&self) {
        self.lock().loses_every_first_report = true;
    }
    /// What lies on the volume.
    pub(crate) fn put(&self, volume: VolumeId, content: &str, cluster_aware: bool) {
        let place = "at the start of the volume".to_owned();
        let found = Found { content: content.to_owned(), cluster_aware, place };
        self.lock().content.insert(volume, vec![found]);
    }
    pub(crate) fn set_space(&self, capacity: ByteSize, used: ByteSize) {
        let mut state = self.lock();
        state.capacity = Some(capacity);
        state.used = used;
    }
    /// The version of the binary that lies ready.
    pub(crate) fn lay_ready(&self, version: &str) {
        self.lock().binary_version = Some(version.to_owned());
    }
    /// What it was to go on with.
    pub(crate) fn upgrades(&self) -> Vec<(OperationId, String)> {
        self.lock().upgrades.clone()
    }
    /// What is in memory is lost, what is on disk stays.
    pub(crate) fn restart(&self) {
        let mut state = self.lock();
        state.open.clear();
        let name = state.name.clone().unwrap_or_default();
        state.served.lock().expect("no panic").retain(|_, by| *by != name);
        state.let_in.clear();
        state.exports.clear();
        state.connected.clear();
        state.working.clear();
        state.stalled.clear();
        state.boot = state.boot.map(|boot| boot + 1);
        state.notices.clear();
    }
    /// Its file systems are not there.
    pub(crate) fn unmount(&self) {
        self.lock().open.clear();
    }
    pub(crate) fn work(&self, volume: VolumeId, done: u64, total: u64) {
        self.lock().working.insert(volume, (done, total));
    }
    pub(crate) fn work_ended(&self, volume: VolumeId) {
        self.lock().working.remove(&volume);
    }
    pub(crate) fn sent(&self, order: &str) -> usize {
        self.lock().sent.iter().filter(|sent| **sent == order).count()
    }
    pub(crate) fn lets_in(&self, attachment: AttachmentId) -> bool {
        self.lock().let_in.contains_key(&attachment)
    }
    pub(crate) fn access(&self, attachment: AttachmentId) -> Option<Access> {
        self.lock().let_in.get(&attachment).cloned()
    }
    pub(crate) fn most_writers(&self, volume: VolumeId) -> usize {
        self.lock().most_writers.get(&volume).copied().unwrap_or_default()
    }
    /// The terms on which the volume is served.
    pub(crate) fn terms(&self, volume: VolumeId) -> Option<Terms> {
        self.lock().exports.get(&volume).cloned()
    }
    /// A client mounts the volume.
    pub(crate) fn connect(&self, volume: VolumeId, address: &str) {
        let client = ConnectedClient {
            address: address.parse().expect("an address"),
            name: None,
            version: "4.1".to_owned(),
            opens: 1,
            locks: 0,
            last_call_age_ms: 5,
        };
        self.lock().connected.entry(volume).or_default().push(client);
    }
    pub(crate) fn connected(&self, volume: VolumeId) -> usize {
        self.lock().connected.get(&volume).map_or(0, Vec::len)
    }
    /// The bytes in a file volume's tree.
    pub(crate) fn hold(&self, volume: VolumeId, bytes: u64) {
        self.lock().held.insert(volume, bytes);
    }
    /// Under which name the snapshot is browsed.
    pub(crate) fn browsed(&self, snapshot: SnapshotId) -> Option<String> {
        self.lock().browsed.get(&snapshot).cloned().flatten()
    }
    pub(crate) fn let_in(&self) -> usize {
        self.lock().let_in.len()
    }
    pub(crate) fn size_of(&self, volume: VolumeId) -> Option<ByteSize> {
        self.lock().volumes.get(&volume).map(|(_, size)| *size)
    }
    pub(crate) fn volumes(&self) -> usize {
        self.lock().volumes.len()
    }
    pub(crate) fn snapshots(&self) -> usize {
        self.lock().snapshots.len()
    }
    pub(crate) fn assert_was_asked_nothing_wrong(&self) {
        assert_eq!(self.lock().violations, Vec::<String>::new());
    }

    async fn long_work(&self, volume: VolumeId) -> Result<Report, OrderError> {
        loop {
            {
                let mut state = self.lock();
                if state.cancelled.remove(&volume) {
                    state.working.remove(&volume);
                    return Err(OrderError::Cancelled);
                }
                let held = state.stalled.contains("work");
                if !held {
                    state.working.remove(&volume);
                    return Ok(Report::Done);
                }
                state.working.insert(volume, (1, 4));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl State {
    fn must(&mut self, good: bool, otherwise: String) {
        if !good {
            self.violations.push(otherwise);
        }
    }

    fn apply(&mut self, order: &Order) -> Result<Report, OrderError> {
        match order {
            Order::OpenPool { pool, path, driver, .. } => {
                self.must(path.starts_with('/'), format!("pool in {path}"));
                if driver.kind() == VolumeKind::File {
                    self.file_pools.insert(*pool);
                }
                self.open.insert(*pool);
                Ok(Report::Done)
            }
            Order::ClosePool { pool } => {
                self.open.remove(pool);
                Ok(Report::Done)
            }
            Order::CreateVolume { volume, pool, size, source } => {
                self.create(*volume, *pool, *size, source)
            }
            Order::DeleteVolume { volume, .. } => {
                if self.carried.remove(volume) {
                    self.snapshots.retain(|_, of| of != volume);
                }
                let kept = self.snapshots.values().any(|of| of == volume);
                self.trees.remove(volume);
                self.must(!kept, format!("delete of {volume} with snapshots"));
                let served = self.exports.contains_key(volume);
                self.must(!served, format!("delete of {volume} while it is exported"));
                self.volumes.remove(volume);
                self.gone.insert(volume.0);
                Ok(Report::Done)
            }
            Order::ResizeVolume { volume, size, .. } => self.resize(*volume, *size),
            Order::CreateSnapshot { volume, snapshot, name, .. } => {
                self.browsed.insert(*snapshot, name.clone());
                let fresh = !self.gone.contains(&snapshot.0);
                self.must(fresh, format!("snapshot {snapshot} made again after its end"));
                self.must(self.volumes.contains_key(volume), format!("snapshot of no {volume}"));
                self.snapshots.insert(*snapshot, *volume);
                Ok(Report::Done)
            }
            Order::DeleteSnapshot { snapshot, .. } => {
                self.snapshots.remove(snapshot);
                self.gone.insert(snapshot.0);
                Ok(Report::Done)
            }
            Order::RevertVolume { volume, snapshot, .. } => {
                let used = self.let_in.values().any(|access| access.volume == *volume);
                self.must(!used, format!("revert of {volume} while attached"));
                let served = self.exports.contains_key(volume);
                self.must(!served, format!("revert of {volume} while it is exported"));
                self.must(self.snapshots.contains_key(snapshot), "revert to nothing".to_owned());
                Ok(Report::Done)
            }
            Order::Attach { access } => self.let_in(access),
            Order::Detach { attachment, .. } | Order::Fence { attachment, .. } => {
                self.gone.insert(attachment.0);
                let sessions = u32::from(self.let_in.remove(attachment).is_some());
                Ok(Report::CutOff { sessions, registrations: 0 })
            }
            Order::ImportImage { .. } | Order::ExportImage { .. } => Ok(Report::Done),
            Order::ClearReservations { .. } => Ok(Report::Done),
            Order::Export { terms } => self.export(terms),
            Order::Unexport { volume, evict } => self.unexport(*volume, *evict),
            Order::Hold { terms } => self.hold(terms.volume),
        }
    }

    fn create(
        &mut self,
        volume: VolumeId,
        pool: PoolId,
        size: ByteSize,
        source: &Source,
    ) -> Result<Report, OrderError> {
        self.must(self.open.contains(&pool), format!("{volume} in a closed pool"));
        self.must(!self.gone.contains(&volume.0), format!("{volume} made again after its end"));
        if let Some((_, known)) = self.volumes.get(&volume) {
            let same = *known == size;
            self.must(same, format!("{volume} made again with another size"));
        }
        if let Source::Snapshot { snapshot, .. } = source {
            let there = self.snapshots.contains_key(snapshot);
            self.must(there, format!("clone of no snapshot {snapshot}"));
        }
        self.volumes.insert(volume, (pool, size));
        Ok(Report::Done)
    }

    fn resize(&mut self, volume: VolumeId, size: ByteSize) -> Result<Report, OrderError> {
        let missing = || OrderError::Missing { what: format!("volume {volume}") };
        let held = self.held.get(&volume).copied().unwrap_or_default();
        let known = self.volumes.get_mut(&volume).ok_or_else(missing)?;
        if !self.file_pools.contains(&known.0) {
            known.1 = known.1.max(size);
        } else if held > size.bytes() {
            return Err(OrderError::Refused { why: "it holds more".to_owned() });
        } else {
            known.1 = size;
        }
        Ok(Report::Sized { size: known.1 })
    }

    /// Nobody is served by it, who waits and who does not.
    fn hold(&mut self, volume: VolumeId) -> Result<Report, OrderError> {
        let ended = self.unexport(volume, true);
        self.waiting.insert(volume);
        ended
    }

    fn unexport(&mut self, volume: VolumeId, evict: bool) -> Result<Report, OrderError> {
        let clients = self.connected.get(&volume).map_or(0, Vec::len);
        if clients > 0 && !evict {
            return Err(OrderError::Refused { why: format!("{clients} clients") });
        }
        self.connected.remove(&volume);
        self.waiting.remove(&volume);
        if self.exports.remove(&volume).is_some() {
            let name = self.name.clone().unwrap_or_default();
            let mut served = self.served.lock().expect("no panic");
            if served.get(&volume) == Some(&name) {
                served.remove(&volume);
            }
        }
        Ok(Report::Done)
    }

    fn export(&mut self, terms: &Terms) -> Result<Report, OrderError> {
        let id = terms.volume;
        let known = self.volumes.contains_key(&id);
        self.must(known, format!("export of no volume {id}"));
        self.must(!self.gone.contains(&id.0), format!("{id} exported after its end"));
        let twice = |other: &Terms| other.volume != id && other.path == terms.path;
        let twice = self.exports.values().any(twice);
        self.must(!twice, format!("two volumes at {}", terms.path));
        let name = self.name.clone().unwrap_or_default();
        let other = self.served.lock().expect("no panic").insert(id, name.clone());
        let alone = other.as_ref().is_none_or(|other| *other == name);
        self.must(alone, format!("{id} served by {other:?} and by {name}"));
        self.waiting.remove(&id);
        self.exports.insert(id, terms.clone());
        Ok(Report::Exported { portals: vec![FakeNode::portal(self.name.as_deref())] })
    }

    fn let_in(&mut self, access: &Access) -> Result<Report, OrderError> {
        let id = access.attachment;
        let known = self.volumes.contains_key(&access.volume);
        self.must(known, format!("attach of no volume {}", access.volume));
        self.must(!self.gone.contains(&id.0), format!("{id} let in after it was cut off"));
        if let Some(before) = self.let_in.get(&id) {
            let same = Access { mode: access.mode, ..before.clone() } == *access;
            self.must(same, format!("{id} attached again as something else"));
        }
        self.let_in.insert(id, access.clone());
        let writes = |a: &&Access| a.volume == access.volume && a.mode == Mode::ReadWrite;
        let writers = self.let_in.values().filter(writes).count();
        let most = self.most_writers.entry(access.volume).or_default();
        *most = writers.max(*most);
        let target = format!("iqn.2026-11.io.commonhold:volume-{}", access.volume);
        Ok(Report::Attached { target, portals: vec!["127.0.0.1:3260".to_owned()], lun: 0 })
    }
}

#[async_trait]
impl NodeLink for FakeNode {
    async fn order(&self, order: Order) -> Result<Report, OrderError> {
        let kind = name(&order);
        self.reached()?;
        self.lock().sent.push(kind);
        while self.lock().stalled.contains(kind) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Some(error) = self.lock().failing.get(kind) {
            return Err(error.clone());
        }
        let report = self.lock().apply(&order)?;
        {
            let mut state = self.lock();
            if state.loses_every_first_report && state.seen.insert(format!("{order:?}")) {
                return Err(OrderError::Unreachable { why: "the report got lost".to_owned() });
            }
        }
        match order {
            Order::ImportImage { volume, .. } | Order::ExportImage { volume, .. } => {
                self.long_work(volume).await
            }
            _ => Ok(report),
        }
    }

    async fn node(&self) -> Result<NodeReport, OrderError> {
        self.reached()?;
        let state = self.lock();
        if state.stalled.contains("node") {
            return Err(OrderError::Unreachable { why: "it is away".to_owned() });
        }
        let files = FileServiceReport {
            boot: state.files_boot,
            age_ms: 5,
            portals: vec![Self::portal(state.name.as_deref())],
            lease_ms: 90_000,
            in_grace: false,
            clients: state.connected.values().map(|all| all.len() as u64).sum(),
            connections: 1,
        };
        Ok(NodeReport {
            name: state.name.clone().unwrap_or_else(|| "n1".to_owned()),
            version: "1.2.3".to_owned(),
            boot: state.boot,
            upgrade: None,
            block_portals: vec!["127.0.0.1:3260".to_owned()],
            sessions: state.let_in.len() as u64,
            files: Ok(files),
        })
    }

    async fn notices(&self, after: NoticeMark) -> Result<Heard, OrderError> {
        loop {
            {
                let state = self.lock();
                let boot = state.boot.unwrap_or(1);
                let known = if after.boot == boot { after.count } else { 0 };
                let known = usize::try_from(known).unwrap_or(usize::MAX);
                if known < state.notices.len() {
                    let notices = state.notices[known..].to_vec();
                    let mark = NoticeMark { boot, count: state.notices.len() as u64 };
                    return Ok(Heard { notices, mark, lost: false });
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn client_counts(&self) -> Result<HashMap<VolumeId, u64>, OrderError> {
        self.reached()?;
        let state = self.lock();
        Ok(state.connected.iter().map(|(volume, all)| (*volume, all.len() as u64)).collect())
    }

    async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        self.lock().sent.push("RestartFiles");
        while self.lock().stalled.contains("RestartFiles") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut state = self.lock();
        if let Some(error) = state.failing.get("RestartFiles") {
            return Err(error.clone());
        }
        if state.files_boot == after {
            state.files_boot += 1;
            state.connected.clear();
        }
        Ok(state.files_boot)
    }

    async fn check_binary(
        &self,
        binary: Option<String>,
        kept_out: Vec<String>,
    ) -> Result<Binary, OrderError> {
        let path = binary.unwrap_or_else(|| "/bin/commonhold".to_owned());
        let state = self.lock();
        if path.contains("garbage") || kept_out.iter().any(|place| path.starts_with(place)) {
            return Err(OrderError::Refused { why: format!("{path}: it is no program") });
        }
        let version = state.binary_version.clone().unwrap_or_else(|| "1.2.3".to_owned());
        Ok(Binary { path, version, catalog: control::catalog_formats() })
    }

    async fn upgrade(&self, operation: OperationId, binary: String) -> Result<(), OrderError> {
        let mut state = self.lock();
        state.sent.push("Upgrade");
        if let Some(error) = state.failing.get("Upgrade") {
            return Err(error.clone());
        }
        state.upgrades.push((operation, binary));
        Ok(())
    }

    async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        self.reached()?;
        while self.lock().stalled.contains("usage") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let state = self.lock();
        let capacity = state.capacity.unwrap_or(ByteSize::gib(1 << 17));
        let usage = |pool: &PoolId| PoolUsage {
            pool: *pool,
            capacity,
            used: state.used,
            provisioned: state.used,
            copies: None,
        };
        Ok(state.open.iter().map(usage).collect())
    }

    async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        tokio::task::yield_now().await;
        Ok(self.lock().content.get(&volume).cloned().unwrap_or_default())
    }

    async fn image_size(&self, path: String, _: ImageFormat) -> Result<ByteSize, OrderError> {
        match path.ends_with("missing.raw") {
            true => Err(OrderError::BadImage { why: "no such file".to_owned() }),
            false => Ok(ByteSize(5 << 20)),
        }
    }

    async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError> {
        let state = self.lock();
        let missing = || OrderError::Missing { what: format!("file volume {volume}") };
        let (_, size) = state.volumes.get(&volume).ok_or_else(missing)?;
        let used_bytes = state.held.get(&volume).copied().unwrap_or_default();
        let available_bytes = size.bytes().saturating_sub(used_bytes);
        Ok(FileUsage { used_bytes, available_bytes, used_inodes: 1, available_inodes: None })
    }

    async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError> {
        Ok(self.lock().connected.get(&volume).cloned().unwrap_or_default())
    }

    async fn snapshot_usage(&self, volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError> {
        let state = self.lock();
        let own = state.snapshots.iter().filter(|(_, of)| **of == volume);
        let usage =
            |snapshot: &SnapshotId| SnapshotUsage { snapshot: *snapshot, held: ByteSize(4096) };
        Ok(own.map(|(snapshot, _)| usage(snapshot)).collect())
    }

    async fn backup(
        &self,
        _volume: VolumeId,
        _snapshot: Option<String>,
    ) -> Result<control::Pieces, OrderError> {
        Err(OrderError::Refused { why: "this node has no trees".to_owned() })
    }

    async fn restore(
        &self,
        _volume: VolumeId,
        _acls: model::file::Acls,
        _from: control::Pieces,
    ) -> Result<(), OrderError> {
        Err(OrderError::Refused { why: "this node has no trees".to_owned() })
    }

    async fn carry(&self, volume: VolumeId, _pool: PoolId) -> Result<control::Pieces, OrderError> {
        self.carry_out(volume).await
    }

    async fn receive(
        &self,
        volume: VolumeId,
        pool: PoolId,
        from: control::Pieces,
    ) -> Result<model::order::Carried, OrderError> {
        self.take_in(volume, pool, from).await
    }

    async fn reservations(&self, _volume: VolumeId) -> Result<ReservationView, OrderError> {
        Ok(ReservationView { generation: 7, ..ReservationView::default() })
    }

    async fn progress(&self, volume: VolumeId) -> Result<Option<(u64, u64)>, OrderError> {
        Ok(self.lock().working.get(&volume).copied())
    }

    async fn cancel(&self, volume: VolumeId) -> Result<(), OrderError> {
        let mut state = self.lock();
        if state.working.contains_key(&volume) {
            state.cancelled.insert(volume);
        }
        Ok(())
    }
}
