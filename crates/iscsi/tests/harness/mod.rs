//! Both machines in one process, joined by byte pipes that are cut at random points, with a small
//! shell on the target's side that keeps blocks in memory.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iscsi::initiator::{self, Command, Data, Handle, Initiator, Options, Outcome};
use iscsi::target::{
    self, Answer, Authorization, Connection, DataOut, Directory, Settings, TargetRecord, TaskId,
    TmfFunction, TmfResponse,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use scsi::sense::Status;

pub(crate) const TARGET: &str = "iqn.2026-11.io.commonhold:volume-1";
pub(crate) const HOST: &str = "iqn.2026-11.io.commonhold:host-1";
pub(crate) const BLOCK: usize = 512;

/// What the node knows in these tests.
pub(crate) struct Book {
    pub(crate) authorization: Authorization,
    pub(crate) targets: Vec<TargetRecord>,
}

impl Directory for Book {
    fn visible_targets(&self, _: &str) -> Vec<TargetRecord> {
        self.targets.clone()
    }
    fn authorize(&self, initiator: &str, target: Option<&str>) -> Authorization {
        match target {
            _ if initiator != HOST => Authorization::Forbidden,
            Some(name) if name != TARGET => Authorization::NoSuchTarget,
            _ => self.authorization.clone(),
        }
    }
}

pub(crate) fn open_book() -> Book {
    let portals = vec![("192.0.2.1:3260".to_owned(), 1), ("[2001:db8::1]:3260".to_owned(), 2)];
    let targets = vec![TargetRecord { name: TARGET.to_owned(), portals }];
    Book { authorization: Authorization::Open, targets }
}

pub(crate) fn nonce(seed: u64) -> target::Nonce {
    let mut random = StdRng::seed_from_u64(seed);
    Box::new(move |bytes| random.fill(bytes))
}

pub(crate) fn connection(settings: Settings, seed: u64) -> Connection {
    let address = "192.0.2.1:3260".parse().unwrap();
    Connection::new(Arc::new(settings), address, address, nonce(seed))
}

/// A command that the shell has not answered.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) cdb: Vec<u8>,
    pub(crate) data: Vec<Bytes>,
}

pub(crate) struct World {
    pub(crate) target: Connection,
    pub(crate) initiator: Initiator,
    pub(crate) book: Book,
    pub(crate) random: StdRng,
    to_target: BytesMut,
    to_initiator: BytesMut,
    pub(crate) blocks: Vec<u8>,
    /// The shell answers commands by itself.
    pub(crate) answers: bool,
    /// The shell answers RESERVATION CONFLICT before the data is there.
    pub(crate) refuses: bool,
    pub(crate) open: BTreeMap<u32, (TaskId, Open)>,
    pub(crate) seen: Vec<initiator::Event>,
    pub(crate) target_seen: Vec<target::Event>,
    pub(crate) target_error: Option<target::Fatal>,
    pub(crate) initiator_error: Option<initiator::Fatal>,
    /// Bytes that went to the target; the one with this number is broken.
    pub(crate) sent: usize,
    pub(crate) broken: Option<usize>,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings, options: Options, book: Book) -> Self {
        Self {
            target: connection(settings, seed),
            initiator: Initiator::new(options, nonce(seed + 1)),
            book,
            random: StdRng::seed_from_u64(seed),
            to_target: BytesMut::new(),
            to_initiator: BytesMut::new(),
            blocks: vec![0; 4 << 20],
            answers: true,
            refuses: false,
            open: BTreeMap::new(),
            seen: Vec::new(),
            target_seen: Vec::new(),
            target_error: None,
            initiator_error: None,
            sent: 0,
            broken: None,
        }
    }

    /// Logged in, with default wishes.
    pub(crate) fn logged_in(seed: u64) -> Self {
        let mut world = Self::new(seed, Settings::default(), options(), open_book());
        world.run();
        assert!(world.target.session().is_some(), "{:?}", world.seen);
        world
    }

    /// Move bytes until nothing moves any more.
    pub(crate) fn run(&mut self) {
        loop {
            let down = self.initiator.outgoing();
            let chunk = piece(&mut self.random, down);
            let up = piece(&mut self.random, self.target.outgoing());
            if chunk.is_empty() && up.is_empty() {
                return;
            }
            let at = self.broken.filter(|at| (self.sent..self.sent + chunk.len()).contains(at));
            let start = self.to_target.len();
            self.to_target.extend_from_slice(&chunk);
            if let Some(at) = at {
                self.to_target[start + at - self.sent] ^= 0x10;
            }
            self.sent += chunk.len();
            self.to_initiator.extend_from_slice(&up);
            self.target_turn();
            let received = self.initiator.receive(&mut self.to_initiator, &mut self.seen);
            self.initiator_error = self.initiator_error.take().or(received.err());
        }
    }

    fn target_turn(&mut self) {
        let mut events = Vec::new();
        let received = self.target.receive(&mut self.to_target, &self.book, &mut events);
        self.target_error = self.target_error.take().or(received.err());
        for event in events {
            self.target_seen.push(event.clone());
            self.act(event);
        }
    }

    fn act(&mut self, event: target::Event) {
        match event {
            target::Event::SessionOpening { .. } => self.target.session_ready(7),
            target::Event::Command { task, cdb, data, .. } => {
                let parts = match data {
                    DataOut::None => Vec::new(),
                    DataOut::All(parts) => parts,
                    DataOut::Pending if self.refuses => {
                        self.target.respond(task, Answer::status(Status::ReservationConflict));
                        return;
                    }
                    DataOut::Pending => {
                        self.open
                            .insert(task.itt, (task, Open { cdb: cdb.to_vec(), data: vec![] }));
                        if self.answers {
                            self.target.accept(task);
                        }
                        return;
                    }
                };
                self.open.insert(task.itt, (task, Open { cdb: cdb.to_vec(), data: parts }));
                self.finish(task);
            }
            target::Event::DataArrived { task, data } => {
                if let Some((known, open)) = self.open.get_mut(&task.itt)
                    && *known == task
                {
                    open.data = data;
                    self.finish(task);
                }
            }
            target::Event::TaskManagement { itt, function, referenced, .. } => {
                self.manage(itt, function, referenced);
            }
            target::Event::Logout { itt, .. } => self.target.logout_done(itt),
            target::Event::LoginRefused { .. } | target::Event::Close { .. } => {}
        }
    }

    fn manage(&mut self, itt: u32, function: TmfFunction, referenced: Option<TaskId>) {
        let tasks: Vec<TaskId> = match function {
            TmfFunction::AbortTask => {
                referenced.into_iter().filter(|task| self.target.is_live(*task)).collect()
            }
            _ => self.target.tasks().collect(),
        };
        for task in &tasks {
            self.target.drop_task(*task);
            self.open.remove(&task.itt);
        }
        let response = match (function, tasks.is_empty()) {
            (TmfFunction::AbortTask, true) => TmfResponse::TaskDoesNotExist,
            _ => TmfResponse::Complete,
        };
        self.target.task_management_done(itt, response);
    }

    fn finish(&mut self, task: TaskId) {
        if self.answers {
            self.answer(task);
        }
    }

    /// Run the command that was left open.
    pub(crate) fn answer(&mut self, task: TaskId) {
        let Some((_, open)) = self.open.remove(&task.itt) else { return };
        let word = |at: usize| u32::from_be_bytes(open.cdb[at..at + 4].try_into().unwrap());
        let lba = word(2) as usize * BLOCK;
        let length = usize::from(u16::from_be_bytes([open.cdb[7], open.cdb[8]])) * BLOCK;
        let answer = match open.cdb[0] {
            0x28 => {
                let data = Bytes::copy_from_slice(&self.blocks[lba..lba + length]);
                // In two parts of odd size, to have the cutting at work.
                let middle = data.len() / 3;
                Answer::good_with(vec![data.slice(..middle), data.slice(middle..)])
            }
            0x2a => {
                let bytes: Vec<u8> = open.data.concat();
                let length = length.min(bytes.len());
                self.blocks[lba..lba + length].copy_from_slice(&bytes[..length]);
                let asked = usize::from(u16::from_be_bytes([open.cdb[7], open.cdb[8]])) * BLOCK;
                let data_out_bytes = Some(u32::try_from(asked).unwrap());
                Answer { data_out_bytes, ..Answer::status(Status::Good) }
            }
            0x03 => {
                Answer::check(vec![0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0])
            }
            _ => Answer::status(Status::Good),
        };
        self.target.respond(task, answer);
    }

    pub(crate) fn submit(&mut self, cdb: &[u8], data: Data) -> Handle {
        self.initiator.submit(Command::new(0, cdb, data))
    }

    /// The outcome of a task that has ended.
    pub(crate) fn outcome(&self, handle: Handle) -> Option<Outcome> {
        self.seen.iter().find_map(|event| match event {
            initiator::Event::Done { task, outcome } if *task == handle => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Hand the target a PDU that the initiator machine would not send.
    pub(crate) fn forge(&mut self, bytes: &[u8]) {
        self.to_target.extend_from_slice(bytes);
        self.target_turn();
        self.run();
    }

    pub(crate) fn tick(&mut self, seconds: u64) -> Vec<target::Event> {
        let mut events = Vec::new();
        self.target.tick(Duration::from_secs(seconds), &mut events);
        events
    }
}

/// Take a random number of bytes off the queue.
fn piece(random: &mut StdRng, queue: &mut std::collections::VecDeque<Bytes>) -> Vec<u8> {
    let total: usize = queue.iter().map(Bytes::len).sum();
    if total == 0 {
        return Vec::new();
    }
    let most = if random.random_bool(0.1) { 60 } else { 300_000 };
    let mut wanted = random.random_range(1..=total.min(most));
    let mut bytes = Vec::with_capacity(wanted);
    while wanted > 0 {
        let front = queue.front_mut().unwrap();
        let part = front.split_to(front.len().min(wanted));
        wanted -= part.len();
        bytes.extend_from_slice(&part);
        if front.is_empty() {
            queue.pop_front();
        }
    }
    bytes
}

pub(crate) fn options() -> Options {
    Options::new(HOST, Some(TARGET.to_owned()))
}

pub(crate) fn read10(lba: u32, blocks: u16) -> [u8; 10] {
    cdb10(0x28, lba, blocks)
}

pub(crate) fn write10(lba: u32, blocks: u16) -> [u8; 10] {
    cdb10(0x2a, lba, blocks)
}

fn cdb10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Random bytes in a few parts.
pub(crate) fn payload(random: &mut StdRng, bytes: usize) -> Vec<Bytes> {
    let mut data = vec![0; bytes];
    random.fill(&mut data[..]);
    let data = Bytes::from(data);
    let cut = random.random_range(0..=bytes);
    vec![data.slice(..cut), data.slice(cut..)]
}

/// One PDU as bytes, without digests.
pub(crate) fn wire(header: iscsi::pdu::Header, data: &[u8]) -> Vec<u8> {
    let mut outbox = iscsi::outbox::Outbox::default();
    outbox.push(header, &[], &[Bytes::copy_from_slice(data)]);
    outbox.pieces().iter().flat_map(|piece| piece.to_vec()).collect()
}
