//! What a target tells about itself by REPORT commands: units, commands, task management
//! functions, target port groups (SPC-5 6.33 to 6.39).

use crate::cdb::Cdb;
use crate::commands::{self, Row, View};
use crate::sense::{Response, Sense};
use crate::unit::Unit;

/// The one target port group: every port of a volume's target reaches it alike.
pub(crate) const TARGET_PORT_GROUP: u16 = 1;

/// A four-byte length in front of `body`, counting all of it.
fn with_length(reserved: usize, body: &[u8]) -> Vec<u8> {
    let mut data = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    data.resize(4 + reserved, 0);
    data.extend_from_slice(body);
    data
}

/// REPORT LUNS: SELECT REPORT 00h all but well-known units, 01h well-known ones (there is none),
/// 02h all. `luns` as eight bytes in SAM order.
pub(crate) fn luns(cdb: &Cdb, luns: &[u64]) -> Result<Response, Sense> {
    let listed = match cdb.byte(2) {
        0x00 | 0x02 => luns,
        0x01 => &[],
        _ => return Err(Sense::illegal_field_in_cdb(2)),
    };
    let allocation_bytes = cdb.be32(6);
    if allocation_bytes < 16 {
        return Err(Sense::illegal_field_in_cdb(6));
    }
    let body: Vec<u8> = listed.iter().flat_map(|lun| lun.to_be_bytes()).collect();
    Ok(Response::good_cut(with_length(4, &body), allocation_bytes))
}

/// A command timeouts descriptor that promises nothing (SPC-5 6.35.4).
const TIMEOUTS: [u8; 12] = [0, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// REPORT SUPPORTED OPERATION CODES, all or one.
///
/// ```text
/// all: 0 length (4), then for each  0 opcode  2 action (2)  5 CTDP SERVACTV  6 CDB length (2)
/// one: 1 CTDP|SUPPORT  2 CDB length (2)  4 CDB usage data
/// ```
pub(crate) fn supported_opcodes(cdb: &Cdb, unit: &Unit) -> Result<Response, Sense> {
    let timeouts = cdb.has(2, 0x80);
    let (opcode, action, allocation_bytes) = (cdb.byte(3), cdb.be16(4), cdb.be32(6));
    let rows = commands::rows_of(opcode);
    let by_action = rows.iter().any(|row| row.service_action.is_some());
    let of_action = || rows.iter().find(|row| row.service_action.map(u16::from) == Some(action));
    let row = match cdb.byte(2) & 0x07 {
        0 => return Ok(Response::good_cut(all_opcodes(timeouts, unit), allocation_bytes)),
        1 if by_action => return Err(Sense::illegal_bit_in_cdb(2, 2)),
        1 => rows.first(),
        2 if !by_action && !rows.is_empty() => return Err(Sense::illegal_bit_in_cdb(2, 2)),
        2 => of_action(),
        3 if by_action => of_action(),
        3 => rows.first().filter(|_| action == 0),
        _ => return Err(Sense::illegal_bit_in_cdb(2, 2)),
    };
    let row = row.filter(|row| row.offered(unit));
    Ok(Response::good_cut(one_opcode(row, timeouts), allocation_bytes))
}

fn all_opcodes(timeouts: bool, unit: &Unit) -> Vec<u8> {
    let mut body = Vec::new();
    for row in commands::rows().filter(|row| row.offered(unit)) {
        let action = row.service_action.unwrap_or(0);
        let flags = u8::from(timeouts) << 1 | u8::from(row.service_action.is_some());
        body.extend_from_slice(&[row.opcode, 0, 0, action, 0, flags, 0, cdb_bytes(row)]);
        if timeouts {
            body.extend_from_slice(&TIMEOUTS);
        }
    }
    with_length(0, &body)
}

fn one_opcode(row: Option<&Row>, timeouts: bool) -> Vec<u8> {
    // SUPPORT 001b: no such command. 011b: as the standard has it.
    let Some(row) = row else { return vec![0, 0x01, 0, 0] };
    let mut data = vec![0, u8::from(timeouts) << 7 | 0x03, 0, cdb_bytes(row)];
    data.extend_from_slice(&row.usage[..row.cdb_bytes]);
    if timeouts {
        data.extend_from_slice(&TIMEOUTS);
    }
    data
}

fn cdb_bytes(row: &Row) -> u8 {
    u8::try_from(row.cdb_bytes).unwrap_or(u8::MAX)
}

/// ABORT TASK, ABORT TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET.
const TASK_MANAGEMENT: u8 = 0x80 | 0x40 | 0x10 | 0x08;

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: four bytes, sixteen with REPD, whose timeouts say
/// nothing.
pub(crate) fn supported_task_management(cdb: &Cdb) -> Result<Response, Sense> {
    let allocation_bytes = cdb.be32(6);
    if allocation_bytes < 4 {
        return Err(Sense::illegal_field_in_cdb(6));
    }
    let mut data = vec![TASK_MANAGEMENT, 0, 0, 0];
    if cdb.has(2, 0x80) {
        data[3] = 0x0C;
        data.resize(16, 0);
    }
    Ok(Response::good_cut(data, allocation_bytes))
}

/// REPORT TARGET PORT GROUPS: one group, active/optimized, the only state that there is.
pub(crate) fn target_port_groups(cdb: &Cdb, view: &View<'_>) -> Result<Response, Sense> {
    let ports = &view.unit.ports;
    let extended = match cdb.byte(1) >> 5 {
        0 => false,
        1 => true,
        _ => return Err(Sense::illegal_bit_in_cdb(1, 7)),
    };
    let [high, low] = TARGET_PORT_GROUP.to_be_bytes();
    let count = u8::try_from(ports.len()).unwrap_or(u8::MAX);
    let mut body = Vec::new();
    if extended {
        // Format type 1, no implicit transition that would take time.
        body.extend_from_slice(&[0x10, 0, 0, 0]);
    }
    // AO_SUP is the only state supported; status code 0, no change of state to report.
    body.extend_from_slice(&[0x00, 0x01, high, low, 0, 0, 0, count]);
    for port in ports.iter().take(usize::from(count)) {
        let [high, low] = port.0.to_be_bytes();
        body.extend_from_slice(&[0, 0, high, low]);
    }
    Ok(Response::good_cut(with_length(0, &body), cdb.be32(6)))
}
