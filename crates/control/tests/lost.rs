//! Volumes whose node is gone for good: given up by the operator's word, and never served again.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use control::{EventFilter, NodeUpdate, ReferenceCreate, SnapshotCreate, VolumeDelete, VolumeView};
use model::id::VolumeId;
use model::order::{Mode, OrderError};
use model::reference::ReferenceKind;
use model::size::ByteSize;
use model::user::Role;
use world::fake_node::FakeNode;
use world::second::{ADDRESS, file, fill, second, with_second};
use world::{World, attach, code, eventually, open_with, world};

const LOST: VolumeDelete = VolumeDelete { cascade: false, force: false, lost: true };
const PAST_ALL: VolumeDelete = VolumeDelete { cascade: true, force: true, lost: true };

/// On the second node: a block volume that a host has, and a file volume that is used.
async fn used(w: &World) -> (Arc<FakeNode>, VolumeView, VolumeId) {
    let node = with_second(w).await;
    fill(&w.node);
    let far = w.volume(&w.admin, "far", "ssd").await;
    w.host(&w.admin, "h").await;
    w.control.attachment_create(&w.admin, attach("far", &["h"], Mode::ReadWrite)).await.unwrap();
    w.attached(&w.admin, "far", 1).await;
    let made = w.control.volume_create(&w.admin, file("tree")).await.unwrap();
    let tree = w.volume_is(&w.admin, &made.volume.id.to_string(), "available").await;
    (node, far, tree.volume.id)
}

async fn events(w: &World, action: &str) -> usize {
    let filter = EventFilter { action: Some(action.to_owned()), ..EventFilter::default() };
    w.control.event_list(&w.admin, &filter).await.unwrap().items.len()
}

async fn give_up(w: &World, volume: &str, how: VolumeDelete) -> Result<(), &'static str> {
    w.control.volume_delete(&w.admin, volume, how).await.map(drop).map_err(|error| {
        assert!(!error.hint().is_empty());
        error.code()
    })
}

/// The second node is away, and it, its pools and its volumes are forgotten.
async fn forget(w: &World, node: &FakeNode) {
    node.go_away();
    for volume in ["far", "tree"] {
        give_up(w, volume, PAST_ALL).await.unwrap();
    }
    for pool in ["second-ssd", "second-file"] {
        w.control.pool_delete(&w.admin, pool, true).await.unwrap();
    }
    w.control.node_delete(&w.admin, "n2", true).await.unwrap();
}

/// What a node that came back must be: nobody reaches the volumes, and they are all there.
async fn serves_nobody(node: &FakeNode, tree: VolumeId) {
    eventually("served to nobody", async || {
        (node.let_in() == 0 && node.terms(tree).is_none()).then_some(())
    })
    .await;
    assert_eq!((node.volumes(), node.sent("DeleteVolume")), (2, 0), "nothing is erased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_is_given_up_only_while_its_node_is_away_and_past_its_users_only_by_force() {
    let w = world().await;
    let (node, far, tree) = used(&w).await;
    let reference = ReferenceCreate {
        volume: "tree".to_owned(),
        name: "web".to_owned(),
        kind: ReferenceKind::Container,
        project: None,
    };
    w.control.reference_create(&w.admin, reference).await.unwrap();
    let snapshot = SnapshotCreate {
        volume: "far".to_owned(),
        name: "s".to_owned(),
        ..SnapshotCreate::default()
    };
    w.control.snapshot_create(&w.admin, snapshot).await.unwrap();
    assert_eq!(give_up(&w, "far", PAST_ALL).await, Err("node_answers"));
    node.go_away();
    let member = w.member_of("default", Role::Member).await;
    let refused = w.control.volume_delete(&member, "far", PAST_ALL).await;
    assert_eq!(code(refused), "forbidden");
    assert_eq!(give_up(&w, "far", LOST).await, Err("volume_in_use"));
    assert_eq!(give_up(&w, "tree", LOST).await, Err("volume_referenced"));
    let no_cascade = VolumeDelete { cascade: false, ..PAST_ALL };
    assert_eq!(give_up(&w, "far", no_cascade).await, Err("volume_has_dependents"));
    assert_eq!(events(&w, "volume.lost").await, 0);
    assert_eq!(code(w.control.pool_delete(&w.admin, "second-ssd", true).await), "in_use");
    for volume in ["far", "tree"] {
        assert_eq!(give_up(&w, volume, PAST_ALL).await, Ok(()));
        assert_eq!(give_up(&w, volume, PAST_ALL).await, Err("volume_not_found"));
    }
    assert_eq!((events(&w, "volume.lost").await, events(&w, "attachment.lost").await), (2, 1));
    // Who used it keeps the name, for the volume that comes of a backup.
    let left = w.control.reference_list(&w.admin, &Default::default()).await.unwrap().items;
    assert_eq!((left.len(), left[0].reference.volume), (1, None));
    let shown = w.control.volume_get(&w.admin, &far.volume.id.to_string()).await;
    assert_eq!(code(shown), "volume_not_found");
    // Now pools and node can be forgotten. The node goes on with its last orders, being away.
    for pool in ["second-ssd", "second-file"] {
        w.control.pool_delete(&w.admin, pool, true).await.unwrap();
    }
    assert_eq!(code(w.control.node_delete(&w.admin, "n2", false).await), "node_unreachable");
    w.control.node_delete(&w.admin, "n2", true).await.unwrap();
    assert_eq!(code(w.control.node_get(&w.admin, "n2").await), "node_not_found");
    assert!(node.let_in() == 1 && node.terms(tree).is_some() && w.doors.is_adopted(ADDRESS));
    // Others do not wait for it to say how full its pools are.
    w.node.set_space(ByteSize::gib(1 << 20), ByteSize(0));
    node.stall("usage");
    node.come_back();
    let begun = std::time::Instant::now();
    w.volume(&w.admin, "near", "ssd").await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    serves_nobody(&node, tree).await;
    eventually("let go", async || (!w.doors.is_adopted(ADDRESS)).then_some(())).await;
    eventually("both are told of", async || {
        (events(&w, "volume.lost_found").await == 2).then_some(())
    })
    .await;
    node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_comes_back_is_told_and_its_pool_says_what_is_left_in_it() {
    let w = world().await;
    let (node, far, tree) = used(&w).await;
    node.go_away();
    for volume in ["far", "tree"] {
        give_up(&w, volume, PAST_ALL).await.unwrap();
    }
    // An order that fails is sent until it is done.
    let refused = OrderError::Failed { why: "its disk is full".to_owned() };
    node.fail("Fence", refused);
    node.restart();
    node.come_back();
    eventually("tried", async || (node.sent("Fence") > 0).then_some(())).await;
    assert!(node.size_of(far.volume.id).is_some());
    node.heal("Fence");
    let more = NodeUpdate { takes_volumes: Some(false), ..NodeUpdate::default() };
    w.control.node_update(&w.admin, "n2", more).await.unwrap();
    // A node that is asked to go hears first what it has to be.
    let error = w.control.pool_delete(&w.admin, "second-ssd", false).await.unwrap_err();
    assert!(error.to_string().contains("what is left of the lost volumes 'far'"), "{error}");
    for pool in ["second-ssd", "second-file"] {
        w.control.pool_delete(&w.admin, pool, true).await.unwrap();
    }
    w.control.node_delete(&w.admin, "n2", false).await.unwrap();
    serves_nobody(&node, tree).await;
    assert!(!w.doors.is_adopted(ADDRESS));
    assert_eq!(events(&w, "volume.lost_found").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_given_up_is_remembered_through_a_restart_of_the_control_plane() {
    let w = world().await;
    let (node, _, tree) = used(&w).await;
    forget(&w, &node).await;
    w.control.end_steps().await;
    w.control.close().await;
    let (control, _) = open_with(w.dir.path(), Some(&w.node), &w.doors).await;
    control.start();
    assert!(node.let_in() == 1 && node.terms(tree).is_some());
    node.come_back();
    serves_nobody(&node, tree).await;
    eventually("let go", async || (!w.doors.is_adopted(ADDRESS)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forgotten_node_that_is_made_known_again_elsewhere_is_told_there() {
    const ELSEWHERE: &str = "http://192.0.2.9:7701";
    let w = world().await;
    let (node, _, tree) = used(&w).await;
    forget(&w, &node).await;
    // At its old address it is never found again.
    w.doors.move_to(ADDRESS, ELSEWHERE);
    let unheard = w.doors.put(ADDRESS, "another");
    unheard.go_away();
    node.come_back();
    w.control.node_create(&w.admin, second(ELSEWHERE)).await.unwrap();
    serves_nobody(&node, tree).await;
    assert!(w.doors.is_adopted(ELSEWHERE), "it is a node of this control plane again");
    eventually("both are told of", async || {
        (events(&w, "volume.lost_found").await == 2).then_some(())
    })
    .await;
    w.control.node_delete(&w.admin, "n2", false).await.unwrap();
}
