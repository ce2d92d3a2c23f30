//! The audit trail: who sees what of it, and how long it is kept.

mod world;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use control::{Control, EventFilter, Paging, ProjectUpdate, Settings};
use env::{Clock, OsRandom, RealClock};
use model::user::Role;
use world::fake_node::FakeNode;
use world::{code, world};

/// The machine's clock, some days ahead.
#[derive(Default)]
struct Ahead {
    real: RealClock,
    days: AtomicU64,
}

impl Clock for Ahead {
    fn now(&self) -> Duration {
        self.real.now()
    }
    fn wall_ms(&self) -> u64 {
        self.real.wall_ms() + self.days.load(Ordering::SeqCst) * 24 * 60 * 60 * 1000
    }
}

async fn kept(event_days: Option<u32>, rounds: u64) -> (u64, usize, usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(Ahead::default());
    let event_days = event_days.and_then(NonZeroU32::new);
    let settings = Settings { event_days, ..Settings::below(dir.path()) };
    let (node, random) = (Arc::new(FakeNode::default()), Arc::new(OsRandom));
    let links = control::NodeLinks { local: Some(node as _), doors: None };
    let (control, token) =
        Control::open(settings, links, clock.clone(), random).await.expect("the catalog opens");
    let admin = control.authenticate(&token.expect("the first"), "").await.expect("it is good");
    for _ in 0..rounds {
        let change = ProjectUpdate::default();
        control.project_update(&admin, "default", change).await.expect("an event");
    }
    clock.days.store(10, Ordering::SeqCst);
    control.project_update(&admin, "default", ProjectUpdate::default()).await.expect("a new one");
    let forgotten = control.forget_old_events().await.expect("forgotten");
    let filter = EventFilter {
        action: Some("project.update".into()),
        paging: Paging { limit: Some(1000), marker: None },
        ..EventFilter::default()
    };
    let left = control.event_list(&admin, &filter).await.expect("a list").items.len();
    let all = EventFilter { action: None, ..filter };
    let all = control.event_list(&admin, &all).await.expect("a list").items.len();
    (forgotten, left, all)
}

#[tokio::test]
async fn events_are_kept_as_long_as_the_settings_say() {
    let (forgotten, left, all) = kept(Some(9), 20).await;
    assert!(forgotten > 20, "those of the first start, too: {forgotten}");
    assert_eq!((left, all), (1, 1));
    let (forgotten, left, _) = kept(Some(11), 3).await;
    assert_eq!((forgotten, left), (0, 4));
    let (forgotten, left, _) = kept(None, 3).await;
    assert_eq!((forgotten, left), (0, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_of_another_project_does_not_exist() {
    let w = world().await;
    let mine = w.member_of("mine", Role::Member).await;
    let theirs = w.member_of("theirs", Role::Reader).await;
    w.host(&mine, "h").await;
    let events = w.control.event_list(&mine, &EventFilter::default()).await.unwrap().items;
    let made = events.iter().find(|event| event.action == "host.create").unwrap();
    let id = made.id.to_string();
    assert_eq!(&w.control.event_get(&mine, &id).await.unwrap(), made);
    assert_eq!(&w.control.event_get(&w.admin, &id).await.unwrap(), made);
    assert_eq!(code(w.control.event_get(&theirs, &id).await), "event_not_found");
    assert_eq!(code(w.control.event_get(&mine, "no id").await), "event_not_found");
}
