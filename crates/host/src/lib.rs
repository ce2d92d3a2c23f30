//! The consumer's side: an iSCSI initiator and an NFS client in user space, and the guard of a
//! shared volume.
//!
//! Entry points: [`Initiator::connect`] for a session, [`Initiator::discover`] for a list of
//! targets, [`LogicalUnit`] for the commands that one wants most, [`guard::Guard`] to run a command
//! while a volume is held, [`files::FileClient`] for a file volume.
//!
//! Invariant: one task owns the socket and the machine; handles only send it requests, so a
//! handle can be cloned and used from anywhere at once.

pub mod agent;
mod driver;
pub mod files;
pub mod group;
pub mod guard;
mod initiator;
mod logical_unit;

pub use initiator::{Initiator, Pending, Target};
pub use logical_unit::LogicalUnit;

pub use iscsi::chap::Algorithm;
pub use iscsi::initiator::{Command, Credentials, Data, Options, Outcome};
pub use iscsi::pdu::Residual;
pub use iscsi::pdu::notice::{AsyncEvent, AsyncMessage};
pub use iscsi::pdu::task_management::{TmfFunction, TmfResponse};
pub use iscsi::target::DigestOffer;

/// Why something on a session failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    #[error("the portal cannot be reached: {0}")]
    Unreachable(String),
    #[error("the login was refused with status {class:02x}{detail:02x}: {why}")]
    LoginRefused { class: u8, detail: u8, why: String },
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the device did not do it: {0}")]
    Device(String),
    #[error("the command was ended by a task management function")]
    Aborted,
    #[error("the target rejected the request with reason {0:02x}h")]
    Rejected(u8),
    #[error("the command ended with status {status:02x}h, sense {key:x}/{asc:02x}/{ascq:02x}")]
    Status {
        status: u8,
        /// Sense key, additional code and qualifier: 0 where there is no sense data.
        key: u8,
        asc: u8,
        ascq: u8,
    },
    #[error("the target answered with fewer bytes than the format needs")]
    Short,
    #[error("the target answered the task management function with {0:?}")]
    TaskManagement(TmfResponse),
}

impl HostError {
    /// The error of an outcome that is not GOOD; None for GOOD.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        if outcome.response != 0 {
            return Some(Self::Lost(format!("target failure {:02x}h", outcome.response)));
        }
        let byte = |at: usize| outcome.sense.get(at).copied().unwrap_or(0);
        // Fixed format (70h, 71h) and descriptor format (72h, 73h): SPC-5 4.4.
        let (key, asc, ascq) = match byte(0) & 0x7f {
            0x72 | 0x73 => (byte(1) & 0x0f, byte(2), byte(3)),
            _ => (byte(2) & 0x0f, byte(12), byte(13)),
        };
        (outcome.status != 0).then_some(Self::Status { status: outcome.status, key, asc, ascq })
    }
}
