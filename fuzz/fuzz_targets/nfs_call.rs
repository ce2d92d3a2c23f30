//! Any procedure or operation with any arguments, several in a row on one server. Knobs: for each
//! call a byte that chooses what is called and whether a good start stands in front, a length
//! (1 byte), and so many bytes of arguments.
#![no_main]

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::file::{FileKind, FileStore};
use nfs::export::{Export, Exports, Network, Rule, Squash};
use nfs::handle::{FileSystemId, Form, Handle, HandleKey};
use nfs::memory::{Forgotten, Memory};
use nfs::replay::Replays;
use nfs::rpc::{AuthSys, Call, Credential, Opaque, Reply};
use nfs::server::{Server, answer};
use nfs::v4::state::{Config, State};
use nfs::xdr::{Reader, Writer, Xdr};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ID: FileSystemId = FileSystemId([1; 16]);

fn exports() -> Exports<Memory> {
    let network = Network { address: PEER, prefix_bits: 8 };
    let rule = Rule { network, read_only: false, squash: Squash::Root, anonymous: (1, 1) };
    let path = vec![Bytes::from_static(b"e")];
    let store = Memory::new(0, 1 << 20);
    let export = Export { file_system: ID, path, store, keys: None, rules: vec![rule] };
    Exports::new(vec![export]).expect("one export")
}

/// The arguments, behind a handle of the root (version 3) or a way to it (version 4).
fn arguments(version: u32, knob: u8, root: &[u8], bytes: &[u8]) -> Bytes {
    let mut writer = Writer::default();
    match (knob & 1, version) {
        (0, _) => {}
        (_, 3) => writer.opaque(root),
        _ => {
            writer.opaque(b"");
            // Minor version (only the first needs no session), count, PUTFH, and then one operation or two.
            writer.u32(0);
            writer.u32(2 + u32::from(knob >> 1 & 1));
            writer.u32(22);
            writer.opaque(root);
        }
    }
    let mut all = writer.into_bytes().to_vec();
    all.extend_from_slice(bytes);
    all.into()
}

fuzz_target!(|input: &[u8]| {
    let exports = exports();
    let keys = HandleKey::new(&[2; 32]);
    let state = RefCell::new(State::new(Config::default(), 9, Vec::new(), 0));
    let replays = RefCell::new(Replays::new(1 << 16));
    let reached = Cell::new(None);
    let server = Server {
        exports: &exports,
        keys: &keys,
        state: &state,
        records: &Forgotten,
        replays: &replays,
        name: b"f",
        reached: &reached,
    };
    let store = &exports.find(ID).expect("the export").store;
    let root = Handle { form: Form::File, file_system: ID, file: store.root() };
    let root = keys.seal(&root);
    let sys = AuthSys { stamp: 0, machine: Bytes::new(), uid: 5, gid: 5, gids: vec![6] };
    let credential = Credential::Sys(sys).to_opaque();
    let (mut rest, mut now_ms, mut xid) = (input, 0, 0);
    while let Some((&[knob, length], more)) = rest.split_first_chunk::<2>() {
        let (bytes, later) = more.split_at(usize::from(length).min(more.len()));
        rest = later;
        now_ms += 20_000;
        // Some are sent as if they came again.
        xid += u32::from(!knob >> 2 & 1);
        let (program, version, procedure) = match knob >> 3 {
            0..22 => (100_003, 3, u32::from(knob >> 3)),
            22 => (100_005, 3, u32::from(knob & 7)),
            _ => (100_003, 4, 1),
        };
        let (credential, verifier) = (credential.clone(), Opaque::none());
        let arguments = arguments(version, knob, &root, bytes);
        let call = Call { xid, program, version, procedure, credential, verifier, arguments };
        let reply = answer(&server, PEER, call.encode(), now_ms).expect("a call has a reply");
        let mut reader = Reader::new(reply.concat().into());
        assert_eq!(Reply::read(&mut reader).expect("a reply").xid, xid);
        state.borrow().check().expect("state that refers to what is there");
        let root = store.attributes(store.root()).expect("a root");
        assert_eq!(root.kind, FileKind::Directory);
    }
});
