//! The node door over loopback: who is let in, what goes through, and what comes too late.

#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

#[allow(dead_code, reason = "the HTTP tests use the rest")]
#[path = "http/fake_node.rs"]
mod fake_node;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::{NodeDoors, NodeLink, NotAdopted, Way};
use fake_node::FakeNode;
use model::file::Acls;
use model::id::{AttachmentId, PoolId, VolumeId};
use model::node::NoticeMark;
use model::order::{IoMode, Notice, Order, OrderError, Report};
use model::pool::Driver;
use server::{Adoption, DoorRecord, HttpDoors, Limits, NodeDoor};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

const SECRET: &str = "0123456789abcdef";
const CONTROL: Uuid = Uuid::from_u128(1);
const IDENTITY: Uuid = Uuid::from_u128(2);
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(3));

struct Served {
    node: Arc<FakeNode>,
    door: Arc<NodeDoor>,
    address: String,
    kept: Arc<Mutex<Vec<DoorRecord>>>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(identity: Uuid, adoption: Option<Adoption>) -> Served {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    serve_at(TcpListener::bind(any).await.unwrap(), identity, adoption)
}

fn serve_at(listener: TcpListener, identity: Uuid, adoption: Option<Adoption>) -> Served {
    let node = Arc::new(FakeNode::default());
    let kept: Arc<Mutex<Vec<DoorRecord>>> = Arc::default();
    let record = DoorRecord { identity, adoption };
    let keep = {
        let kept = Arc::clone(&kept);
        move |record: &DoorRecord| {
            kept.lock().unwrap().push(*record);
            Ok(())
        }
    };
    let link = Arc::clone(&node) as Arc<dyn NodeLink>;
    let door = Arc::new(NodeDoor::new(link, SECRET.to_owned(), record, keep, (4, None)));
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (end, ended) = oneshot::channel::<()>();
    let limits = Limits { connections: 64, descriptors: 1024 };
    let served = server::serve_node(listener, limits, Arc::clone(&door), async {
        let _ = ended.await;
    });
    Served { node, door, address, kept, end, task: tokio::spawn(served) }
}

fn way(served: &Served, term: u64) -> Way {
    Way {
        address: served.address.clone(),
        secret: SECRET.to_owned(),
        control: CONTROL,
        term,
        identity: IDENTITY,
    }
}

fn why(error: &OrderError) -> String {
    assert!(matches!(error, OrderError::Unreachable { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_secret_gets_nothing() {
    let served = serve(IDENTITY, None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/node/v1/ask", "/node/v1/adopt", "/", "/metrics", "/v1/volumes"] {
        for shown in [None, Some(""), Some("0123456789abcdeX"), Some("0123")] {
            let mut request = http.post(format!("{}{path}", served.address)).body("x");
            if let Some(secret) = shown {
                request = request.bearer_auth(secret);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert!(answer.bytes().await.unwrap().is_empty());
        }
    }
    // Nothing was adopted on the way.
    assert_eq!(*served.kept.lock().unwrap(), []);
    let doors = HttpDoors::new().unwrap();
    let refused = doors.adopt(&served.address, "guess", CONTROL).await.unwrap_err();
    assert!(matches!(refused, NotAdopted::Refused { .. }), "{refused}");
    let link = doors.link(Way { secret: "guess".to_owned(), ..way(&served, 1) });
    assert!(why(&link.node().await.unwrap_err()).contains("does not know the secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_obeys_the_control_plane_that_adopted_it_and_no_earlier_start_of_it() {
    let served = serve(IDENTITY, None).await;
    let doors = HttpDoors::new().unwrap();
    let link = doors.link(way(&served, 5));
    assert!(why(&link.node().await.unwrap_err()).contains("no control plane has adopted it"));
    assert_eq!(doors.adopt(&served.address, SECRET, CONTROL).await.unwrap(), IDENTITY);
    assert_eq!(doors.adopt(&served.address, SECRET, CONTROL).await.unwrap(), IDENTITY);
    let other = Uuid::from_u128(9);
    let refused = doors.adopt(&served.address, SECRET, other).await.unwrap_err();
    assert!(refused.to_string().contains("another control plane"), "{refused}");
    assert_eq!(link.node().await.unwrap().boot, Some(4));
    let stranger = doors.link(Way { control: other, ..way(&served, 50) });
    assert!(why(&stranger.node().await.unwrap_err()).contains("another control plane"));
    let strange = doors.link(Way { identity: other, ..way(&served, 5) });
    assert!(why(&strange.node().await.unwrap_err()).contains("another node"));
    let older = doors.link(way(&served, 4));
    assert!(why(&older.node().await.unwrap_err()).contains("a later start"));
    // What it must know after a restart is durable.
    let last = *served.kept.lock().unwrap().last().unwrap();
    assert_eq!(last.adoption, Some(Adoption { control: CONTROL, term: 5 }));
    doors.release(&way(&served, 5)).await.unwrap();
    assert_eq!(doors.adopt(&served.address, SECRET, other).await.unwrap(), IDENTITY);
}

fn adopted(term: u64) -> Option<Adoption> {
    Some(Adoption { control: CONTROL, term })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_questions_and_streams_go_through() {
    let served = serve(IDENTITY, adopted(1)).await;
    let link = HttpDoors::new().unwrap().link(way(&served, 1));
    let pool = PoolId(Uuid::from_u128(8));
    let (driver, path) = (Driver::Dir, "/p".to_owned());
    let open = Order::OpenPool { pool, driver, path, io: IoMode::Cached, capacity: None };
    assert_eq!(link.order(open).await.unwrap(), Report::Done);
    assert_eq!(link.pool_usage().await.unwrap()[0].pool, pool);
    assert_eq!(link.reservations(VOLUME).await.unwrap().generation, 3);
    served.node.connect(VOLUME);
    assert_eq!(link.client_counts().await.unwrap().len(), 1);
    assert_eq!(link.progress(VOLUME).await.unwrap(), None);
    let mut pieces = link.backup(VOLUME, Some("daily".to_owned())).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = pieces.recv().await {
        all.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(all, b"tar.zst of daily");
    let stream = |pieces: Vec<std::io::Result<&'static [u8]>>| {
        let (send, from) = mpsc::channel(8);
        for piece in pieces {
            send.try_send(piece.map(bytes_of)).unwrap();
        }
        from
    };
    link.restore(VOLUME, Acls::Keep, stream(vec![Ok(b"tar.zst"), Ok(b" of it")])).await.unwrap();
    // The node's reason comes back, and one that breaks off is not taken for a whole one.
    let refused = link.restore(VOLUME, Acls::Keep, stream(vec![Ok(b"tar.zst with acls")])).await;
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("--drop-acls"), "{refused}");
    let broken = stream(vec![Ok(b"tar.zst"), Err(std::io::Error::other("it broke off"))]);
    link.restore(VOLUME, Acls::Keep, broken).await.unwrap_err();
}

fn bytes_of(piece: &'static [u8]) -> axum::body::Bytes {
    axum::body::Bytes::from_static(piece)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_goes_on_when_its_caller_is_gone_and_the_next_one_waits_for_it() {
    let served = serve(IDENTITY, adopted(1)).await;
    let link = HttpDoors::new().unwrap().link(way(&served, 1));
    served.node.keep_busy(true);
    let (pool, path) = (PoolId(Uuid::from_u128(8)), "/i".to_owned());
    let format = model::order::ImageFormat::Raw;
    let long = Order::ImportImage { volume: VOLUME, pool, path, format };
    let first = tokio::spawn({
        let link = Arc::clone(&link);
        async move { link.order(long).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.abort();
    let delete = Order::DeleteVolume { volume: VOLUME, pool };
    let second = link.order(delete);
    tokio::pin!(second);
    let soon = Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, second.as_mut()).await.is_err(), "the first still runs");
    // Another resource does not wait, nor do questions.
    let attachment = AttachmentId(Uuid::from_u128(10));
    link.order(Order::Fence { volume: VOLUME, attachment }).await.unwrap();
    link.progress(VOLUME).await.unwrap();
    served.node.keep_busy(false);
    second.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_at_long_work_is_not_taken_for_one_that_is_gone_and_a_gone_one_is() {
    let served = serve(IDENTITY, adopted(1)).await;
    let link = HttpDoors::new().unwrap().link(way(&served, 1));
    served.door.notice(Notice::PoolFull { pool: PoolId(Uuid::nil()), volume: VOLUME });
    let heard = link.notices(NoticeMark::default()).await.unwrap();
    assert_eq!((heard.notices.len(), heard.mark.boot), (1, 4));
    // Who waits for more is answered when the node ends.
    let waits = tokio::spawn({
        let (link, mark) = (Arc::clone(&link), heard.mark);
        async move { link.notices(mark).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    served.end.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.task).await.unwrap().unwrap();
    assert_eq!(waits.await.unwrap().unwrap().notices, []);
    why(&link.node().await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_node_at_the_same_address_is_not_taken_for_the_old_one() {
    let served = serve(IDENTITY, adopted(1)).await;
    let link = HttpDoors::new().unwrap().link(way(&served, 1));
    link.node().await.unwrap();
    let address: SocketAddr = served.address.strip_prefix("http://").unwrap().parse().unwrap();
    served.end.send(()).unwrap();
    served.task.await.unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let emptied = serve_at(listener, Uuid::from_u128(77), adopted(1));
    let pool = PoolId(Uuid::from_u128(8));
    // A connection of before may break first: it is never obeyed, and says why on a new one.
    let mut said = String::new();
    for _ in 0..5 {
        let error = link.order(Order::DeleteVolume { volume: VOLUME, pool }).await.unwrap_err();
        said = why(&error);
        if said.contains("another node") {
            break;
        }
    }
    assert!(said.contains("another node"), "{said}");
    drop(emptied);
}

/// A server that says this to whatever comes, and its address.
async fn anything(answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0_u8; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_something_known_that_is_no_node_is_told_what_was_found() {
    let doors = HttpDoors::new().unwrap();
    let found: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno!", "an HTTP server, which says 404"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "which answers something else"),
        (
            b"HTTP/1.1 301 Moved\r\nlocation: https://a/\r\ncontent-length: 0\r\n\r\n",
            "which sends on to https://a/",
        ),
        (
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            "which says 401",
        ),
        (b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n", "which says 409"),
        // A control plane's 404 is the contract's.
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 65\r\n\r\n{\"error\":{\"code\":\"unknown_route\",\
              \"message\":\"m\",\"request_id\":\"1\"}}",
            "a control plane of Commonhold",
        ),
        // An alert of TLS (RFC 8446 6), and nothing at all.
        (b"\x15\x03\x01\x00\x02\x02\x16", "behind TLS"),
        (b"", "does not speak HTTP"),
    ];
    for (answer, words) in found {
        let address = anything(answer).await;
        let refused = doors.adopt(&address, SECRET, CONTROL).await.unwrap_err();
        assert!(matches!(refused, NotAdopted::NoNode { .. }), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let refused = doors.adopt(&address, SECRET, CONTROL).await.unwrap_err();
    assert!(matches!(refused, NotAdopted::Silent { .. }), "{refused}");
    assert!(refused.to_string().contains("refused"), "{refused}");
}
