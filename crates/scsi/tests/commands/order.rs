//! The fixed order: attention, reservation, support, protection, range, run.

use scsi::command::{Command, Step};
use scsi::logical_unit::{View, judge, judge_missing};
use scsi::sense::{Asc, FieldPointer, Sense, SenseKey, Status};
use scsi::unit::Access;
use scsi::unit_attention::UnitAttention;

use crate::bench::{BLOCKS, Bench, cdb};

#[test]
fn a_pending_attention_comes_before_a_conflict_and_once() {
    let mut bench = Bench::reserved_by_other(3);
    bench.pending.push(UnitAttention::RegistrationsPreempted);
    let write = cdb(0x2A, 0, 0, 1);
    assert_eq!(bench.sense(&write), UnitAttention::RegistrationsPreempted.sense());
    assert_eq!(bench.response(&write).status, Status::ReservationConflict);
}

#[test]
fn a_conflict_comes_before_an_unknown_command_and_before_protection() {
    let mut bench = Bench::reserved_by_other(3);
    bench.access = Access::ReadOnly;
    assert!(bench.conflicts(&[0xFB; 16]));
    assert!(bench.conflicts(&cdb(0x2A, 0, 0, 1)));
}

#[test]
fn bits_come_before_protection_and_protection_before_range() {
    let mut bench = Bench::read_only();
    assert_eq!(bench.sense(&cdb(0x2A, 0x20, 0, 1)), Sense::illegal_bit_in_cdb(1, 5));
    assert_eq!(bench.sense(&cdb(0x2A, 0, BLOCKS, 1)), Sense::write_protected());
    let mut bench = Bench::new();
    assert_eq!(bench.sense(&cdb(0x2A, 0, BLOCKS, 1)), Sense::lba_out_of_range());
}

#[test]
fn inquiry_and_report_luns_leave_an_attention_pending() {
    let mut bench = Bench::attending(UnitAttention::PowerOn);
    bench.data(&[0x12, 0, 0, 0, 36, 0]);
    bench.data(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    assert_eq!(bench.sense(&[0; 6]).asc, Asc(0x29, 0x00));
    bench.data(&[0; 6]);
}

#[test]
fn request_sense_reports_an_attention_as_data_and_ends_it() {
    for descriptor in [false, true] {
        let mut bench = Bench::attending(UnitAttention::CapacityChanged);
        let request = [0x03, u8::from(descriptor), 0, 0, 252, 0];
        let data = bench.data(&request);
        assert_eq!(data[0], if descriptor { 0x72 } else { 0x70 });
        assert_eq!(Sense::decode(&data), Some(UnitAttention::CapacityChanged.sense()));
        let none = Sense::new(SenseKey::NoSense, Asc::NONE);
        assert_eq!(Sense::decode(&bench.data(&request)), Some(none));
    }
}

#[test]
fn a_broken_request_sense_keeps_the_attention() {
    let mut bench = Bench::attending(UnitAttention::CapacityChanged);
    bench.sense(&[0x03, 0x80, 0, 0, 252, 0]);
    assert_eq!(bench.pending.first(), Some(UnitAttention::CapacityChanged));
}

#[test]
fn report_luns_answers_the_attention_that_asks_for_it() {
    let mut bench = Bench::attending(UnitAttention::ReportedLunsChanged);
    bench.data(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    assert!(bench.pending.is_empty());
}

#[test]
fn without_a_queue_nothing_is_pending() {
    let bench = Bench::new();
    let view = View {
        unit: &bench.unit,
        access: bench.access,
        nexus: &bench.nexus,
        reservations: &bench.reservations,
    };
    let step = judge(&view, None, &cdb(0x28, 0, 0, 1));
    assert!(matches!(step, Step::Run { command: Command::Read { .. }, .. }));
}

#[test]
fn lost_reservations_stop_what_they_could_have_forbidden() {
    let mut bench = Bench::new();
    bench.reservations = scsi::reservations::Reservations::lost();
    assert_eq!(bench.sense(&cdb(0x28, 0, 0, 1)).asc, Asc(0x44, 0x01));
    bench.data(&[0x12, 0, 0, 0, 36, 0]);
}

#[test]
fn an_unknown_service_action_is_a_field_and_an_unknown_code_is_not() {
    let mut bench = Bench::new();
    let sense = bench.sense(&[0x9E, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 4));
    assert_eq!(bench.sense(&[0x5E, 0x04, 0, 0, 0, 0, 0, 0, 8, 0]).asc, Asc(0x24, 0x00));
    assert_eq!(bench.sense(&[0x02, 0, 0, 0, 0, 0]), Sense::invalid_opcode());
    assert_eq!(bench.sense(&[]), Sense::invalid_opcode());
}

#[test]
fn reserved_bits_and_naca_are_pointed_at() {
    let mut bench = Bench::new();
    for (cdb, byte, bit) in [
        (&[0x00, 0, 0, 0, 0, 0x04][..], 5, 2),
        (&[0x00, 0x01, 0, 0, 0, 0], 1, 0),
        (&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], 1, 5),
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04], 9, 2),
        (&[0x25, 0, 0, 0, 0, 0, 0, 0, 0x01, 0], 8, 0),
    ] {
        let field = FieldPointer { in_cdb: true, byte, bit: Some(bit) };
        assert_eq!(bench.sense(cdb).field, Some(field), "{cdb:02x?}");
        assert_eq!(bench.sense(cdb).asc, Asc::INVALID_FIELD_IN_CDB);
    }
    let short = bench.sense(&[0x28, 0, 0, 0, 0, 0, 0]);
    assert_eq!(short, Sense::illegal_field_in_cdb(7));
    // What stands behind the CDB in the sixteen bytes of the transport is none of its.
    let mut long = cdb(0x28, 0, 0, 1);
    long.extend_from_slice(&[0xFF; 6]);
    bench.run(&long);
}

#[test]
fn a_lun_without_a_unit_says_so() {
    let luns = [0, 0x0001_0000_0000_0000];
    let data = judge_missing(&[0x12, 0, 0, 0, 96, 0], &luns).data;
    assert_eq!((data[0], data.len()), (0x7F, 96));
    let data = judge_missing(&[0x12, 1, 0, 0, 96, 0], &luns).data;
    assert_eq!(&data[..], [0x7F, 0, 0, 1, 0]);
    let data = judge_missing(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &luns).data;
    assert_eq!(data[..4], 16_u32.to_be_bytes());
    assert_eq!(data[8..], [[0; 8], [0, 1, 0, 0, 0, 0, 0, 0]].concat());
    let data = judge_missing(&[0x03, 0, 0, 0, 18, 0], &luns).data;
    assert_eq!(Sense::decode(&data), Some(Sense::unit_not_supported()));
    for cdb in [&[0; 6][..], &cdb(0x28, 0, 0, 1), &[0xFB; 16], &[]] {
        let response = judge_missing(cdb, &luns);
        assert_eq!(response.sense, Some(Sense::unit_not_supported()), "{cdb:02x?}");
    }
}
