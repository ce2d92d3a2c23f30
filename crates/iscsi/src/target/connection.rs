//! One TCP connection of the target: its phases, and the door for the shell.
//!
//! ```text
//!  Login --all agreed--> Opening --session_ready--> Full --logout_done--> Finished
//!    |                      |                         |
//!    +-------refused--------+---- session_refused     +---- Fatal -----> Finished
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::full::Full;
use super::login::{self, LOGIN_SEGMENT_BYTES, Login, Outcome};
use super::requests;
use super::{Answer, Directory, Event, Fatal, SessionInfo, Settings, TaskId, TmfResponse};
use crate::digest::Digests;
use crate::outbox::Outbox;
use crate::pdu::frame::{self, Rules, Taken};
use crate::pdu::login::LoginStatus;
use crate::pdu::logout::LogoutResult;
use crate::pdu::notice::AsyncEvent;

/// While so much waits that the shell has not looked at, no further PDU is taken: a short request
/// can have a long answer, and a receive buffer holds many requests.
const FRESH_BYTES_MAX: usize = 512 << 10;

/// Random bytes, for challenges.
pub type Nonce = Box<dyn FnMut(&mut [u8]) + Send>;

enum Phase {
    Login(Box<Login>),
    /// Waiting for the shell's word.
    Opening(Box<Login>),
    Full(Box<Full>),
    Finished {
        why: &'static str,
        /// The shell was told by [`Event::Close`].
        told: bool,
    },
}

/// Times, as far as ticks have told them.
#[derive(Default)]
struct Pulse {
    started: Option<Duration>,
    heard: Duration,
    pinged: Duration,
    /// Something was received since the last tick.
    active: bool,
}

/// One TCP connection of the target.
pub struct Connection {
    settings: Arc<Settings>,
    peer: SocketAddr,
    local: SocketAddr,
    nonce: Nonce,
    outbox: Outbox,
    rules: Rules,
    wanted: usize,
    paused: bool,
    phase: Phase,
    pulse: Pulse,
}

impl Connection {
    /// A connection that was just accepted. `nonce` fills a slice with unpredictable bytes.
    #[must_use]
    pub fn new(settings: Arc<Settings>, peer: SocketAddr, local: SocketAddr, nonce: Nonce) -> Self {
        let phase = Phase::Login(Box::new(Login::new(&settings)));
        let rules = Rules { digests: Digests::default(), data_bytes_max: LOGIN_SEGMENT_BYTES };
        let (outbox, pulse) = (Outbox::default(), Pulse::default());
        Self { settings, peer, local, nonce, outbox, rules, wanted: 0, paused: false, phase, pulse }
    }

    /// The initiator's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The portal's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Take whole PDUs off the receive buffer and append what they mean to `events`.
    ///
    /// Stops after [`Event::SessionOpening`]: call it again, even without new input, after the
    /// answer. Stops, too, when the answers grow: see [`Self::is_paused`].
    ///
    /// # Errors
    /// [`Fatal`]: send what is queued, then drop the connection.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        directory: &dyn Directory,
        events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        self.pulse.active = true;
        let result = self.receive_all(input, directory, events);
        if let Err(fatal) = &result
            && *fatal != Fatal::Closed
        {
            self.phase = Phase::Finished { why: "the connection was dropped", told: true };
        }
        result
    }

    fn receive_all(
        &mut self,
        input: &mut BytesMut,
        directory: &dyn Directory,
        events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        loop {
            match self.phase {
                Phase::Opening(_) => return Ok(()),
                Phase::Finished { .. } => {
                    input.clear();
                    return Err(Fatal::Closed);
                }
                Phase::Login(_) | Phase::Full(_) => {}
            }
            self.paused = self.outbox.fresh_bytes() > FRESH_BYTES_MAX;
            if self.paused {
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
            if let Phase::Full(full) = &mut self.phase {
                let (settings, outbox) = (&*self.settings, &mut self.outbox);
                full.take(
                    frame,
                    &mut requests::Surroundings { settings, directory, outbox, events },
                )?;
            } else {
                self.login(&frame, directory, events)?;
            }
            if matches!(self.phase, Phase::Finished { .. }) {
                return Ok(());
            }
        }
    }

    fn login(
        &mut self,
        frame: &frame::Frame,
        directory: &dyn Directory,
        events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        let Phase::Login(login) = &mut self.phase else { return Err(Fatal::Closed) };
        let (settings, nonce, outbox) = (&*self.settings, &mut self.nonce, &mut self.outbox);
        match login.step(frame, &mut login::Surroundings { settings, directory, nonce, outbox }) {
            Outcome::GoesOn => {}
            Outcome::NotLogin => return Err(Fatal::LoginExpected),
            Outcome::Refused { why } => {
                let session = login.session().cloned();
                let target = session.as_ref().and_then(|session| session.target.clone());
                let initiator = session.map(|session| session.initiator);
                events.push(Event::LoginRefused { initiator, target, why: why.clone() });
                events.push(Event::Close { why });
                self.phase = Phase::Finished { why: "the login was refused", told: true };
            }
            Outcome::Opening => {
                if let Some(session) = login.session().cloned() {
                    events.push(Event::SessionOpening {
                        initiator: session.initiator,
                        isid: session.isid,
                        tsih: session.tsih,
                        cid: session.cid,
                        target: session.target,
                    });
                }
                let closed = Phase::Finished { why: "", told: true };
                if let Phase::Login(login) = std::mem::replace(&mut self.phase, closed) {
                    self.phase = Phase::Opening(login);
                }
            }
        }
        Ok(())
    }

    /// How many more bytes the next PDU needs, as far as known; 0: unknown.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// PDUs were left in the receive buffer, because much waits to be sent: call
    /// [`Self::receive`] again, even without new input, once it is.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Bytes to send, oldest first; the shell takes off what it has written.
    pub fn outgoing(&mut self) -> &mut VecDeque<Bytes> {
        self.outbox.pieces()
    }

    /// Bytes that wait to be sent. A shell stops reading while this is large: an initiator that
    /// pings without reading the echoes would otherwise fill the memory.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Answer to [`Event::SessionOpening`]: the login succeeds, the session has this handle,
    /// which is not 0.
    pub fn session_ready(&mut self, tsih: u16) {
        let finished = Phase::Finished { why: "the login was lost", told: false };
        match std::mem::replace(&mut self.phase, finished) {
            Phase::Opening(login) => {
                let Some((session, parameters, numbers)) = login.open(tsih, &mut self.outbox)
                else {
                    return;
                };
                let digests = parameters.digests();
                self.outbox.set_digests(digests);
                let most = self.settings.max_recv_data_segment_bytes;
                self.rules.digests = digests;
                self.rules.data_bytes_max = usize::try_from(most).unwrap_or(usize::MAX);
                let full = Full::new(session, parameters, numbers, &self.settings);
                self.phase = Phase::Full(Box::new(full));
            }
            other => self.phase = other,
        }
    }

    /// Answer to [`Event::SessionOpening`]: the login fails with this status class and detail.
    pub fn session_refused(&mut self, class_detail: (u8, u8)) {
        if let Phase::Opening(login) = &mut self.phase {
            login.refuse(LoginStatus(class_detail.0, class_detail.1), &mut self.outbox);
            self.phase = Phase::Finished { why: "the session was refused", told: false };
        }
    }

    /// A [`super::DataOut::Pending`] command passed the first check: ask for all its data.
    pub fn accept(&mut self, task: TaskId) {
        // All that was expected had been handed up already if it were complete.
        let _ = self.accept_up_to(task, u32::MAX);
    }

    /// The same, but for the first `bytes` only: what the CDB asks for, where that is less than
    /// the initiator expects to send. Gives the data when it is here already; otherwise
    /// [`Event::DataArrived`] brings it. It may be longer than asked for.
    #[must_use]
    pub fn accept_up_to(&mut self, task: TaskId, bytes: u32) -> Option<Vec<Bytes>> {
        let Phase::Full(full) = &mut self.phase else { return None };
        full.accept(task, bytes, &mut self.outbox)
    }

    /// End a command. Ignored for a task that is not live.
    pub fn respond(&mut self, task: TaskId, answer: Answer) {
        if let Phase::Full(full) = &mut self.phase {
            full.respond(task, answer, &mut self.outbox);
        }
    }

    /// Forget an aborted task: it gets no answer, and data that still comes for it is swallowed.
    pub fn drop_task(&mut self, task: TaskId) {
        if let Phase::Full(full) = &mut self.phase {
            full.remove(task);
        }
    }

    /// How much data-out of a [`super::DataOut::Pending`] command is here, and whether more is on
    /// its way that was not asked for.
    #[must_use]
    pub fn unasked(&self, task: TaskId) -> (u32, bool) {
        let Phase::Full(full) = &self.phase else { return (0, false) };
        let live = full.tasks.get(&task.itt).filter(|live| live.id == task);
        live.and_then(|live| live.inbound.as_ref()).map_or((0, false), |inbound| inbound.unasked())
    }

    /// Answer to [`Event::TaskManagement`].
    pub fn task_management_done(&mut self, itt: u32, response: TmfResponse) {
        if let Phase::Full(full) = &mut self.phase {
            full.managing = full.managing.saturating_sub(1);
            full.task_management_done(itt, response, &mut self.outbox);
        }
    }

    /// Answer to [`Event::Logout`]. The connection is finished once this is sent.
    pub fn logout_done(&mut self, itt: u32) {
        if let Phase::Full(full) = &mut self.phase {
            full.logout_response(itt, LogoutResult::Closed, &mut self.outbox);
            self.phase = Phase::Finished { why: "the initiator logged out", told: false };
        }
    }

    /// Ask the initiator to log out within so many seconds (a planned detach).
    pub fn request_logout(&mut self, seconds: u16) {
        if let Phase::Full(full) = &mut self.phase {
            full.announce(AsyncEvent::RequestLogout, [0, 0, seconds], &mut self.outbox);
        }
    }

    /// Tell the initiator that the connection, or the whole session, is about to be dropped.
    pub fn announce_drop(&mut self, whole_session: bool) {
        if let Phase::Full(full) = &mut self.phase {
            let cid = full.session.cid;
            let (wait, retain) = (self.settings.time2wait_s, self.settings.time2retain_s);
            let (event, first) = match whole_session {
                true => (AsyncEvent::DropSession, 0),
                false => (AsyncEvent::DropConnection, cid),
            };
            full.announce(event, [first, wait, retain], &mut self.outbox);
        }
    }

    /// Time passes: `now` is on any monotonic clock. Pings a silent initiator, ends a login that
    /// takes too long, and repeats what [`Self::finished`] says as an event.
    pub fn tick(&mut self, now: Duration, events: &mut Vec<Event>) {
        let started = *self.pulse.started.get_or_insert(now);
        if std::mem::take(&mut self.pulse.active) || self.pulse.heard < started {
            self.pulse.heard = now;
        }
        let late = match &mut self.phase {
            Phase::Login(_) if now.saturating_sub(started) > self.settings.login_limit => {
                Some("the login took too long")
            }
            Phase::Full(full) if full.ping.is_some() => {
                let silent = now.saturating_sub(self.pulse.pinged.max(self.pulse.heard));
                (silent > self.settings.ping_limit).then_some("the initiator answers no ping")
            }
            Phase::Full(full) => {
                let silent = now.saturating_sub(self.pulse.heard);
                if !self.settings.ping_interval.is_zero() && silent >= self.settings.ping_interval {
                    self.pulse.pinged = now;
                    full.ping(&mut self.outbox);
                }
                None
            }
            _ => None,
        };
        if let Some(why) = late {
            self.phase = Phase::Finished { why, told: false };
        }
        if let Phase::Finished { why, told: told @ false } = &mut self.phase {
            *told = true;
            events.push(Event::Close { why: (*why).to_owned() });
        }
    }

    /// Not answered and not dropped yet.
    #[must_use]
    pub fn is_live(&self, task: TaskId) -> bool {
        match &self.phase {
            Phase::Full(full) => full.tasks.get(&task.itt).is_some_and(|live| live.id == task),
            _ => false,
        }
    }

    /// Tasks that this side ended by itself since the last call, because their data-out came out
    /// of order: the initiator has its answer, the shell forgets them. Empty unless the settings
    /// say [`super::Disorder::FailTask`].
    #[must_use]
    pub fn failed_tasks(&mut self) -> Vec<TaskId> {
        match &mut self.phase {
            Phase::Full(full) => std::mem::take(&mut full.failed),
            _ => Vec::new(),
        }
    }

    /// The live tasks.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        let full = match &self.phase {
            Phase::Full(full) => Some(full),
            _ => None,
        };
        full.into_iter().flat_map(|full| full.tasks.values().map(|task| task.id))
    }

    /// Who is logged in; None before the login is complete.
    #[must_use]
    pub fn session(&self) -> Option<&SessionInfo> {
        match &self.phase {
            Phase::Full(full) => Some(&full.session),
            _ => None,
        }
    }

    /// What was negotiated; None before the login is complete.
    #[must_use]
    pub fn parameters(&self) -> Option<&crate::keys::Parameters> {
        match &self.phase {
            Phase::Full(full) => Some(&full.parameters),
            _ => None,
        }
    }

    /// True once nothing but sending the rest and closing is left.
    #[must_use]
    pub fn finished(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. })
    }
}
