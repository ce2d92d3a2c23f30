//! SBC commands about the medium as a whole or about the state of its blocks: capacity, caches,
//! deallocation, defects.

use super::block::{Span, span};
use super::{ALWAYS, Decoded, Direction, Protection, READ, Row, View, WRITE};
use crate::capacity;
use crate::cdb::Cdb;
use crate::command::{Command, Extent, Transfer};
use crate::sense::{Response, Sense};

const GROUP: u8 = 0x3F;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::new("START STOP UNIT", &[0x1B, 0x01, 0, 0x0F, 0xF7, 0], WRITE, Direction::Neither,
        start_stop).milder_when(starts),
    Row::new("PREVENT ALLOW MEDIUM REMOVAL", &[0x1E, 0, 0, 0, 0x03, 0], WRITE,
        Direction::Neither, prevent_allow).milder_when(allows),
    Row::new("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], ALWAYS, Direction::In,
        read_capacity_10),
    Row::new("PRE-FETCH(10)", &[0x34, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0], READ,
        Direction::Neither, prefetch).ignoring(6, GROUP),
    Row::new("SYNCHRONIZE CACHE(10)", &[0x35, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0],
        WRITE, Direction::Neither, synchronize_cache).ignoring(6, GROUP).ignoring(1, SYNC_NV),
    Row::new("READ DEFECT DATA(10)", &[0x37, 0, 0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 0], READ,
        Direction::In, read_defect_data_10),
    Row::new("UNMAP", &[0x42, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], WRITE, Direction::Out, unmap)
        .ignoring(6, GROUP).protected(Protection::Medium).thin_only(),
    Row::new("PRE-FETCH(16)", &[0x90, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], READ, Direction::Neither, prefetch).ignoring(14, GROUP),
    Row::new("SYNCHRONIZE CACHE(16)", &[0x91, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], WRITE, Direction::Neither, synchronize_cache)
        .ignoring(14, GROUP).ignoring(1, SYNC_NV),
    Row::new("READ CAPACITY(16)", &[0x9E, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF,
        0, 0], ALWAYS, Direction::In, read_capacity_16).action(0x10),
    Row::new("GET LBA STATUS", &[0x9E, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], READ, Direction::In, get_lba_status).action(0x12),
    Row::new("READ DEFECT DATA(12)", &[0xB7, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0, 0], READ, Direction::In, read_defect_data_12),
];

/// SYNC_NV of SBC-3, ignored where there is no non-volatile cache.
const SYNC_NV: u8 = 0x04;
const IMMED: u8 = 0x02;

const START: u8 = 0x01;
const LOEJ: u8 = 0x02;
const NO_FLUSH: u8 = 0x04;
const POWER_CONDITION: u8 = 0xF0;

/// START=1 without a power condition changes nothing, so that it never conflicts.
fn starts(cdb: &Cdb) -> bool {
    cdb.has(4, START) && !cdb.has(4, POWER_CONDITION)
}

/// The unit is always started: a stop flushes what a power cut could lose, and no more. There is
/// nothing to load or eject, and no power condition to change to.
fn start_stop(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    if cdb.has(4, POWER_CONDITION) {
        return Err(Sense::illegal_bit_in_cdb(4, 7));
    }
    if cdb.has(4, LOEJ) {
        return Err(Sense::illegal_bit_in_cdb(4, 1));
    }
    let flush = !cdb.has(4, START) && !cdb.has(4, NO_FLUSH);
    if !flush {
        return Ok(Decoded::Answer(Response::good()));
    }
    Ok(Decoded::Run {
        command: Command::Nothing { flush },
        transfer: Transfer::default(),
        reach: Extent { lba: 0, blocks: 0 },
    })
}

fn allows(cdb: &Cdb) -> bool {
    cdb.byte(4) & 0x03 == 0
}

/// The medium is not removable: allowing its removal is idle, preventing it is a mistake.
fn prevent_allow(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    if allows(cdb) {
        return Ok(Decoded::Answer(Response::good()));
    }
    Err(Sense::illegal_bit_in_cdb(4, 1))
}

fn read_capacity_10(_: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let data = capacity::read_capacity_10(view.unit);
    Ok(Decoded::Answer(Response::good_cut(data, u32::MAX)))
}

fn read_capacity_16(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let data = capacity::read_capacity_16(view.unit);
    Ok(Decoded::Answer(Response::good_cut(data, cdb.be32(10))))
}

/// The blocks of a command without data, where a count of zero means up to the end of the unit.
fn to_the_end(cdb: &Cdb, view: &View<'_>) -> Extent {
    let Span { mut extent, .. } = span(cdb);
    if extent.blocks == 0 {
        extent.blocks = view.unit.blocks.saturating_sub(extent.lba);
    }
    extent
}

fn prefetch(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let extent = to_the_end(cdb, view);
    let command = Command::Prefetch { extent, immediate: cdb.has(1, IMMED) };
    Ok(Decoded::Run { command, transfer: Transfer::default(), reach: extent })
}

fn synchronize_cache(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let extent = to_the_end(cdb, view);
    let command = Command::SynchronizeCache { extent, immediate: cdb.has(1, IMMED) };
    Ok(Decoded::Run { command, transfer: Transfer::default(), reach: extent })
}

fn unmap(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let list_bytes = u32::from(cdb.be16(7));
    let reach = Extent { lba: 0, blocks: 0 };
    if list_bytes == 0 {
        return Ok(Decoded::Nothing { reach });
    }
    let transfer = Transfer { data_out_bytes: list_bytes, data_in_bytes: 0 };
    Ok(Decoded::Run { command: Command::Unmap { list_bytes }, transfer, reach })
}

fn get_lba_status(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let (lba, allocation_bytes) = (cdb.be64(2), cdb.be32(10));
    Ok(Decoded::Run {
        command: Command::GetLbaStatus { lba, allocation_bytes },
        transfer: Transfer { data_out_bytes: 0, data_in_bytes: allocation_bytes },
        reach: Extent { lba, blocks: 1 },
    })
}

fn read_defect_data_10(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let data = capacity::defect_data_10(cdb.byte(2));
    Ok(Decoded::Answer(Response::good_cut(data, u32::from(cdb.be16(7)))))
}

fn read_defect_data_12(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let data = capacity::defect_data_12(cdb.byte(1));
    Ok(Decoded::Answer(Response::good_cut(data, cdb.be32(6))))
}
