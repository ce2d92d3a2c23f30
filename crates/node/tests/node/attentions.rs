//! Case 9: the unit attentions of reservation changes, over real sockets, each exactly once.

use crate::client::{
    CLEAR, Client, GOOD, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTRANTS_ONLY, RELEASE, RESERVE,
    WRITE_EXCLUSIVE,
};
use crate::world::World;

const PREEMPTED: (u8, u8) = (0x2A, 0x03);
const RELEASED: (u8, u8) = (0x2A, 0x04);
const REGISTRATION_PREEMPTED: (u8, u8) = (0x2A, 0x05);
const COMMANDS_CLEARED: (u8, u8) = (0x2F, 0x00);

const KEYS: [u64; 3] = [0xA, 0xB, 0xC];
const EXCLUSIVE_REGISTRANTS: u8 = 6;

/// One row: who holds what, who does what, and what the three are told.
struct Row {
    name: &'static str,
    holder: usize,
    kind: u8,
    by: usize,
    action: u8,
    action_kind: u8,
    action_key: u64,
    told: [&'static [(u8, u8)]; 3],
}

const ROWS: [Row; 9] = [
    Row {
        name: "CLEAR",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: CLEAR,
        action_kind: 0,
        action_key: 0,
        told: [&[], &[PREEMPTED], &[PREEMPTED]],
    },
    Row {
        name: "PREEMPT of a registrant",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: PREEMPT,
        action_kind: REGISTRANTS_ONLY,
        action_key: 0xB,
        told: [&[], &[REGISTRATION_PREEMPTED], &[]],
    },
    Row {
        name: "PREEMPT of the holder, same type",
        holder: 1,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: PREEMPT,
        action_kind: REGISTRANTS_ONLY,
        action_key: 0xB,
        told: [&[], &[REGISTRATION_PREEMPTED], &[]],
    },
    Row {
        name: "PREEMPT of the holder, another type",
        holder: 1,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: PREEMPT,
        action_kind: EXCLUSIVE_REGISTRANTS,
        action_key: 0xB,
        told: [&[], &[REGISTRATION_PREEMPTED], &[RELEASED]],
    },
    Row {
        name: "PREEMPT AND ABORT",
        holder: 1,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: PREEMPT_AND_ABORT,
        action_kind: REGISTRANTS_ONLY,
        action_key: 0xB,
        told: [&[], &[REGISTRATION_PREEMPTED, COMMANDS_CLEARED], &[]],
    },
    Row {
        name: "RELEASE of a registrants type",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: RELEASE,
        action_kind: REGISTRANTS_ONLY,
        action_key: 0,
        told: [&[], &[RELEASED], &[RELEASED]],
    },
    Row {
        name: "RELEASE of an exclusive type",
        holder: 0,
        kind: WRITE_EXCLUSIVE,
        by: 0,
        action: RELEASE,
        action_kind: WRITE_EXCLUSIVE,
        action_key: 0,
        told: [&[], &[], &[]],
    },
    Row {
        name: "unregistering by the holder of a registrants type",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        by: 0,
        action: REGISTER,
        action_kind: 0,
        action_key: 0,
        told: [&[], &[RELEASED], &[RELEASED]],
    },
    Row {
        name: "unregistering by the holder of an exclusive type",
        holder: 0,
        kind: WRITE_EXCLUSIVE,
        by: 0,
        action: REGISTER,
        action_kind: 0,
        action_key: 0,
        told: [&[], &[], &[]],
    },
];

/// From nothing registered to three registrants, of whom one holds.
async fn prepare(world: &World, clients: &[Client; 3], holder: usize, kind: u8) {
    let order = model::order::Order::ClearReservations { volume: world.volume };
    world.order(order).await.unwrap();
    for (client, key) in clients.iter().zip(KEYS) {
        client.attentions().await;
        client.register(key).await;
    }
    clients[holder].reserve(KEYS[holder], kind).await;
}

async fn three(world: &World) -> [Client; 3] {
    [world.host(1).await, world.host(2).await, world.host(3).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_each_change_tells_whom_it_concerns_once() {
    let world = World::start().await;
    let clients = three(&world).await;
    for row in &ROWS {
        prepare(&world, &clients, row.holder, row.kind).await;
        let keys = (KEYS[row.by], row.action_key);
        let done = clients[row.by].reserve_out(row.action, row.action_kind, keys).await;
        assert_eq!(done, GOOD, "{}", row.name);
        for (client, told) in clients.iter().zip(row.told) {
            assert_eq!(client.attentions().await, told, "{}", row.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_two_pending_attentions_come_in_order_and_inquiry_takes_none() {
    let world = World::start().await;
    let clients = three(&world).await;
    prepare(&world, &clients, 0, REGISTRANTS_ONLY).await;
    let [a, b, _] = &clients;
    assert_eq!(a.reserve_out(RELEASE, REGISTRANTS_ONLY, (0xA, 0)).await, GOOD);
    assert_eq!(a.reserve_out(CLEAR, 0, (0xA, 0)).await, GOOD);
    let inquiry = [0x12, 0, 0, 0, 96, 0];
    assert_eq!(b.run(&inquiry, host::Data::In(96)).await, GOOD);
    assert_eq!(b.attentions().await, [RELEASED, PREEMPTED]);
    assert_eq!(b.attentions().await, [], "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_an_attention_goes_before_a_conflict() {
    let world = World::start().await;
    let clients = three(&world).await;
    prepare(&world, &clients, 0, REGISTRANTS_ONLY).await;
    let [a, b, _] = &clients;
    assert_eq!(a.reserve_out(PREEMPT, REGISTRANTS_ONLY, (0xA, 0xB)).await, GOOD);
    assert_eq!(b.write(0, vec![1; 512]).await, (2, 6, 0x2A, 0x05));
    assert_eq!(b.write(0, vec![1; 512]).await, crate::client::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_an_attention_waits_for_a_nexus_without_session() {
    let world = World::start().await;
    let clients = three(&world).await;
    prepare(&world, &clients, 0, REGISTRANTS_ONLY).await;
    clients[1].session.logout().await.unwrap();
    assert_eq!(clients[0].reserve_out(CLEAR, 0, (0xA, 0)).await, GOOD);
    let b = Client::new(world.connect(2, 1).await.unwrap());
    assert_eq!(b.attentions().await, [(0x29, 0x07), PREEMPTED]);
    assert_eq!(b.reserve_out(RESERVE, WRITE_EXCLUSIVE, (0xB, 0)).await, crate::client::CONFLICT);
}
