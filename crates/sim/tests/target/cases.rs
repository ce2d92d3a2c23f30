//! Reservation cases 1 to 6, 8, 10 and 11 in simulation.

use std::future::Future;
use std::time::Duration;

use iscsi::initiator::Data;
use iscsi::target::TmfFunction;
use sim::disk::Operation;
use sim::session::data_out;

use crate::world::{
    BLOCKS, CONFLICT, GOOD, Host, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTRANTS_ONLY, RELEASE,
    World, Write, cdb16, simulate,
};

const A: u64 = 0xA;
const B: u64 = 0xB;
const C: u64 = 0xC;

/// Two hosts on a network without delays, registered; the first holds type 5.
async fn two(world: &std::rc::Rc<World>) -> (Host, Host) {
    let (a, b) = (world.host(1, 1).await, world.host(2, 1).await);
    a.register(A).await;
    b.register(B).await;
    a.reserve(A, REGISTRANTS_ONLY).await;
    (a, b)
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// What it gives, when it is done within this time.
async fn within<T>(future: impl Future<Output = T>, millis: u64) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(millis), future).await.ok()
}

#[test]
fn case_01_writes_in_flight_end_before_preempt_and_abort_answers() {
    for seed in 0..10 {
        simulate(async {
            let world = World::new(seed, Duration::ZERO, 2).await;
            let (a, b) = two(&world).await;
            world.station.disk.hold(Operation::Write, ".data", 256);
            let writes: Vec<_> =
                (0..256).map(|at| b.start_write(at..at + 1, Write::default()).unwrap()).collect();
            pause(50).await;
            assert_eq!(world.station.disk.held(), 256, "seed {seed}");
            let mut preempt =
                Box::pin(a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (A, B), false));
            let early = within(&mut preempt, 2000).await;
            assert_eq!(early, None, "GOOD came while writes could land");
            assert_eq!(world.registered(), [(A, true)], "the state is flipped first");
            world.station.disk.lift();
            assert_eq!(preempt.await, Some(GOOD));
            for write in &writes {
                world.oracle.borrow_mut().close(write.sequence);
            }
            world.look().await;
            pause(5000).await;
            world.look().await;
            assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
            assert_eq!(b.write(0..1).await, Some(CONFLICT));
            assert_eq!(a.write(0..256).await, Some(GOOD));
            world.look().await;
        });
    }
}

#[test]
fn case_02_late_data_of_a_preempted_write_changes_no_block() {
    for seed in 0..10 {
        simulate(async {
            let world = World::new(seed, Duration::ZERO, 2).await;
            let (a, b) = two(&world).await;
            let kind = Write { withhold: true, ..Write::default() };
            let parked = b.start_write(100..164, kind).unwrap();
            pause(50).await;
            let preempt = a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (A, B), false);
            let done = within(preempt, 1000).await;
            assert_eq!(done.flatten(), Some(GOOD), "a write without data is no reason to wait");
            world.oracle.borrow_mut().never(parked.sequence);
            b.session().unwrap().release(&parked.pending);
            pause(1000).await;
            world.look().await;
            assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
        });
    }
}

#[test]
fn case_03_a_third_registrants_writes_are_neither_aborted_nor_waited_for() {
    simulate(async {
        let world = World::new(3, Duration::ZERO, 3).await;
        let (a, b) = two(&world).await;
        let c = world.host(3, 1).await;
        c.register(C).await;
        world.station.disk.hold(Operation::Write, ".data", 32);
        let writes: Vec<_> =
            (0..32).map(|at| c.start_write(at..at + 1, Write::default()).unwrap()).collect();
        pause(50).await;
        assert_eq!(world.station.disk.held(), 32);
        assert_eq!(b.write(64..65).await, Some(GOOD));
        let preempt = a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (A, B), false);
        let done = within(preempt, 1000).await;
        assert_eq!(done.flatten(), Some(GOOD), "it waits for C");
        world.station.disk.lift();
        for write in writes {
            assert_eq!(c.ended(write).await, Some(GOOD));
        }
        assert_eq!(c.attentions().await, []);
        world.look().await;
        assert_eq!(b.attentions().await, [(0x2A, 0x05), (0x2F, 0x00)]);
    });
}

/// Commands that change something, with their bytes of data-out.
fn write_class() -> Vec<(Vec<u8>, usize)> {
    let ten = |opcode: u8, flags: u8| vec![opcode, flags, 0, 0, 0, 0, 0, 0, 1, 0];
    let mut compare = cdb16(0x89, 0, 0, 0);
    compare[13] = 1;
    vec![
        (ten(0x2A, 0), 512),
        (ten(0x2E, 0), 512),
        (cdb16(0x8A, 0, 0, 1), 512),
        (cdb16(0x8E, 0, 0, 1), 512),
        (cdb16(0x8B, 0, 0, 1), 512),
        (compare, 1024),
        (ten(0x41, 0), 512),
        (cdb16(0x93, 0, 0, 1), 512),
        (cdb16(0x93, 0x08, 0, 1), 512),
        (cdb16(0x93, 0x01, 0, 1), 0),
        (vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24),
        (cdb16(0x91, 0, 0, 1), 0),
        (vec![0x04, 0, 0, 0, 0, 0], 0),
        (cdb16(0x83, 0, 0, 0), 0),
    ]
}

#[test]
fn case_04_a_stranger_changes_nothing_under_all_six_types() {
    simulate(async {
        let world = World::new(4, Duration::from_millis(1), 2).await;
        let (a, stranger) = (world.host(1, 1).await, world.host(2, 1).await);
        a.register(A).await;
        assert_eq!(a.write(0..8).await, Some(GOOD));
        for kind in [1, 3, 5, 6, 7, 8] {
            a.reserve(A, kind).await;
            for (cdb, bytes) in write_class() {
                let mut data = vec![0xEE; bytes];
                if bytes == 24 {
                    data = vec![0; 24];
                    (data[1], data[3], data[19]) = (22, 16, 1);
                }
                let data = if bytes == 0 { Data::None } else { data_out(data) };
                let got = stranger.run(&cdb, data).await;
                assert_eq!(got, Some(CONFLICT), "type {kind}: {cdb:x?}");
            }
            world.look().await;
            let got = stranger.read(0..8).await;
            let exclusive = matches!(kind, 3 | 6 | 8);
            assert_eq!(got, Some(if exclusive { CONFLICT } else { GOOD }), "type {kind}");
            let parked = Write { withhold: true, ..Write::default() };
            assert_eq!(a.reserve_out(RELEASE, kind, (A, 0), false).await, Some(GOOD));
            // A write that was let in, whose data comes when it would not be let in any more.
            let parked = stranger.start_write(0..8, parked).unwrap();
            pause(50).await;
            a.reserve(A, kind).await;
            stranger.session().unwrap().release(&parked.pending);
            assert_eq!(stranger.ended(parked).await, Some(CONFLICT), "type {kind}");
            world.look().await;
            assert_eq!(a.reserve_out(RELEASE, kind, (A, 0), false).await, Some(GOOD));
        }
        assert_eq!(stranger.write(0..8).await, Some(GOOD));
        world.look().await;
    });
}

#[test]
fn case_05_the_same_isid_is_the_same_port_after_a_second_and_after_an_hour() {
    simulate(async {
        let world = World::new(5, Duration::from_millis(1), 2).await;
        let a = world.host(1, 1).await;
        a.register(A).await;
        a.reserve(A, 1).await;
        for away in [1, 3600] {
            a.session().unwrap().log_out().await;
            tokio::time::sleep(Duration::from_secs(away)).await;
            assert!(a.log_in().await);
            assert_eq!(a.attentions().await, [(0x29, 0x07)], "away for {away} s");
            assert_eq!(a.write(0..4).await, Some(GOOD), "still the holder after {away} s");
            assert_eq!(world.registered(), [(A, true)]);
        }
        let other = world.host(1, 2).await;
        assert_eq!(other.write(0..4).await, Some(CONFLICT), "another ISID is another port");
        assert_eq!(other.reserve_in(0).await[8..16], A.to_be_bytes(), "which sees the old key");
        world.look().await;
    });
}

#[test]
fn case_06_two_isids_of_one_iqn_are_two_nexuses() {
    simulate(async {
        let world = World::new(6, Duration::from_millis(1), 2).await;
        let (first, second) = (world.host(1, 1).await, world.host(1, 2).await);
        let holder = world.host(2, 1).await;
        holder.register(B).await;
        holder.reserve(B, REGISTRANTS_ONLY).await;
        first.register(A).await;
        assert_eq!(first.write(0..4).await, Some(GOOD));
        assert_eq!(second.write(0..4).await, Some(CONFLICT));
        second.register(A).await;
        assert_eq!(first.reserve_out(REGISTER, 0, (A, 0), false).await, Some(GOOD));
        assert_eq!(first.write(0..4).await, Some(CONFLICT));
        assert_eq!(second.write(0..4).await, Some(GOOD), "the other one stays");
        world.look().await;
    });
}

#[test]
fn case_08_all_registrants_hold_until_the_last_one_leaves() {
    simulate(async {
        let world = World::new(8, Duration::from_millis(1), 3).await;
        let (a, b) = (world.host(1, 1).await, world.host(2, 1).await);
        let stranger = world.host(3, 1).await;
        a.register(A).await;
        b.register(B).await;
        a.reserve(A, 7).await;
        let reservation = a.reserve_in(1).await;
        assert_eq!((reservation[7], &reservation[8..16]), (16, &[0; 8][..]), "its key is zero");
        assert_eq!(world.registered(), [(A, true), (B, true)]);
        assert_eq!(a.reserve_out(REGISTER, 0, (A, 0), false).await, Some(GOOD));
        assert_eq!(b.write(0..4).await, Some(GOOD));
        assert_eq!(stranger.write(0..4).await, Some(CONFLICT), "still protected");
        assert_eq!(a.write(0..4).await, Some(CONFLICT));
        assert_eq!(b.reserve_out(REGISTER, 0, (B, 0), false).await, Some(GOOD));
        assert_eq!(stranger.reserve_in(1).await[7], 0, "the last one took it along");
        assert_eq!(stranger.write(0..4).await, Some(GOOD));
        world.look().await;
    });
}

#[test]
fn case_10_preempt_ignores_a_type_that_it_does_not_use_and_release_does_not() {
    simulate(async {
        let world = World::new(10, Duration::from_millis(1), 2).await;
        let (a, _b) = two(&world).await;
        let released = a.reserve_out(RELEASE, 1, (A, 0), false).await;
        assert_eq!(released, Some((2, 5, 0x26, 0x04)));
        assert_eq!(a.reserve_out(PREEMPT, 0, (A, B), false).await, Some(GOOD));
        assert_eq!(world.registered(), [(A, true)]);
    });
}

#[test]
fn case_11_sixteen_paths_register_within_twenty_milliseconds() {
    simulate(async {
        let world = World::new(11, Duration::from_millis(2), 1).await;
        let mut paths = Vec::new();
        for port in 1..=16 {
            paths.push(world.host(1, port).await);
        }
        let begun = tokio::time::Instant::now();
        // With APTPL, so that each has a record to make durable.
        let all = paths.iter().map(|path| path.reserve_out(REGISTER, 0, (0, A), true));
        let answers = futures::future::join_all(all).await;
        assert!(answers.iter().all(|answer| *answer == Some(GOOD)), "{answers:?}");
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(20), "{took:?} of network and waiting");
        assert_eq!(world.registered().len(), 16);
    });
}

#[test]
fn a_write_whose_stream_broke_is_still_waited_for() {
    simulate(async {
        let world = World::new(20, Duration::ZERO, 2).await;
        let (a, b) = two(&world).await;
        world.station.disk.hold(Operation::Write, ".data", 1);
        let write = b.start_write(0..8, Write::default()).unwrap();
        pause(50).await;
        b.session().unwrap().stream().cut();
        pause(50).await;
        let mut preempt =
            Box::pin(a.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (A, B), false));
        assert!(within(&mut preempt, 2000).await.is_none(), "it could land after GOOD");
        world.station.disk.lift();
        assert_eq!(preempt.await, Some(GOOD));
        world.oracle.borrow_mut().close(write.sequence);
        world.look().await;
        pause(1000).await;
        world.look().await;
    });
}

/// A write and the function that aborts it arrive together: the write has not begun when its gate
/// closes, and must not begin afterwards.
#[test]
fn a_write_that_is_aborted_before_it_begins_never_lands() {
    for seed in 0..20 {
        simulate(async {
            let world = World::new(seed, Duration::ZERO, 1).await;
            let a = world.host(1, 1).await;
            world.station.disk.hold(Operation::Write, ".data", 1);
            let write = a.start_write(0..1, Write::default()).unwrap();
            let session = a.session().unwrap();
            if within(session.manage(TmfFunction::AbortTaskSet), 1000).await.is_some() {
                world.oracle.borrow_mut().close(write.sequence);
                world.look().await;
            }
            world.station.disk.lift();
            pause(1000).await;
            world.look().await;
        });
    }
}

#[test]
fn a_session_that_is_opened_anew_leaves_nothing_of_the_old_one_to_land() {
    simulate(async {
        let world = World::new(21, Duration::ZERO, 1).await;
        let a = world.host(1, 1).await;
        world.station.disk.hold(Operation::Write, ".data", 1);
        let write = a.start_write(0..8, Write::default()).unwrap();
        pause(50).await;
        let again = Host::new(&world, 1, 1);
        let mut login = Box::pin(again.log_in());
        assert!(within(&mut login, 2000).await.is_none(), "the old session could still write");
        world.station.disk.lift();
        assert!(login.await);
        world.oracle.borrow_mut().close(write.sequence);
        world.look().await;
        again.attentions().await;
        assert_eq!(again.write(0..8).await, Some(GOOD));
        pause(1000).await;
        assert_eq!(again.read(0..BLOCKS).await, Some(GOOD));
    });
}
