//! The logical unit: the fixed order in which every command is judged.
//!
//! ```text
//! CDB -> attention -> reservation -> support -> sanitize -> CDB bits -> protection -> fields, range
//!        CHECK 6h/..  CONFLICT       5h/20      2h/04,3h/31 5h/24       7h/27         5h/24,21
//! ```
//!
//! Invariant: what a [`Step::Run`] carries lies inside the unit and within its limits, and nothing
//! that a reservation or protection forbids comes out as one.

use crate::cdb::Cdb;
use crate::command::{Extent, Step};
use crate::commands::{self, Attention, Decoded, Protection, Row};
use crate::conflict::Conflict;
use crate::reservations::Refusal;
use crate::sense::{Response, Sense};
use crate::unit::{Access, Unit};
use crate::unit_attention::{Queue, UnitAttention};
use crate::{inquiry, report, sanitize};

pub use crate::capacity::{lba_status_data, unmap_extents};
pub use crate::commands::View;
pub use crate::mode::select as mode_select;

/// Judges a command. `attentions` is what is pending for the nexus; `None` when the caller knows
/// that it is nothing.
///
/// Any bytes may be given as a CDB. Nothing is allocated for READ and WRITE.
pub fn judge(view: &View<'_>, attentions: Option<&mut Queue>, cdb: &[u8]) -> Step {
    let row = commands::row(cdb);
    let cdb = Cdb::new(cdb);
    let attentions = attentions.filter(|queue| !queue.is_empty());
    match check(view, attentions, row, &cdb) {
        Ok(step) => step,
        Err(response) => Step::Done(response),
    }
}

fn check(
    view: &View<'_>,
    mut attentions: Option<&mut Queue>,
    row: Option<&'static Row>,
    cdb: &Cdb,
) -> Result<Step, Response> {
    let attention = row.map_or(Attention::Ends, |row| row.attention);
    if attention == Attention::Ends
        && let Some(pending) = attentions.as_mut().and_then(|queue| queue.pop())
    {
        return Err(pending.sense().into());
    }
    let conflict = row.map_or(commands::WRITE, |row| row.conflict_of(cdb));
    check_reservation(view, conflict)?;
    let row = supported(row, cdb, view.unit)?;
    sanitize::check(view.unit, row)?;
    row.check_bits(cdb)?;
    check_protection(view, row.protection)?;
    if let Some(queue) = attentions
        && let Some(response) = answered_by_attention(row, queue, cdb)
    {
        return Ok(Step::Done(response));
    }
    match row.decode(cdb, view)? {
        Decoded::Answer(response) => Ok(Step::Done(response)),
        Decoded::Nothing { reach } => {
            check_range(reach, view.unit)?;
            Ok(Step::Done(Response::good()))
        }
        Decoded::Run { command, transfer, reach } => {
            check_range(reach, view.unit)?;
            Ok(Step::Run { command, transfer, conflict })
        }
    }
}

/// A READ or a WRITE of these blocks, judged in the order of every command, for a copy that only
/// names them.
pub(crate) fn check_blocks(view: &View<'_>, writes: bool, extent: Extent) -> Result<(), Response> {
    let (conflict, protection) = if writes {
        (commands::WRITE, Protection::Medium)
    } else {
        (commands::READ, Protection::None)
    };
    check_reservation(view, conflict)?;
    view.unit.sanitize.sense().map_or(Ok(()), Err)?;
    check_protection(view, protection)?;
    Ok(check_range(extent, view.unit)?)
}

fn check_reservation(view: &View<'_>, conflict: Conflict) -> Result<(), Response> {
    match view.reservations.refusal(view.nexus, conflict) {
        None => Ok(()),
        Some(Refusal::Conflict) => Err(Response::conflict()),
        Some(Refusal::Check(sense)) => Err(sense.into()),
    }
}

fn supported(row: Option<&'static Row>, cdb: &Cdb, unit: &Unit) -> Result<&'static Row, Sense> {
    let opcode = cdb.bytes()[0];
    match row {
        Some(row) if row.offered(unit) => Ok(row),
        None if cdb.given_bytes() > 0 && !commands::rows_of(opcode).is_empty() => {
            // The operation code is known, the service action is not.
            Err(Sense::illegal_bit_in_cdb(1, 4))
        }
        _ => Err(Sense::invalid_opcode()),
    }
}

fn check_protection(view: &View<'_>, protection: Protection) -> Result<(), Sense> {
    let read_only = view.access == Access::ReadOnly;
    match protection {
        Protection::Medium | Protection::Settings if read_only => Err(Sense::write_protected()),
        Protection::Medium if view.unit.software_write_protect => {
            Err(Sense::software_write_protected())
        }
        _ => Ok(()),
    }
}

/// REQUEST SENSE reports the first pending condition, which is over with it (SAM-5 5.14, case b);
/// REPORT LUNS is the answer to the condition that it should be sent.
fn answered_by_attention(row: &Row, queue: &mut Queue, cdb: &Cdb) -> Option<Response> {
    match row.attention {
        Attention::IsData => {
            queue.pop().map(|pending| commands::sense_as_data(cdb, &pending.sense()))
        }
        Attention::Waits if row.opcode == commands::REPORT_LUNS => {
            queue.remove(UnitAttention::ReportedLunsChanged);
            None
        }
        _ => None,
    }
}

fn check_range(reach: Extent, unit: &Unit) -> Result<(), Sense> {
    match reach.lba.checked_add(reach.blocks) {
        Some(end) if end <= unit.blocks => Ok(()),
        _ => Err(Sense::lba_out_of_range()),
    }
}

/// A command to a LUN that nothing is mapped to (SPC-5 6.7.1, 6.33, 6.39): INQUIRY says so, REPORT
/// LUNS lists `luns` (eight bytes each in SAM order), REQUEST SENSE returns the sense data as data;
/// all else ends with LOGICAL UNIT NOT SUPPORTED.
#[must_use]
pub fn judge_missing(cdb: &[u8], luns: &[u64]) -> Response {
    let Some(row) = commands::row(cdb) else { return Sense::unit_not_supported().into() };
    let cdb = Cdb::new(cdb);
    if row.attention == Attention::Ends {
        return Sense::unit_not_supported().into();
    }
    if let Err(sense) = row.check_bits(&cdb) {
        return sense.into();
    }
    let answer = match row.opcode {
        commands::INQUIRY => inquiry::answer_missing(&cdb),
        commands::REPORT_LUNS => report::luns(&cdb, luns),
        _ => Ok(commands::sense_as_data(&cdb, &Sense::unit_not_supported())),
    };
    answer.unwrap_or_else(Response::check)
}
