//! Fence and detach: what the control plane may believe when the order is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host::{AsyncEvent, HostError};
use model::order::{Access, Mode, Order, OrderError, Report};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::backend::Treatment;
use crate::client::{BLOCK, Client, GOOD, REGISTRANTS_ONLY};
use crate::world::{SHORT, World};

fn cut_off(report: Result<Report, OrderError>) -> (u32, u32) {
    match report {
        Ok(Report::CutOff { sessions, registrations }) => (sessions, registrations),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_answers_after_the_drain_and_nothing_of_the_host_lands_later() {
    let world = World::start().await;
    let (victim, other) = (world.host(1).await, world.host(2).await);
    victim.register(0xA).await;
    other.register(0xB).await;
    victim.reserve(0xA, REGISTRANTS_ONLY).await;
    let own: u64 = 16 << 20;
    world.backend.treat_at(".data", 0..own, Treatment::Hold);
    let mut pending = Vec::new();
    for number in 0..32 {
        pending.push(victim.start_write(number, vec![0xAA; BLOCK]).await);
    }
    world.backend.holds(32).await;
    let parked = victim.start_write_without_data(500, vec![0xAA; BLOCK]).await;
    let (node, order) = (Arc::clone(&world.node), world.fence_order(1));
    let fence = tokio::spawn(async move { node.order(order).await });
    tokio::time::sleep(SHORT).await;
    assert!(!fence.is_finished(), "the fence answered while writes could land");
    let refused = world.connect(1, 1).await;
    assert!(matches!(refused, Err(HostError::LoginRefused { class: 2, .. })), "{refused:?}");
    assert_eq!(other.write(own / 512, vec![0xBB; BLOCK]).await, GOOD, "other hosts go on");
    world.backend.lift();
    assert_eq!(cut_off(fence.await.unwrap()), (1, 1));
    let (landed, before) = (world.backend.landed(), other.attentions().await);
    assert_eq!(before, [(0x2A, 0x04)], "the reservation went with its holder");
    let _ = parked.release().await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(world.backend.landed(), landed, "a write landed after the fence");
    assert_eq!(other.read(500, 1).await, vec![0; BLOCK]);
    assert_eq!(world.registered(), [(0xB, false)]);
    for pending in pending {
        assert!(matches!(pending.outcome().await, Err(HostError::Lost(_))));
    }
    assert!(world.connect(1, 1).await.is_err());
    assert_eq!(cut_off(world.order(world.fence_order(1)).await), (0, 0), "again: the same");
    let world = {
        drop((victim, other));
        world.stop().await.start().await
    };
    assert!(world.connect(1, 1).await.is_err(), "a restart does not let it in again");
    assert!(world.connect(2, 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_failed_half_way_still_removes_the_registrations_when_repeated() {
    let world = World::start().await;
    let (victim, other) = (world.host(1).await, world.host(2).await);
    victim.register_aptpl(0xA).await;
    victim.reserve(0xA, REGISTRANTS_ONLY).await;
    world.backend.treat("reservations", Treatment::Fail(5));
    let failed = world.order(world.fence_order(1)).await;
    assert!(matches!(failed, Err(OrderError::Failed { .. })), "{failed:?}");
    assert!(world.connect(1, 1).await.is_err(), "it is locked out all the same");
    world.backend.lift();
    assert_eq!(cut_off(world.order(world.fence_order(1)).await), (0, 1));
    assert_eq!(world.registered(), []);
    assert_eq!(other.write(0, vec![1; BLOCK]).await, GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_cut_short_by_a_crash_is_completed_by_the_repeated_order() {
    let world = World::start().await;
    let victim = world.host(1).await;
    world.attach(2).await;
    victim.register_aptpl(0xA).await;
    victim.reserve(0xA, REGISTRANTS_ONLY).await;
    world.backend.treat("reservations", Treatment::Hold);
    {
        let order = world.node.order(world.fence_order(1));
        assert!(tokio::time::timeout(SHORT, order).await.is_err(), "the record is held");
    }
    let world = world.kill().await.start().await;
    assert_eq!(cut_off(world.order(world.fence_order(1)).await), (0, 1));
    assert_eq!(world.registered(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_detached_is_asked_to_log_out() {
    let world = World::start().await;
    let client = world.host(1).await;
    client.register(0xA).await;
    let mut notices = client.session.notices();
    let (node, order) = (Arc::clone(&world.node), world.detach_order(1));
    let detach = tokio::spawn(async move { node.order(order).await });
    let asked = tokio::time::timeout(Duration::from_secs(2), notices.recv()).await;
    assert_eq!(asked.unwrap().unwrap().event, AsyncEvent::RequestLogout);
    assert_eq!(client.write(0, vec![1; BLOCK]).await, GOOD, "it may end what it does");
    client.session.logout().await.unwrap();
    let gone = Instant::now();
    assert_eq!(cut_off(detach.await.unwrap()), (1, 1));
    assert!(gone.elapsed() < Duration::from_secs(2), "nobody is waited for any more");
    assert!(world.connect(1, 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ignores_its_detach_is_cut_off_after_the_grace() {
    let world = World::start().await;
    let client = world.host(1).await;
    let begun = Instant::now();
    assert_eq!(cut_off(world.order(world.detach_order(1)).await), (1, 0));
    assert!(begun.elapsed() >= Duration::from_secs(2), "it had no time");
    let cdb = [0; 6];
    let lost = client.outcome(&cdb, host::Data::None).await;
    assert!(matches!(lost, Err(HostError::Lost(_))), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_hosts_attach_at_once_and_all_may_write() {
    let world = Arc::new(World::start().await);
    let tasks: Vec<_> = (1..=16)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let client = world.host(number).await;
                let data = vec![number; BLOCK];
                assert_eq!(client.write(u64::from(number), data.clone()).await, GOOD);
                assert_eq!(client.read(u64::from(number), 1).await, data);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_attach_twice_at_once_is_done_twice() {
    let world = World::start().await;
    for number in 1..=8 {
        let access = world.access(number);
        let order = || world.order(Order::Attach { access: access.clone() });
        let (one, two) = tokio::join!(order(), order());
        assert_eq!(one.unwrap(), two.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_terms_end_the_sessions_under_the_old_ones() {
    let world = World::start().await;
    let client = world.host(1).await;
    let access = Access { mode: Mode::ReadOnly, ..world.access(1) };
    world.order(Order::Attach { access: access.clone() }).await.unwrap();
    let lost = client.outcome(&[0; 6], host::Data::None).await;
    assert!(matches!(lost, Err(HostError::Lost(_))), "{lost:?}");
    let client = world.login(1, 1).await;
    assert_eq!(client.write(0, vec![1; BLOCK]).await, (2, 7, 0x27, 0x00));
    world.order(Order::Attach { access }).await.unwrap();
    assert_eq!(client.ready().await, GOOD, "the same terms end nothing");
}

/// Writers that log in and write for ever, against fences and attaches; after each fence nothing
/// of the host may land and no session may be left.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_fence_whatever_races_with_it() {
    let world = Arc::new(World::start().await);
    world.attach(9).await;
    let mut random = StdRng::seed_from_u64(42);
    for round in 0..40 {
        let terms = Access {
            mode: if round % 2 == 0 { Mode::ReadWrite } else { Mode::ReadOnly },
            ..world.access(1)
        };
        world.attach(1).await;
        let mut tasks = Vec::new();
        for port in [1, 1, 1, 2] {
            let (world, delay) = (Arc::clone(&world), random.random_range(0..3000));
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(delay)).await;
                let Ok(session) = world.connect(1, port).await else { return };
                let client = Client::new(session);
                while client
                    .outcome(&crate::client::cdb16(0x91, 0, 0, 1), host::Data::None)
                    .await
                    .is_ok()
                {}
            }));
        }
        let (other, delay) = (Arc::clone(&world), random.random_range(0..3000));
        tasks.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(delay)).await;
            other.order(Order::Attach { access: terms }).await.unwrap();
        }));
        tokio::time::sleep(Duration::from_micros(random.random_range(0..6000))).await;
        // The attach of new terms may come after the fence: the last fence comes after both.
        world.order(world.fence_order(1)).await.unwrap();
        let attach = tasks.pop().unwrap();
        attach.await.unwrap();
        world.order(world.fence_order(1)).await.unwrap();
        let left = world.node.sessions(world.volume);
        assert_eq!(left, [], "round {round}");
        // A writer that is still served would never end.
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(10), task)
                .await
                .unwrap_or_else(|_| panic!("round {round}: a session survived the fence"))
                .unwrap();
        }
    }
}
