//! Bytes from nowhere: neither machine panics, and what a peer can make them hold is bounded.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod harness;

use bytes::{Bytes, BytesMut};
use harness::{Book, World, connection, nonce, open_book, options, payload, read10, wire, write10};
use iscsi::initiator::{Data, Initiator};
use iscsi::pdu::NO_TAG;
use iscsi::pdu::command::{Attribute, ScsiCommand};
use iscsi::pdu::task_management::{TaskManagementRequest, TmfFunction};
use iscsi::pdu::text::TextRequest;
use iscsi::target::{Answer, Connection, DataOut, Event, Fatal, Settings};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use scsi::sense::Status;

/// A shell that lets everyone in and answers everything.
fn shell(target: &mut Connection, event: Event) {
    match event {
        Event::SessionOpening { .. } => target.session_ready(1),
        Event::Command { task, data: DataOut::Pending, .. } => target.accept(task),
        Event::Command { task, expected_bytes, .. } => {
            let length = usize::try_from(expected_bytes).unwrap().min(10_000);
            target.respond(task, Answer::good_with(vec![Bytes::from(vec![1; length])]));
        }
        Event::DataArrived { task, .. } => target.respond(task, Answer::status(Status::Good)),
        Event::TaskManagement { itt, .. } => {
            let tasks: Vec<_> = target.tasks().collect();
            tasks.into_iter().for_each(|task| target.drop_task(task));
            target.task_management_done(itt, iscsi::target::TmfResponse::Complete);
        }
        Event::Logout { itt, .. } => target.logout_done(itt),
        Event::LoginRefused { .. } | Event::Close { .. } => {}
    }
}

/// Feed the bytes in pieces until the connection ends.
fn feed(target: &mut Connection, bytes: &[u8], piece: usize) {
    let (book, mut input) = (open_book(), BytesMut::new());
    for part in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        let mut events = Vec::new();
        let result = target.receive(&mut input, &book, &mut events);
        events.into_iter().for_each(|event| shell(target, event));
        assert!(target.tasks().count() <= 128 + 16);
        target.outgoing().clear();
        if result.is_err() {
            assert!(target.finished());
            return;
        }
    }
}

/// What an initiator sends in a session with all kinds of requests.
fn recorded(seed: u64) -> Vec<u8> {
    let mut world = World::logged_in(seed);
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = Vec::new();
    let mut initiator = Initiator::new(options(), nonce(seed));
    let mut target = connection(Settings::default(), seed);
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let mut seen = Vec::new();
    for round in 0..30 {
        if round == 6 {
            for lba in 0..4 {
                let length = random.random_range(1..64u16);
                let data = payload(&mut world.random, usize::from(length) * 512);
                initiator.submit(iscsi::initiator::Command::new(
                    0,
                    &write10(lba, length),
                    Data::Out(data),
                ));
                initiator.submit(iscsi::initiator::Command::new(
                    0,
                    &read10(lba, 4),
                    Data::In(2048),
                ));
            }
            initiator.ping(Bytes::from_static(b"ping"));
            initiator.send_targets("");
            initiator.task_management(iscsi::target::TmfFunction::AbortTaskSet, 0, None);
        }
        for piece in initiator.outgoing().drain(..) {
            bytes.extend_from_slice(&piece);
            up.extend_from_slice(&piece);
        }
        let mut events = Vec::new();
        target.receive(&mut up, &open_book(), &mut events).unwrap();
        events.into_iter().for_each(|event| shell(&mut target, event));
        target.outgoing().drain(..).for_each(|piece| down.extend_from_slice(&piece));
        initiator.receive(&mut down, &mut seen).unwrap();
    }
    assert!(bytes.len() > 4000);
    bytes
}

#[test]
fn the_recording_is_good() {
    let mut target = connection(Settings::default(), 1);
    feed(&mut target, &recorded(1), 1000);
    assert!(target.session().is_some() && !target.finished());
}

/// Break some bytes, more often in headers' first bytes than elsewhere.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.drain(at..(at + random.random_range(1..60)).min(bytes.len()))),
            _ => {
                let end = (at + 48).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

#[test]
fn mutated_sessions_at_the_target() {
    let good = recorded(2);
    for seed in 0..600 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = good.clone();
        mutate(&mut bytes, &mut random);
        feed(&mut connection(Settings::default(), 2), &bytes, random.random_range(1..5000));
    }
}

#[test]
fn mutated_answers_at_the_initiator() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut initiator = Initiator::new(options(), nonce(seed));
        let mut target = connection(Settings::default(), seed);
        let (mut up, mut down, mut seen) = (BytesMut::new(), BytesMut::new(), Vec::new());
        let breaks_at = random.random_range(0..12);
        for round in 0..12 {
            if round == 4 {
                let data = payload(&mut random, 32_768);
                initiator.submit(iscsi::initiator::Command::new(
                    0,
                    &write10(0, 64),
                    Data::Out(data),
                ));
                initiator.submit(iscsi::initiator::Command::new(0, &read10(0, 4), Data::In(2048)));
                initiator.send_targets("");
                initiator.ping(Bytes::from_static(b"ping"));
            }
            initiator.outgoing().drain(..).for_each(|piece| up.extend_from_slice(&piece));
            let mut events = Vec::new();
            let ended = target.receive(&mut up, &open_book(), &mut events).is_err();
            events.into_iter().for_each(|event| shell(&mut target, event));
            let mut bytes: Vec<u8> =
                target.outgoing().drain(..).flat_map(|piece| piece.to_vec()).collect();
            if round >= breaks_at && !bytes.is_empty() {
                mutate(&mut bytes, &mut random);
            }
            down.extend_from_slice(&bytes);
            if initiator.receive(&mut down, &mut seen).is_err() || ended {
                break;
            }
        }
    }
}

/// A few bytes of request had an answer of any length, and one receive buffer holds thousands.
#[test]
fn long_answers_to_short_requests_wait_for_the_socket() {
    let mut world = World::logged_in(1);
    let name = "iqn.2026-11.io.commonhold:volume-1";
    let mut input = BytesMut::new();
    for number in 0..4000_u32 {
        let request = TextRequest {
            immediate: true,
            final_: true,
            continues: false,
            lun: 0,
            itt: number,
            ttt: NO_TAG,
            cmd_sn: 1,
            exp_stat_sn: 0,
        };
        input
            .extend_from_slice(&wire(request.encode(), format!("SendTargets={name}\0").as_bytes()));
    }
    let portals = (0..200).map(|port| (format!("192.0.2.1:{port}"), 1)).collect();
    let targets = vec![iscsi::target::TargetRecord { name: name.to_owned(), portals }];
    let book = Book { targets, ..open_book() };
    let (mut answered, mut turns) = (0, 0);
    loop {
        world.target.receive(&mut input, &book, &mut Vec::new()).unwrap();
        let waiting: usize = world.target.outgoing().drain(..).map(|piece| piece.len()).sum();
        assert!(waiting < 1 << 20, "{waiting} bytes wait");
        (answered, turns) = (answered + waiting, turns + 1);
        if !world.target.is_paused() {
            break;
        }
    }
    assert!(input.is_empty() && answered > 4000 * 4000 && turns > 16, "{answered}, {turns}");
}

/// Requests ahead of their turn were kept with all their data, whole receive buffers of it.
#[test]
fn requests_ahead_of_their_turn_bring_little_data() {
    let mut world = World::logged_in(1);
    let (mut taken, data) = (0, vec![1; 32 << 10]);
    for number in 2..100_u32 {
        let command = ScsiCommand {
            immediate: false,
            final_: true,
            read: false,
            write: true,
            attribute: Attribute::Simple,
            lun: 0,
            itt: number,
            expected_bytes: 32 << 10,
            cmd_sn: number,
            exp_stat_sn: 0,
            cdb: [0; 16],
        };
        let mut input = BytesMut::from(&wire(command.encode(), &data)[..]);
        match world.target.receive(&mut input, &open_book(), &mut Vec::new()) {
            Ok(()) => taken += data.len(),
            Err(error) => {
                assert!(matches!(error, Fatal::Protocol(_)), "{error}");
                break;
            }
        }
    }
    assert_eq!(taken, 256 << 10);
}

/// Task management functions took no place in the window, and each could wait for commands.
#[test]
fn task_management_functions_under_way_are_few() {
    let mut world = World::logged_in(1);
    let mut events = Vec::new();
    for number in 0..1000_u32 {
        let request = TaskManagementRequest {
            immediate: true,
            function: Some(TmfFunction::LogicalUnitReset),
            lun: 0,
            itt: number,
            referenced: NO_TAG,
            cmd_sn: 1,
            exp_stat_sn: 0,
            ref_cmd_sn: 0,
        };
        let mut input = BytesMut::from(&wire(request.encode(), &[])[..]);
        world.target.receive(&mut input, &open_book(), &mut events).unwrap();
    }
    assert_eq!(events.len(), 32);
    world.target.task_management_done(0, iscsi::target::TmfResponse::Complete);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_the_target(bytes in prop::collection::vec(any::<u8>(), 0..4000), piece in 1usize..500) {
        feed(&mut connection(Settings::default(), 1), &bytes, piece);
        // The same after the login, where more is understood.
        let mut world = World::logged_in(1);
        feed(&mut world.target, &bytes, piece);
    }

    #[test]
    fn any_headers_at_the_target(
        headers in prop::collection::vec((0usize..8, any::<[u8; 24]>(), any::<[u8; 24]>()), 1..40),
    ) {
        let mut world = World::logged_in(1);
        let mut bytes = Vec::new();
        for (opcode, first, second) in headers {
            let start = bytes.len();
            bytes.extend_from_slice(&first);
            bytes.extend_from_slice(&second);
            // Opcodes that are understood, immediate or with the first number, short data.
            bytes[start] = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x41][opcode];
            (bytes[start + 4], bytes[start + 5], bytes[start + 6]) = (first[4] & 1, 0, 0);
            bytes[start + 24..start + 28].copy_from_slice(&[0, 0, 0, second[0] & 3]);
            let data = usize::from(bytes[start + 7]);
            let rest = data + (4 - data % 4) % 4 + usize::from(bytes[start + 4]) * 4;
            bytes.extend(std::iter::repeat_n(second[1], rest));
        }
        feed(&mut world.target, &bytes, 4096);
    }

    #[test]
    fn any_bytes_at_the_initiator(bytes in prop::collection::vec(any::<u8>(), 0..2000), logged_in: bool) {
        let mut initiator = if logged_in {
            World::logged_in(1).initiator
        } else {
            Initiator::new(options(), nonce(1))
        };
        let mut events = Vec::new();
        let _ = initiator.receive(&mut BytesMut::from(&bytes[..]), &mut events);
    }
}
