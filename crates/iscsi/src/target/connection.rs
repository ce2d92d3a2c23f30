//! One TCP connection of the target.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Answer, Directory, Event, Fatal, SessionInfo, Settings, TaskId, TmfResponse};
use crate::outbox::Outbox;

/// Random bytes, for challenges.
pub type Nonce = Box<dyn FnMut(&mut [u8]) + Send>;

/// One TCP connection of the target.
pub struct Connection {
    settings: Arc<Settings>,
    outbox: Outbox,
    session: Option<SessionInfo>,
}

impl Connection {
    /// A connection that was just accepted. `nonce` fills a slice with unpredictable bytes.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        _peer: SocketAddr,
        _local: SocketAddr,
        _nonce: Nonce,
    ) -> Self {
        Self { settings, outbox: Outbox::default(), session: None }
    }
    /// Take whole PDUs off the receive buffer and append what they mean to `events`.
    ///
    /// # Errors
    /// [`Fatal`]: send what is queued, then drop the connection.
    pub fn receive(
        &mut self,
        _input: &mut BytesMut,
        _directory: &dyn Directory,
        _events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        Err(Fatal::Closed)
    }
    /// How many more bytes the next PDU needs, as far as known; 0: unknown.
    #[must_use]
    pub fn wanted(&self) -> usize {
        0
    }
    /// Bytes to send, oldest first; the shell takes off what it has written.
    pub fn outgoing(&mut self) -> &mut VecDeque<Bytes> {
        self.outbox.pieces()
    }
    /// Answer to [`Event::SessionOpening`]: the login succeeds, the session has this handle.
    pub fn session_ready(&mut self, _tsih: u16) {}
    /// Answer to [`Event::SessionOpening`]: the login fails with this status class and detail.
    pub fn session_refused(&mut self, _class_detail: (u8, u8)) {}
    /// A [`super::DataOut::Pending`] command passed the first check: ask for its data.
    pub fn accept(&mut self, task: TaskId) {
        self.accept_up_to(task, u32::MAX);
    }
    /// The same, but for the first `bytes` only: what the CDB asks for, where that is less than
    /// the initiator expects to send.
    pub fn accept_up_to(&mut self, _task: TaskId, _bytes: u32) {}
    /// End a command. Ignored for a task that is not live.
    pub fn respond(&mut self, _task: TaskId, _answer: Answer) {}
    /// Forget an aborted task: it gets no answer, and data that still comes for it is swallowed.
    pub fn drop_task(&mut self, _task: TaskId) {}
    /// Answer to [`Event::TaskManagement`].
    pub fn task_management_done(&mut self, _itt: u32, _response: TmfResponse) {}
    /// Answer to [`Event::Logout`]. The connection is finished once this is sent.
    pub fn logout_done(&mut self, _itt: u32) {}
    /// Ask the initiator to log out within so many seconds (a planned detach).
    pub fn request_logout(&mut self, _seconds: u16) {}
    /// Tell the initiator that the connection, or the whole session, is about to be dropped.
    pub fn announce_drop(&mut self, _whole_session: bool) {}
    /// Time passes: `now` is on any monotonic clock. Pings, login limit.
    pub fn tick(&mut self, _now: Duration, _events: &mut Vec<Event>) {
        let _ = self.settings.login_limit;
    }
    /// The live tasks.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        std::iter::empty()
    }
    /// Who is logged in; None before the login is complete.
    #[must_use]
    pub fn session(&self) -> Option<&SessionInfo> {
        self.session.as_ref()
    }
    /// True once nothing but sending the rest and closing is left.
    #[must_use]
    pub fn finished(&self) -> bool {
        false
    }
}
