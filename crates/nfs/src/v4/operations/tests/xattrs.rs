//! Extended attributes (RFC 8276).

use super::*;
use crate::v4::operations::xattrs::{ListXattrsArgs, ListedXattrs, SetOption, SetXattrArgs};

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(text: &str, value: &'static str, option: SetOption) -> Bytes {
    op(73, &SetXattrArgs { option, name: name(text), value: value.into() })
}

fn list(client: &Client<'_>, cookie: u64, maxcount: u32) -> Result<ListedXattrs, Status> {
    let mut reply = client.with_file("f", &[op(74, &ListXattrsArgs { cookie, maxcount })]);
    match reply.next(74) {
        Status::Ok => Ok(reply.value()),
        status => Err(status),
    }
}

#[test]
fn attributes_are_set_read_and_removed_as_is_asked() {
    let world = World::new();
    let client = world.client("one");
    assert_eq!(client.open("f", 3, 0, unchecked(None)).0, Status::Ok);
    let run = |operation: Bytes, code| client.with_file("f", &[operation]).next(code);
    assert_eq!(run(op(72, &name("a")), 72), Status::NoXattr);
    assert_eq!(run(set("a", "1", SetOption::Replace), 73), Status::NoXattr);
    let mut reply = client.with_file("f", &[set("a", "1", SetOption::Create)]);
    let change: ChangeInfo = reply.ok(73);
    assert!(change.atomic && change.before != change.after);
    assert_eq!(run(set("a", "2", SetOption::Create), 73), Status::Exist);
    assert_eq!(run(set("a", "3", SetOption::Either), 73), Status::Ok);
    assert_eq!(client.with_file("f", &[op(72, &name("a"))]).ok::<Bytes>(72), "3");
    for wrong in ["", "a\0b"] {
        assert_eq!(run(op(72, &name(wrong)), 72), Status::Inval);
    }
    assert_eq!(run(set(&"n".repeat(300), "1", SetOption::Either), 73), Status::NameTooLong);
    assert_eq!(run(op(75, &name("a")), 75), Status::Ok);
    assert_eq!(run(op(75, &name("a")), 75), Status::NoXattr);
    let pseudo = |operation, code| client.call(&[op(24, &()), operation]).skip(&[24]).next(code);
    assert_eq!(pseudo(op(72, &name("a")), 72), Status::NoXattr);
    assert_eq!(pseudo(set("a", "1", SetOption::Either), 73), Status::RoFs);
}

#[test]
fn a_long_list_of_names_comes_in_pieces_and_each_name_once() {
    let world = World::new();
    let client = world.client("one");
    assert_eq!(client.open("f", 3, 0, unchecked(None)).0, Status::Ok);
    let empty = list(&client, 0, 1000).unwrap();
    assert_eq!((empty.names.len(), empty.end), (0, true));
    let all: Vec<String> = (0..20).map(|number| format!("name-{number}")).collect();
    for name in &all {
        let mut reply = client.with_file("f", &[set(name, "v", SetOption::Create)]);
        assert_eq!(reply.next(73), Status::Ok);
    }
    assert_eq!(list(&client, 0, 20), Err(Status::TooSmall));
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let piece = list(&client, cookie, 50).unwrap();
        assert!(piece.names.len() <= 2);
        names.extend(piece.names);
        cookie = piece.cookie;
        if piece.end {
            break;
        }
    }
    names.sort();
    let mut all: Vec<Bytes> = all.into_iter().map(Bytes::from).collect();
    all.sort();
    assert_eq!(names, all);
}

#[test]
fn access_tells_what_may_be_done_with_attributes_where_it_is_asked() {
    let world = World::new();
    let client = world.client("one");
    assert_eq!(client.open("f", 3, 0, unchecked(None)).0, Status::Ok);
    let access = |wanted: u32| client.with_file("f", &[op(3, &wanted)]).ok::<(u32, u32)>(3);
    assert_eq!(access(0x1c0), (0x1c0, 0x1c0));
    assert_eq!(access(0x41), (0x41, 0x41));
    assert_eq!(access(0x200), (0, 0));
    let old = world.compound(0, &[root(), vec![lookup("f"), op(3, &0x41u32)]].concat());
    assert_eq!(old.skip(&[24, 15, 15, 15]).ok::<(u32, u32)>(3), (1, 1));
    let supported = client.with_file("f", &[op(9, &Bitmap::of([82]))]).ok::<Fattr>(9);
    assert_eq!(supported.values, to_bytes(&true));
}
