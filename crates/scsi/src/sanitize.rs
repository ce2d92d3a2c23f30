//! SANITIZE (SBC-4 4.11, 5.24): what may be asked for, and what a unit answers meanwhile.
//!
//! ```text
//!   Idle --accepted--> Running --done--> Idle
//!                        |  ^
//!                  error |  | SANITIZE, unrestricted only after an unrestricted one
//!                        v  |
//!                       Failed --EXIT FAILURE MODE, unrestricted only--> Idle
//!
//!   list of OVERWRITE: 0 INVERT|TEST|OVERWRITE COUNT  2 pattern length (2)  4 pattern
//! ```
//!
//! Invariant: in any state but `Idle` no command that reads or changes the medium or a reservation
//! is let through.

use bytes::Bytes;

use crate::commands::{Attention, Row, SANITIZE};
use crate::sense::{Asc, Sense, SenseKey};
use crate::unit::Unit;

/// How a unit stands to its last SANITIZE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// There was none, or it ended well.
    #[default]
    Idle,
    /// One was accepted and is not over. `progress` in parts of 65,536.
    Running { progress: u16 },
    /// The last one failed. `unrestricted`: AUSE was set, so that EXIT FAILURE MODE ends this.
    Failed { unrestricted: bool },
}

impl State {
    /// Running, with so much of a whole done.
    #[must_use]
    pub fn running(done: u64, total: u64) -> Self {
        let parts = u128::from(done) * 65_536 / u128::from(total.max(1));
        Self::Running { progress: u16::try_from(parts).unwrap_or(u16::MAX) }
    }

    /// What commands hear of it (SBC-4 4.11.2, 4.11.3); `None` in `Idle`.
    #[must_use]
    pub fn sense(self) -> Option<Sense> {
        match self {
            Self::Idle => None,
            Self::Running { progress } => Some(Sense {
                progress: Some(progress),
                ..Sense::new(SenseKey::NotReady, Asc::SANITIZE_IN_PROGRESS)
            }),
            Self::Failed { .. } => {
                Some(Sense::new(SenseKey::MediumError, Asc::SANITIZE_COMMAND_FAILED))
            }
        }
    }
}

/// What a SANITIZE asks for, as far as its CDB says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The parameter list says with what: [`Overwrite::parse`].
    Overwrite,
    BlockErase,
}

/// The parameter list of OVERWRITE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overwrite {
    /// What each logical block holds in the end: one block long.
    pub block: Bytes,
    /// 1 to 31.
    pub passes: u8,
    /// Every second pass writes the inverted pattern, so that the last one writes it as it is.
    pub invert: bool,
}

impl Overwrite {
    /// # Errors
    /// INVALID FIELD IN PARAMETER LIST: a count of zero, a vendor's TEST, a pattern of no bytes, of
    /// more than a block, or of more than there are.
    pub fn parse(list: &[u8], block_bytes: u32) -> Result<Self, Sense> {
        let [flags, reserved, high, low, rest @ ..] = list else {
            return Err(Sense::parameter_list_length());
        };
        if flags & 0x60 != 0 {
            return Err(Sense::illegal_bit_in_list(0, 6));
        }
        let passes = flags & 0x1F;
        if passes == 0 {
            return Err(Sense::illegal_bit_in_list(0, 4));
        }
        if *reserved != 0 {
            return Err(Sense::illegal_field_in_list(1));
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let block_bytes = usize::try_from(block_bytes).unwrap_or(usize::MAX);
        let pattern = rest.get(..length).filter(|pattern| !pattern.is_empty());
        let pattern = pattern.filter(|pattern| pattern.len() <= block_bytes);
        let pattern = pattern.ok_or(Sense::illegal_field_in_list(2))?;
        let block: Vec<u8> = pattern.iter().copied().cycle().take(block_bytes).collect();
        Ok(Self { block: block.into(), passes, invert: flags & 0x80 != 0 })
    }
}

/// What keeps a command from being looked at. INQUIRY, REPORT LUNS and REQUEST SENSE are always
/// served, and a SANITIZE may follow one that failed.
pub(crate) fn check(unit: &Unit, row: &Row) -> Result<(), Sense> {
    let Some(sense) = unit.sanitize.sense() else { return Ok(()) };
    let again = matches!(unit.sanitize, State::Failed { .. }) && row.opcode == SANITIZE;
    if again || row.attention != Attention::Ends { Ok(()) } else { Err(sense) }
}
