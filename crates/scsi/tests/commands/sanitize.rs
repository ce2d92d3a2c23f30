//! SANITIZE (SBC-4 4.11, 5.24): what is accepted, and what a unit answers before it is over.

use scsi::command::{Command, Step};
use scsi::commands::{self, Attention};
use scsi::logical_unit::{View, judge};
use scsi::sanitize::{Method, Overwrite, State};
use scsi::sense::{Asc, Sense, SenseKey, Status};

use crate::bench::{Bench, cdb, sends};

const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const EXIT_FAILURE_MODE: u8 = 0x1F;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

fn sanitize(action: u8, list_bytes: u16) -> [u8; 10] {
    let [high, low] = list_bytes.to_be_bytes();
    [0x48, action, 0, 0, 0, 0, 0, high, low, 0]
}

fn in_state(state: State) -> Bench {
    Bench::with(|unit| unit.sanitize = state)
}

/// Half of it is done.
fn half() -> State {
    State::running(1, 2)
}

const RESTRICTED: State = State::Failed { unrestricted: false };
const UNRESTRICTED: State = State::Failed { unrestricted: true };

#[test]
fn sbc4_5_24_the_service_actions_and_their_bits() {
    let mut bench = Bench::new();
    for (bits, immediate, unrestricted) in
        [(0, false, false), (IMMED, true, false), (AUSE, false, true)]
    {
        let method = Method::BlockErase;
        let erase = Command::Sanitize { method, immediate, unrestricted };
        assert_eq!(bench.run(&sanitize(BLOCK_ERASE | bits, 0)), (erase, sends(0)));
        let method = Method::Overwrite;
        let overwrite = Command::Sanitize { method, immediate, unrestricted };
        assert_eq!(bench.run(&sanitize(OVERWRITE | bits, 12)), (overwrite, sends(12)));
    }
    let no_failure = bench.response(&sanitize(EXIT_FAILURE_MODE, 0));
    assert_eq!((no_failure.status, no_failure.sense), (Status::Good, None));
}

#[test]
fn sbc4_table_of_service_actions_all_others_and_cryptographic_erase_are_refused() {
    for action in (0..=0x1F).filter(|action| ![1, 2, 0x1F].contains(action)) {
        let sense = Bench::new().sense(&sanitize(action, 0));
        assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 4), "{action:02x}");
    }
    let mut thick = Bench::with(|unit| unit.thin = false);
    assert_eq!(thick.sense(&sanitize(BLOCK_ERASE, 0)), Sense::invalid_opcode());
    assert_eq!(thick.data(&[0x12, 1, 0xB1, 0, 64, 0])[7], 0, "no WABEREQ without BLOCK ERASE");
    assert_eq!(Bench::new().data(&[0x12, 1, 0xB1, 0, 64, 0])[7], 0x40, "WABEREQ 01b");
}

#[test]
fn sbc4_table_of_service_actions_the_length_of_the_list_and_reserved_bits() {
    let mut bench = Bench::new();
    for length in [0, 1, 4, 512 + 5, u16::MAX] {
        let sense = bench.sense(&sanitize(OVERWRITE, length));
        assert_eq!(sense, Sense::illegal_field_in_cdb(7), "{length}");
    }
    for length in [5, 512 + 4] {
        assert_eq!(bench.run(&sanitize(OVERWRITE, length)).1, sends(u32::from(length)));
    }
    for action in [BLOCK_ERASE, EXIT_FAILURE_MODE] {
        assert_eq!(bench.sense(&sanitize(action, 8)), Sense::illegal_field_in_cdb(7));
    }
    for byte in 2..7 {
        let mut cdb = sanitize(BLOCK_ERASE, 0);
        cdb[byte] = 1;
        assert_eq!(bench.sense(&cdb).asc, Asc::INVALID_FIELD_IN_CDB, "byte {byte}");
    }
    let zoned = bench.sense(&sanitize(BLOCK_ERASE | 0x40, 0));
    assert_eq!(zoned, Sense::illegal_bit_in_cdb(1, 6), "ZNR");
}

fn list(flags: u8, length: u16, pattern: &[u8]) -> Vec<u8> {
    [&[flags, 0][..], &length.to_be_bytes(), pattern].concat()
}

#[test]
fn sbc4_5_24_2_a_pattern_is_repeated_in_each_block() {
    let parsed = Overwrite::parse(&list(0x83, 3, b"abc"), 512).unwrap();
    assert_eq!((parsed.passes, parsed.invert), (3, true));
    assert_eq!(parsed.block.len(), 512);
    assert_eq!(parsed.block[..4], *b"abca");
    assert_eq!(parsed.block[510..], *b"ab", "cut at the end of the block");
    let whole = Overwrite::parse(&list(0x1F, 512, &[7; 512]), 512).unwrap();
    assert_eq!((whole.passes, whole.invert, &whole.block[..]), (31, false, &[7; 512][..]));
    let longer = Overwrite::parse(&list(1, 2, b"abcdef"), 512).unwrap();
    assert_eq!(longer.block[..4], *b"abab", "what follows the pattern is padding");
}

#[test]
fn sbc4_5_24_2_lists_that_are_refused() {
    let sense = |list: &[u8]| Overwrite::parse(list, 512).unwrap_err();
    assert_eq!(sense(&[1, 0, 0]), Sense::parameter_list_length());
    assert_eq!(sense(&list(0, 4, b"abcd")), Sense::illegal_bit_in_list(0, 4), "no pass");
    assert_eq!(sense(&list(0x21, 4, b"abcd")), Sense::illegal_bit_in_list(0, 6), "TEST");
    assert_eq!(sense(&[1, 1, 0, 1, 0]), Sense::illegal_field_in_list(1), "reserved");
    for (length, pattern) in [(0, &[0; 512][..]), (513, &[0; 513]), (5, b"abcd")] {
        assert_eq!(sense(&list(1, length, pattern)), Sense::illegal_field_in_list(2), "{length}");
    }
}

#[test]
fn sbc4_4_11_2_while_it_runs_all_but_three_commands_end_with_not_ready_and_the_progress() {
    let not_ready = Sense {
        progress: Some(0x8000),
        ..Sense::new(SenseKey::NotReady, Asc::SANITIZE_IN_PROGRESS)
    };
    let mut served = 0;
    for row in commands::rows() {
        let mut bench = in_state(half());
        let cdb = &row.usage[..row.cdb_bytes];
        match row.attention {
            Attention::Ends => assert_eq!(bench.sense(cdb), not_ready, "{}", row.name),
            _ => served += 1,
        }
    }
    assert_eq!(served, 3, "INQUIRY, REPORT LUNS, REQUEST SENSE");
    let mut bench = in_state(half());
    assert_eq!(bench.data(&[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(bench.data(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).len(), 16);
    for descriptor in [0, 1] {
        let told = bench.data(&[0x03, descriptor, 0, 0, 252, 0]);
        assert_eq!(Sense::decode(&told), Some(not_ready), "REQUEST SENSE tells the progress");
    }
    assert_eq!(bench.data(&[0x03, 0, 0, 0, 18, 0])[15..18], [0x80, 0x80, 0x00]);
}

#[test]
fn sbc4_4_11_3_after_a_failure_only_a_sanitize_goes_on() {
    for state in [RESTRICTED, UNRESTRICTED] {
        let mut bench = in_state(state);
        let failed = Sense::new(SenseKey::MediumError, Asc::SANITIZE_COMMAND_FAILED);
        for opcode in [0x00, 0x25, 0x28, 0x2A, 0x5E, 0x5F] {
            assert_eq!(bench.sense(&cdb(opcode, 0, 0, 1)), failed, "{opcode:02x}");
        }
        assert_eq!(Sense::decode(&bench.data(&[0x03, 0, 0, 0, 18, 0])), Some(failed));
        assert!(matches!(bench.run(&sanitize(BLOCK_ERASE, 0)).0, Command::Sanitize { .. }));
    }
}

#[test]
fn sbc4_4_11_1_a_restricted_failure_is_left_by_a_restricted_sanitize_alone() {
    let mut bench = in_state(RESTRICTED);
    let exit = bench.sense(&sanitize(EXIT_FAILURE_MODE, 0));
    assert_eq!(exit.asc, Asc::INVALID_FIELD_IN_CDB);
    let unrestricted = bench.sense(&sanitize(BLOCK_ERASE | AUSE, 0));
    assert_eq!(unrestricted, Sense::illegal_bit_in_cdb(1, 5));
    let mut bench = in_state(UNRESTRICTED);
    let exit = bench.run(&sanitize(EXIT_FAILURE_MODE, 0));
    assert_eq!(exit, (Command::ExitSanitizeFailure, sends(0)));
    assert!(matches!(bench.run(&sanitize(BLOCK_ERASE | AUSE, 0)).0, Command::Sanitize { .. }));
}

#[test]
fn reservations_and_protection_forbid_it_like_a_write() {
    for action in [OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE] {
        let cdb = sanitize(action, if action == OVERWRITE { 8 } else { 0 });
        for kind in [1, 3, 5, 6, 7, 8] {
            assert!(Bench::reserved_by_other(kind).conflicts(&cdb), "type {kind}");
        }
        assert!(Bench::legacy_by_other().conflicts(&cdb));
        assert_eq!(Bench::read_only().sense(&cdb), Sense::write_protected());
        let mut protected = Bench::with(|unit| unit.software_write_protect = true);
        assert_eq!(protected.sense(&cdb), Sense::software_write_protected());
    }
}

#[test]
fn a_stranger_meets_the_reservation_before_the_sanitize() {
    let mut bench = Bench::reserved_by_other(3);
    bench.unit.sanitize = half();
    assert!(bench.conflicts(&cdb(0x28, 0, 0, 1)));
}

#[test]
fn a_copy_neither_reads_nor_writes_a_unit_that_is_being_sanitized() {
    let bench = in_state(half());
    let view = View {
        unit: &bench.unit,
        access: bench.access,
        nexus: &bench.nexus,
        reservations: &bench.reservations,
    };
    for side in [scsi::copy::Side::Source, scsi::copy::Side::Destination] {
        let refused = scsi::copy::judge(&view, side, crate::bench::extent(0, 1)).unwrap_err();
        assert_eq!(refused.sense.map(|sense| sense.asc), Some(Asc::SANITIZE_IN_PROGRESS));
    }
    assert!(matches!(judge(&view, None, &cdb(0x2A, 0, 0, 1)), Step::Done(_)));
}

#[test]
fn progress_never_reads_as_over() {
    assert_eq!(State::running(0, 0), State::Running { progress: 0 });
    assert_eq!(State::running(1, 4), State::Running { progress: 0x4000 });
    assert_eq!(State::running(9, 9), State::Running { progress: u16::MAX });
    assert_eq!(State::running(u64::MAX, 1), State::Running { progress: u16::MAX });
}
