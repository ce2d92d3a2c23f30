//! Crashes change nothing but time: the same orders go out again, and the node converges.

mod world;

use std::sync::Arc;

use control::{Caller, SnapshotCreate, VolumeCreate, VolumeDelete, VolumeSource};
use model::order::{Mode, OrderError};
use tempfile::TempDir;
use world::fake_node::FakeNode;
use world::{CASCADE, World, attach, eventually, open_with, volume, world};

/// Start work that hangs at the node, and take the power away: tasks, connections, all.
fn crash_while(order: &'static str, prepare: fn(&tokio::runtime::Runtime, &World)) -> Crashed {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let w = runtime.block_on(world());
    w.node.stall(order);
    prepare(&runtime, &w);
    runtime.block_on(eventually("the order is on its way", async || {
        (w.node.sent(order) > 0).then_some(())
    }));
    let World { control, node, admin, dir, .. } = w;
    runtime.shutdown_background();
    drop(control);
    node.restart();
    Crashed { node, admin, dir }
}

struct Crashed {
    node: Arc<FakeNode>,
    admin: Caller,
    dir: TempDir,
}

impl Crashed {
    async fn reopen(self) -> World {
        let doors = Arc::default();
        let (control, token) = open_with(self.dir.path(), Some(&self.node), &doors).await;
        assert!(token.is_none(), "the first token is made once");
        control.start();
        World { doors, control, node: self.node, admin: self.admin, dir: self.dir }
    }
}

fn after(crashed: Crashed, check: impl AsyncFnOnce(World)) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let w = crashed.reopen().await;
        let node = Arc::clone(&w.node);
        check(w).await;
        node.assert_was_asked_nothing_wrong();
    });
}

#[test]
fn a_volume_in_the_making_is_made_after_the_crash() {
    let crashed = crash_while("CreateVolume", |runtime, w| {
        runtime.block_on(w.control.volume_create(&w.admin, volume("v", 1, "ssd"))).unwrap();
    });
    after(crashed, async |w| {
        w.volume_is(&w.admin, "v", "available").await;
        assert_eq!(w.node.volumes(), 1);
    });
}

#[test]
fn an_attach_and_those_before_it_are_sent_again_after_the_crash() {
    let crashed = crash_while("Attach", |runtime, w| {
        runtime.block_on(async {
            w.node.release("Attach");
            w.grant_multiattach("default").await;
            w.volume(&w.admin, "v", "ssd-multiattach").await;
            w.hosts(&w.admin, 3).await;
            let two = attach("v", &["host-1", "host-2"], Mode::ReadWrite);
            w.control.attachment_create(&w.admin, two).await.unwrap();
            w.attached(&w.admin, "v", 2).await;
            w.node.stall("Attach");
            let third = attach("v", &["host-3"], Mode::ReadWrite);
            w.control.attachment_create(&w.admin, third).await.unwrap();
        });
    });
    assert_eq!(crashed.node.let_in(), 0);
    after(crashed, async |w| {
        w.attached(&w.admin, "v", 3).await;
        eventually("all are let in", async || (w.node.let_in() == 3).then_some(())).await;
    });
}

#[test]
fn detaches_fences_and_deletions_go_on_after_the_crash() {
    let crashed = crash_while("Detach", |runtime, w| {
        runtime.block_on(async {
            w.volume(&w.admin, "v", "ssd").await;
            w.hosts(&w.admin, 1).await;
            let call = attach("v", &["host-1"], Mode::ReadWrite);
            let made = w.control.attachment_create(&w.admin, call).await.unwrap();
            w.attached(&w.admin, "v", 1).await;
            let id = made[0].view.attachment.id.to_string();
            w.control.attachment_delete(&w.admin, &id).await.unwrap();
        });
    });
    after(crashed, async |w| {
        w.volume_is(&w.admin, "v", "available").await;
        w.control.volume_delete(&w.admin, "v", VolumeDelete::default()).await.unwrap();
        w.volume_gone(&w.admin, "v").await;
    });
}

#[test]
fn a_clone_through_a_hidden_snapshot_is_finished_after_the_crash() {
    let crashed = crash_while("CreateSnapshot", |runtime, w| {
        runtime.block_on(async {
            w.volume(&w.admin, "base", "ssd").await;
            let source = VolumeSource::Volume("base".into());
            let new = VolumeCreate { name: "clone".into(), source, ..VolumeCreate::default() };
            w.control.volume_create(&w.admin, new).await.unwrap();
        });
    });
    after(crashed, async |w| {
        w.volume_is(&w.admin, "clone", "available").await;
        assert_eq!((w.node.volumes(), w.node.snapshots()), (2, 1));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_report_lost_once_changes_nothing_but_time() {
    let w = world().await;
    w.node.lose_first_reports();
    w.control.volume_create(&w.admin, volume("v", 1, "ssd")).await.unwrap();
    w.volume_is(&w.admin, "v", "available").await;
    let new = SnapshotCreate { volume: "v".into(), name: "s".into(), ..Default::default() };
    w.control.snapshot_create(&w.admin, new).await.unwrap();
    eventually("the snapshot", async || {
        let view = w.control.snapshot_get(&w.admin, "s").await.ok()?;
        (view.snapshot.state.word() == "available" && view.snapshot.fault.is_none()).then_some(())
    })
    .await;
    w.hosts(&w.admin, 1).await;
    let call = attach("v", &["host-1"], Mode::ReadWrite);
    let made = w.control.attachment_create(&w.admin, call).await.unwrap();
    w.attached(&w.admin, "v", 1).await;
    let id = made[0].view.attachment.id.to_string();
    // The first answer to a fence gets lost: the caller hears that it is not proven.
    let refused = w.control.attachment_fence(&w.admin, &id).await.unwrap_err();
    assert_eq!(refused.code(), "node_unreachable");
    w.volume_is(&w.admin, "v", "available").await;
    w.control.volume_delete(&w.admin, "v", CASCADE).await.unwrap();
    w.volume_gone(&w.admin, "v").await;
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_restarts_is_told_everything_again() {
    let w = world().await;
    w.volume(&w.admin, "v", "ssd").await;
    w.hosts(&w.admin, 1).await;
    w.control.attachment_create(&w.admin, attach("v", &["host-1"], Mode::ReadWrite)).await.unwrap();
    w.attached(&w.admin, "v", 1).await;
    w.node.restart();
    assert_eq!(w.node.let_in(), 0);
    w.control.node_restarted();
    eventually("it is let in again", async || (w.node.let_in() == 1).then_some(())).await;
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_fails_for_good_puts_the_volume_in_error_and_one_that_is_away_does_not() {
    let w = world().await;
    w.node.fail("CreateVolume", OrderError::Unreachable { why: "cable".into() });
    w.control.volume_create(&w.admin, volume("v", 1, "ssd")).await.unwrap();
    eventually("it says why", async || {
        let view = w.control.volume_get(&w.admin, "v").await.ok()?;
        (view.volume.fault.is_some() && w.node.sent("CreateVolume") > 2).then_some(())
    })
    .await;
    assert_eq!(w.control.volume_get(&w.admin, "v").await.unwrap().volume.status.word(), "creating");
    w.node.heal("CreateVolume");
    let made = w.volume_is(&w.admin, "v", "available").await;
    assert_eq!(made.volume.fault, None);
    w.node.fail("CreateVolume", OrderError::Failed { why: "disk".into() });
    w.control.volume_create(&w.admin, volume("w", 1, "ssd")).await.unwrap();
    w.volume_is(&w.admin, "w", "error").await;
    w.node.heal("CreateVolume");
    w.control.volume_delete(&w.admin, "w", VolumeDelete::default()).await.unwrap();
    w.volume_gone(&w.admin, "w").await;
}
