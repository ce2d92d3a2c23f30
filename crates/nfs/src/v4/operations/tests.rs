use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use proptest::prelude::*;

use super::locks::{LockArgs, LockDenied, Locker, NewOwner};
use super::opens::{CloseArgs, CreateHow, OpenArgs, OpenClaim, OpenHow, OpenOk};
use super::sessions::{CreateSessionArgs, ExchangeArgs, ExchangeOk, StateProtect};
use super::*;
use crate::export::{Export, Exports, Network, Rule, Squash};
use crate::handle::{FileSystemId, HandleKey};
use crate::memory::Memory;
use crate::replay::{Once, Replays};
use crate::request::Request;
use crate::rpc::{Accepted, AuthSys, Call, Credential, Opaque};
use crate::v3::messages::StableHow;
use crate::v4::compound::{SequenceArgs, Service, answer};
use crate::v4::state::{Channel, ClientRecord, ClientRecords, Config, RecordError, State};
use crate::v4::types::{
    Bitmap, ChangeInfo, ClientId, Fattr, HandleBytes, LockType, OwnerName, SessionId, StateOwner,
    Stateid,
};

mod found;
mod removed;
mod replies;
mod xattrs;
mod zero;

const LEASE_MS: u64 = 1000;

/// Keeps a log, and may refuse.
#[derive(Default)]
struct Records {
    log: RefCell<Vec<String>>,
    refuses: Cell<bool>,
}

impl Records {
    fn note(&self, what: String) -> Result<(), RecordError> {
        if self.refuses.get() {
            return Err(RecordError);
        }
        self.log.borrow_mut().push(what);
        Ok(())
    }
}

impl ClientRecords for Records {
    fn alone(
        &self,
        settle: &mut dyn FnMut() -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        settle()
    }
    fn store(&self, record: &ClientRecord) -> Result<(), RecordError> {
        self.note(format!("store {:?}", record.owner))
    }
    fn remove(&self, owner: &Bytes) -> Result<(), RecordError> {
        self.note(format!("remove {owner:?}"))
    }
}

/// Exports "/p/a" and "/q/b"; the second only for 10.0.0.2.
struct World {
    exports: Exports<Memory>,
    keys: HandleKey,
    state: RefCell<State>,
    records: Records,
    replays: RefCell<Replays>,
    xid: Cell<u32>,
    now_ms: Cell<u64>,
}

fn export(id: u8, path: [&'static str; 2], address: &str, prefix_bits: u8) -> Export<Memory> {
    let network = Network { address: address.parse().unwrap(), prefix_bits };
    let anonymous = (65534, 65534);
    Export {
        file_system: FileSystemId([id; 16]),
        keys: None,
        path: path.map(Bytes::from).to_vec(),
        store: Memory::new(1_700_000_000, 1 << 24),
        rules: vec![Rule { network, read_only: false, squash: Squash::None, anonymous }],
    }
}

struct Reply {
    status: Status,
    count: u32,
    results: Reader,
}

impl Reply {
    /// The next result's status, of this operation.
    fn next(&mut self, code: u32) -> Status {
        assert_eq!(self.results.u32().unwrap(), code);
        Status::read(&mut self.results).unwrap()
    }
    /// Skips results that say nothing but that they succeeded.
    fn skip(mut self, codes: &[u32]) -> Self {
        codes.iter().for_each(|code| assert_eq!(self.next(*code), Status::Ok));
        self
    }
    fn value<T: Xdr>(&mut self) -> T {
        T::read(&mut self.results).unwrap()
    }
    fn ok<T: Xdr>(&mut self, code: u32) -> T {
        assert_eq!(self.next(code), Status::Ok);
        self.value()
    }
}

impl World {
    fn new() -> Self {
        let exports =
            vec![export(1, ["p", "a"], "0.0.0.0", 0), export(2, ["q", "b"], "10.0.0.2", 32)];
        let config = Config { lease_ms: LEASE_MS, grace_ms: LEASE_MS, ..Config::default() };
        Self {
            exports: Exports::new(exports).unwrap(),
            keys: HandleKey::new(&[3; 32]),
            state: RefCell::new(State::new(config, 7, Vec::new(), 0)),
            records: Records::default(),
            replays: RefCell::new(Replays::new(1 << 20)),
            xid: Cell::new(1),
            now_ms: Cell::new(0),
        }
    }
    fn raw(&self, peer: IpAddr, arguments: Bytes) -> Result<Bytes, Accepted> {
        let (stamp, machine, gids) = (0, Bytes::new(), Vec::new());
        let sys = AuthSys { stamp, machine, uid: 1000, gid: 1000, gids };
        let credential = Credential::Sys(sys);
        let Self { exports, keys, state, records, replays, now_ms, .. } = self;
        let reached = Cell::new(None);
        let request = Request { exports, keys, peer, credential: &credential, reached: &reached };
        let call_bytes = arguments.len();
        let now_ms = now_ms.get();
        let (verifier, name) = (Opaque::none(), b"test");
        let (program, version, procedure) = (100_003, 4, 1);
        let known = credential.to_opaque();
        let xid = self.xid.replace(self.xid.get() + 1);
        let call =
            Call { xid, program, version, procedure, credential: known, verifier, arguments };
        let once = &Once::new(replays, (peer, &call, &credential), now_ms);
        let service = Service { request, state, records, once, now_ms, name, call_bytes };
        let mut writer = Writer::default();
        match answer(&service, 1, call.arguments.clone(), &mut writer) {
            Accepted::Success => Ok(writer.into_bytes()),
            other => Err(other),
        }
    }
    fn from(&self, peer: &str, minor: u32, operations: &[Bytes]) -> Reply {
        let bytes = self.raw(peer.parse().unwrap(), arguments(minor, operations)).unwrap();
        parse(bytes)
    }
    fn compound(&self, minor: u32, operations: &[Bytes]) -> Reply {
        self.from("10.0.0.1", minor, operations)
    }
    fn exchange(&self, name: &'static str, verifier: u8) -> (ClientId, u32) {
        let args = ExchangeArgs {
            verifier: [verifier; 8],
            owner: OwnerName(name.into()),
            flags: 0,
            protect: StateProtect::None,
            implementation: Vec::new(),
        };
        let ok: ExchangeOk = self.compound(1, &[op(42, &args)]).ok(42);
        (ok.client, ok.sequence)
    }
    /// A client with a session, that has nothing to reclaim.
    fn client(&self, name: &'static str) -> Client<'_> {
        let (client, sequence) = self.exchange(name, 1);
        let mut reply = self.compound(1, &[op(43, &create_session(client, sequence))]);
        let session: SessionId = reply.ok(43);
        let client = Client { world: self, session, sequence: Cell::new(0), id: client };
        assert_eq!(client.call(&[op(58, &false)]).status, Status::Ok);
        client
    }
}

fn create_session(client: ClientId, sequence: u32) -> CreateSessionArgs {
    let channel = Channel {
        header_pad_bytes: 0,
        request_bytes_max: 100_000,
        reply_bytes_max: 10_000,
        cached_bytes_max: 1000,
        operations_max: 12,
        requests_max: 4,
        rdma_ird: Vec::new(),
    };
    let (fore, back) = (channel.clone(), channel);
    let (flags, callback_program, security) = (0, 0, Vec::new());
    CreateSessionArgs { client, sequence, flags, fore, back, callback_program, security }
}

fn op<A: Xdr>(code: u32, arguments: &A) -> Bytes {
    let mut writer = Writer::default();
    writer.u32(code);
    writer.put(arguments);
    writer.into_bytes()
}

fn arguments(minor: u32, operations: &[Bytes]) -> Bytes {
    let mut writer = Writer::default();
    writer.opaque(b"tag");
    writer.u32(minor);
    writer.u32(u32::try_from(operations.len()).unwrap());
    operations.iter().for_each(|operation| writer.fixed(operation));
    writer.into_bytes()
}

fn parse(bytes: Bytes) -> Reply {
    let mut results = Reader::new(bytes);
    let status = Status::read(&mut results).unwrap();
    assert_eq!(Bytes::read(&mut results).unwrap(), &b"tag"[..]);
    Reply { status, count: results.u32().unwrap(), results }
}

struct Client<'w> {
    world: &'w World,
    session: SessionId,
    sequence: Cell<u32>,
    id: ClientId,
}

impl Client<'_> {
    fn sequence(&self, sequence: u32, slot: u32, keep: bool) -> Bytes {
        let session = self.session;
        op(SEQUENCE, &SequenceArgs { session, sequence, slot, highest_slot: 3, keep })
    }
    fn call(&self, operations: &[Bytes]) -> Reply {
        self.sequence.set(self.sequence.get() + 1);
        let mut all = vec![self.sequence(self.sequence.get(), 0, false)];
        all.extend_from_slice(operations);
        let mut reply = self.world.compound(2, &all);
        if reply.next(SEQUENCE) == Status::Ok {
            reply.value::<SessionId>();
            for _ in 0..5 {
                reply.value::<u32>();
            }
        }
        reply
    }
    /// In the root of "/p/a".
    fn at(&self, operations: &[Bytes]) -> Reply {
        let mut all = root();
        all.extend_from_slice(operations);
        self.call(&all).skip(&[24, 15, 15])
    }
    fn open(&self, name: &str, access: u32, deny: u32, how: OpenHow) -> (Status, Option<OpenOk>) {
        let mut reply = self.at(&[op(18, &open(self.id, name, access, deny, how)), op(10, &())]);
        match reply.next(18) {
            Status::Ok => (Status::Ok, Some(reply.value())),
            status => (status, None),
        }
    }
    fn with_file(&self, name: &str, operations: &[Bytes]) -> Reply {
        let mut all = vec![lookup(name)];
        all.extend_from_slice(operations);
        self.at(&all).skip(&[15])
    }
}

fn root() -> Vec<Bytes> {
    vec![op(24, &()), lookup("p"), lookup("a")]
}
fn lookup(name: &str) -> Bytes {
    op(15, &Bytes::copy_from_slice(name.as_bytes()))
}
fn open(client: ClientId, name: &str, access: u32, deny: u32, how: OpenHow) -> OpenArgs {
    let owner = StateOwner { client, name: OwnerName(Bytes::from_static(b"owner")) };
    let claim = OpenClaim::Null(Bytes::copy_from_slice(name.as_bytes()));
    OpenArgs { seqid: 0, access, deny, owner, how, claim }
}
fn unchecked(size: Option<u64>) -> OpenHow {
    let set = match size {
        None => Fattr { which: Bitmap::default(), values: Bytes::new() },
        Some(size) => Fattr { which: Bitmap::of([4]), values: to_bytes(&size) },
    };
    OpenHow::Create(CreateHow::Unchecked(set))
}
fn read(stateid: Stateid) -> Bytes {
    op(25, &data::ReadArgs { stateid, offset: 0, count: 100 })
}
fn write(stateid: Stateid, data: &'static str) -> Bytes {
    let (stable, data) = (StableHow::FileSync, Bytes::from(data));
    op(38, &data::WriteArgs { stateid, offset: 0, stable, data })
}
fn mkdir(name: &str) -> Bytes {
    let set = Fattr { which: Bitmap::default(), values: Bytes::new() };
    let (what, name) = (names::CreateType::New(model::file::New::Directory), name.to_owned());
    op(6, &names::CreateArgs { what, name: name.into(), set })
}

#[test]
fn the_table_has_no_gap() {
    for (code, row) in (3..).zip(rows::<Memory>()) {
        assert_eq!(row.code, code, "{}", row.name);
    }
    assert!(row::<Memory>(2).is_none() && row::<Memory>(76).is_none());
    assert!(row::<Memory>(0).is_none() && row::<Memory>(ILLEGAL).is_none());
}

#[test]
fn each_minor_version_has_its_own_operations() {
    let world = World::new();
    let reply = world.compound(3, &[op(24, &())]);
    assert_eq!((reply.status, reply.count), (Status::MinorVersMismatch, 0));
    for (minor, code) in [(0, 42), (0, 59), (0, 2), (0, 9999)] {
        let mut reply = world.compound(minor, &[op(code, &())]);
        assert_eq!(reply.next(ILLEGAL), Status::OpIllegal, "{code} in {minor}");
    }
    let mut reply = world.client("one").call(&[op(30, &0u64)]);
    assert_eq!(reply.next(ILLEGAL), Status::OpIllegal);
    let mut reply = world.compound(0, &[op(24, &()), Bytes::from_static(&[0, 0, 0, 22])]);
    assert_eq!((reply.next(24), reply.next(22)), (Status::Ok, Status::BadXdr));
}

#[test]
fn a_request_stands_in_a_session_and_keeps_to_what_was_agreed() {
    let world = World::new();
    let client = world.client("one");
    let first = |operations: &[Bytes]| world.compound(1, operations).status;
    assert_eq!(first(&[op(24, &())]), Status::OpNotInSession);
    let destroy = op(57, &ClientId(0));
    assert_eq!(first(&[destroy.clone(), destroy]), Status::NotOnlyOp);
    let sequence = |sequence, slot| client.sequence(sequence, slot, false);
    assert_eq!(first(&[sequence(1, 4)]), Status::BadSlot);
    assert_eq!(first(&[sequence(2, 1)]), Status::SeqMisordered);
    assert_eq!(first(&[sequence(0, 1)]), Status::SeqMisordered);
    assert_eq!(first(&[sequence(1, 1), sequence(1, 2)]), Status::SequencePos);
    let many: Vec<_> = (0..13).map(|_| op(24, &())).collect();
    assert_eq!(client.call(&many).status, Status::TooManyOps);
    client.sequence.set(client.sequence.get() - 1);
    let long = "n".repeat(100_000);
    assert_eq!(client.call(&[lookup(&long)]).status, Status::ReqTooBig);
    assert_eq!(world.compound(1, &[op(44, &client.session)]).status, Status::Ok);
    assert_eq!(first(&[sequence(1, 3)]), Status::BadSession);
}

proptest! {
    /// Makes directories, which succeeds only once each, and repeats requests at will.
    #[test]
    fn a_retry_gets_the_same_bytes_and_does_nothing(
        repeats in prop::collection::vec((0u32..4, 0usize..3), 1..20),
    ) {
        let world = World::new();
        let client = world.client("one");
        let mut sequences = [0, 0, 0, 0];
        sequences[0] = client.sequence.get();
        for (number, (slot, again)) in repeats.into_iter().enumerate() {
            let at = usize::try_from(slot).unwrap();
            sequences[at] += 1;
            let mut operations = vec![client.sequence(sequences[at], slot, true)];
            operations.extend(root());
            operations.push(mkdir(&format!("d{number}")));
            let bytes = arguments(1, &operations);
            let peer = "10.0.0.1".parse().unwrap();
            let reply = world.raw(peer, bytes.clone()).unwrap();
            prop_assert_eq!(parse(reply.clone()).status, Status::Ok);
            let store = &world.exports.find(FileSystemId([1; 16])).unwrap().store;
            let before = store.attributes(store.root()).unwrap();
            for _ in 0..again {
                prop_assert_eq!(world.raw(peer, bytes.clone()), Ok(reply.clone()));
            }
            let after = store.attributes(store.root()).unwrap();
            prop_assert_eq!((after.change, after.links), (before.change, before.links));
        }
    }

    /// Whatever stands behind a good SEQUENCE, and in every minor version.
    #[test]
    fn no_bytes_make_an_operation_panic(
        minor in 0u32..3,
        code in 0u32..80,
        in_root in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200),
    ) {
        let world = World::new();
        let client = world.client("one");
        let mut operations = Vec::new();
        if minor > 0 {
            operations.push(client.sequence(client.sequence.get() + 1, 0, false));
        }
        if in_root {
            operations.extend(root());
        }
        operations.push(op(code, &()));
        let mut all = arguments(minor, &operations).to_vec();
        all.extend_from_slice(&bytes);
        let _ = world.raw("10.0.0.1".parse().unwrap(), all.into());
        prop_assert_eq!(world.state.borrow().check(), Ok(()));
    }
}

#[test]
fn the_pseudo_file_system_shows_each_client_its_own() {
    let world = World::new();
    let names = |peer: &str| {
        let (cookie, verifier, dircount, maxcount) = (0, [0; 8], 1000, 1000);
        let wanted = Bitmap::of([0, 8, 20, 55]);
        let args = listing::ReaddirArgs { cookie, verifier, dircount, maxcount, wanted };
        let mut reply = world.from(peer, 0, &[op(24, &()), op(26, &args)]).skip(&[24]);
        let listing: listing::Listing = reply.ok(26);
        assert!(listing.end);
        let mut names: Vec<_> = listing.entries.0.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    };
    assert_eq!(names("10.0.0.1"), ["p"]);
    assert_eq!(names("10.0.0.2"), ["p", "q"]);
    let hidden = [op(24, &()), lookup("q")];
    assert_eq!(world.from("10.0.0.1", 0, &hidden).status, Status::NoEnt);
    assert_eq!(world.from("10.0.0.2", 0, &hidden).status, Status::Ok);
    // Down and up again, across the root of the export.
    let way = [op(24, &()), lookup("p"), op(10, &()), lookup("a"), op(16, &()), op(10, &())];
    let mut reply = world.compound(0, &way).skip(&[24, 15]);
    let down: HandleBytes = reply.ok(10);
    let up: HandleBytes = reply.skip(&[15, 16]).ok(10);
    assert_eq!(down, up);
    let above = [op(24, &()), op(16, &())];
    assert_eq!(world.compound(0, &above).status, Status::NoEnt);
    assert_eq!(world.compound(0, &[op(24, &()), mkdir("x")]).status, Status::RoFs);
}

#[test]
fn an_export_that_is_not_ready_is_waited_for_by_those_it_lets_in() {
    let mut world = World::new();
    let handle = |world: &World, peer| -> HandleBytes {
        world
            .from(peer, 0, &[op(24, &()), lookup("q"), lookup("b"), op(10, &())])
            .skip(&[24, 15, 15])
            .ok(10)
    };
    let root = handle(&world, "10.0.0.2");
    let Export { file_system, path, rules, .. } = export(2, ["q", "b"], "10.0.0.2", 32);
    let waiting = vec![Export { file_system, path, store: (), keys: None, rules }];
    let ready = vec![export(1, ["p", "a"], "0.0.0.0", 0)];
    world.exports = Exports::with_waiting(ready, waiting).unwrap();
    let put = [op(22, &root)];
    let way = [op(24, &()), lookup("q"), lookup("b")];
    assert_eq!(world.from("10.0.0.2", 0, &put).status, Status::Delay);
    assert_eq!(world.from("10.0.0.2", 0, &way).status, Status::Delay);
    assert_eq!(world.from("10.0.0.1", 0, &put).status, Status::Access);
    assert_eq!(world.from("10.0.0.1", 0, &way).status, Status::NoEnt);
    assert_eq!(world.from("10.0.0.2", 0, &way[..2]).status, Status::Ok);
    let ready = vec![export(1, ["p", "a"], "0.0.0.0", 0)];
    world.exports = Exports::new(ready).unwrap();
    assert_eq!(world.from("10.0.0.2", 0, &put).status, Status::Stale);
}

#[test]
fn one_compound_opens_writes_reads_and_closes_by_the_current_stateid() {
    let world = World::new();
    let client = world.client("one");
    let mut reply = client.at(&[
        op(18, &open(client.id, "f", 3, 0, unchecked(None))),
        write(Stateid::CURRENT, "text"),
        read(Stateid::CURRENT),
        op(4, &CloseArgs { seqid: 0, stateid: Stateid::CURRENT }),
        read(Stateid::CURRENT),
    ]);
    let opened: OpenOk = reply.ok(18);
    assert_ne!(opened.change.before, opened.change.after);
    assert_eq!(reply.ok::<data::Written>(38).count, 4);
    assert_eq!(reply.ok::<(bool, Bytes)>(25), (true, Bytes::from("text")));
    assert_eq!(reply.ok::<Stateid>(4), Stateid::INVALID);
    assert_eq!(reply.next(25), Status::BadStateid);
    let mut reply = client.with_file("f", &[write(opened.stateid, "late")]);
    assert_eq!(reply.next(38), Status::BadStateid);
}

#[test]
fn a_share_that_is_denied_truncates_nothing() {
    let world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    let opened = one.open("f", 3, 2, unchecked(None)).1.unwrap();
    assert_eq!(one.with_file("f", &[write(opened.stateid.clone(), "text")]).status, Status::Ok);
    assert_eq!(two.open("f", 2, 0, unchecked(Some(0))).0, Status::ShareDenied);
    let mut reply = two.with_file("f", &[read(Stateid::ANONYMOUS)]);
    assert_eq!(reply.ok::<(bool, Bytes)>(25).1, "text");
    let mut reply = two.with_file("f", &[write(Stateid::ANONYMOUS, "over")]);
    assert_eq!(reply.next(38), Status::Locked);
    let close = CloseArgs { seqid: 0, stateid: opened.stateid };
    assert_eq!(one.with_file("f", &[op(4, &close)]).status, Status::Ok);
    assert_eq!(two.open("f", 2, 0, unchecked(Some(0))).0, Status::Ok);
    let mut reply = two.with_file("f", &[read(Stateid::ANONYMOUS)]);
    assert_eq!(reply.ok::<(bool, Bytes)>(25).1, "");
}

fn lock(open: Stateid, kind: LockType, offset: u64, length: u64) -> Bytes {
    let owner = StateOwner { client: ClientId(0), name: OwnerName(Bytes::from_static(b"lock")) };
    let locker = Locker::New(NewOwner { open_seqid: 0, open, lock_seqid: 0, owner });
    op(12, &LockArgs { kind, reclaim: false, offset, length, locker })
}

#[test]
fn a_denied_lock_says_who_holds_it() {
    let world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    let first = one.open("f", 3, 0, unchecked(None)).1.unwrap().stateid;
    let second = two.open("f", 3, 0, OpenHow::NoCreate).1.unwrap().stateid;
    let locked = lock(first.clone(), LockType::Write, 10, u64::MAX);
    assert_eq!(one.with_file("f", &[locked]).status, Status::Ok);
    let mut reply = two.with_file("f", &[lock(second.clone(), LockType::Read, 0, 11)]);
    assert_eq!(reply.next(12), Status::Denied);
    let denied: LockDenied = reply.value();
    let (offset, length, kind) = (denied.offset, denied.length, denied.kind);
    assert_eq!((offset, length, kind), (10, u64::MAX, LockType::Write));
    assert_eq!((denied.owner.client, &denied.owner.name.0[..]), (one.id, &b"lock"[..]));
    let free = lock(second.clone(), LockType::Read, 0, 10);
    assert_eq!(two.with_file("f", &[free]).status, Status::Ok);
    let nothing = lock(second.clone(), LockType::Read, 0, 0);
    assert_eq!(two.with_file("f", &[nothing]).status, Status::Inval);
    let past = lock(second, LockType::Read, u64::MAX, 2);
    assert_eq!(two.with_file("f", &[past]).status, Status::Inval);
}

#[test]
fn nothing_is_granted_before_the_record_that_stood_against_it_is_gone() {
    let world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    one.open("f", 3, 3, unchecked(None)).1.unwrap();
    world.now_ms.set(LEASE_MS + 1);
    world.records.refuses.set(true);
    two.sequence.set(two.sequence.get() + 1);
    let mut operations = vec![two.sequence(two.sequence.get(), 0, false)];
    operations.extend(root());
    operations.push(op(18, &open(two.id, "f", 1, 0, OpenHow::NoCreate)));
    let peer = "10.0.0.1".parse().unwrap();
    assert_eq!(world.raw(peer, arguments(1, &operations)), Err(Accepted::SystemErr));
    assert_eq!(world.records.log.borrow().len(), 2);
    world.records.refuses.set(false);
    assert_eq!(two.open("f", 1, 0, OpenHow::NoCreate).0, Status::Ok);
    assert_eq!(world.records.log.borrow()[2], "remove b\"one\"");
    assert_eq!(one.call(&[]).status, Status::BadSession);
}

#[test]
fn holes_are_found_made_and_copied() {
    let world = World::new();
    let client = world.client("one");
    let stateid = client.open("f", 3, 0, unchecked(None)).1.unwrap().stateid;
    let at = |code, offset, bytes| {
        let stateid = stateid.clone();
        op(code, &extents::RangeArgs { stateid, offset, bytes })
    };
    assert_eq!(client.with_file("f", &[at(59, 0, 3 * 4096)]).status, Status::Ok);
    assert_eq!(client.with_file("f", &[at(62, 4096, 4096)]).status, Status::Ok);
    assert_eq!(client.with_file("f", &[at(59, 0, 0)]).status, Status::Inval);
    let seek = |offset, what| {
        let args = extents::SeekArgs { stateid: stateid.clone(), offset, what };
        let mut reply = client.with_file("f", &[op(69, &args)]);
        match reply.next(69) {
            Status::Ok => Ok(reply.value::<(bool, u64)>()),
            status => Err(status),
        }
    };
    use extents::DataContent::{Data, Hole};
    assert_eq!(seek(0, Hole), Ok((false, 4096)));
    assert_eq!(seek(4096, Data), Ok((false, 8192)));
    assert_eq!(seek(8192, Hole), Ok((true, 12288)));
    assert_eq!(seek(12288, Data), Err(Status::NxIo));
    let other = client.open("g", 3, 0, unchecked(None)).1.unwrap().stateid;
    let (from, to) = (stateid.clone(), other);
    let clone = extents::CloneArgs { from, to, from_offset: 8192, to_offset: 0, count: 4096 };
    let copy = extents::CopyArgs {
        from: clone.from.clone(),
        to: clone.to.clone(),
        from_offset: 0,
        to_offset: 4096,
        count: 0,
        consecutive: true,
        synchronous: true,
        servers: Vec::new(),
    };
    let both = |operation| {
        let way = [vec![lookup("f"), op(32, &())], root(), vec![lookup("g"), operation]].concat();
        client.at(&way).skip(&[15, 32, 24, 15, 15, 15])
    };
    assert_eq!(both(op(71, &clone)).status, Status::Ok);
    assert_eq!(both(op(60, &copy)).ok::<extents::Copied>(60).count, 3 * 4096);
    let past = extents::CopyArgs { from_offset: 1, count: 3 * 4096, ..copy };
    assert_eq!(both(op(60, &past)).status, Status::Inval);
    let wanted = Bitmap::of([4]);
    let size: Fattr = client.with_file("g", &[op(9, &wanted)]).ok(9);
    assert_eq!(size.values, to_bytes(&(4 * 4096u64)));
}

#[test]
fn names_that_cannot_be_are_refused_each_in_its_way() {
    let world = World::new();
    let client = world.client("one");
    let long = "n".repeat(256);
    for (name, status) in [
        ("", Status::Inval),
        (".", Status::BadName),
        ("..", Status::BadName),
        ("a/b", Status::BadName),
        (&long, Status::NameTooLong),
    ] {
        assert_eq!(client.at(&[mkdir(name)]).next(6), status, "{name}");
    }
    let raw = op(15, &Bytes::from_static(&[0xff, 0xfe]));
    assert_eq!(client.at(&[raw]).next(15), Status::Inval);
    let made: (ChangeInfo, Bitmap) = client.at(&[mkdir("d")]).ok(6);
    assert!(made.0.atomic);
    assert_eq!(client.at(&[mkdir("d")]).next(6), Status::Exist);
}
