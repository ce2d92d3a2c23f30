//! SPC third-party copy commands (SPC-4 6.4, 6.17 to 6.20).
//!
//! Both operation codes are of the write class at the unit that they are sent to (SPC-4 table 60);
//! what a copy does to each unit that it names is judged apart, by [`crate::copy::judge`].

use super::{Decoded, Direction, EXTENDED_COPY, RECEIVE_COPY_RESULTS, Row, View, WRITE};
use crate::cdb::Cdb;
use crate::command::{Command, Extent, Transfer};
use crate::copy::{Report, operating_parameters};
use crate::sense::{Response, Sense};

const COPY_STATUS: u8 = 0x00;
const OPERATING_PARAMETERS: u8 = 0x03;
const FAILED_SEGMENT_DETAILS: u8 = 0x04;

const fn results(name: &'static str, list_id: u8, action: u8, decode: super::Decode) -> Row {
    let usage =
        &[RECEIVE_COPY_RESULTS, 0, list_id, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
    Row::new(name, usage, WRITE, Direction::In, decode).action(action)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::new("EXTENDED COPY(LID1)", &[EXTENDED_COPY, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0], WRITE, Direction::Out, extended_copy).action(0x00),
    results("RECEIVE COPY STATUS(LID1)", 0xFF, COPY_STATUS, of_copy),
    // It has a LIST IDENTIFIER that means nothing.
    results("RECEIVE COPY OPERATING PARAMETERS", 0, OPERATING_PARAMETERS, parameters)
        .ignoring(2, 0xFF),
    results("RECEIVE COPY FAILURE DETAILS(LID1)", 0xFF, FAILED_SEGMENT_DETAILS, of_copy),
];

fn run(command: Command, transfer: Transfer) -> Decoded {
    Decoded::Run { command, transfer, reach: Extent { lba: 0, blocks: 0 } }
}

/// A list of zero bytes copies nothing and is no error (SPC-4 6.4.2).
fn extended_copy(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let list_bytes = cdb.be32(10);
    if list_bytes == 0 {
        return Ok(Decoded::Answer(Response::good()));
    }
    let most = 16 + crate::copy::DESCRIPTORS_BYTES_MAX;
    if list_bytes > most {
        return Err(Sense::parameter_list_length());
    }
    let transfer = Transfer { data_out_bytes: list_bytes, data_in_bytes: 0 };
    Ok(run(Command::ExtendedCopy { list_bytes }, transfer))
}

fn parameters(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    Ok(Decoded::Answer(Response::good_cut(operating_parameters(), cdb.be32(10))))
}

fn of_copy(cdb: &Cdb, _: &View<'_>) -> Result<Decoded, Sense> {
    let report = if cdb.byte(1) & 0x1F == COPY_STATUS {
        Report::CopyStatus
    } else {
        Report::FailedSegmentDetails
    };
    let (list_id, allocation_bytes) = (cdb.byte(2), cdb.be32(10));
    let transfer = Transfer { data_out_bytes: 0, data_in_bytes: allocation_bytes };
    Ok(run(Command::ReceiveCopyResults { report, list_id, allocation_bytes }, transfer))
}
