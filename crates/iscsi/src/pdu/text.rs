//! Text Request and Text Response (RFC 7143 11.10, 11.11).

use super::{CONTINUE, FINAL, Header, Numbers, Opcode};

/// Text Request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextRequest {
    pub immediate: bool,
    pub final_: bool,
    /// C: the text goes on in the next request.
    pub continues: bool,
    pub lun: u64,
    pub itt: u32,
    pub ttt: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl TextRequest {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            immediate: header.immediate(),
            final_: header.flag(FINAL),
            continues: header.flag(CONTINUE),
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let flags = flags(self.final_, self.continues);
        Header::new(Opcode::TextRequest, flags)
            .with_immediate(self.immediate)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn)
    }
}

fn flags(final_: bool, continues: bool) -> u8 {
    (if final_ { FINAL } else { 0 }) | (if continues { CONTINUE } else { 0 })
}

/// Text Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextResponse {
    pub final_: bool,
    pub continues: bool,
    pub lun: u64,
    pub itt: u32,
    /// [`super::NO_TAG`] in the last response; otherwise what the next request must carry.
    pub ttt: u32,
    pub numbers: Numbers,
}

impl TextResponse {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            final_: header.flag(FINAL),
            continues: header.flag(CONTINUE),
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            numbers: header.numbers(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::TextResponse, flags(self.final_, self.continues))
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_numbers(&self.numbers)
    }
}
