//! PREEMPT AND ABORT proves what it says: cases 1 to 3 and what surrounds them.

use std::time::Duration;

use futures::future::select;
use host::{HostError, TmfFunction, TmfResponse};

use crate::backend::Treatment;
use crate::client::{
    BLOCK, CONFLICT, Client, GOOD, PREEMPT_AND_ABORT, REGISTER, REGISTER_IGNORE, REGISTRANTS_ONLY,
    RESERVE, TASK_ABORTED, answer, answer_of, is_silent,
};
use crate::world::{LONG, SHORT, World};

const KEY_A: u64 = 0xA;
const KEY_B: u64 = 0xB;
const KEY_C: u64 = 0xC;

/// Two hosts, registered; the first holds type 5.
async fn two(world: &World) -> (Client, Client) {
    let (a, b) = (world.host(1).await, world.host(2).await);
    a.register(KEY_A).await;
    b.register(KEY_B).await;
    a.reserve(KEY_A, REGISTRANTS_ONLY).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_01_256_writes_in_flight_end_before_preempt_and_abort_answers() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    world.backend.hold_data();
    let mut pending = Vec::new();
    for number in 0..256 {
        pending.push(b.start_write(number * 8, vec![0xBB; 8 * BLOCK]).await);
    }
    world.backend.holds(256).await;
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
    let answered = tokio::spawn(answer(preempt));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!answered.is_finished(), "GOOD came while the victim's writes could still land");
    assert_eq!(world.registered(), [(KEY_A, true)], "the state is flipped first");
    world.backend.lift();
    assert_eq!(answered.await.unwrap(), Ok(GOOD));
    let (landed, before) = (world.backend.landed(), a.read(0, 2048).await);
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed, "a write landed after GOOD");
    assert_eq!(a.read(0, 2048).await, before);
    assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
    assert_eq!(b.write(0, vec![1; BLOCK]).await, CONFLICT);
    for pending in pending {
        let got = tokio::time::timeout(Duration::ZERO, pending.outcome()).await;
        assert!(got.is_err(), "an aborted command was answered: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_02_late_data_of_a_preempted_write_changes_no_block() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    let pending = b.start_write_without_data(100, vec![0xBB; 64 * BLOCK]).await;
    assert_eq!(
        a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await,
        GOOD,
        "a command that waits for data is no reason to wait"
    );
    let landed = world.backend.landed();
    pending.release().await.unwrap();
    b.settle().await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed);
    assert_eq!(a.read(100, 64).await, vec![0; 64 * BLOCK]);
    is_silent(pending).await;
    assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_a_third_registrants_writes_are_neither_aborted_nor_waited_for() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    let c = world.host(3).await;
    c.register(KEY_C).await;
    let own: u64 = 16 << 20;
    world.backend.treat_at(".data", own..u64::MAX, Treatment::Hold);
    let mut pending = Vec::new();
    for number in 0..32 {
        pending.push(c.start_write(own / 512 + number, vec![0xCC; BLOCK]).await);
    }
    world.backend.holds(32).await;
    assert_eq!(b.write(0, vec![0xBB; BLOCK]).await, GOOD);
    let keys = (KEY_A, KEY_B);
    assert_eq!(a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, keys).await, GOOD);
    world.backend.lift();
    for pending in pending {
        assert_eq!(answer(pending).await, Ok(GOOD));
    }
    assert_eq!(c.attentions().await, []);
    assert_eq!(c.read(own / 512, 32).await, vec![0xCC; 32 * BLOCK]);
    assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_session_broke_is_still_waited_for() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    world.backend.hold_data();
    let _pending = b.start_write(0, vec![0xBB; BLOCK]).await;
    world.backend.holds(1).await;
    b.session.cut().await;
    // The target has noticed when the session's end has voided its commands; then the takeover.
    tokio::time::sleep(SHORT).await;
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
    let answered = tokio::spawn(answer(preempt));
    tokio::time::sleep(SHORT).await;
    assert!(!answered.is_finished(), "the write of a dead host could land after GOOD");
    world.backend.lift();
    assert_eq!(answered.await.unwrap(), Ok(GOOD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_its_own_host_aborted_is_still_waited_for() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    world.backend.hold_data();
    let _pending = b.start_write(0, vec![0xBB; BLOCK]).await;
    world.backend.holds(1).await;
    let session = b.session.clone();
    let abort =
        tokio::spawn(async move { session.task_management(TmfFunction::AbortTaskSet, 0).await });
    b.settle().await;
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
    let answered = tokio::spawn(answer(preempt));
    tokio::time::sleep(SHORT).await;
    assert!(!answered.is_finished(), "the aborted write could land after GOOD");
    assert!(!abort.is_finished());
    world.backend.lift();
    assert_eq!(answered.await.unwrap(), Ok(GOOD));
    assert_eq!(abort.await.unwrap(), Ok(TmfResponse::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nexuses_that_preempt_each_other_have_one_winner() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    for round in 0..20 {
        for (client, key) in [(&a, KEY_A), (&b, KEY_B)] {
            client.attentions().await;
            assert_eq!(client.reserve_out(REGISTER_IGNORE, 0, (0, key)).await, GOOD);
        }
        if world.node.reservations(world.volume).type_code.is_none() {
            a.reserve(KEY_A, REGISTRANTS_ONLY).await;
        }
        world.backend.hold_data();
        let _writes =
            [a.start_write(0, vec![1; BLOCK]).await, b.start_write(9, vec![2; BLOCK]).await];
        world.backend.holds(2).await;
        let by_a = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
        let by_b = b.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_B, KEY_A)).await;
        let answers = (Box::pin(by_a.outcome()), Box::pin(by_b.outcome()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.backend.lift();
        let first = tokio::time::timeout(LONG, select(answers.0, answers.1)).await;
        let (first, second) = first.expect("a deadlock").factor_first();
        let mut good = usize::from(is_win(first, round));
        // The loser's command was aborted, or came too late; nobody waits for the aborted one.
        let wait = if good == 1 { SHORT } else { LONG };
        if let Ok(second) = tokio::time::timeout(wait, second).await {
            good += usize::from(is_win(second, round));
        }
        assert_eq!(good, 1, "round {round}: one of them wins");
        assert_eq!(world.registered().len(), 1, "round {round}: {:x?}", world.registered());
    }
}

/// GOOD, and not one of the answers that a loser gets.
fn is_win(outcome: Result<host::Outcome, HostError>, round: u32) -> bool {
    match answer_of(&outcome.unwrap()) {
        GOOD => true,
        CONFLICT | (2, 6, 0x2A, 0x05) => false,
        other => panic!("round {round}: {other:x?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victims_own_reserve_out_that_waits_for_its_turn_is_aborted() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    world.backend.treat("reservations", Treatment::Hold);
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
    world.backend.holds(1).await;
    let waiting = b.start_reserve_out(REGISTER, 0, (KEY_B, 0xBB)).await;
    b.settle().await;
    world.backend.lift();
    assert_eq!(answer(preempt).await, Ok(GOOD));
    is_silent(waiting).await;
    assert_eq!(world.registered(), [(KEY_A, true)]);
    assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preempt_that_waits_for_the_victims_reserve_out_comes_after_it() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    world.backend.treat("reservations", Treatment::Hold);
    let change = b.start_reserve_out(REGISTER, 0, (KEY_B, 0xBB)).await;
    world.backend.holds(1).await;
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, 0xBB)).await;
    a.settle().await;
    world.backend.lift();
    assert_eq!(answer(preempt).await, Ok(GOOD), "it names the key that came to hold before it");
    let _ = tokio::time::timeout(SHORT, change.outcome()).await;
    assert_eq!(world.registered(), [(KEY_A, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tas_a_victims_commands_end_with_task_aborted() {
    let world = World::start().await;
    let (a, b) = two(&world).await;
    a.set_task_aborted_status(true).await;
    assert_eq!(b.attentions().await, [(0x2A, 0x01)]);
    world.backend.hold_data();
    let running = b.start_write(0, vec![0xBB; BLOCK]).await;
    world.backend.holds(1).await;
    let parked = b.start_write_without_data(50, vec![0xBB; BLOCK]).await;
    let preempt = a.start_reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (KEY_A, KEY_B)).await;
    assert_eq!(answer(parked).await, Ok(TASK_ABORTED), "it never ran, so it ends at once");
    world.backend.lift();
    assert_eq!(answer(running).await, Ok(TASK_ABORTED));
    assert_eq!(answer(preempt).await, Ok(GOOD));
    assert_eq!(b.attentions().await, [(0x2A, 0x05)], "TASK ABORTED stands for 2Fh/00h");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tas_a_hosts_own_aborts_stay_without_status() {
    let world = World::start().await;
    let a = world.host(1).await;
    a.set_task_aborted_status(true).await;
    for by_set in [false, true] {
        world.backend.hold_data();
        let running = a.start_write(0, vec![0xBB; BLOCK]).await;
        world.backend.holds(1).await;
        let backend = std::sync::Arc::clone(&world.backend);
        let lift = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            backend.lift();
        });
        if by_set {
            let done = a.task_management(TmfFunction::AbortTaskSet).await;
            assert_eq!(done, TmfResponse::Complete);
        } else {
            let done = tokio::time::timeout(LONG, running.abort()).await.unwrap();
            assert_eq!(done, Ok(TmfResponse::Complete));
        }
        lift.await.unwrap();
        assert_eq!(answer(running).await, Err(HostError::Aborted), "by set: {by_set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_cannot_be_made_durable_is_not_acknowledged() {
    let world = World::start().await;
    let a = world.host(1).await;
    a.register(KEY_A).await;
    world.backend.treat("reservations", Treatment::Fail(5));
    assert_eq!(a.reserve_out(RESERVE, REGISTRANTS_ONLY, (KEY_A, 0)).await, (2, 4, 0x44, 0x00));
    assert_eq!(world.registered(), [(KEY_A, false)], "the state is unchanged");
    world.backend.lift();
    a.reserve(KEY_A, REGISTRANTS_ONLY).await;
}
