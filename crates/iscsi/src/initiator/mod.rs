//! The initiator's side of one TCP connection: a session of one connection.
//!
//! Entry point: [`Initiator`]. [`Initiator::new`] queues the first Login Request;
//! [`Event::LoggedIn`] opens the way for commands, any number at once: those that do not fit into
//! the target's command window wait inside.
//!
//! Invariant: a task that was handed in comes back exactly once, as [`Event::Done`],
//! [`Event::Aborted`] or [`Event::Rejected`], unless the connection ends before.

mod full;
mod login;
mod tasks;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::chap::Algorithm;
use crate::digest::Digests;
use crate::keys::text::Pair;
use crate::keys::{Offer, Parameters, TextError};
use crate::outbox::Outbox;
use crate::pdu::command::Attribute;
use crate::pdu::frame::{self, FrameError, Rules, Taken};
use crate::pdu::login::LoginStatus;
use crate::pdu::logout::{LogoutReason, LogoutResult};
use crate::pdu::notice::{AsyncMessage, RejectReason};
use crate::pdu::task_management::{TmfFunction, TmfResponse};
use crate::pdu::{Header, Residual};
use crate::target::DigestOffer;

pub use tasks::Handle;

/// A CHAP name and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

/// Who logs in to what, and with which wishes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub initiator: String,
    /// Together with the name it makes the initiator port.
    pub isid: [u8; 6],
    pub cid: u16,
    /// None: a discovery session.
    pub target: Option<String>,
    /// What we prove ourselves with.
    pub chap: Option<Credentials>,
    /// What the target has to prove: its name and secret. Needs `chap`.
    pub mutual: Option<Credentials>,
    /// Offered in this order. Some targets take the number of SHA-256 for SHA-1, so that against
    /// them MD5 must stand alone or first.
    pub chap_algorithms: Vec<Algorithm>,
    /// Start in the operational stage. A target that wants CHAP must refuse that.
    pub skip_security: bool,
    pub header_digest: DigestOffer,
    pub data_digest: DigestOffer,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_recv_data_segment_bytes: u32,
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    pub max_outstanding_r2t: u16,
    /// Most bytes of one text answer, over all its continuations.
    pub text_bytes_max: usize,
}

impl Options {
    /// A login of `initiator` to `target` (None: discovery) with the widest wishes.
    #[must_use]
    pub fn new(initiator: impl Into<String>, target: Option<String>) -> Self {
        Self {
            initiator: initiator.into(),
            // Format 'random' of RFC 7143 11.12.5, qualifier 1: callers that need several
            // sessions, or one that survives as the same port, set their own.
            isid: [0x80, 0, 0, 0, 0, 1],
            cid: 0,
            target,
            chap: None,
            mutual: None,
            chap_algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            skip_security: false,
            header_digest: DigestOffer::NoneOrCrc32c,
            data_digest: DigestOffer::NoneOrCrc32c,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_bytes: 256 << 10,
            max_burst_bytes: 8 << 20,
            first_burst_bytes: 256 << 10,
            max_outstanding_r2t: 8,
            text_bytes_max: 16 << 20,
        }
    }

    fn offer(&self) -> Offer {
        Offer {
            header_digest: self.header_digest.list(),
            data_digest: self.data_digest.list(),
            initial_r2t: self.initial_r2t,
            immediate_data: self.immediate_data,
            max_recv_bytes: self.max_recv_data_segment_bytes,
            max_burst_bytes: self.max_burst_bytes,
            first_burst_bytes: self.first_burst_bytes.min(self.max_burst_bytes),
            max_outstanding_r2t: self.max_outstanding_r2t,
            time2wait_s: 0,
            time2retain_s: 0,
        }
    }
}

/// The data of a command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Data {
    #[default]
    None,
    /// Expect up to so many bytes.
    In(u32),
    /// Send these bytes.
    Out(Vec<Bytes>),
}

/// A command to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub lun: u64,
    /// 6 to 260 bytes.
    pub cdb: Bytes,
    pub data: Data,
    pub attribute: Attribute,
    /// For tests of faults: send no data-out, not even when asked, until [`Initiator::release`].
    pub withhold: bool,
}

impl Command {
    #[must_use]
    pub fn new(lun: u64, cdb: &[u8], data: Data) -> Self {
        let cdb = Bytes::copy_from_slice(cdb);
        Self { lun, cdb, data, attribute: Attribute::Simple, withhold: false }
    }
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// iSCSI response code: 0 unless the target failed.
    pub response: u8,
    /// SCSI status code.
    pub status: u8,
    /// Sense data without its length.
    pub sense: Bytes,
    /// Data-in, in order.
    pub data: Vec<Bytes>,
    pub residual: Residual,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    LoggedIn {
        tsih: u16,
        parameters: Parameters,
    },
    /// The connection is of no use any more.
    LoginFailed {
        status: LoginStatus,
        why: String,
    },
    Done {
        task: Handle,
        outcome: Outcome,
    },
    /// The task was ended by a task management function.
    Aborted {
        task: Handle,
    },
    TaskManagementDone {
        itt: u32,
        response: TmfResponse,
    },
    Text {
        itt: u32,
        pairs: Vec<Pair>,
    },
    Pong {
        itt: u32,
        data: Bytes,
    },
    Notice {
        message: AsyncMessage,
        data: Bytes,
    },
    Rejected {
        reason: RejectReason,
        header: Option<Header>,
        task: Option<Handle>,
    },
    LoggedOut {
        result: LogoutResult,
    },
}

/// Why the connection must be dropped.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Fatal {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a data digest does not match")]
    DataDigest,
    #[error("the target broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the target's text cannot be used: {0}")]
    Text(#[from] TextError),
}

enum Phase {
    Login(Box<login::Login>),
    Full(Box<full::Full>),
    Finished,
}

/// One connection of an initiator.
pub struct Initiator {
    outbox: Outbox,
    rules: Rules,
    wanted: usize,
    phase: Phase,
    options: Options,
    /// Commands and requests handed in before the login is complete.
    early: VecDeque<(Handle, Command)>,
    next_itt: u32,
}

impl Initiator {
    /// Start a login. `nonce` fills a slice with unpredictable bytes.
    #[must_use]
    pub fn new(options: Options, nonce: crate::target::Nonce) -> Self {
        let mut outbox = Outbox::default();
        let login = login::Login::start(&options, nonce, &mut outbox);
        let rules = Rules { digests: Digests::default(), data_bytes_max: login::SEGMENT_BYTES };
        let phase = Phase::Login(Box::new(login));
        Self { outbox, rules, wanted: 0, phase, options, early: VecDeque::new(), next_itt: 1 }
    }

    /// Take whole PDUs off the receive buffer and append what they mean.
    ///
    /// # Errors
    /// [`Fatal`]: drop the connection.
    pub fn receive(&mut self, input: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), Fatal> {
        let result = self.receive_all(input, events);
        if result.is_err() {
            self.phase = Phase::Finished;
        }
        result
    }

    fn receive_all(&mut self, input: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), Fatal> {
        loop {
            if let Phase::Finished = self.phase {
                input.clear();
                return Ok(());
            }
            let frame = match frame::take(input, self.rules)? {
                Taken::Whole(frame) => frame,
                Taken::Missing(bytes) => {
                    self.wanted = bytes;
                    return Ok(());
                }
            };
            self.wanted = 0;
            if !frame.data_intact {
                return Err(Fatal::DataDigest);
            }
            match &mut self.phase {
                Phase::Login(login) => match login.step(&frame, &self.options, &mut self.outbox)? {
                    login::Outcome::GoesOn => {}
                    login::Outcome::Failed { status, why } => {
                        events.push(Event::LoginFailed { status, why });
                        self.phase = Phase::Finished;
                    }
                    login::Outcome::Done(done) => self.open(done, events),
                },
                Phase::Full(full) => {
                    if full.take(frame, &mut self.outbox, events)? {
                        self.phase = Phase::Finished;
                    }
                }
                Phase::Finished => {}
            }
        }
    }

    fn open(&mut self, done: login::Done, events: &mut Vec<Event>) {
        let digests = done.parameters.digests();
        self.outbox.set_digests(digests);
        let most = self.options.max_recv_data_segment_bytes;
        self.rules = Rules { digests, data_bytes_max: usize::try_from(most).unwrap_or(usize::MAX) };
        events.push(Event::LoggedIn { tsih: done.tsih, parameters: done.parameters });
        let mut full = full::Full::new(&done, self.options.cid, self.options.text_bytes_max);
        for (handle, command) in self.early.drain(..) {
            full.submit(handle, command, &mut self.outbox);
        }
        self.phase = Phase::Full(Box::new(full));
    }

    /// How many more bytes the next PDU needs, as far as known; 0: unknown.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Bytes to send, oldest first; the shell takes off what it has written.
    pub fn outgoing(&mut self) -> &mut VecDeque<Bytes> {
        self.outbox.pieces()
    }

    /// Send a command, or keep it until the login and the window allow it.
    pub fn submit(&mut self, command: Command) -> Handle {
        let handle = Handle(self.tag());
        match &mut self.phase {
            Phase::Full(full) => full.submit(handle, command, &mut self.outbox),
            _ => self.early.push_back((handle, command)),
        }
        handle
    }

    /// Send the data-out of a command that withholds it, as far as it was asked for.
    pub fn release(&mut self, task: Handle) {
        if let Phase::Full(full) = &mut self.phase {
            full.release(task, &mut self.outbox);
        }
    }

    /// Send a task management function. None before the login is complete.
    pub fn task_management(
        &mut self,
        function: TmfFunction,
        lun: u64,
        referenced: Option<Handle>,
    ) -> Option<u32> {
        let itt = self.tag();
        let Phase::Full(full) = &mut self.phase else { return None };
        full.task_management(itt, function, lun, referenced, &mut self.outbox);
        Some(itt)
    }

    /// Ask for targets: `All` in a discovery session, a name, or nothing for one's own target.
    /// None before the login is complete or while another text request is under way.
    pub fn send_targets(&mut self, value: &str) -> Option<u32> {
        let itt = self.tag();
        let Phase::Full(full) = &mut self.phase else { return None };
        full.text(itt, &[("SendTargets", value)], &mut self.outbox).then_some(itt)
    }

    /// Ping the target. None before the login is complete.
    pub fn ping(&mut self, data: Bytes) -> Option<u32> {
        let itt = self.tag();
        let Phase::Full(full) = &mut self.phase else { return None };
        full.ping(itt, data, &mut self.outbox);
        Some(itt)
    }

    /// Log out; [`Event::LoggedOut`] follows. False before the login is complete.
    pub fn logout(&mut self, reason: LogoutReason) -> bool {
        let itt = self.tag();
        let Phase::Full(full) = &mut self.phase else { return false };
        full.logout(itt, reason, &mut self.outbox);
        true
    }

    /// Nothing more will come: the login failed, the session was closed, or the protocol broken.
    #[must_use]
    pub fn finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    fn tag(&mut self) -> u32 {
        let tag = self.next_itt;
        // Tags wrap after four thousand million requests; a task of that age is long over.
        self.next_itt = if tag >= u32::MAX - 1 { 1 } else { tag + 1 };
        tag
    }
}
