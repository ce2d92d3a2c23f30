//! NFSv4.0, whose owners have numbers in place of sessions.

use super::*;
use crate::v4::operations::locks::{KnownOwner, LockuArgs};
use crate::v4::operations::opens::ConfirmArgs;
use crate::v4::types::Verifier;

/// A confirmed client.
struct Zero<'w> {
    world: &'w World,
    id: ClientId,
}

impl<'w> Zero<'w> {
    fn new(world: &'w World) -> Self {
        let args = clients::SetClientIdArgs {
            verifier: [1; 8],
            name: OwnerName("zero".into()),
            callback_program: 0,
            callback_address: (Bytes::new(), Bytes::new()),
            callback_ident: 0,
        };
        let (id, confirm): (ClientId, Verifier) = world.compound(0, &[op(35, &args)]).ok(35);
        let renew = op(30, &id);
        assert_eq!(world.compound(0, std::slice::from_ref(&renew)).status, Status::StaleClientid);
        assert_eq!(world.compound(0, &[op(36, &(id, confirm))]).status, Status::Ok);
        assert_eq!(world.compound(0, &[renew]).status, Status::Ok);
        Self { world, id }
    }
    fn run(&self, operations: &[Bytes]) -> Reply {
        let mut all = root();
        all.extend_from_slice(operations);
        self.world.compound(0, &all).skip(&[24, 15, 15])
    }
    fn in_file(&self, operation: Bytes) -> Reply {
        self.run(&[lookup("f"), operation]).skip(&[15])
    }
    fn try_open(&self, seqid: u32, access: u32, deny: u32) -> Reply {
        let args = OpenArgs { seqid, ..open(self.id, "f", access, deny, unchecked(None)) };
        self.run(&[op(18, &args)])
    }
    fn open(&self, seqid: u32, access: u32, deny: u32) -> OpenOk {
        self.try_open(seqid, access, deny).ok(18)
    }
    fn confirm(&self, seqid: u32, stateid: Stateid) -> Reply {
        self.in_file(op(20, &ConfirmArgs { stateid, seqid }))
    }
    /// "f" opened and confirmed, by the requests 1 and 2 of its owner.
    fn opened(&self, deny: u32) -> Stateid {
        let first = self.open(1, 3, deny);
        self.confirm(2, first.stateid).ok(20)
    }
    fn lock(&self, open: &Stateid, open_seqid: u32, client: ClientId) -> Status {
        let owner = StateOwner { client, name: OwnerName(Bytes::from_static(b"lock")) };
        let new = NewOwner { open_seqid, open: open.clone(), lock_seqid: 1, owner };
        let (kind, reclaim, locker) = (LockType::Write, false, Locker::New(new));
        self.in_file(op(12, &LockArgs { kind, reclaim, offset: 0, length: 10, locker })).next(12)
    }
}

#[test]
fn an_owner_takes_its_turns() {
    let world = World::new();
    let client = Zero::new(&world);
    let first = client.open(5, 3, 0);
    assert_eq!(first.flags & 2, 2, "a new owner is to confirm");
    assert_eq!(client.open(5, 3, 0), first, "a retry is answered as before");
    let early = write(first.stateid.clone(), "text");
    assert_eq!(client.in_file(early).status, Status::BadStateid);
    let confirmed: Stateid = client.confirm(6, first.stateid).ok(20);
    assert_eq!(client.try_open(9, 1, 0).status, Status::BadSeqid);
    let close = CloseArgs { seqid: 7, stateid: confirmed.clone() };
    let close = || -> Stateid { client.in_file(op(4, &close)).ok(4) };
    assert_eq!(close(), close(), "a retry of what is gone is answered as before");
    assert_eq!(client.in_file(write(confirmed, "text")).status, Status::BadStateid);
}

#[test]
fn a_refused_first_open_was_the_answer_for_the_next_name_under_its_number() {
    let world = World::new();
    let client = Zero::new(&world);
    let missing = OpenArgs { seqid: 0, ..open(client.id, "missing", 1, 0, OpenHow::NoCreate) };
    assert_eq!(client.run(&[op(18, &missing)]).next(18), Status::NoEnt);
    let first = client.open(0, 1, 0);
    assert_eq!(client.open(0, 1, 0), first, "a retry of what was granted is answered as before");
}

#[test]
fn an_owner_passed_its_own_deny_mode() {
    let world = World::new();
    let client = Zero::new(&world);
    client.opened(1);
    assert_eq!(client.try_open(3, 1, 0).next(18), Status::ShareDenied);
    assert_eq!(client.try_open(4, 2, 0).next(18), Status::Ok);
    assert_eq!(client.try_open(5, 2, 2).next(18), Status::ShareDenied, "it writes itself");
}

#[test]
fn an_open_was_confirmed_twice() {
    let world = World::new();
    let client = Zero::new(&world);
    let confirmed = client.opened(0);
    assert_eq!(client.confirm(3, confirmed.clone()).next(20), Status::BadStateid);
    assert_eq!(client.lock(&confirmed, 3, client.id), Status::Ok, "the number is still free");
}

#[test]
fn a_lock_was_given_to_an_owner_of_no_client() {
    let world = World::new();
    let client = Zero::new(&world);
    let stateid = client.opened(0);
    let nobody = ClientId(client.id.0 ^ 1 << 40);
    assert_eq!(client.lock(&stateid, 3, nobody), Status::StaleClientid);
    assert_eq!(client.lock(&stateid, 3, client.id), Status::Ok);
}

#[test]
fn a_name_too_long_for_any_directory_was_only_missing_in_the_pseudo_file_system() {
    let world = World::new();
    let look = |name: &str| world.compound(0, &[op(24, &()), lookup(name)]).skip(&[24]).next(15);
    assert_eq!(look(&"n".repeat(256)), Status::NameTooLong);
    assert_eq!(look(&"n".repeat(255)), Status::NoEnt);
}

#[test]
fn a_lock_is_taken_and_given_back_by_its_owners_numbers() {
    let world = World::new();
    let client = Zero::new(&world);
    let open = client.opened(0);
    let owner = StateOwner { client: client.id, name: OwnerName(Bytes::from_static(b"lock")) };
    let new = NewOwner { open_seqid: 3, open, lock_seqid: 8, owner };
    let (kind, reclaim) = (LockType::Write, false);
    let lock = |offset, locker| LockArgs { kind, reclaim, offset, length: 10, locker };
    let first: Stateid = client.in_file(op(12, &lock(0, Locker::New(new)))).ok(12);
    let known = |seqid| Locker::Known(KnownOwner { stateid: first.clone(), seqid });
    assert_eq!(client.in_file(op(12, &lock(10, known(8)))).next(12), Status::Ok, "a retry");
    let second: Stateid = client.in_file(op(12, &lock(10, known(9)))).ok(12);
    assert_eq!(second.seqid, first.seqid + 1);
    let unlock = |stateid, seqid| LockuArgs { kind, seqid, stateid, offset: 0, length: 20 };
    let last: Stateid = client.in_file(op(14, &unlock(second, 10))).ok(14);
    assert_eq!(last.seqid, first.seqid + 2);
}

#[test]
fn a_call_of_a_million_operations_was_run_to_its_end() {
    let world = World::new();
    let run = |count: usize| {
        let reply = world.compound(0, &vec![op(24, &()); count]);
        (reply.status, reply.count)
    };
    assert_eq!(run(128), (Status::Ok, 128));
    assert_eq!(run(129), (Status::Resource, 0));
}
