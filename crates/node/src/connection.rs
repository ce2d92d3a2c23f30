//! The shell around one TCP connection of the target: bytes to the iSCSI machine and back, its
//! events to the logical unit, the unit's answers to the machine.
//!
//! One task owns all of it: the machine, the running commands, the parked ones that wait for
//! their data-out. Others reach it by [`Signal`]s alone.
//!
//! Invariant: when [`serve`] returns, nothing of this connection runs or will run; only then is
//! the receiving end of its signals dropped, which is what a fence waits for.

mod memory;
mod tasks;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, future::LocalBoxFuture};
use iscsi::target::{Answer, Connection, DataOut, Event, TaskId, TmfResponse};
use model::order::{Access, Notice};
use scsi::command::{Command, Step, Transfer};
use scsi::conflict::Conflict;
use scsi::nexus::{InitiatorPort, ItNexus};
use scsi::sense::{Response, Status};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::book::target_name;
use crate::door::{Place, Turned};
use crate::facts::{BLOCK_BYTES, TARGET_PORT};
use crate::gate::{Fate, Pass};
use crate::metrics::Kind;
use crate::nexus::{NexusState, SessionLink, Signal};
use crate::node::Shared;
use crate::purse::Purse;
use crate::run::{self, Job, Outcome};
use crate::unit::LogicalUnit;
use crate::wire::Wire;
use crate::worker::Worker;

/// Room for one read from the socket; large PDUs ask for more.
const READ_BYTES: usize = 64 << 10;
/// Pieces in one vectored write.
const PIECES_MAX: usize = 64;
/// Login status: out of resources (RFC 7143 11.13.5).
const OUT_OF_RESOURCES: (u8, u8) = (0x03, 0x02);
/// How often the machine looks at its timers.
const TICK: Duration = Duration::from_secs(1);

/// The session of a connection in full feature phase, normal sessions only.
struct Session {
    unit: Arc<LogicalUnit>,
    nexus: Arc<NexusState>,
    initiator: String,
    tsih: u16,
    /// The operator was told that it opened, so is told that it closes.
    opened: bool,
}

/// A command that waits for its data-out, or for memory.
struct Parked {
    command: Command,
    conflict: Conflict,
    transfer: Transfer,
    pass: Pass,
    arrived: Duration,
    /// What came with it.
    data: DataOut,
    held: memory::Held,
    /// The memory that it holds and since when; none while it waits for some.
    charge: Option<(u64, Duration)>,
}

/// What a running future ends with.
enum Ended {
    Command {
        task: TaskId,
        pass: Pass,
        outcome: Option<Outcome>,
        transfer: Transfer,
        end: End,
        charge: u64,
    },
    TaskManagement {
        itt: u32,
        response: TmfResponse,
        then_close: bool,
    },
    Logout {
        itt: u32,
    },
}

/// For the figures.
struct End {
    kind: Kind,
    arrived: Duration,
}

/// ABORT TASK: answered when the task has ended.
struct Abort {
    itt: u32,
    task: TaskId,
}

struct Shell<W> {
    wire: W,
    peer: SocketAddr,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    machine: Connection,
    input: BytesMut,
    session: Option<Session>,
    parked: HashMap<TaskId, Parked>,
    running: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    /// Tasks that run, and whether ABORT TASK named them.
    live: HashMap<TaskId, run::Named>,
    aborts: Vec<Abort>,
    signal_to_me: mpsc::UnboundedSender<Signal>,
    place: Place,
    purse: Purse,
    memory: memory::Memory,
    /// Set when the connection is to end once everything is sent.
    closing: Option<String>,
}

/// A connection that was let in: its place, and both ends of its signals.
pub(crate) struct Guest {
    pub place: Place,
    pub signal_to_me: mpsc::UnboundedSender<Signal>,
    pub signals: mpsc::UnboundedReceiver<Signal>,
}

/// Serve a connection that a portal accepted until it ends.
pub(crate) async fn serve_tcp(
    stream: std::net::TcpStream,
    guest: Guest,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
) {
    match stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) {
        Ok(stream) => serve(stream, guest, worker, shared).await,
        Err(error) => tracing::debug!(%error, "a connection was gone before it began"),
    }
}

/// Serve a connection until it ends.
pub(crate) async fn serve(wire: impl Wire, guest: Guest, worker: Rc<Worker>, shared: Arc<Shared>) {
    let Guest { place, signal_to_me, signals } = guest;
    match Shell::new(wire, worker, shared, (place, signal_to_me)) {
        Ok(mut shell) => {
            let mut signals = signals;
            let why = shell.run(&mut signals).await;
            shell.clean_up(&why).await;
            drop(signals);
        }
        Err(error) => tracing::debug!(%error, "a connection was gone before it began"),
    }
}

impl<W: Wire> Shell<W> {
    fn new(
        wire: W,
        worker: Rc<Worker>,
        shared: Arc<Shared>,
        (place, signal_to_me): (Place, mpsc::UnboundedSender<Signal>),
    ) -> io::Result<Self> {
        let (peer, local) = wire.ends()?;
        let random = Arc::clone(&shared.world.random);
        let nonce = Box::new(move |bytes: &mut [u8]| random.fill(bytes));
        let settings = Arc::new(shared.settings.iscsi.clone());
        Ok(Self {
            purse: Purse::open(&worker.desk, signal_to_me.clone()),
            machine: Connection::new(settings, peer, local, nonce),
            wire,
            peer,
            worker,
            shared,
            input: BytesMut::new(),
            session: None,
            place,
            memory: memory::Memory::default(),
            parked: HashMap::new(),
            running: FuturesUnordered::new(),
            live: HashMap::new(),
            aborts: Vec::new(),
            signal_to_me,
            closing: None,
        })
    }

    /// Until the connection is to end; gives the reason.
    async fn run(&mut self, signals: &mut mpsc::UnboundedReceiver<Signal>) -> String {
        let first = tokio::time::sleep(to_next_tick(self.shared.world.clock.now())).deadline();
        let mut ticks = tokio::time::interval_at(first, TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut events = Vec::new();
        loop {
            let unsent = match self.send() {
                Ok(unsent) => unsent,
                Err(error) => return format!("sending failed: {error}"),
            };
            if unsent == 0
                && let Some(why) = self.closing.take()
            {
                return why;
            }
            let reads = self.reads_on(unsent);
            let result = tokio::select! {
                biased;
                Some(signal) = signals.recv() => self.heed(signal),
                Some(ended) = self.running.next(), if !self.running.is_empty() => {
                    self.finish(ended);
                    // All that are ready go out with one write.
                    while let Some(Some(ended)) = self.running.next().now_or_never() {
                        self.finish(ended);
                    }
                    Ok(())
                }
                // Before reading: who sends without end must not stop the clock.
                _ = ticks.tick() => self.tick(unsent, &mut events).await,
                ready = self.wire.writable(), if unsent > 0 => ready.map_err(lost),
                // What was left in the buffer needs no word from the socket.
                () = std::future::ready(()), if reads && self.machine.is_paused() => {
                    match self.parse(&mut events) {
                        Ok(()) => self.attend(&mut events).await,
                        Err(why) => Err(why),
                    }
                }
                ready = self.wire.readable(), if reads => {
                    match ready.map_err(lost).and_then(|()| self.receive(&mut events)) {
                        Ok(()) => self.attend(&mut events).await,
                        Err(why) => Err(why),
                    }
                }
            };
            if let Err(why) = result {
                // What was queued (a reject, a login refusal) is still worth a try.
                let _ = self.send();
                return why;
            }
        }
    }

    async fn tick(&mut self, unsent: usize, events: &mut Vec<Event>) -> Result<(), String> {
        if self.sits_on_memory(unsent) {
            self.shared.door.turn_away(Turned::Idle, &self.peer);
            return Err("it sat on memory that others waited for".into());
        }
        if self.input.is_empty() {
            // A session that rests keeps no buffer.
            self.input = BytesMut::new();
        }
        if !self.is_stalled() {
            self.machine.tick(self.shared.world.clock.now(), events);
        }
        self.handle(events).await
    }

    /// Send what the socket takes; gives the bytes that wait.
    fn send(&mut self) -> io::Result<usize> {
        let queue = self.machine.outgoing();
        while !queue.is_empty() {
            let pieces: Vec<IoSlice<'_>> =
                queue.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
            match self.wire.try_write(&pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(mut sent) => {
                    self.memory.sent += sent as u64;
                    while sent > 0 {
                        let first = queue.front_mut().expect("what was sent was queued");
                        if sent < first.len() {
                            let _ = first.split_to(sent);
                            break;
                        }
                        sent -= first.len();
                        queue.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(queue.iter().map(Bytes::len).sum::<usize>().max(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Read what is there and let the machine look at it.
    fn receive(&mut self, events: &mut Vec<Event>) -> Result<(), String> {
        if self.input.capacity() == 0 {
            self.input = BytesMut::with_capacity(READ_BYTES);
        }
        self.input.reserve(self.machine.wanted().clamp(READ_BYTES / 4, 1 << 20));
        match self.wire.try_read(&mut self.input) {
            Ok(0) => Err("the initiator closed the connection".into()),
            Ok(_) => self.parse(events),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    fn parse(&mut self, events: &mut Vec<Event>) -> Result<(), String> {
        let parsed = self.machine.receive(&mut self.input, &*self.shared.book, events);
        parsed.map_err(|fatal| fatal.to_string())
    }

    /// Act on the events, and on what was read behind a login: the machine takes nothing in while
    /// a session opens, and the socket may have no more to tell.
    async fn attend(&mut self, events: &mut Vec<Event>) -> Result<(), String> {
        let opening =
            |events: &[Event]| events.iter().any(|e| matches!(e, Event::SessionOpening { .. }));
        while opening(events) {
            self.handle(events).await?;
            self.parse(events)?;
        }
        self.handle(events).await
    }

    async fn handle(&mut self, events: &mut Vec<Event>) -> Result<(), String> {
        for event in events.drain(..) {
            match event {
                Event::SessionOpening { initiator, isid, target, .. } => {
                    self.open_session(initiator, isid, target).await;
                }
                Event::LoginRefused { initiator, target, why } => {
                    let (iqn, target) = (initiator.unwrap_or_default(), target.unwrap_or_default());
                    if self.shared.door.tells_refused_login(self.peer.ip()) {
                        let from = self.peer.to_string();
                        self.shared.notices.send(Notice::LoginRefused { iqn, target, from, why });
                    }
                }
                Event::Command { task, lun, cdb, data, expected_bytes, .. } => {
                    self.command(task, lun, &cdb, (expected_bytes, data));
                }
                Event::DataArrived { task, data } => self.data_arrived(task, data),
                Event::TaskManagement { itt, function, lun, referenced } => {
                    self.task_management(itt, function, lun, referenced);
                }
                Event::Logout { itt, .. } => self.log_out(itt),
                Event::Close { why } => self.closing = Some(why),
            }
        }
        // Those whose data-out came out of order are answered already; nothing of them runs.
        for task in self.machine.failed_tasks() {
            self.forget_parked(task);
        }
        Ok(())
    }

    // ---- the session ----

    async fn open_session(&mut self, initiator: String, isid: [u8; 6], target: Option<String>) {
        let tsih = self.shared.next_tsih();
        let Some(target) = target else {
            // Discovery proves nothing about who asks: it keeps the place of a login.
            self.machine.session_ready(tsih);
            return;
        };
        let Some((unit, access)) = self.shared.book.find(&initiator, &target) else {
            self.machine.session_refused((0x02, 0x03));
            return;
        };
        let port = InitiatorPort::iscsi(&initiator, isid);
        let nexus = ItNexus { initiator: port, target: TARGET_PORT };
        let link = SessionLink { tsih, signals: self.signal_to_me.clone() };
        let Some((state, former)) = unit.enter(&nexus, &access, link) else {
            self.shared.door.turn_away(Turned::Ports, &initiator);
            self.machine.session_refused(OUT_OF_RESOURCES);
            return;
        };
        let (known, name) = (Arc::clone(&unit), initiator.clone());
        self.session =
            Some(Session { unit: known, nexus: state, initiator: name, tsih, opened: false });
        if let Some(former) = former {
            // Session reinstatement (RFC 7143 6.3.5): the old one ends first, all of it.
            former.close("the initiator opened the session anew").await;
        }
        if !self.is_seated() {
            return;
        }
        // A detach or fence first strikes the access from the book, then looks for sessions: so
        // either it finds this one, or the access is gone here.
        let still = self.shared.book.find(&initiator, &target);
        if still.is_none_or(|(now, terms)| !Arc::ptr_eq(&now, &unit) || terms != access) {
            self.machine.session_refused((0x02, 0x02));
            self.closing = Some("the host was cut off while it logged in".into());
            return;
        }
        self.machine.session_ready(tsih);
        if let Some(session) = &mut self.session {
            session.opened = true;
        }
        self.tell_opened(&access, initiator);
    }

    /// There is a seat for this session; otherwise the login is refused.
    fn is_seated(&mut self) -> bool {
        let seated = self.place.seat();
        if !seated {
            self.shared.door.turn_away(Turned::Sessions, &self.peer);
            self.machine.session_refused(OUT_OF_RESOURCES);
            self.closing = Some("no more sessions are allowed".into());
        }
        seated
    }

    /// Logout ends the session's tasks (RFC 7143 11.14); it is answered when none runs any more.
    fn log_out(&mut self, itt: u32) {
        let draining = self.session.as_ref().map(|session| session.nexus.gate.close(Fate::Silent));
        self.drop_parked();
        self.running.push(
            async move {
                if let Some(draining) = draining {
                    draining.wait().await;
                }
                Ended::Logout { itt }
            }
            .boxed_local(),
        );
    }

    fn tell_opened(&self, access: &Access, iqn: String) {
        self.shared.notices.send(Notice::SessionOpened {
            volume: access.volume,
            host: access.host,
            iqn,
            from: self.peer.to_string(),
        });
    }

    fn heed(&mut self, signal: Signal) -> Result<(), String> {
        match signal {
            Signal::Aborted => {
                self.drop_parked();
                Ok(())
            }
            Signal::RequestLogout { seconds } => {
                self.machine.request_logout(seconds);
                Ok(())
            }
            Signal::MemoryGranted => {
                self.memory_granted();
                Ok(())
            }
            Signal::Close { why } => Err(why.to_owned()),
        }
    }

    // ---- commands ----

    fn command(&mut self, task: TaskId, lun: u64, cdb: &[u8], expected: (u32, DataOut)) {
        let arrived = self.shared.world.clock.now();
        let Some(session) = &self.session else {
            // A discovery session has no logical units (RFC 7143 4.3).
            self.answer(task, scsi::logical_unit::judge_missing(cdb, &[]).into(), 0);
            return;
        };
        if lun != 0 {
            self.answer(task, scsi::logical_unit::judge_missing(cdb, &[0]).into(), 0);
            return;
        }
        session.nexus.figures.begin();
        let pass = session.nexus.gate.pass();
        match session.unit.admit(&session.nexus, cdb) {
            Step::Done(response) => {
                if response.status == Status::ReservationConflict {
                    session.nexus.figures.conflict();
                }
                let end = End { kind: Kind::Other, arrived };
                self.count(&end, &response, 0);
                self.answer(task, response.into(), 0);
            }
            Step::Run { command, transfer, conflict } => {
                let (expected_bytes, data) = expected;
                let command = match command.limited_to(expected_bytes, BLOCK_BYTES) {
                    Ok(command) => command,
                    Err(sense) => {
                        let response = Response::check(sense);
                        self.count(&End { kind: Kind::Other, arrived }, &response, 0);
                        self.answer(task, response.into(), transfer.data_out_bytes);
                        return;
                    }
                };
                let (held, charge) = (memory::Held::default(), None);
                let parked =
                    Parked { command, conflict, transfer, pass, arrived, data, held, charge };
                self.admit(task, parked);
            }
        }
    }

    fn data_arrived(&mut self, task: TaskId, data: Vec<Bytes>) {
        match self.parked.get(&task).map(|parked| parked.charge.is_some()) {
            Some(true) => {
                if let Some(parked) = self.parked.remove(&task) {
                    self.start(task, parked, data);
                }
            }
            Some(false) => self.keep_for_later(task, data),
            None => {}
        }
    }

    fn start(&mut self, task: TaskId, parked: Parked, data: Vec<Bytes>) {
        let Some(session) = &self.session else { return };
        let Parked { command, conflict, transfer, pass, arrived, charge, .. } = parked;
        let charge = charge.map_or(0, |(bytes, _)| bytes);
        let end = End { kind: run::kind_of(&command), arrived };
        let named = run::Named::default();
        let mut job = Job {
            unit: Arc::clone(&session.unit),
            nexus: Arc::clone(&session.nexus),
            pass,
            command,
            conflict,
            data,
            named: Rc::clone(&named),
        };
        let io = Rc::clone(&self.worker.io);
        let mut command = async move {
            let outcome = run::submit(&mut job, io).await;
            Ended::Command { task, pass: job.pass, outcome, transfer, end, charge }
        }
        .boxed_local();
        // What the page cache serves is done by now, and is spared the way through the queue.
        match (&mut command).now_or_never() {
            Some(ended) => self.finish(ended),
            None => {
                self.live.insert(task, named);
                self.running.push(command);
            }
        }
    }

    fn finish(&mut self, ended: Ended) {
        match ended {
            Ended::Logout { itt } => {
                self.machine.logout_done(itt);
                self.closing = Some("the initiator logged out".into());
            }
            Ended::TaskManagement { itt, response, then_close } => {
                self.machine.task_management_done(itt, response);
                if then_close {
                    self.closing = Some("the target was reset".into());
                }
            }
            Ended::Command { task, pass, outcome, transfer, end, charge } => {
                let named = self.live.remove(&task).is_some_and(|named| named.get());
                let fate = if named { Some(Fate::Silent) } else { pass.fate() };
                match (outcome, fate) {
                    (Some(outcome), None | Some(Fate::Sanitizing)) => {
                        let data_in: usize = outcome.data.iter().map(Bytes::len).sum();
                        self.purse.ended(charge, data_in as u64);
                        let bytes = data_in as u64 + u64::from(transfer.data_out_bytes);
                        self.count(&end, &outcome.response, bytes);
                        self.answer(task, outcome, transfer.data_out_bytes);
                    }
                    _ => {
                        self.purse.give(charge);
                        self.count(&end, &Response::good(), 0);
                        self.end_aborted(task, fate);
                    }
                }
                self.answer_aborts(task);
            }
        }
    }

    fn count(&self, end: &End, response: &Response, bytes: u64) {
        let Some(session) = &self.session else { return };
        let figures = &session.nexus.figures;
        let took = self.shared.world.clock.now().saturating_sub(end.arrived);
        figures.end(end.kind, bytes, took);
        let attention =
            |sense: &scsi::sense::Sense| sense.key == scsi::sense::SenseKey::UnitAttention;
        if response.status == Status::CheckCondition
            && !response.sense.as_ref().is_some_and(attention)
        {
            figures.error();
        }
    }

    fn answer(&mut self, task: TaskId, outcome: Outcome, data_out_bytes: u32) {
        let descriptor =
            self.session.as_ref().is_some_and(|session| session.unit.facts().descriptor_sense);
        let sense = outcome.response.sense.map(|sense| sense.encode(descriptor));
        self.machine.respond(
            task,
            Answer {
                status: outcome.response.status,
                sense: sense.unwrap_or_default().into(),
                data: outcome.data,
                data_out_bytes: Some(data_out_bytes),
            },
        );
    }

    fn end_aborted(&mut self, task: TaskId, fate: Option<Fate>) {
        let response = match fate {
            Some(Fate::TaskAborted) => Response { status: Status::TaskAborted, ..Response::good() },
            Some(Fate::Sanitizing) => crate::sanitize::in_progress(),
            Some(Fate::Silent) | None => return self.machine.drop_task(task),
        };
        self.answer(task, response.into(), 0);
    }

    /// Commands that wait for data and whose pass is void will never run.
    fn drop_parked(&mut self) {
        let is_void = |(_, parked): &(&TaskId, &Parked)| parked.pass.is_void();
        let mut void: Vec<TaskId> =
            self.parked.iter().filter(is_void).map(|(task, _)| *task).collect();
        // In the order of their arrival, so that a simulated run can be repeated.
        void.sort_unstable_by_key(|task| task.serial);
        for task in void {
            let Some(parked) = self.unpark(task) else { continue };
            let end = End { kind: Kind::Other, arrived: parked.arrived };
            self.count(&end, &Response::good(), 0);
            self.end_aborted(task, parked.pass.fate());
        }
    }

    // ---- the end ----

    /// Nexus loss: nothing that arrived runs any more, SPC-2 reservations go, registrations stay.
    async fn clean_up(mut self, why: &str) {
        let Some(session) = self.session.take() else {
            tracing::debug!(peer = %self.peer, why, "a connection ended");
            return;
        };
        let draining = session.nexus.gate.close(Fate::Silent);
        for _ in self.parked.values() {
            session.nexus.figures.end(Kind::Other, 0, Duration::ZERO);
        }
        while let Some(ended) = self.running.next().await {
            if let Ended::Command { end, .. } = ended {
                session.nexus.figures.end(end.kind, 0, Duration::ZERO);
            }
        }
        draining.wait().await;
        session.unit.drop_legacy(Some(&session.nexus.nexus)).await;
        session.nexus.attend(scsi::unit_attention::UnitAttention::NexusLoss);
        session.nexus.end_session(session.tsih);
        let access = &session.nexus.access;
        if !self.shared.book.is_admitted(access.volume, access.attachment) {
            session.unit.forget(access.attachment);
        }
        if !session.opened {
            return;
        }
        self.shared.notices.send(Notice::SessionClosed {
            volume: session.unit.id,
            host: session.nexus.access.host,
            iqn: session.initiator,
            why: why.to_owned(),
        });
        tracing::debug!(target = %target_name(session.unit.id), why, "a session ended");
    }
}

/// All connections tick at the same moments, so that a thousand idle ones wake their worker once
/// and not a thousand times.
fn to_next_tick(now: Duration) -> Duration {
    TICK - Duration::from_nanos(u64::from(now.subsec_nanos()))
}

fn lost(error: io::Error) -> String {
    format!("the connection was lost: {error}")
}
