//! Case 7: reservation state across crashes, record damage and restarts.

use crate::backend::Treatment;
use crate::client::{
    BLOCK, CONFLICT, GOOD, PREEMPT, REGISTER, REGISTRANTS_ONLY, RESERVE, WRITE_EXCLUSIVE,
    reserve_out,
};
use crate::world::World;

/// The steps of a takeover, as (action, type, keys): what host 1 sends.
const STEPS: [(&str, u8, u8, (u64, u64)); 3] = [
    ("REGISTER", REGISTER, 0, (0, 0xA)),
    ("RESERVE", RESERVE, WRITE_EXCLUSIVE, (0xA, 0)),
    ("PREEMPT", PREEMPT, WRITE_EXCLUSIVE, (0xA, 0xB)),
];

/// Two hosts attached; host 2 is registered with APTPL. Before the second step host 1 is
/// registered too, before the third host 2 holds.
async fn before_step(step: usize) -> World {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    b.register_aptpl(0xB).await;
    if step > 0 {
        a.register_aptpl(0xA).await;
    }
    if step > 1 {
        b.reserve(0xB, WRITE_EXCLUSIVE).await;
    }
    world
}

fn state(world: &World) -> (Vec<(u64, bool)>, Option<u8>, bool) {
    let view = world.node.reservations(world.volume);
    assert!(!view.lost, "the state was lost");
    (world.registered(), view.type_code, view.persist_through_power_loss)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_a_crash_before_the_record_is_durable_leaves_the_state_before() {
    for (step, (name, action, kind, keys)) in STEPS.into_iter().enumerate() {
        for treatment in [Treatment::Hold, Treatment::Tear(40)] {
            let world = before_step(step).await;
            let before = state(&world);
            world.backend.treat("reservations", treatment);
            let a = world.login(1, 1).await;
            let (cdb, list) = reserve_out(action, kind, keys, true);
            let command = host::Command::new(0, &cdb, host::Data::Out(vec![list]));
            let pending = a.session.start(command).await.unwrap();
            world.backend.holds(1).await;
            assert_eq!(state(&world), before, "{name}: nothing holds before it is durable");
            let world = world.kill().await.start().await;
            assert_eq!(state(&world), before, "{name}, {treatment:?}");
            assert!(crate::client::answer(pending).await.is_err(), "{name}: it was acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_a_crash_after_good_leaves_the_state_after() {
    for (step, (name, action, kind, keys)) in STEPS.into_iter().enumerate() {
        let world = before_step(step).await;
        let a = world.login(1, 1).await;
        let (cdb, list) = reserve_out(action, kind, keys, true);
        assert_eq!(a.run(&cdb, host::Data::Out(vec![list])).await, GOOD, "{name}");
        let after = state(&world);
        let world = world.kill().await.start().await;
        assert_eq!(state(&world), after, "{name}");
        // What was promised holds for the hosts, which come back from the same ports.
        let (a, b) = (world.login(1, 1).await, world.login(2, 1).await);
        if step == 2 {
            assert_eq!(a.write(0, vec![1; BLOCK]).await, GOOD);
            assert_eq!(b.write(0, vec![2; BLOCK]).await, CONFLICT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_without_aptpl_a_restart_forgets() {
    let world = World::start().await;
    let a = world.host(1).await;
    a.register(0xA).await;
    a.reserve(0xA, REGISTRANTS_ONLY).await;
    let world = world.stop().await.start().await;
    assert_eq!(state(&world), (Vec::new(), None, false));
    let a = crate::client::Client::new(world.connect(1, 1).await.unwrap());
    assert_eq!(a.attentions().await, [(0x29, 0x00)], "it hears of the power on");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_a_damaged_record_is_lost_information_and_not_no_reservation() {
    for whole in [true, false] {
        let world = World::start().await;
        let a = world.host(1).await;
        a.register_aptpl(0xA).await;
        a.reserve(0xA, WRITE_EXCLUSIVE).await;
        let record = world.reservation_record();
        let stopped = world.stop().await;
        if whole {
            let length = std::fs::metadata(&record).unwrap().len();
            std::fs::write(&record, vec![0xFF; usize::try_from(length).unwrap()]).unwrap();
        } else {
            std::fs::remove_file(&record).unwrap();
        }
        let world = stopped.start().await;
        assert!(world.node.reservations(world.volume).lost);
        let b = world.host(2).await;
        let lost = b.write(0, vec![1; BLOCK]).await;
        assert_eq!((lost.0, lost.2, lost.3), (2, 0x44, 0x01), "{lost:x?}");
        let lost = b.reserve_in(0).await.unwrap_err();
        assert_eq!((lost.0, lost.2, lost.3), (2, 0x44, 0x01), "{lost:x?}");
        // The operator clears it, and that is durable.
        let order = model::order::Order::ClearReservations { volume: world.volume };
        world.order(order).await.unwrap();
        assert_eq!(b.write(0, vec![1; BLOCK]).await, GOOD);
        let world = world.kill().await.start().await;
        assert!(!world.node.reservations(world.volume).lost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_clear_reaches_a_volume_that_nobody_is_attached_to() {
    let world = World::start().await;
    world.attach(1).await;
    world.order(world.detach_order(1)).await.unwrap();
    let length = std::fs::metadata(world.reservation_record()).unwrap().len();
    let damage = vec![0xFF; usize::try_from(length).unwrap()];
    std::fs::write(world.reservation_record(), damage).unwrap();
    let order = model::order::Order::ClearReservations { volume: world.volume };
    world.order(order).await.unwrap();
    let a = world.host(1).await;
    assert!(!world.node.reservations(world.volume).lost, "it said Done and did nothing");
    assert_eq!(a.write(0, vec![1; BLOCK]).await, GOOD);
}
