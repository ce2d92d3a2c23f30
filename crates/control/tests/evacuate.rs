//! Evacuation: every file volume of a node goes to another one, and each is served in one place.

mod world;

use std::sync::Arc;
use std::time::Duration;

use control::{
    Caller, Control, NodeCreate, PoolCreate, ReferenceCreate, SnapshotCreate, VolumeCreate,
};
use model::id::VolumeId;
use model::operation::Operation;
use model::order::{IoMode, OrderError};
use model::pool::{Driver, PoolState};
use model::reference::ReferenceKind;
use model::volume::{VolumeKind, VolumeStatus};
use world::fake_doors::SECRET;
use world::fake_node::{FakeNode, Served};
use world::{CASCADE, World, code, eventually, open_with, volume, world};

const ADDRESS: &str = "http://192.0.2.2:7701";

/// A world with a second node, which has a pool for file volumes that is called `second`.
async fn two() -> (World, Arc<FakeNode>) {
    let w = world().await;
    let served = Served::default();
    w.node.share(&served);
    let node = second(&w, &served).await;
    (w, node)
}

async fn second(w: &World, served: &Served) -> Arc<FakeNode> {
    let node = w.doors.put(ADDRESS, "n2");
    node.share(served);
    add_pool(w, "n2", ADDRESS, "second").await;
    node
}

/// Make the node at the address known, with a pool for file volumes.
async fn add_pool(w: &World, node: &str, address: &str, name: &str) {
    let new = NodeCreate {
        name: node.to_owned(),
        address: address.to_owned(),
        secret: SECRET.to_owned(),
    };
    w.control.node_create(&w.admin, new).await.expect("a node");
    let pool = PoolCreate {
        name: name.to_owned(),
        class: "file".to_owned(),
        node: Some(node.to_owned()),
        path: "/pools/file".to_owned(),
        driver: Driver::Dir,
        io: IoMode::Cached,
        capacity: None,
    };
    w.control.pool_create(&w.admin, pool).await.expect("a pool");
    eventually("the pool is online", async || {
        let pool = w.control.pool_get(&w.admin, name).await.ok()?;
        (pool.state == PoolState::Online).then_some(())
    })
    .await;
}

/// A file volume on the first node, whatever room there is.
async fn tree(w: &World, other: &FakeNode, name: &str, content: u64) -> VolumeId {
    other.set_space(model::size::ByteSize::gib(9), model::size::ByteSize::gib(9));
    let new =
        VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume(name, 1, "") };
    let made = w.control.volume_create(&w.admin, new).await.expect("a file volume");
    let id = made.volume.id;
    w.volume_is(&w.admin, &id.to_string(), "available").await;
    w.node.plant(id, content);
    other.set_space(model::size::ByteSize::gib(900), model::size::ByteSize(0));
    id
}

async fn ended(control: &Control, caller: &Caller, id: &str) -> Operation {
    eventually("the operation ends", async || {
        let now = control.operation_get(caller, id).await.ok()?;
        now.state.is_final().then_some(now)
    })
    .await
}

async fn evacuate(w: &World, force: bool) -> Operation {
    let begun = w.control.node_evacuate(&w.admin, "n1", force).await.expect("it begins");
    ended(&w.control, &w.admin, &begun.operation.id.to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_file_volume_goes_and_block_volumes_stay_and_are_named() {
    let (w, node) = two().await;
    let (a, b) = (tree(&w, &node, "aa", 7).await, tree(&w, &node, "bb", 8).await);
    let disk = w.volume(&w.admin, "disk", "ssd").await.volume;
    let new = SnapshotCreate { volume: "aa".to_owned(), name: "ss".to_owned(), ..<_>::default() };
    w.control.snapshot_create(&w.admin, new).await.unwrap();
    eventually("a snapshot", async || (w.node.snapshots() == 1).then_some(())).await;
    eventually("noted", async || {
        let page = w.control.snapshot_list(&w.admin, &Default::default()).await.ok()?;
        (page.items[0].snapshot.state.word() == "available").then_some(())
    })
    .await;
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    assert_eq!(begun.block_volumes, ["disk"]);
    // Asked again, it is the same one.
    let again = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    assert_eq!(again.operation.id, begun.operation.id);
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!((done.state.word(), &done.fault), ("succeeded", &None));
    let progress = done.progress.unwrap();
    assert_eq!(progress.done, progress.total);
    for (id, content) in [(a, 7), (b, 8)] {
        let view = w.control.volume_get(&w.admin, &id.to_string()).await.unwrap();
        assert_eq!((view.pool_name.as_str(), view.volume.status.word()), ("second", "available"));
        assert!(view.volume.placed.contains("'n1', which was evacuated"), "{}", view.volume.placed);
        assert!(view.file.unwrap().resources[0].contains("127.0.0.2"));
        assert_eq!((node.tree(id), w.node.tree(id)), (Some(content), None));
        assert!(node.terms(id).is_some() && w.node.terms(id).is_none());
        assert_eq!(view.volume.left_in, []);
    }
    assert_eq!((node.snapshots(), w.node.snapshots()), (1, 0));
    assert_eq!(w.node.volumes(), 1);
    assert!(w.node.size_of(disk.id).is_some());
    assert!(!w.control.node_get(&w.admin, "n1").await.unwrap().node.takes_volumes);
    // What comes next is placed elsewhere, and what moved can be used and deleted.
    let error = w.control.volume_create(&w.admin, volume("more", 1, "ssd")).await;
    assert_eq!(code(error), "unplaceable");
    w.control.volume_delete(&w.admin, "aa", CASCADE).await.unwrap();
    w.volume_gone(&w.admin, "aa").await;
    for node in [&w.node, &node] {
        node.assert_was_asked_nothing_wrong();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_uses_a_volume_is_named_and_only_force_goes_past() {
    let (w, node) = two().await;
    let a = tree(&w, &node, "aa", 7).await;
    let kind = ReferenceKind::Mount;
    let new =
        ReferenceCreate { volume: "aa".to_owned(), name: "/srv".to_owned(), kind, project: None };
    w.control.reference_create(&w.admin, new).await.unwrap();
    let error = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap_err();
    assert_eq!(error.code(), "node_referenced");
    assert!(error.to_string().contains("'default/aa' by mount '/srv'"), "{error}");
    w.control.reference_delete(&w.admin, "/srv").await.unwrap();
    w.node.connect(a, "10.0.0.1");
    let error = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap_err();
    assert_eq!(error.code(), "clients_connected");
    assert!(error.to_string().contains("'aa' by 1"), "{error}");
    assert_eq!(w.node.sent("Hold"), 0);
    let done = evacuate(&w, true).await;
    assert_eq!((done.state.word(), node.tree(a)), ("succeeded", Some(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_that_cannot_move_is_served_where_it_was_and_the_operation_says_why() {
    let (w, node) = two().await;
    let (a, b) = (tree(&w, &node, "aa", 7).await, tree(&w, &node, "bb", 8).await);
    for (order, why) in [
        (
            "Receive",
            OrderError::NoSpace {
                needed: model::size::ByteSize(2),
                free: model::size::ByteSize(1),
            },
        ),
        ("Receive", OrderError::Unreachable { why: "it is gone".to_owned() }),
        ("Receive", OrderError::Failed { why: "its disk is broken".to_owned() }),
    ] {
        let reason = why.to_string();
        node.fail(order, why);
        let done = evacuate(&w, false).await;
        let fault = done.fault.unwrap();
        assert_eq!(done.state.word(), "failed");
        assert!(fault.contains("2 file volumes stay") && fault.contains(&reason), "{fault}");
        for id in [a, b] {
            eventually("it is served again", async || w.node.terms(id)).await;
            assert!(node.terms(id).is_none() && node.tree(id).is_none());
        }
        node.heal(order);
    }
    // The source breaks off: its own reason is told.
    w.node.fail("CarryBreaks", OrderError::Cancelled);
    let fault = evacuate(&w, false).await.fault.unwrap();
    assert!(fault.contains("a disk cannot be read"), "{fault}");
    w.node.heal("CarryBreaks");
    let left = async || {
        let view = w.control.volume_get(&w.admin, "aa").await.ok()?;
        view.volume.left_in.is_empty().then_some(())
    };
    eventually("nothing is left over", left).await;
    assert_eq!(evacuate(&w, false).await.state.word(), "succeeded");
    assert_eq!((node.tree(a), node.tree(b)), (Some(7), Some(8)));
    for node in [&w.node, &node] {
        node.assert_was_asked_nothing_wrong();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_goes_where_it_has_no_place() {
    let (w, node) = two().await;
    let a = tree(&w, &node, "aa", 7).await;
    node.set_space(model::size::ByteSize::gib(9), model::size::ByteSize::gib(9));
    let done = evacuate(&w, false).await;
    let fault = done.fault.unwrap();
    assert!(fault.contains("'aa': no pool of class 'file' has 1 GiB free"), "{fault}");
    assert_eq!((w.node.sent("Hold"), w.node.tree(a)), (0, Some(7)));
    assert!(w.node.terms(a).is_some());
    let w = world().await;
    assert!(w.control.node_evacuate(&w.admin, "n1", false).await.is_ok(), "it is empty");
    let new =
        VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume("vv", 1, "") };
    let change = control::NodeUpdate { takes_volumes: Some(true), address: None };
    w.control.node_update(&w.admin, "n1", change).await.unwrap();
    let made = w.control.volume_create(&w.admin, new).await.unwrap();
    w.volume_is(&w.admin, &made.volume.id.to_string(), "available").await;
    assert_eq!(code(w.control.node_evacuate(&w.admin, "n1", true).await), "no_other_node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_it_ends_behind_the_volume_that_is_on_its_way() {
    let (w, node) = two().await;
    let ids = [tree(&w, &node, "aa", 7).await, tree(&w, &node, "bb", 8).await];
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    let id = begun.operation.id.to_string();
    eventually("one is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    let moving = async |name: &str| {
        let view = w.control.volume_get(&w.admin, name).await.expect("it is there");
        matches!(view.volume.status, VolumeStatus::Moving { .. })
    };
    assert!(moving("aa").await ^ moving("bb").await, "one after the other");
    let busy = if moving("aa").await { "aa" } else { "bb" };
    assert_eq!(code(w.control.volume_delete(&w.admin, busy, CASCADE).await), "volume_busy");
    w.control.operation_cancel(&w.admin, &id).await.unwrap();
    node.release("Receive");
    assert_eq!(ended(&w.control, &w.admin, &id).await.state.word(), "cancelled");
    let moved = ids.iter().filter(|id| node.tree(**id).is_some()).count();
    assert_eq!(moved, 1);
}

/// The first snapshot that there is, when it is there.
async fn snapshot(w: &World, volume: &str, name: &str) {
    let (volume, name) = (volume.to_owned(), name.to_owned());
    let new = SnapshotCreate { volume, name, ..<_>::default() };
    w.control.snapshot_create(&w.admin, new).await.expect("it is taken");
    eventually("a snapshot", async || {
        let page = w.control.snapshot_list(&w.admin, &Default::default()).await.ok()?;
        (page.items[0].snapshot.state.word() == "available").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_was_deleted_while_its_volume_moved_came_back() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    snapshot(&w, "aa", "ss").await;
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    w.control.snapshot_delete(&w.admin, "ss").await.unwrap();
    // Nor can what it goes to be taken away under it, or a clone be made of what is in two places.
    assert_eq!(code(w.control.pool_delete(&w.admin, "second", false).await), "in_use");
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.release("Receive");
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!(done.state.word(), "succeeded");
    eventually("the snapshot is gone", async || {
        (node.snapshots() == 0 && w.node.snapshots() == 0).then_some(())
    })
    .await;
    assert_eq!(node.tree(id), Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_whose_move_found_its_node_gone_stayed_moving_for_ever() {
    let (w, node) = two().await;
    tree(&w, &node, "aa", 7).await;
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    let World { doors, control, node: source, admin, dir } = w;
    control.close().await;
    drop(control);
    let away = || OrderError::Unreachable { why: "it is gone".to_owned() };
    for order in ["OpenPool", "Hold", "Carry"] {
        source.fail(order, away());
    }
    source.restart();
    let (control, _) = open_with(dir.path(), Some(&source), &doors).await;
    control.start();
    node.release("Receive");
    let done = ended(&control, &admin, &begun.operation.id.to_string()).await;
    assert_eq!(done.state.word(), "failed");
    let view = control.volume_get(&admin, "aa").await.unwrap();
    assert_eq!(view.volume.status.word(), "available");
    for order in ["OpenPool", "Hold", "Carry"] {
        source.heal(order);
    }
    eventually("served where it was", async || source.terms(view.volume.id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_that_a_volume_was_moving_to_was_given_up_under_it() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    for force in [false, true] {
        assert_eq!(code(w.control.pool_delete(&w.admin, "second", force).await), "in_use");
    }
    node.release("Receive");
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!(done.state.word(), "succeeded");
    assert_eq!((node.tree(id), node.sent("ClosePool")), (Some(7), 0));
    assert!(node.terms(id).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clone_that_was_being_made_lost_the_volume_that_it_came_from() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    snapshot(&w, "aa", "ss").await;
    let clone = |name: &str| VolumeCreate {
        kind: Some(VolumeKind::File),
        volume_type: None,
        source: control::VolumeSource::Snapshot("ss".to_owned()),
        ..volume(name, 1, "")
    };
    // One that is being made keeps its source where it is.
    w.node.stall("CreateVolume");
    w.control.volume_create(&w.admin, clone("cc")).await.expect("a clone is begun");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    let fault = done.fault.unwrap();
    assert!(fault.contains("'aa': a clone of it is being made"), "{fault}");
    assert_eq!((w.node.sent("Hold"), w.node.tree(id)), (0, Some(7)));
    w.node.release("CreateVolume");
    w.volume_is(&w.admin, "cc", "available").await;
    // And of one that is on its way none is made.
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("one is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    let aa = w.control.volume_get(&w.admin, "aa").await.unwrap().volume;
    assert_eq!(aa.status.word(), "moving");
    assert_eq!(code(w.control.volume_create(&w.admin, clone("dd")).await), "volume_busy");
    node.release("Receive");
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!((done.state.word(), node.tree(id)), ("succeeded", Some(7)));
    for node in [&w.node, &node] {
        node.assert_was_asked_nothing_wrong();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_that_had_sent_nothing_left_its_destination_to_be_cleared() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    w.node.fail("Hold", OrderError::Refused { why: "not now".to_owned() });
    let done = evacuate(&w, false).await;
    assert!(done.fault.unwrap().contains("not now"));
    let view = w.control.volume_get(&w.admin, "aa").await.unwrap();
    assert_eq!((view.volume.left_in, view.volume.fault), (vec![], None));
    w.node.heal("Hold");
    eventually("it is served", async || w.node.terms(id)).await;
    assert_eq!(evacuate(&w, false).await.state.word(), "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_left_in_one_pool_stayed_because_another_pool_was_away() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    let third = w.doors.put("http://192.0.2.3:7701", "n3");
    add_pool(&w, "n3", "http://192.0.2.3:7701", "third").await;
    third.set_space(model::size::ByteSize::gib(9), model::size::ByteSize::gib(9));
    // What comes to `second` breaks off there, and cannot be deleted: it is away.
    node.fail("Receive", OrderError::Failed { why: "its disk is broken".to_owned() });
    node.fail("DeleteVolume", OrderError::Unreachable { why: "it is away".to_owned() });
    assert_eq!(evacuate(&w, false).await.state.word(), "failed");
    let view = w.control.volume_get(&w.admin, "aa").await.unwrap();
    assert_eq!(view.volume.left_in.len(), 1);
    node.set_space(model::size::ByteSize::gib(9), model::size::ByteSize::gib(9));
    third.set_space(model::size::ByteSize::gib(900), model::size::ByteSize(0));
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!((done.state.word(), third.tree(id), w.node.tree(id)), ("succeeded", Some(7), None));
    let view = w.control.volume_get(&w.admin, "aa").await.unwrap();
    assert_eq!(view.volume.left_in.len(), 1, "what is in `second` waits for it");
    // It is gone for good: it can be forgotten all the same.
    assert_eq!(code(w.control.pool_delete(&w.admin, "second", true).await), "in_use");
    node.stall("node");
    assert_eq!(code(w.control.pool_delete(&w.admin, "second", false).await), "in_use");
    w.control.pool_delete(&w.admin, "second", true).await.expect("it is forgotten");
    let view = w.control.volume_get(&w.admin, "aa").await.unwrap();
    assert_eq!((view.volume.left_in, view.pool_name.as_str()), (vec![], "third"));
    w.control.node_delete(&w.admin, "n2", true).await.expect("and its node");
    // One that holds a volume is not.
    third.stall("node");
    assert_eq!(code(w.control.pool_delete(&w.admin, "third", true).await), "in_use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_left_in_a_pool_that_was_not_mounted_was_taken_for_deleted() {
    let (w, node) = two().await;
    tree(&w, &node, "aa", 7).await;
    let left = async || w.control.volume_get(&w.admin, "aa").await.unwrap().volume.left_in.len();
    node.fail("DeleteVolume", OrderError::Unreachable { why: "it is away".to_owned() });
    assert_eq!(evacuate(&w, false).await.state.word(), "failed");
    node.unmount();
    node.fail("DeleteVolume", OrderError::Missing { what: "the pool".to_owned() });
    let before = node.sent("DeleteVolume");
    eventually("it is tried", async || (node.sent("DeleteVolume") > before + 1).then_some(()))
        .await;
    assert_eq!(left().await, 1);
    node.restart();
    node.heal("DeleteVolume");
    eventually("it is deleted", async || (left().await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_mounted_just_before_the_move_was_cut_off_without_force() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    node.stall("DeleteVolume");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is begun", async || (node.sent("DeleteVolume") > 0).then_some(())).await;
    w.node.connect(id, "10.0.0.1");
    node.release("DeleteVolume");
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert!(done.fault.unwrap().contains("1 clients have mounted it meanwhile"));
    assert_eq!((w.node.sent("Hold"), w.node.connected(id)), (0, 1));
    assert_eq!(evacuate(&w, true).await.state.word(), "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_volumes_moved_at_once_to_a_pool_with_room_for_one() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    node.set_space(model::size::ByteSize::gib(19), model::size::ByteSize::gib(17));
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is on its way", async || (node.sent("Receive") > 0).then_some(())).await;
    // Two GiB are free there, and one is promised to what is on its way.
    let new =
        VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume("bb", 2, "") };
    assert_eq!(code(w.control.volume_create(&w.admin, new).await), "no_space");
    node.release("Receive");
    ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!(node.tree(id), Some(7));
}

/// The next number of a small linear congruential sequence: the same runs every time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// The volume is in one of two places, served there, with its content; nothing is left over.
async fn is_whole(
    control: &Control,
    admin: &Caller,
    (source, target): (&FakeNode, &FakeNode),
    (id, content): (VolumeId, u64),
    has_moved: bool,
) {
    eventually("it is served", async || {
        let view = control.volume_get(admin, &id.to_string()).await.ok()?;
        let at = if view.pool_name == "second" { target } else { source };
        (view.volume.left_in.is_empty() && at.terms(id).is_some()).then_some(())
    })
    .await;
    let (here, there) = (source.tree(id), target.tree(id));
    let all: Vec<u64> = [here, there].into_iter().flatten().collect();
    assert_eq!(all, [content], "{here:?} {there:?}");
    assert!(!has_moved || there == Some(content));
}

/// Take the power away from control plane and nodes at moments of a seed, until the evacuation is
/// through: every volume is in one place, whole, and was never served in two. Gives the number of
/// starts, and whether all have moved.
fn crashed_by(seed: u64) -> (u64, bool) {
    let mut state = seed;
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build().expect("a runtime")
    };
    let first = runtime();
    let (w, node, ids, operation) = first.block_on(async {
        let (w, node) = two().await;
        let mut ids = Vec::new();
        for number in 0..3 {
            let id = tree(&w, &node, &format!("v{number}"), number + 10).await;
            ids.push((id, number + 10));
        }
        if seed.is_multiple_of(2) {
            w.node.lose_first_reports();
            node.lose_first_reports();
        }
        let begun = w.control.node_evacuate(&w.admin, "n1", false).await.expect("it begins");
        (w, node, ids, begun.operation.id.to_string())
    });
    let World { doors, control, node: source, admin, dir } = w;
    let (mut running, mut control) = (first, control);
    let mut starts = 1;
    let done = loop {
        let pause = Duration::from_millis(next(&mut state) % 250);
        let over = running.block_on(async {
            tokio::time::sleep(pause).await;
            let now = control.operation_get(&admin, &operation).await.ok()?;
            now.state.is_final().then_some(now)
        });
        if let Some(over) = over {
            break over;
        }
        running.shutdown_background();
        drop(control);
        match next(&mut state) % 4 {
            0 => source.restart(),
            1 => node.restart(),
            2 => {
                source.restart();
                node.restart();
            }
            _ => {}
        }
        starts += 1;
        assert!(starts < 500, "seed {seed}: it never ends");
        running = runtime();
        control = running.block_on(async {
            let (control, _) = open_with(dir.path(), Some(&source), &doors).await;
            control.start();
            control
        });
    };
    let all_moved = done.state.word() == "succeeded";
    running.block_on(async {
        for (id, content) in ids {
            let at = (&*source, &*node);
            is_whole(&control, &admin, at, (id, content), all_moved).await;
        }
    });
    source.assert_was_asked_nothing_wrong();
    node.assert_was_asked_nothing_wrong();
    running.shutdown_background();
    (starts, all_moved)
}

#[test]
fn crashes_anywhere_end_in_one_whole_copy_that_is_served() {
    let runs: Vec<(u64, bool)> = (1..=12).map(crashed_by).collect();
    let crashed = runs.iter().filter(|(starts, _)| *starts > 1).count();
    assert!(crashed > 6, "the crashes come too late: {runs:?}");
    assert!(runs.iter().any(|(starts, moved)| *starts > 1 && *moved), "none moved: {runs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_came_to_the_new_node_before_its_volume_was_told_that_all_is_stale() {
    let (w, node) = two().await;
    let id = tree(&w, &node, "aa", 7).await;
    // A move that is given up leaves nobody waiting where it would have gone.
    node.fail("Receive", OrderError::Refused { why: "not now".to_owned() });
    assert_eq!(evacuate(&w, false).await.state.word(), "failed");
    assert_eq!(node.sent("Hold"), 1);
    eventually("served where it was", async || w.node.terms(id)).await;
    eventually("nobody waits there", async || (!node.holds(id)).then_some(())).await;
    node.heal("Receive");
    node.stall("Receive");
    let begun = w.control.node_evacuate(&w.admin, "n1", false).await.unwrap();
    eventually("it is on its way", async || (node.sent("Receive") > 1).then_some(())).await;
    assert!(w.node.holds(id) && node.holds(id), "both nodes keep its clients waiting");
    node.release("Receive");
    let done = ended(&w.control, &w.admin, &begun.operation.id.to_string()).await;
    assert_eq!(done.state.word(), "succeeded");
    eventually("served there", async || node.terms(id)).await;
    assert!(!node.holds(id));
    eventually("forgotten here", async || (!w.node.holds(id)).then_some(())).await;
}
