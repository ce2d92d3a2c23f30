//! Letting hosts in and out, raced.

mod world;

use std::time::Duration;

use control::{AttachmentFilter, ControlError, EventFilter, HostUpdate, PoolCreate, VolumeCreate};
use model::order::{IoMode, Mode, OrderError};
use model::pool::Driver;
use model::user::Role;
use world::{attach, code, eventually, race, world};

const RACERS: usize = 16;

fn multi() -> &'static str {
    "ssd-multiattach"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_hosts_attach_at_once_and_none_is_refused() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "shared", multi()).await.volume.id.to_string();
    let hosts = w.hosts(&w.admin, RACERS).await;
    let made = race(hosts.iter().map(|host| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = attach(&volume, &[&host.name], Mode::ReadWrite);
        async move { control.attachment_create(&admin, new).await }
    }))
    .await;
    for made in made {
        let made = made.expect("none is refused");
        assert_eq!(made[0].view.attachment.state.word(), "attaching");
        let chap = made[0].chap.clone().expect("its own credentials");
        assert_eq!((chap.secret.len(), chap.target_secret.len()), (16, 16));
        assert_ne!(chap.secret, chap.target_secret);
    }
    w.attached(&w.admin, &volume, RACERS).await;
    let view = w.volume_is(&w.admin, &volume, "in-use").await;
    assert_eq!(view.attachments.len(), RACERS);
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_host_that_stalls_holds_up_no_other() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "shared", multi()).await.volume.id.to_string();
    w.hosts(&w.admin, 2).await;
    let first = attach(&volume, &["host-1"], Mode::ReadWrite);
    let first = w.control.attachment_create(&w.admin, first).await.unwrap();
    let first = first[0].view.attachment.id;
    w.attached(&w.admin, &volume, 1).await;
    w.node.stall("Detach");
    w.control.attachment_delete(&w.admin, &first.to_string()).await.unwrap();
    eventually("the detach hangs", async || (w.node.sent("Detach") > 0).then_some(())).await;
    let second = attach(&volume, &["host-2"], Mode::ReadWrite);
    w.control.attachment_create(&w.admin, second).await.unwrap();
    w.attached(&w.admin, &volume, 1).await;
    w.node.release("Detach");
    eventually("host 1 is out", async || (!w.node.lets_in(first)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_type_without_multiattach_has_one_writer_whoever_comes_first() {
    let w = world().await;
    let volume = w.volume(&w.admin, "single", "ssd").await.volume.id.to_string();
    let hosts = w.hosts(&w.admin, RACERS).await;
    let made = race(hosts.iter().map(|host| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = attach(&volume, &[&host.name], Mode::ReadWrite);
        async move { control.attachment_create(&admin, new).await }
    }))
    .await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    assert!(bad.into_iter().all(|refused| code(refused) == "not_multiattach"));
    // Readers may come, and two writers in one call may not.
    let writer = good.into_iter().next().unwrap().unwrap()[0].view.host_name.clone();
    let others: Vec<&str> =
        hosts.iter().map(|host| host.name.as_str()).filter(|name| **name != writer).collect();
    w.control.attachment_create(&w.admin, attach(&volume, &others, Mode::ReadOnly)).await.unwrap();
    w.attached(&w.admin, &volume, RACERS).await;
    let fresh = w.volume(&w.admin, "fresh", "ssd").await.volume.id.to_string();
    let two = attach(&fresh, &["host-1", "host-2"], Mode::ReadWrite);
    assert_eq!(code(w.control.attachment_create(&w.admin, two).await), "not_multiattach");
    assert!(w.control.volume_get(&w.admin, &fresh).await.unwrap().attachments.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_host_asked_sixteen_times_is_attached_once() {
    let w = world().await;
    let volume = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let made = race((0..RACERS).map(|_| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = attach(&volume, &["host-1", "host-1"], Mode::ReadWrite);
        async move { control.attachment_create(&admin, new).await.expect("idempotent") }
    }))
    .await;
    assert!(made.iter().all(|made| made.len() == 1));
    assert_eq!(made.iter().filter(|made| made[0].chap.is_some()).count(), 1, "shown once");
    let id = made[0][0].view.attachment.id;
    assert!(made.iter().all(|made| made[0].view.attachment.id == id));
    let other_mode = attach(&volume, &["host-1"], Mode::ReadOnly);
    let refused = w.control.attachment_create(&w.admin, other_mode).await;
    assert_eq!(code(refused), "attached_in_other_mode");
    // The secret is with the node and in no list.
    w.attached(&w.admin, &volume, 1).await;
    let secret = w.node.access(id).unwrap().chap.unwrap().secret;
    let list = w.control.attachment_list(&w.admin, &AttachmentFilter::default()).await.unwrap();
    assert!(!format!("{list:?}").contains(&secret));
    let connection = list.items[0].attachment.connection.clone().unwrap();
    assert_eq!(connection.portals, ["127.0.0.1:3260"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_hosts_in_one_call_are_all_or_none() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "v", multi()).await.volume.id.to_string();
    w.hosts(&w.admin, 3).await;
    let call = attach(&volume, &["host-1", "host-2", "nobody"], Mode::ReadWrite);
    assert_eq!(code(w.control.attachment_create(&w.admin, call).await), "host_not_found");
    let none = attach(&volume, &[], Mode::ReadWrite);
    assert_eq!(code(w.control.attachment_create(&w.admin, none).await), "invalid_value");
    assert!(w.control.volume_get(&w.admin, &volume).await.unwrap().attachments.is_empty());
    let call = attach(&volume, &["host-1", "host-2", "host-3"], Mode::ReadWrite);
    assert_eq!(w.control.attachment_create(&w.admin, call).await.unwrap().len(), 3);
    w.attached(&w.admin, &volume, 3).await;
    assert_eq!(w.node.let_in(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_shares_an_ordinary_file_system_by_accident() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let view = w.volume(&w.admin, "v", multi()).await;
    let volume = view.volume.id.to_string();
    w.node.put(view.volume.id, "ext4", false);
    let hosts = w.hosts(&w.admin, RACERS).await;
    let made = race(hosts.iter().map(|host| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = attach(&volume, &[&host.name], Mode::ReadWrite);
        async move { control.attachment_create(&admin, new).await }
    }))
    .await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    for refused in bad {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "filesystem_not_cluster_aware");
        assert_eq!(error.kind(), control::ErrorKind::Conflict);
        let sentence = error.to_string();
        assert!(sentence.contains("ext4") && sentence.contains("at the start of the volume"));
        for way_out in ["read-only", "cluster file system", "--accept-data-loss"] {
            assert!(error.hint().contains(way_out));
        }
    }
    let filter = EventFilter { action: Some("attachment.create".into()), ..Default::default() };
    let events = w.control.event_list(&w.admin, &filter).await.unwrap().items;
    assert_eq!(events.iter().filter(|e| e.result.word() == "refused").count(), RACERS - 1);

    let writer = good.into_iter().next().unwrap().unwrap()[0].view.host_name.clone();
    let free: Vec<&str> =
        hosts.iter().map(|host| host.name.as_str()).filter(|name| **name != writer).collect();
    let reader = attach(&volume, &free[..1], Mode::ReadOnly);
    w.control.attachment_create(&w.admin, reader).await.expect("readers may come");
    let mut second = attach(&volume, &free[1..2], Mode::ReadWrite);
    second.accept_data_loss = true;
    let made = w.control.attachment_create(&w.admin, second).await.expect("on the record");
    assert_eq!(made[0].view.attachment.data_loss_accepted_by.as_deref(), Some("admin"));
    let events = w.control.event_list(&w.admin, &filter).await.unwrap().items;
    assert!(events[0].detail.contains("admin accepted") && events[0].detail.contains("ext4"));
    assert_eq!(events[0].from, "192.0.2.1");

    w.node.put(view.volume.id, "gfs2", true);
    let cluster = attach(&volume, &free[2..3], Mode::ReadWrite);
    w.control.attachment_create(&w.admin, cluster).await.expect("made for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_of_another_project_does_not_exist() {
    let w = world().await;
    let mine = w.member_of("mine", Role::Member).await;
    let theirs = w.member_of("theirs", Role::Member).await;
    let volume = w.volume(&mine, "v", "ssd").await.volume.id.to_string();
    let host = w.host(&theirs, "h").await;
    for name in ["h".to_owned(), host.id.to_string()] {
        let call = attach(&volume, &[&name], Mode::ReadWrite);
        let refused = w.control.attachment_create(&mine, call.clone()).await;
        assert_eq!(code(refused), "host_not_found");
        let refused = w.control.attachment_create(&w.admin, call).await;
        assert_eq!(code(refused), "host_not_found");
    }
    let call = attach(&volume, &["h"], Mode::ReadWrite);
    assert_eq!(code(w.control.attachment_create(&theirs, call).await), "volume_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fence_returns_when_the_node_says_so_and_not_before() {
    let w = world().await;
    let volume = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let call = attach(&volume, &["host-1"], Mode::ReadWrite);
    let made = w.control.attachment_create(&w.admin, call.clone()).await.unwrap();
    let id = made[0].view.attachment.id;
    w.attached(&w.admin, &volume, 1).await;
    // A detach that waits for the host does not hold up the fence.
    w.node.stall("Detach");
    w.node.stall("Fence");
    w.control.attachment_delete(&w.admin, &id.to_string()).await.unwrap();
    eventually("the detach hangs", async || (w.node.sent("Detach") > 0).then_some(())).await;
    let (control, admin) = (w.control.clone(), w.admin.clone());
    let fence =
        tokio::spawn(async move { control.attachment_fence(&admin, &id.to_string()).await });
    eventually("the fence is sent", async || (w.node.sent("Fence") > 0).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!fence.is_finished() && w.node.lets_in(id));
    assert_eq!(code(w.control.attachment_create(&w.admin, call).await), "attachment_leaving");
    w.node.release("Fence");
    let fenced = fence.await.unwrap().expect("fenced");
    assert_eq!((fenced.attachment, fenced.sessions_closed), (id, 1));
    assert!(!w.node.lets_in(id));
    w.node.release("Detach");
    w.volume_is(&w.admin, &volume, "available").await;
    let again = w.control.attachment_fence(&w.admin, &id.to_string()).await;
    assert_eq!(code(again), "attachment_not_found");
    w.node.assert_was_asked_nothing_wrong();
}

/// The plan sent the fence first, and the caller was told that there was no session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_for_a_fence_is_told_what_it_closed() {
    let w = world().await;
    w.grant_multiattach("default").await;
    w.volume(&w.admin, "v", multi()).await;
    let hosts = w.hosts(&w.admin, 8).await;
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let call = attach("v", &names, Mode::ReadWrite);
    let made = w.control.attachment_create(&w.admin, call).await.unwrap();
    w.attached(&w.admin, "v", hosts.len()).await;
    // The steps that let them in have ended, too.
    tokio::time::sleep(Duration::from_millis(100)).await;
    race(made.iter().map(|made| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let id = made.view.attachment.id.to_string();
        async move {
            let fenced = control.attachment_fence(&admin, &id).await.expect("fenced");
            assert_eq!(fenced.sessions_closed, 1);
        }
    }))
    .await;
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fence_that_is_not_proven_says_so_and_goes_on() {
    let w = world().await;
    let volume = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let call = attach(&volume, &["host-1"], Mode::ReadWrite);
    let made = w.control.attachment_create(&w.admin, call).await.unwrap();
    let id = made[0].view.attachment.id.to_string();
    w.attached(&w.admin, &volume, 1).await;
    w.node.fail("Fence", OrderError::Unreachable { why: "no answer".into() });
    let refused = w.control.attachment_fence(&w.admin, &id).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.kind()),
        ("node_unreachable", control::ErrorKind::Unavailable)
    );
    let view = w.control.attachment_get(&w.admin, &id).await.unwrap();
    assert_eq!(view.attachment.state.word(), "fencing");
    w.node.heal("Fence");
    w.volume_is(&w.admin, &volume, "available").await;
    assert_eq!(w.node.let_in(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attach_and_detach_and_fence_raced_leave_nobody_in() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "v", multi()).await.volume.id.to_string();
    let hosts = w.hosts(&w.admin, 8).await;
    race(hosts.iter().enumerate().map(|(n, host)| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = attach(&volume, &[&host.name], Mode::ReadWrite);
        async move {
            let made = control.attachment_create(&admin, new).await.expect("attached");
            let id = made[0].view.attachment.id.to_string();
            if n % 2 == 0 {
                control.attachment_delete(&admin, &id).await.expect("detached");
            } else {
                control.attachment_fence(&admin, &id).await.expect("fenced");
            }
        }
    }))
    .await;
    w.volume_is(&w.admin, &volume, "available").await;
    assert_eq!(w.node.let_in(), 0);
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retype_is_whole_or_not_at_all_however_it_is_raced() {
    let w = world().await;
    w.grant_multiattach("default").await;
    w.hosts(&w.admin, 4).await;
    for round in 0..6 {
        let name = format!("v{round}");
        let volume = w.volume(&w.admin, &name, multi()).await.volume.id.to_string();
        let (control, admin, id) = (w.control.clone(), w.admin.clone(), volume.clone());
        let retype = tokio::spawn(async move { control.volume_retype(&admin, &id, "ssd").await });
        let made = race((1..=4).map(|n| {
            let (control, admin) = (w.control.clone(), w.admin.clone());
            let new = attach(&volume, &[&format!("host-{n}")], Mode::ReadWrite);
            async move { control.attachment_create(&admin, new).await.is_ok() }
        }))
        .await;
        let attached = made.into_iter().filter(|good| *good).count();
        match retype.await.unwrap() {
            Ok(view) => assert!(!view.multiattach && attached == 1, "{attached} writers"),
            Err(ControlError::RetypeWhileShared { .. }) => assert_eq!(attached, 4),
            Err(other) => panic!("{other}"),
        }
    }
    let shared = w.volume(&w.admin, "w", "ssd").await.volume.id.to_string();
    w.control
        .attachment_create(&w.admin, attach(&shared, &["host-1"], Mode::ReadWrite))
        .await
        .unwrap();
    let view = w.control.volume_retype(&w.admin, &shared, multi()).await.expect("one host");
    assert!(view.multiattach);
    w.control
        .attachment_create(&w.admin, attach(&shared, &["host-2"], Mode::ReadWrite))
        .await
        .expect("a second one, after the retype");
    let back = w.control.volume_retype(&w.admin, &shared, "ssd").await;
    assert_eq!(code(back), "retype_while_shared");
    let other = w.control.volume_retype(&w.admin, &shared, "hdd").await.unwrap_err();
    assert_eq!(other.code(), "retype_needs_move");
    assert!(other.to_string().contains("'ssd', 'ssd-multiattach'"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_keeps_its_names_while_it_is_attached() {
    let w = world().await;
    let volume = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let call = attach(&volume, &["host-1"], Mode::ReadWrite);
    w.control.attachment_create(&w.admin, call).await.unwrap();
    let change =
        HostUpdate { initiators: Some(vec!["iqn.2026-11.x:new".into()]), ..Default::default() };
    assert_eq!(code(w.control.host_update(&w.admin, "host-1", change).await), "in_use");
    assert_eq!(code(w.control.host_delete(&w.admin, "host-1").await), "in_use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attach_that_is_late_cannot_let_a_host_in_after_its_fence() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "v", multi()).await.volume.id.to_string();
    w.hosts(&w.admin, 2).await;
    w.node.stall("Attach");
    let call = attach(&volume, &["host-1", "host-2"], Mode::ReadWrite);
    let made = w.control.attachment_create(&w.admin, call).await.unwrap();
    eventually("both are on their way", async || (w.node.sent("Attach") == 2).then_some(())).await;
    let ids: Vec<String> = made.iter().map(|m| m.view.attachment.id.to_string()).collect();
    w.control.attachment_delete(&w.admin, &ids[0]).await.unwrap();
    let (control, admin, id) = (w.control.clone(), w.admin.clone(), ids[1].clone());
    let fence = tokio::spawn(async move { control.attachment_fence(&admin, &id).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((w.node.sent("Detach"), w.node.sent("Fence")), (0, 0), "nothing overtakes");
    assert!(!fence.is_finished());
    w.node.release("Attach");
    assert_eq!(fence.await.unwrap().expect("fenced").sessions_closed, 1);
    w.volume_is(&w.admin, &volume, "available").await;
    assert_eq!(w.node.let_in(), 0);
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_lies_beside_those_of_the_hosts_that_its_rule_names() {
    let w = world().await;
    let pool = PoolCreate {
        node: None,
        name: "ssd-2".to_owned(),
        class: "ssd".to_owned(),
        path: "/pools/ssd-2".to_owned(),
        driver: Driver::Local,
        io: IoMode::Cached,
        capacity: None,
    };
    w.control.pool_create(&w.admin, pool).await.unwrap();
    w.control.reconcile().await.unwrap();
    let first = w.volume(&w.admin, "first", "ssd").await;
    w.host(&w.admin, "web-1").await;
    let rack = HostUpdate {
        metadata: Some([("rack".to_owned(), "4".to_owned())].into()),
        ..HostUpdate::default()
    };
    w.control.host_update(&w.admin, "web-1", rack).await.unwrap();
    let with = |name: &str, rule: &str| VolumeCreate {
        affinity: vec![rule.to_owned()],
        ..world::volume(name, 1, "ssd")
    };
    let early = w.control.volume_create(&w.admin, with("early", "host==web-*")).await;
    assert_eq!(code(early), "unplaceable");
    let new = attach("first", &["web-1"], Mode::ReadWrite);
    w.control.attachment_create(&w.admin, new).await.unwrap();
    for (name, rule, is_beside) in [
        ("near", "host==web-*", true),
        ("far", "host!=web-*", false),
        ("rack", "host.rack==4", true),
        ("racks", "host.rack!=~4", false),
    ] {
        let made = w.control.volume_create(&w.admin, with(name, rule)).await.unwrap().volume;
        assert_eq!(made.pool == first.volume.pool, is_beside, "{rule}: {}", made.placed);
    }
}
