//! File volumes by orders, over NFS. As root, for the store needs it; without root it is skipped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use env::{IoEngine, OsRandom, RealClock, RealFiles};
use model::export::{Durability, Rule, Squash, Terms};
use model::id::{PoolId, VolumeId};
use model::network::Cidr;
use model::order::{IoMode, Mode, Order, OrderError, Report, Source};
use model::pool::Driver;
use model::size::ByteSize;
use nfs::rpc::record::{Records, mark};
use nfs::rpc::{AuthSys, Call, Credential, Opaque};
use nfs::xdr::{Reader, Writer};
use node::files::FileSettings;
use node::{Node, Settings, Sockets, World};

const SIZE: ByteSize = ByteSize(64 << 20);

pub(crate) async fn start(dir: &std::path::Path) -> Node {
    let settings = Settings {
        data_dir: dir.join("node"),
        portals: Vec::new(),
        advertise: Vec::new(),
        workers: 1,
        engine: IoEngine::Threads,
        iscsi: iscsi::target::Settings::default(),
        limits: node::Limits::default(),
        files: FileSettings {
            portals: vec!["127.0.0.1:0".parse().unwrap()],
            ..FileSettings::default()
        },
    };
    let (files, clock) = (Arc::new(RealFiles), Arc::new(RealClock::default()));
    Node::start(settings, World { files, clock, random: Arc::new(OsRandom) }, Sockets::default())
        .await
        .unwrap()
}

pub(crate) fn terms(volume: VolumeId, pool: PoolId, squash: Squash) -> Terms {
    let clients = Cidr::host([127, 0, 0, 1].into());
    let (mode, anonymous_uid, anonymous_gid) = (Mode::ReadWrite, 65534, 65534);
    let rule = Rule { clients, mode, squash, anonymous_uid, anonymous_gid };
    let (path, portals) = ("/shop/uploads".to_owned(), Vec::new());
    Terms { volume, pool, path, portals, rules: vec![rule], durability: Durability::Strict }
}

/// The results of one call of root's on a connection of its own; `None` when it is ended.
fn call(node: &Node, (program, procedure): (u32, u32), arguments: Bytes) -> Option<Reader> {
    let mut socket = TcpStream::connect(node.file_portals()[0]).unwrap();
    let sys = AuthSys { stamp: 0, machine: Bytes::new(), uid: 0, gid: 0, gids: vec![] };
    let (credential, verifier) = (Credential::Sys(sys).to_opaque(), Opaque::none());
    let call = Call { xid: 1, program, version: 3, procedure, credential, verifier, arguments };
    let record = call.encode();
    let mark = mark(std::slice::from_ref(&record)).unwrap();
    socket.write_all(&[&mark[..], &record].concat()).unwrap();
    let (mut records, mut input, mut piece) = (Records::new(1 << 20), BytesMut::new(), [0; 4096]);
    loop {
        if let Some(reply) = records.take(&mut input).unwrap() {
            return Some(Reader::new(reply.slice(24..)));
        }
        match socket.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => input.extend_from_slice(&piece[..count]),
        }
    }
}

fn opaque(bytes: &[u8]) -> Bytes {
    let mut writer = Writer::default();
    writer.opaque(bytes);
    writer.into_bytes()
}

/// The handle of the volume's root, by MNT.
fn mount(node: &Node) -> Option<Bytes> {
    let mut reader = call(node, (100_005, 1), opaque(b"/shop/uploads"))?;
    (reader.u32().unwrap() == 0).then(|| reader.opaque(64).unwrap())
}

/// The status of GETATTR, and the mode of the file.
pub(crate) fn attributes(node: &Node, handle: &[u8]) -> (u32, Option<u32>) {
    let mut reader = call(node, (100_003, 1), opaque(handle)).unwrap();
    let status = reader.u32().unwrap();
    (status, (status == 0).then(|| (reader.u32().unwrap(), reader.u32().unwrap()).1))
}

/// A pool and an exported volume in it, ordered.
pub(crate) async fn serve(node: &Node, dir: &std::path::Path) -> (PoolId, VolumeId) {
    let (pool, volume) = (PoolId(uuid::Uuid::from_u128(1)), VolumeId(uuid::Uuid::from_u128(2)));
    let path = dir.join("pool").display().to_string();
    let (io, capacity) = (IoMode::Cached, None);
    let terms = terms(volume, pool, Squash::Root);
    for order in [
        Order::OpenPool { pool, driver: Driver::Dir, path, io, capacity },
        Order::CreateVolume { volume, pool, size: SIZE, source: Source::Blank },
        Order::Export { terms },
    ] {
        node.order(order).await.unwrap();
    }
    (pool, volume)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_volume_that_could_not_be_opened_at_the_start_were_told_it_is_gone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: file volumes need root");
        return;
    }
    const JUKEBOX: u32 = 10_008;
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let (_, volume) = serve(&node, dir.path()).await;
    let root = mount(&node).unwrap();
    node.stop().await;
    // As if its file system were not mounted yet.
    let (here, away) = (dir.path().join("pool"), dir.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let node = start(dir.path()).await;
    assert_eq!(attributes(&node, &root), (JUKEBOX, None));
    assert_eq!(mount(&node), None);
    assert!(!here.exists(), "an empty pool was made in its place");
    std::fs::rename(&away, &here).unwrap();
    let began = std::time::Instant::now();
    while attributes(&node, &root).0 == JUKEBOX && began.elapsed().as_secs() < 60 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(attributes(&node, &root), (0, Some(0o1777)));
    node.stop().await;

    std::fs::rename(&here, &away).unwrap();
    let node = start(dir.path()).await;
    assert_eq!(attributes(&node, &root), (JUKEBOX, None));
    assert_eq!(node.order(Order::Unexport { volume, evict: true }).await, Ok(Report::Done));
    assert!(TcpStream::connect(node.file_portals()[0]).is_ok());
    assert_eq!(mount(&node), None, "nobody is let in, for nothing is served or awaited");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_volume_is_served_by_orders_through_a_restart_until_it_is_not() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: file volumes need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let pool = PoolId(uuid::Uuid::from_u128(1));
    let volume = VolumeId(uuid::Uuid::from_u128(2));
    let path = dir.path().join("pool").display().to_string();
    let (io, capacity) = (IoMode::Cached, None);
    let open = Order::OpenPool { pool, driver: Driver::Dir, path, io, capacity };
    node.order(open.clone()).await.unwrap();
    node.order(open).await.unwrap();
    let create = Order::CreateVolume { volume, pool, size: SIZE, source: Source::Blank };
    assert_eq!(node.order(create.clone()).await, Ok(Report::Sized { size: SIZE }));
    assert_eq!(node.order(create).await, Ok(Report::Sized { size: SIZE }));
    assert_eq!(mount(&node), None, "nothing is exported");

    let export = Order::Export { terms: terms(volume, pool, Squash::Root) };
    let portals = vec![node.file_portals()[0].to_string()];
    assert_eq!(node.order(export).await, Ok(Report::Exported { portals }));
    let root = mount(&node).unwrap();
    assert_eq!(attributes(&node, &root), (0, Some(0o1777)));
    let usage = node.file_usage(volume).await.unwrap();
    assert!(usage.available_bytes <= SIZE.0 && usage.used_bytes < 1 << 20, "{usage:?}");
    let clients = node.file_clients(volume).await.unwrap();
    assert_eq!((clients.len(), &clients[0].version[..]), (1, "3"));
    let refused = |result: Result<Report, OrderError>| {
        assert!(matches!(result, Err(OrderError::Refused { .. })), "{result:?}");
    };
    refused(node.order(Order::DeleteVolume { volume, pool }).await);
    refused(node.order(Order::Unexport { volume, evict: false }).await);

    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(attributes(&node, &root), (0, Some(0o1777)), "the handle outlives the start");
    let snapshot = model::id::SnapshotId(uuid::Uuid::from_u128(3));
    let name = Some("monday".to_owned());
    node.order(Order::CreateSnapshot { volume, pool, snapshot, name }).await.unwrap();
    assert_eq!(node.snapshot_usage(volume).await.unwrap()[0].snapshot, snapshot);
    refused(node.order(Order::RevertVolume { volume, pool, snapshot }).await);
    let unexport = Order::Unexport { volume, evict: true };
    assert_eq!(node.order(unexport.clone()).await, Ok(Report::Done));
    assert_eq!(node.order(unexport).await, Ok(Report::Done));
    assert_eq!(mount(&node), None, "it is still served");
    node.order(Order::RevertVolume { volume, pool, snapshot }).await.unwrap();
    node.order(Order::DeleteVolume { volume, pool }).await.unwrap();
    node.order(Order::DeleteVolume { volume, pool }).await.unwrap();
    let of_pool = node.pool_usage().await.unwrap();
    assert_eq!((of_pool[0].pool, of_pool[0].provisioned), (pool, ByteSize(0)));
    node.order(Order::ClosePool { pool }).await.unwrap();
    node.stop().await;
}
