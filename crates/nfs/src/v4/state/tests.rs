//! Random histories of opens, locks, silence and expiry against a reference that knows nothing of
//! how the state is kept: shares by owner, locks by byte, leases by time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::FileId;
use proptest::prelude::*;

use super::*;
use crate::handle::{FileSystemId, Form};
use crate::v4::types::Stateid;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const LEASE_MS: u64 = 1000;
const CLIENTS: u8 = 3;
const OWNERS: u8 = 2;
const FILES: u8 = 2;
const BYTES: u64 = 8;

fn config() -> Config {
    Config { lease_ms: LEASE_MS, grace_ms: LEASE_MS, courtesy_ms: 1 << 40, ..Config::default() }
}

fn file(number: u8) -> Handle {
    let file = FileId { tree: 0, inode: number.into(), generation: 1 };
    Handle { form: Form::File, file_system: FileSystemId([1; 16]), file }
}

fn name(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[number])
}

fn channel() -> Channel {
    Channel {
        header_pad_bytes: 0,
        request_bytes_max: 4096,
        reply_bytes_max: 4096,
        cached_bytes_max: 1024,
        operations_max: 8,
        requests_max: 2,
        rdma_ird: Vec::new(),
    }
}

/// A confirmed client that has nothing to reclaim.
fn connect(state: &mut State, owner: u8, verifier: u8, now_ms: u64) -> (u32, SessionId) {
    let (owner, verifier) = (name(owner), [verifier; 8]);
    let principal = Principal::Uid(0);
    let exchange = Exchange { owner, verifier, principal, address: ADDRESS, update: false };
    let reply = state.exchange_id(&exchange, now_ms).unwrap();
    let channels = (&channel(), &channel());
    let asked = (reply.client, reply.sequence);
    let mut session = None;
    state
        .create_session(asked, principal, channels, now_ms, |id, _| {
            session = Some(id);
            Bytes::new()
        })
        .unwrap();
    (state.client_number(reply.client).unwrap(), session.unwrap())
}

fn open(client: u32, owner: u8, of: u8, access: u32, deny: u32) -> OpenRequest {
    let (owner, file, claim) = (name(owner), file(of), Claim::New);
    OpenRequest { client, owner, file, access, deny, claim, confirmed: true }
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        who: (u8, u8, u8),
        access: u32,
        deny: u32,
    },
    Downgrade {
        who: (u8, u8, u8),
        access: u32,
        deny: u32,
    },
    Close {
        who: (u8, u8, u8),
    },
    Lock {
        who: (u8, u8, u8),
        first: u64,
        bytes: u64,
        write: bool,
    },
    Unlock {
        who: (u8, u8, u8),
        first: u64,
        bytes: u64,
    },
    Write {
        who: (u8, u8, u8),
    },
    /// Whoever is silent meanwhile.
    Wait {
        ms: u64,
        but: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || (0..CLIENTS, 0..OWNERS, 0..FILES);
    let range = || (0..BYTES, 1..BYTES);
    prop_oneof![
        4 => (who(), 1u32..4, 0u32..4)
            .prop_map(|(who, access, deny)| Step::Open { who, access, deny: deny & 2 | deny & 1 }),
        1 => (who(), 1u32..4, 0u32..4)
            .prop_map(|(who, access, deny)| Step::Downgrade { who, access, deny }),
        2 => who().prop_map(|who| Step::Close { who }),
        4 => (who(), range(), any::<bool>())
            .prop_map(|(who, (first, bytes), write)| Step::Lock { who, first, bytes, write }),
        2 => (who(), range()).prop_map(|(who, (first, bytes))| Step::Unlock { who, first, bytes }),
        1 => who().prop_map(|who| Step::Write { who }),
        2 => (0..LEASE_MS * 2, 0..CLIENTS).prop_map(|(ms, but)| Step::Wait { ms, but }),
    ]
}

type Who = (u8, u8, u8);

#[derive(Default, Clone)]
struct ModelOpen {
    asked: Vec<(u32, u32)>,
    access: u32,
    deny: u32,
    locks: BTreeMap<u64, bool>,
}

/// The reference.
#[derive(Default)]
struct Model {
    opens: BTreeMap<Who, ModelOpen>,
    heard_ms: [u64; CLIENTS as usize],
}

impl Model {
    fn expired(&self, client: u8, now_ms: u64) -> bool {
        now_ms - self.heard_ms[usize::from(client)] > LEASE_MS
    }
    /// Those who stand against a step and may; those who have to go.
    fn clear(&mut self, against: &[Who], now_ms: u64) -> Result<Vec<u8>, ()> {
        let mut gone = Vec::new();
        if against.iter().any(|who| !self.expired(who.0, now_ms)) {
            return Err(());
        }
        for who in against {
            if !gone.contains(&who.0) {
                gone.push(who.0);
            }
        }
        self.opens.retain(|who, _| !gone.contains(&who.0));
        Ok(gone)
    }
    fn open(&mut self, who: Who, access: u32, deny: u32, now_ms: u64) -> Result<Vec<u8>, ()> {
        let stands = |(other, open): &(&Who, &ModelOpen)| {
            **other != who
                && other.2 == who.2
                && (open.access & deny != 0 || open.deny & access != 0)
        };
        let against: Vec<Who> = self.opens.iter().filter(stands).map(|(who, _)| *who).collect();
        let gone = self.clear(&against, now_ms)?;
        let open = self.opens.entry(who).or_default();
        open.asked.push((access, deny));
        open.access |= access;
        open.deny |= deny;
        Ok(gone)
    }
    fn lock(
        &mut self,
        who: Who,
        range: (u64, u64),
        write: bool,
        now_ms: u64,
    ) -> Result<Vec<u8>, ()> {
        let stands = |(other, open): &(&Who, &ModelOpen)| {
            **other != who
                && other.2 == who.2
                && (range.0..=range.1)
                    .any(|at| open.locks.get(&at).is_some_and(|held| *held || write))
        };
        let against: Vec<Who> = self.opens.iter().filter(stands).map(|(who, _)| *who).collect();
        let gone = self.clear(&against, now_ms)?;
        if let Some(open) = self.opens.get_mut(&who) {
            open.locks.extend((range.0..=range.1).map(|at| (at, write)));
        }
        Ok(gone)
    }
    fn downgrade(&mut self, who: Who, access: u32, deny: u32) -> bool {
        let Some(open) = self.opens.get_mut(&who) else { return false };
        // A value is good when some of the earlier OPENs ask for it together; each on its own.
        let union = |value: u32, parts: Vec<u32>| {
            let within: Vec<u32> = parts.into_iter().filter(|part| part & !value == 0).collect();
            !within.is_empty() && within.iter().fold(0, |all, part| all | part) == value
        };
        let accesses = open.asked.iter().map(|asked| asked.0).collect();
        let denies = open.asked.iter().map(|asked| asked.1).collect();
        if !union(access, accesses) || !union(deny, denies) {
            return false;
        }
        (open.access, open.deny) = (access, deny);
        true
    }
}

/// The state under test, with what its clients hold in hand.
struct Run {
    state: State,
    model: Model,
    now_ms: u64,
    clients: Vec<u32>,
    verifier: u8,
    opens: BTreeMap<Who, Stateid>,
    locks: BTreeMap<Who, Stateid>,
}

impl Run {
    fn new() -> Self {
        let mut state = State::new(config(), 7, Vec::new(), 0);
        let clients: Vec<u32> = (0..CLIENTS).map(|who| connect(&mut state, who, 0, 0).0).collect();
        for client in &clients {
            state.reclaim_complete(*client, 0).unwrap();
        }
        let (opens, locks) = (BTreeMap::new(), BTreeMap::new());
        Self { state, model: Model::default(), now_ms: 0, clients, verifier: 0, opens, locks }
    }
    fn number(&self, client: u8) -> u32 {
        self.clients[usize::from(client)]
    }
    /// A client does something: its lease is renewed, as SEQUENCE would.
    fn heard(&mut self, client: u8) {
        let (number, now_ms) = (self.number(client), self.now_ms);
        self.state.client_mut(number).unwrap().renewed_ms = now_ms;
        self.model.heard_ms[usize::from(client)] = now_ms;
    }
    /// Those whom the model has seen go are gone, and come back as new ones.
    fn come_back(&mut self, gone: Vec<u8>) {
        for client in gone {
            assert!(self.state.client(self.number(client)).is_err(), "client {client} is there");
            self.opens.retain(|who, _| who.0 != client);
            self.locks.retain(|who, _| who.0 != client);
            self.verifier += 1;
            let number = connect(&mut self.state, client, self.verifier, self.now_ms).0;
            self.state.reclaim_complete(number, self.now_ms).unwrap();
            self.clients[usize::from(client)] = number;
            self.model.heard_ms[usize::from(client)] = self.now_ms;
        }
    }
    fn open(&mut self, who: Who, access: u32, deny: u32) {
        let asked = open(self.number(who.0), who.1, who.2, access, deny);
        let found = self.state.open_file(&asked, self.now_ms);
        match self.model.open(who, access, deny, self.now_ms) {
            Ok(gone) => {
                self.opens.insert(who, found.unwrap().stateid);
                self.come_back(gone);
            }
            Err(()) => assert_eq!(found.unwrap_err(), Status::ShareDenied),
        }
    }
    fn lock(&mut self, who: Who, range: (u64, u64), write: bool) {
        let Some(open) = self.opens.get(&who).cloned() else { return };
        let owner = match self.locks.get(&who) {
            Some(stateid) => LockOwner::Known(stateid.clone()),
            None => LockOwner::New { open, name: name(who.1) },
        };
        let asked = LockRequest { owner, file: file(who.2), range, write, claim: Claim::New };
        let found = self.state.lock(&asked, Some(self.number(who.0)), self.now_ms);
        let needed = if write { 2 } else { 1 };
        if self.model.opens[&who].access & needed == 0 {
            assert_eq!(found, Err(Denied::Status(Status::OpenMode)));
            return;
        }
        match self.model.lock(who, range, write, self.now_ms) {
            Ok(gone) => {
                self.locks.insert(who, found.unwrap());
                self.come_back(gone);
            }
            Err(()) => assert!(matches!(found, Err(Denied::Held { .. })), "{found:?}"),
        }
    }
    fn write(&mut self, who: Who) {
        let Some(stateid) = self.opens.get(&who).cloned() else { return };
        let (client, now_ms) = (Some(self.number(who.0)), self.now_ms);
        let begun = self.state.begin_write(&stateid, client, &file(who.2), now_ms);
        if self.model.opens[&who].access & 2 == 0 {
            assert_eq!(begun, Err(Status::OpenMode));
            return;
        }
        // While it is in flight, nobody takes the client's state away, however late it is.
        let begun = begun.unwrap();
        assert!(!self.state.try_expire(self.number(who.0)));
        self.state.end_write(begun);
    }
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open { who, .. }
            | Step::Downgrade { who, .. }
            | Step::Close { who }
            | Step::Lock { who, .. }
            | Step::Unlock { who, .. }
            | Step::Write { who } => self.heard(who.0),
            Step::Wait { .. } => {}
        }
        match *step {
            Step::Open { who, access, deny } => self.open(who, access, deny),
            Step::Lock { who, first, bytes, write } => {
                self.lock(who, (first, (first + bytes - 1).min(BYTES - 1)), write);
            }
            Step::Write { who } => self.write(who),
            Step::Downgrade { who, access, deny } => {
                let Some(stateid) = self.opens.get(&who).cloned() else { return };
                let client = Some(self.number(who.0));
                let found = self.state.downgrade(&stateid, client, &file(who.2), access, deny);
                assert_eq!(found.is_ok(), self.model.downgrade(who, access, deny), "{found:?}");
                if let Ok(stateid) = found {
                    // What was narrowed away is not asked for any more.
                    let open = self.model.opens.get_mut(&who).unwrap();
                    let before = std::mem::take(&mut open.asked);
                    open.asked = before
                        .into_iter()
                        .flat_map(|(one, other)| {
                            // Kept apart, each value with a partner that adds nothing.
                            [
                                (one & !access == 0).then_some((one, deny)),
                                (other & !deny == 0).then_some((access, other)),
                            ]
                        })
                        .flatten()
                        .collect();
                    self.opens.insert(who, stateid);
                }
            }
            Step::Close { who } => {
                let Some(stateid) = self.opens.remove(&who) else { return };
                let client = Some(self.number(who.0));
                self.state.close(&stateid, client, &file(who.2)).unwrap();
                let again = self.state.close(&stateid, client, &file(who.2));
                assert_eq!(again, Err(Status::BadStateid));
                self.model.opens.remove(&who);
                self.locks.remove(&who);
            }
            Step::Unlock { who, first, bytes } => {
                let Some(stateid) = self.locks.get(&who).cloned() else { return };
                let range = (first, (first + bytes - 1).min(BYTES - 1));
                let client = self.number(who.0);
                let found = self.state.unlock(&stateid, Some(client), &file(who.2), range).unwrap();
                assert_eq!(self.state.test_stateid(&stateid, client), Status::OldStateid);
                self.locks.insert(who, found);
                let open = self.model.opens.get_mut(&who).unwrap();
                open.locks.retain(|at, _| !(range.0..=range.1).contains(at));
            }
            Step::Wait { ms, but } => {
                self.now_ms += ms;
                self.heard(but);
                self.state.tick(self.now_ms);
            }
        }
    }
}

proptest! {
    #[test]
    fn opens_and_locks_are_given_as_the_reference_gives_them(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            prop_assert_eq!(run.state.check(), Ok(()));
            prop_assert_eq!(run.opens.len(), run.model.opens.len());
        }
    }

    /// A client sends requests on a slot and repeats any of them at any time.
    #[test]
    fn a_slot_runs_each_request_once(repeats in prop::collection::vec(0u8..4, 1..40)) {
        let mut state = State::new(config(), 7, Vec::new(), 0);
        let (_, session) = connect(&mut state, 0, 0, 0);
        let request = |sequence| SequenceRequest { session, sequence, slot: 1, fingerprint: 5 };
        let (mut sequence, mut ran) = (0u32, 0u32);
        for repeat in repeats {
            sequence += 1;
            let found = state.sequence(&request(sequence), 0);
            let is_new = matches!(found, Ok(Sequenced::New { .. }));
            prop_assert!(is_new, "{:?}", found);
            ran += 1;
            for _ in 0..repeat {
                prop_assert_eq!(state.sequence(&request(sequence), 0), Err(Status::Delay));
                let next = state.sequence(&request(sequence + 1), 0);
                prop_assert_eq!(next, Err(Status::SeqMisordered));
            }
            let reply = Bytes::copy_from_slice(&sequence.to_be_bytes());
            state.finish(&request(sequence), Some(reply.clone()));
            for _ in 0..repeat {
                let again = state.sequence(&request(sequence), 0);
                prop_assert_eq!(again, Ok(Sequenced::Replay(reply.clone())));
                let other = SequenceRequest { fingerprint: 6, ..request(sequence) };
                prop_assert_eq!(state.sequence(&other, 0), Err(Status::SeqFalseRetry));
                let old = state.sequence(&request(sequence - 1), 0);
                prop_assert_eq!(old, Err(Status::SeqMisordered));
            }
        }
        prop_assert_eq!(ran, sequence);
    }
}

#[test]
fn who_is_expired_for_another_may_not_reclaim_after_a_restart() {
    let mut state = State::new(config(), 7, Vec::new(), 0);
    let ((one, _), (two, _)) = (connect(&mut state, 1, 0, 0), connect(&mut state, 2, 0, 0));
    for client in [one, two] {
        state.reclaim_complete(client, 0).unwrap();
    }
    let record = |owner| ClientRecord { owner: name(owner), minor_zero: false };
    let (effects, mark) = state.pending();
    assert_eq!(effects, [Effect::Store(record(1)), Effect::Store(record(2))]);
    state.settled(mark);
    state.open_file(&open(one, 0, 0, 3, 3), 0).unwrap();
    let late = LEASE_MS + 1;
    assert_eq!(state.open_file(&open(two, 0, 0, 1, 0), LEASE_MS), Err(Status::ShareDenied));
    state.open_file(&open(two, 0, 0, 1, 0), late).unwrap();
    assert_eq!(state.pending().0, [Effect::Remove(name(1))]);
    assert_eq!(state.check(), Ok(()));
}

#[test]
fn grace_ends_when_all_have_come_back() {
    let records: Vec<_> =
        [1, 2].map(|owner| ClientRecord { owner: name(owner), minor_zero: false }).into();
    let mut state = State::new(config(), 8, records, 0);
    let reclaim = |client, of| OpenRequest { claim: Claim::Reclaim, ..open(client, 0, of, 3, 0) };
    let [one, two, new] = [1, 2, 3].map(|owner| connect(&mut state, owner, 9, 1).0);
    assert_eq!(state.open_file(&open(one, 0, 0, 1, 0), 1).unwrap_err(), Status::Grace);
    assert_eq!(state.open_file(&reclaim(new, 0), 1).unwrap_err(), Status::NoGrace);
    state.open_file(&reclaim(one, 0), 1).unwrap();
    state.reclaim_complete(one, 1).unwrap();
    assert_eq!(state.reclaim_complete(one, 1), Err(Status::CompleteAlready));
    assert_eq!(state.open_file(&reclaim(one, 1), 1).unwrap_err(), Status::NoGrace);
    state.reclaim_complete(new, 1).unwrap();
    assert!(state.in_grace());
    state.reclaim_complete(two, 1).unwrap();
    assert!(!state.in_grace());
    state.open_file(&open(new, 0, 1, 1, 0), 1).unwrap();
}

#[test]
fn nobody_waits_after_a_restart_for_a_client_that_held_nothing() {
    let mut state = State::new(config(), 1, Vec::new(), 0);
    let (one, _) = connect(&mut state, 1, 1, 0);
    let (two, _) = connect(&mut state, 2, 1, 0);
    for client in [one, two] {
        state.reclaim_complete(client, 0).unwrap();
    }
    let opened = state.open_file(&open(one, 0, 0, 3, 0), 0).unwrap();
    state.settled(u64::MAX);
    state.tick(4000);
    assert!(state.is_settled(), "it may open something in a moment");
    state.tick(6000);
    assert_eq!(state.pending().0, [Effect::Remove(name(2))]);
    state.settled(u64::MAX);
    state.tick(60_000);
    assert!(state.is_settled(), "the other one has a file open");
    state.close(&opened.stateid, None, &file(0)).unwrap();
    state.tick(64_000);
    state.tick(66_000);
    assert_eq!(state.pending().0, [Effect::Remove(name(1))]);
    state.settled(u64::MAX);
    state.open_file(&open(two, 0, 0, 3, 0), 66_000).unwrap();
    let record = ClientRecord { owner: name(2), minor_zero: false };
    assert_eq!(state.pending().0, [Effect::Store(record)], "before the open is answered");
}

#[test]
fn who_does_not_come_back_in_time_loses_its_record() {
    let records = vec![ClientRecord { owner: name(1), minor_zero: false }];
    let mut state = State::new(config(), 8, records, 0);
    state.tick(LEASE_MS - 1);
    assert!(state.in_grace());
    state.tick(LEASE_MS);
    assert!(!state.in_grace());
    assert_eq!(state.pending().0, [Effect::Remove(name(1))]);
}

#[test]
fn a_client_that_restarts_loses_what_it_had_once_it_is_confirmed() {
    let mut state = State::new(config(), 7, Vec::new(), 0);
    let (one, session) = connect(&mut state, 1, 0, 0);
    state.reclaim_complete(one, 0).unwrap();
    state.open_file(&open(one, 0, 0, 3, 3), 0).unwrap();
    let principal = Principal::Uid(0);
    let (owner, verifier, address) = (name(1), [1; 8], ADDRESS);
    let exchange = Exchange { owner, verifier, principal, address, update: false };
    let reply = state.exchange_id(&exchange, 0).unwrap();
    assert!(!reply.confirmed && state.check_session(session).is_ok());
    let other = Exchange { principal: Principal::Uid(5), ..exchange.clone() };
    assert_eq!(state.exchange_id(&other, 0), Err(Status::ClidInUse));
    let update = Exchange { update: true, ..exchange };
    assert_eq!(state.exchange_id(&update, 0), Err(Status::NotSame));
    connect(&mut state, 1, 1, 0);
    assert_eq!(state.check_session(session), Err(Status::BadSession));
    assert!(state.files.is_empty() && state.entries.is_empty());
}

#[test]
fn what_an_operator_drops_is_gone_in_that_file_system_alone() {
    let mut state = State::new(config(), 1, Vec::new(), 0);
    let (one, _) = connect(&mut state, 1, 1, 0);
    state.reclaim_complete(one, 0).unwrap();
    let other = FileSystemId([2; 16]);
    let elsewhere = |request: OpenRequest| OpenRequest {
        file: Handle { file_system: other, ..request.file },
        ..request
    };
    let here = state.open_file(&open(one, 0, 0, 3, 3), 0).unwrap();
    let there = state.open_file(&elsewhere(open(one, 0, 1, 3, 3)), 0).unwrap();
    assert_eq!(state.holders(other)[0].opens, 1);
    assert_eq!(state.drop_file_system(other), 1);
    state.check().unwrap();
    let (holder, counts) = (&state.holders(other)[0], state.counts());
    assert_eq!((holder.opens, holder.address, counts.entries), (0, ADDRESS, 1));
    let file_there = Handle { file_system: other, ..file(1) };
    let read =
        |state: &mut State, stateid, file: &Handle| state.check_read(stateid, Some(one), file, 0);
    assert_eq!(read(&mut state, &there.stateid, &file_there), Err(Status::BadStateid));
    assert_eq!(read(&mut state, &here.stateid, &file(0)), Ok(()));
}

#[test]
fn a_lock_owner_without_locks_may_begin_its_numbers_again() {
    // Linux numbers an owner's requests from 0 again once it has let go of all, or got nothing.
    let mut state = State::new(config(), 1, Vec::new(), 0);
    let mut connect = |owner: u8| {
        let (owner, verifier) = (name(owner), [owner; 8]);
        let principal = Principal::Uid(0);
        let exchange = Exchange { owner, verifier, principal, address: ADDRESS, update: false };
        let (id, confirm) = state.set_client_id(&exchange, 0).unwrap();
        state.confirm_client_id(id, confirm, principal, 0).unwrap();
        state.client_number(id).unwrap()
    };
    let (one, two) = (connect(1), connect(2));
    let opened = [one, two].map(|client| state.open_file(&open(client, 0, 0, 3, 0), 0).unwrap());
    let lock = |state: &mut State, which: usize, seqid: u32| {
        let key = OwnerKey { client: [one, two][which], name: name(9), of_locks: true };
        let turn = state.turn(&key, seqid)?;
        assert_eq!(turn, Turn::Next, "another request than the last");
        let owner = LockOwner::New { open: opened[which].stateid.clone(), name: name(9) };
        let (file, range) = (file(0), (0, 9));
        let asked = LockRequest { owner, file, range, write: true, claim: Claim::New };
        let locked = state.lock(&asked, None, 0);
        let status = if locked.is_ok() { Status::Ok } else { Status::Denied };
        state.end_turn(&key, seqid, status, Bytes::new(), None);
        Ok(locked.ok())
    };
    let held = lock(&mut state, 0, 7).unwrap().unwrap();
    assert_eq!(lock(&mut state, 0, 0), Err(Status::BadSeqid), "it has a lock");
    assert_eq!(lock(&mut state, 1, 3), Ok(None));
    assert_eq!(lock(&mut state, 1, 0), Ok(None), "it was denied all that it asked for");
    state.unlock(&held, None, &file(0), (0, 9)).unwrap();
    assert_eq!(lock(&mut state, 0, 0), Err(Status::BadSeqid), "its stateid is still good");
    state.release_lock_owner(one, &name(9)).unwrap();
    assert!(lock(&mut state, 0, 0).unwrap().is_some());
    let (one_closes, file) = (opened[0].stateid.clone(), file(0));
    state.close(&one_closes, None, &file).unwrap();
    assert!(lock(&mut state, 1, 0).unwrap().is_some(), "a close takes locks and numbers along");
}
