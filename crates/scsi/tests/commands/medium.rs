//! Capacity, caches, deallocation, defects, start and stop.

use scsi::command::{Command, Transfer};
use scsi::logical_unit::{lba_status_data, unmap_extents};
use scsi::sense::{Response, Sense};

use crate::bench::{BLOCKS, Bench, MAX_UNMAP, cdb, extent, receives, sends, unit};

const CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn capacity_16(allocation_bytes: u8) -> [u8; 16] {
    [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, allocation_bytes, 0, 0]
}

#[test]
fn capacity_is_the_last_block_and_the_block_length() {
    let mut bench = Bench::new();
    assert_eq!(bench.data(&CAPACITY_10)[..], [0x00, 0x0F, 0xFF, 0xFF, 0, 0, 2, 0]);
    let data = bench.data(&capacity_16(32));
    assert_eq!(data[..12], [0, 0, 0, 0, 0x00, 0x0F, 0xFF, 0xFF, 0, 0, 2, 0]);
    assert_eq!(data[12..16], [0, 3, 0xC0, 0], "LBPPBE 3, LBPME, LBPRZ");
    assert_eq!(data.len(), 32);
    assert_eq!(bench.data(&capacity_16(12)).len(), 12);
    assert_eq!(bench.data(&capacity_16(0)).len(), 0);
    let mut large = Bench::with(|unit| {
        unit.blocks = 1 << 33;
        unit.thin = false;
    });
    assert_eq!(large.data(&CAPACITY_10)[..4], [0xFF; 4], "sends to READ CAPACITY(16)");
    assert_eq!(large.data(&capacity_16(32))[14], 0);
}

#[test]
fn zero_blocks_to_flush_or_fetch_mean_the_rest_of_the_unit() {
    let mut bench = Bench::new();
    for opcode in [0x35, 0x91] {
        let expected =
            Command::SynchronizeCache { extent: extent(8, BLOCKS - 8), immediate: false };
        assert_eq!(bench.run(&cdb(opcode, 0, 8, 0)), (expected, Transfer::default()));
        let expected = Command::SynchronizeCache { extent: extent(8, 2), immediate: true };
        assert_eq!(bench.run(&cdb(opcode, 0x06, 8, 2)).0, expected, "IMMED and SYNC_NV");
    }
    for opcode in [0x34, 0x90] {
        let expected = Command::Prefetch { extent: extent(8, BLOCKS - 8), immediate: false };
        assert_eq!(bench.run(&cdb(opcode, 0, 8, 0)).0, expected);
        let expected = Command::Prefetch { extent: extent(8, 2), immediate: true };
        assert_eq!(bench.run(&cdb(opcode, 0x02, 8, 2)).0, expected);
    }
    for opcode in [0x34, 0x35, 0x90, 0x91] {
        for (lba, blocks) in [(BLOCKS - 1, 2), (BLOCKS + 1, 0), (0x8000_0000, 0), (0xFFFF_FFFF, 1)]
        {
            let sense = bench.sense(&cdb(opcode, 0, lba, blocks));
            assert_eq!(sense, Sense::lba_out_of_range(), "{opcode:02x} {lba:x} {blocks}");
        }
    }
}

/// An UNMAP parameter list of these ranges.
fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptor_bytes = u16::try_from(16 * ranges.len()).expect("a short list");
    let mut list = (descriptor_bytes + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&descriptor_bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

#[test]
fn unmap_is_offered_where_blocks_can_be_deallocated() {
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let mut bench = Bench::new();
    assert_eq!(bench.run(&unmap), (Command::Unmap { list_bytes: 24 }, sends(24)));
    let nothing = [0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bench.response(&nothing), Response::good());
    let anchor = [0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(bench.sense(&anchor), Sense::illegal_bit_in_cdb(1, 0));
    let mut thick = Bench::with(|unit| unit.thin = false);
    assert_eq!(thick.sense(&unmap), Sense::invalid_opcode());
}

#[test]
fn an_unmap_list_is_read_in_order() {
    let unit = unit();
    let extents = unmap_extents(&unmap_list(&[(8, 8), (0, 0), (BLOCKS, 0), (0, 1)]), &unit);
    assert_eq!(extents, Ok(vec![extent(8, 8), extent(0, 1)]));
    assert_eq!(unmap_extents(&unmap_list(&[]), &unit), Ok(vec![]));
    assert_eq!(unmap_extents(&[], &unit), Ok(vec![]));
    let limit = unmap_extents(&unmap_list(&[(0, MAX_UNMAP)]), &unit);
    assert_eq!(limit, Ok(vec![extent(0, u64::from(MAX_UNMAP))]));
    let mut partial = unmap_list(&[(8, 8)]);
    partial[3] += 5;
    partial.extend_from_slice(&[0xFF; 5]);
    assert_eq!(unmap_extents(&partial, &unit), Ok(vec![extent(8, 8)]), "the last is incomplete");
}

#[test]
fn a_bad_unmap_list_unmaps_nothing() {
    let unit = unit();
    let refused = |list: &[u8]| unmap_extents(list, &unit).unwrap_err();
    assert_eq!(refused(&[0; 7]), Sense::parameter_list_length());
    let whole = unmap_list(&[(0, 1), (8, 1)]);
    assert_eq!(refused(&whole[..whole.len() - 1]), Sense::parameter_list_length());
    for range in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 2), (BLOCKS + 1, 0)] {
        assert_eq!(refused(&unmap_list(&[(0, 1), range])), Sense::lba_out_of_range());
    }
    let above = unmap_list(&[(0, MAX_UNMAP), (0, 1)]);
    assert_eq!(refused(&above), Sense::illegal_field_in_list(8 + 16 + 8));
    assert_eq!(refused(&unmap_list(&[(0, 1); 257])), Sense::illegal_field_in_list(2));
    assert!(unmap_extents(&unmap_list(&[(0, 1); 256]), &unit).is_ok());
}

fn lba_status(lba: u64, allocation_bytes: u32) -> Vec<u8> {
    let mut cdb = cdb(0x9E, 0x12, lba, 0);
    cdb[10..14].copy_from_slice(&allocation_bytes.to_be_bytes());
    cdb
}

#[test]
fn lba_status_starts_inside_the_unit() {
    let mut bench = Bench::new();
    let expected = Command::GetLbaStatus { lba: 5, allocation_bytes: 24 };
    assert_eq!(bench.run(&lba_status(5, 24)), (expected, receives(24)));
    for lba in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
        assert_eq!(bench.sense(&lba_status(lba, 24)), Sense::lba_out_of_range());
    }
}

#[test]
fn lba_status_joins_neighbours_and_starts_at_the_lba_asked_for() {
    let ranges =
        [(extent(0, 8), true), (extent(8, 8), true), (extent(16, 4), false), (extent(20, 9), true)];
    let data = lba_status_data(3, &ranges, 1024);
    let length = u32::from_be_bytes(data[..4].try_into().unwrap());
    assert_eq!(length as usize, data.len() - 4);
    assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 13, 0, 0, 0, 0]);
    assert_eq!(data[24..40], [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 4, 1, 0, 0, 0]);
    assert_eq!(data[40..], [0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0]);
    let one = lba_status_data(3, &ranges, 24);
    assert_eq!(one[..4], 20_u32.to_be_bytes());
    assert_eq!(one[8..], data[8..24]);
    assert_eq!(lba_status_data(3, &ranges, 10).len(), 10);
    let past = lba_status_data(18, &ranges, 24);
    assert_eq!(past[8..], [0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0, 2, 1, 0, 0, 0]);
}

#[test]
fn a_run_longer_than_its_field_goes_on_in_the_next_descriptor() {
    let data = lba_status_data(0, &[(extent(0, 1 << 33), false)], 1024);
    let descriptors: Vec<(u64, u64)> = data[8..]
        .chunks_exact(16)
        .map(|one| {
            let lba = u64::from_be_bytes(one[..8].try_into().unwrap());
            (lba, u64::from(u32::from_be_bytes(one[8..12].try_into().unwrap())))
        })
        .collect();
    let most = u64::from(u32::MAX);
    assert_eq!(descriptors, [(0, most), (most, most), (2 * most, 2)]);
}

#[test]
fn there_are_no_defects() {
    let mut bench = Bench::new();
    assert_eq!(bench.data(&[0x37, 0, 0x1D, 0, 0, 0, 0, 0, 32, 0])[..], [0, 0x1D, 0, 0]);
    let data = bench.data(&[0xB7, 0x0D, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(data[..], [0, 0x0D, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_stop_flushes_and_nothing_can_be_ejected() {
    let mut bench = Bench::new();
    let start_stop = |flags: u8| [0x1B, 0, 0, 0, flags, 0];
    let flush = (Command::Nothing { flush: true }, Transfer::default());
    assert_eq!(bench.run(&start_stop(0x00)), flush);
    assert_eq!(bench.response(&start_stop(0x01)), Response::good());
    assert_eq!(bench.response(&start_stop(0x04)), Response::good(), "NO_FLUSH");
    assert_eq!(bench.sense(&start_stop(0x02)), Sense::illegal_bit_in_cdb(4, 1), "LOEJ");
    assert_eq!(bench.sense(&start_stop(0x30)), Sense::illegal_bit_in_cdb(4, 7), "STANDBY");
    assert_eq!(bench.response(&[0x1E, 0, 0, 0, 0, 0]), Response::good());
    for prevent in 1..4 {
        let sense = bench.sense(&[0x1E, 0, 0, 0, prevent, 0]);
        assert_eq!(sense, Sense::illegal_bit_in_cdb(4, 1));
    }
}
