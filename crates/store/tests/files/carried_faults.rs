//! What went wrong with volumes that moved to another pool.

use model::file::{Attributes, Content, FileError, FileStore, Removal, SetAttributes};
use store::files::FileVolume;

use crate::archive::plant;
use crate::carried::{ROOT, all_of, moved, snapshot_id, stream, ways, with_key};
use crate::homes::{MIB, create, text, write};

#[test]
fn after_two_roll_backs_the_id_of_one_file_opened_another() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        let top = volume.root();
        for n in 1..=3 {
            let name = format!("file-{n}");
            let file = create(&volume, &ROOT, top, &name).attributes.file;
            write(&volume, &ROOT, file, 0, name.as_bytes());
            if n < 3 {
                volume.create_snapshot(snapshot_id(n), None).unwrap();
                volume.remove(&ROOT, top, name.as_bytes(), Removal::File).unwrap();
            }
        }
        let volume = moved(&volume, &from, &to);
        let mut held = vec![("file-3", volume.lookup(&ROOT, top, b"file-3").unwrap().file)];
        for (n, name) in [(1, "file-1"), (2, "file-2"), (1, "file-1")] {
            volume.roll_back(snapshot_id(n)).unwrap();
            let now = volume.lookup(&ROOT, top, name.as_bytes()).unwrap().file;
            assert_eq!(text(&volume, &ROOT, now), name.as_bytes());
            for (of, id) in &held {
                // Rolled back to the same one on btrfs, it is that file again.
                let is_same = of == &name && *id == now;
                assert_eq!(volume.attributes(*id).is_ok(), is_same, "{of} in {name}");
            }
            held.push((name, now));
        }
    }
}

#[test]
fn who_had_seen_the_stream_reached_the_files_of_others_in_the_pool() {
    for (from, to) in ways() {
        let (volume, other) = (from.volume(1, 64 * MIB), to.volume(2, 64 * MIB));
        plant(&volume);
        plant(&other);
        let key: [u8; 16] = stream(&volume)[46..62].try_into().unwrap();
        let volume = moved(&volume, &from, &to);
        assert_eq!(volume.root(), with_key(&key, (0, 0), 1, 0), "it is the key of something");
        // Files of another tenant by their inodes, and the root of ext4.
        let strangers = all_of(&other, other.root()).into_values().map(|one| one.file);
        for inode in strangers.map(|file| file.inode).chain([2]) {
            let generations = other_generations(&other, inode);
            for (moves, salt) in [0_u64, 1, 2].into_iter().flat_map(|m| [(m, 0), (m, 1)]) {
                for generation in &generations {
                    let shown = inode ^ moves << 48;
                    // The number of a root is that of no inode.
                    if shown != 1 {
                        let forged = with_key(&key, (0, salt), shown, *generation);
                        assert_eq!(volume.attributes(forged), Err(FileError::Stale), "{forged:?}");
                    }
                }
            }
        }
    }
}

/// Those that an inode of this number may have, and the one that ext4 takes for any.
fn other_generations(other: &FileVolume, inode: u64) -> Vec<u32> {
    let all = all_of(other, other.root()).into_values();
    let found = all.filter(|one| one.file.inode == inode);
    let low = |one: Attributes| u32::try_from(one.file.generation & 0xffff_ffff).unwrap();
    found.map(low).chain([0]).collect()
}

#[test]
fn a_volume_with_zeros_in_its_data_could_not_be_moved() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        let mut middle = vec![7; 1 << 20];
        middle[64 << 10..128 << 10].fill(0);
        let all = [("one", vec![0]), ("block", vec![0; 4096]), ("middle", middle)];
        let files = all.map(|(name, data)| {
            let file = create(&volume, &ROOT, volume.root(), name).attributes.file;
            write(&volume, &ROOT, file, 0, &data);
            (file, data)
        });
        // On the medium, and in the page cache alone.
        volume.settle().unwrap();
        let volume = moved(&volume, &from, &to);
        for (file, data) in files {
            assert_eq!(volume.attributes(file).unwrap().size_bytes, data.len() as u64);
            assert!(text(&volume, &ROOT, file) == data);
        }
    }
}

#[test]
fn a_huge_sparse_file_kept_its_volume_from_moving() {
    for (from, to) in ways() {
        let volume = from.volume(1, 64 * MIB);
        let max = volume.limits().file_bytes_max.min(1 << 60);
        let there = to.volume(2, MIB).limits().file_bytes_max;
        let size = max.min(there) & !4095;
        let make = |name: &str, size| {
            let file = create(&volume, &ROOT, volume.root(), name).attributes.file;
            let set = SetAttributes { size_bytes: Some(size), ..SetAttributes::default() };
            volume.set_attributes(&ROOT, file, &set, None).unwrap();
            file
        };
        let (empty, one, many) = (make("empty", size), make("one", size), make("many", size));
        write(&volume, &ROOT, one, size / 2, b"in the middle");
        // More than a header has room for.
        for n in 0..100 {
            write(&volume, &ROOT, many, n * (size / 128), b"far apart");
        }
        let began = std::time::Instant::now();
        let volume = moved(&volume, &from, &to);
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
        for file in [empty, one, many] {
            assert_eq!(volume.attributes(file).unwrap().size_bytes, size);
            // XFS takes room ahead of what is written.
            assert!(volume.attributes(file).unwrap().used_bytes < 64 * MIB);
        }
        let read = |file, at| volume.read(&ROOT, file, at, 20).unwrap().data;
        assert_eq!(&read(one, size / 2)[..13], b"in the middle");
        for n in 0..100 {
            assert_eq!(&read(many, n * (size / 128))[..9], b"far apart");
        }
        let data = |file| volume.seek(&ROOT, file, 0, Content::Data);
        assert_eq!(data(empty), Err(FileError::NoDevice));
        assert_eq!(data(one).map(|at| at.abs_diff(size / 2) < MIB), Ok(true));
    }
}
