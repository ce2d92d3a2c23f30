//! Data in both directions, under every combination of what is negotiated about it.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod harness;

use bytes::Bytes;
use harness::{World, open_book, options, payload, read10, wire, write10};
use iscsi::initiator::{Command, Data, Options};
use iscsi::pdu::NO_TAG;
use iscsi::pdu::Residual;
use iscsi::pdu::data::DataOut;
use iscsi::target::{DigestOffer, Disorder, Event, Fatal, Settings, TmfFunction, TmfResponse};
use rand::Rng;

fn wishes(initial_r2t: bool, immediate_data: bool, digests: DigestOffer) -> Options {
    Options {
        initial_r2t,
        immediate_data,
        header_digest: digests,
        data_digest: digests,
        ..options()
    }
}

/// Write, read back, compare, many at once; small limits make every path run.
fn transfer(seed: u64, settings: Settings, options: Options) -> World {
    let mut world = World::new(seed, settings, options, open_book());
    let mut written = Vec::new();
    for number in 0..12u32 {
        let blocks = world.random.random_range(1..200u16);
        let data = payload(&mut world.random, usize::from(blocks) * 512);
        let lba = number * 300;
        let handle = world.submit(&write10(lba, blocks), Data::Out(data.clone()));
        written.push((handle, lba, blocks, data.concat()));
    }
    world.run();
    assert_eq!((&world.target_error, &world.initiator_error), (&None, &None));
    for (handle, lba, blocks, data) in written {
        let outcome = world.outcome(handle).expect("the write ends");
        assert_eq!((outcome.status, outcome.residual), (0, Residual::None));
        let read = world.submit(&read10(lba, blocks), Data::In(u32::from(blocks) * 512));
        world.run();
        let outcome = world.outcome(read).expect("the read ends");
        assert_eq!((outcome.status, outcome.residual), (0, Residual::None));
        assert!(outcome.data.concat() == data, "lba {lba}");
    }
    assert_eq!(world.target.tasks().count(), 0);
    world
}

#[test]
fn all_four_ways_of_sending_first_data() {
    for seed in 0..4 {
        for initial_r2t in [false, true] {
            for immediate_data in [false, true] {
                let wishes = wishes(initial_r2t, immediate_data, DigestOffer::None);
                let world = transfer(seed, Settings::default(), wishes);
                let agreed = world.target.parameters().unwrap();
                assert_eq!(
                    (agreed.initial_r2t, agreed.immediate_data),
                    (initial_r2t, immediate_data)
                );
            }
        }
    }
}

#[test]
fn small_segments_bursts_and_few_r2ts() {
    for (seed, (segment, burst, first, r2ts)) in
        [(512, 512, 512, 1), (1024, 4096, 2048, 2), (4096, 65_536, 8192, 8), (8192, 8000, 1000, 3)]
            .into_iter()
            .enumerate()
    {
        for initial_r2t in [false, true] {
            let settings = Settings {
                max_recv_data_segment_bytes: segment,
                max_outstanding_r2t: r2ts,
                ..Settings::default()
            };
            let wishes = Options {
                max_recv_data_segment_bytes: segment,
                max_burst_bytes: burst,
                first_burst_bytes: first,
                ..wishes(initial_r2t, true, DigestOffer::Crc32c)
            };
            transfer(seed as u64, settings, wishes);
        }
    }
}

#[test]
fn digests_as_agreed() {
    for (ours, theirs, crc) in [
        (DigestOffer::NoneOrCrc32c, DigestOffer::Crc32cOrNone, true),
        (DigestOffer::Crc32c, DigestOffer::NoneOrCrc32c, true),
        (DigestOffer::None, DigestOffer::Crc32cOrNone, false),
        (DigestOffer::Crc32cOrNone, DigestOffer::NoneOrCrc32c, false),
    ] {
        let settings = Settings { header_digest: ours, data_digest: ours, ..Settings::default() };
        let world = transfer(5, settings, wishes(false, true, theirs));
        let digests = world.target.parameters().unwrap().digests();
        assert_eq!((digests.header, digests.data), (crc, crc));
    }
}

#[test]
fn a_broken_byte_never_reaches_the_blocks() {
    let mut kinds = [0, 0];
    for seed in 0..40 {
        let wishes = wishes(seed % 2 == 0, true, DigestOffer::Crc32c);
        let mut world = World::new(seed, Settings::default(), wishes, open_book());
        world.run();
        let data = vec![Bytes::from(vec![0xee; 64 * 512])];
        let write = world.submit(&write10(0, 64), Data::Out(data));
        world.broken = Some(world.sent + world.random.random_range(0..32_000usize));
        world.run();
        assert!(world.outcome(write).is_none());
        assert!(world.blocks.iter().all(|byte| *byte == 0), "seed {seed}");
        match world.target_error {
            Some(Fatal::DataDigest) => kinds[0] += 1,
            Some(Fatal::Frame(_)) => kinds[1] += 1,
            // A broken AHS length or data length leaves the target waiting for more.
            None => assert!(world.target.wanted() > 0),
            ref other => panic!("{other:?}"),
        }
    }
    assert!(kinds[0] > 10, "{kinds:?}");
}

#[test]
fn residuals_both_ways() {
    let mut world = World::logged_in(1);
    let short = world.submit(&read10(0, 2), Data::In(4096));
    let long = world.submit(&read10(0, 16), Data::In(4096));
    let nothing = world.submit(&read10(0, 1), Data::None);
    let extra = world.submit(&write10(0, 1), Data::Out(vec![Bytes::from(vec![1; 1024])]));
    let lacking = world.submit(&write10(8, 4), Data::Out(vec![Bytes::from(vec![2; 1024])]));
    let failed = world.submit(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0], Data::In(18));
    world.run();
    let of = |handle| {
        let outcome = world.outcome(handle).unwrap();
        (outcome.status, outcome.data.concat().len(), outcome.residual)
    };
    assert_eq!(of(short), (0, 1024, Residual::Under(3072)));
    assert_eq!(of(long), (0, 4096, Residual::Over(4096)));
    assert_eq!(of(nothing), (0, 0, Residual::Over(512)));
    assert_eq!(of(extra), (0, 0, Residual::Under(512)));
    assert_eq!(of(lacking), (0, 0, Residual::Over(1024)));
    assert_eq!(of(failed), (2, 0, Residual::Under(18)));
    assert_eq!(world.outcome(failed).unwrap().sense[12], 0x20);
}

#[test]
fn only_what_the_cdb_asks_for_is_requested() {
    let mut world =
        World::new(2, Settings::default(), wishes(true, false, DigestOffer::None), open_book());
    world.answers = false;
    let write = world.submit(&write10(0, 1), Data::Out(vec![Bytes::from(vec![1; 65_536])]));
    world.run();
    let task = world.target.tasks().next().unwrap();
    assert_eq!(world.target.accept_up_to(task, 512), None);
    world.run();
    let Some(Event::DataArrived { data, .. }) = world.target_seen.last() else { panic!() };
    assert_eq!(data.concat(), vec![1; 512]);
    world.answer(task);
    world.run();
    assert_eq!(world.outcome(write).unwrap().residual, Residual::Under(65_024));
}

/// A write of 128 blocks whose data the initiator withholds, asked for by one R2T.
fn asked(seed: u64) -> (World, iscsi::initiator::Handle) {
    asked_with(seed, Settings::default())
}

fn asked_with(seed: u64, settings: Settings) -> (World, iscsi::initiator::Handle) {
    let wishes = wishes(true, false, DigestOffer::None);
    let mut world = World::new(seed, settings, wishes, open_book());
    let data = Data::Out(vec![Bytes::from(vec![0xdd; 65_536])]);
    let command = Command { withhold: true, ..Command::new(0, &write10(0, 128), data) };
    let handle = world.initiator.submit(command);
    world.run();
    assert_eq!(world.target.tasks().count(), 1);
    (world, handle)
}

fn data_out(itt: u32, ttt: u32, data_sn: u32, offset: u32, final_: bool) -> Vec<u8> {
    let pdu = DataOut { final_, lun: 0, itt, ttt, exp_stat_sn: 0, data_sn, offset };
    wire(pdu.encode(), &[0xdd; 512])
}

#[test]
fn data_out_of_order_ends_the_connection() {
    for (data_sn, offset, final_, why) in [
        (27, 0, false, "DataSN is out of order"),
        (1, 0, false, "DataSN is out of order"),
        (u32::MAX, 0, false, "DataSN is out of order"),
        (0, 512, false, "the buffer offset is not where the data stands"),
        (0, 0, true, "the F bit does not stand at the end of the burst"),
    ] {
        let (mut world, write) = asked(3);
        world.forge(&data_out(write.0, 0, data_sn, offset, final_));
        assert_eq!(world.target_error, Some(Fatal::Protocol(why)));
        assert!(world.outcome(write).is_none());
        assert!(world.target.finished());
        let rejected = |event: &iscsi::initiator::Event| {
            matches!(event, iscsi::initiator::Event::Rejected { .. })
        };
        assert!(world.seen.iter().any(rejected), "the initiator is told");
    }
}

#[test]
fn data_out_of_order_fails_the_task_where_the_settings_say_so() {
    for (data_sn, offset) in [(27, 0), (u32::MAX, 0), (0, 512), (1, 512)] {
        let settings = Settings { data_out_disorder: Disorder::FailTask, ..Settings::default() };
        let (mut world, write) = asked_with(3, settings);
        let task = world.target.tasks().next().unwrap();
        world.forge(&data_out(write.0, 0, data_sn, offset, false));
        world.forge(&data_out(write.0, 0, 0, 0, false));
        let outcome = world.outcome(write).unwrap();
        assert_eq!((outcome.status, outcome.sense[2], outcome.sense[12]), (2, 0x0b, 0x47));
        assert_eq!(
            (world.target.failed_tasks(), world.target.failed_tasks()),
            (vec![task], vec![])
        );
        assert!(!world.target.is_live(task) && !world.target.finished());
        let read = world.submit(&read10(0, 1), Data::In(512));
        world.run();
        assert_eq!(world.outcome(read).unwrap().data.concat(), vec![0; 512]);
    }
}

#[test]
fn the_same_data_sn_twice() {
    let (mut world, write) = asked(4);
    world.forge(&data_out(write.0, 0, 0, 0, false));
    assert_eq!(world.target_error, None);
    world.forge(&data_out(write.0, 0, 0, 512, false));
    assert_eq!(world.target_error, Some(Fatal::Protocol("DataSN is out of order")));
}

#[test]
fn late_data_of_an_aborted_task_is_swallowed() {
    for whole_unit in [false, true] {
        let (mut world, write) = asked(5);
        let (function, referenced) = match whole_unit {
            true => (TmfFunction::LogicalUnitReset, None),
            false => (TmfFunction::AbortTask, Some(write)),
        };
        // Half of the data is sent before, half after the abort; the tag is used again.
        world.forge(&data_out(write.0, 0, 0, 0, false));
        let tmf = world.initiator.task_management(function, 0, referenced).unwrap();
        world.run();
        let done = iscsi::initiator::Event::TaskManagementDone {
            itt: tmf,
            response: TmfResponse::Complete,
        };
        assert!(world.seen.contains(&done), "{:?}", world.seen);
        assert!(world.seen.contains(&iscsi::initiator::Event::Aborted { task: write }));
        world.forge(&data_out(write.0, 0, 1, 512, false));
        world.forge(&data_out(write.0, NO_TAG, 0, 0, true));
        assert_eq!(world.target_error, None);
        assert!(world.blocks.iter().all(|byte| *byte == 0));
        let read = world.submit(&read10(0, 1), Data::In(512));
        world.run();
        assert_eq!(world.outcome(read).unwrap().data.concat(), vec![0; 512]);
    }
}

#[test]
fn an_early_answer_swallows_the_data_behind_it() {
    for seed in 0..20 {
        let settings = Settings { max_recv_data_segment_bytes: 4096, ..Settings::default() };
        let mut world = World::new(seed, settings, options(), open_book());
        world.refuses = true;
        let data = vec![Bytes::from(vec![1; 65_536])];
        let writes: Vec<_> =
            (0..4).map(|_| world.submit(&write10(0, 128), Data::Out(data.clone()))).collect();
        world.run();
        for write in writes {
            assert_eq!(world.outcome(write).unwrap().status, 0x18);
        }
        assert_eq!((&world.target_error, world.target.tasks().count()), (&None, 0));
        assert!(world.blocks.iter().all(|byte| *byte == 0));
        world.refuses = false;
        let write = world.submit(&write10(0, 128), Data::Out(data));
        world.run();
        assert_eq!(world.outcome(write).unwrap().status, 0);
    }
}

#[test]
fn a_tag_that_was_never_given_out_is_rejected() {
    let (mut world, write) = asked(7);
    world.forge(&data_out(write.0, 4711, 0, 0, false));
    assert_eq!(world.target_error, None);
    assert!(world.seen.iter().any(|event| matches!(
        event,
        iscsi::initiator::Event::Rejected {
            reason: iscsi::pdu::notice::RejectReason::InvalidPduField,
            ..
        }
    )));
    world.initiator.release(write);
    world.run();
    assert_eq!(world.outcome(write).unwrap().status, 0);
    assert!(world.blocks[..65_536].iter().all(|byte| *byte == 0xdd));
}

#[test]
fn unsolicited_data_that_was_not_agreed_fails_the_command() {
    use iscsi::pdu::command::{Attribute, ScsiCommand};
    for final_ in [true, false] {
        let mut world =
            World::new(8, Settings::default(), wishes(true, false, DigestOffer::None), open_book());
        world.run();
        let mut cdb = [0; 16];
        cdb[..10].copy_from_slice(&write10(0, 2));
        let command = ScsiCommand {
            immediate: false,
            final_,
            read: false,
            write: true,
            attribute: Attribute::Simple,
            lun: 0,
            itt: 99,
            expected_bytes: 1024,
            cmd_sn: 1,
            exp_stat_sn: 0,
            cdb,
        };
        let data: &[u8] = if final_ { &[1; 512] } else { &[] };
        world.forge(&wire(command.encode(), data));
        world.forge(&data_out(99, NO_TAG, 0, 0, true));
        assert_eq!(world.target_error, None);
        assert!(!world.target_seen.iter().any(|event| matches!(event, Event::Command { .. })));
        assert_eq!(world.target.tasks().count(), 0);
        assert!(world.blocks.iter().all(|byte| *byte == 0));
    }
}
