//! Calls that are sent again by a client that has not heard the reply, through the whole server.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use bytes::Bytes;
use model::file::{Caller, FileStore, New, SetAttributes};
use nfs::export::{Export, Exports, Network, Rule, Squash};
use nfs::handle::{FileSystemId, Form, Handle, HandleKey};
use nfs::memory::{Forgotten, Memory};
use nfs::replay::{CallKey, Replays};
use nfs::rpc::{AuthSys, Call, Credential, Opaque, Reply};
use nfs::server::{Server, answer};
use nfs::v4::state::{Config, State};
use nfs::xdr::{Reader, Writer, Xdr};

const ID: FileSystemId = FileSystemId([1; 16]);

struct World {
    exports: Exports<Memory>,
    keys: HandleKey,
    state: RefCell<State>,
    replays: RefCell<Replays>,
}

impl World {
    fn new() -> Self {
        let network = Network { address: "0.0.0.0".parse().unwrap(), prefix_bits: 0 };
        let squash = Squash::None;
        let rule = Rule { network, read_only: false, squash, anonymous: (1, 1) };
        let (path, store) = (vec![Bytes::from_static(b"e")], Memory::new(0, 1 << 20));
        let export = Export { file_system: ID, path, store, keys: None, rules: vec![rule] };
        Self {
            exports: Exports::new(vec![export]).unwrap(),
            keys: HandleKey::new(&[2; 32]),
            state: RefCell::new(State::new(Config::default(), 9, Vec::new(), 0)),
            replays: RefCell::new(Replays::new(1 << 20)),
        }
    }
    fn store(&self) -> &Memory {
        &self.exports.find(ID).unwrap().store
    }
    fn root(&self) -> Bytes {
        self.keys.seal(&Handle { form: Form::File, file_system: ID, file: self.store().root() })
    }
    fn call(&self, version: u32, procedure: u32, xid: u32, arguments: Writer) -> Call {
        let credential = credential(1000).to_opaque();
        let arguments = arguments.into_bytes();
        let (program, verifier) = (100_003, Opaque::none());
        Call { xid, program, version, procedure, credential, verifier, arguments }
    }
    /// The reply's bytes, from the one client of these tests unless another is named.
    fn send_from(&self, peer: &str, call: &Call) -> Option<Bytes> {
        let reached = Cell::new(None);
        let server = Server {
            exports: &self.exports,
            keys: &self.keys,
            state: &self.state,
            records: &Forgotten,
            replays: &self.replays,
            name: b"server",
            reached: &reached,
        };
        let peer: IpAddr = peer.parse().unwrap();
        answer(&server, peer, call.encode(), 0).map(|pieces| pieces.concat().into())
    }
    fn send(&self, call: &Call) -> Bytes {
        self.send_from("10.0.0.1", call).expect("a reply")
    }
    /// NFSv3 REMOVE of a name in the root.
    fn remove(&self, xid: u32, name: &str) -> Call {
        let mut arguments = Writer::default();
        arguments.opaque(&self.root());
        arguments.opaque(name.as_bytes());
        self.call(3, 12, xid, arguments)
    }
    /// NFSv4.0: PUTFH of the root, CREATE of a directory.
    fn make(&self, xid: u32, name: &str) -> Call {
        let mut arguments = Writer::default();
        arguments.opaque(b"");
        arguments.u32(0);
        arguments.u32(2);
        arguments.u32(22);
        arguments.opaque(&self.root());
        arguments.u32(6);
        arguments.u32(2);
        arguments.opaque(name.as_bytes());
        arguments.u32(0);
        arguments.u32(0);
        self.call(4, 1, xid, arguments)
    }
    fn has(&self, name: &str) -> bool {
        let (store, caller) = (self.store(), Caller { uid: 0, gid: 0, gids: Vec::new() });
        store.lookup(&caller, store.root(), name.as_bytes()).is_ok()
    }
    fn put(&self, name: &str) {
        let (store, caller) = (self.store(), Caller { uid: 0, gid: 0, gids: Vec::new() });
        let set = SetAttributes { uid: Some(1000), ..SetAttributes::default() };
        store
            .make(&caller, store.root(), name.as_bytes(), &New::Symlink("x".into()), &set)
            .unwrap();
        let open = SetAttributes { mode: Some(0o777), ..SetAttributes::default() };
        store.set_attributes(&caller, store.root(), &open, None).unwrap();
    }
}

fn credential(uid: u32) -> Credential {
    Credential::Sys(AuthSys { stamp: 0, machine: Bytes::new(), uid, gid: uid, gids: vec![] })
}

/// The status that results of both versions begin with.
fn status(reply: &Bytes) -> u32 {
    let mut reader = Reader::new(reply.clone());
    Reply::read(&mut reader).unwrap();
    reader.u32().unwrap()
}

#[test]
fn a_remove_that_came_again_found_nothing_and_said_so() {
    let world = World::new();
    world.put("f");
    let call = world.remove(5, "f");
    let first = world.send(&call);
    assert_eq!((status(&first), world.has("f")), (0, false));
    // Somebody makes the name anew; the call that comes late must not take that away.
    world.put("f");
    assert_eq!((world.send(&call), world.has("f")), (first.clone(), true));
    let other = world.remove(6, "f");
    assert_eq!((status(&world.send(&other)), world.has("f")), (0, false));
    let same_number = world.remove(5, "g");
    assert_eq!(status(&world.send(&same_number)), 2, "another call of this number runs");
    assert_eq!(status(&world.send_from("10.0.0.2", &call).unwrap()), 2, "and another client's");
}

#[test]
fn a_directory_of_version_zero_that_was_asked_for_again_existed() {
    let world = World::new();
    world.put("f");
    let call = world.make(5, "d");
    let first = world.send(&call);
    assert_eq!((status(&first), world.has("d")), (0, true));
    assert_eq!(world.send(&call), first);
    let anew = world.make(6, "d");
    assert_eq!(status(&world.send(&anew)), 17);
}

#[test]
fn a_call_that_comes_again_while_it_runs_is_dropped() {
    let world = World::new();
    world.put("f");
    for call in [world.remove(5, "f"), world.make(6, "d")] {
        let key = CallKey::of("10.0.0.1".parse().unwrap(), &call, &credential(1000));
        assert_eq!(world.replays.borrow_mut().begin(key, 0), None);
        assert_eq!(world.send_from("10.0.0.1", &call), None);
        world.replays.borrow_mut().end(key, None, 0);
    }
    assert!(world.has("f") && !world.has("d"));
    let looked = world.call(3, 1, 7, {
        let mut arguments = Writer::default();
        arguments.opaque(&world.root());
        arguments
    });
    let key = CallKey::of("10.0.0.1".parse().unwrap(), &looked, &credential(1000));
    assert_eq!(world.replays.borrow_mut().begin(key, 0), None);
    assert_eq!(status(&world.send(&looked)), 0, "what only looks asks nobody");
}
