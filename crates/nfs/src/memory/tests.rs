use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

fn root_user() -> Caller {
    user(0)
}

fn user(uid: u32) -> Caller {
    Caller { uid, gid: uid, gids: Vec::new() }
}

fn memory() -> Memory {
    Memory::new(1_700_000_000, 1 << 20)
}

fn guarded(mode: u32) -> Creation {
    Creation::Guarded(SetAttributes { mode: Some(mode), ..SetAttributes::default() })
}

#[test]
fn a_crash_loses_what_was_not_committed_and_nothing_else() {
    let (memory, who) = (memory(), root_user());
    let file = memory.create(&who, memory.root(), b"f", &guarded(0o644)).unwrap().attributes.file;
    let write = |at, text: &'static [u8], stability| {
        memory.write(&who, file, at, &Bytes::from_static(text), stability).unwrap();
    };
    let text = || memory.read(&who, file, 0, 100).unwrap().data;
    write(0, b"stable", Stability::File);
    write(6, b" lost", Stability::Unstable);
    let verifier = memory.write_verifier();
    assert_eq!(text(), &b"stable lost"[..]);
    memory.crash();
    assert_eq!(text(), &b"stable"[..]);
    assert_ne!(memory.write_verifier(), verifier);
    write(6, b" kept", Stability::Unstable);
    memory.commit(&who, file, Range { offset: 0, bytes: 0 }).unwrap();
    memory.crash();
    assert_eq!(text(), &b"stable kept"[..]);
}

#[test]
fn an_exclusive_creation_is_found_again_by_its_verifier_until_it_is_written() {
    let (memory, who) = (memory(), user(7));
    let create = |verifier: u8| {
        let how = Creation::Exclusive([verifier; 8], SetAttributes::default());
        memory.create(&who, memory.root(), b"f", &how).map(|made| made.is_new)
    };
    assert_eq!(create(1), Ok(true));
    assert_eq!(create(1), Ok(false));
    assert_eq!(create(2), Err(FileError::Exists));
}

#[test]
fn permissions_are_those_of_posix() {
    let (memory, root) = (memory(), memory().root());
    let file = memory.create(&user(7), root, b"f", &guarded(0o640)).unwrap().attributes.file;
    let access = |uid, gids: &[u32]| {
        let caller = Caller { uid, gid: uid, gids: gids.to_vec() };
        memory.access(&caller, file, Access::ALL).unwrap()
    };
    let write = Access(Access::MODIFY.0 | Access::EXTEND.0);
    assert_eq!(access(7, &[]).0, Access::READ.0 | write.0);
    assert_eq!(access(8, &[7]), Access::READ);
    assert_eq!(access(8, &[]), Access(0));
    assert_eq!(access(0, &[]).0, Access::READ.0 | write.0);
    assert_eq!(memory.read(&user(8), file, 0, 1), Err(FileError::Access));
    let mode = SetAttributes { mode: Some(0), ..SetAttributes::default() };
    assert_eq!(memory.set_attributes(&user(8), file, &mode, None), Err(FileError::NotOwner));
    memory.set_attributes(&user(7), file, &mode, None).unwrap();
    // The owner goes on although the mode forbids it: he may have had it open.
    memory.read(&user(7), file, 0, 1).unwrap();
}

#[test]
fn room_ends_and_comes_back() {
    let (memory, who) = (Memory::new(0, 8192), user(7));
    let file = memory.create(&who, memory.root(), b"f", &guarded(0o644)).unwrap().attributes.file;
    let write = |bytes| {
        memory.write(&who, file, 0, &Bytes::from(vec![1; bytes]), Stability::File).map(|_| ())
    };
    assert_eq!(write(8193), Err(FileError::NoSpace));
    assert_eq!(write(8192), Ok(()));
    memory.deallocate(&who, file, Range { offset: 0, bytes: 4096 }).unwrap();
    assert_eq!(memory.space(&who).unwrap().free_bytes, 4096);
    memory.remove(&who, memory.root(), b"f", Removal::Any).unwrap();
    assert_eq!(memory.space(&who).unwrap().free_bytes, 8192);
}

proptest! {
    /// Listing a directory by pieces while others change it.
    #[test]
    fn who_is_there_all_the_time_is_listed_once(
        changes in prop::collection::vec((0u8..40, any::<bool>()), 0..60),
        piece in 1usize..5,
    ) {
        let (memory, who) = (memory(), user(7));
        let root = memory.root();
        for name in 0u8..20 {
            memory.create(&who, root, &[b'a' + name], &guarded(0o644)).unwrap();
        }
        let (mut seen, mut after) = (BTreeMap::<Bytes, u32>::new(), 0);
        let mut changes = changes.into_iter();
        let mut steady: Vec<u8> = (0..20).collect();
        loop {
            let listing = memory.read_directory(&who, root, after, piece, false).unwrap();
            for entry in &listing.entries {
                *seen.entry(entry.name.clone()).or_default() += 1;
                prop_assert!(entry.cookie > after.max(2));
                after = entry.cookie;
            }
            if listing.end {
                break;
            }
            for (name, makes) in changes.by_ref().take(3) {
                steady.retain(|steady| *steady != name || makes);
                let name = [b'a' + name];
                let _ = if makes {
                    memory.create(&who, root, &name, &guarded(0o644)).map(|_| ())
                } else {
                    memory.remove(&who, root, &name, Removal::File).map(|_| ())
                };
            }
        }
        for name in steady {
            prop_assert_eq!(seen.get(&[b'a' + name][..]), Some(&1));
        }
    }
}
