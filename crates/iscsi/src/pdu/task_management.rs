//! Task management function request and response (RFC 7143 11.5, 11.6).

use super::{FINAL, Header, Numbers, Opcode};

/// Task management functions (RFC 7143 11.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TmfFunction {
    AbortTask = 1,
    AbortTaskSet = 2,
    ClearAca = 3,
    ClearTaskSet = 4,
    LogicalUnitReset = 5,
    TargetWarmReset = 6,
    TargetColdReset = 7,
    TaskReassign = 8,
}

const FUNCTIONS: [TmfFunction; 8] = [
    TmfFunction::AbortTask,
    TmfFunction::AbortTaskSet,
    TmfFunction::ClearAca,
    TmfFunction::ClearTaskSet,
    TmfFunction::LogicalUnitReset,
    TmfFunction::TargetWarmReset,
    TmfFunction::TargetColdReset,
    TmfFunction::TaskReassign,
];

/// Task management responses (RFC 7143 11.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TmfResponse {
    Complete = 0,
    TaskDoesNotExist = 1,
    LunDoesNotExist = 2,
    TaskStillAllegiant = 3,
    ReassignNotSupported = 4,
    NotSupported = 5,
    AuthorizationFailed = 6,
    Rejected = 255,
}

const RESPONSES: [TmfResponse; 8] = [
    TmfResponse::Complete,
    TmfResponse::TaskDoesNotExist,
    TmfResponse::LunDoesNotExist,
    TmfResponse::TaskStillAllegiant,
    TmfResponse::ReassignNotSupported,
    TmfResponse::NotSupported,
    TmfResponse::AuthorizationFailed,
    TmfResponse::Rejected,
];

/// Task Management Function Request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementRequest {
    pub immediate: bool,
    /// None: a reserved function code.
    pub function: Option<TmfFunction>,
    pub lun: u64,
    pub itt: u32,
    /// The referenced task's ITT; [`super::NO_TAG`] for the functions that refer to none.
    pub referenced: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub ref_cmd_sn: u32,
}

impl TaskManagementRequest {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let code = header.0[1] & 0x7f;
        Self {
            immediate: header.immediate(),
            function: FUNCTIONS.into_iter().find(|function| *function as u8 == code),
            lun: header.lun(),
            itt: header.itt(),
            referenced: header.word(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
            ref_cmd_sn: header.word(32),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let function = self.function.map_or(0, |function| function as u8);
        Header::new(Opcode::TaskManagementRequest, FINAL | function)
            .with_immediate(self.immediate)
            .with_lun(self.lun)
            .with_word(16, self.itt)
            .with_word(20, self.referenced)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn)
            .with_word(32, self.ref_cmd_sn)
    }
}

/// Task Management Function Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementResponse {
    pub response: TmfResponse,
    pub itt: u32,
    pub numbers: Numbers,
}

impl TaskManagementResponse {
    /// A reserved response code reads as [`TmfResponse::Rejected`].
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let response = RESPONSES.into_iter().find(|response| *response as u8 == header.0[2]);
        Self {
            response: response.unwrap_or(TmfResponse::Rejected),
            itt: header.itt(),
            numbers: header.numbers(),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::TaskManagementResponse, FINAL)
            .with_byte(2, self.response as u8)
            .with_word(16, self.itt)
            .with_numbers(&self.numbers)
    }
}
