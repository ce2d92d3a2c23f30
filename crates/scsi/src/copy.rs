//! EXTENDED COPY: its parameter list, the judgement of each side of a segment, and what is told of
//! copies (SPC-4 6.4, 6.17 to 6.20, 7.8.17).
//!
//! ```text
//! list:     0 LIST IDENTIFIER  1 STR, USAGE, PRIORITY  2 CSCD length (2)  8 segment length (4)
//!           12 inline data length (4)  16 CSCD descriptors, segment descriptors
//! CSCD E4h: 1 type  4 code set  5 association, designator type  7 length  8 name (20)
//!           29 block length (3)
//! segment:  0 type  1 DC CAT  2 length (2)  4 source (2)  6 destination (2)  8 by type
//!           02h: 10 blocks (2)  12 from LBA (8)  20 to LBA (8)
//!           0Ah: 8 bytes (4)  12 from LBA (8)  20 to LBA (8)  28 from offset (2)  30 to offset (2)
//! ```
//!
//! Invariant: a list that is let through is within the limits that OPERATING PARAMETERS tells, and
//! each side of a segment is judged as a READ or a WRITE of the nexus that sent the command.

use bytes::Bytes;

use crate::command::Extent;
use crate::commands::{self, View};
use crate::logical_unit::check_blocks;
use crate::sense::{Asc, Response, Sense, SenseKey};

const HEADER_BYTES: usize = 16;
const CSCD_BYTES: usize = 32;
/// Most CSCD descriptors of one list.
pub const CSCDS_MAX: u16 = 8;
/// Most segment descriptors of one list.
pub const SEGMENTS_MAX: u16 = 64;
/// Most bytes of descriptors in one list: all of both kinds that fit the two limits.
pub const DESCRIPTORS_BYTES_MAX: u32 = 2048;
/// Most bytes that one segment copies: all that a count of 16 bits can say of 512-byte blocks.
pub const SEGMENT_BYTES_MAX: u32 = 32 << 20;
/// Most copies of one nexus at a time, which is also how many list identifiers are remembered.
pub const COPIES_MAX: u8 = 16;
/// Segment lengths are counted in units of this power of two of bytes.
const GRANULARITY_LOG2: u8 = 9;

const IDENTIFICATION_CSCD: u8 = 0xE4;
const BLOCK_TO_BLOCK: u8 = 0x02;
const BLOCK_TO_BLOCK_WITH_OFFSETS: u8 = 0x0A;
/// What is implemented, in ascending order (SPC-4 6.20.4).
const DESCRIPTOR_TYPES: [u8; 3] =
    [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_WITH_OFFSETS, IDENTIFICATION_CSCD];

/// One copy source or copy destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cscd {
    /// The NAA name of page 83h; `None` for a name of another kind, which nothing here answers to.
    pub naa: Option<[u8; 16]>,
    /// DISK BLOCK LENGTH, bytes.
    pub block_bytes: u32,
}

/// One segment: so many blocks from one place to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Numbers of CSCD descriptors; there need not be one.
    pub source: u16,
    pub destination: u16,
    pub from_lba: u64,
    pub to_lba: u64,
    pub length: Length,
}

/// How long a segment is, in the unit that its type counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    Blocks(u16),
    Bytes(u32),
}

impl Length {
    /// In logical blocks; `None` for bytes that are no whole blocks.
    #[must_use]
    pub fn blocks(self, block_bytes: u32) -> Option<u64> {
        match self {
            Self::Blocks(blocks) => Some(u64::from(blocks)),
            Self::Bytes(bytes) => bytes
                .is_multiple_of(block_bytes)
                .then(|| u64::from(bytes.checked_div(block_bytes).unwrap_or(0))),
        }
    }
}

/// LIST ID USAGE (SPC-4 table 118): whether the copy can be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// 00b and 10b: under this identifier.
    Listed(u8),
    /// 11b: not at all.
    Unlisted,
}

/// A parameter list of EXTENDED COPY (LID1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyList {
    pub usage: Usage,
    pub cscds: Vec<Cscd>,
    pub segments: Vec<Segment>,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|f| f.try_into().ok()).map_or(0, u16::from_be_bytes)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|f| f.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|f| f.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

impl CopyList {
    /// Reads a parameter list.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that ends inside a descriptor or is longer than
    /// MAXIMUM DESCRIPTOR LIST LENGTH; TOO MANY TARGET or SEGMENT DESCRIPTORS; UNSUPPORTED TARGET
    /// or SEGMENT DESCRIPTOR TYPE CODE; INLINE DATA LENGTH EXCEEDED, as there is none;
    /// INVALID FIELD IN PARAMETER LIST for the rest.
    pub fn parse(list: &[u8]) -> Result<Self, Sense> {
        let Some((header, body)) = list.split_at_checked(HEADER_BYTES) else {
            return Err(Sense::parameter_list_length());
        };
        let usage = match (header[1] >> 3) & 0x03 {
            0 | 2 => Usage::Listed(header[0]),
            3 if header[0] == 0 => Usage::Unlisted,
            3 => return Err(Sense::illegal_field_in_list(0)),
            _ => return Err(Sense::illegal_bit_in_list(1, 4)),
        };
        let cscd_bytes = u32::from(be16(header, 2));
        let segment_bytes = be32(header, 8);
        if cscd_bytes.saturating_add(segment_bytes) > DESCRIPTORS_BYTES_MAX {
            return Err(Sense::parameter_list_length());
        }
        if be32(header, 12) != 0 {
            return Err(Sense::illegal(Asc::INLINE_DATA_LENGTH_EXCEEDED));
        }
        let (cscd_bytes, segment_bytes) = (cscd_bytes as usize, segment_bytes as usize);
        if body.len() != cscd_bytes + segment_bytes {
            return Err(Sense::parameter_list_length());
        }
        let (cscds, segments) = body.split_at(cscd_bytes);
        let cscds = cscds_of(cscds)?;
        let segments = segments_of(segments, HEADER_BYTES + cscd_bytes)?;
        Ok(Self { usage, cscds, segments })
    }
}

fn cscds_of(list: &[u8]) -> Result<Vec<Cscd>, Sense> {
    if list.len() > usize::from(CSCDS_MAX) * CSCD_BYTES {
        return Err(Sense::illegal(Asc::TOO_MANY_TARGET_DESCRIPTORS));
    }
    let mut found = Vec::new();
    for (number, descriptor) in list.chunks(CSCD_BYTES).enumerate() {
        if descriptor[0] != IDENTIFICATION_CSCD {
            return Err(Sense::illegal(Asc::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE));
        }
        if descriptor.len() < CSCD_BYTES {
            return Err(Sense::parameter_list_length());
        }
        // Only block devices (peripheral device type 00h) can be a side of these segments.
        if descriptor[1] & 0x1F != 0 {
            return Err(Sense::illegal_bit_in_list(
                place(HEADER_BYTES + number * CSCD_BYTES + 1),
                4,
            ));
        }
        found.push(cscd_of(descriptor));
    }
    Ok(found)
}

/// LU ID TYPE is not looked at, as SPC-4 has it, and the obsolete NUL bit makes a name nobody's.
fn cscd_of(descriptor: &[u8]) -> Cscd {
    let is_naa = descriptor[1] & 0x20 == 0
        && descriptor[4] & 0x0F == 0x1
        && descriptor[5] & 0x3F == 0x03
        && descriptor[7] == 16;
    let naa = descriptor.get(8..24).and_then(|name| name.try_into().ok()).filter(|_| is_naa);
    Cscd { naa, block_bytes: be32(descriptor, 28) & 0x00FF_FFFF }
}

fn segments_of(mut list: &[u8], start: usize) -> Result<Vec<Segment>, Sense> {
    let all = list.len();
    let mut found = Vec::new();
    while !list.is_empty() {
        let at = start + all - list.len();
        let length = match list[0] {
            BLOCK_TO_BLOCK => 0x18,
            BLOCK_TO_BLOCK_WITH_OFFSETS => 0x1C,
            _ => return Err(Sense::illegal(Asc::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE)),
        };
        if found.len() >= usize::from(SEGMENTS_MAX) {
            return Err(Sense::illegal(Asc::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        let Some((descriptor, rest)) = list.split_at_checked(4 + length) else {
            return Err(Sense::parameter_list_length());
        };
        if usize::from(be16(descriptor, 2)) != length {
            return Err(Sense::illegal_field_in_list(place(at + 2)));
        }
        found.push(segment_of(descriptor, at)?);
        list = rest;
    }
    Ok(found)
}

/// CAT and DC change nothing where all blocks have one length and only whole ones are copied.
fn segment_of(descriptor: &[u8], at: usize) -> Result<Segment, Sense> {
    let length = if descriptor[0] == BLOCK_TO_BLOCK {
        Length::Blocks(be16(descriptor, 10))
    } else {
        // Offsets inside a block would make a write of less than a block, which is none here.
        if let Some(offset) = [28, 30].into_iter().find(|offset| be16(descriptor, *offset) != 0) {
            return Err(Sense::illegal_field_in_list(place(at + offset)));
        }
        let bytes = be32(descriptor, 8);
        if bytes > SEGMENT_BYTES_MAX || !bytes.is_multiple_of(1 << GRANULARITY_LOG2) {
            return Err(Sense::illegal_field_in_list(place(at + 8)));
        }
        Length::Bytes(bytes)
    };
    Ok(Segment {
        source: be16(descriptor, 4),
        destination: be16(descriptor, 6),
        from_lba: be64(descriptor, 12),
        to_lba: be64(descriptor, 20),
        length,
    })
}

/// What a segment does to a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Source,
    Destination,
}

/// May the nexus read (or write) these blocks of this unit for a copy, now? Asked of the source
/// and of the destination of each segment, whatever unit the command was sent to.
///
/// # Errors
/// What the unit would answer to a READ (a WRITE) of that nexus: RESERVATION CONFLICT, or CHECK
/// CONDITION for protection and range.
pub fn judge(view: &View<'_>, side: Side, extent: Extent) -> Result<(), Response> {
    check_blocks(view, side == Side::Destination, extent)
}

/// The sense data of a copy that stopped at a segment (SPC-4 6.4.3): COPY ABORTED, and why.
#[must_use]
pub fn aborted(why: &Failure) -> Sense {
    let asc = match why {
        Failure::NoSuchUnit => Asc::UNREACHABLE_COPY_TARGET,
        Failure::WrongBlocks => Asc::INCORRECT_COPY_TARGET_DEVICE_TYPE,
        Failure::CutOff => Asc::COPY_TARGET_DEVICE_NOT_REACHABLE,
        // That the blocks are not there is the list's mistake and no failure of a device.
        Failure::Refused(Response { sense: Some(sense), .. })
            if sense.asc == Asc::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE =>
        {
            Asc::NONE
        }
        Failure::Refused(_) => Asc::THIRD_PARTY_DEVICE_FAILURE,
    };
    Sense::new(SenseKey::CopyAborted, asc)
}

/// Why a copy stopped at a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No unit that this initiator may reach has the name, or the list has no such descriptor.
    NoSuchUnit,
    /// DISK BLOCK LENGTH is not the unit's.
    WrongBlocks,
    /// The initiator was cut off from the unit, or its commands there were aborted.
    CutOff,
    /// What the unit answered.
    Refused(Response),
}

/// What is remembered of a copy under its list identifier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    pub list_id: u8,
    /// `None` while it runs; then whether it ended without an error.
    pub ended_well: Option<bool>,
    pub segments_done: u16,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// What the unit of the failed segment answered.
    pub failed: Option<Response>,
}

impl Progress {
    /// A copy that begins.
    #[must_use]
    pub fn begin(list_id: u8) -> Self {
        Self { list_id, ended_well: None, segments_done: 0, copied_bytes: 0, failed: None }
    }
}

/// What RECEIVE COPY RESULTS asks about a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    CopyStatus,
    FailedSegmentDetails,
}

/// AVAILABLE DATA counts what follows it.
fn sized(mut data: Vec<u8>) -> Bytes {
    let available = u32::try_from(data.len().saturating_sub(4)).unwrap_or(u32::MAX);
    data[0..4].copy_from_slice(&available.to_be_bytes());
    data.into()
}

/// Parameter data of RECEIVE COPY RESULTS about a copy (SPC-4 6.17, 6.18), before it is cut.
#[must_use]
pub fn report(progress: &Progress, report: Report) -> Bytes {
    match report {
        Report::CopyStatus => copy_status(progress),
        Report::FailedSegmentDetails => failed_segment(progress),
    }
}

fn copy_status(progress: &Progress) -> Bytes {
    let mut data = vec![0; 12];
    data[4] = match progress.ended_well {
        None => 0x00,
        Some(true) => 0x01,
        Some(false) => 0x02,
    };
    data[5..7].copy_from_slice(&progress.segments_done.to_be_bytes());
    // TRANSFER COUNT in bytes as long as it has room for them, then in units of 1,024.
    let (unit, count) = match u32::try_from(progress.copied_bytes) {
        Ok(bytes) => (0x00, bytes),
        Err(_) => (0x01, u32::try_from(progress.copied_bytes >> 10).unwrap_or(u32::MAX)),
    };
    data[7] = unit;
    data[8..12].copy_from_slice(&count.to_be_bytes());
    sized(data)
}

fn failed_segment(progress: &Progress) -> Bytes {
    let Some(response) = &progress.failed else { return Bytes::from_static(&[0; 4]) };
    let sense = response.sense.map(|sense| sense.encode(false)).unwrap_or_default();
    let mut data = vec![0; 60];
    data[56] = response.status as u8;
    let length = u16::try_from(sense.len()).unwrap_or(u16::MAX);
    data[58..60].copy_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&sense);
    sized(data)
}

/// OPERATING PARAMETERS (SPC-4 6.20.4).
pub(crate) fn operating_parameters() -> Bytes {
    let mut data = vec![0; 44];
    // SNLID: LIST ID USAGE 11b is supported.
    data[4] = 0x01;
    data[8..10].copy_from_slice(&CSCDS_MAX.to_be_bytes());
    data[10..12].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    data[12..16].copy_from_slice(&DESCRIPTORS_BYTES_MAX.to_be_bytes());
    data[16..20].copy_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    data[34..36].copy_from_slice(&u16::from(COPIES_MAX).to_be_bytes());
    data[36] = COPIES_MAX;
    data[37] = GRANULARITY_LOG2;
    data[43] = u8::try_from(DESCRIPTOR_TYPES.len()).unwrap_or(u8::MAX);
    data.extend_from_slice(&DESCRIPTOR_TYPES);
    sized(data)
}

/// One third-party copy descriptor (SPC-4 7.8.17.2), filled up to a multiple of four.
fn describe(page: &mut Vec<u8>, kind: u16, mut body: Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
    page.extend_from_slice(&kind.to_be_bytes());
    page.extend_from_slice(&place(body.len()).to_be_bytes());
    page.extend_from_slice(&body);
}

/// Page 8Fh without its header.
pub(crate) fn page(_: &View<'_>) -> Vec<u8> {
    let mut page = Vec::new();
    let mut supported = vec![0];
    for opcode in [commands::EXTENDED_COPY, commands::RECEIVE_COPY_RESULTS] {
        let actions: Vec<u8> =
            commands::rows_of(opcode).iter().filter_map(|row| row.service_action).collect();
        supported.extend_from_slice(&[opcode, u8::try_from(actions.len()).unwrap_or(0)]);
        supported.extend_from_slice(&actions);
    }
    supported[0] = u8::try_from(supported.len() - 1).unwrap_or(u8::MAX);
    // The length of a descriptor is 4n, counted from its byte 4 on.
    describe(&mut page, 0x0001, supported);
    let mut limits = vec![0; 28];
    limits[4..6].copy_from_slice(&CSCDS_MAX.to_be_bytes());
    limits[6..8].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    limits[8..12].copy_from_slice(&DESCRIPTORS_BYTES_MAX.to_be_bytes());
    describe(&mut page, 0x0004, limits);
    let count = u8::try_from(DESCRIPTOR_TYPES.len()).unwrap_or(u8::MAX);
    describe(&mut page, 0x0008, [&[count][..], &DESCRIPTOR_TYPES].concat());
    // No CSCD has a number of its own: all are named by descriptors.
    describe(&mut page, 0x000C, vec![0, 0]);
    let mut general = vec![0; 32];
    general[0..4].copy_from_slice(&u32::from(COPIES_MAX).to_be_bytes());
    general[4..8].copy_from_slice(&u32::from(COPIES_MAX).to_be_bytes());
    general[8..12].copy_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    general[12] = GRANULARITY_LOG2;
    describe(&mut page, 0x8001, general);
    page
}
