//! Logout Request and Logout Response (RFC 7143 11.14, 11.15).

use super::{FINAL, Header, Numbers, Opcode};

/// Why the initiator logs out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LogoutReason {
    CloseSession = 0,
    CloseConnection = 1,
    /// Remove the connection for recovery: a matter of recovery levels above 0.
    Recovery = 2,
}

/// What the target says to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LogoutResult {
    Closed = 0,
    CidNotFound = 1,
    RecoveryNotSupported = 2,
    CleanupFailed = 3,
}

/// Logout Request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutRequest {
    pub immediate: bool,
    /// None: a reserved reason.
    pub reason: Option<LogoutReason>,
    pub itt: u32,
    /// Meaningless for [`LogoutReason::CloseSession`].
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl LogoutRequest {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let reason = match header.0[1] & 0x7f {
            0 => Some(LogoutReason::CloseSession),
            1 => Some(LogoutReason::CloseConnection),
            2 => Some(LogoutReason::Recovery),
            _ => None,
        };
        Self {
            immediate: header.immediate(),
            reason,
            itt: header.itt(),
            cid: header.half(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let reason = self.reason.map_or(0x7f, |reason| reason as u8);
        Header::new(Opcode::LogoutRequest, FINAL | reason)
            .with_immediate(self.immediate)
            .with_word(16, self.itt)
            .with_half(20, self.cid)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn)
    }
}

/// Logout Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutResponse {
    pub result: LogoutResult,
    pub itt: u32,
    pub numbers: Numbers,
    pub time2wait_s: u16,
    pub time2retain_s: u16,
}

impl LogoutResponse {
    /// A reserved result reads as [`LogoutResult::CleanupFailed`].
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let result = match header.0[2] {
            0 => LogoutResult::Closed,
            1 => LogoutResult::CidNotFound,
            2 => LogoutResult::RecoveryNotSupported,
            _ => LogoutResult::CleanupFailed,
        };
        Self {
            result,
            itt: header.itt(),
            numbers: header.numbers(),
            time2wait_s: header.half(40),
            time2retain_s: header.half(42),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::LogoutResponse, FINAL)
            .with_byte(2, self.result as u8)
            .with_word(16, self.itt)
            .with_numbers(&self.numbers)
            .with_half(40, self.time2wait_s)
            .with_half(42, self.time2retain_s)
    }
}
