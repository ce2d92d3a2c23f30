//! What strangers can cost us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use env::{Clock, RealClock};
use host::{HostError, Pending};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::{Client, GOOD, answer};
use crate::world::{SHORT, World};

/// The most that one command moves.
const LARGEST: usize = 4 << 20;

/// A connection from another loopback address than the usual one.
async fn connect_from(source: &str, world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    socket.connect(world.node.portals()[0]).await.unwrap()
}

/// The value of a line of the metrics page.
fn metric(world: &World, name: &str) -> u64 {
    let page = world.node.metrics_page();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

fn refused(world: &World, reason: &str) -> u64 {
    metric(world, &format!("commonhold_refused_total{{reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_and_login_floods_end_by_the_login_limit() {
    let limit = Duration::from_secs(2);
    let world = World::start_with(|settings| settings.iscsi.login_limit = limit).await;
    let client = world.host(1).await;
    let begun = Instant::now();
    let mut flood = Vec::new();
    for number in 0..200 {
        let mut stream = connect_from("127.0.0.2:0", &world).await;
        if number % 2 == 0 {
            // Half a login header, and never the rest of it.
            let _ = stream.write_all(&[0x43, 0x87, 0, 0, 0, 0, 0, 200]).await;
        }
        flood.push(stream);
    }
    assert_eq!(client.ready().await, GOOD, "whoever is in is served");
    let latecomer = world.login(1, 2).await;
    assert_eq!(latecomer.ready().await, GOOD, "and a login among them succeeds");
    for mut stream in flood {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
        let read = read.expect("a connection without login stays open");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.ready().await, GOOD, "a session is no login");
    assert_eq!(refused(&world, "address"), 200 - 128, "one address has so many places");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_the_hosts_own_address_yields_to_a_login_after_a_while() {
    let world = World::start().await;
    let client = world.host(1).await;
    let mut flood = Vec::new();
    for _ in 0..150 {
        flood.push(TcpStream::connect(world.node.portals()[0]).await.unwrap());
    }
    assert!(world.connect(1, 2).await.is_err(), "all places of the address are taken");
    tokio::time::sleep(node::anteroom::GRACE).await;
    assert_eq!(world.login(1, 2).await.ready().await, GOOD);
    assert_eq!(client.ready().await, GOOD);
    assert_eq!(refused(&world, "expelled"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_the_limit_are_told_that_resources_are_out() {
    let world = World::start_with(|settings| settings.limits.places.sessions = 2).await;
    world.attach(1).await;
    let (first, second) = (world.login(1, 1).await, world.login(1, 2).await);
    let third = world.connect(1, 3).await;
    assert!(matches!(third, Err(HostError::LoginRefused { class: 3, detail: 2, .. })), "{third:?}");
    assert_eq!((refused(&world, "sessions"), metric(&world, "commonhold_seats")), (1, 2));
    // A session that is opened anew takes the place of its former self.
    assert_eq!(world.login(1, 2).await.ready().await, GOOD);
    assert_eq!(first.ready().await, GOOD);
    drop((first, second));
    let again = async {
        while world.connect(1, 3).await.is_err() {
            tokio::time::sleep(SHORT).await;
        }
    };
    tokio::time::timeout(crate::world::LONG, again).await.expect("a seat is never free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn ever_new_initiator_ports_are_not_all_remembered() {
    let world = World::start().await;
    world.attach(1).await;
    let mut open = Vec::new();
    for port in 0..64 {
        open.push(world.login(1, port).await);
    }
    let further = world.connect(1, 64).await;
    assert!(matches!(further, Err(HostError::LoginRefused { class: 3, detail: 2, .. })));
    assert_eq!(refused(&world, "ports"), 1);
    // Those that have gone are forgotten for new ones, one that registered is not.
    open[7].register(0x77).await;
    open.truncate(8);
    for port in 100..200 {
        let again = async {
            while world.connect(1, port).await.is_err() {
                tokio::time::sleep(SHORT).await;
            }
        };
        tokio::time::timeout(crate::world::LONG, again).await.expect("no room for a new port");
    }
    drop(open.pop());
    assert_eq!(world.registered(), [(0x77, false)]);
    assert_eq!(world.login(1, 7).await.keys().await, [0x77]);
}

/// Writes of the largest size whose data does not come.
async fn sit_on_memory(client: &Client, count: u64) -> Vec<Pending> {
    let mut pending = Vec::new();
    for number in 0..count {
        pending.push(client.start_write_without_data(number * 8192, vec![7; LARGEST]).await);
    }
    pending
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_withholds_data_holds_half_of_the_memory_and_no_other_waits_for_it() {
    let world = World::start_with(|settings| {
        settings.workers = 1;
        settings.limits.buffer_bytes = 0;
    })
    .await;
    let (hog, other) = (world.host(1).await, world.host(2).await);
    let pending = sit_on_memory(&hog, 12).await;
    let begun = Instant::now();
    for round in 1..10 {
        assert_eq!(other.write(0, vec![round; LARGEST]).await, GOOD);
        assert_eq!(other.read(0, 8192).await, vec![round; LARGEST]);
        assert_eq!(other.write(0, vec![round; 4096]).await, GOOD);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Nothing failed for it: it waited, and all of its writes are done once their data comes.
    for one in &pending {
        one.release().await.unwrap();
    }
    for one in pending {
        assert_eq!(answer(one).await, Ok(GOOD));
    }
    assert_eq!(refused(&world, "task_set_full"), 0);
    assert_eq!(hog.read(11 * 8192, 1).await, vec![7; 512]);
}

/// Large writes at depth from several sessions bring data along and ask for more: all of them end
/// well on the least memory there is, and nobody is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn honest_writes_wait_for_memory_and_do_not_fail() {
    let world = World::start_with(|settings| {
        settings.workers = 1;
        settings.limits.buffer_bytes = 0;
    })
    .await;
    let mut lanes = tokio::task::JoinSet::new();
    for number in 1..=3 {
        let client = world.host(number).await;
        lanes.spawn(async move {
            for round in 0..4_u8 {
                let mut pending = Vec::new();
                for lba in 0..8 {
                    pending.push(client.start_write(lba * 2048, vec![round; 1 << 20]).await);
                }
                for one in pending {
                    assert_eq!(answer(one).await, Ok(GOOD));
                }
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    assert_eq!(refused(&world, "task_set_full"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aborting_commands_that_wait_for_memory_gives_their_turn_to_others() {
    let world = World::start_with(|settings| {
        settings.workers = 1;
        settings.limits.buffer_bytes = 0;
    })
    .await;
    let hog = world.host(1).await;
    for _ in 0..20 {
        let _pending = sit_on_memory(&hog, 12).await;
        let done = hog.task_management(host::TmfFunction::AbortTaskSet).await;
        assert_eq!(done, host::TmfResponse::Complete);
    }
    assert_eq!(hog.write(0, vec![1; LARGEST]).await, GOOD, "what was held is free");
    let page_settles = async {
        while metric(&world, "commonhold_buffer_bytes") > 0 {
            tokio::time::sleep(SHORT).await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(10), page_settles).await;
    settled.expect("memory stays taken");
}

/// A clock that goes twenty times as fast.
struct Fast(RealClock);

impl Clock for Fast {
    fn now(&self) -> Duration {
        self.0.now() * 20
    }
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sits_on_memory_that_others_wait_for_is_ended() {
    let adjust = |settings: &mut node::Settings| {
        settings.workers = 1;
        settings.limits.buffer_bytes = 0;
        settings.iscsi.ping_interval = Duration::ZERO;
    };
    let world = World::start_at(adjust, Arc::new(Fast(RealClock::default()))).await;
    let mut hogs = Vec::new();
    for number in 1..8 {
        let hog = world.host(number).await;
        let pending = sit_on_memory(&hog, 12).await;
        hogs.push((hog, pending));
    }
    // Without anybody waiting, seven would hold seven eighths; each of them waits for the others.
    let other = world.host(9).await;
    assert_eq!(other.write(0, vec![9; LARGEST]).await, GOOD);
    assert!(refused(&world, "idle") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_login_end_the_connection_at_once() {
    let world = World::start().await;
    for first in [0_u8, 0x01, 0x3F, 0xFF] {
        let mut stream = TcpStream::connect(world.node.portals()[0]).await.unwrap();
        let mut bytes = [0; 48];
        bytes[0] = first;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let ended = tokio::time::timeout(Duration::from_secs(5), read).await;
        assert!(ended.is_ok(), "opcode {first:02x}h: the connection stays open");
    }
}
