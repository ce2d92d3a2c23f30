//! Slots, grace and records; what is opened and locked is compared with a reference in
//! `tests/state_model.rs`.

use std::net::IpAddr;

use bytes::Bytes;
use model::file::FileId;
use proptest::prelude::*;

use super::*;
use crate::handle::{FileSystemId, Form};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const LEASE_MS: u64 = 1000;

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

proptest! {
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

#[test]
fn a_flood_of_sessions_was_given_more_memory_than_the_machine_has() {
    let config = Config { kept_bytes_max: 8 << 20, ..config() };
    let mut state = State::new(config, 7, Vec::new(), 0);
    let asked = Channel {
        request_bytes_max: u32::MAX,
        reply_bytes_max: u32::MAX,
        cached_bytes_max: u32::MAX,
        requests_max: u32::MAX,
        ..channel()
    };
    let principal = Principal::Uid(0);
    let create = |state: &mut State, owner: u32, now_ms| {
        let owner = Bytes::copy_from_slice(&owner.to_be_bytes());
        let (verifier, address) = ([0; 8], ADDRESS);
        let exchange = Exchange { owner, verifier, principal, address, update: false };
        let reply = state.exchange_id(&exchange, now_ms)?;
        let id = (reply.client, reply.sequence);
        let mut given = None;
        state.create_session(id, principal, (&asked, &asked), now_ms, |_, channel| {
            given = Some((channel.requests_max, channel.cached_bytes_max));
            Bytes::new()
        })?;
        Ok::<_, Status>(given.unwrap())
    };
    let mut slots = Vec::new();
    let full = loop {
        match create(&mut state, u32::try_from(slots.len()).unwrap(), 0) {
            Ok(given) => slots.push(given),
            Err(status) => break status,
        }
        assert!(state.granted_bytes() <= config.kept_bytes_max);
    };
    assert_eq!(full, Status::Delay);
    assert_eq!(slots[0], (config.slots_max, config.cached_bytes_max));
    assert_eq!(slots.last(), Some(&(1, 2048)), "small sessions are there to the last");
    assert!(slots.is_sorted_by(|one, next| one >= next) && slots.len() > 300, "{}", slots.len());
    // Who is silent past its lease gives way to who comes.
    let late = LEASE_MS + 1;
    for owner in 100_000..100_010 {
        create(&mut state, owner, late).unwrap();
        assert!(state.granted_bytes() <= config.kept_bytes_max);
    }
    state.tick(late + LEASE_MS + config.courtesy_ms + 1);
    assert_eq!((state.granted_bytes(), state.counts().sessions), (0, 0));
}
