//! Many volumes in one pool. For more: `COMMONHOLD_VOLUMES=1000`; the test says what it took.

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
