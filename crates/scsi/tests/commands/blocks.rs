//! Commands that read, write or compare blocks (SBC-4 clause 5).

use scsi::command::{Command, Fill, VerifyCheck};
use scsi::sense::{Asc, Response, Sense};

use crate::bench::{BLOCKS, Bench, MAX_TRANSFER, MAX_UNMAP, cdb, extent, receives, sends, unit};

const READS: [u8; 4] = [0x08, 0x28, 0xA8, 0x88];
const WRITES: [u8; 4] = [0x0A, 0x2A, 0xAA, 0x8A];
const WRITES_AND_VERIFIES: [u8; 3] = [0x2E, 0xAE, 0x8E];
const VERIFIES: [u8; 3] = [0x2F, 0xAF, 0x8F];
const OR_WRITE: u8 = 0x8B;
const COMPARE_AND_WRITE: u8 = 0x89;
const WRITES_SAME: [u8; 2] = [0x41, 0x93];

const DPO: u8 = 0x10;
const FUA: u8 = 0x08;
const FUA_NV: u8 = 0x02;

/// COMPARE AND WRITE has its count in byte 13 alone.
fn compare_and_write(flags: u8, lba: u64, blocks: u8) -> Vec<u8> {
    cdb(COMPARE_AND_WRITE, flags, lba, u32::from(blocks))
}

#[test]
fn reads_and_writes_name_their_blocks_in_every_form() {
    let mut bench = Bench::new();
    for opcode in READS {
        let expected = Command::Read { extent: extent(0x1234, 7), fua: false };
        assert_eq!(bench.run(&cdb(opcode, 0, 0x1234, 7)), (expected, receives(7 * 512)));
    }
    for opcode in WRITES {
        let expected = Command::Write { extent: extent(0x1234, 7), fua: false };
        assert_eq!(bench.run(&cdb(opcode, 0, 0x1234, 7)), (expected, sends(7 * 512)));
    }
    let expected = Command::OrWrite { extent: extent(3, 2), fua: true };
    assert_eq!(bench.run(&cdb(OR_WRITE, FUA, 3, 2)), (expected, sends(1024)));
}

#[test]
fn a_wide_lba_is_read_whole() {
    let mut bench = Bench::with(|unit| unit.blocks = 1 << 40);
    let far = (1 << 40) - 1;
    let expected = Command::Read { extent: extent(far, 1), fua: false };
    assert_eq!(bench.run(&cdb(0x88, 0, far, 1)).0, expected);
    let expected = Command::Read { extent: extent(0x1F_FFFF, 1), fua: false };
    assert_eq!(bench.run(&cdb(0x08, 0, 0x1F_FFFF, 1)).0, expected);
}

#[test]
fn dpo_and_fua_are_accepted_and_fua_is_passed_on() {
    let mut bench = Bench::new();
    for opcode in [0x28, 0xA8, 0x88] {
        for (flags, expected) in [(DPO, false), (FUA, true), (DPO | FUA | FUA_NV, true)] {
            let (command, _) = bench.run(&cdb(opcode, flags, 0, 1));
            assert_eq!(command, Command::Read { extent: extent(0, 1), fua: expected });
        }
    }
    for opcode in [0x2A, 0xAA, 0x8A] {
        for (flags, expected) in [(DPO, false), (FUA, true), (FUA_NV, false)] {
            let (command, _) = bench.run(&cdb(opcode, flags, 0, 1));
            assert_eq!(command, Command::Write { extent: extent(0, 1), fua: expected });
        }
    }
    let (command, _) = bench.run(&compare_and_write(DPO | FUA, 0, 1));
    assert_eq!(command, Command::CompareAndWrite { extent: extent(0, 1), fua: true });
}

#[test]
fn protection_information_is_refused_everywhere() {
    let mut bench = Bench::new();
    let codes = [&READS[1..], &WRITES[1..], &WRITES_AND_VERIFIES, &VERIFIES, &WRITES_SAME].concat();
    for opcode in codes.into_iter().chain([OR_WRITE]) {
        for protect in 1..8 {
            let sense = bench.sense(&cdb(opcode, protect << 5, 0, 1));
            assert_eq!(sense.asc, Asc::INVALID_FIELD_IN_CDB, "{opcode:02x} {protect}");
        }
    }
}

#[test]
fn a_group_number_is_ignored() {
    let mut bench = Bench::new();
    for (opcode, at) in [(0x28, 6), (0x2A, 6), (0xA8, 10), (0xAA, 10), (0x88, 14), (0x8A, 14)] {
        let mut cdb = cdb(opcode, 0, 0, 1);
        cdb[at] = 3;
        bench.run(&cdb);
    }
}

#[test]
fn ranges_end_with_the_unit() {
    let mut bench = Bench::new();
    let codes = [&READS[1..], &WRITES[1..], &WRITES_AND_VERIFIES, &VERIFIES, &WRITES_SAME].concat();
    for opcode in codes.into_iter().chain([OR_WRITE]) {
        bench.run(&cdb(opcode, 0, BLOCKS - 1, 1));
        for (lba, blocks) in [(BLOCKS - 1, 2), (BLOCKS, 1), (0xFFFF_FFFF, 1), (BLOCKS + 1, 2)] {
            let sense = bench.sense(&cdb(opcode, 0, lba, blocks));
            assert_eq!(sense, Sense::lba_out_of_range(), "{opcode:02x} {lba:x}");
        }
    }
    for opcode in [0x88, 0x8A, 0x8B, 0x8E, 0x8F, 0x93, 0x89] {
        for lba in [1 << 63, u64::MAX] {
            // WRITE SAME of zero blocks is an invalid count wherever it points.
            for blocks in if opcode == 0x93 { 1..3 } else { 0..3 } {
                let sense = bench.sense(&cdb(opcode, 0, lba, blocks));
                assert_eq!(sense, Sense::lba_out_of_range(), "{opcode:02x} {lba:x} {blocks}");
            }
        }
    }
}

#[test]
fn zero_blocks_are_no_error_inside_the_unit() {
    let mut bench = Bench::new();
    let codes = [&READS[1..], &WRITES[1..], &WRITES_AND_VERIFIES, &VERIFIES].concat();
    for opcode in codes.into_iter().chain([OR_WRITE]) {
        for lba in [0, BLOCKS] {
            assert_eq!(bench.response(&cdb(opcode, 0, lba, 0)), Response::good(), "{opcode:02x}");
        }
        let sense = bench.sense(&cdb(opcode, 0, BLOCKS + 1, 0));
        assert_eq!(sense, Sense::lba_out_of_range(), "{opcode:02x}");
    }
    let (nothing, _) = bench.run(&cdb(COMPARE_AND_WRITE, 0, 0, 0));
    assert_eq!(nothing.clone().limited_to(512, 512), Err(Sense::illegal_field_in_cdb(13)));
    assert!(nothing.limited_to(0, 512).is_ok());
    let expected = Command::Read { extent: extent(0, 256), fua: false };
    assert_eq!(bench.run(&cdb(0x08, 0, 0, 0)), (expected, receives(256 * 512)));
    let expected = Command::Write { extent: extent(0, 256), fua: false };
    assert_eq!(bench.run(&cdb(0x0A, 0, 0, 0)), (expected, sends(256 * 512)));
}

#[test]
fn more_than_the_maximum_transfer_length_is_an_invalid_count() {
    let mut bench = Bench::new();
    for (codes, count_byte) in [
        (&[0x28, 0x2A, 0x2E, 0x2F][..], 7),
        (&[0xA8, 0xAA, 0xAE, 0xAF], 6),
        (&[0x88, 0x8A, 0x8B, 0x8E, 0x8F], 10),
    ] {
        for opcode in codes {
            bench.run(&cdb(*opcode, 0, 0, MAX_TRANSFER));
            let sense = bench.sense(&cdb(*opcode, 0, 0, MAX_TRANSFER + 1));
            assert_eq!(sense, Sense::illegal_field_in_cdb(count_byte), "{opcode:02x}");
        }
    }
    let mut unlimited = Bench::with(|unit| {
        unit.max_transfer_blocks = 0;
        unit.blocks = 1 << 40;
    });
    unlimited.run(&cdb(0x88, 0, 0, 0x7F_FFFF));
    let sense = unlimited.sense(&cdb(0x88, 0, 0, 0x80_0000));
    assert_eq!(sense, Sense::illegal_field_in_cdb(10), "4 GiB have no 32-bit length");
}

#[test]
fn verify_compares_as_bytchk_says() {
    let mut bench = Bench::new();
    for opcode in VERIFIES {
        for (bytchk, check, bytes) in [
            (0, VerifyCheck::Readable, 0),
            (1, VerifyCheck::Equal, 4 * 512),
            (3, VerifyCheck::EqualRepeated, 512),
        ] {
            let expected = Command::Verify { extent: extent(8, 4), check };
            let cdb = cdb(opcode, DPO | bytchk << 1, 8, 4);
            assert_eq!(bench.run(&cdb), (expected, sends(bytes)), "{opcode:02x} {bytchk}");
        }
        assert_eq!(bench.sense(&cdb(opcode, 2 << 1, 8, 4)), Sense::illegal_bit_in_cdb(1, 2));
    }
    for opcode in WRITES_AND_VERIFIES {
        for (bytchk, compare) in [(0, false), (1, true)] {
            let expected = Command::WriteAndVerify { extent: extent(8, 4), compare };
            let cdb = cdb(opcode, bytchk << 1, 8, 4);
            assert_eq!(bench.run(&cdb), (expected, sends(4 * 512)));
        }
        for bytchk in [2, 3] {
            let sense = bench.sense(&cdb(opcode, bytchk << 1, 8, 4));
            assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 2));
        }
    }
}

#[test]
fn compare_and_write_carries_its_blocks_twice_and_has_a_limit() {
    let mut bench = Bench::new();
    let expected = Command::CompareAndWrite { extent: extent(9, 16), fua: false };
    assert_eq!(bench.run(&compare_and_write(0, 9, 16)), (expected, sends(2 * 16 * 512)));
    let sense = bench.sense(&compare_and_write(0, 9, 17));
    assert_eq!(sense, Sense::illegal_field_in_cdb(13));
    let mut cdb = compare_and_write(0, 9, 1);
    cdb[12] = 1;
    assert_eq!(bench.sense(&cdb), Sense::illegal_bit_in_cdb(12, 0));
}

#[test]
fn write_same_fills_as_its_flags_say() {
    let mut bench = Bench::new();
    for (flags, fill, bytes) in [
        (0x00, Fill::Block, 512),
        (0x08, Fill::BlockOrUnmap, 512),
        (0x01, Fill::Zeros, 0),
        (0x09, Fill::Unmap, 0),
    ] {
        let expected = Command::WriteSame { extent: extent(16, 8), fill };
        assert_eq!(bench.run(&cdb(0x93, flags, 16, 8)), (expected, sends(bytes)));
    }
    for opcode in WRITES_SAME {
        assert_eq!(
            bench.sense(&cdb(opcode, 0x18, 0, 1)),
            Sense::illegal_bit_in_cdb(1, 4),
            "ANCHOR"
        );
    }
    let sense = bench.sense(&cdb(0x41, 0x01, 0, 1));
    assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 0), "WRITE SAME(10) has no NDOB");
    let mut thick = Bench::with(|unit| unit.thin = false);
    for opcode in WRITES_SAME {
        thick.run(&cdb(opcode, 0, 0, 1));
        assert_eq!(thick.sense(&cdb(opcode, 0x08, 0, 1)), Sense::illegal_bit_in_cdb(1, 3));
    }
}

#[test]
fn write_same_of_zero_blocks_goes_to_the_end_within_its_limit() {
    let mut bench = Bench::new();
    let most = u64::from(MAX_UNMAP);
    for (opcode, count_byte) in [(0x41, 7), (0x93, 10)] {
        for blocks in [1, most] {
            let all =
                Command::WriteSame { extent: extent(BLOCKS - blocks, blocks), fill: Fill::Block };
            assert_eq!(bench.run(&cdb(opcode, 0, BLOCKS - blocks, 0)).0, all);
        }
        let sense = bench.sense(&cdb(opcode, 0, BLOCKS - most - 1, 0));
        assert_eq!(sense, Sense::illegal_field_in_cdb(count_byte), "SBC-4 5.43");
        assert_eq!(bench.response(&cdb(opcode, 0, BLOCKS, 0)), Response::good(), "none is left");
        assert_eq!(bench.sense(&cdb(opcode, 0, BLOCKS + 1, 0)), Sense::lba_out_of_range());
    }
    let sense = bench.sense(&cdb(0x93, 0, 0, MAX_UNMAP + 1));
    assert_eq!(sense, Sense::illegal_field_in_cdb(10));
    bench.run(&cdb(0x93, 0, 0, MAX_UNMAP));
    let mut unlimited = Bench::with(|unit| unit.max_write_same_blocks = 0);
    let all = u32::try_from(BLOCKS).unwrap();
    let expected = Command::WriteSame { extent: extent(0, BLOCKS), fill: Fill::Block };
    assert_eq!(unlimited.run(&cdb(0x93, 0, 0, all)).0, expected);
}

#[test]
fn an_atomic_write_is_within_its_limit_and_whole() {
    let atomic = |flags, lba: u64, boundary: u16, blocks: u16| {
        let mut cdb = vec![0x9C, flags];
        cdb.extend_from_slice(&lba.to_be_bytes());
        cdb.extend_from_slice(&boundary.to_be_bytes());
        cdb.extend_from_slice(&blocks.to_be_bytes());
        cdb.extend_from_slice(&[0, 0]);
        cdb
    };
    let mut bench = Bench::new();
    let whole = Command::WriteAtomic { extent: extent(3, 512), fua: true };
    assert_eq!(bench.run(&atomic(FUA, 3, 0, 512)), (whole.clone(), sends(512 * 512)));
    assert_eq!(bench.sense(&atomic(0, 3, 0, 513)), Sense::illegal_field_in_cdb(12));
    assert_eq!(bench.sense(&atomic(0, BLOCKS - 1, 0, 513)), Sense::lba_out_of_range());
    assert_eq!(bench.sense(&atomic(0, u64::MAX, 0, 2)), Sense::lba_out_of_range());
    assert_eq!(bench.sense(&atomic(0, 0, 1, 1)), Sense::illegal_bit_in_cdb(11, 0), "boundary");
    assert_eq!(bench.sense(&atomic(0x20, 0, 0, 1)), Sense::illegal_bit_in_cdb(1, 5), "WRPROTECT");
    assert_eq!(bench.response(&atomic(0, 0, 0, 0)), Response::good());
    assert_eq!(whole.clone().limited_to(512 * 512, 512), Ok(whole.clone()));
    assert_eq!(whole.limited_to(511 * 512, 512), Err(Sense::illegal_field_in_cdb(12)));
}

#[test]
fn what_writes_is_refused_on_a_protected_unit() {
    let mut read_only = Bench::read_only();
    let mut switched = Bench::with(|unit| unit.software_write_protect = true);
    let mut writes = [&WRITES[..], &WRITES_AND_VERIFIES, &WRITES_SAME].concat();
    writes.extend_from_slice(&[OR_WRITE, COMPARE_AND_WRITE]);
    for cdb in writes
        .into_iter()
        .map(|opcode| cdb(opcode, 0, 0, 1))
        .chain([cdb(0x41, 0x08, 0, 1), vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]])
    {
        assert_eq!(read_only.sense(&cdb), Sense::write_protected(), "{cdb:02x?}");
        assert_eq!(switched.sense(&cdb), Sense::software_write_protected(), "{cdb:02x?}");
    }
    for opcode in READS.into_iter().chain(VERIFIES) {
        read_only.run(&cdb(opcode, 0, 0, 1));
        switched.run(&cdb(opcode, 0, 0, 1));
    }
}

#[test]
fn no_more_is_written_than_there_is_data_for() {
    let bytes = unit().block_bytes;
    let write = Command::Write { extent: extent(4, 3), fua: false };
    for (expected, left) in [(0, 0), (511, 0), (1024, 2), (1536, 3), (4096, 3)] {
        let cut = write.clone().limited_to(expected, bytes);
        assert_eq!(cut, Ok(Command::Write { extent: extent(4, left), fua: false }));
    }
    let compare = Command::CompareAndWrite { extent: extent(0, 2), fua: false };
    assert_eq!(compare.clone().limited_to(2048, bytes), Ok(compare.clone()));
    for wrong in [0, 1024, 4096] {
        assert!(compare.clone().limited_to(wrong, bytes).is_err());
    }
    let same = |fill| Command::WriteSame { extent: extent(0, 2), fill };
    assert!(same(Fill::Block).limited_to(256, bytes).is_err());
    assert!(same(Fill::Block).limited_to(1024, bytes).is_err());
    assert_eq!(same(Fill::Block).limited_to(512, bytes), Ok(same(Fill::Block)));
    assert_eq!(same(Fill::Unmap).limited_to(0, bytes), Ok(same(Fill::Unmap)));
    let read = Command::Read { extent: extent(0, 2), fua: false };
    assert_eq!(read.clone().limited_to(0, bytes), Ok(read), "data-in is cut by the transport");
}

#[test]
fn four_kibibyte_blocks_count_in_their_own_size() {
    let mut bench = Bench::with(|unit| unit.block_bytes = 4096);
    assert_eq!(bench.run(&cdb(0x28, 0, 0, 3)).1, receives(3 * 4096));
    assert_eq!(bench.run(&cdb(0x93, 0, 0, 3)).1, sends(4096));
}
