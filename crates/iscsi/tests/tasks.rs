//! Order, window, task management, pings, logout, notices.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod harness;

use bytes::Bytes;
use harness::{World, read10, wire, write10};
use iscsi::initiator::{self, Data};
use iscsi::pdu::NO_TAG;
use iscsi::pdu::command::{Attribute, ScsiCommand};
use iscsi::pdu::data::Snack;
use iscsi::pdu::logout::{LogoutReason, LogoutRequest, LogoutResult};
use iscsi::pdu::nop::NopOut;
use iscsi::pdu::notice::{AsyncEvent, RejectReason};
use iscsi::pdu::task_management::{TaskManagementRequest, TmfFunction, TmfResponse};
use iscsi::target::{Event, LogoutReason as Reason, Settings};

fn command(itt: u32, cmd_sn: u32) -> ScsiCommand {
    ScsiCommand {
        immediate: false,
        final_: true,
        read: false,
        write: false,
        attribute: Attribute::Simple,
        lun: 0,
        itt,
        expected_bytes: 0,
        cmd_sn,
        exp_stat_sn: 0,
        cdb: [0; 16],
    }
}

/// The tags of the commands that were handed up, in order.
fn handed_up(world: &World) -> Vec<u32> {
    let itt = |event: &Event| match event {
        Event::Command { task, .. } => Some(task.itt),
        _ => None,
    };
    world.target_seen.iter().filter_map(itt).collect()
}

fn rejections(world: &World) -> Vec<RejectReason> {
    let reason = |event: &initiator::Event| match event {
        initiator::Event::Rejected { reason, .. } => Some(*reason),
        _ => None,
    };
    world.seen.iter().filter_map(reason).collect()
}

#[test]
fn commands_are_handed_up_in_the_order_of_their_numbers() {
    let mut world = World::logged_in(1);
    // The login used CmdSN 1 without using it up.
    for (itt, cmd_sn) in [(103, 3), (102, 2), (105, 5), (101, 1)] {
        world.forge(&wire(command(itt, cmd_sn).encode(), &[]));
    }
    assert_eq!(handed_up(&world), [101, 102, 103]);
    world.forge(&wire(command(104, 4).encode(), &[]));
    assert_eq!(handed_up(&world), [101, 102, 103, 104, 105]);
}

#[test]
fn outside_the_window_is_ignored() {
    let mut world = World::logged_in(2);
    for cmd_sn in [0, u32::MAX, 1 + 128, 1 << 31] {
        world.forge(&wire(command(200, cmd_sn).encode(), &[]));
    }
    assert_eq!(handed_up(&world), [0; 0]);
    assert_eq!(world.seen.len(), 1, "and nothing is answered: {:?}", world.seen);
    let immediate = ScsiCommand { immediate: true, ..command(201, 1) };
    world.forge(&wire(immediate.encode(), &[]));
    world.forge(&wire(command(202, 1).encode(), &[]));
    world.forge(&wire(command(203, 1).encode(), &[]));
    assert_eq!(handed_up(&world), [201, 202], "immediate uses up no number, a repeated one is old");
}

#[test]
fn the_window_holds_commands_back_and_opens_again() {
    let settings = Settings { window: 4, ..Settings::default() };
    let mut world = World::new(3, settings, harness::options(), harness::open_book());
    world.answers = false;
    let handles: Vec<_> = (0..10).map(|_| world.submit(&[0; 6], Data::None)).collect();
    world.run();
    assert_eq!(handed_up(&world).len(), 4);
    for round in 5..=10 {
        let task = world.target.tasks().min_by_key(|task| task.serial).unwrap();
        world.answer(task);
        world.run();
        assert_eq!(handed_up(&world).len(), round);
    }
    world.answers = true;
    let rest: Vec<_> = world.target.tasks().collect();
    rest.into_iter().for_each(|task| world.answer(task));
    world.run();
    assert!(handles.into_iter().all(|handle| world.outcome(handle).is_some()));
    assert_eq!(handed_up(&world).len(), 10);
}

#[test]
fn task_management() {
    let mut world = World::logged_in(4);
    world.answers = false;
    let first = world.submit(&read10(0, 1), Data::In(512));
    let second = world.submit(&write10(0, 1), Data::Out(vec![Bytes::from(vec![1; 512])]));
    world.run();
    let itt = world.initiator.task_management(TmfFunction::AbortTask, 0, Some(first)).unwrap();
    world.run();
    let done = |itt, response| initiator::Event::TaskManagementDone { itt, response };
    assert!(world.seen.contains(&done(itt, TmfResponse::Complete)));
    assert_eq!(world.target.tasks().map(|task| task.itt).collect::<Vec<_>>(), [second.0]);
    // On another logical unit the tag names no task.
    let itt =
        world.initiator.task_management(TmfFunction::AbortTask, 1 << 48, Some(second)).unwrap();
    world.run();
    assert!(world.seen.contains(&done(itt, TmfResponse::TaskDoesNotExist)));
    for (function, response) in [
        (TmfFunction::ClearAca, TmfResponse::NotSupported),
        (TmfFunction::TaskReassign, TmfResponse::ReassignNotSupported),
        (TmfFunction::TargetWarmReset, TmfResponse::Complete),
    ] {
        let itt = world.initiator.task_management(function, 0, None).unwrap();
        world.run();
        assert!(world.seen.contains(&done(itt, response)), "{function:?}");
    }
    assert_eq!(world.target.tasks().count(), 0);
    assert!(world.seen.contains(&initiator::Event::Aborted { task: second }));
    let request = TaskManagementRequest {
        immediate: true,
        function: None,
        lun: 0,
        itt: 900,
        referenced: NO_TAG,
        cmd_sn: 0,
        exp_stat_sn: 0,
        ref_cmd_sn: 0,
    };
    world.forge(&wire(request.encode(), &[]));
    assert_eq!(world.target_error, None);
}

#[test]
fn a_command_that_waits_for_its_turn_can_be_aborted() {
    let mut world = World::logged_in(5);
    world.forge(&wire(command(302, 2).encode(), &[]));
    let request = TaskManagementRequest {
        immediate: true,
        function: Some(TmfFunction::AbortTask),
        lun: 0,
        itt: 303,
        referenced: 302,
        cmd_sn: 3,
        exp_stat_sn: 0,
        ref_cmd_sn: 2,
    };
    world.forge(&wire(request.encode(), &[]));
    world.forge(&wire(command(301, 1).encode(), &[]));
    world.forge(&wire(command(304, 3).encode(), &[]));
    assert_eq!(handed_up(&world), [301, 304]);
}

#[test]
fn what_is_rejected_and_goes_on() {
    let mut world = World::logged_in(6);
    world.answers = false;
    world.forge(&wire(command(400, 1).encode(), &[]));
    let reserved = {
        let mut header = command(401, 3).encode();
        header.0[1] |= 7;
        header
    };
    for (bytes, reason) in [
        (
            wire(Snack { kind: 0, itt: 400, first: 0, count: 0 }.encode(), &[]),
            RejectReason::SnackReject,
        ),
        (wire(command(400, 2).encode(), &[]), RejectReason::TaskInProgress),
        (wire(reserved, &[]), RejectReason::InvalidPduField),
        (wire(command(NO_TAG, 4).encode(), &[]), RejectReason::InvalidPduField),
        (vec![0x1c; 1].into_iter().chain([0; 47]).collect(), RejectReason::CommandNotSupported),
        (
            wire(ScsiCommand { final_: false, ..command(402, 5) }.encode(), &[]),
            RejectReason::InvalidPduField,
        ),
    ] {
        let before = rejections(&world).len();
        world.forge(&bytes);
        assert_eq!(rejections(&world)[before..], [reason]);
    }
    assert_eq!((handed_up(&world), &world.target_error), (vec![400], &None));
}

#[test]
fn immediate_commands_are_bounded() {
    let mut world = World::logged_in(7);
    world.answers = false;
    for itt in 1000..1300 {
        let immediate = ScsiCommand { immediate: true, ..command(itt, 1) };
        world.forge(&wire(immediate.encode(), &[]));
    }
    assert_eq!(world.target.tasks().count(), 128 + 16);
    assert!(rejections(&world).iter().all(|r| *r == RejectReason::ImmediateCommandReject));
}

#[test]
fn pings_both_ways() {
    let mut world = World::logged_in(8);
    let itt = world.initiator.ping(Bytes::from_static(b"are you there?")).unwrap();
    world.run();
    let pong = initiator::Event::Pong { itt, data: Bytes::from_static(b"are you there?") };
    assert!(world.seen.contains(&pong));
    assert_eq!(world.tick(100), []);
    assert_eq!(world.tick(116), []);
    world.run();
    assert_eq!(world.tick(117), []);
    assert_eq!(world.tick(125), [], "the ping was answered");
    assert_eq!(world.tick(133), []);
    // This ping is never delivered.
    assert_eq!(world.tick(140), []);
    let events = world.tick(149);
    assert_eq!(events, [Event::Close { why: "the initiator answers no ping".to_owned() }]);
    assert!(world.target.finished());
}

#[test]
fn the_shell_can_see_how_much_waits() {
    let mut world = World::logged_in(13);
    assert_eq!(world.target.unsent_bytes(), 0);
    let nop = NopOut { immediate: true, lun: 0, itt: 7, ttt: NO_TAG, cmd_sn: 1, exp_stat_sn: 0 };
    let mut input = wire(nop.encode(), &[5; 8000])[..].into();
    world.target.receive(&mut input, &world.book, &mut Vec::new()).unwrap();
    assert_eq!(world.target.unsent_bytes(), 48 + 8000);
}

#[test]
fn a_nop_that_wants_no_answer() {
    let mut world = World::logged_in(9);
    let nop =
        NopOut { immediate: true, lun: 0, itt: NO_TAG, ttt: NO_TAG, cmd_sn: 1, exp_stat_sn: 0 };
    world.forge(&wire(nop.encode(), &[]));
    assert_eq!((world.seen.len(), &world.target_error), (1, &None));
    world.forge(&wire(NopOut { ttt: 99, ..nop }.encode(), &[]));
    assert_eq!(rejections(&world), [RejectReason::InvalidPduField]);
}

#[test]
fn logout() {
    let mut world = World::logged_in(10);
    let request = LogoutRequest {
        immediate: true,
        reason: Some(LogoutReason::Recovery),
        itt: 500,
        cid: 0,
        cmd_sn: 1,
        exp_stat_sn: 0,
    };
    world.forge(&wire(request.encode(), &[]));
    let other = LogoutRequest { reason: Some(LogoutReason::CloseConnection), cid: 4, ..request };
    world.forge(&wire(other.encode(), &[]));
    for result in [LogoutResult::RecoveryNotSupported, LogoutResult::CidNotFound] {
        assert!(world.seen.contains(&initiator::Event::LoggedOut { result }));
    }
    assert!(!world.target.finished());
    assert!(world.initiator.logout(LogoutReason::CloseSession));
    world.run();
    let asked = |e: &Event| matches!(e, Event::Logout { reason: Reason::CloseSession, .. });
    assert!(world.target_seen.iter().any(asked));
    assert!(world.seen.contains(&initiator::Event::LoggedOut { result: LogoutResult::Closed }));
    assert!(world.target.finished() && world.initiator.finished());
    assert_eq!(world.tick(1), [Event::Close { why: "the initiator logged out".to_owned() }]);
    assert_eq!(world.tick(2), []);
}

#[test]
fn notices() {
    let mut world = World::logged_in(11);
    world.target.request_logout(30);
    world.target.announce_drop(false);
    world.target.announce_drop(true);
    world.run();
    let told = |event: &initiator::Event| match event {
        initiator::Event::Notice { message, .. } => Some((message.event, message.parameters)),
        _ => None,
    };
    let notices: Vec<_> = world.seen.iter().filter_map(told).collect();
    let expected = [
        (AsyncEvent::RequestLogout, [0, 0, 30]),
        (AsyncEvent::DropConnection, [0, 2, 0]),
        (AsyncEvent::DropSession, [0, 2, 0]),
    ];
    assert_eq!(notices, expected);
}

#[test]
fn long_cdbs_arrive_whole() {
    let mut world = World::logged_in(12);
    let cdb: Vec<u8> = (0..32).map(|n| if n == 0 { 0x7f } else { n }).collect();
    world.submit(&cdb, Data::None);
    world.run();
    let Some(Event::Command { cdb: seen, .. }) = world.target_seen.last() else { panic!() };
    assert_eq!(seen[..], cdb);
}
