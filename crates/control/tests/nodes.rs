//! Several nodes under one control plane.

mod world;

use std::sync::Arc;
use std::time::Duration;

use control::{NetworkCreate, NodeCreate, NodeUpdate, Paging, PoolCreate};
use model::order::{IoMode, Mode, Notice};
use model::pool::Driver;
use model::size::ByteSize;
use model::user::Role;
use world::fake_doors::FakeDoors;
use world::second::{ADDRESS, file, fill, online, second, with_second};
use world::{attach, code, eventually, open_with, volume, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orders_go_to_the_node_whose_pool_the_volume_lies_in() {
    let w = world().await;
    let first = w.volume(&w.admin, "first", "ssd").await.volume;
    let node = with_second(&w).await;
    fill(&w.node);
    let view = w.volume(&w.admin, "second", "ssd").await;
    let there = view.volume;
    assert!(view.pool_name.starts_with("second"), "{}", view.pool_name);
    assert!(there.placed.contains("on node 'n2'"), "{}", there.placed);
    assert!(w.node.size_of(first.id).is_some() && node.size_of(first.id).is_none());
    assert!(node.size_of(there.id).is_some() && w.node.size_of(there.id).is_none());
    w.host(&w.admin, "h").await;
    w.control.attachment_create(&w.admin, attach("second", &["h"], Mode::ReadWrite)).await.unwrap();
    w.attached(&w.admin, "second", 1).await;
    assert_eq!((w.node.let_in(), node.let_in()), (0, 1));
    let made = w.control.volume_create(&w.admin, file("tree")).await.unwrap();
    let tree = w.volume_is(&w.admin, &made.volume.id.to_string(), "available").await;
    assert!(node.terms(tree.volume.id).is_some() && w.node.terms(tree.volume.id).is_none());
    assert_eq!(tree.file.unwrap().resources, ["nfs://127.0.0.2/default/tree"]);
    for node in [&w.node, &node] {
        node.assert_was_asked_nothing_wrong();
    }
    // What is asked of nodes and not of volumes is asked of the one that is named.
    assert_eq!(w.control.node_get(&w.admin, "n2").await.unwrap().block_volumes, 1);
    w.control.node_restart(&w.admin, "n2", true).await.unwrap();
    eventually("restarted", async || (node.sent("RestartFiles") > 0).then_some(())).await;
    assert_eq!(w.node.sent("RestartFiles"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hangs_holds_up_nobody_on_the_others() {
    let w = world().await;
    let node = with_second(&w).await;
    fill(&w.node);
    w.volume(&w.admin, "far", "ssd").await;
    w.node.set_space(ByteSize::gib(1 << 20), ByteSize(0));
    for order in ["CreateVolume", "Attach", "OpenPool", "usage", "node"] {
        node.stall(order);
    }
    w.host(&w.admin, "h").await;
    w.control.attachment_create(&w.admin, attach("far", &["h"], Mode::ReadWrite)).await.unwrap();
    let begun = std::time::Instant::now();
    // The look at how full its pools are is given up; then everything goes past it.
    let near = w.volume(&w.admin, "near", "ssd").await.volume;
    assert!(w.node.size_of(near.id).is_some());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    let page = w.control.node_list(&w.admin, &Paging::default()).await.unwrap();
    let reports: Vec<_> =
        page.items.iter().map(|one| (one.node.name.as_str(), one.report.is_some())).collect();
    assert_eq!(reports, [("n1", true), ("n2", false)]);
    for order in ["CreateVolume", "Attach", "OpenPool", "usage", "node"] {
        node.release(order);
    }
    w.attached(&w.admin, "far", 1).await;
    node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_who_has_the_secret_adopts_a_node_and_only_one_control_plane_does() {
    let w = world().await;
    w.doors.put(ADDRESS, "n2");
    let with = |secret: &str| NodeCreate { secret: secret.to_owned(), ..second(ADDRESS) };
    assert_eq!(code(w.control.node_create(&w.admin, with("guessed")).await), "node_failed");
    let bads = ["https://a:1", "a:1", "http://", "http://a:1/x", "http://a b:1", "http://a"];
    for bad in bads.into_iter().chain(["http://a:0", "http://::1:7", "http://[::1]", "http://:7"]) {
        assert_eq!(
            code(w.control.node_create(&w.admin, second(bad)).await),
            "invalid_value",
            "{bad}"
        );
    }
    let nowhere = second("http://192.0.2.9:1");
    assert_eq!(code(w.control.node_create(&w.admin, nowhere).await), "node_unreachable");
    let member = w.member_of("other", Role::Member).await;
    assert_eq!(code(w.control.node_create(&member, second(ADDRESS)).await), "forbidden");
    let made = w.control.node_create(&w.admin, second(ADDRESS)).await.unwrap();
    assert_eq!(made.node.address.as_deref(), Some(ADDRESS));
    let again = NodeCreate { name: "n3".to_owned(), ..second(ADDRESS) };
    let error = w.control.node_create(&w.admin, again.clone()).await.unwrap_err();
    assert!(error.to_string().contains("known as 'n2'"), "{error}");
    let dir = tempfile::TempDir::new().unwrap();
    let (other, token) = open_with(dir.path(), None, &w.doors).await;
    let admin = other.authenticate(&token.unwrap(), "").await.unwrap();
    let error = other.node_create(&admin, again.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another control plane"), "{error}");
    // Let go, it is anybody's who has its secret.
    w.control.node_delete(&w.admin, "n2", false).await.unwrap();
    assert_eq!(code(w.control.node_get(&w.admin, "n2").await), "node_not_found");
    other.node_create(&admin, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_with_pools_stays_and_pools_name_their_node_when_there_are_several() {
    let w = world().await;
    with_second(&w).await;
    assert_eq!(code(w.control.node_delete(&w.admin, "n2", true).await), "in_use");
    assert_eq!(code(w.control.node_delete(&w.admin, "n1", true).await), "in_use");
    let pool = |node: Option<&str>| PoolCreate {
        name: "more".to_owned(),
        class: "ssd".to_owned(),
        node: node.map(str::to_owned),
        path: "/pools/more".to_owned(),
        driver: Driver::Local,
        io: IoMode::Cached,
        capacity: None,
    };
    let error = w.control.pool_create(&w.admin, pool(None)).await.unwrap_err();
    assert!(error.to_string().contains("'n1', 'n2'"), "{error}");
    assert_eq!(code(w.control.pool_create(&w.admin, pool(Some("n9"))).await), "node_not_found");
    w.control.pool_create(&w.admin, pool(Some("n1"))).await.unwrap();
    // One path on two machines is two directories.
    let same = PoolCreate { name: "same".to_owned(), ..pool(Some("n2")) };
    w.control.pool_create(&w.admin, same).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_started_anew_is_sent_everything_again_and_the_others_nothing() {
    let w = world().await;
    let node = with_second(&w).await;
    w.volume(&w.admin, "near", "ssd").await;
    fill(&w.node);
    w.volume(&w.admin, "far", "ssd").await;
    w.host(&w.admin, "h").await;
    for volume in ["near", "far"] {
        let new = attach(volume, &["h"], Mode::ReadWrite);
        w.control.attachment_create(&w.admin, new).await.unwrap();
        w.attached(&w.admin, volume, 1).await;
    }
    let made = w.control.volume_create(&w.admin, file("tree")).await.unwrap();
    let tree = w.volume_is(&w.admin, &made.volume.id.to_string(), "available").await.volume;
    let before = w.node.sent("Attach");
    node.restart();
    assert!(node.terms(tree.id).is_none() && node.let_in() == 0);
    eventually("served again", async || {
        (node.let_in() == 1 && node.terms(tree.id).is_some()).then_some(())
    })
    .await;
    assert_eq!(w.node.sent("Attach"), before);
    let seen = w.control.node_get(&w.admin, "n2").await.unwrap().node;
    assert_eq!(seen.boot, 2);
    node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_node_sees_by_itself_is_an_event_once() {
    let w = world().await;
    let node = with_second(&w).await;
    let refused = |iqn: &str| Notice::LoginRefused {
        iqn: iqn.to_owned(),
        target: "t".to_owned(),
        from: "10.0.0.1".to_owned(),
        why: "w".to_owned(),
    };
    let logins = async || {
        let filter = control::EventFilter {
            action: Some("target.login".to_owned()),
            ..control::EventFilter::default()
        };
        w.control.event_list(&w.admin, &filter).await.unwrap().items.len()
    };
    node.see(refused("a"));
    eventually("an event", async || (logins().await == 1).then_some(())).await;
    node.see(refused("b"));
    node.see(refused("c"));
    eventually("all events", async || (logins().await == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_node_at_the_address_of_one_is_not_taken_for_it() {
    let w = world().await;
    let node = with_second(&w).await;
    let stranger = w.doors.put("http://192.0.2.3:7701", "n2");
    let change =
        |address: &str| NodeUpdate { address: Some(address.to_owned()), ..NodeUpdate::default() };
    let error = w.control.node_update(&w.admin, "n2", change("http://192.0.2.3:7701")).await;
    assert_eq!(code(error), "node_unreachable");
    assert_eq!(w.control.node_get(&w.admin, "n2").await.unwrap().node.address.unwrap(), ADDRESS);
    fill(&w.node);
    w.volume(&w.admin, "v", "ssd").await;
    assert_eq!((node.volumes(), stranger.volumes()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_control_plane_without_a_node_of_its_own_starts_again_and_has_its_nodes() {
    let dir = tempfile::TempDir::new().unwrap();
    let doors: Arc<FakeDoors> = Arc::default();
    let node = doors.put(ADDRESS, "n2");
    let (control, token) = open_with(dir.path(), None, &doors).await;
    let admin = control.authenticate(&token.unwrap(), "").await.unwrap();
    control.start();
    assert_eq!(control.node_list(&admin, &Paging::default()).await.unwrap().items.len(), 0);
    assert_eq!(code(control.volume_create(&admin, volume("v", 1, "ssd")).await), "no_pool");
    control.node_create(&admin, second(ADDRESS)).await.unwrap();
    let pool = PoolCreate {
        name: "p".to_owned(),
        class: "ssd".to_owned(),
        // The only node need not be named.
        node: None,
        path: "/p".to_owned(),
        driver: Driver::Local,
        io: IoMode::Cached,
        capacity: None,
    };
    control.pool_create(&admin, pool).await.unwrap();
    online(&control, &admin, "p").await;
    control.end_steps().await;
    control.close().await;
    let (control, _) = open_with(dir.path(), None, &doors).await;
    control.start();
    control.volume_create(&admin, volume("v", 1, "ssd")).await.unwrap();
    eventually("made", async || (node.volumes() == 1).then_some(())).await;
    assert_eq!(doors.terms(), 2, "each start has a number of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn volumes_are_placed_where_the_network_is_served_and_volumes_are_taken() {
    let w = world().await;
    let node = with_second(&w).await;
    let network = NetworkCreate {
        name: "far".to_owned(),
        clients: vec!["0.0.0.0/0".to_owned()],
        portals: vec!["127.0.0.2:2049".to_owned()],
        ..NetworkCreate::default()
    };
    w.control.network_create(&w.admin, network).await.unwrap();
    fill(&node);
    node.set_space(ByteSize::gib(20), ByteSize::gib(5));
    let mut new = file("tree");
    new.export.network = Some("far".to_owned());
    let made = w.control.volume_create(&w.admin, new.clone()).await.unwrap();
    w.volume_is(&w.admin, &made.volume.id.to_string(), "available").await;
    assert!(node.terms(made.volume.id).is_some(), "the first has more room and not the portal");
    let closed = NodeUpdate { takes_volumes: Some(false), ..NodeUpdate::default() };
    w.control.node_update(&w.admin, "n2", closed).await.unwrap();
    new.name = "more".to_owned();
    let error = w.control.volume_create(&w.admin, new).await.unwrap_err();
    assert!(error.to_string().contains("a portal of the volume's network"), "{error}");
    // A network may list the portals of several nodes: each serves on its own.
    let change = control::NetworkUpdate {
        portals: Some(vec!["127.0.0.1:2049".to_owned(), "127.0.0.2:2049".to_owned()]),
        ..control::NetworkUpdate::default()
    };
    w.control.network_update(&w.admin, "far", change).await.unwrap();
    let terms = node.terms(made.volume.id).unwrap();
    assert_eq!(terms.portals, ["127.0.0.2:2049".parse().unwrap()]);
}
