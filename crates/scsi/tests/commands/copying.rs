//! Third-party copy: lists, sides of a segment, and what is told of copies (SPC-4 6.4, 6.17 to
//! 6.20, 7.8.17).

use scsi::command::{Command, Transfer};
use scsi::copy::{
    self, CSCDS_MAX, CopyList, Cscd, DESCRIPTORS_BYTES_MAX, Failure, Length, Progress, Report,
    SEGMENT_BYTES_MAX, SEGMENTS_MAX, Segment, Side, Usage,
};
use scsi::logical_unit::View;
use scsi::sense::{Asc, Response, Sense, SenseKey, Status};

use crate::bench::{BLOCKS, Bench, extent, sends, unit};

/// EXTENDED COPY or RECEIVE COPY RESULTS.
fn copy_cdb(opcode: u8, action: u8, list_id: u8, bytes: u32) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    (cdb[0], cdb[1], cdb[2]) = (opcode, action, list_id);
    cdb[10..14].copy_from_slice(&bytes.to_be_bytes());
    cdb
}

fn cscd() -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[0] = 0xE4;
    (bytes[4], bytes[5], bytes[7]) = (0x01, 0x03, 16);
    bytes[8..24].copy_from_slice(&unit().naa);
    bytes[30] = 2;
    bytes
}

fn block_segment(source: u16, destination: u16, blocks: u16) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0x18];
    bytes.extend_from_slice(&source.to_be_bytes());
    bytes.extend_from_slice(&destination.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&blocks.to_be_bytes());
    bytes.extend_from_slice(&0x10_u64.to_be_bytes());
    bytes.extend_from_slice(&0x20_u64.to_be_bytes());
    bytes
}

fn byte_segment(bytes: u32, offsets: [u16; 2]) -> Vec<u8> {
    let mut segment = vec![0x0A, 0, 0, 0x1C, 0, 0, 0, 1];
    segment.extend_from_slice(&bytes.to_be_bytes());
    segment.extend_from_slice(&0x10_u64.to_be_bytes());
    segment.extend_from_slice(&0x20_u64.to_be_bytes());
    segment.extend(offsets.into_iter().flat_map(u16::to_be_bytes));
    segment
}

fn list(usage: u8, cscds: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (cscds, segments) = (cscds.concat(), segments.concat());
    let mut list = vec![0; 16];
    (list[0], list[1]) = (7, usage << 3);
    list[2..4].copy_from_slice(&u16::try_from(cscds.len()).expect("short").to_be_bytes());
    list[8..12].copy_from_slice(&u32::try_from(segments.len()).expect("short").to_be_bytes());
    list.extend_from_slice(&cscds);
    list.extend_from_slice(&segments);
    list
}

fn refused(list: &[u8]) -> Sense {
    CopyList::parse(list).expect_err("a bad list")
}

#[test]
fn extended_copy_asks_for_its_list_and_one_of_no_bytes_is_no_error() {
    let mut bench = Bench::new();
    assert_eq!(bench.response(&copy_cdb(0x83, 0, 0, 0)), Response::good());
    let expected = Command::ExtendedCopy { list_bytes: 76 };
    assert_eq!(bench.run(&copy_cdb(0x83, 0, 0, 76)), (expected, sends(76)));
    let sense = bench.sense(&copy_cdb(0x83, 0, 0, DESCRIPTORS_BYTES_MAX + 17));
    assert_eq!(sense, Sense::parameter_list_length());
    assert_eq!(bench.sense(&copy_cdb(0x83, 1, 0, 76)), Sense::illegal_bit_in_cdb(1, 4), "LID4");
}

#[test]
fn a_list_is_read_as_the_standard_writes_it() {
    let segments = [block_segment(0, 1, 9), byte_segment(4096, [0, 0])];
    let parsed = CopyList::parse(&list(0, &[cscd(), cscd()], &segments)).expect("a good list");
    let one = Cscd { naa: Some(unit().naa), block_bytes: 512 };
    let segment = Segment {
        source: 0,
        destination: 1,
        from_lba: 0x10,
        to_lba: 0x20,
        length: Length::Blocks(9),
    };
    let expected = CopyList {
        usage: Usage::Listed(7),
        cscds: vec![one.clone(), one],
        segments: vec![segment, Segment { length: Length::Bytes(4096), ..segment }],
    };
    assert_eq!(parsed, expected);
    assert_eq!(Length::Bytes(4096).blocks(512), Some(8));
    assert_eq!(Length::Bytes(4096 + 512).blocks(4096), None);
    assert_eq!(Length::Bytes(4096).blocks(0), None);
}

#[test]
fn list_id_usage_says_whether_a_copy_can_be_asked_about() {
    let usage = |usage| CopyList::parse(&list(usage, &[], &[])).map(|list| list.usage);
    assert_eq!(usage(0), Ok(Usage::Listed(7)));
    assert_eq!(usage(2), Ok(Usage::Listed(7)));
    assert_eq!(usage(1), Err(Sense::illegal_bit_in_list(1, 4)), "reserved");
    assert_eq!(usage(3), Err(Sense::illegal_field_in_list(0)), "an identifier without a use");
    let mut unlisted = list(3, &[], &[]);
    unlisted[0] = 0;
    assert_eq!(CopyList::parse(&unlisted).expect("a good list").usage, Usage::Unlisted);
}

#[test]
fn lists_that_end_early_or_are_too_long_have_a_wrong_length() {
    let good = list(0, &[cscd()], &[block_segment(0, 0, 1)]);
    for length in 0..good.len() {
        assert_eq!(refused(&good[..length]), Sense::parameter_list_length(), "{length} bytes");
    }
    let many = vec![cscd(); usize::from(CSCDS_MAX) + 1];
    assert_eq!(refused(&list(0, &many, &[])).asc, Asc::TOO_MANY_TARGET_DESCRIPTORS);
    let many = vec![block_segment(0, 0, 1); usize::from(SEGMENTS_MAX) + 1];
    assert_eq!(refused(&list(0, &[cscd()], &many)).asc, Asc::TOO_MANY_SEGMENT_DESCRIPTORS);
    let many = vec![block_segment(0, 0, 1); usize::from(SEGMENTS_MAX) + 10];
    assert_eq!(refused(&list(0, &[cscd()], &many)), Sense::parameter_list_length());
    let mut inline = good;
    inline[15] = 1;
    assert_eq!(refused(&inline).asc, Asc::INLINE_DATA_LENGTH_EXCEEDED);
}

#[test]
fn descriptors_of_other_types_and_bad_fields_are_named() {
    let mut fibre_channel = cscd();
    fibre_channel[0] = 0xE0;
    let sense = refused(&list(0, &[fibre_channel], &[block_segment(0, 0, 1)]));
    assert_eq!(sense.asc, Asc::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE);
    let mut stream = block_segment(0, 0, 1);
    stream[0] = 0x03;
    let sense = refused(&list(0, &[cscd()], &[stream]));
    assert_eq!(sense.asc, Asc::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE);
    let mut tape = cscd();
    tape[1] = 0x01;
    assert_eq!(refused(&list(0, &[tape], &[])), Sense::illegal_bit_in_list(17, 4));
    let mut short = block_segment(0, 0, 1);
    short[3] = 0x14;
    assert_eq!(refused(&list(0, &[cscd()], &[short])), Sense::illegal_field_in_list(16 + 32 + 2));
    let segment = |bytes, offsets| refused(&list(0, &[], &[byte_segment(bytes, offsets)]));
    assert_eq!(segment(512, [1, 0]), Sense::illegal_field_in_list(16 + 28));
    assert_eq!(segment(512, [0, 1]), Sense::illegal_field_in_list(16 + 30));
    assert_eq!(segment(511, [0, 0]), Sense::illegal_field_in_list(16 + 8));
    let over = SEGMENT_BYTES_MAX + 512;
    assert_eq!(segment(over, [0, 0]), Sense::illegal_field_in_list(16 + 8));
}

#[test]
fn a_name_that_is_not_our_kind_is_nobodys() {
    let naa_of = |change: fn(&mut Vec<u8>)| {
        let mut descriptor = cscd();
        change(&mut descriptor);
        CopyList::parse(&list(0, &[descriptor], &[])).expect("a good list").cscds[0].naa
    };
    assert_eq!(naa_of(|d| d[1] = 0xC0), Some(unit().naa), "LU ID TYPE is not looked at");
    assert_eq!(naa_of(|d| d[1] = 0x20), None, "NUL");
    assert_eq!(naa_of(|d| d[4] = 0x02), None, "an ASCII name");
    assert_eq!(naa_of(|d| d[5] = 0x13), None, "a port's name");
    assert_eq!(naa_of(|d| d[5] = 0x01), None, "a T10 vendor name");
    assert_eq!(naa_of(|d| d[7] = 8), None, "a short name");
}

fn judged(bench: &Bench, side: Side, lba: u64, blocks: u64) -> Result<(), Response> {
    let view = View {
        unit: &bench.unit,
        access: bench.access,
        nexus: &bench.nexus,
        reservations: &bench.reservations,
    };
    copy::judge(&view, side, extent(lba, blocks))
}

/// Case 4 of the reservation tests: a stranger copies from and into a unit under each type.
#[test]
fn case_04_a_side_of_a_segment_meets_the_reservation_as_a_read_or_a_write_does() {
    for (kind, strangers_read) in
        [(1, true), (3, false), (5, true), (6, false), (7, true), (8, false)]
    {
        let mut bench = Bench::reserved_by_other(kind);
        let conflict = Err(Response::conflict());
        assert_eq!(judged(&bench, Side::Destination, 0, 1), conflict, "type {kind}");
        let read = if strangers_read { Ok(()) } else { conflict };
        assert_eq!(judged(&bench, Side::Source, 0, 1), read, "type {kind}");
        assert!(bench.conflicts(&copy_cdb(0x83, 0, 0, 76)), "sent to it, type {kind}");
        bench.nexus = crate::bench::nexus(2);
        assert_eq!(judged(&bench, Side::Destination, 0, 1), Ok(()), "its holder, type {kind}");
    }
    let legacy = Bench::legacy_by_other();
    assert_eq!(judged(&legacy, Side::Source, 0, 1), Err(Response::conflict()));
}

#[test]
fn protection_and_range_hold_for_a_side_of_a_segment() {
    let protected = Err(Sense::write_protected().into());
    let read_only = Bench::read_only();
    assert_eq!(judged(&read_only, Side::Destination, 0, 1), protected);
    assert_eq!(judged(&read_only, Side::Source, 0, 1), Ok(()));
    let switched = Bench::with(|unit| unit.software_write_protect = true);
    let protected = Err(Sense::software_write_protected().into());
    assert_eq!(judged(&switched, Side::Destination, 0, 1), protected);
    let bench = Bench::new();
    let outside = Err(Sense::lba_out_of_range().into());
    for side in [Side::Source, Side::Destination] {
        assert_eq!(judged(&bench, side, BLOCKS - 1, 1), Ok(()));
        assert_eq!(judged(&bench, side, BLOCKS - 1, 2), outside);
        assert_eq!(judged(&bench, side, u64::MAX, 2), outside);
    }
}

#[test]
fn a_stopped_copy_says_why() {
    let code = |failure| copy::aborted(&failure);
    let aborted = |asc| Sense::new(SenseKey::CopyAborted, asc);
    assert_eq!(code(Failure::NoSuchUnit), aborted(Asc(0x08, 0x04)));
    assert_eq!(code(Failure::WrongBlocks), aborted(Asc(0x0D, 0x03)));
    assert_eq!(code(Failure::CutOff), aborted(Asc(0x0D, 0x02)));
    assert_eq!(code(Failure::Refused(Response::conflict())), aborted(Asc(0x0D, 0x01)));
    let outside = Response::check(Sense::lba_out_of_range());
    assert_eq!(code(Failure::Refused(outside)), aborted(Asc::NONE));
}

#[test]
fn results_of_a_copy_are_asked_by_its_identifier() {
    let mut bench = Bench::new();
    for (action, report) in [(0, Report::CopyStatus), (4, Report::FailedSegmentDetails)] {
        let expected = Command::ReceiveCopyResults { report, list_id: 9, allocation_bytes: 64 };
        let transfer = Transfer { data_out_bytes: 0, data_in_bytes: 64 };
        assert_eq!(bench.run(&copy_cdb(0x84, action, 9, 64)), (expected, transfer));
    }
    let sense = bench.sense(&copy_cdb(0x84, 1, 9, 64));
    assert_eq!(sense, Sense::illegal_bit_in_cdb(1, 4), "no data is held");
}

#[test]
fn copy_status_and_failed_segments_have_the_standards_form() {
    let mut progress = Progress::begin(9);
    assert_eq!(copy::report(&progress, Report::CopyStatus)[..8], [0, 0, 0, 8, 0, 0, 0, 0]);
    assert_eq!(copy::report(&progress, Report::FailedSegmentDetails)[..], [0; 4]);
    (progress.segments_done, progress.copied_bytes) = (3, 4096);
    progress.ended_well = Some(true);
    let data = copy::report(&progress, Report::CopyStatus);
    assert_eq!(data[..], [0, 0, 0, 8, 1, 0, 3, 0, 0, 0, 0x10, 0]);
    (progress.ended_well, progress.copied_bytes) = (Some(false), 5 << 32);
    let data = copy::report(&progress, Report::CopyStatus);
    assert_eq!((data[4], data[7], &data[8..]), (2, 1, &[1, 0x40, 0, 0][..]), "KiB");
    progress.failed = Some(Response::conflict());
    let data = copy::report(&progress, Report::FailedSegmentDetails);
    assert_eq!((data.len(), data[3], data[56]), (60, 56, Status::ReservationConflict as u8));
    progress.failed = Some(Sense::write_protected().into());
    let data = copy::report(&progress, Report::FailedSegmentDetails);
    assert_eq!((data.len(), data[56], data[59]), (78, Status::CheckCondition as u8, 18));
    assert_eq!(Sense::decode(&data[60..]), Some(Sense::write_protected()));
}

#[test]
fn the_operating_parameters_are_the_limits_that_are_enforced() {
    let data = Bench::new().data(&copy_cdb(0x84, 3, 0, 1024));
    assert_eq!(usize::from(data[3]), data.len() - 4);
    assert_eq!(data[8..12], [0, 8, 0, 64]);
    assert_eq!(data[12..20], [0, 0, 8, 0, 2, 0, 0, 0], "list and segment");
    assert_eq!((data[36], data[37]), (16, 9));
    assert_eq!(data[43..], [3, 0x02, 0x0A, 0xE4]);
    assert_eq!(Bench::new().data(&copy_cdb(0x84, 3, 0, 9)).len(), 9);
}

#[test]
fn the_third_party_copy_page_is_a_row_of_whole_descriptors() {
    let data = Bench::new().data(&[0x12, 1, 0x8F, 1, 0, 0]);
    let mut rest = &data[4..];
    let mut kinds = Vec::new();
    while let [a, b, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        assert!(length.is_multiple_of(4));
        let (body, later) = tail.split_at(length);
        kinds.push((u16::from_be_bytes([*a, *b]), body.to_vec()));
        rest = later;
    }
    assert!(rest.is_empty());
    let codes: Vec<u16> = kinds.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(codes, [0x0001, 0x0004, 0x0008, 0x000C, 0x8001]);
    assert_eq!(kinds[0].1[..9], [8, 0x83, 1, 0, 0x84, 3, 0, 3, 4], "commands and service actions");
}
