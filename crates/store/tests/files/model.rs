//! Real trees do what the file system in memory does, whatever is asked of both, and by whom.

use bytes::Bytes;
use model::export::Durability;
use model::file::{
    Access, Attributes, Caller, Creation, FileError, FileId, FileKind, FileResult, FileStore, New,
    Removal, SetAttributes, Stability,
};
use nfs::memory::Memory;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::homes::{Home, MIB, mode, names, size, user};

/// What is asked. Files are numbered in the order in which they were made; number 0 is the root.
#[derive(Clone, Debug)]
enum Step {
    Create { at: usize, name: u8, mode: u32, kind: u8 },
    MakeDirectory { at: usize, name: u8, mode: u32 },
    MakeSymlink { at: usize, name: u8 },
    Remove { at: usize, name: u8, what: u8 },
    Rename { from: (usize, u8), to: (usize, u8) },
    Link { file: usize, at: usize, name: u8 },
    Write { file: usize, offset: u64, bytes: usize },
    Read { file: usize },
    SetMode { file: usize, mode: u32 },
    SetSize { file: usize, size: u64 },
    SetOwner { file: usize, uid: Option<u32>, gid: Option<u32> },
    Lookup { at: usize, name: u8 },
    Access { file: usize },
    Parent { file: usize },
    Hold { file: usize },
    LetGo { file: usize },
    AwaitHolders { may_come: bool },
}

/// What the answer says, as far as both can say the same.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    File { kind: FileKind, mode: u32, links: u32, uid: u32, gid: u32, size: u64 },
    New(bool),
    Data(Bytes, bool),
    Bits(u32),
    Done,
}

fn seen(attributes: &Attributes) -> Seen {
    let Attributes { kind, mode, links, uid, gid, size_bytes, .. } = *attributes;
    let directory = kind == FileKind::Directory;
    // How large a directory is, and how many links it has, is the file system's own affair; a
    // symbolic link has no mode on Linux.
    let (links, size) = if directory { (0, 0) } else { (links, size_bytes) };
    let mode = match kind {
        FileKind::Symlink => 0,
        // When the kernel takes these bits away has more rules than the model has: they have tests
        // of their own.
        _ => mode & !0o6000,
    };
    Seen::File { kind, mode, links, uid, gid, size }
}

fn modes() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o777), Just(0o755), Just(0o644), Just(0o2775), Just(0o1777), 0u32..0o1000]
}

fn steps() -> impl Strategy<Value = Step> {
    let (file, at, name) = (0usize..12, 0usize..6, 0u8..4);
    prop_oneof![
        4 => (at.clone(), name.clone(), modes(), 0u8..3)
            .prop_map(|(at, name, mode, kind)| Step::Create { at, name, mode, kind }),
        3 => (at.clone(), name.clone(), modes())
            .prop_map(|(at, name, mode)| Step::MakeDirectory { at, name, mode }),
        1 => (at.clone(), name.clone()).prop_map(|(at, name)| Step::MakeSymlink { at, name }),
        2 => (at.clone(), name.clone(), 0u8..3)
            .prop_map(|(at, name, what)| Step::Remove { at, name, what }),
        3 => ((at.clone(), name.clone()), (at.clone(), name.clone()))
            .prop_map(|(from, to)| Step::Rename { from, to }),
        2 => (file.clone(), at.clone(), name.clone())
            .prop_map(|(file, at, name)| Step::Link { file, at, name }),
        2 => (file.clone(), 0u64..9000, 0usize..5000)
            .prop_map(|(file, offset, bytes)| Step::Write { file, offset, bytes }),
        2 => file.clone().prop_map(|file| Step::Read { file }),
        2 => (file.clone(), modes()).prop_map(|(file, mode)| Step::SetMode { file, mode }),
        1 => (file.clone(), 0u64..9000).prop_map(|(file, size)| Step::SetSize { file, size }),
        1 => (file.clone(), prop::option::of(1000u32..1003), prop::option::of(1000u32..1003))
            .prop_map(|(file, uid, gid)| Step::SetOwner { file, uid, gid }),
        2 => (at, name).prop_map(|(at, name)| Step::Lookup { at, name }),
        2 => file.clone().prop_map(|file| Step::Access { file }),
        1 => file.clone().prop_map(|file| Step::Parent { file }),
        3 => file.clone().prop_map(|file| Step::Hold { file }),
        3 => file.prop_map(|file| Step::LetGo { file }),
        1 => any::<bool>().prop_map(|may_come| Step::AwaitHolders { may_come }),
    ]
}

fn name(number: u8) -> [u8; 1] {
    [b'a' + number]
}

/// One store, and its ids of the files that were made.
struct World<'a> {
    store: &'a dyn FileStore,
    files: Vec<FileId>,
}

impl World<'_> {
    fn file(&self, number: usize) -> FileId {
        self.files[number % self.files.len()]
    }

    fn made(&mut self, made: FileResult<model::file::Made>) -> FileResult<Seen> {
        let made = made?;
        if made.is_new {
            self.files.push(made.attributes.file);
        }
        assert_eq!(made.is_new, made.directory.before.change != made.directory.after.change);
        let attributes = seen(&made.attributes);
        Ok(if made.is_new { attributes } else { Seen::New(false) })
    }

    fn take(&mut self, who: &Caller, step: &Step) -> FileResult<Seen> {
        let store = self.store;
        match *step {
            Step::Create { at, name: n, mode: bits, kind } => {
                let how = match kind {
                    0 => Creation::Guarded(mode(bits)),
                    1 => Creation::Unchecked(mode(bits)),
                    _ => Creation::Exclusive([n; 8], mode(bits)),
                };
                self.made(store.create(who, self.file(at), &name(n), &how))
            }
            Step::MakeDirectory { at, name: n, mode: bits } => {
                self.made(store.make(who, self.file(at), &name(n), &New::Directory, &mode(bits)))
            }
            Step::MakeSymlink { at, name: n } => {
                let new = New::Symlink(Bytes::from_static(b"/etc"));
                let set = SetAttributes::default();
                self.made(store.make(who, self.file(at), &name(n), &new, &set))
            }
            Step::Remove { at, name: n, what } => {
                let what = [Removal::File, Removal::Directory, Removal::Any][usize::from(what)];
                store.remove(who, self.file(at), &name(n), what).map(|_| Seen::Done)
            }
            Step::Rename { from, to } => {
                let (old, new) = (name(from.1), name(to.1));
                let (from, to) = (self.file(from.0), self.file(to.0));
                store.rename(who, (from, &old), (to, &new)).map(|_| Seen::Done)
            }
            Step::Link { file, at, name: n } => {
                let linked = store.link(who, self.file(file), self.file(at), &name(n));
                linked.map(|(attributes, _)| seen(&attributes))
            }
            Step::Write { file, offset, bytes } => {
                let data = Bytes::from(vec![7; bytes]);
                let written = store.write(who, self.file(file), offset, &data, Stability::Unstable);
                written.map(|written| seen(&written.file.after))
            }
            Step::Read { file } => {
                let read = store.read(who, self.file(file), 0, 1 << 16);
                read.map(|read| Seen::Data(read.data, read.end))
            }
            Step::SetMode { file, mode: bits } => self.set(who, file, &mode(bits)),
            Step::SetSize { file, size: bytes } => self.set(who, file, &size(bytes)),
            Step::SetOwner { file, uid, gid } => {
                self.set(who, file, &SetAttributes { uid, gid, ..SetAttributes::default() })
            }
            Step::Lookup { at, name: n } => {
                store.lookup(who, self.file(at), &name(n)).map(|found| seen(&found))
            }
            Step::Access { file } => {
                store.access(who, self.file(file), Access::ALL).map(|bits| Seen::Bits(bits.0))
            }
            Step::Parent { file } => store.parent(who, self.file(file)).map(|parent| {
                let number = self.files.iter().position(|known| *known == parent);
                Seen::Bits(u32::try_from(number.expect("a directory that was made")).unwrap())
            }),
            Step::Hold { file } => store.hold(self.file(file)).map(|()| Seen::Done),
            Step::LetGo { file } => {
                store.let_go(self.file(file));
                Ok(Seen::Done)
            }
            Step::AwaitHolders { may_come } => {
                store.await_holders(may_come);
                Ok(Seen::Done)
            }
        }
    }

    fn set(&self, who: &Caller, file: usize, set: &SetAttributes) -> FileResult<Seen> {
        let changed = self.store.set_attributes(who, self.file(file), set, None)?;
        Ok(seen(&changed.after))
    }
}

/// Where several things are wrong at once, which of them is told is nobody's promise.
fn alike(step: &Step, model: &FileResult<Seen>, real: &FileResult<Seen>) -> bool {
    let denied = |error: &FileError| matches!(error, FileError::Access | FileError::NotOwner);
    match (model, real) {
        (Ok(model), Ok(real)) => model == real,
        (Err(model), Err(real)) => {
            let several = matches!(step, Step::Rename { .. } | Step::Link { .. });
            model == real || several || denied(model) || denied(real) || *real == FileError::Stale
        }
        // To rename a file to a name that it has already is nothing, and asks for nothing.
        (Err(model), Ok(Seen::Done)) => matches!(step, Step::Rename { .. }) && denied(model),
        _ => false,
    }
}

#[test]
fn real_trees_do_what_the_model_does() {
    for home in Home::all() {
        let volume = home.volume(1, 256 * MIB);
        volume.set_durability(Durability::Relaxed).unwrap();
        let rounds = std::cell::Cell::new(0u32);
        let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
        // The same scripts every time.
        let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, chance);
        let script = prop::collection::vec((0u32..4, steps()), 1..60);
        let done = runner.run(&script, |script| {
            let round = rounds.get() + 1;
            rounds.set(round);
            let memory = Memory::new(1_700_000_000, 256 * MIB);
            // A directory of its own stands for the root of this round.
            let base = |store: &dyn FileStore| {
                let base = format!("round-{round}");
                let made = store.make(
                    &user(0),
                    store.root(),
                    base.as_bytes(),
                    &New::Directory,
                    &mode(0o777),
                );
                made.unwrap().attributes.file
            };
            let mut model = World { store: &memory, files: vec![base(&memory)] };
            let mut real = World { store: &volume, files: vec![base(&volume)] };
            for (who, step) in &script {
                let gids = if *who == 1 { vec![1001, 1002] } else { Vec::new() };
                let uid = if *who == 0 { 0 } else { 999 + who };
                let who = Caller { gids, ..user(uid) };
                if matches!(step, Step::Parent { file } if file % real.files.len() == 0) {
                    continue;
                }
                // The model's symbolic links have a mode, those of Linux have none.
                if let Step::SetMode { file, .. } = step
                    && volume
                        .attributes(real.file(*file))
                        .is_ok_and(|found| found.kind == FileKind::Symlink)
                {
                    continue;
                }
                let did = real.take(&who, step);
                // The machine may forbid links to what is another's (fs.protected_hardlinks); the
                // kernel forbids to set even the owner that a file has already, and to move a
                // directory that one may not write, for its ".." changes.
                let stricter = match step {
                    Step::Link { .. } | Step::SetOwner { .. } => did == Err(FileError::NotOwner),
                    Step::Rename { .. } => did == Err(FileError::Access),
                    _ => false,
                };
                if stricter {
                    continue;
                }
                let said = model.take(&who, step);
                prop_assert!(alike(step, &said, &did), "{who:?} {step:?}: {said:?}, {did:?}");
            }
            let all = |world: &World<'_>| names(world.store, &user(0), world.files[0]);
            prop_assert_eq!(all(&model), all(&real));
            // Nobody has any of them open any more.
            volume.end_holds();
            memory.await_holders(false);
            Ok(())
        });
        done.unwrap();
        drop(volume);
    }
}
