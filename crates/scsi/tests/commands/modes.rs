//! MODE SENSE and MODE SELECT.

use scsi::command::Command;
use scsi::logical_unit::mode_select;
use scsi::sense::{Asc, Response, Sense};

use crate::bench::{Bench, sends, unit};

const CURRENT: u8 = 0x00;
const CHANGEABLE: u8 = 0x40;
const DEFAULT: u8 = 0x80;
const SAVED: u8 = 0xC0;
const DBD: u8 = 0x08;
const LLBAA: u8 = 0x10;
const ALL: u8 = 0x3F;

fn sense_6(flags: u8, page: u8, subpage: u8) -> [u8; 6] {
    [0x1A, flags, page, subpage, 255, 0]
}

fn sense_10(flags: u8, page: u8) -> [u8; 10] {
    [0x5A, flags, page, 0, 0, 0, 0, 4, 0, 0]
}

/// The page codes of what follows header and descriptors.
fn page_codes(mut pages: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    while let [code, length, rest @ ..] = pages {
        codes.push(*code);
        pages = &rest[usize::from(*length)..];
    }
    codes
}

#[test]
fn all_pages_come_in_ascending_order() {
    let mut bench = Bench::new();
    for subpage in [0x00, 0xFF] {
        let data = bench.data(&sense_6(0, ALL, subpage));
        assert_eq!(usize::from(data[0]), data.len() - 1);
        assert_eq!(data[1..4], [0, 0x10, 8], "DPOFUA and one block descriptor");
        assert_eq!(data[4..12], [0x00, 0x10, 0, 0, 0, 0, 2, 0]);
        assert_eq!(page_codes(&data[12..]), [0x01, 0x02, 0x08, 0x0A, 0x1C]);
    }
}

#[test]
fn the_long_form_counts_in_two_bytes_and_has_the_long_descriptor() {
    let mut bench = Bench::with(|unit| unit.blocks = 1 << 33);
    let data = bench.data(&sense_10(0, ALL));
    assert_eq!(usize::from(u16::from_be_bytes([data[0], data[1]])), data.len() - 2);
    assert_eq!(data[2..8], [0, 0x10, 0, 0, 0, 8]);
    assert_eq!(data[8..16], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0], "too many for four bytes");
    let data = bench.data(&sense_10(LLBAA, ALL));
    assert_eq!(data[2..8], [0, 0x10, 1, 0, 0, 16]);
    assert_eq!(data[8..24], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    assert_eq!(page_codes(&data[24..]).len(), 5);
    let data = bench.data(&sense_10(DBD, 0x0A));
    assert_eq!((data[7], data[8], data.len()), (0, 0x0A, 20));
}

#[test]
fn the_allocation_length_cuts_and_the_length_field_does_not() {
    let mut bench = Bench::new();
    let whole = bench.data(&sense_6(0, ALL, 0));
    let cut = bench.data(&[0x1A, 0, ALL, 0, 4, 0]);
    assert_eq!(cut[..], whole[..4]);
    assert!(bench.data(&[0x1A, 0, ALL, 0, 0, 0]).is_empty());
}

#[test]
fn the_caching_page_tells_whether_there_is_a_cache() {
    for write_cache in [false, true] {
        let mut bench = Bench::with(|unit| unit.write_cache = write_cache);
        for values in [CURRENT, DEFAULT] {
            let data = bench.data(&sense_6(DBD, values | 0x08, 0));
            assert_eq!(data[4..6], [0x08, 0x12]);
            assert_eq!(data[6], if write_cache { 0x04 } else { 0 });
        }
        let data = bench.data(&sense_6(DBD, CHANGEABLE | 0x08, 0));
        assert!(data[6..].iter().all(|byte| *byte == 0), "WCE cannot be changed");
    }
}

#[test]
fn the_control_page_tells_current_changeable_and_default_values() {
    let mut bench = Bench::with(|unit| {
        unit.software_write_protect = true;
        unit.task_aborted_status = true;
        unit.descriptor_sense = true;
    });
    let data = bench.data(&sense_6(DBD, CURRENT | 0x0A, 0));
    assert_eq!(data[4..10], [0x0A, 0x0A, 0x04, 0x10, 0x08, 0x40]);
    assert_eq!(data[2], 0x90, "WP with SWP");
    let data = bench.data(&sense_6(DBD, CHANGEABLE | 0x0A, 0));
    assert_eq!(data[4..10], [0x0A, 0x0A, 0x04, 0x00, 0x08, 0x40]);
    let data = bench.data(&sense_6(DBD, DEFAULT | 0x0A, 0));
    assert_eq!(data[4..10], [0x0A, 0x0A, 0x00, 0x10, 0x00, 0x00]);
}

#[test]
fn a_read_only_attachment_shows_as_write_protected() {
    assert_eq!(Bench::read_only().data(&sense_6(DBD, 0x0A, 0))[2], 0x90);
    assert_eq!(Bench::read_only().data(&sense_10(DBD, 0x0A))[3], 0x90);
}

#[test]
fn saved_values_and_unknown_pages_are_refused() {
    let mut bench = Bench::new();
    let saved = Sense::illegal(Asc::SAVING_PARAMETERS_NOT_SUPPORTED);
    assert_eq!(bench.sense(&sense_6(0, SAVED | 0x0A, 0)), saved);
    assert_eq!(bench.sense(&sense_6(0, 0x05, 0)), Sense::illegal_bit_in_cdb(2, 5));
    assert_eq!(bench.sense(&sense_6(0, 0x0A, 0x01)), Sense::illegal_field_in_cdb(3));
    bench.data(&sense_6(0, 0x0A, 0xFF));
}

#[test]
fn mode_select_runs_with_its_list() {
    let mut bench = Bench::new();
    let six = Command::ModeSelect { ten: false, save: false, list_bytes: 16 };
    assert_eq!(bench.run(&[0x15, 0x10, 0, 0, 16, 0]), (six, sends(16)));
    let ten = Command::ModeSelect { ten: true, save: false, list_bytes: 20 };
    assert_eq!(bench.run(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0]), (ten, sends(20)));
    assert_eq!(bench.response(&[0x15, 0x10, 0, 0, 0, 0]), Response::good());
    assert_eq!(bench.sense(&[0x15, 0x11, 0, 0, 16, 0]), Sense::illegal_bit_in_cdb(1, 0), "SP");
    assert_eq!(bench.sense(&[0x15, 0x00, 0, 0, 16, 0]), Sense::illegal_bit_in_cdb(1, 4), "PF");
    let mut read_only = Bench::read_only();
    assert_eq!(read_only.sense(&[0x15, 0x10, 0, 0, 16, 0]), Sense::write_protected());
}

/// What MODE SENSE tells, as the list of a MODE SELECT, with these bytes changed.
fn list(cdb: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut list = Bench::new().data(cdb).to_vec();
    list[0] = 0;
    for (at, bits) in changes {
        list[*at] ^= bits;
    }
    list
}

#[test]
fn the_three_bits_can_be_set_and_cleared() {
    let set = list(&sense_6(DBD, 0x0A, 0), &[(6, 0x04), (8, 0x08), (9, 0x40)]);
    let next = mode_select(&set, false, &unit()).expect("all three may change");
    assert!(next.descriptor_sense && next.software_write_protect && next.task_aborted_status);
    let clear = list(&sense_6(DBD, 0x0A, 0), &[]);
    assert_eq!(mode_select(&clear, false, &next), Ok(unit()));
}

#[test]
fn what_mode_sense_tells_changes_nothing() {
    for (cdb, ten) in [
        (&sense_6(0, ALL, 0)[..], false),
        (&sense_6(DBD, ALL, 0), false),
        (&sense_10(0, ALL), true),
        (&sense_10(LLBAA, ALL), true),
    ] {
        assert_eq!(mode_select(&list(cdb, &[]), ten, &unit()), Ok(unit()), "{cdb:02x?}");
    }
    assert_eq!(mode_select(&[], false, &unit()), Ok(unit()));
}

#[test]
fn a_capacity_of_zero_or_all_ones_keeps_the_capacity() {
    let mut zero = list(&sense_6(0, 0x0A, 0), &[]);
    zero[4..8].fill(0);
    assert_eq!(mode_select(&zero, false, &unit()), Ok(unit()));
    zero[4..8].fill(0xFF);
    assert_eq!(mode_select(&zero, false, &unit()), Ok(unit()));
}

#[test]
fn everything_else_must_stay_and_is_pointed_at() {
    let refused = |list: &[u8]| mode_select(list, false, &unit()).unwrap_err();
    for (page, at, bits, expected) in [
        (0x08, 6, 0x04, Sense::illegal_bit_in_list(6, 2)),
        (0x0A, 7, 0x20, Sense::illegal_bit_in_list(7, 5)),
        (0x0A, 4, 0x40, Sense::illegal_bit_in_list(4, 5)),
        (0x0A, 5, 0x01, Sense::illegal_field_in_list(5)),
        (0x0A, 1, 0x01, Sense::illegal_field_in_list(1)),
        (0x0A, 4, 0x01, Sense::illegal_bit_in_list(4, 5)),
    ] {
        assert_eq!(refused(&list(&sense_6(DBD, page, 0), &[(at, bits)])), expected);
    }
    let block_length = list(&sense_6(0, 0x0A, 0), &[(10, 0x10)]);
    assert_eq!(refused(&block_length), Sense::illegal_field_in_list(8));
    let capacity = list(&sense_6(0, 0x0A, 0), &[(7, 0x10)]);
    assert_eq!(refused(&capacity), Sense::illegal_field_in_list(4));
    let descriptor = list(&sense_6(0, 0x0A, 0), &[(3, 0x04)]);
    assert_eq!(refused(&descriptor), Sense::illegal_field_in_list(3));
}

#[test]
fn a_list_that_ends_early_has_the_wrong_length() {
    let whole = list(&sense_6(0, 0x0A, 0), &[(12 + 4, 0x08)]);
    for end in (1..whole.len()).filter(|end| *end != 4 + 8) {
        let sense = mode_select(&whole[..end], false, &unit()).unwrap_err();
        assert_eq!(sense, Sense::parameter_list_length(), "{end}");
    }
    assert_eq!(mode_select(&whole[..12], false, &unit()), Ok(unit()), "a descriptor alone");
}
