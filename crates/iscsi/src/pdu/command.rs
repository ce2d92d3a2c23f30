//! SCSI Command and SCSI Response (RFC 7143 11.3, 11.4).

use super::{FINAL, Header, Numbers, Opcode, Residual};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;

/// Task attributes (RFC 7143 11.3.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Attribute {
    Untagged = 0,
    #[default]
    Simple = 1,
    Ordered = 2,
    HeadOfQueue = 3,
    Aca = 4,
}

impl Attribute {
    fn decode(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Untagged,
            1 => Self::Simple,
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            4 => Self::Aca,
            _ => return None,
        })
    }
}

/// SCSI Command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiCommand {
    pub immediate: bool,
    /// F: no unsolicited Data-Out follows.
    pub final_: bool,
    pub read: bool,
    pub write: bool,
    pub attribute: Attribute,
    pub lun: u64,
    pub itt: u32,
    /// Expected data transfer length.
    pub expected_bytes: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub cdb: [u8; 16],
}

impl ScsiCommand {
    /// None: a reserved task attribute.
    #[must_use]
    pub fn decode(header: &Header) -> Option<Self> {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&header.0[32..48]);
        Some(Self {
            immediate: header.immediate(),
            final_: header.flag(FINAL),
            read: header.flag(READ),
            write: header.flag(WRITE),
            attribute: Attribute::decode(header.0[1] & 0x07)?,
            lun: header.lun(),
            itt: header.itt(),
            expected_bytes: header.word(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
            cdb,
        })
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let mut flags = self.attribute as u8;
        for (set, bit) in [(self.final_, FINAL), (self.read, READ), (self.write, WRITE)] {
            flags |= if set { bit } else { 0 };
        }
        let mut header = Header::new(Opcode::ScsiCommand, flags)
            .with_immediate(self.immediate)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.expected_bytes)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn);
        header.0[32..48].copy_from_slice(&self.cdb);
        header
    }
}

/// SCSI Response. The data segment holds a two-byte sense length and the sense data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScsiResponse {
    /// iSCSI response: 0 the command was completed, 1 target failure.
    pub response: u8,
    /// SCSI status; only where `response` is 0.
    pub status: u8,
    pub itt: u32,
    pub numbers: Numbers,
    /// Data-In and R2T PDUs sent for the command.
    pub exp_data_sn: u32,
    pub residual: Residual,
    /// Residual of the read part of a bidirectional command.
    pub read_residual: Residual,
}

impl ScsiResponse {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let read_residual = match (header.flag(0x10), header.flag(0x08)) {
            (true, false) => Residual::Over(header.word(40)),
            (false, true) => Residual::Under(header.word(40)),
            _ => Residual::None,
        };
        Self {
            response: header.0[2],
            status: header.0[3],
            itt: header.itt(),
            numbers: header.numbers(),
            exp_data_sn: header.word(36),
            residual: Residual::decode(header),
            read_residual,
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let (flags, residual) = self.residual.encode();
        let (read_flags, read_residual) = self.read_residual.encode();
        Header::new(Opcode::ScsiResponse, FINAL | flags | read_flags << 2)
            .with_byte(2, self.response)
            .with_byte(3, self.status)
            .with_word(16, self.itt)
            .with_numbers(&self.numbers)
            .with_word(36, self.exp_data_sn)
            .with_word(40, read_residual)
            .with_word(44, residual)
    }
}
