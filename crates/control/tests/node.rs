//! Nodes: where they stand and what they serve, and what keeps their file service running.

mod world;

use control::{Caller, Control, NodeVolumeFilter, Paging, ReferenceCreate, VolumeCreate};
use model::order::Mode;
use model::reference::ReferenceKind;
use model::user::Role;
use model::volume::VolumeKind;
use world::{World, attach, code, open, volume, world};

/// The name of the only node.
const NODE: &str = "n1";

async fn file_volume(w: &World, caller: &Caller, name: &str) -> model::volume::Volume {
    let new =
        VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume(name, 1, "") };
    let made = w.control.volume_create(caller, new).await.expect("a file volume");
    w.volume_is(caller, &made.volume.id.to_string(), "available").await.volume
}

async fn refer(control: &Control, caller: &Caller, volume: &str, name: &str) {
    let kind = ReferenceKind::Mount;
    let new =
        ReferenceCreate { volume: volume.to_owned(), name: name.to_owned(), kind, project: None };
    control.reference_create(caller, new).await.expect("a reference");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_one_and_the_same_through_its_starts() {
    let w = world().await;
    let first = w.control.node_get(&w.admin, NODE).await.unwrap();
    assert_eq!((first.node.boot, first.node.version.as_str()), (1, "1.2.3"));
    assert_eq!(first.pools.len(), 3);
    assert!(first.pools.iter().all(|pool| pool.node == first.node.id));
    assert_eq!(first.since_ms, first.node.started_ms);
    assert_eq!(first.report.unwrap().block_portals, ["127.0.0.1:3260"]);
    let World { control, node, admin, dir } = w;
    control.end_steps().await;
    control.close().await;
    let (control, _) = open(dir.path(), &node).await;
    let page = control.node_list(&admin, &Paging::default()).await.unwrap();
    let [second] = &page.items[..] else { panic!("one node: {page:?}") };
    assert_eq!((second.node.id, second.node.boot), (first.node.id, 2));
    assert!(second.node.started_ms >= first.node.started_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_does_not_answer_is_offline_since_it_was_last_heard() {
    let w = world().await;
    let heard = w.control.node_get(&w.admin, NODE).await.unwrap();
    assert!(heard.report.is_some());
    w.node.stall("node");
    let away = w.control.node_get(&w.admin, NODE).await.unwrap();
    assert_eq!(away.report, None);
    assert!(away.since_ms >= heard.node.started_ms && away.since_ms <= away.now_ms);
    w.node.release("node");
    assert!(w.control.node_get(&w.admin, NODE).await.unwrap().report.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_volumes_of_a_node_come_with_who_uses_them() {
    let w = world().await;
    let tree = file_volume(&w, &w.admin, "tree").await;
    let disk = w.volume(&w.admin, "disk", "ssd").await.volume;
    let other = w.member_of("other", Role::Member).await;
    let theirs = file_volume(&w, &other, "theirs").await;
    refer(&w.control, &w.admin, "tree", "/srv").await;
    refer(&w.control, &other, "theirs", "/theirs").await;
    for address in ["10.0.0.1", "10.0.0.2"] {
        w.node.connect(tree.id, address);
    }
    w.host(&w.admin, "h").await;
    w.control.attachment_create(&w.admin, attach("disk", &["h"], Mode::ReadWrite)).await.unwrap();
    w.attached(&w.admin, "disk", 1).await;
    let all = NodeVolumeFilter::default();
    let page = w.control.node_volumes(&w.admin, NODE, &all).await.unwrap();
    assert_eq!(page.items.len(), 3);
    let of = |id| page.items.iter().find(|one| one.volume.id == id).unwrap();
    let seen = of(tree.id);
    assert_eq!((seen.clients, seen.attachments), (Some(2), 0));
    assert_eq!(seen.references, ["mount '/srv'"]);
    assert_eq!(seen.resource.as_deref(), Some("nfs://127.0.0.1/default/tree"));
    let seen = of(disk.id);
    assert_eq!((seen.clients, seen.attachments), (None, 1));
    assert!(seen.resource.as_ref().unwrap().starts_with("iqn."));
    assert_eq!((of(theirs.id).clients, of(theirs.id).project_name.as_str()), (Some(0), "other"));
    let one = NodeVolumeFilter { project: Some("other".to_owned()), ..all.clone() };
    let page = w.control.node_volumes(&w.admin, NODE, &one).await.unwrap();
    assert_eq!(page.items.iter().map(|one| one.volume.id).collect::<Vec<_>>(), [theirs.id]);
    let node = w.control.node_get(&w.admin, NODE).await.unwrap();
    assert_eq!((node.block_volumes, node.file_volumes), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_are_the_operators_alone() {
    let w = world().await;
    let member = w.member_of("other", Role::Member).await;
    let filter = NodeVolumeFilter::default();
    assert_eq!(code(w.control.node_list(&member, &Paging::default()).await), "forbidden");
    assert_eq!(code(w.control.node_get(&member, NODE).await), "forbidden");
    assert_eq!(code(w.control.node_volumes(&member, NODE, &filter).await), "forbidden");
    assert_eq!(code(w.control.node_get(&w.admin, "nope").await), "node_not_found");
    assert_eq!(code(w.control.node_volumes(&w.admin, "nope", &filter).await), "node_not_found");
}
