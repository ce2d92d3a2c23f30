//! The volume behind the unit: atomic commands, protection, growth, restarts, failures below.

use std::sync::Arc;
use std::time::Duration;

use host::Data;
use model::id::SnapshotId;
use model::order::{Access, Mode, Notice, Order};
use model::size::ByteSize;

use crate::backend::Treatment;
use crate::client::{BLOCK, Client, GOOD, cdb16};
use crate::world::{SIZE, World, attachment, volume};

const COUNTS: u64 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn counters_by_compare_and_write_from_eight_initiators_lose_nothing() {
    let world = Arc::new(World::start().await);
    let tasks: Vec<_> = (1..=8)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let client = world.host(number).await;
                for _ in 0..COUNTS {
                    while !count(&client).await {}
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let reader = world.login(1, 9).await;
    let block = reader.read(77, 1).await;
    assert_eq!(crate::client::be64(&block[..8]), 8 * COUNTS);
}

/// One try to add one; false: somebody else was faster.
async fn count(client: &Client) -> bool {
    let old = client.read(77, 1).await;
    let mut new = old.clone();
    new[..8].copy_from_slice(&(crate::client::be64(&old[..8]) + 1).to_be_bytes());
    let mut cdb = cdb16(0x89, 0, 77, 0);
    cdb[13] = 1;
    match client.run(&cdb, Data::Out(vec![[old, new].concat().into()])).await {
        GOOD => true,
        (2, 0xE, 0x1D, 0x00) => false,
        other => panic!("COMPARE AND WRITE: {other:x?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_host_changes_nothing_and_is_told_so() {
    let world = World::start().await;
    let access = Access { mode: Mode::ReadOnly, ..world.access(1) };
    world.order(Order::Attach { access }).await.unwrap();
    let reader = world.login(1, 1).await;
    let mut compare = cdb16(0x89, 0, 0, 0);
    compare[13] = 1;
    let ten = |opcode: u8| vec![opcode, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let commands = [
        ("WRITE (6)", vec![0x0A, 0, 0, 0, 1, 0], BLOCK),
        ("WRITE (10)", ten(0x2A), BLOCK),
        ("WRITE (12)", vec![0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], BLOCK),
        ("WRITE (16)", cdb16(0x8A, 0, 0, 1), BLOCK),
        ("WRITE AND VERIFY (10)", ten(0x2E), BLOCK),
        ("WRITE AND VERIFY (16)", cdb16(0x8E, 0, 0, 1), BLOCK),
        ("ORWRITE (16)", cdb16(0x8B, 0, 0, 1), BLOCK),
        ("COMPARE AND WRITE", compare, 2 * BLOCK),
        ("WRITE SAME (10)", ten(0x41), BLOCK),
        ("WRITE SAME (16)", cdb16(0x93, 0, 0, 1), BLOCK),
        ("WRITE SAME (16) with NDOB", cdb16(0x93, 0x01, 0, 1), 0),
        ("UNMAP", vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24),
    ];
    for (name, cdb, bytes) in commands {
        let data = if bytes == 0 { Data::None } else { Data::Out(vec![vec![1; bytes].into()]) };
        assert_eq!(reader.run(&cdb, data).await, (2, 7, 0x27, 0x00), "{name}");
    }
    let sense = [0x1A, 0x08, 0x3F, 0, 255, 0];
    let outcome = reader.outcome(&sense, Data::In(255)).await.unwrap();
    assert_eq!(outcome.data.concat()[2] & 0x80, 0x80, "WP in MODE SENSE");
    assert_eq!(reader.read(0, 8).await, vec![0; 8 * BLOCK]);
    let writer = world.host(2).await;
    assert_eq!(writer.write(0, vec![1; BLOCK]).await, GOOD, "the other host's mode is its own");
}

async fn capacity(client: &Client) -> u64 {
    let mut cdb = cdb16(0x9E, 0x10, 0, 0);
    cdb[13] = 32;
    let outcome = client.outcome(&cdb, Data::In(32)).await.unwrap();
    crate::client::be64(&outcome.data.concat()[..8]) + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_is_told_once_to_every_nexus() {
    let world = World::start().await;
    let clients = [world.host(1).await, world.host(2).await, world.login(1, 2).await];
    let size = ByteSize(2 * SIZE);
    for _ in 0..2 {
        let order = Order::ResizeVolume { volume: world.volume, pool: world.pool, size };
        world.order(order).await.unwrap();
    }
    for client in &clients {
        assert_eq!(client.attentions().await, [(0x2A, 0x09)]);
        assert_eq!(capacity(client).await, 2 * SIZE / 512);
        assert_eq!(client.attentions().await, []);
    }
    let last = 2 * SIZE / 512 - 1;
    assert_eq!(clients[0].write(last, vec![7; BLOCK]).await, GOOD);
    assert_eq!(clients[1].read(last, 1).await, vec![7; BLOCK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_serves_from_its_journal_without_any_order() {
    let world = World::start().await;
    let a = world.host(1).await;
    assert_eq!(a.write(5, vec![5; BLOCK]).await, GOOD);
    assert_eq!(a.run(&cdb16(0x91, 0, 0, 0), Data::None).await, GOOD);
    let world = world.kill().await.start().await;
    let a = world.login(1, 1).await;
    assert_eq!(a.read(5, 1).await, vec![5; BLOCK]);
    let world = world.stop().await.start().await;
    let a = world.login(1, 1).await;
    assert_eq!(a.read(5, 1).await, vec![5; BLOCK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_an_end_cut_short_goes_on_at_the_start() {
    let world = World::start().await;
    let a = world.host(1).await;
    let (volume, pool) = (world.volume, world.pool);
    let snapshot = SnapshotId(world.volume.0);
    world.order(Order::CreateSnapshot { volume, pool, snapshot, name: None }).await.unwrap();
    assert_eq!(a.write(0, vec![1; BLOCK]).await, GOOD);
    assert_eq!(a.run(&cdb16(0x91, 0, 0, 0), Data::None).await, GOOD);
    drop(a);
    world.backend.hold_data();
    world.order(Order::DeleteSnapshot { volume, pool, snapshot }).await.unwrap();
    world.backend.holds(1).await;
    let world = world.kill().await.start().await;
    // Much sooner than the background looks by itself.
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    while world.layers() > 1 {
        assert!(std::time::Instant::now() < limit, "nothing is merged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.login(1, 1).await.read(0, 1).await, vec![1; BLOCK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_below_reach_the_host_as_sense_and_the_operator_as_notice() {
    let world = World::start().await;
    let a = world.host(1).await;
    let other = volume(2);
    world.create(other).await;
    let access = Access { attachment: attachment(20), volume: other, ..world.access(1) };
    world.order(Order::Attach { access }).await.unwrap();
    let b = Client::new(world.connect_to(other, 1, 1).await.unwrap());
    b.attentions().await;
    let mut notices = world.node.notices();
    // The first volume writes in the first half, the other one behind it.
    let half = SIZE / 2;
    for (errno, expected) in [(5, (2, 3, 0x0C, 0x00)), (28, (2, 7, 0x27, 0x07))] {
        world.backend.treat_at(".data", 0..half, Treatment::Fail(errno));
        assert_eq!(a.write(0, vec![1; BLOCK]).await, expected, "errno {errno}");
        assert_eq!(b.write(half / 512, vec![2; BLOCK]).await, GOOD, "the other volume goes on");
        assert_eq!(a.read(0, 1).await, vec![0; BLOCK]);
        let told = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                match notices.recv().await.unwrap() {
                    Notice::MediumError { volume, .. } => return (5, volume),
                    Notice::PoolFull { volume, .. } => return (28, volume),
                    _ => {}
                }
            }
        });
        assert_eq!(told.await.expect("no notice"), (errno, world.volume));
        world.backend.lift();
        assert_eq!(a.write(0, vec![0; BLOCK]).await, GOOD, "and so does this one, afterwards");
    }
}
