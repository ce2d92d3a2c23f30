//! Case 9 in simulation: who is told of which change, each once, in order.

use std::rc::Rc;
use std::time::Duration;

use iscsi::initiator::Data;
use model::order::Order;

use crate::world::{
    CLEAR, GOOD, Host, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTRANTS_ONLY, RELEASE, VOLUME,
    World, simulate,
};

const PREEMPTED: (u8, u8) = (0x2A, 0x03);
const RELEASED: (u8, u8) = (0x2A, 0x04);
const REGISTRATION_PREEMPTED: (u8, u8) = (0x2A, 0x05);
const COMMANDS_CLEARED: (u8, u8) = (0x2F, 0x00);
const KEYS: [u64; 3] = [0xA, 0xB, 0xC];
const EXCLUSIVE: u8 = 1;

type Told = [&'static [(u8, u8)]; 3];

/// Holder and its type; what the first host does, with which type and key; what the three hear.
const ROWS: [(usize, u8, u8, u8, u64, Told); 8] = [
    (0, REGISTRANTS_ONLY, CLEAR, 0, 0, [&[], &[PREEMPTED], &[PREEMPTED]]),
    (0, REGISTRANTS_ONLY, PREEMPT, REGISTRANTS_ONLY, 0xB, [&[], &[REGISTRATION_PREEMPTED], &[]]),
    (1, REGISTRANTS_ONLY, PREEMPT, 6, 0xB, [&[], &[REGISTRATION_PREEMPTED], &[RELEASED]]),
    (
        1,
        REGISTRANTS_ONLY,
        PREEMPT_AND_ABORT,
        REGISTRANTS_ONLY,
        0xB,
        [&[], &[REGISTRATION_PREEMPTED, COMMANDS_CLEARED], &[]],
    ),
    (0, REGISTRANTS_ONLY, RELEASE, REGISTRANTS_ONLY, 0, [&[], &[RELEASED], &[RELEASED]]),
    (0, EXCLUSIVE, RELEASE, EXCLUSIVE, 0, [&[], &[], &[]]),
    (0, REGISTRANTS_ONLY, REGISTER, 0, 0, [&[], &[RELEASED], &[RELEASED]]),
    (0, EXCLUSIVE, REGISTER, 0, 0, [&[], &[], &[]]),
];

async fn prepare(world: &Rc<World>, hosts: &[Host; 3], holder: usize, kind: u8) {
    world.node().order(Order::ClearReservations { volume: VOLUME }).await.unwrap();
    for (host, key) in hosts.iter().zip(KEYS) {
        host.attentions().await;
        host.register(key).await;
    }
    hosts[holder].reserve(KEYS[holder], kind).await;
}

#[test]
fn case_09_each_change_tells_whom_it_concerns_once() {
    simulate(async {
        let world = World::new(9, Duration::from_millis(2), 3).await;
        let hosts = [world.host(1, 1).await, world.host(2, 1).await, world.host(3, 1).await];
        for (holder, kind, action, action_kind, key, told) in ROWS {
            prepare(&world, &hosts, holder, kind).await;
            let done = hosts[0].reserve_out(action, action_kind, (KEYS[0], key), false).await;
            assert_eq!(done, Some(GOOD), "action {action}");
            for (host, told) in hosts.iter().zip(told) {
                assert_eq!(host.attentions().await, told, "action {action}, holder {holder}");
            }
        }
    });
}

#[test]
fn case_09_two_pending_attentions_come_in_order_also_to_who_was_away() {
    simulate(async {
        let world = World::new(9, Duration::from_millis(2), 3).await;
        let hosts = [world.host(1, 1).await, world.host(2, 1).await, world.host(3, 1).await];
        prepare(&world, &hosts, 0, REGISTRANTS_ONLY).await;
        let [a, b, c] = &hosts;
        c.session().unwrap().log_out().await;
        let released = a.reserve_out(RELEASE, REGISTRANTS_ONLY, (0xA, 0), false).await;
        assert_eq!(released, Some(GOOD));
        assert_eq!(a.reserve_out(CLEAR, 0, (0xA, 0), false).await, Some(GOOD));
        assert_eq!(b.run(&[0x12, 0, 0, 0, 96, 0], Data::In(96)).await, Some(GOOD), "INQUIRY");
        assert_eq!(b.attentions().await, [RELEASED, PREEMPTED]);
        assert_eq!(b.attentions().await, [], "once");
        assert!(c.log_in().await);
        assert_eq!(c.attentions().await, [(0x29, 0x07), RELEASED, PREEMPTED]);
    });
}
