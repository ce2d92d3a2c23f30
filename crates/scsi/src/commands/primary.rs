//! SPC commands: identity, settings, reservations, reports.

use super::{ALWAYS, Attention, Decoded, Direction, EXEMPT, Protection, READ, Row, View, WRITE};
use crate::cdb::Cdb;
use crate::command::{Command, Extent, Transfer};
use crate::conflict::{Conflict, ConflictClass};
use crate::sense::{Response, Sense, SenseKey};
use crate::{inquiry, mode, registrants, report};

/// Judged by the reservation machine, by service action.
const RESERVATION: Conflict =
    Conflict { persistent: ConflictClass::Reservation, under_legacy: false };
/// RELEASE, which does nothing for a stranger and is no conflict (SPC-2 7.20).
const RELEASE: Conflict = Conflict { persistent: ConflictClass::Reservation, under_legacy: true };

const fn persistent_in(name: &'static str, action: u8) -> Row {
    let usage = &[0x5E, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0];
    Row::new(name, usage, ALWAYS, Direction::In, reservations_told).action(action)
}

const fn persistent_out(name: &'static str, action: u8) -> Row {
    let usage = &[0x5F, 0, 0xFF, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0];
    Row::new(name, usage, RESERVATION, Direction::Out, reservations_changed).action(action)
}

const fn maintenance_in(name: &'static str, usage: &[u8], class: Conflict, action: u8) -> Row {
    Row::new(name, usage, class, Direction::In, maintenance).action(action)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::new("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0], ALWAYS, Direction::Neither, good),
    Row::new("REQUEST SENSE", &[0x03, 0x01, 0, 0, 0xFF, 0], EXEMPT, Direction::In, request_sense)
        .attention(Attention::IsData),
    Row::new("INQUIRY", &[0x12, 0x01, 0xFF, 0xFF, 0xFF, 0], EXEMPT, Direction::In, inquiry)
        .attention(Attention::Waits),
    Row::new("MODE SELECT(6)", &[0x15, 0x11, 0, 0, 0xFF, 0], WRITE, Direction::Out, mode_select)
        .protected(Protection::Settings),
    Row::new("RESERVE(6)", &[0x16, 0, 0, 0, 0, 0], RESERVATION, Direction::Neither, reserve)
        .ignoring(2, 0xFF),
    Row::new("RELEASE(6)", &[0x17, 0, 0, 0, 0, 0], RELEASE, Direction::Neither, release)
        .ignoring(2, 0xFF),
    Row::new("MODE SENSE(6)", &[0x1A, 0x08, 0xFF, 0xFF, 0xFF, 0], READ, Direction::In,
        mode_sense),
    Row::new("RECEIVE DIAGNOSTIC RESULTS", &[0x1C, 0x01, 0xFF, 0xFF, 0xFF, 0], READ,
        Direction::In, receive_diagnostic),
    Row::new("SEND DIAGNOSTIC", &[0x1D, 0xF4, 0, 0xFF, 0xFF, 0], WRITE, Direction::Neither,
        send_diagnostic).ignoring(1, 0x13),
    Row::new("LOG SENSE", &[0x4D, 0, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0], ALWAYS,
        Direction::In, log_sense),
    Row::new("MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], WRITE,
        Direction::Out, mode_select).protected(Protection::Settings),
    Row::new("RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], RESERVATION,
        Direction::Neither, reserve).ignoring(2, 0xFF),
    Row::new("RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], RELEASE, Direction::Neither,
        release).ignoring(2, 0xFF),
    Row::new("MODE SENSE(10)", &[0x5A, 0x18, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], READ,
        Direction::In, mode_sense),
    persistent_in("PERSISTENT RESERVE IN, READ KEYS", 0x00),
    persistent_in("PERSISTENT RESERVE IN, READ RESERVATION", 0x01),
    persistent_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES", 0x02),
    persistent_in("PERSISTENT RESERVE IN, READ FULL STATUS", 0x03),
    persistent_out("PERSISTENT RESERVE OUT, REGISTER", 0x00),
    persistent_out("PERSISTENT RESERVE OUT, RESERVE", 0x01),
    persistent_out("PERSISTENT RESERVE OUT, RELEASE", 0x02),
    persistent_out("PERSISTENT RESERVE OUT, CLEAR", 0x03),
    persistent_out("PERSISTENT RESERVE OUT, PREEMPT", 0x04),
    persistent_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", 0x05),
    persistent_out("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", 0x06),
    persistent_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", 0x07),
    persistent_out("PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION", 0x08),
    Row::new("REPORT LUNS", &[0xA0, 0, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], EXEMPT,
        Direction::In, report_luns).attention(Attention::Waits),
    maintenance_in("REPORT TARGET PORT GROUPS",
        &[0xA3, 0xE0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], ALWAYS, 0x0A),
    maintenance_in("REPORT SUPPORTED OPERATION CODES",
        &[0xA3, 0, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], READ, 0x0C),
    maintenance_in("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        &[0xA3, 0, 0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], READ, 0x0D),
];

/// Work that touches no blocks.
fn run(command: Command, data_out_bytes: u32) -> Decoded {
    Decoded::Run {
        command,
        transfer: Transfer { data_out_bytes, data_in_bytes: 0 },
        reach: Extent { lba: 0, blocks: 0 },
    }
}

fn good(_: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    Ok(Decoded::Answer(Response::good()))
}

/// A unit attention would have been the answer already; what is left is how a SANITIZE stands.
fn request_sense(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let none = Sense::new(SenseKey::NoSense, crate::sense::Asc::NONE);
    let sense = view.unit.sanitize.sense().unwrap_or(none);
    Ok(Decoded::Answer(sense_as_data(cdb, &sense)))
}

/// Sense data as REQUEST SENSE returns it, in the format that DESC asks for.
pub(crate) fn sense_as_data(cdb: &Cdb, sense: &Sense) -> Response {
    Response::good_cut(sense.encode(cdb.has(1, 0x01)), u32::from(cdb.byte(4)))
}

fn inquiry(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    inquiry::answer(cdb, view).map(Decoded::Answer)
}

/// Each volume has a target of its own, where it is LUN 0.
fn report_luns(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    report::luns(cdb, &[0]).map(Decoded::Answer)
}

fn mode_sense(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    mode::sense(cdb, view).map(Decoded::Answer)
}

const PF: u8 = 0x10;
const SP: u8 = 0x01;

fn mode_select(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let ten = cdb.byte(0) == 0x55;
    let list_bytes = if ten { u32::from(cdb.be16(7)) } else { u32::from(cdb.byte(4)) };
    // No page can be saved.
    if cdb.has(1, SP) {
        return Err(Sense::illegal_bit_in_cdb(1, 0));
    }
    if list_bytes == 0 {
        return Ok(Decoded::Answer(Response::good()));
    }
    if !cdb.has(1, PF) {
        return Err(Sense::illegal_bit_in_cdb(1, 4));
    }
    Ok(run(Command::ModeSelect { ten, save: false, list_bytes }, list_bytes))
}

fn reserve(_: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    Ok(run(Command::Reserve, 0))
}

fn release(_: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    Ok(run(Command::Release, 0))
}

fn reservations_told(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    Ok(Decoded::Answer(view.reservations.persistent_in(&cdb.bytes()[..10])))
}

fn reservations_changed(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let list_bytes = cdb.be32(5);
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&cdb.bytes()[..10]);
    Ok(run(Command::PersistentReserveOut { cdb: bytes, list_bytes }, list_bytes))
}

fn maintenance(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let answer = match cdb.byte(1) & 0x1F {
        0x0A => report::target_port_groups(cdb, view),
        0x0C => report::supported_opcodes(cdb, view.unit),
        _ => report::supported_task_management(cdb),
    };
    answer.map(Decoded::Answer)
}

/// The pages that LOG SENSE knows, in ascending order as page 00h lists them.
const LOG_PAGES: [u8; 2] = [0x00, registrants::PAGE];

/// Page 00h, the list of pages, and the registrants page.
fn log_sense(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let (page, subpage, allocation_bytes) = (cdb.byte(2) & 0x3F, cdb.byte(3), cdb.be16(7));
    if !LOG_PAGES.contains(&page) {
        return Err(Sense::illegal_bit_in_cdb(2, 5));
    }
    if cdb.be16(5) != 0 {
        return Err(Sense::illegal_field_in_cdb(5));
    }
    let data = match (page, subpage) {
        (registrants::PAGE, 0x00) => {
            let command = Command::LogRegistrants { allocation_bytes };
            let transfer =
                Transfer { data_out_bytes: 0, data_in_bytes: u32::from(allocation_bytes) };
            let reach = Extent { lba: 0, blocks: 0 };
            return Ok(Decoded::Run { command, transfer, reach });
        }
        (0x00, 0x00) => {
            let [first, second] = LOG_PAGES;
            vec![0x00, 0x00, 0, 2, first, second]
        }
        // With subpages: SPF set, and pairs of page and subpage.
        (0x00, 0xFF) => {
            let [first, second] = LOG_PAGES;
            vec![0x40, 0xFF, 0, 6, first, 0x00, first, 0xFF, second, 0x00]
        }
        _ => return Err(Sense::illegal_field_in_cdb(3)),
    };
    Ok(Decoded::Answer(Response::good_cut(data, u32::from(allocation_bytes))))
}

/// The list of diagnostic pages, which is the only one.
fn receive_diagnostic(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    if !cdb.has(1, 0x01) {
        return Err(Sense::illegal_bit_in_cdb(1, 0));
    }
    if cdb.byte(2) != 0x00 {
        return Err(Sense::illegal_field_in_cdb(2));
    }
    let data = vec![0x00, 0, 0, 1, 0x00];
    Ok(Decoded::Answer(Response::good_cut(data, u32::from(cdb.be16(3)))))
}

/// The default self-test, which a unit that answers has passed. No test of its own kind and no
/// diagnostic page is offered.
fn send_diagnostic(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    if cdb.has(1, 0xE0) {
        return Err(Sense::illegal_bit_in_cdb(1, 7));
    }
    if cdb.be16(3) != 0 {
        return Err(Sense::illegal_field_in_cdb(3));
    }
    Ok(Decoded::Answer(Response::good()))
}
