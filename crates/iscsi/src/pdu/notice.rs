//! What the target says unasked: Reject and Asynchronous Message (RFC 7143 11.17, 11.9).

use super::{FINAL, Header, NO_TAG, Numbers, Opcode};

/// Why a PDU was rejected (RFC 7143 11.17.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RejectReason {
    DataDigestError = 0x02,
    SnackReject = 0x03,
    ProtocolError = 0x04,
    CommandNotSupported = 0x05,
    ImmediateCommandReject = 0x06,
    TaskInProgress = 0x07,
    InvalidDataAck = 0x08,
    InvalidPduField = 0x09,
    OutOfResources = 0x0a,
    NegotiationReset = 0x0b,
    WaitingForLogout = 0x0c,
}

const REASONS: [RejectReason; 11] = [
    RejectReason::DataDigestError,
    RejectReason::SnackReject,
    RejectReason::ProtocolError,
    RejectReason::CommandNotSupported,
    RejectReason::ImmediateCommandReject,
    RejectReason::TaskInProgress,
    RejectReason::InvalidDataAck,
    RejectReason::InvalidPduField,
    RejectReason::OutOfResources,
    RejectReason::NegotiationReset,
    RejectReason::WaitingForLogout,
];

/// Reject. The data segment is the rejected PDU's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    pub reason: RejectReason,
    pub numbers: Numbers,
}

impl Reject {
    /// A reserved reason reads as [`RejectReason::ProtocolError`].
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let reason = REASONS.into_iter().find(|reason| *reason as u8 == header.0[2]);
        Self { reason: reason.unwrap_or(RejectReason::ProtocolError), numbers: header.numbers() }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::Reject, FINAL)
            .with_byte(2, self.reason as u8)
            .with_word(16, NO_TAG)
            .with_numbers(&self.numbers)
    }
}

/// Asynchronous events (RFC 7143 11.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AsyncEvent {
    /// Sense data in the data segment.
    ScsiEvent = 0,
    /// The initiator must log out within Parameter3 seconds.
    RequestLogout = 1,
    /// The target drops the connection with CID Parameter1.
    DropConnection = 2,
    /// The target drops all connections of the session.
    DropSession = 3,
    /// The initiator should negotiate the parameters anew.
    Renegotiate = 4,
    Vendor = 255,
}

/// Asynchronous Message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    pub event: AsyncEvent,
    pub lun: u64,
    pub numbers: Numbers,
    pub parameters: [u16; 3],
}

impl AsyncMessage {
    /// A reserved event reads as [`AsyncEvent::Vendor`].
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        let event = match header.0[36] {
            0 => AsyncEvent::ScsiEvent,
            1 => AsyncEvent::RequestLogout,
            2 => AsyncEvent::DropConnection,
            3 => AsyncEvent::DropSession,
            4 => AsyncEvent::Renegotiate,
            _ => AsyncEvent::Vendor,
        };
        Self {
            event,
            lun: header.lun(),
            numbers: header.numbers(),
            parameters: [header.half(38), header.half(40), header.half(42)],
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        Header::new(Opcode::AsyncMessage, FINAL)
            .with_lun(self.lun)
            .with_word(16, NO_TAG)
            .with_numbers(&self.numbers)
            .with_byte(36, self.event as u8)
            .with_half(38, self.parameters[0])
            .with_half(40, self.parameters[1])
            .with_half(42, self.parameters[2])
    }
}
