//! SANITIZE (SBC-4 5.24). CRYPTOGRAPHIC ERASE is not offered: no key stands between a volume and
//! its bytes that could be thrown away.

use super::{Decoded, Direction, Protection, Row, SANITIZE, View, WRITE};
use crate::cdb::Cdb;
use crate::command::{Command, Extent, Transfer};
use crate::sanitize::{Method, State};
use crate::sense::{Response, Sense};

const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

const fn sanitize(name: &'static str, action: u8, decode: super::Decode) -> Row {
    let usage = &[SANITIZE, IMMED | AUSE, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0];
    let row = Row::new(name, usage, WRITE, Direction::Out, decode).action(action);
    row.protected(Protection::Medium)
}

pub(super) const ROWS: &[Row] = &[
    sanitize("SANITIZE, OVERWRITE", 0x01, overwrite),
    sanitize("SANITIZE, BLOCK ERASE", 0x02, block_erase).thin_only(),
    sanitize("SANITIZE, EXIT FAILURE MODE", 0x1F, exit_failure_mode),
];

fn run(command: Command, data_out_bytes: u32) -> Decoded {
    Decoded::Run {
        command,
        transfer: Transfer { data_out_bytes, data_in_bytes: 0 },
        reach: Extent { lba: 0, blocks: 0 },
    }
}

fn begin(cdb: &Cdb, view: &View<'_>, method: Method) -> Result<Decoded, Sense> {
    let unrestricted = cdb.has(1, AUSE);
    // Who asked for a restricted sanitize cannot be got round (SBC-4 4.11.1).
    if unrestricted && view.unit.sanitize == (State::Failed { unrestricted: false }) {
        return Err(Sense::illegal_bit_in_cdb(1, 5));
    }
    let immediate = cdb.has(1, IMMED);
    let command = Command::Sanitize { method, immediate, unrestricted };
    Ok(run(command, u32::from(cdb.be16(7))))
}

fn overwrite(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    let list_bytes = u32::from(cdb.be16(7));
    if list_bytes <= 4 || list_bytes > view.unit.block_bytes.saturating_add(4) {
        return Err(Sense::illegal_field_in_cdb(7));
    }
    begin(cdb, view, Method::Overwrite)
}

fn block_erase(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    no_list(cdb)?;
    begin(cdb, view, Method::BlockErase)
}

fn exit_failure_mode(cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
    no_list(cdb)?;
    match view.unit.sanitize {
        State::Failed { unrestricted: false } => Err(Sense::illegal_bit_in_cdb(1, 4)),
        State::Failed { unrestricted: true } => Ok(run(Command::ExitSanitizeFailure, 0)),
        _ => Ok(Decoded::Answer(Response::good())),
    }
}

fn no_list(cdb: &Cdb) -> Result<(), Sense> {
    if cdb.be16(7) == 0 { Ok(()) } else { Err(Sense::illegal_field_in_cdb(7)) }
}
