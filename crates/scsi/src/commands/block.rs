//! SBC commands that read, write or compare blocks: the road on which every payload goes.

use super::{Decoded, Direction, Protection, READ, Row, View, WRITE};
use crate::cdb::Cdb;
use crate::command::{Command, Extent, Fill, Transfer, VerifyCheck};
use crate::sense::Sense;
use crate::unit::Unit;

/// GROUP NUMBER, by length of the CDB; accepted and ignored, as without grouping (SBC-4 4.25).
const GROUP_10: usize = 6;
const GROUP_12: usize = 10;
const GROUP_16: usize = 14;
const GROUP: u8 = 0x3F;
/// FUA_NV of SBC-3, ignored where there is no non-volatile cache.
const FUA_NV: u8 = 0x02;
const FUA: u8 = 0x08;

const fn reads(name: &'static str, usage: &[u8], group: usize) -> Row {
    let row = Row::new(name, usage, READ, Direction::In, read);
    row.ignoring(group, GROUP).ignoring(1, FUA_NV)
}

const fn writes(name: &'static str, usage: &[u8], group: usize, decode: super::Decode) -> Row {
    let row = Row::new(name, usage, WRITE, Direction::Out, decode);
    row.ignoring(group, GROUP).protected(Protection::Medium)
}

const fn verifies(name: &'static str, usage: &[u8], group: usize) -> Row {
    Row::new(name, usage, READ, Direction::Out, verify).ignoring(group, GROUP)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::new("READ(6)", &[0x08, 0x1F, 0xFF, 0xFF, 0xFF, 0], READ, Direction::In, read_6),
    Row::new("WRITE(6)", &[0x0A, 0x1F, 0xFF, 0xFF, 0xFF, 0], WRITE, Direction::Out, write_6)
        .protected(Protection::Medium),
    reads("READ(10)", &[0x28, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0], GROUP_10),
    writes("WRITE(10)", &[0x2A, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0], GROUP_10, write)
        .ignoring(1, FUA_NV),
    writes("WRITE AND VERIFY(10)", &[0x2E, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0],
        GROUP_10, write_and_verify),
    verifies("VERIFY(10)", &[0x2F, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0], GROUP_10),
    writes("WRITE SAME(10)", &[0x41, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0],
        GROUP_10, write_same),
    reads("READ(16)", &[0x88, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16),
    writes("COMPARE AND WRITE", &[0x89, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0, 0, 0, 0xFF, 0, 0], GROUP_16, compare_and_write).ignoring(1, FUA_NV),
    writes("WRITE(16)", &[0x8A, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16, write).ignoring(1, FUA_NV),
    writes("ORWRITE(16)", &[0x8B, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16, or_write).ignoring(1, FUA_NV),
    writes("WRITE AND VERIFY(16)", &[0x8E, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16, write_and_verify),
    verifies("VERIFY(16)", &[0x8F, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16),
    writes("WRITE SAME(16)", &[0x93, 0x09, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], GROUP_16, write_same),
    writes("WRITE ATOMIC(16)", &[0x9C, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0, 0, 0xFF, 0xFF, 0, 0], GROUP_16, write_atomic),
    reads("READ(12)", &[0xA8, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        GROUP_12),
    writes("WRITE(12)", &[0xAA, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        GROUP_12, write).ignoring(1, FUA_NV),
    writes("WRITE AND VERIFY(12)", &[0xAE, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0, 0], GROUP_12, write_and_verify),
    verifies("VERIFY(12)", &[0xAF, 0x16, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        GROUP_12),
];

/// Where a command's blocks are, and which byte counts them.
pub(super) struct Span {
    pub(super) extent: Extent,
    pub(super) count_byte: u16,
}

/// LBA and number of blocks, whose places follow from the group code in the operation code's top
/// bits (SPC-5 4.2.5.1): 1 and 2 have ten bytes, 5 has twelve, 4 has sixteen.
pub(super) fn span(cdb: &Cdb) -> Span {
    let (lba, blocks, count_byte) = match cdb.byte(0) >> 5 {
        1 | 2 => (u64::from(cdb.be32(2)), u64::from(cdb.be16(7)), 7),
        5 => (u64::from(cdb.be32(2)), u64::from(cdb.be32(6)), 6),
        _ => (cdb.be64(2), u64::from(cdb.be32(10)), 10),
    };
    Span { extent: Extent { lba, blocks }, count_byte }
}

/// The twenty-one bits of LBA and the count of a six-byte CDB, where zero means 256 (SBC-3 5.10).
fn span_6(cdb: &Cdb) -> Span {
    let lba = u64::from(cdb.be32(0) & 0x001F_FFFF);
    let blocks = if cdb.byte(4) == 0 { 256 } else { u64::from(cdb.byte(4)) };
    Span { extent: Extent { lba, blocks }, count_byte: 4 }
}

/// The bytes that so many blocks have. Refuses more than MAXIMUM TRANSFER LENGTH, and what a
/// 32-bit count of bytes could not name.
fn bytes_of(span: &Span, unit: &Unit) -> Result<u32, Sense> {
    let too_many = Sense::illegal_field_in_cdb(span.count_byte);
    let most = match unit.max_transfer_blocks {
        0 => u32::MAX,
        most => most,
    };
    if span.extent.blocks > u64::from(most) {
        return Err(too_many);
    }
    let bytes = span.extent.blocks.saturating_mul(u64::from(unit.block_bytes));
    u32::try_from(bytes).map_err(|_| too_many)
}

fn run(extent: Extent, command: Command, transfer: Transfer) -> Decoded {
    if extent.blocks == 0 {
        return Decoded::Nothing { reach: extent };
    }
    Decoded::Run { command, transfer, reach: extent }
}

fn sends(bytes: u32) -> Transfer {
    Transfer { data_out_bytes: bytes, data_in_bytes: 0 }
}

fn read_from(span: &Span, fua: bool, unit: &Unit) -> Result<Decoded, Sense> {
    let transfer = Transfer { data_out_bytes: 0, data_in_bytes: bytes_of(span, unit)? };
    Ok(run(span.extent, Command::Read { extent: span.extent, fua }, transfer))
}

fn read_6(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    read_from(&span_6(cdb), false, view.unit)
}

fn read(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    read_from(&span(cdb), cdb.has(1, FUA), view.unit)
}

fn write_to(span: &Span, fua: bool, unit: &Unit) -> Result<Decoded, Sense> {
    let transfer = sends(bytes_of(span, unit)?);
    Ok(run(span.extent, Command::Write { extent: span.extent, fua }, transfer))
}

fn write_6(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    write_to(&span_6(cdb), false, view.unit)
}

fn write(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    write_to(&span(cdb), cdb.has(1, FUA), view.unit)
}

/// No part of it may be done without the rest, so that what is too long is no write at all (SBC-4
/// 5.48). The range is judged first: a write beyond the end is that, however long it is. No
/// ATOMIC BOUNDARY is offered.
fn write_atomic(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let extent = Extent { lba: cdb.be64(2), blocks: u64::from(cdb.be16(12)) };
    if extent.lba.checked_add(extent.blocks).is_none_or(|end| end > view.unit.blocks) {
        return Err(Sense::lba_out_of_range());
    }
    if extent.blocks > u64::from(view.unit.max_atomic_blocks) {
        return Err(Sense::illegal_field_in_cdb(12));
    }
    let transfer = sends(bytes_of(&Span { extent, count_byte: 12 }, view.unit)?);
    let command = Command::WriteAtomic { extent, fua: cdb.has(1, FUA) };
    Ok(run(extent, command, transfer))
}

fn or_write(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let span = span(cdb);
    let transfer = sends(bytes_of(&span, view.unit)?);
    let command = Command::OrWrite { extent: span.extent, fua: cdb.has(1, FUA) };
    Ok(run(span.extent, command, transfer))
}

/// BYTCHK, two bits.
fn byte_check(cdb: &Cdb) -> u8 {
    (cdb.byte(1) >> 1) & 0x03
}

const BYTCHK_INVALID: Sense = Sense::illegal_bit_in_cdb(1, 2);

fn write_and_verify(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let span = span(cdb);
    let compare = match byte_check(cdb) {
        0 => false,
        1 => true,
        _ => return Err(BYTCHK_INVALID),
    };
    let transfer = sends(bytes_of(&span, view.unit)?);
    Ok(run(span.extent, Command::WriteAndVerify { extent: span.extent, compare }, transfer))
}

fn verify(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let span = span(cdb);
    let bytes = bytes_of(&span, view.unit)?;
    let (check, data_out_bytes) = match byte_check(cdb) {
        0 => (VerifyCheck::Readable, 0),
        1 => (VerifyCheck::Equal, bytes),
        3 => (VerifyCheck::EqualRepeated, view.unit.block_bytes),
        _ => return Err(BYTCHK_INVALID),
    };
    let command = Command::Verify { extent: span.extent, check };
    Ok(run(span.extent, command, sends(data_out_bytes)))
}

/// The data-out holds the blocks to compare and then the blocks to write (SBC-4 5.3).
fn compare_and_write(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let count = cdb.byte(13);
    if count > view.unit.max_compare_blocks {
        return Err(Sense::illegal_field_in_cdb(13));
    }
    let extent = Extent { lba: cdb.be64(2), blocks: u64::from(count) };
    let bytes = bytes_of(&Span { extent, count_byte: 13 }, view.unit)?;
    let twice = bytes.checked_mul(2).ok_or(Sense::illegal_field_in_cdb(13))?;
    let command = Command::CompareAndWrite { extent, fua: cdb.has(1, FUA) };
    // Also with zero blocks: the shell refuses data-out that the CDB does not account for.
    Ok(Decoded::Run { command, transfer: sends(twice), reach: extent })
}

/// NUMBER OF LOGICAL BLOCKS zero means all blocks to the end (WSNZ is 0). More than MAXIMUM WRITE
/// SAME LENGTH is refused, however it is said (SBC-4 5.43).
fn write_same(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let unit = view.unit;
    let Span { mut extent, count_byte } = span(cdb);
    if extent.blocks == 0 {
        extent.blocks = unit.blocks.checked_sub(extent.lba).ok_or(Sense::lba_out_of_range())?;
    }
    let unmap = cdb.has(1, 0x08);
    let no_data_out = cdb.byte(0) == 0x93 && cdb.has(1, 0x01);
    if unmap && !unit.thin {
        return Err(Sense::illegal_bit_in_cdb(1, 3));
    }
    let most = match unit.max_write_same_blocks {
        0 => u64::MAX,
        blocks => u64::from(blocks),
    };
    if extent.blocks > most {
        return Err(Sense::illegal_field_in_cdb(count_byte));
    }
    let fill = match (no_data_out, unmap) {
        (false, false) => Fill::Block,
        (false, true) => Fill::BlockOrUnmap,
        (true, false) => Fill::Zeros,
        (true, true) => Fill::Unmap,
    };
    let transfer = sends(if no_data_out { 0 } else { unit.block_bytes });
    Ok(run(extent, Command::WriteSame { extent, fill }, transfer))
}
