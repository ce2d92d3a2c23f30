use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::Access;
use proptest::prelude::*;

use super::messages::*;
use super::types::*;
use super::*;
use crate::export::{Export, Exports, Network, Rule, Squash};
use crate::handle::{FileSystemId, Handle, HandleKey};
use crate::memory::Memory;
use crate::mount::{self, MountStat, Mounted};
use crate::rpc::{AuthSys, Credential};
use crate::xdr::{from_bytes, to_bytes};

/// Two exports, "/p/a" and "/p/b"; the second is read-only to 10.0.0.9.
struct World {
    exports: Exports<Memory>,
    keys: HandleKey,
    peer: IpAddr,
    credential: Credential,
    reached: Cell<Option<FileSystemId>>,
}

fn export(id: u8, name: &'static str) -> Export<Memory> {
    let rule = |address: &str, prefix_bits, read_only| Rule {
        network: Network { address: address.parse().unwrap(), prefix_bits },
        read_only,
        squash: Squash::Root,
        anonymous: (65534, 65534),
    };
    Export {
        file_system: FileSystemId([id; 16]),
        keys: None,
        path: vec!["p".into(), name.into()],
        store: Memory::new(1_700_000_000, 1 << 24),
        rules: vec![rule("10.0.0.9", 32, true), rule("10.0.0.0", 24, false)],
    }
}

impl World {
    fn new() -> Self {
        Self {
            exports: Exports::new(vec![export(1, "a"), export(2, "b")]).unwrap(),
            keys: HandleKey::new(&[3; 32]),
            peer: "10.0.0.1".parse().unwrap(),
            credential: credential(1000),
            reached: Cell::new(None),
        }
    }
    fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }
    fn request(&self) -> Request<'_, Memory> {
        let Self { exports, keys, peer, credential, reached } = self;
        Request { exports, keys, peer: *peer, credential, reached }
    }
    /// A call over the wire's bytes.
    fn call<A: Xdr, R: Xdr>(&self, procedure: u32, arguments: &A) -> R {
        let mut writer = Writer::default();
        let accepted = answer(&self.request(), procedure, to_bytes(arguments), &mut writer);
        assert_eq!(accepted, Accepted::Success);
        from_bytes(writer.into_bytes()).unwrap()
    }
    fn mount(&self, path: &'static str) -> Result<Mounted, MountStat> {
        let mut writer = Writer::default();
        let path = to_bytes(&Bytes::from_static(path.as_bytes()));
        assert_eq!(mount::answer(&self.request(), 1, path, &mut writer), Accepted::Success);
        from_bytes(writer.into_bytes()).unwrap()
    }
    fn root(&self) -> HandleBytes {
        HandleBytes(self.mount("/p/a").unwrap().handle)
    }
    fn create(&self, name: &str, how: CreateHow) -> MakeResult {
        self.call(8, &CreateArgs { place: self.at(name), how })
    }
    /// A new file.
    fn file(&self, name: &str) -> HandleBytes {
        self.create(name, CreateHow::Guarded(set())).unwrap().file.unwrap()
    }
    fn at(&self, name: &str) -> NameIn {
        name_in(&self.root(), name)
    }
    fn write(&self, file: &HandleBytes, offset: u64, data: &[u8], stable: StableHow) -> WriteOk {
        let (file, data) = (file.clone(), Bytes::copy_from_slice(data));
        let count = u32::try_from(data.len()).unwrap();
        let result: WriteResult = self.call(7, &WriteArgs { file, offset, count, stable, data });
        result.unwrap()
    }
    fn read(&self, file: &HandleBytes, offset: u64, count: u32) -> ReadResult {
        self.call(6, &ReadArgs { file: file.clone(), offset, count })
    }
    fn lookup(&self, place: &NameIn) -> LookupResult {
        self.call(3, place)
    }
    fn getattr(&self, file: &HandleBytes) -> GetattrResult {
        self.call(1, file)
    }
}

fn credential(uid: u32) -> Credential {
    let (stamp, machine, gids) = (0, Bytes::new(), vec![]);
    Credential::Sys(AuthSys { stamp, machine, uid, gid: uid, gids })
}

fn name_in(directory: &HandleBytes, name: &str) -> NameIn {
    NameIn { directory: directory.clone(), name: Bytes::copy_from_slice(name.as_bytes()) }
}

fn set() -> SetAttributes3 {
    let (accessed, modified) = (SetTime3::Keep, SetTime3::Keep);
    SetAttributes3 { mode: Some(0o644), uid: None, gid: None, size: None, accessed, modified }
}

fn status<O: std::fmt::Debug, T: std::fmt::Debug>(result: Result<O, Failed<T>>) -> Status {
    result.map_or_else(|failed| failed.status, |_| Status::Ok)
}

#[test]
fn the_table_has_every_procedure_of_the_standard_in_its_place() {
    let names = [(0, "NULL"), (1, "GETATTR"), (7, "WRITE"), (17, "READDIRPLUS"), (21, "COMMIT")];
    for (number, name) in names {
        assert_eq!(procedure_name(number), Some(name));
    }
    assert_eq!(procedure_name(22), None);
    let world = World::new();
    let mut writer = Writer::default();
    assert_eq!(answer(&world.request(), 22, Bytes::new(), &mut writer), Accepted::ProcUnavail);
    for procedure in 1..22 {
        let accepted = answer(&world.request(), procedure, Bytes::new(), &mut writer);
        assert_eq!(accepted, Accepted::GarbageArgs, "{procedure}");
        assert!(writer.is_empty());
    }
    assert_eq!(answer(&world.request(), 0, Bytes::new(), &mut writer), Accepted::Success);
}

#[test]
fn mount_gives_handles_to_who_is_let_in_and_lists_nothing_to_others() {
    let world = World::new();
    assert_eq!(world.mount("/p/a").unwrap().flavors, [1]);
    assert_eq!(world.mount("/p//a/").unwrap(), world.mount("/p/a").unwrap());
    assert_eq!(world.mount("/p"), Err(MountStat::NoEnt));
    assert_eq!(world.mount("/q"), Err(MountStat::NoEnt));
    assert_eq!(world.mount("p/a"), Err(MountStat::Inval));
    assert_eq!(world.mount("/p/a/../b"), Err(MountStat::Inval));
    let made: MakeResult = world.call(9, &MkdirArgs { place: world.at("d"), set: set() });
    assert_eq!(world.mount("/p/a/d").unwrap().handle, made.unwrap().file.unwrap().0);
    world.file("f");
    assert_eq!(world.mount("/p/a/f"), Err(MountStat::NotDir));
    let exports = |world: &World| {
        let mut writer = Writer::default();
        mount::answer(&world.request(), 5, Bytes::new(), &mut writer);
        from_bytes::<Chain<(Bytes, Chain<Bytes>)>>(writer.into_bytes()).unwrap().0.len()
    };
    assert_eq!(exports(&world), 2);
    let world = world.from("10.0.1.1");
    assert_eq!(world.mount("/p/a"), Err(MountStat::Acces));
    assert_eq!(exports(&world), 0);
}

#[test]
fn a_handle_is_of_no_use_to_who_is_not_let_in_or_makes_it_up() {
    let world = World::new();
    let file = world.file("f");
    let guessed = HandleKey::new(&[4; 32]).seal(&world.keys.open(&file.0).unwrap());
    assert_eq!(status(world.getattr(&HandleBytes(guessed))), Status::BadHandle);
    let mut gone = world.keys.open(&file.0).unwrap();
    gone.file.generation += 1;
    assert_eq!(status(world.getattr(&HandleBytes(world.keys.seal(&gone)))), Status::Stale);
    let gone = Handle { file_system: FileSystemId([9; 16]), ..gone };
    assert_eq!(status(world.getattr(&HandleBytes(world.keys.seal(&gone)))), Status::Stale);
    let pseudo = world.keys.seal(&world.exports.pseudo().root());
    assert_eq!(status(world.getattr(&HandleBytes(pseudo))), Status::BadHandle);
    let world = world.from("10.0.1.1");
    assert_eq!(status(world.getattr(&file)), Status::Acces);
}

#[test]
fn an_exports_own_key_signs_its_handles_wherever_it_is_served_and_no_others() {
    let own = HandleKey::new(&[5; 32]);
    let mut world = World::new();
    let kept = Export { keys: Some(own.clone()), ..export(1, "a") };
    world.exports = Exports::new(vec![kept.clone(), export(2, "b")]).unwrap();
    let file = world.file("f");
    let handle = own.open(&file.0).unwrap();
    assert!(world.getattr(&file).is_ok());
    // By another server's key, and by the server's own, it is made up.
    for keys in [&world.keys, &HandleKey::new(&[4; 32])] {
        let guessed = HandleBytes(keys.seal(&handle));
        assert_eq!(status(world.getattr(&guessed)), Status::BadHandle);
    }
    let other = Handle { file_system: FileSystemId([2; 16]), ..handle };
    assert_eq!(status(world.getattr(&HandleBytes(own.seal(&other)))), Status::BadHandle);
    // Another server takes it, and gives the same.
    world.keys = HandleKey::new(&[6; 32]);
    assert!(world.getattr(&file).is_ok());
    assert_eq!(world.lookup(&world.at("f")).unwrap().file, file);
    // One that is on its way has no key yet: clients wait, and reach nothing.
    let Export { file_system, path, rules, .. } = kept;
    let waiting = vec![Export { file_system, path, rules, store: (), keys: None }];
    world.exports = Exports::with_waiting(vec![export(2, "b")], waiting).unwrap();
    let guessed = HandleBytes(HandleKey::new(&[4; 32]).seal(&handle));
    for handle in [&file, &guessed] {
        assert_eq!(status(world.getattr(handle)), Status::JukeBox);
    }
    // And one that is gone is stale, whoever signed it.
    world.exports = Exports::new(vec![export(2, "b")]).unwrap();
    assert_eq!(status(world.getattr(&file)), Status::Stale);
}

#[test]
fn a_read_only_export_is_read_and_nothing_more() {
    let world = World::new();
    let (root, file) = (world.root(), world.file("f"));
    world.write(&file, 0, b"text", StableHow::FileSync);
    let world = world.from("10.0.0.9");
    assert_eq!(&world.read(&file, 0, 9).unwrap().data[..], b"text");
    let access: AccessResult =
        world.call(4, &AccessArgs { file: root.clone(), access: Access::ALL.0 });
    assert_eq!(access.unwrap().1, Access::READ.0 | Access::LOOKUP.0);
    let (at, other) = (name_in(&root, "f"), name_in(&root, "g"));
    let data = Bytes::from_static(b"x");
    let write =
        WriteArgs { file: file.clone(), offset: 0, count: 1, stable: StableHow::Unstable, data };
    let commit = CommitArgs { file: file.clone(), offset: 0, count: 0 };
    let setattr = SetattrArgs { file: file.clone(), set: set(), guard: None };
    let how = CreateHow::Unchecked(set());
    let rename = RenameArgs { from: at.clone(), to: other.clone() };
    let target = Bytes::from_static(b"t");
    let symlink = SymlinkArgs { place: other.clone(), set: set(), target };
    let mknod = MknodArgs { place: other.clone(), what: MknodData::Fifo(set()) };
    let found = [
        status::<_, Wcc>(world.call::<_, WriteResult>(7, &write)),
        status(world.call::<_, CommitResult>(21, &commit)),
        status(world.call::<_, SetattrResult>(2, &setattr)),
        status(world.call::<_, MakeResult>(8, &CreateArgs { place: at.clone(), how })),
        status(world.call::<_, MakeResult>(9, &MkdirArgs { place: other.clone(), set: set() })),
        status(world.call::<_, MakeResult>(10, &symlink)),
        status(world.call::<_, MakeResult>(11, &mknod)),
        status(world.call::<_, RemoveResult>(12, &at)),
        status(world.call::<_, RemoveResult>(13, &at)),
        status(world.call::<_, RenameResult>(14, &rename)),
        status(world.call::<_, LinkResult>(15, &LinkArgs { file, place: other })),
    ];
    assert_eq!(found, [Status::RoFs; 11]);
}

#[test]
fn data_is_read_as_it_was_written_with_attributes_before_and_after() {
    let world = World::new();
    let file = world.file("f");
    let written = world.write(&file, 0, b"hello", StableHow::Unstable);
    assert_eq!((written.count, written.committed), (5, StableHow::Unstable));
    let (before, after) = (written.file.before.unwrap(), written.file.after.unwrap());
    assert_eq!((before.size, after.size), (0, 5));
    assert_ne!(before.changed, after.changed);
    let second = world.write(&file, 5, b" world", StableHow::DataSync);
    // Nobody came between the two: the second's before is the first's after.
    assert_eq!(second.file.before.unwrap().changed, after.changed);
    let read = world.read(&file, 0, 5).unwrap();
    assert_eq!((&read.data[..], read.count, read.end), (&b"hello"[..], 5, false));
    let read = world.read(&file, 6, 99).unwrap();
    assert_eq!((&read.data[..], read.end), (&b"world"[..], true));
    let read = world.read(&file, 99, 1).unwrap();
    assert_eq!((read.count, read.end), (0, true));
    assert_eq!(status(world.read(&world.root(), 0, 1)), Status::IsDir);
    let large = WriteArgs {
        file: file.clone(),
        offset: u64::MAX,
        count: 1,
        stable: StableHow::FileSync,
        data: Bytes::from_static(b"x"),
    };
    let failed = world.call::<_, WriteResult>(7, &large).unwrap_err();
    assert_eq!(
        (failed.status, failed.rest.after.map(|after| after.size)),
        (Status::FBig, Some(11))
    );
}

#[test]
fn a_lost_unstable_write_is_told_by_the_verifier() {
    let world = World::new();
    let file = world.file("f");
    let store = &world.exports.find(FileSystemId([1; 16])).unwrap().store;
    let commit = || {
        let args = CommitArgs { file: file.clone(), offset: 0, count: 0 };
        world.call::<_, CommitResult>(21, &args).unwrap().verifier
    };
    let written = world.write(&file, 0, b"kept", StableHow::Unstable);
    assert_eq!(commit(), written.verifier);
    let written = world.write(&file, 0, b"lost", StableHow::Unstable);
    store.crash();
    assert_ne!(commit(), written.verifier);
    assert_eq!(&world.read(&file, 0, 9).unwrap().data[..], b"kept");
}

#[test]
fn creation_is_unchecked_guarded_or_exclusive() {
    let world = World::new();
    let file = world.file("f");
    world.write(&file, 0, b"text", StableHow::FileSync);
    assert_eq!(status(world.create("f", CreateHow::Guarded(set()))), Status::Exist);
    let found = world.create("f", CreateHow::Unchecked(set())).unwrap();
    assert_eq!((found.file, found.attributes.unwrap().size), (Some(file.clone()), 4));
    let empty = SetAttributes3 { size: Some(0), ..set() };
    let found = world.create("f", CreateHow::Unchecked(empty)).unwrap();
    assert_eq!(found.attributes.unwrap().size, 0);
    let exclusive = |verifier| world.create("x", CreateHow::Exclusive([verifier; 8]));
    let made = exclusive(1).unwrap();
    assert_eq!(exclusive(1).unwrap().file, made.file);
    assert_eq!(status(exclusive(2)), Status::Exist);
    for (name, expected) in
        [(".", Status::Exist), ("..", Status::Exist), ("", Status::Inval), ("a/b", Status::Inval)]
    {
        assert_eq!(status(world.create(name, CreateHow::Guarded(set()))), expected, "{name}");
    }
    let long = "n".repeat(256);
    assert_eq!(status(world.create(&long, CreateHow::Guarded(set()))), Status::NameTooLong);
}

#[test]
fn a_setattr_with_a_guard_that_is_past_changes_nothing() {
    let world = World::new();
    let file = world.file("f");
    let setattr = |guard| {
        let set = SetAttributes3 { mode: Some(0o600), ..set() };
        world.call::<_, SetattrResult>(2, &SetattrArgs { file: file.clone(), set, guard })
    };
    let old = world.getattr(&file).unwrap().changed;
    world.write(&file, 0, b"x", StableHow::FileSync);
    assert_eq!(status(setattr(Some(old))), Status::NotSync);
    assert_eq!(world.getattr(&file).unwrap().mode, 0o644);
    let now = world.getattr(&file).unwrap().changed;
    assert_eq!(status(setattr(Some(now))), Status::Ok);
    assert_eq!(world.getattr(&file).unwrap().mode, 0o600);
}

#[test]
fn names_move_and_the_handle_stays() {
    let world = World::new();
    let (root, file) = (world.root(), world.file("f"));
    let mkdir =
        MkdirArgs { place: world.at("d"), set: SetAttributes3 { mode: Some(0o755), ..set() } };
    let directory = world.call::<_, MakeResult>(9, &mkdir).unwrap().file.unwrap();
    let to = name_in(&directory, "g");
    let rename = RenameArgs { from: world.at("f"), to: to.clone() };
    let (left, gained) = world.call::<_, RenameResult>(14, &rename).unwrap();
    assert_ne!(left.before.unwrap().changed, left.after.unwrap().changed);
    assert_ne!(gained.before.unwrap().changed, gained.after.unwrap().changed);
    assert_eq!(world.lookup(&to).unwrap().file, file);
    assert_eq!(status(world.lookup(&world.at("f"))), Status::NoEnt);
    assert_eq!(world.lookup(&name_in(&directory, "..")).unwrap().file, root);
    assert_eq!(world.lookup(&name_in(&directory, ".")).unwrap().file, directory);
    assert_eq!(world.lookup(&world.at("..")).unwrap().file, root);
    let link = LinkArgs { file: file.clone(), place: world.at("h") };
    let (attributes, _) = world.call::<_, LinkResult>(15, &link).unwrap();
    assert_eq!(attributes.unwrap().links, 2);
    let remove = |procedure, at: &NameIn| status(world.call::<_, RemoveResult>(procedure, at));
    assert_eq!(remove(13, &world.at("d")), Status::NotEmpty);
    assert_eq!(remove(12, &world.at("d")), Status::IsDir);
    assert_eq!(remove(13, &world.at("h")), Status::NotDir);
    assert_eq!(remove(13, &world.at(".")), Status::Inval);
    assert_eq!(remove(12, &to), Status::Ok);
    assert_eq!(remove(13, &world.at("d")), Status::Ok);
    assert_eq!(status(world.getattr(&directory)), Status::Stale);
    assert_eq!(world.getattr(&file).unwrap().links, 1);
    let other = HandleBytes(world.mount("/p/b").unwrap().handle);
    let away = RenameArgs { from: world.at("h"), to: name_in(&other, "h") };
    assert_eq!(status(world.call::<_, RenameResult>(14, &away)), Status::XDev);
}

#[test]
fn links_and_special_files_are_what_they_were_made_as() {
    let world = World::new();
    let target = Bytes::from_static(b"../else/where");
    let args = SymlinkArgs { place: world.at("s"), set: set(), target: target.clone() };
    let link = world.call::<_, MakeResult>(10, &args).unwrap().file.unwrap();
    assert_eq!(world.call::<_, ReadlinkResult>(5, &link).unwrap().1, target);
    assert_eq!(status(world.read(&link, 0, 1)), Status::Inval);
    let device = DeviceData { set: set(), device: Device { major: 8, minor: 1 } };
    let args = MknodArgs { place: world.at("n"), what: MknodData::BlockDevice(device) };
    let node = world.call::<_, MakeResult>(11, &args).unwrap().attributes.unwrap();
    assert_eq!((node.kind, node.device), (Kind::BlockDevice, Device { major: 8, minor: 1 }));
    let args = MknodArgs { place: world.at("m"), what: MknodData::Regular };
    assert_eq!(status(world.call::<_, MakeResult>(11, &args)), Status::BadType);
    assert_eq!(status(world.call::<_, ReadlinkResult>(5, &world.root())), Status::Inval);
}

#[test]
fn root_is_squashed_and_others_are_themselves() {
    let mut world = World::new();
    let file = world.file("mine");
    assert_eq!(world.getattr(&file).unwrap().uid, 1000);
    world.credential = credential(0);
    let file = world.file("roots");
    assert_eq!(world.getattr(&file).unwrap().uid, 65534);
}

/// All entries of the root, in pieces of this size.
fn list(world: &World, count: u32, plus: bool) -> Vec<(Bytes, u64)> {
    let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, [0; 8]);
    loop {
        let directory = world.root();
        let (entries, end) = if plus {
            let (dircount, maxcount) = (count, count);
            let args = ReaddirplusArgs { directory, cookie, verifier, dircount, maxcount };
            let mut writer = Writer::default();
            answer(&world.request(), 17, to_bytes(&args), &mut writer);
            let bytes = writer.into_bytes();
            // `maxcount` is of the result without its status.
            assert!(bytes.len() - 4 <= usize::try_from(count).unwrap());
            let found = from_bytes::<ReaddirplusResult>(bytes).unwrap().unwrap();
            verifier = found.verifier;
            let entries = found.entries.0.into_iter();
            (entries.map(|plus| plus.entry).collect::<Vec<_>>(), found.end)
        } else {
            let args = ReaddirArgs { directory, cookie, verifier, count };
            let mut writer = Writer::default();
            answer(&world.request(), 16, to_bytes(&args), &mut writer);
            let bytes = writer.into_bytes();
            assert!(bytes.len() - 4 <= usize::try_from(count).unwrap());
            let found = from_bytes::<ReaddirResult>(bytes).unwrap().unwrap();
            verifier = found.verifier;
            (found.entries.0, found.end)
        };
        for entry in entries {
            cookie = entry.cookie;
            names.push((entry.name, entry.fileid));
        }
        if end {
            return names;
        }
    }
}

#[test]
fn a_listing_is_the_same_in_pieces_of_every_size() {
    let world = World::new();
    for number in 0..50 {
        world.file(&"n".repeat(1 + number % 7 * 9 + number));
    }
    let whole = list(&world, 1 << 20, false);
    assert_eq!(whole.len(), 52);
    assert_eq!((&whole[0].0[..], &whole[1].0[..]), (&b"."[..], &b".."[..]));
    for count in [250, 300, 512, 4096] {
        assert_eq!(list(&world, count, false), whole);
        assert_eq!(list(&world, count + 200, true), whole);
    }
    let (directory, cookie, verifier) = (world.root(), 0, [0; 8]);
    let args = ReaddirArgs { directory, cookie, verifier, count: 100 };
    assert_eq!(status(world.call::<_, ReaddirResult>(16, &args)), Status::TooSmall);
    let args = ReaddirArgs { cookie: 5, verifier: [1; 8], count: 1000, ..args };
    assert_eq!(status(world.call::<_, ReaddirResult>(16, &args)), Status::BadCookie);
    let args = ReaddirArgs { directory: world.file("f"), ..args };
    assert_eq!(status(world.call::<_, ReaddirResult>(16, &args)), Status::NotDir);
}

#[test]
fn limits_and_room_are_the_stores() {
    let world = World::new();
    let root = world.root();
    let limits = world.exports.find(FileSystemId([1; 16])).unwrap().store.limits();
    let info = world.call::<_, FsinfoResult>(19, &root).unwrap();
    assert_eq!((info.rtmax, info.maxfilesize), (limits.read_bytes_max, limits.file_bytes_max));
    let conf = world.call::<_, PathconfResult>(20, &root).unwrap();
    assert_eq!((conf.linkmax, conf.name_max), (limits.links_max, limits.name_bytes_max));
    let stat = world.call::<_, FsstatResult>(18, &root).unwrap();
    assert_eq!(stat.total_bytes, 1 << 24);
    let file = world.file("f");
    world.write(&file, 0, &[1; 5000], StableHow::FileSync);
    assert_eq!(world.call::<_, FsstatResult>(18, &root).unwrap().free_bytes, (1 << 24) - 8192);
}

proptest! {
    /// Whatever the arguments' bytes are, with a good handle in front or not.
    #[test]
    fn no_bytes_make_a_procedure_panic(
        procedure in 0u32..23,
        good in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..200),
    ) {
        let world = World::new();
        let mut arguments = if good { to_bytes(&world.root()).to_vec() } else { Vec::new() };
        arguments.extend_from_slice(&bytes);
        let mut writer = Writer::default();
        let accepted = answer(&world.request(), procedure, arguments.into(), &mut writer);
        prop_assert_eq!(accepted == Accepted::Success || writer.is_empty(), true);
    }
}
