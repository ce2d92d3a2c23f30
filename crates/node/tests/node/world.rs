//! A node with one pool and one volume, in a directory that goes with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Files, IoEngine, OsRandom, RealClock, RealFiles};
use host::{HostError, Initiator, Options};
use model::id::{AttachmentId, HostId, PoolId, VolumeId};
use model::order::{Access, IoMode, Mode, Order, OrderError, Report, Source};
use model::pool::Driver;
use model::size::ByteSize;
use node::{Node, Settings, World as NodeWorld};
use tempfile::TempDir;

use crate::backend::{Backend, NamedFiles};
use crate::client::Client;

pub(crate) const SIZE: u64 = 64 << 20;

/// A time that only a deadlock exceeds.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// A time after which what may not happen would have happened.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

pub(crate) struct World {
    dir: TempDir,
    pub(crate) backend: Arc<Backend>,
    pub(crate) node: Arc<Node>,
    pub(crate) pool: PoolId,
    pub(crate) volume: VolumeId,
}

fn uuid(high: u128, low: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(high << 64 | low)
}

/// The name of host `number`.
pub(crate) fn iqn(number: u8) -> String {
    format!("iqn.2026-11.io.commonhold:host-{number}")
}

/// An ISID of format 'random' with this qualifier.
pub(crate) fn isid(qualifier: u8) -> [u8; 6] {
    [0x80, 0, 0, 0, 0, qualifier]
}

async fn start(
    dir: &TempDir,
    backend: &Arc<Backend>,
    adjust: impl Fn(&mut Settings),
    clock: Arc<dyn Clock>,
) -> Node {
    let mut settings = Settings {
        data_dir: dir.path().join("node"),
        portals: vec!["127.0.0.1:0".parse().unwrap()],
        advertise: Vec::new(),
        workers: 3,
        engine: IoEngine::Auto,
        iscsi: iscsi::target::Settings { window: 256, ..Default::default() },
        limits: node::Limits::default(),
        files: node::files::FileSettings::default(),
    };
    adjust(&mut settings);
    let world = NodeWorld {
        files: Arc::new(NamedFiles(Arc::clone(backend))),
        clock,
        random: Arc::new(OsRandom),
    };
    Node::start_on(settings, world, backend.factory()).await.unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl Fn(&mut Settings)) -> Self {
        Self::start_at(adjust, Arc::new(RealClock::default())).await
    }

    pub(crate) async fn start_at(adjust: impl Fn(&mut Settings), clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::new();
        let node = Arc::new(start(&dir, &backend, adjust, clock).await);
        let (pool, volume) = (PoolId(uuid(1, 1)), VolumeId(uuid(2, 1)));
        let world = Self { dir, backend, node, pool, volume };
        let path = world.pool_dir().display().to_string();
        let open = Order::OpenPool {
            pool,
            driver: Driver::Local,
            path,
            io: IoMode::Cached,
            capacity: None,
        };
        world.order(open).await.unwrap();
        world.create(volume).await;
        world
    }

    fn pool_dir(&self) -> PathBuf {
        self.dir.path().join("pool")
    }

    /// The record of the volume's reservations.
    pub(crate) fn reservation_record(&self) -> PathBuf {
        self.pool_dir().join("reservations").join(format!("{}.rec", self.volume))
    }

    /// How many layers the pool has.
    pub(crate) fn layers(&self) -> usize {
        let files = std::fs::read_dir(self.pool_dir().join("layers")).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "rec")).count()
    }

    pub(crate) async fn order(&self, order: Order) -> Result<Report, OrderError> {
        tokio::time::timeout(LONG, self.node.order(order)).await.expect("an order hangs")
    }

    pub(crate) async fn create(&self, volume: VolumeId) {
        let (pool, size, source) = (self.pool, ByteSize(SIZE), Source::Blank);
        self.order(Order::CreateVolume { volume, pool, size, source }).await.unwrap();
    }

    /// What host `number` is given, read and write.
    pub(crate) fn access(&self, number: u8) -> Access {
        Access {
            attachment: attachment(number),
            volume: self.volume,
            host: HostId(uuid(4, u128::from(number))),
            host_name: format!("host-{number}"),
            initiators: vec![iqn(number)],
            mode: Mode::ReadWrite,
            chap: None,
        }
    }

    pub(crate) async fn attach(&self, number: u8) {
        self.order(Order::Attach { access: self.access(number) }).await.unwrap();
    }

    pub(crate) fn fence_order(&self, number: u8) -> Order {
        Order::Fence { volume: self.volume, attachment: attachment(number) }
    }

    pub(crate) fn detach_order(&self, number: u8) -> Order {
        Order::Detach { volume: self.volume, attachment: attachment(number) }
    }

    /// Log in as host `number` from the port with this qualifier.
    pub(crate) async fn connect(&self, number: u8, port: u8) -> Result<Initiator, HostError> {
        self.connect_to(self.volume, number, port).await
    }

    pub(crate) async fn connect_to(
        &self,
        volume: VolumeId,
        number: u8,
        port: u8,
    ) -> Result<Initiator, HostError> {
        let target = node::book::target_name(volume);
        let options = Options { isid: isid(port), ..Options::new(iqn(number), Some(target)) };
        let login = Initiator::connect(self.node.portals()[0], options);
        tokio::time::timeout(LONG, login).await.expect("a login hangs")
    }

    /// A session whose unit attentions are taken.
    pub(crate) async fn login(&self, number: u8, port: u8) -> Client {
        let client = Client::new(self.connect(number, port).await.unwrap());
        client.attentions().await;
        client
    }

    /// Attach host `number` and log it in.
    pub(crate) async fn host(&self, number: u8) -> Client {
        self.attach(number).await;
        self.login(number, 1).await
    }

    /// Keys and holders as `(key, holder)`, sorted.
    pub(crate) fn registered(&self) -> Vec<(u64, bool)> {
        let view = self.node.reservations(self.volume);
        let mut known: Vec<_> = view.registrants.iter().map(|r| (r.key, r.holder)).collect();
        known.sort_unstable();
        known
    }

    /// End in order.
    pub(crate) async fn stop(self) -> Stopped {
        let Self { dir, backend, node, pool, volume } = self;
        let node = Arc::into_inner(node).expect("nobody else has the node");
        tokio::time::timeout(LONG, node.stop()).await.expect("stopping hangs");
        Stopped { dir, backend, pool, volume }
    }

    /// End like `kill -9`: what runs is dropped where it stands.
    pub(crate) async fn kill(self) -> Stopped {
        let pool_dir = self.pool_dir();
        let Self { dir, backend, node, pool, volume } = self;
        drop(Arc::into_inner(node).expect("nobody else has the node"));
        for _ in 0..2000 {
            if RealFiles.lock_dir(&pool_dir).is_ok() {
                backend.lift();
                return Stopped { dir, backend, pool, volume };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the dropped node still holds its pool");
    }
}

/// What is left on disk.
pub(crate) struct Stopped {
    dir: TempDir,
    backend: Arc<Backend>,
    pool: PoolId,
    volume: VolumeId,
}

impl Stopped {
    /// Start again; nothing is ordered.
    pub(crate) async fn start(self) -> World {
        let clock = Arc::new(RealClock::default());
        let node = Arc::new(start(&self.dir, &self.backend, |_| (), clock).await);
        let Self { dir, backend, pool, volume } = self;
        World { dir, backend, node, pool, volume }
    }
}

pub(crate) fn attachment(number: u8) -> AttachmentId {
    AttachmentId(uuid(3, u128::from(number)))
}

pub(crate) fn volume(number: u8) -> VolumeId {
    VolumeId(uuid(2, u128::from(number)))
}
