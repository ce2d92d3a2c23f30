//! Data-Out, Data-In, Ready To Transfer (RFC 7143 11.7, 11.8) and SNACK (11.16).

use super::{FINAL, Header, Numbers, Opcode, Residual};

const STATUS: u8 = 0x01;

/// SCSI Data-Out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataOut {
    /// F: the last PDU of its sequence.
    pub final_: bool,
    pub lun: u64,
    pub itt: u32,
    /// The tag of the R2T that asked for it; [`super::NO_TAG`] for unsolicited data.
    pub ttt: u32,
    pub exp_stat_sn: u32,
    pub data_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
}

impl DataOut {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            final_: header.flag(FINAL),
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            exp_stat_sn: header.exp_stat_sn(),
            data_sn: header.word(36),
            offset: header.word(40),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::DataOut, if self.final_ { FINAL } else { 0 })
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_word(28, self.exp_stat_sn)
            .with_word(36, self.data_sn)
            .with_word(40, self.offset)
    }
}

/// SCSI Data-In.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataIn {
    /// F: the last PDU of its sequence.
    pub final_: bool,
    /// S: the command's status and residual come with the data (phase collapse).
    pub status: Option<(u8, Residual)>,
    pub lun: u64,
    pub itt: u32,
    pub ttt: u32,
    /// StatSN counts only together with a status.
    pub numbers: Numbers,
    pub data_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
}

impl DataIn {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            final_: header.flag(FINAL),
            status: header.flag(STATUS).then(|| (header.0[3], Residual::decode(header))),
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            numbers: header.numbers(),
            data_sn: header.word(36),
            offset: header.word(40),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let mut flags = if self.final_ { FINAL } else { 0 };
        let (mut status, mut count) = (0, 0);
        if let Some((code, residual)) = self.status {
            let (bits, residual) = residual.encode();
            flags |= STATUS | bits;
            (status, count) = (code, residual);
        }
        Header::new(Opcode::DataIn, flags)
            .with_byte(3, status)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_numbers(&self.numbers)
            .with_word(36, self.data_sn)
            .with_word(40, self.offset)
            .with_word(44, count)
    }
}

/// Ready To Transfer: the target asks for a burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyToTransfer {
    pub lun: u64,
    pub itt: u32,
    pub ttt: u32,
    pub numbers: Numbers,
    pub r2t_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
    /// Desired data transfer length in bytes.
    pub length: u32,
}

impl ReadyToTransfer {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word(20),
            numbers: header.numbers(),
            r2t_sn: header.word(36),
            offset: header.word(40),
            length: header.word(44),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::ReadyToTransfer, FINAL)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.ttt)
            .with_numbers(&self.numbers)
            .with_word(36, self.r2t_sn)
            .with_word(40, self.offset)
            .with_word(44, self.length)
    }
}

/// SNACK Request: known so that it can be refused; it belongs to recovery levels above 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snack {
    pub kind: u8,
    pub itt: u32,
    pub first: u32,
    pub count: u32,
}

impl Snack {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            kind: header.0[1] & 0x0f,
            itt: header.itt(),
            first: header.word(40),
            count: header.word(44),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::SnackRequest, FINAL | self.kind & 0x0f)
            .with_word(16, self.itt)
            .with_word(40, self.first)
            .with_word(44, self.count)
    }
}
