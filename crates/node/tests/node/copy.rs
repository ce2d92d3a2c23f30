//! EXTENDED COPY over real sockets: what it moves, whom it obeys, and that whoever cuts a host off
//! from the destination waits for a copy that was sent to the source.

use bytes::Bytes;
use host::{Command, Data, Pending};
use model::order::{Mode, Order};

use crate::client::{
    Answer, BLOCK, Client, GOOD, PREEMPT, PREEMPT_AND_ABORT, RESERVE, answer, cdb16,
};
use crate::world::{SHORT, World, attachment, volume};

const KEY_A: u64 = 0xA;
const KEY_B: u64 = 0xB;
/// Four pieces of a mebibyte, between which a copy looks at gates and reservations.
const BLOCKS: u32 = 8192;

const UNREACHABLE: Answer = (2, 0xA, 0x08, 0x04);
const NOT_REACHABLE: Answer = (2, 0xA, 0x0D, 0x02);
const DEVICE_FAILURE: Answer = (2, 0xA, 0x0D, 0x01);

/// The attachment number of a host at the second volume.
fn second(number: u8) -> u8 {
    100 + number
}

/// Attach host `number` to the second volume too.
async fn attach_second(world: &World, number: u8, mode: Mode) {
    let access = model::order::Access {
        attachment: attachment(second(number)),
        volume: volume(2),
        mode,
        ..world.access(number)
    };
    world.order(Order::Attach { access }).await.unwrap();
}

/// A session at the second volume, whose unit attentions are taken.
async fn login_second(world: &World, number: u8) -> Client {
    let client = Client::new(world.connect_to(volume(2), number, 1).await.unwrap());
    client.attentions().await;
    client
}

/// Host `number`, logged in to both volumes.
async fn both(world: &World, number: u8) -> (Client, Client) {
    let first = world.host(number).await;
    attach_second(world, number, Mode::ReadWrite).await;
    (first, login_second(world, number).await)
}

/// The NAA name in page 83h.
async fn naa(client: &Client) -> Vec<u8> {
    let outcome = client.outcome(&[0x12, 1, 0x83, 1, 0, 0], Data::In(256)).await.unwrap();
    outcome.data.concat()[8..24].to_vec()
}

/// A list with one segment from the first to the second name, under list identifier 1.
fn copy_list(names: [&[u8]; 2], from: u64, to: u64, blocks: u32) -> Bytes {
    let mut list = vec![0; 16];
    (list[0], list[3], list[11]) = (1, 64, 32);
    for name in names {
        let mut cscd = vec![0; 32];
        cscd[0] = 0xE4;
        (cscd[4], cscd[5], cscd[7], cscd[30]) = (0x01, 0x03, 16, 2);
        cscd[8..24].copy_from_slice(name);
        list.extend_from_slice(&cscd);
    }
    list.extend_from_slice(&[0x0A, 0, 0, 0x1C, 0, 0, 0, 1]);
    list.extend_from_slice(&(blocks * 512).to_be_bytes());
    list.extend_from_slice(&from.to_be_bytes());
    list.extend_from_slice(&to.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    list.into()
}

fn copy_cdb(list: &Bytes) -> Vec<u8> {
    cdb16(0x83, 0, 0, u32::try_from(list.len()).unwrap())
}

async fn copy(client: &Client, list: Bytes) -> Answer {
    client.run(&copy_cdb(&list), Data::Out(vec![list])).await
}

async fn start(client: &Client, list: Bytes) -> Pending {
    let cdb = copy_cdb(&list);
    client.session.start(Command::new(0, &cdb, Data::Out(vec![list]))).await.unwrap()
}

/// RECEIVE COPY RESULTS about list identifier 1.
async fn results(client: &Client, action: u8) -> Vec<u8> {
    let cdb = [0x84, action, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    client.outcome(&cdb, Data::In(1024)).await.unwrap().data.concat()
}

/// Two volumes; the first holds four mebibytes of `0x5A`.
async fn two_volumes() -> World {
    let world = World::start().await;
    world.create(volume(2)).await;
    world
}

async fn fill(client: &Client) {
    assert_eq!(client.write(0, vec![0x5A; BLOCKS as usize * BLOCK]).await, GOOD);
}

/// How many blocks of the second volume hold what the first does.
async fn arrived(client: &Client) -> usize {
    let data = client.read(0, BLOCKS).await;
    data.chunks(BLOCK).filter(|block| block.iter().all(|byte| *byte == 0x5A)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_copied_within_a_unit_and_to_another_one_and_holes_stay_holes() {
    let world = two_volumes().await;
    let (a, b) = both(&world, 1).await;
    fill(&a).await;
    let (first, second) = (naa(&a).await, naa(&b).await);
    assert_ne!(first, second);
    assert_eq!(copy(&a, copy_list([&first, &second], 0, 0, BLOCKS)).await, GOOD);
    assert_eq!(arrived(&b).await, BLOCKS as usize);
    let status = results(&a, 0).await;
    assert_eq!(status[3..], [8, 1, 0, 1, 0, 0, 0x40, 0, 0], "one segment, 4 MiB");
    assert_eq!(results(&b, 0).await, [] as [u8; 0], "the other unit knows nothing of it");
    assert_eq!(copy(&a, copy_list([&first, &first], 0, 16384, 128)).await, GOOD);
    assert_eq!(a.read(16384, 128).await, vec![0x5A; 128 * BLOCK]);
    // From where nothing was written: the destination is unmapped again.
    assert_eq!(copy(&a, copy_list([&first, &second], 65536, 0, BLOCKS)).await, GOOD);
    assert_eq!(arrived(&b).await, 0);
    let cdb = [0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0];
    let status = b.outcome(&cdb, Data::In(24)).await.unwrap().data.concat();
    assert_eq!(status[20], 1, "deallocated: {status:02x?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_onto_what_it_still_has_to_read_arrives_whole() {
    let world = World::start().await;
    let a = world.host(1).await;
    let name = naa(&a).await;
    let data: Vec<u8> =
        (0..BLOCKS as usize * BLOCK).map(|at| (at / BLOCK).to_le_bytes()[0]).collect();
    for (from, to) in [(0, 1000), (1000, 0)] {
        assert_eq!(a.write(from, data.clone()).await, GOOD);
        assert_eq!(copy(&a, copy_list([&name, &name], from, to, BLOCKS)).await, GOOD);
        assert!(a.read(to, BLOCKS).await == data, "from {from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_sent_through_the_source_is_waited_for_by_a_fence_at_the_destination() {
    let world = two_volumes().await;
    let (a, _b) = both(&world, 1).await;
    attach_second(&world, 2, Mode::ReadWrite).await;
    let watcher = login_second(&world, 2).await;
    fill(&a).await;
    let list = copy_list([&naa(&a).await, &naa(&watcher).await], 0, 0, BLOCKS);
    world.backend.hold_data();
    let running = start(&a, list).await;
    world.backend.holds(1).await;
    let node = std::sync::Arc::clone(&world.node);
    let order = Order::Fence { volume: volume(2), attachment: attachment(second(1)) };
    let fence = tokio::spawn(async move { node.order(order).await });
    tokio::time::sleep(SHORT).await;
    assert!(!fence.is_finished(), "the fence answered while the copy could still land");
    world.backend.lift();
    fence.await.unwrap().unwrap();
    let landed = world.backend.landed();
    let blocks = arrived(&watcher).await;
    assert_eq!(blocks, 2048, "the piece that was under way, and no other");
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed, "something landed after the fence");
    assert_eq!(answer(running).await, Ok(NOT_REACHABLE));
    let status = results(&a, 0).await;
    assert_eq!((status[4], &status[5..7]), (2, &[0, 0][..]), "ended with an error, no segment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_sent_through_the_source_is_waited_for_by_preempt_and_abort_at_the_destination() {
    let world = two_volumes().await;
    let (a, b) = both(&world, 1).await;
    attach_second(&world, 2, Mode::ReadWrite).await;
    let other = login_second(&world, 2).await;
    fill(&a).await;
    b.register(KEY_B).await;
    other.register(KEY_A).await;
    other.reserve(KEY_A, crate::client::REGISTRANTS_ONLY).await;
    let list = copy_list([&naa(&a).await, &naa(&b).await], 0, 0, BLOCKS);
    world.backend.hold_data();
    let running = start(&a, list).await;
    world.backend.holds(1).await;
    let kind = crate::client::REGISTRANTS_ONLY;
    let preempt = other.start_reserve_out(PREEMPT_AND_ABORT, kind, (KEY_A, KEY_B)).await;
    let answered = tokio::spawn(answer(preempt));
    tokio::time::sleep(SHORT).await;
    assert!(!answered.is_finished(), "GOOD came while the victim's copy could still land");
    world.backend.lift();
    assert_eq!(answered.await.unwrap(), Ok(GOOD));
    let landed = world.backend.landed();
    assert_eq!(arrived(&other).await, 2048, "the piece that was under way, and no other");
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed, "something landed after GOOD");
    assert_eq!(answer(running).await, Ok(NOT_REACHABLE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_preempted_without_abort_stops_before_its_next_piece() {
    let world = two_volumes().await;
    let (a, b) = both(&world, 1).await;
    attach_second(&world, 2, Mode::ReadWrite).await;
    let other = login_second(&world, 2).await;
    fill(&a).await;
    b.register(KEY_B).await;
    other.register(KEY_A).await;
    let kind = crate::client::REGISTRANTS_ONLY;
    other.reserve(KEY_A, kind).await;
    let list = copy_list([&naa(&a).await, &naa(&b).await], 0, 0, BLOCKS);
    world.backend.hold_data();
    let running = start(&a, list).await;
    world.backend.holds(1).await;
    assert_eq!(other.reserve_out(PREEMPT, kind, (KEY_A, KEY_B)).await, GOOD);
    world.backend.lift();
    assert_eq!(answer(running).await, Ok(DEVICE_FAILURE));
    assert_eq!(arrived(&other).await, 2048);
    let failed = results(&a, 4).await;
    assert_eq!(failed[56], 0x18, "RESERVATION CONFLICT, as a WRITE would have ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_04_a_stranger_copies_nothing_into_a_unit_under_any_reservation() {
    let world = two_volumes().await;
    let (a, b) = both(&world, 1).await;
    attach_second(&world, 2, Mode::ReadWrite).await;
    let holder = login_second(&world, 2).await;
    fill(&a).await;
    let (first, second) = (naa(&a).await, naa(&b).await);
    holder.register(KEY_A).await;
    for kind in [1, 3, 5, 6, 7, 8] {
        assert_eq!(holder.reserve_out(RESERVE, kind, (KEY_A, 0)).await, GOOD);
        let into = copy(&a, copy_list([&first, &second], 0, 0, 8)).await;
        assert_eq!(into, DEVICE_FAILURE, "type {kind}");
        assert_eq!(results(&a, 4).await[56], 0x18, "type {kind}");
        let sent_there = copy(&b, copy_list([&second, &second], 0, 64, 8)).await;
        assert_eq!(sent_there, crate::client::CONFLICT, "type {kind}");
        let from = copy(&a, copy_list([&second, &first], 0, 65536, 8)).await;
        let strangers_read = matches!(kind, 1 | 5 | 7);
        assert_eq!(from == GOOD, strangers_read, "type {kind}: {from:x?}");
        let release = holder.reserve_out(crate::client::RELEASE, kind, (KEY_A, 0)).await;
        assert_eq!(release, GOOD);
        b.attentions().await;
    }
    assert_eq!(arrived(&holder).await, 0);
    assert_eq!(copy(&a, copy_list([&first, &second], 0, 0, 8)).await, GOOD, "nobody holds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_reaches_no_unit_that_its_host_is_not_logged_in_to_or_may_not_write() {
    let world = two_volumes().await;
    let a = world.host(1).await;
    attach_second(&world, 2, Mode::ReadWrite).await;
    let other = login_second(&world, 2).await;
    fill(&a).await;
    let (first, second) = (naa(&a).await, naa(&other).await);
    let list = copy_list([&first, &second], 0, 0, 8);
    assert_eq!(copy(&a, list.clone()).await, UNREACHABLE, "not attached");
    attach_second(&world, 1, Mode::ReadOnly).await;
    assert_eq!(copy(&a, list.clone()).await, UNREACHABLE, "attached, but not logged in");
    let b = login_second(&world, 1).await;
    assert_eq!(copy(&a, list.clone()).await, DEVICE_FAILURE, "attached to read alone");
    let failed = results(&a, 4).await;
    assert_eq!((failed[56], failed[62], failed[72]), (2, 7, 0x27), "DATA PROTECT, 27h/00h");
    assert_eq!(arrived(&other).await, 0);
    assert_eq!(copy(&b, copy_list([&second, &first], 0, 65536, 8)).await, GOOD, "it may read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_a_running_list_identifier_is_refused_and_forgotten_with_the_session() {
    let world = two_volumes().await;
    let (a, b) = both(&world, 1).await;
    fill(&a).await;
    let list = copy_list([&naa(&a).await, &naa(&b).await], 0, 0, 8);
    world.backend.hold_data();
    let running = start(&a, list.clone()).await;
    world.backend.holds(1).await;
    assert_eq!(copy(&a, list).await, (2, 5, 0x00, 0x16), "OPERATION IN PROGRESS");
    assert_eq!(results(&a, 0).await[4], 0, "in progress");
    world.backend.lift();
    assert_eq!(answer(running).await, Ok(GOOD));
    assert_eq!(results(&a, 0).await[4], 1);
    a.session.logout().await.unwrap();
    let a = world.login(1, 1).await;
    assert_eq!(results(&a, 0).await, [] as [u8; 0]);
}
