//! Nodes: where they stand and what they serve, and what keeps their file service running.

mod world;

use control::{
    Caller, Control, EventFilter, NodeUpgrade, NodeVolumeFilter, Paging, ReferenceCreate,
    VolumeCreate, VolumeSource,
};
use model::id::OperationId;
use model::order::{ImageFormat, Mode, OrderError};
use model::reference::ReferenceKind;
use model::user::Role;
use model::volume::VolumeKind;
use world::{World, attach, code, eventually, open, volume, world};

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
    let World { control, node, admin, dir, .. } = w;
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

async fn ended(w: &World, id: &str) -> model::operation::Operation {
    eventually("the operation ends", async || {
        let now = w.control.operation_get(&w.admin, id).await.ok()?;
        now.state.is_final().then_some(now)
    })
    .await
}

async fn events_of(w: &World, action: &str) -> Vec<(String, String)> {
    let filter = EventFilter { action: Some(action.to_owned()), ..EventFilter::default() };
    let page = w.control.event_list(&w.admin, &filter).await.expect("a list");
    page.items.into_iter().map(|one| (one.result.word().to_owned(), one.detail)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_service_in_use_is_restarted_by_force_alone_and_the_refusal_names_every_use() {
    let w = world().await;
    let tree = file_volume(&w, &w.admin, "tree").await;
    let other = w.member_of("other", Role::Member).await;
    file_volume(&w, &other, "theirs").await;
    refer(&w.control, &w.admin, "tree", "/srv").await;
    refer(&w.control, &other, "theirs", "/their srv").await;
    w.node.connect(tree.id, "10.0.0.1");
    let error = w.control.node_restart(&w.admin, NODE, false).await.unwrap_err();
    let says = error.to_string();
    assert_eq!((error.code(), error.kind()), ("node_referenced", control::ErrorKind::Conflict));
    assert!(says.contains("'default/tree' by mount '/srv'"), "{says}");
    assert!(says.contains("'other/theirs' by mount '/their srv'"), "{says}");
    assert!(says.contains("1 clients are connected") && says.contains("restarted"), "{says}");
    assert_eq!(w.node.sent("RestartFiles"), 0);
    let asked = w.control.node_restart(&w.admin, NODE, true).await.unwrap();
    let done = ended(&w, &asked.id.to_string()).await;
    assert_eq!(done.state.word(), "succeeded");
    assert_eq!((done.subject.node().is_some(), done.project), (true, None));
    let [done, accepted] = &events_of(&w, "node.restart").await[..] else { panic!("two events") };
    assert_eq!((accepted.0.as_str(), done.0.as_str()), ("accepted", "done"));
    assert!(accepted.1.contains("forced, past 2 references"), "{}", accepted.1);
    // Work of nodes is not shown to others.
    let id = asked.id.to_string();
    assert_eq!(code(w.control.operation_get(&other, &id).await), "operation_not_found");
    assert_eq!(code(w.control.operation_cancel(&w.admin, &id).await), "operation_finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_that_is_asked_for_twice_or_whose_word_got_lost_is_one() {
    let w = world().await;
    w.node.stall("RestartFiles");
    let first = w.control.node_restart(&w.admin, NODE, false).await.unwrap();
    let second = w.control.node_restart(&w.admin, NODE, false).await.unwrap();
    assert_eq!(first.id, second.id);
    let id = first.id.to_string();
    assert_eq!(code(w.control.operation_cancel(&w.admin, &id).await), "operation_not_cancellable");
    w.node.release("RestartFiles");
    assert_eq!(ended(&w, &id).await.state.word(), "succeeded");
    let boot = |view: control::NodeView| view.report.unwrap().files.unwrap().boot;
    assert_eq!(boot(w.control.node_get(&w.admin, NODE).await.unwrap()), 1);
    let unreachable = OrderError::Unreachable { why: "the word got lost".to_owned() };
    w.node.fail("RestartFiles", unreachable);
    let third = w.control.node_restart(&w.admin, NODE, false).await.unwrap();
    eventually("it was tried", async || (w.node.sent("RestartFiles") > 1).then_some(())).await;
    w.node.heal("RestartFiles");
    assert_eq!(ended(&w, &third.id.to_string()).await.state.word(), "succeeded");
    assert_eq!(boot(w.control.node_get(&w.admin, NODE).await.unwrap()), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_that_the_node_refuses_fails_and_says_why() {
    let w = world().await;
    w.node.fail("RestartFiles", OrderError::Refused { why: "not today".to_owned() });
    let asked = w.control.node_restart(&w.admin, NODE, false).await.unwrap();
    let failed = ended(&w, &asked.id.to_string()).await;
    assert_eq!(failed.state.word(), "failed");
    assert!(failed.fault.unwrap().contains("not today"));
    let events = events_of(&w, "node.restart").await;
    assert!(events[0].0 == "failed" && events[0].1.contains("not today"), "{events:?}");
    let member = w.member_of("other", Role::Member).await;
    assert_eq!(code(w.control.node_restart(&member, NODE, true).await), "forbidden");
    assert_eq!(code(w.control.node_restart(&w.admin, "nope", true).await), "node_not_found");
}

fn binary(path: &str, force: bool) -> NodeUpgrade {
    NodeUpgrade { binary: Some(path.to_owned()), force }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_binary_that_is_older_or_lies_in_a_pool_is_refused_and_nothing_stops() {
    let w = world().await;
    let upgrade = async |how: NodeUpgrade| w.control.node_upgrade(&w.admin, NODE, how).await;
    let why = upgrade(binary("/tmp/garbage", true)).await.unwrap_err();
    assert_eq!((why.code(), why.kind()), ("binary_unfit", control::ErrorKind::Conflict));
    assert_eq!(code(upgrade(binary("/pools/file/x/bin", true)).await), "binary_unfit");
    assert_eq!(code(upgrade(binary("relative", true)).await), "invalid_value");
    w.node.lay_ready("1.2.2");
    let why = upgrade(NodeUpgrade::default()).await.unwrap_err().to_string();
    assert!(why.contains("1.2.2") && why.contains("older than 1.2.3"), "{why}");
    let member = w.member_of("other", Role::Member).await;
    assert_eq!(code(w.control.node_upgrade(&member, NODE, binary("/b", true)).await), "forbidden");
    let nope = w.control.node_upgrade(&w.admin, "nope", binary("/b", true)).await;
    assert_eq!(code(nope), "node_not_found");
    file_volume(&w, &w.admin, "tree").await;
    refer(&w.control, &w.admin, "tree", "/srv").await;
    w.node.lay_ready("1.3.0");
    assert_eq!(code(upgrade(NodeUpgrade::default()).await), "node_referenced");
    assert_eq!(w.node.upgrades(), []);
    w.node.lay_ready("1.2.2");
    let forced = upgrade(binary("/opt/old", true)).await.unwrap();
    assert_eq!(w.node.upgrades(), [(forced.id, "/opt/old".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upgrade_does_not_keep_the_api_away_while_an_image_is_read_for_hours() {
    let w = world().await;
    w.node.stall("work");
    let source = VolumeSource::Image { path: "disk.raw".into(), format: ImageFormat::Raw };
    let new = VolumeCreate { source, ..volume("big", 2, "ssd") };
    let import = w.control.volume_create(&w.admin, new).await.unwrap().operation.unwrap();
    let why = w.control.node_upgrade(&w.admin, NODE, NodeUpgrade::default()).await.unwrap_err();
    assert_eq!((why.code(), why.kind()), ("node_busy", control::ErrorKind::Conflict));
    let says = why.to_string();
    assert!(says.contains(&format!("import_image of volume 'big' ({import})")), "{says}");
    assert_eq!(w.node.upgrades(), []);
    let asked = w.control.node_upgrade(&w.admin, NODE, binary("/opt/new", true)).await.unwrap();
    let cancelled = w.control.operation_get(&w.admin, &import.to_string()).await.unwrap();
    assert_eq!(cancelled.state.word(), "cancelled");
    assert_eq!(w.node.upgrades(), [(asked.id, "/opt/new".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_for_another_binary_is_not_answered_with_the_upgrade_to_the_first() {
    let w = world().await;
    let upgrade = async |path: &str, force: bool| {
        w.control.node_upgrade(&w.admin, NODE, binary(path, force)).await
    };
    let first = upgrade("/opt/one", false).await.unwrap();
    assert_eq!(upgrade("/opt/one", false).await.unwrap().id, first.id);
    for force in [false, true] {
        let why = upgrade("/opt/two", force).await.unwrap_err();
        assert_eq!(why.code(), "node_busy");
        assert!(why.to_string().contains("upgrade_node to '/opt/one'"), "{why}");
    }
    assert_eq!(w.node.upgrades().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upgrade_that_the_node_does_not_take_has_failed() {
    let w = world().await;
    w.node.fail("Upgrade", OrderError::Unreachable { why: "the daemon stops".to_owned() });
    let asked = w.control.node_upgrade(&w.admin, NODE, NodeUpgrade::default()).await.unwrap();
    assert_eq!(asked.state.word(), "failed");
    assert!(asked.fault.unwrap().contains("the daemon stops"));
    assert_eq!(events_of(&w, "node.upgrade").await[0].0, "failed");
}

/// How an upgrade has ended by the next start, which came in this way.
async fn upgraded(
    to: &str,
    by: impl FnOnce(OperationId) -> Option<(OperationId, Option<String>)>,
) -> (String, String) {
    let w = world().await;
    w.node.lay_ready(to);
    let how = NodeUpgrade { force: true, ..NodeUpgrade::default() };
    let asked = w.control.node_upgrade(&w.admin, NODE, how).await.expect("asked");
    let World { control, node, admin, dir, .. } = w;
    control.end_steps().await;
    control.close().await;
    let (control, _) = open(dir.path(), &node).await;
    control.upgraded(by(asked.id)).await.expect("noted");
    control.upgraded(None).await.expect("noted once");
    let now = control.operation_get(&admin, &asked.id.to_string()).await.expect("it is there");
    (now.state.word().to_owned(), now.fault.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_next_start_says_how_an_upgrade_has_ended() {
    let done = ("succeeded".to_owned(), String::new());
    // The fake node goes on as 1.2.3.
    assert_eq!(upgraded("1.2.4", |id| Some((id, None))).await, done);
    let (state, fault) = upgraded("1.2.4", |id| Some((id, Some("it is gone".to_owned())))).await;
    assert!(state == "failed" && fault.contains("it is gone"), "{fault}");
    for to in ["1.2.3", "1.2.4"] {
        let (state, fault) = upgraded(to, |_| None).await;
        assert!(state == "failed" && fault.contains("started otherwise"), "{to}: {fault}");
    }
    // Who put the binary there has restarted the daemon.
    let other = OperationId(uuid::Uuid::nil());
    let (state, _) = upgraded("1.2.4", |_| Some((other, None))).await;
    assert_eq!(state, "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_evacuation_says_that_there_is_nowhere_to_go_and_how_many_volumes_stay() {
    let w = world().await;
    let evacuate = async |force: bool| w.control.node_evacuate(&w.admin, NODE, force).await;
    w.volume(&w.admin, "disk", "ssd").await;
    let begun = evacuate(false).await.unwrap();
    assert_eq!(begun.block_volumes, ["disk"]);
    assert_eq!(ended(&w, &begun.operation.id.to_string()).await.state.word(), "succeeded");
    assert_eq!(events_of(&w, "node.evacuate").await.len(), 2);
    for name in ["tree", "other"] {
        file_volume(&w, &w.admin, name).await;
    }
    let why = evacuate(false).await.unwrap_err();
    assert_eq!((why.code(), why.kind()), ("no_other_node", control::ErrorKind::Conflict));
    let words = "there is no other node that could take the 2 file volumes of node 'n1'";
    assert_eq!(why.to_string(), words);
    refer(&w.control, &w.admin, "tree", "/srv").await;
    assert_eq!(code(evacuate(false).await), "node_referenced");
    assert_eq!(code(evacuate(true).await), "no_other_node");
}
