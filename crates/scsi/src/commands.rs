//! The command table: everything that a command is before it runs (name, CDB bits, place in the
//! conflict tables, protection), one [`Row`] for each operation code and service action.
//!
//! ```text
//! cdb[0] -> INDEX[256] -> rows of that operation code -> the one row, or by service action
//! ```
//!
//! To add a command, add a row to its family: `primary` (SPC), `copying` (SPC, third-party copy),
//! `block` (SBC, on blocks), `medium` (SBC, about the medium) or `sanitizing` (SBC, SANITIZE). REPORT
//! SUPPORTED OPERATION CODES follows by itself.
//!
//! Invariant: a command that is not in the table is of the write class and is not run.

mod block;
mod copying;
mod medium;
mod primary;
mod sanitizing;

use crate::cdb::{CDB_BYTES_MAX, Cdb};
use crate::command::{Command, Extent, Transfer};
use crate::conflict::{Conflict, ConflictClass};
use crate::nexus::ItNexus;
use crate::reservations::Reservations;
use crate::sense::{Response, Sense};
use crate::unit::{Access, Unit};

pub(crate) use primary::sense_as_data;

pub(crate) const INQUIRY: u8 = 0x12;
pub(crate) const REPORT_LUNS: u8 = 0xA0;
pub(crate) const EXTENDED_COPY: u8 = 0x83;
pub(crate) const RECEIVE_COPY_RESULTS: u8 = 0x84;
pub(crate) const SANITIZE: u8 = 0x48;

/// What a command is judged against.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub unit: &'a Unit,
    pub access: Access,
    pub nexus: &'a ItNexus,
    pub reservations: &'a Reservations,
}

/// Which way the blocks or parameter data of a command go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Neither,
    /// To the initiator.
    In,
    /// From the initiator; not at all where the CDB says so (VERIFY, WRITE SAME).
    Out,
}

/// What keeps a command from running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Nothing: it changes neither medium nor settings.
    None,
    /// A read-only attachment and software write protect: it writes the medium.
    Medium,
    /// A read-only attachment: it changes settings that all initiators share.
    Settings,
}

/// What a pending unit attention does to a command (SAM-5 5.14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attention {
    /// Ends it with CHECK CONDITION.
    Ends,
    /// Leaves it alone and stays pending (INQUIRY, REPORT LUNS).
    Waits,
    /// Becomes its data and is over (REQUEST SENSE).
    IsData,
}

/// One command: an operation code, with its service action where it has them.
pub struct Row {
    /// As the standard writes it.
    pub name: &'static str,
    pub opcode: u8,
    pub service_action: Option<u8>,
    pub cdb_bytes: usize,
    /// CDB usage data (SPC-5 6.35.3): the operation code, the service action in its field, and a
    /// one for every bit that is looked at.
    pub usage: [u8; CDB_BYTES_MAX],
    /// The strictest place that the command has; see [`Row::conflict_of`].
    pub conflict: Conflict,
    pub direction: Direction,
    pub protection: Protection,
    pub attention: Attention,
    /// Only offered where blocks can be deallocated.
    pub thin_only: bool,
    accepted: u128,
    milder_when: Option<fn(&Cdb) -> bool>,
    decode: Decode,
}

/// Turns a CDB whose bits are accepted into its answer or into work.
pub(crate) type Decode = fn(&Cdb, &View<'_>) -> Result<Decoded, Sense>;

/// A command that was understood.
pub(crate) enum Decoded {
    Answer(Response),
    /// `reach`: the blocks that must lie inside the unit, also where none is transferred.
    Run {
        command: Command,
        transfer: Transfer,
        reach: Extent,
    },
    /// Nothing to transfer, which is no error as long as `reach` lies inside the unit.
    Nothing {
        reach: Extent,
    },
}

/// Allowed whoever holds a persistent reservation.
pub(crate) const ALWAYS: Conflict =
    Conflict { persistent: ConflictClass::Always, under_legacy: false };
/// Allowed whoever holds whatever, an SPC-2 reservation too.
pub(crate) const EXEMPT: Conflict =
    Conflict { persistent: ConflictClass::Always, under_legacy: true };
pub(crate) const READ: Conflict = Conflict { persistent: ConflictClass::Read, under_legacy: false };
pub(crate) const WRITE: Conflict =
    Conflict { persistent: ConflictClass::Write, under_legacy: false };

impl Row {
    /// A row from its CDB usage data, `usage[0]` being the operation code.
    const fn new(
        name: &'static str,
        usage: &[u8],
        conflict: Conflict,
        direction: Direction,
        decode: Decode,
    ) -> Self {
        let mut whole = [0; CDB_BYTES_MAX];
        let mut accepted = [0xFF; CDB_BYTES_MAX];
        let mut at = 0;
        while at < usage.len() {
            whole[at] = usage[at];
            // The operation code is what found the row.
            accepted[at] = if at == 0 { 0xFF } else { usage[at] };
            at += 1;
        }
        Self {
            name,
            opcode: usage[0],
            service_action: None,
            cdb_bytes: usage.len(),
            usage: whole,
            conflict,
            direction,
            protection: Protection::None,
            attention: Attention::Ends,
            thin_only: false,
            accepted: u128::from_be_bytes(accepted),
            milder_when: None,
            decode,
        }
    }
    /// One service action of the operation code; its number comes into the low bits of byte 1.
    const fn action(mut self, service_action: u8) -> Self {
        self.service_action = Some(service_action);
        self.usage[1] |= service_action;
        self.ignoring(1, 0x1F)
    }
    /// Bits that a command may carry and that mean nothing here (group number, obsolete FUA_NV).
    const fn ignoring(mut self, byte: usize, bits: u8) -> Self {
        self.accepted |= (bits as u128) << (8 * (CDB_BYTES_MAX - 1 - byte));
        self
    }
    const fn protected(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }
    const fn attention(mut self, attention: Attention) -> Self {
        self.attention = attention;
        self
    }
    const fn thin_only(mut self) -> Self {
        self.thin_only = true;
        self
    }
    /// Never conflicts with a persistent reservation when the CDB looks like this.
    const fn milder_when(mut self, mild: fn(&Cdb) -> bool) -> Self {
        self.milder_when = Some(mild);
        self
    }

    /// The command's place in the conflict tables, by its operation code, service action and
    /// flags (SPC-5 table 60, SBC-4 table 14).
    #[must_use]
    pub fn conflict_of(&self, cdb: &Cdb) -> Conflict {
        match self.milder_when {
            Some(mild) if mild(cdb) => ALWAYS,
            _ => self.conflict,
        }
    }
    /// Whether this unit offers the command at all.
    #[must_use]
    pub fn offered(&self, unit: &Unit) -> bool {
        unit.thin || !self.thin_only
    }
    /// Refuses a CDB that is too short or has bits that mean something which is not done here:
    /// reserved ones, protection information, NACA.
    pub(crate) fn check_bits(&self, cdb: &Cdb) -> Result<(), Sense> {
        if cdb.given_bytes() < self.cdb_bytes {
            return Err(Sense::illegal_field_in_cdb(byte_number(cdb.given_bytes())));
        }
        let stray = cdb.bits() & !self.accepted;
        if stray == 0 {
            return Ok(());
        }
        let place = stray.leading_zeros().to_be_bytes()[3];
        Err(Sense::illegal_bit_in_cdb(u16::from(place / 8), 7 - place % 8))
    }
    pub(crate) fn decode(&self, cdb: &Cdb, view: &View<'_>) -> Result<Decoded, Sense> {
        (self.decode)(cdb, view)
    }
}

fn byte_number(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// The rows of each operation code.
static INDEX: [&[Row]; 256] = index();

const FAMILIES: [&[Row]; 5] =
    [block::ROWS, medium::ROWS, primary::ROWS, copying::ROWS, sanitizing::ROWS];

const fn index() -> [&'static [Row]; 256] {
    let families = FAMILIES;
    let mut index: [&[Row]; 256] = [&[]; 256];
    let mut family = 0;
    while family < families.len() {
        let mut rest = families[family];
        while let [first, ..] = rest {
            let opcode = first.opcode;
            let mut count = 0;
            while count < rest.len() && rest[count].opcode == opcode {
                count += 1;
            }
            let (same, later) = rest.split_at(count);
            assert!(index[opcode as usize].is_empty(), "an operation code is in one place only");
            index[opcode as usize] = same;
            rest = later;
        }
        family += 1;
    }
    index
}

/// The rows of an operation code: none, one, or one for each service action.
#[must_use]
pub fn rows_of(opcode: u8) -> &'static [Row] {
    INDEX[usize::from(opcode)]
}

/// All rows, family by family.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.into_iter().flatten()
}

/// The row of a command; `None` where operation code or service action is not in the table.
#[must_use]
pub fn row(cdb: &[u8]) -> Option<&'static Row> {
    let opcode = *cdb.first()?;
    find(opcode, cdb.get(1).copied().unwrap_or(0))
}

fn find(opcode: u8, byte_1: u8) -> Option<&'static Row> {
    match rows_of(opcode) {
        [] => None,
        [only] if only.service_action.is_none() => Some(only),
        rows => rows.iter().find(|row| row.service_action == Some(byte_1 & 0x1F)),
    }
}

/// The command's place in both conflict tables. What is not known is of the write class.
#[must_use]
pub fn conflict_of(cdb: &[u8]) -> Conflict {
    row(cdb).map_or(WRITE, |row| row.conflict_of(&Cdb::new(cdb)))
}
