//! Many volumes in one pool, and many files in a volume that moves. For more: `COMMONHOLD_VOLUMES=1000`,
//! `COMMONHOLD_FILES=1000000`; the tests say what it took.

use std::time::Instant;

use model::export::Durability;
use model::file::FileStore;
use model::id::VolumeId;
use model::size::ByteSize;
use uuid::Uuid;

use crate::homes::{Home, MIB, create, setting, user, write};

/// Pages of the process that are in memory, in bytes.
fn resident_bytes() -> u64 {
    let found = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = found.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn many_volumes_are_made_listed_and_opened() {
    let _ = env::raise_descriptor_limit();
    let count = setting("COMMONHOLD_VOLUMES", 40);
    let Some(mut home) = Home::dir() else { return };
    let id = |number: u64| VolumeId(Uuid::from_u128(u128::from(number) + 1));
    let (who, start) = (user(0), Instant::now());
    for number in 0..count {
        let size = ByteSize(16 * MIB);
        let volume = home.pool().create_volume(id(number), size, Durability::Strict).unwrap();
        let file = create(&volume, &who, volume.root(), "a").attributes.file;
        write(&volume, &who, file, 0, &number.to_be_bytes());
    }
    let made = start.elapsed();
    home.reopen();
    let (before, start) = (resident_bytes(), Instant::now());
    let listed = home.pool().volumes().unwrap();
    let listing = start.elapsed();
    assert_eq!(listed, (0..count).map(id).collect::<Vec<_>>());
    let start = Instant::now();
    let volumes: Vec<_> = listed.iter().map(|id| home.pool().volume(*id).unwrap()).collect();
    let opening = start.elapsed();
    let start = Instant::now();
    assert_eq!(home.pool().usage().unwrap().provisioned, ByteSize(count * 16 * MIB));
    let usage = start.elapsed();
    for (number, volume) in volumes.iter().enumerate() {
        let file = volume.lookup(&who, volume.root(), b"a").unwrap().file;
        let data = volume.read(&who, file, 0, 8).unwrap().data;
        assert_eq!(&data[..], (number as u64).to_be_bytes());
        assert!(!volume.needs_count());
    }
    let grown = resident_bytes().saturating_sub(before) >> 10;
    eprintln!(
        "{count} volumes: made with a file in {made:?}, listed in {listing:?}, opened in \
         {opening:?}, the pool's usage in {usage:?}; {grown} KiB and {} descriptors",
        descriptors()
    );
}

/// The most that the process has had in memory since this was last asked, in bytes.
fn peak_bytes() -> u64 {
    let found = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = found.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kib.unwrap_or(0) << 10
}

#[test]
fn a_directory_with_very_many_names_moves_in_little_memory() {
    let count = setting("COMMONHOLD_FILES", 3000);
    let (Some(from), Some(to)) = (Home::dir(), Home::dir()) else { return };
    let (volume, who) = (from.volume(1, 1 << 40), user(0));
    let make = || -> Vec<_> {
        let name = |number| format!("a name of usual length {number:08}");
        let made = |number| create(&volume, &who, volume.root(), &name(number)).attributes.file;
        // Of a few the ids are kept, to be asked for.
        (0..count).map(made).step_by(usize::try_from(count / 1000).unwrap().max(1)).collect()
    };
    let held = volume.in_bulk(make).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (before, start) = (resident_bytes(), Instant::now());
    peak_bytes();
    let received = std::thread::scope(|scope| {
        let sent =
            scope.spawn(|| volume.carry(&[1; 32], std::io::BufWriter::new(writer)).unwrap().0);
        let received = to.pool().receive(volume.id(), &mut reader).unwrap();
        assert_eq!(received, sent.join().unwrap());
        received
    });
    assert_eq!(received.entries, count + 1);
    let (took, peak) = (start.elapsed(), peak_bytes().saturating_sub(before));
    let table = to.path().join(format!("volumes/{}/carried", volume.id()));
    let table_bytes = std::fs::metadata(table).unwrap().len();
    let start = Instant::now();
    let moved = to.pool().volume(volume.id()).unwrap();
    let opened = start.elapsed();
    let ask = |volume: &store::files::FileVolume| {
        let start = Instant::now();
        assert!(held.iter().all(|file| volume.attributes(*file).is_ok()));
        start.elapsed() / u32::try_from(held.len()).unwrap()
    };
    let first = (ask(&volume), ask(&moved));
    let again = (ask(&volume), ask(&moved));
    // Each file once in a listing, by the id that it had.
    let (start, mut listed, mut after) = (Instant::now(), 0, 0);
    loop {
        let listing = moved.read_directory(&who, moved.root(), after, 1000, false).unwrap();
        listed += listing.entries.len() as u64;
        if listing.end {
            break;
        }
        after = listing.entries.last().unwrap().cookie;
    }
    assert_eq!(listed, count);
    eprintln!(
        "{count} files moved in {took:?} with {} KiB of memory at most; the table has {} KiB and is \
         open in {opened:?}; one by its id, there and here: {first:?}, again {again:?}; listed in \
         {:?}",
        peak >> 10,
        table_bytes >> 10,
        start.elapsed()
    );
    assert!(peak < 96 << 20, "{peak} bytes");
}
