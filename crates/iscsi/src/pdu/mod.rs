//! Protocol data units: 48 bytes of basic header, additional header segments, a data segment.
//!
//! Entry points: [`Header`], the structures of each group with `decode` and `encode`, and
//! [`frame::take`], which cuts whole PDUs out of received bytes.
//!
//! Invariant: bytes to values and back. No policy, no state, and no panic whatever the bytes are:
//! every offset below is a constant inside the 48 bytes.

pub mod additional;
pub mod command;
pub mod data;
pub mod frame;
pub mod login;
pub mod logout;
pub mod nop;
pub mod notice;
pub mod task_management;
pub mod text;

/// Bytes of the basic header segment.
pub const HEADER_BYTES: usize = 48;
/// The tag that stands for 'no tag' (RFC 7143 11.2.1.8 and others).
pub const NO_TAG: u32 = 0xffff_ffff;
/// The Final, or in login the Transit, bit of byte 1.
pub const FINAL: u8 = 0x80;
/// The Continue bit of byte 1 in login and text PDUs.
pub const CONTINUE: u8 = 0x40;
const IMMEDIATE: u8 = 0x40;

/// Operation codes (RFC 7143 11.2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Opcode {
    NopOut = 0x00,
    ScsiCommand = 0x01,
    TaskManagementRequest = 0x02,
    LoginRequest = 0x03,
    TextRequest = 0x04,
    DataOut = 0x05,
    LogoutRequest = 0x06,
    SnackRequest = 0x10,
    NopIn = 0x20,
    ScsiResponse = 0x21,
    TaskManagementResponse = 0x22,
    LoginResponse = 0x23,
    TextResponse = 0x24,
    DataIn = 0x25,
    LogoutResponse = 0x26,
    ReadyToTransfer = 0x31,
    AsyncMessage = 0x32,
    Reject = 0x3f,
}

/// Every opcode that the standard names.
const OPCODES: [Opcode; 18] = [
    Opcode::NopOut,
    Opcode::ScsiCommand,
    Opcode::TaskManagementRequest,
    Opcode::LoginRequest,
    Opcode::TextRequest,
    Opcode::DataOut,
    Opcode::LogoutRequest,
    Opcode::SnackRequest,
    Opcode::NopIn,
    Opcode::ScsiResponse,
    Opcode::TaskManagementResponse,
    Opcode::LoginResponse,
    Opcode::TextResponse,
    Opcode::DataIn,
    Opcode::LogoutResponse,
    Opcode::ReadyToTransfer,
    Opcode::AsyncMessage,
    Opcode::Reject,
];

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; HEADER_BYTES]);

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({:?} {:02x?})", self.opcode(), self.0)
    }
}

impl Header {
    /// An empty header of this kind, with byte 1 set.
    #[must_use]
    pub fn new(opcode: Opcode, flags: u8) -> Self {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = opcode as u8;
        bytes[1] = flags;
        Self(bytes)
    }
    /// None for a reserved or vendor opcode.
    #[must_use]
    pub fn opcode(&self) -> Option<Opcode> {
        let code = self.0[0] & 0x3f;
        OPCODES.into_iter().find(|opcode| *opcode as u8 == code)
    }
    /// The I bit: deliver at once, outside the CmdSN order (RFC 7143 11.2.1.1).
    #[must_use]
    pub fn immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }
    /// Bytes of additional header segments.
    #[must_use]
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }
    /// Bytes of data, padding not counted.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }
    /// The initiator task tag; for Reject and AsyncMessage [`NO_TAG`].
    #[must_use]
    pub fn itt(&self) -> u32 {
        self.word(16)
    }
    /// CmdSN of a request that has one.
    #[must_use]
    pub fn cmd_sn(&self) -> u32 {
        self.word(24)
    }
    /// ExpStatSN of a request.
    #[must_use]
    pub fn exp_stat_sn(&self) -> u32 {
        self.word(28)
    }
    /// The 8 bytes of the logical unit number, big-endian.
    #[must_use]
    pub fn lun(&self) -> u64 {
        u64::from(self.word(8)) << 32 | u64::from(self.word(12))
    }
    pub(crate) fn flag(&self, bit: u8) -> bool {
        self.0[1] & bit != 0
    }
    pub(crate) fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }
    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
    pub(crate) fn with_immediate(mut self, immediate: bool) -> Self {
        if immediate {
            self.0[0] |= IMMEDIATE;
        }
        self
    }
    pub(crate) fn with_byte(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }
    pub(crate) fn with_half(mut self, at: usize, value: u16) -> Self {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
        self
    }
    pub(crate) fn with_word(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }
    pub(crate) fn with_lun(mut self, lun: u64) -> Self {
        self.0[8..16].copy_from_slice(&lun.to_be_bytes());
        self
    }
    /// StatSN, ExpCmdSN and MaxCmdSN, which every PDU of the target carries at the same place.
    pub(crate) fn with_numbers(self, numbers: &Numbers) -> Self {
        self.with_word(24, numbers.stat_sn)
            .with_word(28, numbers.exp_cmd_sn)
            .with_word(32, numbers.max_cmd_sn)
    }
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers { stat_sn: self.word(24), exp_cmd_sn: self.word(28), max_cmd_sn: self.word(32) }
    }
}

/// Bytes that fill a segment up to a multiple of four.
#[must_use]
pub fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}

/// The sequence numbers in a PDU of the target (RFC 7143 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
}

/// A residual: how far the bytes moved differ from the expected length (RFC 7143 11.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    #[default]
    None,
    /// So many bytes less than expected.
    Under(u32),
    /// So many bytes more would have been needed.
    Over(u32),
}

impl Residual {
    /// From what was expected and what the command would move.
    #[must_use]
    pub fn of(expected: u32, actual: u64) -> Self {
        match actual.cmp(&u64::from(expected)) {
            std::cmp::Ordering::Equal => Self::None,
            std::cmp::Ordering::Less => {
                Self::Under(expected - u32::try_from(actual).unwrap_or(expected))
            }
            std::cmp::Ordering::Greater => {
                Self::Over(u32::try_from(actual - u64::from(expected)).unwrap_or(u32::MAX))
            }
        }
    }
    /// The O and U bits of byte 1, and the count.
    fn encode(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Over(count) => (0x04, count),
            Self::Under(count) => (0x02, count),
        }
    }
    fn decode(header: &Header) -> Self {
        match (header.flag(0x04), header.flag(0x02)) {
            (true, false) => Self::Over(header.word(44)),
            (false, true) => Self::Under(header.word(44)),
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests;
