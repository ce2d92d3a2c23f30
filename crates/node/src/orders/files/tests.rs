//! Orders that meet. As root, for the store needs it; without root it is skipped.

use std::path::Path;

use env::{IoEngine, OsRandom, RealClock, RealFiles};
use model::network::Cidr;
use model::order::IoMode;
use model::pool::Driver;
use model::size::ByteSize;
use uuid::Uuid;

use super::*;
use crate::files::FileSettings;
use crate::{Node, Settings, Sockets, World};

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));

/// A node with a file volume that nobody is served from.
async fn node(dir: &Path) -> Node {
    let files = FileSettings {
        portals: vec!["127.0.0.1:0".parse().unwrap()],
        rpcbind: false,
        ..FileSettings::default()
    };
    let settings = Settings {
        data_dir: dir.join("node"),
        portals: Vec::new(),
        advertise: Vec::new(),
        workers: 1,
        engine: IoEngine::Threads,
        iscsi: iscsi::target::Settings::default(),
        limits: crate::Limits::default(),
        files,
    };
    let (files, clock) = (Arc::new(RealFiles), Arc::new(RealClock::default()));
    let world = World { files, clock, random: Arc::new(OsRandom) };
    let node = Node::start(settings, world, Sockets::default()).await.unwrap();
    let (path, io) = (dir.join("pool").display().to_string(), IoMode::Cached);
    let open = Order::OpenPool { pool: POOL, driver: Driver::Dir, path, io, capacity: None };
    node.order(open).await.unwrap();
    let (size, source) = (ByteSize(64 << 20), Source::Blank);
    node.order(Order::CreateVolume { volume: VOLUME, pool: POOL, size, source }).await.unwrap();
    node
}

fn terms() -> Terms {
    let clients = Cidr::host([127, 0, 0, 1].into());
    let (mode, squash, anonymous_uid, anonymous_gid) = (Mode::ReadWrite, Squash::Root, 1, 1);
    let rules = vec![Rule { clients, mode, squash, anonymous_uid, anonymous_gid }];
    let (path, durability) = ("/shop/uploads".to_owned(), Durability::Strict);
    Terms { volume: VOLUME, pool: POOL, path, portals: Vec::new(), rules, durability }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_wait_for_is_opened_in_its_turn_and_not_beside_an_order_about_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: file volumes need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let state = &node.orders().state;
    let is_ready = async || state.files.exports.lock().await.ready.contains_key(&VOLUME);
    for is_taken_away in [true, false] {
        state.files.exports.lock().await.waiting.insert(VOLUME, terms());
        let order = state.turn(VOLUME).await;
        let again = state.try_again(None, terms());
        tokio::pin!(again);
        let soon = Duration::from_millis(200);
        assert!(tokio::time::timeout(soon, again.as_mut()).await.is_err(), "an order is under way");
        assert!(!is_ready().await);
        if is_taken_away {
            state.files.exports.lock().await.waiting.remove(&VOLUME);
        }
        drop(order);
        again.await.unwrap();
        assert_eq!(is_ready().await, !is_taken_away);
    }
    node.stop().await;
}
