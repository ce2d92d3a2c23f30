//! Task management over real sockets.

use std::time::Duration;

use host::{HostError, TmfFunction, TmfResponse};

use crate::client::{BLOCK, Client, GOOD, answer, is_silent};
use crate::world::{SHORT, World};

/// A function that is under way.
fn function(
    client: &Client,
    function: TmfFunction,
) -> tokio::task::JoinHandle<Result<TmfResponse, HostError>> {
    let session = client.session.clone();
    tokio::spawn(async move { session.task_management(function, 0).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_task_of_a_running_write_answers_when_it_has_ended() {
    let world = World::start().await;
    let a = world.host(1).await;
    world.backend.hold_data();
    let aborted = a.start_write(0, vec![1; BLOCK]).await;
    let other = a.start_write(8, vec![2; BLOCK]).await;
    world.backend.holds(2).await;
    {
        let abort = aborted.abort();
        tokio::pin!(abort);
        assert!(tokio::time::timeout(SHORT, &mut abort).await.is_err(), "it could still land");
        world.backend.lift();
        assert_eq!(abort.await, Ok(TmfResponse::Complete));
    }
    assert_eq!(answer(aborted).await, Err(HostError::Aborted));
    assert_eq!(answer(other).await, Ok(GOOD), "no other task is meant");
    assert_eq!(a.attentions().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_task_of_a_write_that_waits_for_data_answers_at_once() {
    let world = World::start().await;
    let a = world.host(1).await;
    let parked = a.start_write_without_data(0, vec![1; BLOCK]).await;
    assert_eq!(parked.abort().await, Ok(TmfResponse::Complete));
    let _ = parked.release().await;
    a.settle().await;
    assert_eq!(a.read(0, 1).await, vec![0; BLOCK]);
    assert_eq!(answer(parked).await, Err(HostError::Aborted));
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_task_set_ends_the_nexus_own_commands_alone() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    world.backend.hold_data();
    let mine = a.start_write(0, vec![1; BLOCK]).await;
    let parked = a.start_write_without_data(100, vec![1; BLOCK]).await;
    let theirs = b.start_write(8, vec![2; BLOCK]).await;
    world.backend.holds(2).await;
    let abort = function(&a, TmfFunction::AbortTaskSet);
    tokio::time::sleep(SHORT).await;
    assert!(!abort.is_finished());
    world.backend.lift();
    assert_eq!(abort.await.unwrap(), Ok(TmfResponse::Complete));
    assert_eq!(answer(mine).await, Err(HostError::Aborted));
    assert_eq!(answer(parked).await, Err(HostError::Aborted));
    assert_eq!(answer(theirs).await, Ok(GOOD));
    assert_eq!(b.attentions().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_task_set_ends_everybodys_commands_and_tells_the_others() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    world.backend.hold_data();
    let mine = a.start_write(0, vec![1; BLOCK]).await;
    let theirs = b.start_write(8, vec![2; BLOCK]).await;
    world.backend.holds(2).await;
    let clear = function(&a, TmfFunction::ClearTaskSet);
    tokio::time::sleep(SHORT).await;
    assert!(!clear.is_finished());
    world.backend.lift();
    assert_eq!(clear.await.unwrap(), Ok(TmfResponse::Complete));
    assert_eq!(answer(mine).await, Err(HostError::Aborted));
    is_silent(theirs).await;
    assert_eq!(b.attentions().await, [(0x2F, 0x00)]);
    assert_eq!(a.attentions().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_reset_tells_every_nexus_and_a_second_one_waits_like_the_first() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    b.register(0xB).await;
    world.backend.hold_data();
    let _theirs = b.start_write(8, vec![2; BLOCK]).await;
    world.backend.holds(1).await;
    let first = function(&a, TmfFunction::LogicalUnitReset);
    a.settle().await;
    let second = function(&a, TmfFunction::LogicalUnitReset);
    tokio::time::sleep(SHORT).await;
    assert!(!first.is_finished());
    assert!(!second.is_finished(), "the write that the first reset waits for can still land");
    world.backend.lift();
    assert_eq!(first.await.unwrap(), Ok(TmfResponse::Complete));
    assert_eq!(second.await.unwrap(), Ok(TmfResponse::Complete));
    assert_eq!(a.attentions().await, [(0x29, 0x03)]);
    assert_eq!(b.attentions().await, [(0x29, 0x03)]);
    assert_eq!(world.registered(), [(0xB, false)], "registrations survive a reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_reset_ends_all_sessions() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    assert_eq!(a.task_management(TmfFunction::TargetColdReset).await, TmfResponse::Complete);
    for client in [&a, &b] {
        let mut ended = false;
        for _ in 0..200 {
            ended = client.session.ping(bytes::Bytes::from_static(b"x")).await.is_err();
            if ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(ended, "a session survived the reset");
    }
    let b = Client::new(world.connect(2, 1).await.unwrap());
    assert_eq!(b.attentions().await, [(0x29, 0x03), (0x29, 0x07)]);
}
