//! The size limit: kept, told, given back.

use bytes::Bytes;
use model::file::{Creation, FileError, FileStore, Range, Removal, Stability};
use model::size::ByteSize;
use store::StoreError;

use crate::homes::{Home, MIB, create, make_directory, mode, text, user, volume_id, write};

const SLACK: u64 = 64 << 10;

#[test]
fn a_write_past_the_size_is_refused_and_a_deletion_makes_room_at_once() {
    for mut home in Home::all() {
        let who = user(0);
        {
            let volume = home.volume(1, 8 * MIB);
            let root = volume.root();
            let file = create(&volume, &who, root, "a").attributes.file;
            let piece = Bytes::from(vec![7; 1 << 20]);
            let write_at = |file, at: u64| {
                volume.write(&who, file, at * MIB, &piece, Stability::File).map(|_| ())
            };
            for at in 0..7 {
                write_at(file, at).unwrap();
            }
            assert_eq!(write_at(file, 7), Err(FileError::NoSpace));
            assert_eq!(write_at(file, 1000), Err(FileError::NoSpace));
            // What is there is written again without room, and reading breaks nothing.
            write_at(file, 3).unwrap();
            assert_eq!(volume.attributes(file).unwrap().size_bytes, 7 * MIB);
            let used = volume.usage().unwrap().used.0;
            assert!((7 * MIB..7 * MIB + SLACK).contains(&used), "{used}");
            let space = volume.space(&who).unwrap();
            assert_eq!(space.total_bytes, 8 * MIB);
            assert_eq!(space.free_bytes, 8 * MIB - used);
            let range = Range { offset: 0, bytes: 9 * MIB };
            assert_eq!(volume.allocate(&who, file, range), Err(FileError::NoSpace));
            // A hole is room again, and so is a file that is gone.
            volume.deallocate(&who, file, Range { offset: 0, bytes: MIB }).unwrap();
            write_at(file, 7).unwrap();
            volume.remove(&who, root, b"a", Removal::File).unwrap();
            assert!(volume.usage().unwrap().used.0 < SLACK);
            let file = create(&volume, &who, root, "b").attributes.file;
            write_at(file, 0).unwrap();
            volume.link(&who, file, root, b"c").unwrap();
            volume.remove(&who, root, b"b", Removal::File).unwrap();
            let used = volume.usage().unwrap();
            assert_eq!(used.inodes_used, 2);
            assert!((MIB..MIB + SLACK).contains(&used.used.0));
        }
        // Kept or counted anew, a file with two names is one file.
        let volume = home.volume(1, 0);
        volume
            .link(&who, volume.lookup(&who, volume.root(), b"c").unwrap().file, volume.root(), b"d")
            .unwrap();
        let before = volume.usage().unwrap();
        drop(volume);
        home.reopen();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        assert!(!volume.needs_count());
        assert_eq!(volume.usage().unwrap(), before);
        volume.remove(&who, volume.root(), b"d", Removal::File).unwrap();
        let before = volume.usage().unwrap();
        drop(volume);
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        assert!(volume.needs_count());
        assert!(volume.usage().unwrap().used >= before.used);
        volume.recount().unwrap();
        assert_eq!(volume.usage().unwrap(), before);
    }
}

#[test]
fn empty_files_are_not_for_nothing() {
    for home in Home::all() {
        let (who, volume) = (user(1000), home.volume(1, 64 << 10));
        let create = |n: u32| {
            let how = Creation::Guarded(mode(0o600));
            volume.create(&who, volume.root(), n.to_string().as_bytes(), &how)
        };
        let made = (0..200).take_while(|n| create(*n).is_ok()).count();
        assert!((50..128).contains(&made), "{made}");
        let last = u32::try_from(made).unwrap();
        assert_eq!(create(last), Err(FileError::NoSpace));
        assert_eq!(create(0), Err(FileError::Exists));
        volume.remove(&who, volume.root(), b"0", Removal::File).unwrap();
        create(last).unwrap();
    }
}

#[test]
fn a_volume_shrinks_to_what_it_holds_and_no_further() {
    for home in Home::all() {
        let (who, volume) = (user(0), home.volume(1, 32 * MIB));
        let file = create(&volume, &who, volume.root(), "a").attributes.file;
        write(&volume, &who, file, 0, &vec![1; 1 << 20]);
        let refused = volume.resize(ByteSize(MIB / 2)).unwrap_err();
        assert!(
            matches!(&refused, StoreError::Refused { why } if why.contains("1.0 MiB") || why.contains("1 MiB")),
            "{refused}"
        );
        volume.resize(ByteSize(2 * MIB)).unwrap();
        assert_eq!(volume.usage().unwrap().size, ByteSize(2 * MIB));
        let data = Bytes::from(vec![1; 1 << 20]);
        let more = |at| volume.write(&who, file, at, &data, Stability::File).map(|_| ());
        assert_eq!(more(MIB), Err(FileError::NoSpace));
        volume.resize(ByteSize(4 * MIB)).unwrap();
        more(MIB).unwrap();
    }
}

/// Writers, truncaters and removers at once: afterwards the count is what a new count says.
#[test]
fn the_count_is_right_after_many_changes_at_once() {
    for mut home in Home::all() {
        let before = {
            let volume = home.volume(1, 64 * MIB);
            let d = make_directory(&volume, &user(0), volume.root(), "d");
            std::thread::scope(|scope| {
                for thread in 0..6u64 {
                    let volume = volume.clone();
                    scope.spawn(move || churn(&volume, d, thread));
                }
            });
            volume.usage().unwrap()
        };
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        volume.recount().unwrap();
        let after = volume.usage().unwrap();
        assert_eq!(after.inodes_used, before.inodes_used);
        // A file system may add blocks of its own when it writes out, and gives some back.
        assert!(after.used.0.abs_diff(before.used.0) < 4 * SLACK, "{before:?} {after:?}");
    }
}

/// After a kill a volume serves at once, and a count that runs beside its clients finds what one
/// without clients finds.
#[test]
fn a_volume_is_counted_while_clients_change_it() {
    for mut home in Home::all() {
        let who = user(0);
        {
            let volume = home.volume(1, 64 * MIB);
            let d = make_directory(&volume, &who, volume.root(), "d");
            for n in 0..40 {
                let at = make_directory(&volume, &who, d, &format!("d{n}"));
                for name in ["a", "b"] {
                    let file = create(&volume, &who, at, name).attributes.file;
                    let data = Bytes::from(vec![9; 9000]);
                    volume.write(&who, file, 0, &data, Stability::Unstable).unwrap();
                }
            }
        }
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        assert!(volume.needs_count());
        let d = volume.lookup(&who, volume.root(), b"d").unwrap().file;
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let volume = volume.clone();
                scope.spawn(move || churn(&volume, d, thread));
                let volume = home.pool().volume(volume_id(1)).unwrap();
                // Whole directories move from where it was not counted to where it was.
                scope.spawn(move || {
                    for n in 0..40 {
                        let (name, to) = (format!("d{n}"), format!("d{}", (n * 7 + thread) % 40));
                        let Ok(to) = volume.lookup(&user(0), d, to.as_bytes()) else { continue };
                        let to = (to.file, name.as_bytes());
                        let _ = volume.rename(&user(0), (d, name.as_bytes()), to);
                    }
                });
            }
            scope.spawn(|| volume.recount().unwrap());
        });
        assert!(!volume.needs_count());
        let beside = volume.usage().unwrap();
        drop(volume);
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        volume.recount().unwrap();
        let alone = volume.usage().unwrap();
        assert_eq!(alone.inodes_used, beside.inodes_used);
        assert!(alone.used.0.abs_diff(beside.used.0) < 4 * SLACK, "{beside:?} {alone:?}");
    }
}

/// Nothing that may have room is refused for good before it is counted, and the limit holds.
#[test]
fn what_does_not_fit_a_bound_is_asked_to_come_again() {
    for mut home in Home::all() {
        let who = user(0);
        {
            let volume = home.volume(1, 16 * MIB);
            let file = create(&volume, &who, volume.root(), "a").attributes.file;
            write(&volume, &who, file, 0, &vec![1; 1 << 20]);
        }
        home.reopen_killed();
        let volume = home.pool().volume(volume_id(1)).unwrap();
        let file = volume.lookup(&who, volume.root(), b"a").unwrap().file;
        let fill = |bytes| volume.allocate(&who, file, Range { offset: 0, bytes });
        assert_eq!(fill(15 * MIB), Err(FileError::Busy));
        volume.recount().unwrap();
        fill(15 * MIB).unwrap();
        assert_eq!(fill(17 * MIB), Err(FileError::NoSpace));
    }
}

#[test]
fn a_pool_holds_no_more_than_its_limit_whatever_its_volumes_were_promised() {
    for mut home in Home::all() {
        let who = user(0);
        home.pool().set_capacity(Some(ByteSize(10 * MIB)));
        let (one, other) = (home.volume(1, 64 * MIB), home.volume(2, 64 * MIB));
        let file = create(&one, &who, one.root(), "a").attributes.file;
        one.allocate(&who, file, Range { offset: 0, bytes: 6 * MIB }).unwrap();
        let file = create(&other, &who, other.root(), "b").attributes.file;
        let fill = |bytes| other.allocate(&who, file, Range { offset: 0, bytes });
        assert_eq!(fill(5 * MIB), Err(FileError::NoSpace));
        let usage = home.pool().usage().unwrap();
        assert_eq!(usage.capacity, ByteSize(10 * MIB));
        assert!((6 * MIB..6 * MIB + SLACK).contains(&usage.used.0), "{usage:?}");
        one.remove(&who, one.root(), b"a", Removal::File).unwrap();
        fill(5 * MIB).unwrap();
        home.pool().delete_volume(volume_id(1)).unwrap();
        drop((one, other));
        home.reopen();
        let usage = home.pool().usage().unwrap();
        assert!((5 * MIB..5 * MIB + SLACK).contains(&usage.used.0), "{usage:?}");
        home.pool().delete_volume(volume_id(2)).unwrap();
        assert_eq!(home.pool().usage().unwrap().used, ByteSize(0));
    }
}

/// The file system below is full before any volume is: only what needs room is refused.
#[test]
fn a_full_file_system_refuses_data_and_still_keeps_records_and_deletes() {
    for mut home in Home::small() {
        let who = user(0);
        let left = home.pool().usage().unwrap().capacity.0;
        let (one, other) = (home.volume(1, 1 << 30), home.volume(2, 1 << 30));
        let noise = (0..1u32 << 20).map(|n| (n.wrapping_mul(0x9e37) >> 7).to_le_bytes()[0]);
        let piece: Bytes = noise.collect();
        let file = create(&one, &who, one.root(), "a").attributes.file;
        let put = |at: u64| one.write(&who, file, at * MIB, &piece, Stability::File).map(|_| ());
        let written = (0..1024).take_while(|at| put(*at).is_ok()).count() as u64;
        assert_eq!(put(written), Err(FileError::NoSpace));
        assert!(written * MIB > left / 2, "{written} MiB of {left} bytes");
        // All but data goes on.
        for n in 0..100 {
            let d = make_directory(&other, &who, other.root(), &format!("d{n}"));
            other.set_attributes(&who, d, &mode(0o700), None).unwrap();
        }
        other.resize(ByteSize(2 << 30)).unwrap();
        home.volume(3, MIB);
        assert_eq!(text(&one, &who, file), &piece[..]);
        drop((one, other));
        home.reopen();
        let one = home.pool().volume(volume_id(1)).unwrap();
        let put = |at: u64| one.write(&who, file, at * MIB, &piece, Stability::File).map(|_| ());
        assert_eq!(put(written + 9), Err(FileError::NoSpace));
        one.remove(&who, one.root(), b"a", Removal::File).unwrap();
        let file = create(&one, &who, one.root(), "b").attributes.file;
        one.write(&who, file, 0, &piece, Stability::File).unwrap();
    }
}

fn churn(volume: &dyn FileStore, directory: model::file::FileId, thread: u64) {
    let who = user(0);
    let shared = Creation::Unchecked(mode(0o666));
    for round in 0..40u64 {
        let name = format!("{}", (thread + round) % 5);
        let Ok(made) = volume.create(&who, directory, name.as_bytes(), &shared) else { continue };
        let file = made.attributes.file;
        let data = Bytes::from(vec![9; usize::try_from(thread * 7000 + 1).unwrap()]);
        // Another thread may have removed it by now.
        let _ = volume.write(&who, file, round * 10_000, &data, Stability::Unstable);
        match round % 4 {
            0 => drop(volume.remove(&who, directory, name.as_bytes(), Removal::File)),
            1 => drop(volume.set_attributes(&who, file, &crate::homes::size(5000), None)),
            2 => drop(volume.link(&who, file, directory, format!("l{thread}").as_bytes())),
            _ => {
                let to = format!("{}", round % 7);
                drop(volume.rename(&who, (directory, name.as_bytes()), (directory, to.as_bytes())));
            }
        }
    }
}

#[test]
fn a_pool_tells_what_its_volumes_were_promised_before_any_is_opened() {
    for mut home in Home::all() {
        home.volume(1, 8 * MIB);
        home.volume(2, 16 * MIB).resize(ByteSize(24 * MIB)).unwrap();
        home.volume(3, 4 * MIB);
        home.pool().delete_volume(volume_id(3)).unwrap();
        home.reopen();
        let usage = home.pool().usage().unwrap();
        assert_eq!(usage.provisioned, ByteSize(32 * MIB));
        assert!(usage.used < usage.capacity, "{usage:?}");
    }
}
