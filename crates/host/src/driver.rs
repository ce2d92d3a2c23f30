//! The one task that owns a session's socket and machine.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use env::Random;
use iscsi::initiator::{Command, Event, Handle, Initiator, Options, Outcome};
use iscsi::keys::Parameters;
use iscsi::keys::text::Pair;
use iscsi::pdu::logout::LogoutReason;
use iscsi::pdu::notice::AsyncMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{HostError, TmfFunction, TmfResponse};

/// Room for one read: several small PDUs, or a good part of a large one.
const READ_BYTES: usize = 256 << 10;
/// Pieces in one vectored write.
const PIECES_MAX: usize = 64;

/// Requests that are taken at once, so that their PDUs leave in one write.
const BATCH_MAX: usize = 64;

type Reply<T> = oneshot::Sender<T>;
type Ended = Result<Outcome, HostError>;

/// What handles ask for.
pub(crate) enum Request {
    Command {
        command: Command,
        started: Reply<Handle>,
        reply: Reply<Ended>,
    },
    Release {
        task: Handle,
    },
    TaskManagement {
        function: TmfFunction,
        lun: u64,
        referenced: Option<Handle>,
        reply: Reply<TmfResponse>,
    },
    SendTargets {
        value: &'static str,
        reply: Reply<Result<Vec<Pair>, HostError>>,
    },
    Ping {
        data: Bytes,
        reply: Reply<Bytes>,
    },
    Logout {
        reason: LogoutReason,
        reply: Reply<()>,
    },
    Cut,
}

type Opened = Result<(u16, Parameters), HostError>;

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    commands: HashMap<Handle, Reply<Ended>>,
    functions: HashMap<u32, Reply<TmfResponse>>,
    texts: HashMap<u32, Reply<Result<Vec<Pair>, HostError>>>,
    pings: HashMap<u32, Reply<Bytes>>,
    logouts: Vec<Reply<()>>,
    opened: Option<Reply<Opened>>,
}

pub(crate) struct Driver {
    stream: TcpStream,
    machine: Initiator,
    inbox: mpsc::Receiver<Request>,
    notices: broadcast::Sender<AsyncMessage>,
    waiting: Waiting,
}

impl Driver {
    pub(crate) fn new(
        stream: TcpStream,
        options: Options,
        inbox: mpsc::Receiver<Request>,
        notices: broadcast::Sender<AsyncMessage>,
        opened: Reply<Opened>,
    ) -> Self {
        let machine = Initiator::new(options, Box::new(|bytes| env::OsRandom.fill(bytes)));
        let waiting = Waiting { opened: Some(opened), ..Waiting::default() };
        Self { stream, machine, inbox, notices, waiting }
    }

    /// Until the session ends or nobody holds a handle. Then everyone who waits is told.
    pub(crate) async fn run(self) {
        let Self { stream, mut machine, mut inbox, notices, mut waiting } = self;
        let why = drive(stream, &mut machine, &mut inbox, &notices, &mut waiting).await;
        // One that is on its way into the inbox would stay there, and its sender would wait for an
        // answer as long as anybody holds a handle.
        inbox.close();
        while inbox.recv().await.is_some() {}
        for (_, reply) in waiting.commands.drain() {
            let _ = reply.send(Err(HostError::Lost(why.clone())));
        }
        if let Some(opened) = waiting.opened.take() {
            let _ = opened.send(Err(HostError::Lost(why)));
        }
    }
}

/// Returns why it ended.
async fn drive(
    stream: TcpStream,
    machine: &mut Initiator,
    inbox: &mut mpsc::Receiver<Request>,
    notices: &broadcast::Sender<AsyncMessage>,
    waiting: &mut Waiting,
) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let (mut input, mut events, mut batch) = (BytesMut::new(), Vec::new(), Vec::new());
    loop {
        input.reserve(machine.wanted().max(READ_BYTES));
        let pieces = machine.outgoing();
        let sends = !pieces.is_empty();
        tokio::select! {
            read = reader.read_buf(&mut input) => match read {
                Ok(0) => return "the target closed it".to_owned(),
                Ok(_) => {
                    let received = machine.receive(&mut input, &mut events);
                    for event in events.drain(..) {
                        waiting.tell(event, notices);
                    }
                    if let Err(fatal) = received {
                        return fatal.to_string();
                    }
                    if machine.finished() {
                        return "the session was closed".to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            },
            written = write_some(&mut writer, pieces), if sends => {
                if let Err(error) = written {
                    return error.to_string();
                }
            }
            count = inbox.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    return "nobody holds a handle".to_owned();
                }
                for request in batch.drain(..) {
                    if let Request::Cut = request {
                        // What is in the socket's buffer must not be sent either.
                        let _ = writer.as_ref().set_zero_linger();
                        return "it was cut".to_owned();
                    }
                    waiting.apply(request, machine);
                }
            }
        }
    }
}

/// One vectored write; takes what was written off the queue. Safe to cancel: nothing is written
/// before the call that also ends it.
async fn write_some(writer: &mut OwnedWriteHalf, pieces: &mut VecDeque<Bytes>) -> io::Result<()> {
    let slices: Vec<IoSlice<'_>> =
        pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
    let mut written = writer.write_vectored(&slices).await?;
    while let Some(front) = pieces.front_mut() {
        if written < front.len() {
            front.advance(written);
            break;
        }
        written -= front.len();
        pieces.pop_front();
    }
    Ok(())
}

// A caller that has gone away wants no answer, so failed sends below mean nothing.
impl Waiting {
    fn apply(&mut self, request: Request, machine: &mut Initiator) {
        match request {
            Request::Command { command, started, reply } => {
                let handle = machine.submit(command);
                self.commands.insert(handle, reply);
                let _ = started.send(handle);
            }
            Request::Release { task } => machine.release(task),
            Request::TaskManagement { function, lun, referenced, reply } => {
                if let Some(itt) = machine.task_management(function, lun, referenced) {
                    self.functions.insert(itt, reply);
                }
            }
            Request::SendTargets { value, reply } => match machine.send_targets(value) {
                Some(itt) => {
                    self.texts.insert(itt, reply);
                }
                None => {
                    let why = "another text request is under way".to_owned();
                    let _ = reply.send(Err(HostError::Lost(why)));
                }
            },
            Request::Ping { data, reply } => {
                if let Some(itt) = machine.ping(data) {
                    self.pings.insert(itt, reply);
                }
            }
            Request::Logout { reason, reply } => {
                if machine.logout(reason) {
                    self.logouts.push(reply);
                }
            }
            Request::Cut => {}
        }
    }

    fn tell(&mut self, event: Event, notices: &broadcast::Sender<AsyncMessage>) {
        match event {
            Event::LoggedIn { tsih, parameters } => {
                self.opened.take().map(|reply| reply.send(Ok((tsih, parameters))));
            }
            Event::LoginFailed { status, why } => {
                let refused = HostError::LoginRefused { class: status.0, detail: status.1, why };
                self.opened.take().map(|reply| reply.send(Err(refused)));
            }
            Event::Done { task, outcome } => self.end(task, Ok(outcome)),
            Event::Aborted { task } => self.end(task, Err(HostError::Aborted)),
            Event::TaskManagementDone { itt, response } => {
                self.functions.remove(&itt).map(|reply| reply.send(response));
            }
            Event::Text { itt, pairs } => {
                self.texts.remove(&itt).map(|reply| reply.send(Ok(pairs)));
            }
            Event::Pong { itt, data } => {
                self.pings.remove(&itt).map(|reply| reply.send(data));
            }
            Event::Notice { message, .. } => {
                let _ = notices.send(message);
            }
            Event::Rejected { reason, header, task } => {
                if let Some(task) = task {
                    self.end(task, Err(HostError::Rejected(reason as u8)));
                } else if let Some(header) = header {
                    // Dropping the reply tells the caller that there will be no answer.
                    let itt = header.itt();
                    self.functions.remove(&itt);
                    self.pings.remove(&itt);
                    if let Some(reply) = self.texts.remove(&itt) {
                        let _ = reply.send(Err(HostError::Rejected(reason as u8)));
                    }
                }
            }
            Event::LoggedOut { .. } => {
                for reply in self.logouts.drain(..) {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn end(&mut self, task: Handle, ended: Ended) {
        if let Some(reply) = self.commands.remove(&task) {
            let _ = reply.send(ended);
        }
    }
}
