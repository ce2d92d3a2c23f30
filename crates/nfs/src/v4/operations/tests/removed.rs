//! Files that are removed while they are open (RFC 8881 18.25.4).

use super::*;

/// "f", opened by this client for reading and writing: its stateid and handle.
fn opened(client: &Client<'_>) -> (Stateid, HandleBytes) {
    let args = open(client.id, "f", 3, 0, unchecked(None));
    let mut reply = client.at(&[op(18, &args), op(10, &())]);
    let ok: OpenOk = reply.ok(18);
    assert_eq!(ok.flags & 8, 8, "OPEN4_RESULT_PRESERVE_UNLINKED");
    (ok.stateid, reply.ok(10))
}

fn in_handle(client: &Client<'_>, handle: &HandleBytes, operation: Bytes) -> Reply {
    let mut reply = client.call(&[op(22, handle), operation]);
    assert_eq!(reply.next(22), Status::Ok);
    reply
}

fn remove(client: &Client<'_>, name: &str) {
    let name = Bytes::copy_from_slice(name.as_bytes());
    assert_eq!(client.at(&[op(28, &name)]).status, Status::Ok);
}

fn status(client: &Client<'_>, handle: &HandleBytes) -> Status {
    client.call(&[op(22, handle), op(9, &Bitmap::of([4]))]).status
}

#[test]
fn a_removed_file_stays_for_each_who_has_it_open_until_he_closes_it() {
    let world = World::new();
    let (one, two, three) = (world.client("one"), world.client("two"), world.client("three"));
    let (stateid, handle) = opened(&one);
    let (also, _) = opened(&two);
    assert_eq!(in_handle(&one, &handle, write(stateid.clone(), "text")).status, Status::Ok);
    remove(&three, "f");
    assert_eq!(three.at(&[lookup("f")]).status, Status::NoEnt);
    let (end, text): (bool, Bytes) = in_handle(&two, &handle, read(also.clone())).ok(25);
    assert_eq!((end, &text[..]), (true, &b"text"[..]));
    let close = |client: &Client<'_>, stateid: Stateid| {
        in_handle(client, &handle, op(4, &CloseArgs { seqid: 0, stateid })).status
    };
    assert_eq!(close(&one, stateid), Status::Ok);
    assert_eq!(in_handle(&two, &handle, write(also.clone(), "more")).status, Status::Ok);
    assert_eq!(close(&two, also), Status::Ok);
    assert_eq!(status(&two, &handle), Status::Stale);
    assert!(!world.state.borrow().has_released());
}

#[test]
fn a_client_of_nfsv4_0_is_not_told_that_its_open_file_has_no_links_and_so_is_gone() {
    let world = World::new();
    let client = world.client("one");
    let (_, handle) = opened(&client);
    remove(&client, "f");
    let wanted = op(9, &Bitmap::of([35]));
    let links = |mut reply: Reply| {
        let found: Fattr = reply.ok(9);
        found.values
    };
    assert_eq!(links(in_handle(&client, &handle, wanted.clone()))[..], 0u32.to_be_bytes());
    let mut zero = world.compound(0, &[op(22, &handle), wanted]);
    assert_eq!(zero.next(22), Status::Ok);
    assert_eq!(links(zero)[..], 1u32.to_be_bytes());
}

#[test]
fn a_file_that_another_is_renamed_over_goes_with_the_lease_of_who_has_it_open() {
    let world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    let (_, handle) = opened(&one);
    let made = two.open("g", 3, 0, unchecked(None)).0;
    assert_eq!(made, Status::Ok);
    let names = (Bytes::from_static(b"g"), Bytes::from_static(b"f"));
    let mut all = root();
    all.extend([op(32, &()), op(29, &names)]);
    assert_eq!(two.call(&all).status, Status::Ok);
    assert_eq!(status(&two, &handle), Status::Ok);
    // Nobody else wants anything of the silent client; the end of its courtesy ends the file.
    let config = Config::default();
    world.now_ms.set(LEASE_MS + config.courtesy_ms + 1);
    world.state.borrow_mut().tick(world.now_ms.get());
    let three = world.client("three");
    assert_eq!(status(&three, &handle), Status::Stale);
}

#[test]
fn an_open_that_is_refused_holds_nothing() {
    let world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    let (stateid, handle) = opened(&one);
    assert_eq!(one.open("f", 3, 0, OpenHow::NoCreate).0, Status::Ok, "widened, and held once");
    assert_eq!(two.open("f", 1, 3, OpenHow::NoCreate).0, Status::ShareDenied);
    remove(&two, "f");
    assert_eq!(status(&two, &handle), Status::Ok);
    let close = CloseArgs { seqid: 0, stateid: Stateid { seqid: 0, ..stateid } };
    assert_eq!(in_handle(&one, &handle, op(4, &close)).status, Status::Ok);
    assert_eq!(status(&two, &handle), Status::Stale);
}

#[test]
fn one_compound_does_not_wait_for_all_the_files_that_a_lost_lease_let_go() {
    let world = World::new();
    let lost = world.client("lost");
    for number in 0..40 {
        let name = format!("f{number}");
        assert_eq!(lost.open(&name, 3, 0, unchecked(None)).0, Status::Ok);
    }
    let courtesy_ms = Config::default().courtesy_ms;
    world.now_ms.set(courtesy_ms);
    let other = world.client("other");
    world.now_ms.set(courtesy_ms + LEASE_MS + 1);
    world.state.borrow_mut().tick(world.now_ms.get());
    let left = || {
        assert_eq!(other.call(&root()).status, Status::Ok);
        world.state.borrow().has_released()
    };
    // Sixteen each time, and the shell takes what nobody asks for.
    assert_eq!([left(), left(), left()], [true, true, false]);
}
