//! File volumes: names, networks, access rules, sizes, and who is in the way of what.

mod world;

use control::{
    AccessRuleGiven, Caller, ExportChange, HostCreate, HostUpdate, NetworkCreate, NetworkUpdate,
    PoolCreate, ProjectUpdate, QuotaChange, SnapshotCreate, SnapshotFilter, SnapshotUpdate,
    VolumeCreate, VolumeDelete, VolumeFilter, VolumeRevert, VolumeSource, VolumeUpdate, VolumeView,
};
use model::export::{Durability, Squash};
use model::order::{IoMode, Mode, OrderError};
use model::pool::Driver;
use model::size::ByteSize;
use model::user::Role;
use model::volume::VolumeKind;
use world::{CASCADE, World, attach, code, eventually, revert, volume, world};

fn file(name: &str, gib: u64) -> VolumeCreate {
    VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume(name, gib, "") }
}

async fn made(w: &World, caller: &Caller, new: VolumeCreate) -> VolumeView {
    let made = w.control.volume_create(caller, new).await.expect("a file volume");
    assert_eq!(made.volume.status.word(), "creating");
    w.volume_is(caller, &made.volume.id.to_string(), "available").await
}

fn rule(client: &str, mode: Mode) -> AccessRuleGiven {
    let (anonymous_uid, anonymous_gid) = (65534, 65534);
    let squash = Squash::Root;
    AccessRuleGiven { client: client.to_owned(), mode, squash, anonymous_uid, anonymous_gid }
}

fn access(rules: &[AccessRuleGiven]) -> ExportChange {
    ExportChange { access: Some(rules.to_vec()), ..ExportChange::default() }
}

async fn network(w: &World, name: &str, clients: &[&str]) {
    let clients = clients.iter().map(|client| (*client).to_owned()).collect();
    let new = NetworkCreate { name: name.to_owned(), clients, ..NetworkCreate::default() };
    w.control.network_create(&w.admin, new).await.expect("a network");
}

/// What the node enforces: clients and mode.
fn enforced(w: &World, view: &VolumeView) -> Vec<String> {
    let terms = w.node.terms(view.volume.id).expect("it is served");
    terms.rules.iter().map(|rule| format!("{} {:?}", rule.clients, rule.mode)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_volume_is_mounted_where_its_view_says() {
    let w = world().await;
    let view = made(&w, &w.admin, file("wp-uploads", 100)).await;
    assert_eq!((view.type_name.as_str(), view.volume.kind()), ("file", VolumeKind::File));
    let shown = w.control.volume_get(&w.admin, "wp-uploads").await.unwrap().file.unwrap();
    assert_eq!(shown.resources, ["nfs://127.0.0.1/default/wp-uploads"]);
    assert_eq!(shown.network_name, "default");
    let usage = shown.usage.unwrap();
    assert_eq!((usage.available_bytes, usage.used_inodes), (100 << 30, 1));
    assert_eq!(enforced(&w, &view), ["127.0.0.1 ReadWrite", "::1 ReadWrite"]);
    let only_files = VolumeFilter { kind: Some(VolumeKind::File), ..VolumeFilter::default() };
    w.volume(&w.admin, "block", "ssd").await;
    let list = w.control.volume_list(&w.admin, &only_files).await.unwrap().items;
    assert_eq!(list.len(), 1);
    let change = VolumeUpdate { name: Some("uploads".into()), ..VolumeUpdate::default() };
    w.control.volume_update(&w.admin, "wp-uploads", change).await.unwrap();
    assert_eq!(w.node.terms(view.volume.id).unwrap().path, "/default/uploads");
    let change = ProjectUpdate { name: Some("the shop".into()), ..ProjectUpdate::default() };
    w.control.project_update(&w.admin, "default", change).await.unwrap();
    let path = format!("/{}/uploads", view.volume.project);
    assert_eq!(w.node.terms(view.volume.id).unwrap().path, path);
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_of_file_volumes_are_plain_and_unique_in_their_project() {
    let w = world().await;
    let other = w.member_of("other", Role::Member).await;
    made(&w, &w.admin, file("data", 1)).await;
    made(&w, &other, file("data", 1)).await;
    w.volume(&w.admin, "data", "ssd").await;
    assert_eq!(code(w.control.volume_create(&other, file("data", 1)).await), "name_taken");
    for bad in ["d", "a/b", ".snapshots", "a b", &"x".repeat(257)] {
        assert_eq!(code(w.control.volume_create(&other, file(bad, 1)).await), "invalid_value");
    }
    made(&w, &other, file("logs", 1)).await;
    let change = VolumeUpdate { name: Some("data".into()), ..VolumeUpdate::default() };
    assert_eq!(code(w.control.volume_update(&other, "logs", change).await), "name_taken");
    // Whoever comes first has the name, and only one does.
    let creates = (0..8).map(|_| {
        let (control, other) = (w.control.clone(), other.clone());
        async move { control.volume_create(&other, file("raced", 1)).await.is_ok() }
    });
    let won = world::race(creates).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_kind_cannot_do_is_refused_with_the_reason() {
    let w = world().await;
    made(&w, &w.admin, file("tree", 1)).await;
    w.volume(&w.admin, "block", "ssd").await;
    let host = w.host(&w.admin, "h").await;
    let attached =
        w.control.attachment_create(&w.admin, attach("tree", &[&host.name], Mode::ReadOnly));
    assert_eq!(code(attached.await), "wrong_kind");
    assert_eq!(code(w.control.export_get(&w.admin, "block").await), "wrong_kind");
    let export =
        control::VolumeExport { path: "/x.raw".into(), format: model::order::ImageFormat::Raw };
    assert_eq!(code(w.control.volume_export(&w.admin, "tree", export).await), "wrong_kind");
    let network = ExportChange { network: Some("default".into()), ..ExportChange::default() };
    let on_network = VolumeCreate { export: network, ..volume("b2", 1, "ssd") };
    assert_eq!(code(w.control.volume_create(&w.admin, on_network).await), "invalid_value");
    let other_kind = VolumeCreate { kind: Some(VolumeKind::Block), ..volume("b3", 1, "file") };
    assert_eq!(code(w.control.volume_create(&w.admin, other_kind).await), "invalid_value");
    assert_eq!(code(w.control.volume_retype(&w.admin, "tree", "ssd").await), "retype_needs_move");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sizes_that_a_type_does_not_have_are_refused_with_those_that_it_has() {
    let w = world().await;
    let sized =
        |gib| VolumeCreate { size: Some(ByteSize::gib(gib)), ..volume("p1", 1, "file-packages") };
    let error = w.control.volume_create(&w.admin, sized(15)).await.unwrap_err();
    assert_eq!(error.code(), "size_not_available");
    let says = error.to_string();
    assert!(says.contains("10 GiB, 20 GiB") && says.ends_with("900 GiB, 1000 GiB"), "{says}");
    let smallest = VolumeCreate { size: None, ..sized(0) };
    let view = made(&w, &w.admin, smallest).await;
    assert_eq!(view.volume.size, ByteSize::gib(10));
    let between = w.control.volume_resize(&w.admin, "p1", ByteSize::gib(11)).await;
    assert_eq!(code(between), "size_not_available");
    w.control.volume_resize(&w.admin, "p1", ByteSize::gib(20)).await.unwrap();
    w.volume_is(&w.admin, "p1", "available").await;
    let between = w.control.volume_resize(&w.admin, "p1", ByteSize::gib(11)).await;
    assert_eq!(code(between), "size_not_available");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_volume_shrinks_but_not_below_what_it_holds() {
    let w = world().await;
    let view = made(&w, &w.admin, file("tree", 10)).await;
    w.node.connect(view.volume.id, "127.0.0.1");
    w.node.hold(view.volume.id, 3 << 30);
    let refused = w.control.volume_resize(&w.admin, "tree", ByteSize::gib(2)).await;
    assert_eq!(code(refused), "below_used");
    let shrinking = w.control.volume_resize(&w.admin, "tree", ByteSize::gib(4)).await.unwrap();
    assert_eq!(shrinking.volume.status.word(), "shrinking");
    let view = w.volume_is(&w.admin, "tree", "available").await;
    assert_eq!((view.volume.size, view.volume.fault), (ByteSize::gib(4), None));
    assert_eq!(w.node.size_of(view.volume.id), Some(ByteSize::gib(4)));
    // The node looks again: what came to lie there in the meantime is kept.
    w.node.fail("ResizeVolume", OrderError::Refused { why: "it holds more".into() });
    w.control.volume_resize(&w.admin, "tree", ByteSize::gib(3)).await.unwrap();
    let view = w.volume_is(&w.admin, "tree", "available").await;
    assert_eq!(view.volume.size, ByteSize::gib(4));
    assert!(view.volume.fault.unwrap().contains("it holds more"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_change_while_mounted_and_count_when_the_answer_comes() {
    let w = world().await;
    network(&w, "office", &["10.0.0.0/8", "fd00::/8"]).await;
    let on_office = ExportChange { network: Some("office".into()), ..ExportChange::default() };
    let view = made(&w, &w.admin, VolumeCreate { export: on_office, ..file("tree", 1) }).await;
    assert_eq!(enforced(&w, &view), ["10.0.0.0/8 ReadWrite", "fd00::/8 ReadWrite"]);
    let addresses = vec!["10.0.0.7".to_owned(), "192.168.0.7".to_owned()];
    let web = HostCreate { name: "web".into(), addresses, ..HostCreate::default() };
    w.control.host_create(&w.admin, web).await.unwrap();
    let change = access(&[rule("web", Mode::ReadWrite), rule("10.1.0.0/16", Mode::ReadOnly)]);
    let shown = w.control.export_update(&w.admin, "tree", change).await.unwrap();
    assert_eq!(shown.access[0].client, "web");
    assert_eq!(enforced(&w, &view), ["10.0.0.7 ReadWrite", "10.1.0.0/16 ReadOnly"]);
    // A host's addresses and a network's clients are looked up anew.
    let change = HostUpdate { addresses: Some(vec!["10.0.0.8".into()]), ..HostUpdate::default() };
    w.control.host_update(&w.admin, "web", change).await.unwrap();
    assert_eq!(enforced(&w, &view), ["10.0.0.8 ReadWrite", "10.1.0.0/16 ReadOnly"]);
    let change = NetworkUpdate { clients: Some(vec!["10.1.2.0/24".into()]), ..<_>::default() };
    w.control.network_update(&w.admin, "office", change).await.unwrap();
    assert_eq!(enforced(&w, &view), ["10.1.2.0/24 ReadOnly"]);
    w.control.host_delete(&w.admin, "web").await.unwrap();
    let relaxed = ExportChange { durability: Some(Durability::Relaxed), ..<_>::default() };
    let shown = w.control.export_update(&w.admin, "tree", relaxed).await.unwrap();
    assert_eq!(shown.durability, Durability::Relaxed);
    assert_eq!(w.node.terms(view.volume.id).unwrap().durability, Durability::Relaxed);
    for (client, expected) in [("nowhere", "invalid_value"), ("10.0.0.1/8", "invalid_value")] {
        let change = access(&[rule(client, Mode::ReadOnly)]);
        assert_eq!(code(w.control.export_update(&w.admin, "tree", change).await), expected);
    }
    let reader = w.member_of("default", Role::Reader).await;
    let change = ExportChange::default();
    assert_eq!(code(w.control.export_update(&reader, "tree", change).await), "forbidden");
    assert_eq!(code(w.control.network_delete(&w.admin, "office").await), "in_use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_that_could_not_be_sent_are_sent_as_soon_as_the_node_is_back() {
    let w = world().await;
    let view = made(&w, &w.admin, file("tree", 1)).await;
    w.node.fail("Export", OrderError::Unreachable { why: "the cable".into() });
    let change = access(&[rule("127.0.0.1", Mode::ReadOnly)]);
    let told = w.control.export_update(&w.admin, "tree", change).await;
    assert_eq!(code(told), "node_unreachable");
    let fault = w.control.volume_get(&w.admin, "tree").await.unwrap().volume.fault.unwrap();
    assert!(fault.contains("not served") && fault.contains("the cable"), "{fault}");
    w.node.heal("Export");
    eventually("the rules are there", async || {
        (enforced(&w, &view) == ["127.0.0.1 ReadOnly"]).then_some(())
    })
    .await;
    eventually("the fault is gone", async || {
        w.control.volume_get(&w.admin, "tree").await.unwrap().volume.fault.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_forgot_everything_serves_again() {
    let w = world().await;
    let view = made(&w, &w.admin, file("tree", 1)).await;
    let snapshot = snapshot(&w, "tree", "s1").await;
    w.node.restart();
    assert!(w.node.terms(view.volume.id).is_none());
    drop(w.control);
    let (control, _) = world::open(w.dir.path(), &w.node).await;
    control.reconcile().await.unwrap();
    assert_eq!(w.node.terms(view.volume.id).unwrap().path, "/default/tree");
    let view = control.snapshot_get(&w.admin, &snapshot).await.unwrap();
    assert_eq!(w.node.browsed(view.snapshot.id).as_deref(), Some("s1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connected_clients_hold_up_deletion_and_rollback_unless_forced() {
    let w = world().await;
    let view = made(&w, &w.admin, file("tree", 1)).await;
    let id = view.volume.id;
    snapshot(&w, "tree", "s1").await;
    w.node.connect(id, "127.0.0.1");
    let shown = w.control.volume_get(&w.admin, "tree").await.unwrap().file.unwrap();
    assert_eq!(shown.clients.len(), 1);
    let error = w.control.volume_revert(&w.admin, "tree", revert("s1")).await.unwrap_err();
    assert_eq!(error.code(), "clients_connected");
    assert!(error.to_string().contains("'127.0.0.1'") && error.hint().contains("--force"));
    let forced = VolumeRevert { snapshot: "s1".into(), force: true };
    w.control.volume_revert(&w.admin, "tree", forced).await.unwrap();
    w.volume_is(&w.admin, "tree", "available").await;
    assert_eq!(w.node.connected(id), 0);
    assert!(w.node.terms(id).is_some(), "clients have it back");
    w.node.connect(id, "127.0.0.1");
    let plain = w.control.volume_delete(&w.admin, "tree", CASCADE).await;
    assert_eq!(code(plain), "clients_connected");
    let forced = VolumeDelete { cascade: true, force: true, lost: false };
    w.control.volume_delete(&w.admin, "tree", forced).await.unwrap();
    w.volume_gone(&w.admin, "tree").await;
    assert!(w.node.terms(id).is_none());
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_mounts_between_the_question_and_the_deletion_keeps_the_volume() {
    let w = world().await;
    let view = made(&w, &w.admin, file("tree", 1)).await;
    w.node.stall("Unexport");
    w.control.volume_delete(&w.admin, "tree", VolumeDelete::default()).await.unwrap();
    w.node.connect(view.volume.id, "127.0.0.1");
    w.node.release("Unexport");
    let view = w.volume_is(&w.admin, "tree", "available").await;
    assert!(view.volume.fault.unwrap().contains("1 clients"));
    assert!(w.node.terms(view.volume.id).is_some());
}

async fn snapshot(w: &World, volume: &str, name: &str) -> String {
    let new =
        SnapshotCreate { volume: volume.into(), name: name.into(), ..SnapshotCreate::default() };
    let id =
        w.control.snapshot_create(&w.admin, new).await.expect("a snapshot").snapshot.id.to_string();
    eventually("the snapshot is there", async || {
        let view = w.control.snapshot_get(&w.admin, &id).await.ok()?;
        (view.snapshot.state.word() == "available").then_some(())
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clone_of_a_file_volume_needs_its_origin_only_while_it_is_made() {
    let w = world().await;
    made(&w, &w.admin, file("tree", 1)).await;
    snapshot(&w, "tree", "s1").await;
    let from =
        |name: &str, source| VolumeCreate { size: None, source, kind: None, ..file(name, 1) };
    let one = made(&w, &w.admin, from("one", VolumeSource::Snapshot("s1".into()))).await;
    made(&w, &w.admin, from("two", VolumeSource::Volume("tree".into()))).await;
    assert_eq!(one.volume.kind(), VolumeKind::File);
    eventually("the snapshot made for the clone is gone", async || {
        (w.node.snapshots() == 1).then_some(())
    })
    .await;
    w.control.snapshot_delete(&w.admin, "s1").await.expect("no clone holds it");
    eventually("it is gone", async || (w.node.snapshots() == 0).then_some(())).await;
    w.control.volume_delete(&w.admin, "tree", VolumeDelete::default()).await.unwrap();
    w.volume_gone(&w.admin, "tree").await;
    w.control.volume_get(&w.admin, "one").await.expect("it stands on its own");
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_of_a_file_volume_have_names_that_can_be_browsed_and_say_what_they_hold() {
    let w = world().await;
    made(&w, &w.admin, file("tree", 1)).await;
    made(&w, &w.admin, file("other", 1)).await;
    snapshot(&w, "tree", "s1").await;
    snapshot(&w, "other", "s1").await;
    let named = |name: &str| SnapshotCreate {
        volume: "tree".into(),
        name: name.into(),
        ..SnapshotCreate::default()
    };
    assert_eq!(code(w.control.snapshot_create(&w.admin, named("s1")).await), "name_taken");
    for bad in ["..", "a/b", ".hidden", "a b"] {
        assert_eq!(code(w.control.snapshot_create(&w.admin, named(bad)).await), "invalid_value");
    }
    let filter = SnapshotFilter { volume: Some("tree".into()), ..SnapshotFilter::default() };
    let list = w.control.snapshot_list(&w.admin, &filter).await.unwrap().items;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].held, Some(ByteSize(4096)));
    let id = list[0].snapshot.id.to_string();
    let rename = SnapshotUpdate { name: Some("s2".into()), ..SnapshotUpdate::default() };
    assert_eq!(code(w.control.snapshot_update(&w.admin, &id, rename).await), "wrong_kind");
    let quota = QuotaChange { snapshots_per_volume: Some(1), ..QuotaChange::default() };
    let change = ProjectUpdate { quotas: quota, ..ProjectUpdate::default() };
    w.control.project_update(&w.admin, "default", change).await.unwrap();
    assert_eq!(code(w.control.snapshot_create(&w.admin, named("s2")).await), "quota_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn volumes_lie_where_their_rules_say_and_show_why() {
    let w = world().await;
    for number in [2, 3] {
        let pool = PoolCreate {
            node: None,
            name: format!("file-{number}"),
            class: "file".to_owned(),
            path: format!("/pools/file-{number}"),
            driver: Driver::Btrfs,
            io: IoMode::Cached,
            capacity: None,
        };
        w.control.pool_create(&w.admin, pool).await.unwrap();
    }
    w.control.reconcile().await.unwrap();
    let with = |name: &str, role: &str, rules: &[&str]| VolumeCreate {
        metadata: [("role".to_owned(), role.to_owned())].into(),
        affinity: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        ..file(name, 1)
    };
    let one = made(&w, &w.admin, with("db-1", "db", &["volume!=db-*"])).await;
    let two = made(&w, &w.admin, with("db-2", "db", &["volume!=db-*"])).await;
    let three = made(&w, &w.admin, with("db-3", "db", &["role!=db"])).await;
    let mut pools = [&one, &two, &three].map(|view| view.pool_name.clone());
    pools.sort();
    assert_eq!(pools, ["file-2", "file-3", "local-file"]);
    let error = w.control.volume_create(&w.admin, with("db-4", "db", &["role!=db"])).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "unplaceable");
    assert!(error.to_string().contains("pool 'file-2' breaks role!=db"), "{error}");
    let near = made(&w, &w.admin, with("near", "x", &["volume==db-2", "role!=~db"])).await;
    assert_eq!(near.volume.pool, two.volume.pool);
    assert!(near.volume.placed.contains("keeps volume==db-2"), "{}", near.volume.placed);
    assert!(near.volume.placed.contains("no pool keeps role!=~db"), "{}", near.volume.placed);
    // Another project's volumes are nobody's business.
    let other = w.member_of("other", Role::Member).await;
    let alone = w.control.volume_create(&other, with("v1", "x", &["volume==db-2"])).await;
    assert_eq!(code(alone), "unplaceable");
    let bad = w.control.volume_create(&other, with("v1", "x", &["volume=db-2"])).await;
    assert_eq!(code(bad), "invalid_value");
}
