//! Random histories of opens, share reservations, locks and leases against a reference that knows
//! nothing of how the state is kept: it remembers what each owner asked for, and asks every byte.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use model::file::FileId;
use nfs::handle::{FileSystemId, Form, Handle};
use nfs::v4::Status;
use nfs::v4::state::{
    Channel, Claim, Config, Denied, Exchange, LockOwner, LockRequest, OpenRequest, Opened,
    Principal, SequenceRequest, Sequenced, State,
};
use nfs::v4::types::{SessionId, Stateid};
use proptest::prelude::*;

const LEASE_MS: u64 = 1000;
const COURTESY_MS: u64 = 5000;
const CLIENTS: u8 = 3;
const OWNERS: u8 = 2;
const FILES: u8 = 2;
/// Places that locks can be at; the last stands for all from there on.
const BYTES: u8 = 6;

/// Of a client, by an owner, of a file. Owners of opens and of locks have names of their own.
type Who = (u8, u8, u8);

#[derive(Clone, Debug)]
enum Step {
    Open {
        who: Who,
        access: u32,
        deny: u32,
    },
    Downgrade {
        who: Who,
        access: u32,
        deny: u32,
    },
    Close {
        who: Who,
    },
    /// By a lock owner, through an open of `open` when it has no lock of the file yet.
    Lock {
        who: Who,
        open: u8,
        first: u8,
        last: u8,
        write: bool,
    },
    Unlock {
        who: Who,
        first: u8,
        last: u8,
    },
    TestLock {
        who: Who,
        first: u8,
        last: u8,
        write: bool,
    },
    Free {
        who: Who,
    },
    /// Through an open, or a lock.
    Read {
        who: Who,
        by_lock: bool,
    },
    Write {
        who: Who,
        by_lock: bool,
    },
    /// Time passes, and clients whose bit is set have said something at its end.
    Wait {
        ms: u64,
        heard: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0..CLIENTS, 0..OWNERS, 0..FILES);
    let range = || (0..BYTES, 0..BYTES).prop_map(|(one, two)| (one.min(two), one.max(two)));
    let deny = || prop_oneof![3 => Just(0u32), 2 => 1u32..4];
    let step = prop_oneof![
        5 => (who(), 1u32..4, deny()).prop_map(|(who, access, deny)| {
            Step::Open { who, access, deny }
        }),
        2 => (who(), 1u32..4, deny()).prop_map(|(who, access, deny)| {
            Step::Downgrade { who, access, deny }
        }),
        2 => who().prop_map(|who| Step::Close { who }),
        5 => (who(), 0..OWNERS, range(), any::<bool>())
            .prop_map(|(who, open, (first, last), write)| {
                Step::Lock { who, open, first, last, write }
            }),
        3 => (who(), range()).prop_map(|(who, (first, last))| Step::Unlock { who, first, last }),
        1 => (who(), range(), any::<bool>()).prop_map(|(who, (first, last), write)| {
            Step::TestLock { who, first, last, write }
        }),
        1 => who().prop_map(|who| Step::Free { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, by_lock)| Step::Read { who, by_lock }),
        1 => (who(), any::<bool>()).prop_map(|(who, by_lock)| Step::Write { who, by_lock }),
        2 => (0..LEASE_MS * 2, 0u8..8).prop_map(|(ms, heard)| Step::Wait { ms, heard }),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone)]
struct ModelOpen {
    /// Every access and every deny mode that it was opened with and not narrowed below.
    accesses: Vec<u32>,
    denies: Vec<u32>,
    access: u32,
    deny: u32,
}

#[derive(Clone)]
struct ModelLock {
    /// The owner of the open that it was first made through.
    open: u8,
    bytes: [Option<bool>; BYTES as usize],
}

/// The reference.
#[derive(Default)]
struct Model {
    now_ms: u64,
    heard_ms: [u64; CLIENTS as usize],
    opens: BTreeMap<Who, ModelOpen>,
    locks: BTreeMap<Who, ModelLock>,
}

/// What comes of a step: who had to go for it, or why it is not done.
type Found = Result<Vec<u8>, Status>;

impl Model {
    fn is_silent(&self, client: u8) -> bool {
        self.now_ms - self.heard_ms[usize::from(client)] > LEASE_MS
    }
    fn drop_client(&mut self, client: u8) {
        self.opens.retain(|who, _| who.0 != client);
        self.locks.retain(|who, _| who.0 != client);
    }
    /// Those in the way go when they are all silent.
    fn clear(&mut self, mut clients: Vec<u8>, refused: Status) -> Found {
        if clients.iter().any(|client| !self.is_silent(*client)) {
            return Err(refused);
        }
        clients.sort_unstable();
        clients.dedup();
        clients.iter().for_each(|client| self.drop_client(*client));
        Ok(clients)
    }
    fn open(&mut self, who: Who, access: u32, deny: u32) -> Found {
        let stands = self.opens.iter().filter(|(other, open)| {
            other.2 == who.2 && (open.access & deny != 0 || open.deny & access != 0)
        });
        let clients = stands.map(|(other, _)| other.0).collect();
        let gone = self.clear(clients, Status::ShareDenied)?;
        let none = ModelOpen { accesses: vec![], denies: vec![], access: 0, deny: 0 };
        let open = self.opens.entry(who).or_insert(none);
        open.accesses.push(access);
        open.denies.push(deny);
        open.access |= access;
        open.deny |= deny;
        Ok(gone)
    }
    fn downgrade(&mut self, who: Who, access: u32, deny: u32) -> Result<(), Status> {
        let open = self.opens.get_mut(&who).unwrap();
        // Each has to be what some of the opens asked for together.
        let within = |value: u32, parts: &[u32]| -> Vec<u32> {
            parts.iter().copied().filter(|part| part & !value == 0).collect()
        };
        let (accesses, denies) = (within(access, &open.accesses), within(deny, &open.denies));
        let is_union = |value: u32, parts: &[u32]| {
            !parts.is_empty() && parts.iter().fold(0, |all, part| all | part) == value
        };
        if !is_union(access, &accesses) || !is_union(deny, &denies) {
            return Err(Status::Inval);
        }
        *open = ModelOpen { accesses, denies, access, deny };
        Ok(())
    }
    fn close(&mut self, who: Who) {
        self.opens.remove(&who);
        self.locks.retain(|lock, held| (lock.0, lock.2, held.open) != (who.0, who.2, who.1));
    }
    fn in_the_way(&self, who: Who, (first, last): (u8, u8), write: bool) -> Vec<u8> {
        let stands = self.locks.iter().filter(|(other, lock)| {
            let held = &lock.bytes[usize::from(first)..=usize::from(last)];
            **other != who
                && other.2 == who.2
                && held.iter().flatten().any(|writes| *writes || write)
        });
        stands.map(|(other, _)| other.0).collect()
    }
    fn lock(&mut self, who: Who, open: u8, range: (u8, u8), write: bool) -> Found {
        let through = self.locks.get(&who).map_or(open, |lock| lock.open);
        let access = self.opens[&(who.0, through, who.2)].access;
        if access & if write { 2 } else { 1 } == 0 {
            return Err(Status::OpenMode);
        }
        let gone = self.clear(self.in_the_way(who, range, write), Status::Denied)?;
        let none = ModelLock { open, bytes: [None; BYTES as usize] };
        self.locks.entry(who).or_insert(none).bytes[usize::from(range.0)..=usize::from(range.1)]
            .fill(Some(write));
        Ok(gone)
    }
}

/// The state under test, and what its clients hold in hand.
struct Run {
    state: State,
    model: Model,
    /// Number, session and the last sequence of each client.
    clients: Vec<(u32, SessionId, u32)>,
    verifier: u8,
    opens: BTreeMap<Who, Stateid>,
    locks: BTreeMap<Who, Stateid>,
    /// How often the store was told to hold each file, less how often to let go of it.
    holds: BTreeMap<Handle, u64>,
}

fn name(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[number])
}

fn file(number: u8) -> Handle {
    let file = FileId { tree: 0, inode: number.into(), generation: 1 };
    Handle { form: Form::File, file_system: FileSystemId([1; 16]), file }
}

/// First and last byte of places.
fn bytes((first, last): (u8, u8)) -> (u64, u64) {
    (first.into(), if last == BYTES - 1 { u64::MAX } else { last.into() })
}

impl Run {
    fn new() -> Self {
        let config = Config {
            lease_ms: LEASE_MS,
            grace_ms: LEASE_MS,
            courtesy_ms: COURTESY_MS,
            ..Config::default()
        };
        let state = State::new(config, 7, Vec::new(), 0);
        let (opens, locks) = (BTreeMap::new(), BTreeMap::new());
        let (clients, model) = (Vec::new(), Model::default());
        let holds = BTreeMap::new();
        let mut run = Self { state, model, clients, verifier: 0, opens, locks, holds };
        for client in 0..CLIENTS {
            let known = run.connect(client);
            run.clients.push(known);
        }
        run
    }
    fn connect(&mut self, client: u8) -> (u32, SessionId, u32) {
        self.verifier = self.verifier.wrapping_add(1);
        let (principal, now_ms) = (Principal::Uid(0), self.model.now_ms);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (owner, verifier) = (name(client), [self.verifier; 8]);
        let exchange = Exchange { owner, verifier, principal, address, update: false };
        let reply = self.state.exchange_id(&exchange, now_ms).unwrap();
        let channel = Channel {
            header_pad_bytes: 0,
            request_bytes_max: 4096,
            reply_bytes_max: 4096,
            cached_bytes_max: 1024,
            operations_max: 8,
            requests_max: 1,
            rdma_ird: Vec::new(),
        };
        let (asked, channels) = ((reply.client, reply.sequence), (&channel, &channel));
        let mut session = None;
        let note = |id, _: &Channel| {
            session = Some(id);
            Bytes::new()
        };
        self.state.create_session(asked, principal, channels, now_ms, note).unwrap();
        let session = session.unwrap();
        let number = self.sequence(session, 1).unwrap();
        self.state.reclaim_complete(number, now_ms).unwrap();
        self.model.heard_ms[usize::from(client)] = now_ms;
        (number, session, 1)
    }
    fn sequence(&mut self, session: SessionId, sequence: u32) -> Option<u32> {
        let request = SequenceRequest { session, sequence, slot: 0, fingerprint: 1 };
        let found = self.state.sequence(&request, self.model.now_ms).ok()?;
        self.state.finish(&request, None);
        match found {
            Sequenced::New { client, .. } => Some(client),
            Sequenced::Replay(_) => None,
        }
    }
    fn number(&self, client: u8) -> u32 {
        self.clients[usize::from(client)].0
    }
    /// A request of a client begins: its lease is renewed.
    fn heard(&mut self, client: u8) {
        let known = &mut self.clients[usize::from(client)];
        known.2 += 1;
        let (number, session, sequence) = *known;
        assert_eq!(self.sequence(session, sequence), Some(number), "client {client} is there");
        self.model.heard_ms[usize::from(client)] = self.model.now_ms;
    }
    /// Those whom the reference has seen go are gone, and come back as new ones.
    fn come_back(&mut self, gone: Vec<u8>) {
        for client in gone {
            let (_, session, sequence) = self.clients[usize::from(client)];
            assert_eq!(self.sequence(session, sequence + 1), None, "client {client} is gone");
            self.opens.retain(|who, _| who.0 != client);
            self.locks.retain(|who, _| who.0 != client);
            self.clients[usize::from(client)] = self.connect(client);
        }
    }

    fn open(&mut self, who: Who, access: u32, deny: u32) {
        let (client, owner, file, claim) =
            (self.number(who.0), name(who.1), file(who.2), Claim::New);
        let asked = OpenRequest { client, owner, file, access, deny, claim, confirmed: true };
        let found = self.state.open_file(&asked, self.model.now_ms);
        if found.as_ref().is_ok_and(Opened::is_new) {
            *self.holds.entry(asked.file).or_default() += 1;
        }
        let found = found.map(|opened| opened.stateid);
        match self.model.open(who, access, deny) {
            Ok(gone) => {
                let stateid = found.unwrap();
                if let Some(before) = self.opens.insert(who, stateid.clone()) {
                    assert_eq!((before.other, before.seqid + 1), (stateid.other, stateid.seqid));
                }
                self.come_back(gone);
            }
            Err(status) => assert_eq!(found, Err(status)),
        }
    }
    fn downgrade(&mut self, who: Who, access: u32, deny: u32) {
        let Some(stateid) = self.opens.get(&who).cloned() else { return };
        let client = Some(self.number(who.0));
        let found = self.state.downgrade(&stateid, client, &file(who.2), access, deny);
        match self.model.downgrade(who, access, deny) {
            Ok(()) => {
                self.opens.insert(who, found.unwrap());
                let old = self.state.test_stateid(&stateid, self.number(who.0));
                assert_eq!(old, Status::OldStateid);
            }
            Err(status) => assert_eq!(found, Err(status)),
        }
    }
    fn close(&mut self, who: Who) {
        let Some(stateid) = self.opens.remove(&who) else { return };
        let (number, file) = (self.number(who.0), file(who.2));
        let other = (who.0 + 1) % CLIENTS;
        let theirs = self.state.close(&stateid, Some(self.number(other)), &file);
        assert_eq!(theirs, Err(Status::BadStateid), "another client's");
        self.state.close(&stateid, Some(number), &file).unwrap();
        assert_eq!(self.state.test_stateid(&stateid, number), Status::BadStateid);
        self.model.close(who);
        let (locks, state) = (&self.model.locks, &self.state);
        self.locks.retain(|at, stateid| {
            let is_there = locks.contains_key(at);
            if at.0 == who.0 && !is_there {
                assert_eq!(state.test_stateid(stateid, number), Status::BadStateid);
            }
            is_there
        });
    }
    fn lock(&mut self, who: Who, open: u8, range: (u8, u8), write: bool) {
        let owner = match (self.locks.get(&who), self.opens.get(&(who.0, open, who.2))) {
            (Some(stateid), _) => LockOwner::Known(stateid.clone()),
            (None, Some(open)) => LockOwner::New { open: open.clone(), name: name(who.1) },
            (None, None) => return,
        };
        let (file, claim) = (file(who.2), Claim::New);
        let asked = LockRequest { owner, file, range: bytes(range), write, claim };
        let found = self.state.lock(&asked, Some(self.number(who.0)), self.model.now_ms);
        match (self.model.lock(who, open, range, write), found) {
            (Ok(gone), found) => {
                self.locks.insert(who, found.unwrap());
                self.come_back(gone);
            }
            (Err(Status::Denied), Err(Denied::Held { first, last, .. })) => {
                let asked = bytes(range);
                assert!(first <= asked.1 && asked.0 <= last, "it stands elsewhere");
            }
            (Err(status), found) => assert_eq!(found, Err(Denied::Status(status))),
        }
    }
    fn unlock(&mut self, who: Who, range: (u8, u8)) {
        let Some(stateid) = self.locks.get(&who).cloned() else { return };
        let client = Some(self.number(who.0));
        let found = self.state.unlock(&stateid, client, &file(who.2), bytes(range)).unwrap();
        assert_eq!((found.other, found.seqid), (stateid.other, stateid.seqid + 1));
        self.locks.insert(who, found);
        let lock = self.model.locks.get_mut(&who).unwrap();
        lock.bytes[usize::from(range.0)..=usize::from(range.1)].fill(None);
    }
    fn test_lock(&mut self, who: Who, range: (u8, u8), write: bool) {
        let (number, owner, now_ms) = (self.number(who.0), name(who.1), self.model.now_ms);
        let asked = bytes(range);
        let found = self.state.test_lock((number, &owner), &file(who.2), asked, write, now_ms);
        let in_the_way = self.model.in_the_way(who, range, write);
        match self.model.clear(in_the_way, Status::Denied) {
            Ok(gone) => {
                assert_eq!(found, Ok(()));
                self.come_back(gone);
            }
            Err(_) => assert!(matches!(found, Err(Denied::Held { .. })), "{found:?}"),
        }
    }
    fn free(&mut self, who: Who) {
        let number = self.number(who.0);
        if let Some(open) = self.opens.get(&who) {
            assert_eq!(self.state.free_stateid(open, number), Err(Status::LocksHeld));
        }
        let Some(stateid) = self.locks.get(&who).cloned() else { return };
        let found = self.state.free_stateid(&stateid, number);
        if self.model.locks[&who].bytes.iter().any(Option::is_some) {
            assert_eq!(found, Err(Status::LocksHeld));
        } else {
            assert_eq!(found, Ok(()));
            assert_eq!(self.state.test_stateid(&stateid, number), Status::BadStateid);
            self.locks.remove(&who);
            self.model.locks.remove(&who);
        }
    }
    fn transfer(&mut self, who: Who, by_lock: bool, wanted: u32) {
        let held = if by_lock { &self.locks } else { &self.opens };
        let Some(stateid) = held.get(&who).cloned() else { return };
        let owner = if by_lock { self.model.locks[&who].open } else { who.1 };
        let may = self.model.opens[&(who.0, owner, who.2)].access & wanted != 0;
        let (client, file, now_ms) = (Some(self.number(who.0)), file(who.2), self.model.now_ms);
        let found = if wanted == 1 {
            self.state.check_read(&stateid, client, &file, now_ms)
        } else {
            let begun = self.state.begin_write(&stateid, client, &file, now_ms);
            begun.map(|writing| self.state.end_write(writing))
        };
        assert_eq!(found, if may { Ok(()) } else { Err(Status::OpenMode) });
    }
    fn wait(&mut self, ms: u64, heard: u8) {
        self.model.now_ms += ms;
        self.state.tick(self.model.now_ms);
        let silence = |run: &Self, client: u8| {
            run.model.now_ms - run.model.heard_ms[usize::from(client)] > LEASE_MS + COURTESY_MS
        };
        let gone: Vec<u8> = (0..CLIENTS).filter(|client| silence(self, *client)).collect();
        gone.iter().for_each(|client| self.model.drop_client(*client));
        self.come_back(gone);
        // Late, but nobody wanted what they have: they go on as if nothing had been.
        (0..CLIENTS).filter(|client| heard >> client & 1 == 1).for_each(|one| self.heard(one));
    }

    /// Each open has one hold of its file in the store.
    fn check_holds(&mut self) {
        for file in self.state.take_released(usize::MAX, |_| true) {
            *self.holds.get_mut(&file).unwrap() -= 1;
        }
        for number in 0..FILES {
            let opens = self.model.opens.keys().filter(|who| who.2 == number).count();
            let holds = self.holds.get(&file(number)).copied().unwrap_or(0);
            assert_eq!(holds, opens as u64, "of file {number}");
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open { who, .. }
            | Step::Downgrade { who, .. }
            | Step::Close { who }
            | Step::Lock { who, .. }
            | Step::Unlock { who, .. }
            | Step::TestLock { who, .. }
            | Step::Free { who }
            | Step::Read { who, .. }
            | Step::Write { who, .. } => self.heard(who.0),
            Step::Wait { .. } => {}
        }
        match *step {
            Step::Open { who, access, deny } => self.open(who, access, deny),
            Step::Downgrade { who, access, deny } => self.downgrade(who, access, deny),
            Step::Close { who } => self.close(who),
            Step::Lock { who, open, first, last, write } => {
                self.lock(who, open, (first, last), write);
            }
            Step::Unlock { who, first, last } => self.unlock(who, (first, last)),
            Step::TestLock { who, first, last, write } => self.test_lock(who, (first, last), write),
            Step::Free { who } => self.free(who),
            Step::Read { who, by_lock } => self.transfer(who, by_lock, 1),
            Step::Write { who, by_lock } => self.transfer(who, by_lock, 2),
            Step::Wait { ms, heard } => self.wait(ms, heard),
        }
    }
}

/// How many histories: more than usual when the environment says so in HISTORIES.
fn histories() -> u32 {
    std::env::var("HISTORIES").map_or(2_000, |count| count.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]
    #[test]
    fn opens_locks_and_leases_are_given_as_the_reference_gives_them(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
            run.check_holds();
            prop_assert_eq!(run.opens.len(), run.model.opens.len());
            prop_assert_eq!(run.locks.len(), run.model.locks.len());
        }
        prop_assert_eq!(run.state.check(), Ok(()));
        let entries = run.opens.len() + run.locks.len();
        prop_assert_eq!(run.state.counts().entries, entries);
    }
}
