use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use model::export::Durability;
use model::file::{Caller, Creation, FileId, FileStore, SetAttributes, Stability, Time};
use model::id::{PoolId, SnapshotId, VolumeId};
use model::pool::Driver;
use model::size::ByteSize;
use proptest::prelude::*;
use rustix::io::Errno;
use uuid::Uuid;

use super::note::Note;
use super::stream::{End, Frames, Manifest, Snapshot, Unframed, get, put};
use crate::error::StoreError;
use crate::files::FilePool;

prop_compose! {
    fn any_manifest()(
        ids: ([u8; 16], [u8; 16], [u8; 32]),
        numbers: (u64, bool, u16),
        names in proptest::collection::btree_set("[^/\0.]{1,40}", 0..5),
    ) -> Manifest {
        let snapshot = |(number, name): (u32, String)| Snapshot {
            id: SnapshotId(Uuid::from_u128(u128::from(number) << 7)),
            tree: number,
            name,
        };
        let snapshots: Vec<_> = (2..).zip(names).map(snapshot).collect();
        Manifest {
            volume: VolumeId(Uuid::from_bytes(ids.0)),
            size_bytes: numbers.0,
            relaxed: numbers.1,
            root_key: ids.1,
            secret: ids.2,
            moves: numbers.2,
            living: 1,
            next_tree: 2 + u32::try_from(snapshots.len()).unwrap(),
            snapshots,
        }
    }
}

fn bytes_of<R: crate::files::record::Record>(record: &R) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(record, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_manifest_and_an_end_come_back(manifest in any_manifest(), end: (u64, u64, u64, [u8; 32])) {
        let bytes = bytes_of(&manifest);
        prop_assert_eq!(get::<Manifest>(&mut &bytes[..]).unwrap(), manifest);
        for cut in 0..bytes.len() {
            prop_assert!(get::<Manifest>(&mut &bytes[..cut]).is_err());
        }
        prop_assert!(get::<End>(&mut &bytes[..]).is_err());
        let (entries, bytes, change, digest) = end;
        let end = End { entries, bytes, change, digest };
        prop_assert_eq!(get::<End>(&mut &bytes_of(&end)[..]).unwrap(), end);
    }

    #[test]
    fn a_manifest_whose_trees_cannot_be_told_apart_is_none(manifest in any_manifest()) {
        let Some(first) = manifest.snapshots.first().cloned() else { return Ok(()) };
        let with = |snapshot: Snapshot| Manifest {
            snapshots: [&[snapshot], &manifest.snapshots[..]].concat(),
            next_tree: 100,
            ..manifest.clone()
        };
        let other = Snapshot { id: SnapshotId(Uuid::nil()), tree: 50, name: "another.".to_owned() };
        prop_assert!(get::<Manifest>(&mut &bytes_of(&with(other.clone()))[..]).is_ok());
        for wrong in [
            Snapshot { tree: first.tree, ..other.clone() },
            Snapshot { tree: 0, ..other.clone() },
            Snapshot { tree: 1, ..other.clone() },
            Snapshot { tree: 100, ..other.clone() },
            Snapshot { id: first.id, ..other.clone() },
            Snapshot { name: first.name, ..other.clone() },
            Snapshot { name: "a/b".to_owned(), ..other.clone() },
            Snapshot { name: "..".to_owned(), ..other.clone() },
        ] {
            prop_assert!(get::<Manifest>(&mut &bytes_of(&with(wrong))[..]).is_err());
        }
        let behind = |next_tree| Manifest { next_tree, ..manifest.clone() };
        prop_assert!(get::<Manifest>(&mut &bytes_of(&behind(u32::MAX - 1))[..]).is_ok());
        prop_assert!(get::<Manifest>(&mut &bytes_of(&behind(u32::MAX))[..]).is_err());
    }

    #[test]
    fn a_note_comes_back_and_no_bytes_panic(
        id: (u32, u64, u64),
        at: (i64, u32),
        verifier: Option<[u8; 20]>,
        other in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let id = FileId { tree: id.0, inode: id.1, generation: id.2 };
        let accessed = Time { seconds: at.0, nanos: at.1 % 1_000_000_000 };
        let note = Note { id, accessed, verifier };
        prop_assert_eq!(Note::decode(&note.encode()), Some(note));
        if let Some(note) = Note::decode(&other) {
            prop_assert_eq!(note.encode(), other);
        }
    }

    #[test]
    fn a_tree_comes_out_of_its_frames_as_it_went_in(
        pieces in proptest::collection::vec(0..400_000_usize, 0..6),
        other in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let data: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|n| n.to_le_bytes()[1]).collect();
        let (mut stream, mut left) = (Vec::new(), &data[..]);
        let mut frames = Frames::begin(7, &mut stream).unwrap();
        for piece in pieces {
            let (some, rest) = left.split_at(piece);
            frames.write_all(some).unwrap();
            left = rest;
        }
        frames.end().unwrap();
        stream.extend_from_slice(b"behind it");
        prop_assert!(Unframed::begin(8, &mut &stream[..]).is_err());
        let (mut from, mut back) = (&stream[..], Vec::new());
        Unframed::begin(7, &mut from).unwrap().read_to_end(&mut back).unwrap();
        prop_assert!(back == data && from == b"behind it");
        let cut = &mut &stream[..stream.len() - 10];
        prop_assert!(Unframed::begin(7, cut).unwrap().read_to_end(&mut Vec::new()).is_err());
        // Whatever stands there: an end or an error.
        if let Ok(mut unframed) = Unframed::begin(0, &mut [&[0; 4], &other[..]].concat().as_slice()) {
            let _ = unframed.read_to_end(&mut Vec::new());
        }
    }
}

/// Who is told that a volume did not come serves it where it was: the name must not come back here.
#[test]
fn a_tree_whose_place_could_not_be_made_durable_is_not_there_and_comes_at_the_next_try() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: file volumes need root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pool = |name: &str, id| {
        let (dir, id) = (directory.path().join(name), PoolId(Uuid::from_u128(id)));
        FilePool::open(&dir, id, Driver::Dir, Arc::new(env::OsRandom), None).unwrap()
    };
    let (from, to) = (pool("from", 1), pool("to", 2));
    let (id, who) = (VolumeId(Uuid::from_u128(3)), Caller { uid: 0, gid: 0, gids: Vec::new() });
    let volume = from.create_volume(id, ByteSize(64 << 20), Durability::default()).unwrap();
    let creation = Creation::Guarded(SetAttributes::default());
    let file = volume.create(&who, volume.root(), b"f", &creation).unwrap().attributes.file;
    let data = Bytes::from(vec![7; 1 << 20]);
    volume.write(&who, file, 0, &data, Stability::File).unwrap();
    let (_, stream) = volume.carry(&[1; 32], Vec::new()).unwrap();
    let before = to.usage().unwrap().used;
    let failed = to.receive_durable(id, &stream[..], |_| Err(Errno::IO));
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    assert!(matches!(to.volume(id), Err(StoreError::Missing { .. })));
    assert_eq!(to.usage().unwrap().used, before, "its room is others' again");
    drop(to);
    let to = pool("to", 2);
    assert_eq!(to.volumes().unwrap(), [], "the next start finds none");
    to.receive(id, &stream[..]).unwrap();
    let volume = to.volume(id).unwrap();
    let file = volume.lookup(&who, volume.root(), b"f").unwrap();
    assert_eq!(volume.read(&who, file.file, 0, 1 << 20).unwrap().data, data);
}
