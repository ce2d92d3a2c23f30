//! Snapshots by the clock, on a clock that the test turns.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use control::{
    Caller, Control, PoolCreate, QuotaChange, ScheduleCreate, ScheduleFilter, ScheduleUpdate,
    Settings, SnapshotCreate, SnapshotFilter, SnapshotView, VolumeDelete,
};
use env::{Clock, OsRandom};
use model::order::{IoMode, OrderError};
use model::pool::Driver;
use model::size::ByteSize;
use tempfile::TempDir;
use world::code;
use world::fake_node::FakeNode;

const HOUR_MS: u64 = 3_600_000;
/// 2026-01-31 18:00:00 UTC.
const START_MS: u64 = 1_769_882_400_000;

struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct World {
    control: Control,
    node: Arc<FakeNode>,
    clock: Arc<Hands>,
    admin: Caller,
    dir: TempDir,
}

async fn open(
    dir: &TempDir,
    node: &Arc<FakeNode>,
    clock: &Arc<Hands>,
) -> (Control, Option<String>) {
    let links = control::NodeLinks { local: Some(Arc::clone(node) as _), doors: None };
    let clock = Arc::clone(clock) as _;
    Control::open(Settings::below(dir.path()), links, clock, Arc::new(OsRandom)).await.unwrap()
}

/// Without its loops: the test asks for what they do. A volume of each kind.
async fn world() -> World {
    let (dir, node) = (TempDir::new().unwrap(), Arc::<FakeNode>::default());
    let clock = Arc::new(Hands(AtomicU64::new(START_MS)));
    let (control, token) = open(&dir, &node, &clock).await;
    let admin = control.authenticate(&token.unwrap(), "192.0.2.1").await.unwrap();
    for (class, driver) in [("ssd", Driver::Local), ("file", Driver::Dir)] {
        let (name, path) = (class.to_owned(), format!("/pools/{class}"));
        let (class, io) = (class.to_owned(), IoMode::Cached);
        let pool = PoolCreate { name, class, path, driver, io, node: None, capacity: None };
        control.pool_create(&admin, pool).await.unwrap();
    }
    control.reconcile().await.unwrap();
    for (name, kind) in [("tree", "file"), ("disk", "ssd")] {
        control.volume_create(&admin, world::volume(name, 1, kind)).await.unwrap();
    }
    control.reconcile().await.unwrap();
    World { control, node, clock, admin, dir }
}

fn hourly(volume: &str, keep: u32) -> ScheduleCreate {
    let (volume, name) = (volume.to_owned(), "hourly".to_owned());
    ScheduleCreate { volume, name, every_ms: HOUR_MS, keep }
}

impl World {
    /// So much later, with all that is due.
    async fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        self.control.schedules_run().await.unwrap();
        self.control.reconcile().await.unwrap();
    }
    async fn snapshots(&self, volume: &str) -> Vec<SnapshotView> {
        let volume = Some(volume.to_owned());
        let filter = SnapshotFilter { volume, ..SnapshotFilter::default() };
        self.control.snapshot_list(&self.admin, &filter).await.unwrap().items
    }
    async fn names(&self, volume: &str) -> Vec<String> {
        let all = self.snapshots(volume).await;
        all.into_iter().map(|view| view.snapshot.name).collect()
    }
    async fn fault(&self) -> Option<String> {
        self.control.schedule_get(&self.admin, "hourly").await.unwrap().schedule.fault
    }
}

#[tokio::test]
async fn the_newest_stay_of_file_and_of_block_volumes() {
    let world = world().await;
    for volume in ["tree", "disk"] {
        let by_hand = SnapshotCreate {
            volume: volume.to_owned(),
            name: "by-hand".to_owned(),
            ..SnapshotCreate::default()
        };
        world.control.snapshot_create(&world.admin, by_hand).await.unwrap();
        world.control.schedule_create(&world.admin, hourly(volume, 2)).await.unwrap();
    }
    world.pass(0).await;
    assert_eq!(world.names("tree").await, ["by-hand", "hourly-20260131T180000Z"], "one at once");
    for _ in 0..5 {
        world.pass(HOUR_MS / 2).await;
        world.pass(HOUR_MS / 2).await;
    }
    let last = ["by-hand", "hourly-20260131T220000Z", "hourly-20260131T230000Z"];
    assert_eq!(world.names("tree").await, last);
    assert_eq!(world.names("disk").await, last);
    world.node.assert_was_asked_nothing_wrong();
}

#[tokio::test]
async fn a_service_that_was_away_takes_one_and_keeps_the_hour() {
    let world = world().await;
    world.control.schedule_create(&world.admin, hourly("tree", 9)).await.unwrap();
    world.pass(0).await;
    world.control.close().await;
    world.clock.0.fetch_add(10 * HOUR_MS + 60_000, Ordering::Relaxed);
    let (control, _) = open(&world.dir, &world.node, &world.clock).await;
    let world = World { control, ..world };
    world.pass(0).await;
    world.pass(1000).await;
    let names = world.names("tree").await;
    assert_eq!(names, ["hourly-20260131T180000Z", "hourly-20260201T040100Z"]);
    world.pass(HOUR_MS - 61_000).await;
    assert_eq!(world.names("tree").await.last().unwrap(), "hourly-20260201T050000Z");
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_and_tried_again_the_next_time() {
    let world = world().await;
    world.control.schedule_create(&world.admin, hourly("tree", 2)).await.unwrap();
    world.pass(0).await;

    // Full: refused before the node is asked, and all that there were stay.
    world.node.set_space(ByteSize::gib(1), ByteSize::gib(1));
    world.pass(HOUR_MS).await;
    let fault = world.fault().await.expect("a full pool is told");
    assert!(fault.contains("free"), "{fault}");
    assert_eq!(world.names("tree").await.len(), 1);
    world.node.set_space(ByteSize::gib(8), ByteSize::gib(1));

    // The node finds out itself: nothing half made is left over.
    let full = OrderError::NoSpace { needed: ByteSize::gib(2), free: ByteSize::gib(1) };
    world.node.fail("CreateSnapshot", full);
    world.pass(HOUR_MS).await;
    assert!(world.fault().await.is_some_and(|fault| fault.contains("full")));
    assert_eq!(world.names("tree").await, ["hourly-20260131T180000Z"]);

    world.node.heal("CreateSnapshot");
    world.pass(HOUR_MS).await;
    assert_eq!(world.fault().await, None);
    assert_eq!(world.names("tree").await.len(), 2);
}

#[tokio::test]
async fn a_snapshot_waits_for_a_volume_that_is_at_other_work() {
    let world = world().await;
    world.node.fail("RevertVolume", OrderError::Unreachable { why: "away".to_owned() });
    world.control.schedule_create(&world.admin, hourly("tree", 2)).await.unwrap();
    world.pass(0).await;
    let revert = world::revert("hourly-20260131T180000Z");
    world.control.volume_revert(&world.admin, "tree", revert).await.unwrap();
    world.pass(HOUR_MS).await;
    assert_eq!(world.names("tree").await.len(), 1);
    assert!(world.fault().await.is_some_and(|fault| fault.contains("reverting")));
    world.node.heal("RevertVolume");
    world.control.start();
    world::eventually("the volume is back", async || {
        let tree = world.control.volume_get(&world.admin, "tree").await.ok()?;
        (tree.volume.status.word() == "available").then_some(())
    })
    .await;
    world.pass(60_000).await;
    assert_eq!(world.names("tree").await.len(), 2);
    assert_eq!(world.fault().await, None);
}

#[tokio::test]
async fn bad_schedules_are_refused_with_the_reason() {
    let world = world().await;
    let create = async |change: &dyn Fn(&mut ScheduleCreate)| {
        let mut new = hourly("tree", 2);
        change(&mut new);
        code(world.control.schedule_create(&world.admin, new).await)
    };
    assert_eq!(create(&|new| new.every_ms = 59_999).await, "invalid_value");
    assert_eq!(create(&|new| new.every_ms = u64::MAX).await, "invalid_value");
    assert_eq!(create(&|new| new.keep = 0).await, "invalid_value");
    assert_eq!(create(&|new| new.name = "a/b".to_owned()).await, "invalid_value");
    assert_eq!(create(&|new| new.name = "n".repeat(250)).await, "invalid_value");
    assert_eq!(create(&|new| new.volume = "nobody".to_owned()).await, "volume_not_found");
    assert_eq!(create(&|new| new.keep = 64).await, "quota_exceeded");
    let made = world.control.schedule_create(&world.admin, hourly("tree", 40)).await.unwrap();
    assert_eq!(create(&|new| new.keep = 1).await, "name_taken");
    let daily = |new: &mut ScheduleCreate| new.name = "daily".to_owned();
    // 41 of 64 are promised.
    assert_eq!(create(&|new| (daily(new), new.keep = 23).0).await, "quota_exceeded");
    let quota = QuotaChange { snapshots_per_volume: Some(200), ..QuotaChange::default() };
    let change = control::ProjectUpdate { quotas: quota, ..control::ProjectUpdate::default() };
    world.control.project_update(&world.admin, "default", change).await.unwrap();
    for number in 1..8 {
        let mut new = hourly("tree", 1);
        new.name = format!("number-{number}");
        world.control.schedule_create(&world.admin, new).await.unwrap();
    }
    assert_eq!(create(&daily).await, "quota_exceeded");
    let less = ScheduleUpdate { keep: Some(0), ..ScheduleUpdate::default() };
    let id = made.schedule.id.to_string();
    let refused = world.control.schedule_update(&world.admin, &id, less).await;
    assert_eq!(code(refused), "invalid_value");
}

#[tokio::test]
async fn fewer_are_kept_at_once_and_an_end_leaves_the_snapshots() {
    let world = world().await;
    world.control.schedule_create(&world.admin, hourly("tree", 5)).await.unwrap();
    for _ in 0..5 {
        world.pass(HOUR_MS).await;
    }
    assert_eq!(world.names("tree").await.len(), 5);
    let less = ScheduleUpdate { keep: Some(2), every_ms: Some(2 * HOUR_MS) };
    world.control.schedule_update(&world.admin, "hourly", less).await.unwrap();
    world.pass(HOUR_MS).await;
    assert_eq!(world.names("tree").await.len(), 2, "and none before two hours are over");
    world.pass(HOUR_MS).await;
    let before = world.names("tree").await;
    assert_eq!(before.last().unwrap(), "hourly-20260201T010000Z");
    world.control.schedule_delete(&world.admin, "hourly").await.unwrap();
    world.pass(9 * HOUR_MS).await;
    assert_eq!(world.names("tree").await, before);

    // A volume goes with its schedules.
    world.control.schedule_create(&world.admin, hourly("tree", 5)).await.unwrap();
    let all = VolumeDelete { cascade: true, ..VolumeDelete::default() };
    world.control.volume_delete(&world.admin, "tree", all).await.unwrap();
    world.control.reconcile().await.unwrap();
    let left = world.control.schedule_list(&world.admin, &ScheduleFilter::default()).await.unwrap();
    assert!(left.items.is_empty(), "{left:?}");
}
