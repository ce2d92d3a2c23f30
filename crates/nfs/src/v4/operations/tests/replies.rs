//! Replies of more than one piece: large data is in a piece of its own.

use super::*;

/// What a READ of so many sevens says, behind its status.
fn is_data(reply: &mut Reply, bytes: usize) {
    let (end, data): (bool, Bytes) = reply.ok(25);
    assert_eq!((end, data.len()), (false, bytes));
    assert!(data.iter().all(|byte| *byte == 7));
}

fn begun(world: &World) -> (Client<'_>, Stateid) {
    let client = world.client("one");
    let opened = client.open("f", 3, 0, unchecked(None)).1.unwrap();
    let (stateid, data) = (opened.stateid, Bytes::from(vec![7; 9000]));
    let args =
        data::WriteArgs { stateid: stateid.clone(), offset: 0, stable: StableHow::FileSync, data };
    assert_eq!(client.with_file("f", &[op(38, &args)]).status, Status::Ok);
    (client, stateid)
}

#[test]
fn what_fails_behind_large_data_leaves_it_and_is_counted() {
    let world = World::new();
    let (client, stateid) = begun(&world);
    let large = || op(25, &data::ReadArgs { stateid: stateid.clone(), offset: 0, count: 4000 });
    let illegal = op(9999, &7_u32);
    // A LOOKUP in a file, an operation that is none, and data for which there is no more room.
    for (last, code, status) in [
        (lookup("x"), 15, Status::NotDir),
        (illegal, ILLEGAL, Status::OpIllegal),
        (large(), 25, Status::RepTooBig),
    ] {
        let mut reply = client.with_file("f", &[large(), large(), last, large()]);
        assert_eq!(reply.status, status);
        is_data(&mut reply, 4000);
        is_data(&mut reply, 4000);
        assert_eq!(reply.next(code), status);
        assert_eq!(reply.count, 8, "SEQUENCE, the way to the file, and three of four");
        assert!(reply.results.rest().is_empty());
    }
}
