//! Attributes that a LOOKUP has found, told by the GETATTR behind it.

use super::*;

const MODE: u32 = 33;

#[test]
fn what_a_lookup_found_is_not_told_after_a_change() {
    let world = World::new();
    let client = world.client("one");
    assert_eq!(client.open("f", 3, 0, unchecked(None)).0, Status::Ok);
    let change = |mode: u32| {
        let set = Fattr { which: Bitmap::of([MODE]), values: to_bytes(&mode) };
        op(34, &attributes::SetattrArgs { stateid: Stateid::ANONYMOUS, set })
    };
    let ask = || op(9, &Bitmap::of([MODE]));
    let mode = |reply: &mut Reply| {
        let found: Fattr = reply.ok(9);
        u32::from_be_bytes(*found.values.first_chunk().unwrap())
    };
    let all = [ask(), change(0o600), ask(), change(0o640), op(10, &()), ask()];
    let mut reply = client.with_file("f", &all);
    assert_eq!(reply.status, Status::Ok);
    mode(&mut reply);
    let _: Bitmap = reply.ok(34);
    assert_eq!(mode(&mut reply), 0o600);
    let _: Bitmap = reply.ok(34);
    let _: HandleBytes = reply.ok(10);
    assert_eq!(mode(&mut reply), 0o640);
    // Behind GETFH, which looks at nothing, it is still what LOOKUP found.
    let mut reply = client.with_file("f", &[op(10, &()), ask()]);
    let _: HandleBytes = reply.ok(10);
    assert_eq!(mode(&mut reply), 0o640);
    // And of the file that one has gone to, not of the one before.
    let mut all = vec![lookup("f")];
    all.extend(root());
    all.push(ask());
    let mut reply = client.at(&all).skip(&[15, 24, 15, 15]);
    assert_ne!(mode(&mut reply), 0o640);
}
