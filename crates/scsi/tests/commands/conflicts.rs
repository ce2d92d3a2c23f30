//! The class of every row against tables written down from the standards, by hand and apart from
//! the rows (SPC-5 table 63, SBC-4 table 14, SPC-2 table 10).

use scsi::commands;
use scsi::conflict::{Conflict, ConflictClass};

use crate::bench::{Bench, cdb};

use ConflictClass::{Always, Read, Reservation, Write};

/// Operation code, service action, class under a persistent reservation, and whether the command
/// is allowed while another nexus holds an SPC-2 reservation.
const EXPECTED: &[(u8, Option<u8>, ConflictClass, bool)] = &[
    (0x00, None, Always, false),
    (0x03, None, Always, true),
    (0x08, None, Read, false),
    (0x0A, None, Write, false),
    (0x12, None, Always, true),
    (0x15, None, Write, false),
    (0x16, None, Reservation, false),
    (0x17, None, Reservation, true),
    (0x1A, None, Read, false),
    (0x1B, None, Write, false),
    (0x1C, None, Read, false),
    (0x1D, None, Write, false),
    (0x1E, None, Write, false),
    (0x25, None, Always, false),
    (0x28, None, Read, false),
    (0x2A, None, Write, false),
    (0x2E, None, Write, false),
    (0x2F, None, Read, false),
    (0x34, None, Read, false),
    (0x35, None, Write, false),
    (0x37, None, Read, false),
    (0x41, None, Write, false),
    (0x42, None, Write, false),
    (0x48, Some(0x01), Write, false),
    (0x48, Some(0x02), Write, false),
    (0x48, Some(0x1F), Write, false),
    (0x4D, None, Always, false),
    (0x55, None, Write, false),
    (0x56, None, Reservation, false),
    (0x57, None, Reservation, true),
    (0x5A, None, Read, false),
    (0x5E, Some(0x00), Always, false),
    (0x5E, Some(0x01), Always, false),
    (0x5E, Some(0x02), Always, false),
    (0x5E, Some(0x03), Always, false),
    (0x5F, Some(0x00), Reservation, false),
    (0x5F, Some(0x01), Reservation, false),
    (0x5F, Some(0x02), Reservation, false),
    (0x5F, Some(0x03), Reservation, false),
    (0x5F, Some(0x04), Reservation, false),
    (0x5F, Some(0x05), Reservation, false),
    (0x5F, Some(0x06), Reservation, false),
    (0x5F, Some(0x07), Reservation, false),
    (0x5F, Some(0x08), Reservation, false),
    (0x83, Some(0x00), Write, false),
    (0x84, Some(0x00), Write, false),
    (0x84, Some(0x03), Write, false),
    (0x84, Some(0x04), Write, false),
    (0x88, None, Read, false),
    (0x89, None, Write, false),
    (0x8A, None, Write, false),
    (0x8B, None, Write, false),
    (0x8E, None, Write, false),
    (0x8F, None, Read, false),
    (0x90, None, Read, false),
    (0x91, None, Write, false),
    (0x93, None, Write, false),
    (0x9C, None, Write, false),
    (0x9E, Some(0x10), Always, false),
    (0x9E, Some(0x12), Read, false),
    (0xA0, None, Always, true),
    (0xA3, Some(0x0A), Always, false),
    (0xA3, Some(0x0C), Read, false),
    (0xA3, Some(0x0D), Read, false),
    (0xA8, None, Read, false),
    (0xAA, None, Write, false),
    (0xAE, None, Write, false),
    (0xAF, None, Read, false),
    (0xB7, None, Read, false),
];

#[test]
fn every_row_has_the_class_that_the_standard_gives_it() {
    for (opcode, action, persistent, under_legacy) in EXPECTED {
        let cdb = [*opcode, action.unwrap_or(0), 0, 0, 0, 0];
        let row = commands::row(&cdb).unwrap_or_else(|| panic!("{opcode:02x} is in the table"));
        let expected = Conflict { persistent: *persistent, under_legacy: *under_legacy };
        assert_eq!(row.conflict, expected, "{}", row.name);
        assert_eq!(row.service_action, *action, "{}", row.name);
    }
    assert_eq!(commands::rows().count(), EXPECTED.len(), "a row has no expectation");
}

#[test]
fn what_is_not_in_the_table_is_of_the_write_class() {
    let write = Conflict { persistent: Write, under_legacy: false };
    for opcode in 0..=0xFF {
        if !EXPECTED.iter().any(|row| row.0 == opcode) {
            assert_eq!(commands::conflict_of(&[opcode, 0, 0, 0, 0, 0]), write, "{opcode:02x}");
        }
    }
    assert_eq!(commands::conflict_of(&[0x5E, 0x1F]), write, "an unknown service action");
    assert_eq!(commands::conflict_of(&[]), write);
}

#[test]
fn starting_and_allowing_removal_never_conflict() {
    let class = |cdb: &[u8]| commands::conflict_of(cdb).persistent;
    assert_eq!(class(&[0x1B, 0, 0, 0, 0x01, 0]), Always);
    assert_eq!(class(&[0x1B, 0, 0, 0, 0x00, 0]), Write);
    assert_eq!(class(&[0x1B, 0, 0, 0, 0x11, 0]), Write, "START with a power condition");
    assert_eq!(class(&[0x1E, 0, 0, 0, 0x00, 0]), Always);
    assert_eq!(class(&[0x1E, 0, 0, 0, 0x01, 0]), Write);
}

#[test]
fn a_stranger_meets_the_reservation_by_class() {
    for (kind, strangers_read) in
        [(1, true), (3, false), (5, true), (6, false), (7, true), (8, false)]
    {
        let mut bench = Bench::reserved_by_other(kind);
        for (opcode, action, class, _) in EXPECTED {
            let cdb = [&[*opcode, action.unwrap_or(0)][..], &[0; 14]].concat();
            let mild = matches!(opcode, 0x1E);
            let expected = match class {
                Always | Reservation => false,
                Read => !strangers_read,
                Write => !mild,
            };
            assert_eq!(bench.conflicts(&cdb), expected, "{opcode:02x} under type {kind}");
        }
        assert!(bench.conflicts(&[0xFB; 16]), "an unknown command may write");
    }
}

#[test]
fn the_holder_is_let_through() {
    let mut bench = Bench::reserved_by_other(3);
    bench.nexus = crate::bench::nexus(2);
    assert!(!bench.conflicts(&cdb(0x2A, 0, 0, 1)));
    assert!(!bench.conflicts(&cdb(0x88, 0, 0, 1)));
}

#[test]
fn an_spc_2_reservation_lets_four_commands_of_others_through() {
    let mut bench = Bench::legacy_by_other();
    for (opcode, action, _, allowed) in EXPECTED {
        // RESERVE and PERSISTENT RESERVE OUT are judged where their state is.
        if matches!(opcode, 0x16 | 0x56 | 0x5F) {
            continue;
        }
        let cdb = [&[*opcode, action.unwrap_or(0)][..], &[0; 14]].concat();
        assert_eq!(bench.conflicts(&cdb), !allowed, "{opcode:02x}");
    }
}
