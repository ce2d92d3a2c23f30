//! INQUIRY and its pages, diagnostics, logs, reservations by CDB.

use scsi::command::{Command, Transfer};
use scsi::sense::{Response, Sense};

use crate::bench::{Bench, MAX_UNMAP, sends};

fn inquiry(page: Option<u8>) -> [u8; 6] {
    [0x12, u8::from(page.is_some()), page.unwrap_or(0), 1, 0, 0]
}

fn page(bench: &mut Bench, code: u8) -> Vec<u8> {
    let data = bench.data(&inquiry(Some(code)));
    assert_eq!(data[..2], [0, code]);
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
    data.to_vec()
}

#[test]
fn standard_inquiry_data_claims_what_is_there() {
    let data = Bench::new().data(&inquiry(None));
    assert_eq!((data.len(), data[4]), (96, 91));
    assert_eq!(data[..4], [0, 0, 0x06, 0x12], "a disk, not removable, SPC-4, format 2");
    assert_eq!(data[5..8], [0x18, 0, 0x02], "implicit ALUA, third-party copy, CMDQUE");
    assert!(data[8..36].iter().all(|byte| (0x20..0x7F).contains(byte)));
    let descriptors: Vec<u16> =
        data[58..74].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    assert_eq!(descriptors, [0x00A0, 0x0460, 0x04C0, 0x0960, 0, 0, 0, 0]);
}

#[test]
fn inquiry_is_cut_to_the_allocation_length() {
    let mut bench = Bench::new();
    for length in [0, 5, 36, 95, 96] {
        assert_eq!(bench.data(&[0x12, 0, 0, 0, length, 0]).len(), usize::from(length));
    }
    assert_eq!(bench.data(&[0x12, 0, 0, 1, 4, 0]).len(), 96);
}

#[test]
fn a_page_code_without_evpd_and_unknown_pages_are_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.sense(&[0x12, 0, 0x83, 0, 96, 0]), Sense::illegal_field_in_cdb(2));
    assert_eq!(bench.sense(&inquiry(Some(0xC0))), Sense::illegal_field_in_cdb(2));
    assert_eq!(bench.sense(&[0x12, 2, 0, 0, 96, 0]), Sense::illegal_bit_in_cdb(1, 1), "CMDDT");
}

#[test]
fn every_listed_page_is_there_and_the_list_ascends() {
    let mut bench = Bench::new();
    let list = page(&mut bench, 0x00)[4..].to_vec();
    assert_eq!(list, [0x00, 0x80, 0x83, 0x86, 0x8F, 0xB0, 0xB1, 0xB2]);
    for code in list {
        page(&mut bench, code);
    }
}

/// Code set, association and type, and the name, of each designator.
fn designators(mut rest: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut found = Vec::new();
    while let [set, kind, 0, length, tail @ ..] = rest {
        let (name, later) = tail.split_at(usize::from(*length));
        found.push((*set, *kind, name));
        rest = later;
    }
    assert!(rest.is_empty());
    found
}

#[test]
fn the_unit_its_port_and_its_device_have_names() {
    let mut bench = Bench::new();
    assert_eq!(page(&mut bench, 0x80)[4..], *b"0123456789abcdef0123456789abcdef");
    let data = page(&mut bench, 0x83);
    let found = designators(&data[4..]);
    let naa = bench.unit.naa;
    let vendor = b"COMMHOLDVolume          0123456789abcdef0123456789abcdef";
    let port = b"iqn.2026-11.io.commonhold:volume-1,t,0x0008\0";
    let mut device = b"iqn.2026-11.io.commonhold:volume-1".to_vec();
    device.resize(36, 0);
    let expected: [(u8, u8, &[u8]); 6] = [
        (0x01, 0x03, &naa),
        (0x02, 0x01, vendor),
        (0x51, 0x94, &[0, 0, 0, 2]),
        (0x51, 0x95, &[0, 0, 0, 1]),
        (0x53, 0x98, port),
        (0x53, 0xA8, &device),
    ];
    assert_eq!(found, expected);
}

#[test]
fn block_limits_tell_the_limits_that_are_enforced() {
    let data = page(&mut Bench::new(), 0xB0);
    let four = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
    assert_eq!(data.len(), 64);
    assert_eq!(data[4..8], [0, 16, 0, 8], "WSNZ 0, compare 16, granularity 8");
    assert_eq!([four(8), four(20), four(24), four(28)], [8192, MAX_UNMAP, 256, 8]);
    assert_eq!(four(32), 0x8000_0000, "UGAVALID, alignment 0");
    assert_eq!([four(36), four(40)], [0, MAX_UNMAP], "MAXIMUM WRITE SAME LENGTH");
    assert_eq!(four(44), 512, "MAXIMUM ATOMIC TRANSFER LENGTH");
    assert!(data[48..].iter().all(|byte| *byte == 0), "any alignment, no atomic boundary");
    for unlimited in [0, u32::MAX] {
        let data = page(&mut Bench::with(|unit| unit.max_unmap_blocks = unlimited), 0xB0);
        assert_eq!(data[20..24], [0xFF; 4], "MAXIMUM UNMAP LBA COUNT says no limit by all ones");
    }
    let data = page(&mut Bench::with(|unit| unit.max_write_same_blocks = 0), 0xB0);
    assert_eq!(data[36..44], [0; 8], "MAXIMUM WRITE SAME LENGTH says no limit by zero");
    let thick = page(&mut Bench::with(|unit| unit.thin = false), 0xB0);
    assert!(thick[20..36].iter().all(|byte| *byte == 0), "no unmap");
}

#[test]
fn provisioning_follows_the_unit() {
    assert_eq!(page(&mut Bench::new(), 0xB2)[4..], [0, 0xE4, 0x02, 0]);
    assert_eq!(page(&mut Bench::with(|unit| unit.thin = false), 0xB2)[4..], [0, 0, 0, 0]);
    assert_eq!(page(&mut Bench::new(), 0xB1)[4..6], [0, 1]);
    assert_eq!(page(&mut Bench::new(), 0x86)[5..7], [0x01, 0x01], "a volatile cache");
    assert_eq!(page(&mut Bench::with(|unit| unit.write_cache = false), 0x86)[6], 0);
}

#[test]
fn the_unit_is_ready_and_tests_itself() {
    let mut bench = Bench::new();
    assert_eq!(bench.response(&[0; 6]), Response::good());
    assert_eq!(bench.response(&[0x1D, 0x04, 0, 0, 0, 0]), Response::good());
    assert_eq!(bench.sense(&[0x1D, 0x20, 0, 0, 0, 0]), Sense::illegal_bit_in_cdb(1, 7));
    assert_eq!(bench.sense(&[0x1D, 0x10, 0, 0, 8, 0]), Sense::illegal_field_in_cdb(3));
    assert_eq!(bench.data(&[0x1C, 0x01, 0x00, 0, 255, 0])[..], [0, 0, 0, 1, 0]);
    assert_eq!(bench.sense(&[0x1C, 0x01, 0x40, 0, 255, 0]), Sense::illegal_field_in_cdb(2));
}

#[test]
fn the_log_has_the_list_of_its_pages() {
    let mut bench = Bench::new();
    let log = |page: u8, subpage: u8| [0x4D, 0, 0x40 | page, subpage, 0, 0, 0, 0, 255, 0];
    assert_eq!(bench.data(&log(0x00, 0x00))[..], [0, 0, 0, 2, 0, 0x30]);
    let subpages = [0x40, 0xFF, 0, 6, 0, 0, 0, 0xFF, 0x30, 0];
    assert_eq!(bench.data(&log(0x00, 0xFF))[..], subpages);
    let (command, transfer) = bench.run(&log(0x30, 0x00));
    assert_eq!(command, Command::LogRegistrants { allocation_bytes: 255 });
    assert_eq!(transfer, Transfer { data_out_bytes: 0, data_in_bytes: 255 });
    assert_eq!(bench.sense(&log(0x30, 0x01)), Sense::illegal_field_in_cdb(3));
    assert_eq!(bench.sense(&log(0x02, 0x00)), Sense::illegal_bit_in_cdb(2, 5));
    assert_eq!(bench.sense(&log(0x00, 0x01)), Sense::illegal_field_in_cdb(3));
}

#[test]
fn reservation_commands_reach_the_shell_or_the_state() {
    let mut bench = Bench::new();
    let out = [0x5F, 0x06, 0x05, 0, 0, 0, 0, 0, 24, 0];
    let expected = Command::PersistentReserveOut { cdb: out, list_bytes: 24 };
    assert_eq!(bench.run(&out), (expected, sends(24)));
    for opcode in [0x16, 0x56] {
        let cdb = [&[opcode][..], &[0; 9]].concat();
        assert_eq!(bench.run(&cdb), (Command::Reserve, Transfer::default()));
    }
    for opcode in [0x17, 0x57] {
        let cdb = [&[opcode][..], &[0; 9]].concat();
        assert_eq!(bench.run(&cdb), (Command::Release, Transfer::default()));
    }
    assert_eq!(bench.sense(&[0x16, 0x10, 0, 0, 0, 0]), Sense::illegal_bit_in_cdb(1, 4), "3RDPTY");
    let keys = bench.data(&[0x5E, 0, 0, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!(keys[..], [0; 8], "PRGENERATION 0, no keys");
    for action in 4..32 {
        let sense = bench.sense(&[0x5E, action, 0, 0, 0, 0, 0, 0, 255, 0]);
        assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 4));
    }
}
