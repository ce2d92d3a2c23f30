//! An initiator's session over the simulated network: the initiator machine and its driver.
//!
//! Entry point: [`Session::open`]. A paused session neither reads nor writes, as a host whose
//! virtual machine is stopped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use iscsi::initiator::{Command, Event, Handle, Initiator, Options, Outcome};
use iscsi::pdu::logout::LogoutReason;
use iscsi::target::{TmfFunction, TmfResponse};
use node::wire::Wire;
use tokio::sync::{Notify, oneshot};

use crate::network::{End, Stream};

/// How a command ended for the host.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    Answered(Outcome),
    /// By a task management function of this session.
    Aborted,
    /// The session ended before an answer came.
    Lost,
}

struct State {
    machine: RefCell<Initiator>,
    wire: End,
    stream: Stream,
    commands: RefCell<BTreeMap<u32, oneshot::Sender<Ended>>>,
    functions: RefCell<BTreeMap<u32, oneshot::Sender<TmfResponse>>>,
    opened: RefCell<Option<oneshot::Sender<bool>>>,
    closed: Cell<bool>,
    paused: Cell<bool>,
    kick: Notify,
    over: Notify,
}

/// A logged-in session. Clones are the same session.
#[derive(Clone)]
pub struct Session(Rc<State>);

/// A command that was sent.
pub struct Pending {
    handle: Handle,
    ended: oneshot::Receiver<Ended>,
}

impl Pending {
    /// Returns when the command has ended, one way or another.
    pub async fn ended(self) -> Ended {
        self.ended.await.unwrap_or(Ended::Lost)
    }
}

impl Session {
    /// Log in; `None` when the target refuses, or is gone. Runs on the caller's `LocalSet`.
    pub async fn open(wire: End, stream: Stream, options: Options) -> Option<Self> {
        let machine = Initiator::new(options, Box::new(|bytes| bytes.fill(7)));
        let (opened, ready) = oneshot::channel();
        let session = Self(Rc::new(State {
            machine: RefCell::new(machine),
            wire,
            stream,
            commands: RefCell::default(),
            functions: RefCell::default(),
            opened: RefCell::new(Some(opened)),
            closed: Cell::new(false),
            paused: Cell::new(false),
            kick: Notify::new(),
            over: Notify::new(),
        }));
        let driven = session.clone();
        tokio::task::spawn_local(async move { driven.drive().await });
        ready.await.unwrap_or(false).then_some(session)
    }

    /// Send a command.
    #[must_use]
    pub fn start(&self, command: Command) -> Pending {
        let (ending, ended) = oneshot::channel();
        let handle = self.0.machine.borrow_mut().submit(command);
        if !self.0.closed.get() {
            self.0.commands.borrow_mut().insert(handle.0, ending);
        }
        self.0.kick.notify_one();
        Pending { handle, ended }
    }

    /// Send the data-out that a command withholds.
    pub fn release(&self, pending: &Pending) {
        self.0.machine.borrow_mut().release(pending.handle);
        self.0.kick.notify_one();
    }

    /// Send a task management function; `None` when the session ends before its answer.
    pub async fn manage(&self, function: TmfFunction) -> Option<TmfResponse> {
        let (ending, ended) = oneshot::channel();
        let itt = self.0.machine.borrow_mut().task_management(function, 0, None)?;
        if !self.0.closed.get() {
            self.0.functions.borrow_mut().insert(itt, ending);
        }
        self.0.kick.notify_one();
        ended.await.ok()
    }

    /// Log out and wait for the end.
    pub async fn log_out(&self) {
        let over = self.0.over.notified();
        self.0.machine.borrow_mut().logout(LogoutReason::CloseSession);
        self.0.kick.notify_one();
        if !self.0.closed.get() {
            over.await;
        }
    }

    /// Stop, or go on: nothing is read or written meanwhile.
    pub fn pause(&self, paused: bool) {
        self.0.paused.set(paused);
        self.0.kick.notify_one();
    }

    /// The network's hold on the session's stream.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.0.stream
    }

    /// Nothing will come any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    async fn drive(&self) {
        let state = &*self.0;
        // Whatever it fails with, everyone who waits learns that nothing more will come.
        let _ = self.run().await;
        state.closed.set(true);
        state.commands.borrow_mut().clear();
        state.functions.borrow_mut().clear();
        state.opened.borrow_mut().take();
        state.over.notify_waiters();
    }

    async fn run(&self) -> io::Result<()> {
        let state = &*self.0;
        let (mut input, mut events) = (BytesMut::new(), Vec::new());
        loop {
            if state.paused.get() {
                state.kick.notified().await;
                continue;
            }
            let unsent = self.send()?;
            tokio::select! {
                biased;
                () = state.kick.notified() => {}
                ready = state.wire.readable() => {
                    ready?;
                    if state.paused.get() {
                        continue;
                    }
                    input.reserve(64 << 10);
                    if state.wire.try_read(&mut input)? == 0 {
                        return Ok(());
                    }
                    let received = state.machine.borrow_mut().receive(&mut input, &mut events);
                    events.drain(..).for_each(|event| self.tell(event));
                    received.map_err(io::Error::other)?;
                    if state.machine.borrow().finished() {
                        return Ok(());
                    }
                }
                ready = state.wire.writable(), if unsent => ready?,
            }
        }
    }

    /// True when something is left to send.
    fn send(&self) -> io::Result<bool> {
        let mut machine = self.0.machine.borrow_mut();
        let queue = machine.outgoing();
        while !queue.is_empty() {
            let pieces: Vec<IoSlice<'_>> =
                queue.iter().take(32).map(|piece| IoSlice::new(piece)).collect();
            match self.0.wire.try_write(&pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
                Ok(mut sent) => {
                    while let Some(first) = queue.front_mut() {
                        let now = sent.min(first.len());
                        first.advance(now);
                        sent -= now;
                        if !first.is_empty() {
                            break;
                        }
                        queue.pop_front();
                    }
                }
            }
        }
        Ok(false)
    }

    fn tell(&self, event: Event) {
        let state = &*self.0;
        let end = |task: Handle, ended: Ended| {
            if let Some(waits) = state.commands.borrow_mut().remove(&task.0) {
                // Who does not wait any more needs no answer.
                let _ = waits.send(ended);
            }
        };
        match event {
            Event::LoggedIn { .. } => {
                state.opened.borrow_mut().take().map(|opened| opened.send(true));
            }
            Event::LoginFailed { .. } => {
                state.opened.borrow_mut().take().map(|opened| opened.send(false));
            }
            Event::Done { task, outcome } => end(task, Ended::Answered(outcome)),
            Event::Aborted { task } => end(task, Ended::Aborted),
            Event::TaskManagementDone { itt, response } => {
                let waits = state.functions.borrow_mut().remove(&itt);
                waits.map(|waits| waits.send(response));
            }
            _ => {}
        }
    }
}

/// Data-out of one piece.
#[must_use]
pub fn data_out(bytes: impl Into<Bytes>) -> iscsi::initiator::Data {
    iscsi::initiator::Data::Out(vec![bytes.into()])
}
