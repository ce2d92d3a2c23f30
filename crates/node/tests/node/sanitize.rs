//! SANITIZE over real sockets: whom it waits for, whom it shuts out, and that neither a fence, a
//! reset nor a kill ends one that was accepted.

use std::sync::Arc;
use std::time::Duration;

use host::{Command, Data, HostError, Pending, TmfFunction, TmfResponse};
use model::id::SnapshotId;
use model::order::{Notice, Order, OrderError};

use crate::backend::Treatment;
use crate::client::{Answer, BLOCK, Client, GOOD, answer};
use crate::world::{LONG, SHORT, World};

const IN_PROGRESS: Answer = (2, 2, 0x04, 0x1B);
const FAILED: Answer = (2, 3, 0x31, 0x03);
const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const EXIT_FAILURE_MODE: u8 = 0x1F;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
/// Where the tests look: at the start, in the middle and at the end of the volume.
const PLACES: [u64; 3] = [0, 70_000, crate::world::SIZE / 512 - 8];

/// CDB and, for an overwrite with 0xA5, its list.
fn sanitize(action: u8) -> (Vec<u8>, Data) {
    if action & 0x1F == OVERWRITE {
        let list = vec![0x01, 0, 0, 1, 0xA5];
        (vec![0x48, action, 0, 0, 0, 0, 0, 0, 5, 0], Data::Out(vec![list.into()]))
    } else {
        (vec![0x48, action, 0, 0, 0, 0, 0, 0, 0, 0], Data::None)
    }
}

async fn run(client: &Client, action: u8) -> Answer {
    let (cdb, data) = sanitize(action);
    client.run(&cdb, data).await
}

async fn start(client: &Client, action: u8) -> Pending {
    let (cdb, data) = sanitize(action);
    client.session.start(Command::new(0, &cdb, data)).await.unwrap()
}

/// Data in all places.
async fn fill(client: &Client) {
    for lba in PLACES {
        assert_eq!(client.write(lba, vec![0x5A; 8 * BLOCK]).await, GOOD);
    }
}

async fn holds(client: &Client, byte: u8) {
    for lba in PLACES {
        assert_eq!(client.read(lba, 8).await, vec![byte; 8 * BLOCK], "at {lba}");
    }
}

/// Until the unit is ready again; it was not when this began.
async fn wait_for_the_end(client: &Client) {
    let end = async {
        let mut answered = client.ready().await;
        while answered == IN_PROGRESS || answered.1 == 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            answered = client.ready().await;
        }
        answered
    };
    assert_eq!(tokio::time::timeout(LONG, end).await.expect("it never ends"), GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_methods_leave_what_they_promise() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    assert_eq!(run(&a, OVERWRITE).await, GOOD);
    holds(&a, 0xA5).await;
    let cdb = [0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0];
    assert_eq!(run(&a, BLOCK_ERASE).await, GOOD);
    holds(&a, 0).await;
    let status = a.outcome(&cdb, Data::In(24)).await.unwrap().data.concat();
    let blocks = u32::try_from(crate::world::SIZE / 512).unwrap();
    assert_eq!((&status[16..20], status[20]), (&blocks.to_be_bytes()[..], 1), "all deallocated");
    assert_eq!(a.write(0, vec![7; BLOCK]).await, GOOD);
    assert_eq!(a.read(0, 1).await, vec![7; BLOCK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_running_writes_and_shuts_out_all_others() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    fill(&a).await;
    world.backend.hold_data();
    let running = b.start_write(0, vec![0x77; BLOCK]).await;
    world.backend.holds(1).await;
    let without_data = b.start_write_without_data(8, vec![0x77; BLOCK]).await;
    let sanitizing = start(&a, BLOCK_ERASE).await;
    assert_eq!(answer(without_data).await, Ok(IN_PROGRESS), "it had not begun");
    let sanitizing = tokio::spawn(answer(sanitizing));
    tokio::time::sleep(SHORT).await;
    assert!(!sanitizing.is_finished(), "it must not run while a write does");
    for client in [&a, &b] {
        assert_eq!(client.ready().await, IN_PROGRESS);
        assert_eq!(client.write(16, vec![1; BLOCK]).await, IN_PROGRESS);
        assert_eq!(run(client, BLOCK_ERASE).await, IN_PROGRESS, "one at a time");
        let inquiry = client.outcome(&[0x12, 0, 0, 0, 36, 0], Data::In(36)).await.unwrap();
        assert_eq!(inquiry.data.concat().len(), 36);
    }
    let sense = b.outcome(&[3, 0, 0, 0, 18, 0], Data::In(18)).await.unwrap().data.concat();
    assert_eq!((sense[2], sense[12], sense[13], sense[15]), (2, 0x04, 0x1B, 0x80));
    world.backend.lift();
    assert_eq!(answer(running).await, Ok(GOOD), "it ran to its end before");
    assert_eq!(sanitizing.await.unwrap(), Ok(GOOD));
    holds(&b, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_of_the_host_that_asked_neither_waits_for_it_nor_ends_it() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    fill(&a).await;
    world.backend.hold_data();
    let asked = start(&a, OVERWRITE).await;
    world.backend.holds(1).await;
    world.order(world.fence_order(1)).await.unwrap();
    assert!(answer(asked).await.is_err(), "its session is gone");
    assert_eq!(b.write(0, vec![1; BLOCK]).await, IN_PROGRESS, "no write before the end");
    world.backend.lift();
    wait_for_the_end(&b).await;
    holds(&b, 0xA5).await;
    assert_eq!(b.write(0, vec![1; BLOCK]).await, GOOD);
    tokio::time::sleep(SHORT).await;
    assert_eq!(b.read(0, 1).await, vec![1; BLOCK], "nothing comes after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborts_and_resets_end_the_command_but_not_what_it_asked_for() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    world.backend.hold_data();
    let asked = start(&a, OVERWRITE).await;
    world.backend.holds(1).await;
    assert_eq!(a.task_management(TmfFunction::LogicalUnitReset).await, TmfResponse::Complete);
    assert!(matches!(answer(asked).await, Err(HostError::Aborted)));
    assert_eq!(a.ready().await.1, 6, "the reset");
    assert_eq!(a.ready().await, IN_PROGRESS);
    world.backend.lift();
    wait_for_the_end(&a).await;
    holds(&a, 0xA5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_task_of_it_answers_while_it_goes_on() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    world.backend.hold_data();
    let asked = start(&a, OVERWRITE).await;
    world.backend.holds(1).await;
    assert_eq!(asked.abort().await, Ok(TmfResponse::Complete));
    assert_eq!(answer(asked).await, Err(HostError::Aborted));
    assert_eq!(a.ready().await, IN_PROGRESS);
    world.backend.lift();
    wait_for_the_end(&a).await;
    holds(&a, 0xA5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_it_goes_on_before_any_command_is_served() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    let backend = Arc::clone(&world.backend);
    backend.hold_data();
    assert_eq!(run(&a, OVERWRITE | IMMED).await, GOOD, "accepted");
    backend.holds(1).await;
    drop(a);
    let stopped = world.kill().await;
    backend.hold_data();
    let world = stopped.start().await;
    let a = Client::new(world.connect(1, 1).await.unwrap());
    while a.ready().await.1 == 6 {}
    assert_eq!(a.ready().await, IN_PROGRESS);
    let read = a.outcome(&crate::client::cdb16(0x88, 0, 0, 1), Data::In(512)).await.unwrap();
    assert_eq!(crate::client::answer_of(&read), IN_PROGRESS);
    backend.lift();
    wait_for_the_end(&a).await;
    holds(&a, 0xA5).await;
    let world = world.kill().await.start().await;
    let a = world.login(1, 1).await;
    holds(&a, 0xA5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_snapshots_is_refused_and_the_operator_is_told_which() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    let (volume, pool) = (world.volume, world.pool);
    let snapshot = SnapshotId(uuid::Uuid::from_u128(77));
    world.order(Order::CreateSnapshot { volume, pool, snapshot, name: None }).await.unwrap();
    let mut notices = world.node.notices();
    assert_eq!(run(&a, BLOCK_ERASE).await, (2, 5, 0x2C, 0x00), "COMMAND SEQUENCE ERROR");
    holds(&a, 0x5A).await;
    let why = tokio::time::timeout(LONG, async {
        loop {
            if let Notice::SanitizeRefused { why, .. } = notices.recv().await.unwrap() {
                return why;
            }
        }
    });
    let why = why.await.expect("no notice");
    assert!(why.contains(&snapshot.to_string()), "{why}");
    world.order(Order::DeleteSnapshot { volume, pool, snapshot }).await.unwrap();
    // The merge of what the snapshot left behind takes a moment.
    let mut answered = run(&a, BLOCK_ERASE).await;
    for _ in 0..2000 {
        if answered == GOOD {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        answered = run(&a, BLOCK_ERASE).await;
    }
    assert_eq!(answered, GOOD);
    holds(&a, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_is_taken_while_it_runs() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    world.backend.hold_data();
    assert_eq!(run(&a, OVERWRITE | IMMED).await, GOOD);
    let (volume, pool) = (world.volume, world.pool);
    let snapshot = SnapshotId(uuid::Uuid::from_u128(78));
    let taken = world.order(Order::CreateSnapshot { volume, pool, snapshot, name: None }).await;
    assert!(matches!(taken, Err(OrderError::Refused { .. })), "{taken:?}");
    world.backend.lift();
    wait_for_the_end(&a).await;
    holds(&a, 0xA5).await;
    world.order(Order::CreateSnapshot { volume, pool, snapshot, name: None }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_left_as_its_ause_allows() {
    let world = World::start().await;
    let a = world.host(1).await;
    fill(&a).await;
    for bits in [AUSE, 0] {
        world.backend.treat(".data", Treatment::Fail(5));
        assert_eq!(run(&a, OVERWRITE | bits).await, FAILED);
        world.backend.lift();
        assert_eq!(a.ready().await, FAILED);
        assert_eq!(a.write(0, vec![1; BLOCK]).await, FAILED);
        let exit = run(&a, EXIT_FAILURE_MODE).await;
        if bits == AUSE {
            assert_eq!((exit, a.ready().await), (GOOD, GOOD));
        } else {
            assert_eq!((exit, a.ready().await), ((2, 5, 0x24, 0), FAILED));
            assert_eq!(run(&a, BLOCK_ERASE | AUSE).await, (2, 5, 0x24, 0), "nor got round");
        }
    }
    assert_eq!(run(&a, BLOCK_ERASE).await, GOOD);
    holds(&a, 0).await;
}
