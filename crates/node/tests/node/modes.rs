//! A host that goes over to the other mode while it works: what may be believed when the order is
//! answered.

use std::sync::Arc;

use host::HostError;
use model::order::{Access, Mode, Order};

use crate::backend::Treatment;
use crate::client::{Answer, BLOCK, Client, GOOD};
use crate::world::{SHORT, World};

/// DATA PROTECT, WRITE PROTECTED (SBC-4 4.12).
const PROTECTED: Answer = (2, 7, 0x27, 0);
const MODE_PARAMETERS_CHANGED: (u8, u8) = (0x2A, 0x01);

fn order_to(world: &World, mode: Mode) -> Order {
    Order::Attach { access: Access { mode, ..world.access(1) } }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_is_answered_after_the_drain_and_no_write_of_the_host_lands_later() {
    let world = World::start().await;
    let (host, other) = (world.host(1).await, world.host(2).await);
    host.register(0xA).await;
    let own: u64 = 16 << 20;
    world.backend.treat_at(".data", 0..own, Treatment::Hold);
    let mut pending = Vec::new();
    for number in 0..32 {
        pending.push(host.start_write(number, vec![0xAA; BLOCK]).await);
    }
    world.backend.holds(32).await;
    let parked = host.start_write_without_data(500, vec![0xAA; BLOCK]).await;
    let (node, order) = (Arc::clone(&world.node), order_to(&world, Mode::ReadOnly));
    let change = tokio::spawn(async move { node.order(order).await });
    tokio::time::sleep(SHORT).await;
    assert!(!change.is_finished(), "answered while writes could land");
    assert_eq!(other.write(own / 512, vec![0xBB; BLOCK]).await, GOOD, "other hosts go on");
    // The host is back at once, before its old writes have ended, and writes nothing any more.
    let again = {
        let connect = world.connect(1, 1);
        let lift = async {
            tokio::time::sleep(SHORT).await;
            world.backend.lift();
        };
        tokio::join!(connect, lift).0
    };
    change.await.unwrap().expect("changed");
    let landed = world.backend.landed();
    let _ = parked.release().await;
    for pending in pending {
        assert!(matches!(pending.outcome().await, Err(HostError::Lost(_))));
    }
    let again = Client::new(match again {
        Ok(session) => session,
        // The login met the order; the next one does not.
        Err(_) => world.connect(1, 1).await.unwrap(),
    });
    let told = again.attentions().await;
    assert!(told.contains(&MODE_PARAMETERS_CHANGED), "{told:x?}");
    assert_eq!(again.write(0, vec![0xCC; BLOCK]).await, PROTECTED);
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed, "a write landed after the answer");
    assert_eq!(again.read(500, 1).await, vec![0; BLOCK]);
    assert_eq!(world.registered(), [(0xA, false)], "the nexus is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_becomes_a_writer_and_a_restart_remembers_it() {
    let world = World::start().await;
    world.order(order_to(&world, Mode::ReadOnly)).await.unwrap();
    let reader = world.login(1, 1).await;
    assert_eq!(reader.write(0, vec![1; BLOCK]).await, PROTECTED);
    world.order(order_to(&world, Mode::ReadWrite)).await.unwrap();
    let writer = Client::new(world.connect(1, 1).await.unwrap());
    let told = writer.attentions().await;
    assert!(told.contains(&MODE_PARAMETERS_CHANGED), "{told:x?}");
    assert_eq!(writer.write(0, vec![1; BLOCK]).await, GOOD);
    // The same order again ends no session and tells nobody anything.
    world.order(order_to(&world, Mode::ReadWrite)).await.unwrap();
    assert_eq!(writer.ready().await, GOOD);
    drop((reader, writer));
    let world = world.stop().await.start().await;
    assert_eq!(world.login(1, 1).await.write(1, vec![2; BLOCK]).await, GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_raced_with_the_change_end_before_its_answer() {
    let world = World::start().await;
    let other = world.host(2).await;
    for round in 0..10_u8 {
        world.order(order_to(&world, Mode::ReadWrite)).await.unwrap();
        let writer = world.login(1, 1).await;
        let writes = tokio::spawn(async move {
            for number in 0.. {
                let data = vec![round + 1; BLOCK].into();
                let cdb = crate::client::cdb16(0x8A, 0, number % 64, 1);
                if writer.outcome(&cdb, host::Data::Out(vec![data])).await.is_err() {
                    return;
                }
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        world.order(order_to(&world, Mode::ReadOnly)).await.unwrap();
        let seen = other.read(0, 64).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(other.read(0, 64).await == seen, "round {round}: a write landed after the answer");
        writes.await.unwrap();
    }
}
