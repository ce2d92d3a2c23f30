//! Attachments that go from one mode to the other, raced.

mod world;

use control::{AttachmentUpdate, EventFilter};
use model::order::{Mode, OrderError};
use model::user::Role;
use world::{World, attach, code, eventually, race, world};

const RACERS: usize = 16;

const fn to(mode: Mode) -> AttachmentUpdate {
    AttachmentUpdate { mode: Some(mode), accept_data_loss: false }
}

/// Attach the hosts one by one in this mode; the ids of the attachments.
async fn attached(w: &World, volume: &str, hosts: usize, mode: Mode) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 1..=hosts {
        let call = attach(volume, &[&format!("host-{n}")], mode);
        let made = w.control.attachment_create(&w.admin, call).await.expect("attached");
        ids.push(made[0].view.attachment.id.to_string());
    }
    w.attached(&w.admin, volume, hosts).await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_type_without_multiattach_never_gets_two_writers_through_an_update() {
    let w = world().await;
    let view = w.volume(&w.admin, "single", "ssd").await;
    let volume = view.volume.id.to_string();
    w.hosts(&w.admin, RACERS).await;
    let ids = attached(&w, &volume, RACERS, Mode::ReadOnly).await;
    for round in 0..4 {
        let made = race(ids.iter().map(|id| {
            let (control, admin, id) = (w.control.clone(), w.admin.clone(), id.clone());
            async move { control.attachment_update(&admin, &id, to(Mode::ReadWrite)).await }
        }))
        .await;
        let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!(good.len(), 1, "round {round}");
        assert!(bad.into_iter().all(|refused| code(refused) == "not_multiattach"));
        // The writer steps back while all others, and a new host, try to take its place.
        let writer = good.into_iter().next().unwrap().unwrap().attachment.id;
        assert_eq!(w.node.access(writer).unwrap().mode, Mode::ReadWrite);
        let made = race(ids.iter().map(|id| {
            let (control, admin, id) = (w.control.clone(), w.admin.clone(), id.clone());
            let mode = if id == writer.to_string() { Mode::ReadOnly } else { Mode::ReadWrite };
            async move { control.attachment_update(&admin, &id, to(mode)).await }
        }))
        .await;
        assert!(made.iter().filter(|made| made.is_ok()).count() <= 2, "round {round}");
        assert_eq!(w.node.most_writers(view.volume.id), 1, "round {round}");
        race(ids.iter().map(|id| {
            let (control, admin, id) = (w.control.clone(), w.admin.clone(), id.clone());
            async move { control.attachment_update(&admin, &id, to(Mode::ReadOnly)).await }
        }))
        .await
        .into_iter()
        .for_each(|made| assert_eq!(made.expect("always allowed").attachment.mode, Mode::ReadOnly));
    }
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_counts_as_a_writer_until_the_node_says_that_it_is_none() {
    let w = world().await;
    let view = w.volume(&w.admin, "single", "ssd").await;
    let volume = view.volume.id.to_string();
    w.hosts(&w.admin, 2).await;
    let id = attached(&w, &volume, 1, Mode::ReadWrite).await.remove(0);
    w.node.stall("Attach");
    let sent = w.node.sent("Attach");
    let (control, admin, same) = (w.control.clone(), w.admin.clone(), id.clone());
    let update =
        tokio::spawn(
            async move { control.attachment_update(&admin, &same, to(Mode::ReadOnly)).await },
        );
    eventually("it is sent", async || (w.node.sent("Attach") > sent).then_some(())).await;
    assert!(!update.is_finished(), "not before the node has said so");
    let seen = w.control.attachment_get(&w.admin, &id).await.unwrap().attachment;
    assert_eq!((seen.state.word(), seen.mode), ("changing", Mode::ReadWrite));
    let second = || attach(&volume, &["host-2"], Mode::ReadWrite);
    let refused = w.control.attachment_create(&w.admin, second()).await;
    assert_eq!(code(refused), "not_multiattach");
    let back = w.control.attachment_update(&w.admin, &id, to(Mode::ReadWrite)).await;
    assert_eq!(code(back), "attachment_busy");
    w.volume_is(&w.admin, &volume, "in-use").await;
    w.node.release("Attach");
    assert_eq!(update.await.unwrap().expect("changed").attachment.mode, Mode::ReadOnly);
    w.control.attachment_create(&w.admin, second()).await.expect("the place is free");
    w.attached(&w.admin, &volume, 2).await;
    let refused = w.control.attachment_update(&w.admin, &id, to(Mode::ReadWrite)).await;
    assert_eq!(code(refused), "not_multiattach");
    assert_eq!(w.node.most_writers(view.volume.id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_is_not_proven_says_so_and_goes_on() {
    let w = world().await;
    let volume = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let id = attached(&w, &volume, 1, Mode::ReadWrite).await.remove(0);
    w.node.fail("Attach", OrderError::Failed { why: "the disk".into() });
    let refused = w.control.attachment_update(&w.admin, &id, to(Mode::ReadOnly)).await;
    assert_eq!(code(refused), "node_failed");
    let seen = w.control.attachment_get(&w.admin, &id).await.unwrap().attachment;
    assert_eq!((seen.state.word(), seen.mode), ("changing", Mode::ReadWrite));
    // The node starts anew and the control plane sends what is wanted, not what was.
    w.node.restart();
    w.node.heal("Attach");
    w.control.node_restarted();
    w.attached(&w.admin, &volume, 1).await;
    let seen = w.control.attachment_get(&w.admin, &id).await.unwrap().attachment;
    assert_eq!(seen.mode, Mode::ReadOnly);
    assert_eq!(w.node.access(seen.id).unwrap().mode, Mode::ReadOnly);
    let filter = EventFilter { resource_id: Some(id.clone()), ..EventFilter::default() };
    let events = w.control.event_list(&w.admin, &filter).await.unwrap().items;
    let seen: Vec<_> = events.iter().map(|e| (e.action.as_str(), e.result.word())).collect();
    assert_eq!(
        seen[..2],
        [("attachment.updated", "done"), ("attachment.update", "accepted")],
        "{events:?}"
    );
    assert_eq!(events[1].actor_name, "admin");
    assert!(events[1].detail.contains("from rw to ro"), "{}", events[1].detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_update_shares_no_ordinary_file_system_by_accident() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let view = w.volume(&w.admin, "v", "ssd-multiattach").await;
    let volume = view.volume.id.to_string();
    w.node.put(view.volume.id, "ext4", false);
    w.hosts(&w.admin, 3).await;
    let ids = attached(&w, &volume, 3, Mode::ReadOnly).await;
    let update = async |id: &str, accept_data_loss| {
        let change = AttachmentUpdate { accept_data_loss, ..to(Mode::ReadWrite) };
        w.control.attachment_update(&w.admin, id, change).await
    };
    update(&ids[0], false).await.expect("the first writer");
    assert_eq!(code(update(&ids[1], false).await), "filesystem_not_cluster_aware");
    let filter = EventFilter { resource_id: Some(ids[1].clone()), ..EventFilter::default() };
    let newest = w.control.event_list(&w.admin, &filter).await.unwrap().items.remove(0);
    assert_eq!((newest.action.as_str(), newest.result.word()), ("attachment.update", "refused"));
    let accepted = update(&ids[1], true).await.expect("on the record");
    assert_eq!(accepted.attachment.data_loss_accepted_by.as_deref(), Some("admin"));
    w.node.put(view.volume.id, "gfs2", true);
    update(&ids[2], false).await.expect("made for it");
    let reader = w.member_of("default", Role::Reader).await;
    let refused = w.control.attachment_update(&reader, &ids[0], to(Mode::ReadOnly)).await;
    assert_eq!(code(refused), "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_and_fences_raced_leave_nobody_in() {
    let w = world().await;
    w.grant_multiattach("default").await;
    let volume = w.volume(&w.admin, "v", "ssd-multiattach").await.volume.id.to_string();
    w.hosts(&w.admin, 8).await;
    let ids = attached(&w, &volume, 8, Mode::ReadWrite).await;
    race(ids.iter().flat_map(|id| [(id.clone(), true), (id.clone(), false)]).map(|(id, fence)| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        async move {
            if fence {
                control.attachment_fence(&admin, &id).await.expect("fenced");
            } else if let Err(error) =
                control.attachment_update(&admin, &id, to(Mode::ReadOnly)).await
            {
                let late = ["attachment_not_found", "attachment_busy"];
                assert!(late.contains(&error.code()), "{error}");
            }
        }
    }))
    .await;
    w.volume_is(&w.admin, &volume, "available").await;
    assert_eq!(w.node.let_in(), 0);
    w.node.assert_was_asked_nothing_wrong();
}
