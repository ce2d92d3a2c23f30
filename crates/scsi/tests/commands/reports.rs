//! REPORT LUNS, SUPPORTED OPERATION CODES, SUPPORTED TASK MANAGEMENT FUNCTIONS, TARGET PORT GROUPS.

use scsi::commands;
use scsi::sense::Sense;

use crate::bench::Bench;

fn report_luns(select: u8, allocation_bytes: u8) -> [u8; 12] {
    [0xA0, 0, select, 0, 0, 0, 0, 0, 0, allocation_bytes, 0, 0]
}

#[test]
fn a_target_has_one_unit_and_no_well_known_ones() {
    let mut bench = Bench::new();
    for select in [0, 2] {
        let data = bench.data(&report_luns(select, 64));
        assert_eq!(data[..], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(bench.data(&report_luns(1, 64))[..], [0; 8]);
    assert_eq!(bench.sense(&report_luns(3, 64)), Sense::illegal_field_in_cdb(2));
    assert_eq!(bench.sense(&report_luns(0, 15)), Sense::illegal_field_in_cdb(6));
}

/// Reporting options with RCTD, a command, and room for everything.
fn opcodes(options: u8, opcode: u8, action: u8) -> [u8; 12] {
    [0xA3, 0x0C, options, opcode, 0, action, 0, 0, 0xFF, 0xFF, 0, 0]
}

const RCTD: u8 = 0x80;

/// Operation code, service action, flags and CDB length of each descriptor.
fn listed(data: &[u8], descriptor_bytes: usize) -> Vec<(u8, u16, u8, u16)> {
    let length = u32::try_from(data.len() - 4).expect("a short list");
    assert_eq!(data[..4], length.to_be_bytes());
    assert_eq!((data.len() - 4) % descriptor_bytes, 0);
    let two = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    data[4..]
        .chunks(descriptor_bytes)
        .map(|one| (one[0], two(&one[2..4]), one[5], two(&one[6..8])))
        .collect()
}

#[test]
fn all_commands_are_listed_and_each_can_be_asked_for() {
    let mut bench = Bench::new();
    let all = listed(&bench.data(&opcodes(0, 0, 0)), 8);
    assert_eq!(all.len(), commands::rows().count());
    for (opcode, action, flags, cdb_bytes) in all {
        let action = u8::try_from(action).unwrap();
        let by_action = flags & 1 != 0;
        assert!(by_action || action == 0);
        let (fits, fails) = if by_action { (2, 1) } else { (1, 2) };
        let data = bench.data(&opcodes(fits, opcode, action));
        assert_eq!(data[..4], [0, 3, 0, u8::try_from(cdb_bytes).unwrap()]);
        assert_eq!((data[4], data.len()), (opcode, usize::from(cdb_bytes) + 4));
        assert_eq!(data[5] & 0x1F & action, action, "the service action stands in its field");
        assert_eq!(bench.data(&opcodes(3, opcode, action)), data);
        let sense = bench.sense(&opcodes(fails, opcode, action));
        assert_eq!(sense, Sense::illegal_bit_in_cdb(2, 2));
    }
}

#[test]
fn timeouts_come_when_they_are_asked_for() {
    let mut bench = Bench::new();
    for (_, _, flags, _) in listed(&bench.data(&opcodes(RCTD, 0, 0)), 20) {
        assert_eq!(flags & 2, 2);
    }
    let data = bench.data(&opcodes(RCTD | 1, 0x28, 0));
    assert_eq!(data[..4], [0, 0x83, 0, 10]);
    assert_eq!(data[14..], [0, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn usage_data_has_a_one_for_each_bit_that_counts() {
    let mut bench = Bench::new();
    let data = bench.data(&opcodes(1, 0x28, 0));
    assert_eq!(data[4..], [0x28, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0]);
    let data = bench.data(&opcodes(2, 0x9E, 0x10));
    assert_eq!(data[5], 0x10);
}

#[test]
fn what_is_not_offered_is_told_as_not_supported() {
    let mut bench = Bench::new();
    for cdb in [opcodes(1, 0xFB, 0), opcodes(2, 0xFB, 1), opcodes(2, 0x9E, 0x1F)] {
        assert_eq!(bench.data(&cdb)[..], [0, 1, 0, 0]);
    }
    assert_eq!(bench.data(&opcodes(3, 0x28, 1))[..], [0, 1, 0, 0]);
    assert_eq!(bench.sense(&opcodes(4, 0x28, 0)), Sense::illegal_bit_in_cdb(2, 2));
    let mut thick = Bench::with(|unit| unit.thin = false);
    assert_eq!(thick.data(&opcodes(1, 0x42, 0))[..], [0, 1, 0, 0]);
    let all = listed(&thick.data(&opcodes(0, 0, 0)), 8);
    assert!(all.iter().all(|(opcode, ..)| *opcode != 0x42));
}

#[test]
fn task_management_functions_are_told() {
    let mut bench = Bench::new();
    let functions = |flags: u8, length: u8| [0xA3, 0x0D, flags, 0, 0, 0, 0, 0, 0, length, 0, 0];
    assert_eq!(bench.data(&functions(0, 16))[..], [0xD8, 0, 0, 0]);
    let extended = bench.data(&functions(0x80, 16));
    assert_eq!((extended.len(), extended[3]), (16, 12));
    assert_eq!(bench.sense(&functions(0, 3)), Sense::illegal_field_in_cdb(6));
}

#[test]
fn one_group_of_all_ports_is_active() {
    let mut bench = Bench::new();
    let groups = |format: u8| [0xA3, 0x0A | format << 5, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    let group = [0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let data = bench.data(&groups(0));
    assert_eq!(data[..4], 16_u32.to_be_bytes());
    assert_eq!(data[4..], group);
    let data = bench.data(&groups(1));
    assert_eq!(data[..8], [0, 0, 0, 20, 0x10, 0, 0, 0]);
    assert_eq!(data[8..], group);
    assert_eq!(bench.sense(&groups(2)), Sense::illegal_bit_in_cdb(1, 7));
}
