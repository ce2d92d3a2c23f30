//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19).

use super::{FINAL, Header, Numbers, Opcode};

/// NOP-Out: a ping of the initiator, or its answer to one of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopOut {
    pub immediate: bool,
    pub lun: u64,
    /// [`super::NO_TAG`]: no answer is wanted.
    pub itt: u32,
    /// The tag of the NOP-In that this answers, or [`super::NO_TAG`].
    pub ttt: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl NopOut {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            immediate: header.immediate(),
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::NopOut, FINAL)
            .with_immediate(self.immediate)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn)
    }
}

/// NOP-In: a ping of the target, or its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopIn {
    pub lun: u64,
    /// The ITT of the NOP-Out that this answers, or [`super::NO_TAG`].
    pub itt: u32,
    /// [`super::NO_TAG`]: no answer is wanted.
    pub ttt: u32,
    pub numbers: Numbers,
}

impl NopIn {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            numbers: header.numbers(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::NopIn, FINAL)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_numbers(&self.numbers)
    }
}
