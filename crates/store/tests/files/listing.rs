//! Listing directories by pieces, while others change them.

use model::export::Durability;
use std::collections::BTreeMap;

use bytes::Bytes;
use model::file::{Creation, FileStore, Removal};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::homes::{Home, MIB, create, make_directory, mode, user};

/// Lists a directory by pieces, doing something between them: how often each name was seen.
fn list(
    store: &dyn FileStore,
    directory: model::file::FileId,
    piece: usize,
    with_attributes: bool,
    mut between: impl FnMut(),
) -> BTreeMap<Bytes, u32> {
    let (mut seen, mut after) = (BTreeMap::new(), 0);
    loop {
        let listing = store.read_directory(&user(0), directory, after, piece, with_attributes);
        let listing = listing.unwrap();
        for entry in listing.entries {
            assert_eq!(entry.attributes.is_some(), with_attributes);
            assert_eq!(entry.attributes.map_or(entry.file, |found| found.file), entry.file);
            *seen.entry(entry.name).or_default() += 1;
            after = entry.cookie;
        }
        if listing.end {
            return seen;
        }
        between();
    }
}

#[test]
fn who_is_there_all_the_time_is_listed_once() {
    for mut home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        volume.set_durability(Durability::Relaxed).unwrap();
        let d = make_directory(&volume, &user(0), volume.root(), "d");
        for n in 0..500 {
            create(&volume, &user(0), d, &format!("steady-{n}"));
        }
        let mut random = StdRng::seed_from_u64(4);
        for piece in [1, 7, 100] {
            // New entries may come at the end, so without a bound the end would never come.
            let mut changes = 0..300;
            let seen = list(&volume, d, piece, piece == 7, || {
                for _ in changes.by_ref().take(3) {
                    let name = format!("passing-{}", random.random_range(0..300));
                    let made = volume.create(
                        &user(0),
                        d,
                        name.as_bytes(),
                        &Creation::Guarded(mode(0o600)),
                    );
                    if made.is_err() {
                        volume.remove(&user(0), d, name.as_bytes(), Removal::File).unwrap();
                    }
                }
            });
            for n in 0..500 {
                assert_eq!(seen.get(format!("steady-{n}").as_bytes()), Some(&1), "{n}");
            }
        }
        // And a cookie outlives the daemon.
        let first = volume.read_directory(&user(0), d, 0, 10, false).unwrap().entries;
        let cookie = first.last().unwrap().cookie;
        let next = |volume: &dyn FileStore| {
            volume.read_directory(&user(0), d, cookie, 1, false).unwrap().entries[0].name.clone()
        };
        let before = next(&volume);
        drop(volume);
        home.reopen();
        assert_eq!(next(&home.volume(1, 64 * MIB)), before);
    }
}

/// The most memory that this process had.
fn memory_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How many entries, and whether memory is judged: a campaign runs this test alone, while the
/// tests beside it here would count as its own.
///
/// `COMMONHOLD_ENTRIES=1000000 cargo test --release -p store --test files large -- --nocapture`
fn entries_wanted() -> (u64, bool) {
    match std::env::var("COMMONHOLD_ENTRIES") {
        Ok(number) => (number.parse().expect("COMMONHOLD_ENTRIES is a number"), true),
        Err(_) => (3000, false),
    }
}

#[test]
fn a_large_directory_is_listed_in_bounded_memory() {
    const PIECE: usize = 1000;
    let (wanted, is_alone) = entries_wanted();
    let Some(home) = Home::dir() else { return };
    let volume = home.volume(1, 8192 * MIB);
    volume.set_durability(Durability::Relaxed).unwrap();
    let d = make_directory(&volume, &user(0), volume.root(), "d");
    let start = std::time::Instant::now();
    for n in 0..wanted {
        create(&volume, &user(0), d, &format!("{n}"));
    }
    let made = start.elapsed();
    let before = memory_peak_bytes();
    let start = std::time::Instant::now();
    let (mut entries, mut after) = (0, 0);
    let mut sum = 0u64;
    loop {
        let listing = volume.read_directory(&user(0), d, after, PIECE, false).unwrap();
        assert!(listing.entries.len() <= PIECE);
        for entry in &listing.entries {
            entries += 1;
            sum += std::str::from_utf8(&entry.name).unwrap().parse::<u64>().unwrap();
            after = entry.cookie;
        }
        if listing.end {
            break;
        }
    }
    let more = memory_peak_bytes() - before;
    eprintln!(
        "{entries} entries made in {made:?}, listed in {:?}, {more} bytes more",
        start.elapsed()
    );
    assert_eq!((entries, sum), (wanted, wanted * (wanted - 1) / 2));
    assert!(!is_alone || more < 16 * MIB, "{more} bytes");
}
