//! The target's side of one TCP connection.
//!
//! Entry point: [`Connection`]. The shell gives it what it read from the socket and what the
//! node knows ([`Directory`]), acts on the [`Event`]s, answers them through the connection's
//! methods, and writes [`Connection::outgoing`] to the socket.
//!
//! Invariant: a command's data-out that arrives after [`Connection::drop_task`] or after an early
//! answer is swallowed; it can reach no event.

mod connection;
mod full;
mod login;
mod requests;
mod text;
mod transfer;
mod window;

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use scsi::sense::Status;

pub use connection::{Connection, Nonce};

pub use crate::pdu::command::Attribute;
pub use crate::pdu::logout::LogoutReason;
pub use crate::pdu::task_management::{TmfFunction, TmfResponse};

/// What a portal offers in negotiations, and its limits. The same for all its connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Tag of the portal group that this portal belongs to.
    pub portal_group_tag: u16,
    /// TargetAlias, told to initiators that log in to a target.
    pub target_alias: Option<String>,
    /// The header digests that we agree to.
    pub header_digest: DigestOffer,
    /// The data digests that we agree to.
    pub data_digest: DigestOffer,
    /// Largest data segment that we receive in the full feature phase, in bytes.
    pub max_recv_data_segment_bytes: u32,
    /// Most bytes in one solicited sequence.
    pub max_burst_bytes: u32,
    /// Most unsolicited bytes of one command.
    pub first_burst_bytes: u32,
    /// Most unanswered R2Ts of one command, 1..=65535.
    pub max_outstanding_r2t: u16,
    /// True: refuse unsolicited Data-Out.
    pub initial_r2t: bool,
    /// True: accept data in the command's PDU.
    pub immediate_data: bool,
    /// Seconds that an initiator should wait before it comes back.
    pub time2wait_s: u16,
    /// Seconds that tasks outlive a lost connection: none at recovery level 0.
    pub time2retain_s: u16,
    /// Width of the command window: commands that a session may have in flight.
    pub window: u32,
    /// Most bytes of one text exchange, over all its continuations.
    pub text_bytes_max: usize,
    /// What data-out that comes out of order does.
    pub data_out_disorder: Disorder,
    /// A login must be through within this time.
    pub login_limit: Duration,
    /// Silence after which the initiator is pinged. Zero: never.
    pub ping_interval: Duration,
    /// Silence after a ping after which the connection is given up.
    pub ping_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            portal_group_tag: 1,
            target_alias: None,
            header_digest: DigestOffer::NoneOrCrc32c,
            data_digest: DigestOffer::NoneOrCrc32c,
            max_recv_data_segment_bytes: 256 << 10,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 256 << 10,
            max_outstanding_r2t: 8,
            initial_r2t: false,
            immediate_data: true,
            time2wait_s: 2,
            time2retain_s: 0,
            window: 128,
            text_bytes_max: 64 << 10,
            data_out_disorder: Disorder::DropConnection,
            login_limit: Duration::from_secs(15),
            ping_interval: Duration::from_secs(15),
            ping_limit: Duration::from_secs(15),
        }
    }
}

/// What to do when DataSN, offset or the F bit of a Data-Out PDU are not what the sequence
/// demands. Recovery level 0 cannot ask for the data again, but has a choice (RFC 7143 7.8, 7.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Disorder {
    #[default]
    DropConnection,
    /// End the command with ABORTED COMMAND, PROTOCOL SERVICE CRC ERROR, and go on. The shell
    /// learns of it by [`Connection::failed_tasks`], after each [`Connection::receive`].
    FailTask,
}

/// Which digests a side agrees to; among these the initiator's order of preference decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DigestOffer {
    #[default]
    None,
    /// Both; an initiator offers None first.
    NoneOrCrc32c,
    /// Both; an initiator offers CRC32C first.
    Crc32cOrNone,
    Crc32c,
}

impl DigestOffer {
    pub(crate) fn list(self) -> &'static [&'static str] {
        match self {
            Self::None => &["None"],
            Self::NoneOrCrc32c => &["None", "CRC32C"],
            Self::Crc32cOrNone => &["CRC32C", "None"],
            Self::Crc32c => &["CRC32C"],
        }
    }
}

/// What this node knows of targets and of who may use them: pure look-ups in a snapshot.
pub trait Directory {
    /// The targets that the initiator may see, for SendTargets. The name is in normal form.
    fn visible_targets(&self, initiator: &str) -> Vec<TargetRecord>;
    /// May the initiator log in to the target, or, with `None`, to a discovery session?
    fn authorize(&self, initiator: &str, target: Option<&str>) -> Authorization;
}

/// One target as SendTargets tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetRecord {
    pub name: String,
    /// Address (`192.0.2.1:3260`, `[2001:db8::1]:3260`) and portal group tag of each portal.
    pub portals: Vec<(String, u16)>,
}

/// The directory's judgement of a login.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// No such target, or none that this initiator may know of.
    NoSuchTarget,
    Forbidden,
    /// No authentication.
    Open,
    /// CHAP: the initiator proves the secret; the other way round too where it asks and `mutual`
    /// names the target's user and secret.
    Chap {
        user: String,
        secret: String,
        mutual: Option<(String, String)>,
    },
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchTarget => "NoSuchTarget",
            Self::Forbidden => "Forbidden",
            Self::Open => "Open",
            Self::Chap { .. } => "Chap(..)",
        })
    }
}

/// One task of one connection. A tag that is used again makes another task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TaskId {
    /// The initiator task tag.
    pub itt: u32,
    /// Counts the connection's tasks.
    pub serial: u32,
}

/// A command descriptor block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cdb {
    pub(crate) first: [u8; 16],
    /// The whole CDB where it is longer than 16 bytes.
    pub(crate) long: Option<Bytes>,
}

impl Deref for Cdb {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.long.as_deref().unwrap_or(&self.first)
    }
}

/// A command's data-out at the moment when the command is handed up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataOut {
    /// The command brings none.
    None,
    /// All of it came with the command.
    All(Vec<Bytes>),
    /// It is still to come. [`Connection::accept`] asks for it, [`Event::DataArrived`] brings it.
    Pending,
}

/// What the shell has to act on, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A login is complete but for the shell's word: [`Connection::session_ready`] or
    /// [`Connection::session_refused`]. Nothing is received until then.
    SessionOpening {
        /// In normal form.
        initiator: String,
        isid: [u8; 6],
        /// As the initiator sent it: 0 for a new session.
        tsih: u16,
        cid: u16,
        /// None: a discovery session.
        target: Option<String>,
    },
    /// A login was refused; the refusal is queued and [`Event::Close`] follows.
    LoginRefused { initiator: Option<String>, target: Option<String>, why: String },
    /// A SCSI command, in CmdSN order.
    Command {
        task: TaskId,
        /// The 8-byte SAM LUN, big-endian.
        lun: u64,
        cdb: Cdb,
        attribute: Attribute,
        read: bool,
        write: bool,
        /// Expected data transfer length: of the write part where there is one.
        expected_bytes: u32,
        data: DataOut,
    },
    /// All data-out of a [`DataOut::Pending`] command, in order, as pieces of receive buffers.
    /// It can come before the shell has called [`Connection::accept`], and after the shell has
    /// answered the task within the same batch of events; the shell ignores it then.
    DataArrived { task: TaskId, data: Vec<Bytes> },
    /// A task management function; answer with [`Connection::task_management_done`].
    TaskManagement {
        itt: u32,
        function: TmfFunction,
        lun: u64,
        /// For ABORT TASK: the task, unless it is not, or no more, known. It was live when the
        /// request was received: an answer to an event before this one may have ended it, see
        /// [`Connection::is_live`].
        referenced: Option<TaskId>,
    },
    /// The session or connection ends; answer with [`Connection::logout_done`] after its tasks
    /// have ended.
    Logout { itt: u32, reason: LogoutReason },
    /// Send what is queued, then close the socket.
    Close { why: String },
}

/// The end of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: Status,
    /// Encoded sense data; empty where there is none.
    pub sense: Bytes,
    /// Data-in, at most what the command asked for; cut here to the expected length.
    pub data: Vec<Bytes>,
    /// How many bytes of data-out the CDB asks for, for the residual; None: as many as expected.
    pub data_out_bytes: Option<u32>,
}

impl Answer {
    /// This status and nothing else.
    #[must_use]
    pub fn status(status: Status) -> Self {
        Self { status, sense: Bytes::new(), data: Vec::new(), data_out_bytes: None }
    }
    /// GOOD with data-in.
    #[must_use]
    pub fn good_with(data: Vec<Bytes>) -> Self {
        Self { data, ..Self::status(Status::Good) }
    }
    /// CHECK CONDITION with encoded sense data.
    #[must_use]
    pub fn check(sense: impl Into<Bytes>) -> Self {
        Self { sense: sense.into(), ..Self::status(Status::CheckCondition) }
    }
}

/// Who is logged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Initiator name in normal form.
    pub initiator: String,
    pub isid: [u8; 6],
    /// 0 until [`Connection::session_ready`].
    pub tsih: u16,
    pub cid: u16,
    /// None: a discovery session.
    pub target: Option<String>,
}

/// Why a connection must be dropped. What is queued for sending should still be sent: it may hold
/// a Reject that tells the initiator.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fatal {
    #[error(transparent)]
    Frame(#[from] crate::pdu::frame::FrameError),
    #[error(
        "a data digest does not match, and recovery level 0 knows no other cure than a new session"
    )]
    DataDigest,
    #[error("the first PDU of a connection was no Login Request")]
    LoginExpected,
    #[error("the initiator broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the connection was closed before")]
    Closed,
}
