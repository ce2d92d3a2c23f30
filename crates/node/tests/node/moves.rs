//! A file volume moves from one node to another under clients that keep their handles. As root, for
//! the store needs it; without root it is skipped.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use host::files::{Compound, FileClient, FilesError, Identity, OpenFile, Opening, Stable, Who};
use model::id::{PoolId, VolumeId};
use model::order::{IoMode, Order, OrderError};
use model::pool::Driver;
use nfs::v4::Status;
use node::Node;

use crate::files::{attributes, serve, start, terms};

const PATH: &str = "/shop/uploads";
const STALE: u32 = 70;
const JUKEBOX: u32 = 10_008;

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: file volumes need root");
    }
    is_root
}

fn client(node: &Node) -> FileClient {
    let who = Who { uid: 1000, gid: 1000, gids: Vec::new() };
    // Each is a machine of its own, as far as the server can tell.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let identity = Identity::named(&format!("client {}", COUNT.fetch_add(1, Relaxed)));
    let mut client = FileClient::connect(node.file_portals()[0], &identity, &who, 1).unwrap();
    client.reclaimed().unwrap();
    client
}

/// What a client tells a file by: its change, its file system and its number.
fn seen(client: &mut FileClient, file: &Bytes) -> Result<(u64, (u64, u64), u64), FilesError> {
    let compound = Compound::new().file(file).attributes(&[3, 8, 20]);
    let mut reader = client.call(compound)?.moved(1)?.attributes()?;
    let mut number = || reader.u64().unwrap();
    Ok((number(), (number(), number()), number()))
}

fn status<T: std::fmt::Debug>(result: Result<T, FilesError>) -> Option<Status> {
    result.unwrap_err().status()
}

async fn pool(node: &Node, dir: &std::path::Path) -> PoolId {
    let pool = PoolId(uuid::Uuid::from_u128(7));
    let (path, io) = (dir.join("other pool").display().to_string(), IoMode::Cached);
    let order = Order::OpenPool { pool, driver: Driver::Dir, path, io, capacity: None };
    node.order(order).await.unwrap();
    pool
}

/// What a client has of the volume before it moves.
struct Held {
    root: Bytes,
    directory: Bytes,
    file: OpenFile,
    seen: Vec<(u64, (u64, u64), u64)>,
    /// Where a listing of the root had come to.
    listing: (u64, [u8; 8]),
}

impl Held {
    fn handles(&self) -> [&Bytes; 3] {
        [&self.root, &self.directory, &self.file.handle]
    }
}

fn hold(client: &mut FileClient) -> Held {
    let root = client.mount(PATH).unwrap();
    let directory = client.create_directory(&root, "d").unwrap();
    let file = client.open(&directory, "f", Opening::New(0o600)).unwrap();
    client.write_at(&file, 0, Stable::Unstable, &Bytes::from_static(b"of before")).unwrap();
    for n in 0..50 {
        let made = client.open(&root, &format!("file-{n}"), Opening::New(0o600)).unwrap();
        client.close(&made).unwrap();
    }
    let listed = Compound::new().file(&root).readdir(0, [0; 8], 1000);
    let names = client.call(listed).unwrap().moved(1).unwrap().names().unwrap();
    assert!(!names.end);
    let listing = (names.names.last().unwrap().0, names.verifier);
    let mut held = Held { root, directory, file, seen: Vec::new(), listing };
    let handles = held.handles().map(Bytes::clone);
    held.seen.extend(handles.iter().map(|handle| seen(client, handle).unwrap()));
    held
}

/// Ends with the volume at the second node alone.
async fn moved(from: (&Node, PoolId), to: (&Node, PoolId), volume: VolumeId, held: &Held) {
    let served = from.0.carry(volume, from.1).await.unwrap_err();
    assert!(matches!(served, OrderError::Refused { .. }), "{served:?}");
    for (node, pool) in [from, to] {
        let terms = terms(volume, pool, model::export::Squash::Root);
        node.order(Order::Hold { terms }).await.unwrap();
        // Who comes too early, or to where it was, waits.
        for handle in held.handles() {
            assert_eq!(status(seen(&mut client(node), handle)), Some(Status::Delay));
            assert_eq!(attributes(node, handle), (JUKEBOX, None));
        }
    }
    let pieces = from.0.carry(volume, from.1).await.unwrap();
    let carried = to.0.receive(volume, to.1, pieces).await.unwrap();
    assert_eq!((carried.entries, carried.bytes, carried.snapshots), (53, 9, 0));
    assert_eq!(attributes(to.0, &held.root), (JUKEBOX, None), "it is served by an order alone");
    from.0.order(Order::DeleteVolume { volume, pool: from.1 }).await.unwrap();
    let terms = terms(volume, to.1, model::export::Squash::Root);
    to.0.order(Order::Export { terms }).await.unwrap();
    assert_eq!(attributes(from.0, &held.root), (JUKEBOX, None));
    from.0.order(Order::Unexport { volume, evict: true }).await.unwrap();
}

/// All that was held is good, and nothing else is.
fn is_good(node: &Node, held: &Held) {
    let mut client = client(node);
    assert_eq!(client.mount(PATH).unwrap(), held.root);
    let found = |client: &mut FileClient, within: &Bytes, name: &[u8]| {
        let compound = Compound::new().file(within).lookup(name).handle();
        client.call(compound).unwrap().moved(2).unwrap().handle().unwrap()
    };
    assert_eq!(found(&mut client, &held.root, b"d"), held.directory);
    assert_eq!(found(&mut client, &held.directory, b"f"), held.file.handle);
    for (handle, before) in held.handles().into_iter().zip(&held.seen) {
        let now = seen(&mut client, handle).unwrap();
        assert_eq!((now.1, now.2), (before.1, before.2));
        assert!(now.0 > before.0, "what a client has kept of it is no longer good");
        assert_eq!(attributes(node, handle).0, 0);
        let mut guessed = handle.to_vec();
        guessed[30] ^= 1;
        assert_eq!(status(seen(&mut client, &guessed.into())), Some(Status::BadHandle));
    }
    // Opens do not go along, and one of before is none of here.
    let old = client.read_at(&held.file, 0, 100);
    assert_eq!(status(old), Some(Status::BadStateid));
    let (cookie, verifier) = held.listing;
    let listed = Compound::new().file(&held.root).readdir(cookie, verifier, 1000);
    let listed = client.call(listed).and_then(|mut listed| listed.moved(1)?.names());
    assert_eq!(status(listed), Some(Status::NotSame));
    assert_eq!(client.list(&held.root).unwrap().len(), 51);
    let file = client.open(&held.directory, "f", Opening::Existing).unwrap();
    assert_eq!(file.handle, held.file.handle);
    assert_eq!(&client.read_at(&file, 0, 100).unwrap()[..9], b"of before");
    client.write_at(&file, 9, Stable::File, &Bytes::from_static(b", and after")).unwrap();
    client.close(&file).unwrap();
    client.leave().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_stay_good_when_a_volume_moves_to_another_node() {
    if !is_root() {
        return;
    }
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (start(here.path()).await, start(there.path()).await);
    let (pool_here, volume) = serve(&one, here.path()).await;
    let pool_there = pool(&other, there.path()).await;
    let held = hold(&mut client(&one));
    moved((&one, pool_here), (&other, pool_there), volume, &held).await;
    is_good(&other, &held);
    // A file that is gone is stale, in each version of the protocol.
    let mut client = client(&other);
    client.remove(&held.directory, "f").unwrap();
    assert_eq!(status(seen(&mut client, &held.file.handle)), Some(Status::Stale));
    assert_eq!(attributes(&other, &held.file.handle), (STALE, None));
    client.leave().unwrap();
    other.stop().await;
    let other = start(there.path()).await;
    assert_eq!(attributes(&other, &held.directory).0, 0);
    assert_eq!(attributes(&other, &held.file.handle), (STALE, None));
    other.stop().await;
    one.stop().await;
}

/// More than may be on its way at once, however it is packed.
fn fill(node: &Node) {
    let mut client = client(node);
    let root = client.mount(PATH).unwrap();
    let file = client.open(&root, "large", Opening::New(0o600)).unwrap();
    let mut state = 1_u64;
    let data = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let data: Vec<u8> = data.take(8 << 20).collect();
    for (n, piece) in (0..).zip(data.chunks(256 << 10)) {
        let piece = Bytes::copy_from_slice(piece);
        client.write_at(&file, n * (256 << 10), Stable::Unstable, &piece).unwrap();
    }
    client.close(&file).unwrap();
    client.leave().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_was_served_again_while_it_was_carried() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = std::sync::Arc::new(start(dir.path()).await);
    let (pool, volume) = serve(&node, dir.path()).await;
    fill(&node);
    let root = client(&node).mount(PATH).unwrap();
    let terms = terms(volume, pool, model::export::Squash::Root);
    node.order(Order::Hold { terms: terms.clone() }).await.unwrap();
    let pieces = node.carry(volume, pool).await.unwrap();
    let (other, export) = (std::sync::Arc::clone(&node), Order::Export { terms: terms.clone() });
    let mut late = tokio::spawn(async move { other.order(export).await });
    let pause = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(pause, &mut late).await.is_err(), "it did not wait");
    assert_eq!(attributes(&node, &root), (JUKEBOX, None));
    // The move is given up, and it is served.
    drop(pieces);
    late.await.unwrap().unwrap();
    assert_eq!(attributes(&node, &root).0, 0);
    // One that is not held could be served at any time.
    node.order(Order::Unexport { volume, evict: true }).await.unwrap();
    let refused = node.carry(volume, pool).await.unwrap_err();
    assert!(matches!(refused, OrderError::Refused { .. }), "{refused:?}");
    // And one that is held no longer has not been carried.
    node.order(Order::Hold { terms }).await.unwrap();
    let mut pieces = node.carry(volume, pool).await.unwrap();
    node.order(Order::Unexport { volume, evict: true }).await.unwrap();
    let mut last = None;
    while let Some(piece) = pieces.recv().await {
        last = Some(piece);
    }
    let why = last.unwrap().unwrap_err().to_string();
    assert!(why.contains("not held"), "{why}");
    std::sync::Arc::into_inner(node).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_took_nothing_kept_the_node_from_stopping() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let (pool, volume) = serve(&node, dir.path()).await;
    fill(&node);
    let terms = terms(volume, pool, model::export::Squash::Root);
    node.order(Order::Hold { terms }).await.unwrap();
    let pieces = node.carry(volume, pool).await.unwrap();
    // And a sender that sends nothing.
    let (sender, stalled) = tokio::sync::mpsc::channel(1);
    let other = VolumeId(uuid::Uuid::from_u128(99));
    let receiving = async {
        let received = node.receive(other, pool, stalled).await;
        assert!(matches!(received, Err(OrderError::Failed { .. })), "{received:?}");
    };
    let pause = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(pause, receiving).await.is_err(), "it did not wait");
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, node.stop()).await.expect("it waits for the receiver");
    drop((pieces, sender));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_move_waits_through_a_restart_and_goes_on_when_it_is_given_up() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let (pool, volume) = serve(&node, dir.path()).await;
    let held = hold(&mut client(&node));
    let terms = terms(volume, pool, model::export::Squash::Root);
    for _ in 0..2 {
        node.order(Order::Hold { terms: terms.clone() }).await.unwrap();
        assert_eq!(attributes(&node, &held.root), (JUKEBOX, None));
    }
    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(attributes(&node, &held.root), (JUKEBOX, None), "it was served again");
    node.order(Order::Export { terms: terms.clone() }).await.unwrap();
    let mut client = client(&node);
    let now: Vec<_> = held.handles().map(|handle| seen(&mut client, handle).unwrap()).into();
    assert_eq!(now, held.seen);
    client.leave().unwrap();
    node.stop().await;
    // The order to serve it is what counts from then on.
    let node = start(dir.path()).await;
    assert_eq!(attributes(&node, &held.root).0, 0);
    node.order(Order::Unexport { volume, evict: true }).await.unwrap();
    node.stop().await;
}
