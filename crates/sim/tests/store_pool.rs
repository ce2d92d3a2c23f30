//! What the store promises besides surviving crashes: concurrency, limits, damage, sharing.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::disk::{Disk, Fault, Operation};
use store::{Pool, StoreError, Volume};
use uuid::Uuid;

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const CHUNK: u64 = 64 << 10;

fn volume_id(number: u128) -> VolumeId {
    VolumeId(Uuid::from_u128(number))
}
fn snapshot_id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

async fn open(disk: &Disk, capacity: Option<u64>) -> Result<Arc<Pool>, StoreError> {
    let names = Arc::new(disk.clone());
    let capacity = capacity.map(ByteSize);
    Pool::open(names, disk, Path::new("/pool"), POOL, IoMode::Cached, capacity).await
}

async fn pool_with_volume(disk: &Disk, size: u64) -> (Arc<Pool>, Arc<Volume>) {
    let pool = open(disk, None).await.unwrap();
    pool.create_volume(disk, volume_id(1), ByteSize(size), &Source::Blank).await.unwrap();
    let volume = pool.volume(disk, volume_id(1)).await.unwrap();
    (pool, volume)
}

async fn put(disk: &Disk, volume: &Volume, offset: u64, length: u64, byte: u8) {
    let parts = vec![Bytes::from(vec![byte; usize::try_from(length).unwrap()])];
    volume.write(disk, offset, parts, false).await.unwrap();
}

async fn get(disk: &Disk, volume: &Volume, offset: u64, length: usize) -> Vec<u8> {
    volume.read(disk, offset, length).await.unwrap().concat()
}

/// Each writer owns some 512-byte blocks and must read back what it wrote, whatever the others
/// do; counters are raised by atomic updates; all while snapshots come, go and are merged.
#[test]
fn writers_updates_snapshots_and_merges_do_not_disturb_each_other() {
    for seed in 0..12 {
        block_on(async {
            let disk = Disk::new(seed);
            disk.slow_down(9);
            let (pool, volume) = pool_with_volume(&disk, 4 * CHUNK).await;
            let writers = (0..8u64).map(|writer| own_blocks(&disk, &volume, writer, seed));
            let counters = (0..8).map(|_| count_up(&disk, &volume));
            let all = futures::future::join(
                futures::future::join_all(writers),
                futures::future::join_all(counters),
            );
            futures::future::join(all, structure(&disk, &pool, seed)).await;
            let counted = get(&disk, &volume, 0, 512).await;
            assert_eq!(counted[..2], 80u16.to_be_bytes(), "seed {seed}");
        });
    }
}

async fn own_blocks(disk: &Disk, volume: &Volume, writer: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed * 100 + writer);
    for round in 0..25u8 {
        // Blocks 1 to 8 of a chunk, so that the writers share chunks and never blocks.
        let offset = random.random_range(0..4) * CHUNK + (writer + 1) * 512;
        match random.random_range(0..4) {
            0 => {
                volume.discard(disk, offset, 512).await.unwrap();
                assert_eq!(get(disk, volume, offset, 512).await, [0; 512], "seed {seed}");
            }
            1 => {
                volume.flush(disk).await.unwrap();
            }
            _ => {
                put(disk, volume, offset, 512, round + 1).await;
                assert_eq!(get(disk, volume, offset, 512).await, [round + 1; 512], "seed {seed}");
            }
        }
    }
}

/// Ten times: read a counter of 16 bits, write it one higher.
async fn count_up(disk: &Disk, volume: &Volume) {
    for _ in 0..10 {
        let raise = |found: &[u8]| -> Result<Option<Bytes>, ()> {
            let mut new = found.to_vec();
            let value = u16::from_be_bytes([found[0], found[1]]) + 1;
            new[..2].copy_from_slice(&value.to_be_bytes());
            Ok(Some(Bytes::from(new)))
        };
        volume.update(disk, 0, 512, false, raise).await.unwrap().unwrap();
    }
}

async fn structure(disk: &Disk, pool: &Pool, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = Vec::new();
    for number in 0..40 {
        match random.random_range(0..6) {
            0..2 => {
                taken.push(snapshot_id(100 + number));
                let last = *taken.last().unwrap();
                pool.create_snapshot(disk, volume_id(1), last).await.unwrap();
            }
            2..4 if !taken.is_empty() => {
                let one = taken.swap_remove(random.random_range(0..taken.len()));
                pool.delete_snapshot(disk, volume_id(1), one).await.unwrap();
            }
            _ => {
                pool.merge_step(disk).await.unwrap();
            }
        }
    }
    for one in taken {
        pool.delete_snapshot(disk, volume_id(1), one).await.unwrap();
    }
    while pool.merge_step(disk).await.unwrap().is_some() {}
    assert!(pool.volumes()[0].snapshots.is_empty());
}

/// The record of the merge's steps: who merged, how much was left, and the last word.
#[test]
fn a_merge_tells_its_progress_and_gives_the_space_back() {
    block_on(async {
        let disk = Disk::new(3);
        let (pool, volume) = pool_with_volume(&disk, 100 * CHUNK).await;
        put(&disk, &volume, 0, 100 * CHUNK, 1).await;
        pool.create_snapshot(&disk, volume_id(1), snapshot_id(7)).await.unwrap();
        put(&disk, &volume, 0, 80 * CHUNK, 2).await;
        assert_eq!(pool.usage().unwrap().used, ByteSize(180 * CHUNK));
        assert_eq!(pool.merge_step(&disk).await.unwrap(), None);
        pool.delete_snapshot(&disk, volume_id(1), snapshot_id(7)).await.unwrap();
        let mut left = Vec::new();
        while let Some(step) = pool.merge_step(&disk).await.unwrap() {
            assert_eq!(step.snapshot, Some((volume_id(1), snapshot_id(7))));
            assert_eq!(step.finished, step.left == ByteSize(0));
            left.push(step.left.bytes() / CHUNK);
        }
        assert_eq!(left, [48, 16, 0]);
        assert_eq!(pool.usage().unwrap().used, ByteSize(100 * CHUNK));
        let (_, free) = env::Files::space(&disk, Path::new("/pool")).unwrap();
        let taken = (u64::MAX >> 1) - free;
        assert!(taken < 101 * CHUNK, "{taken} bytes on the disk");
    });
}

#[test]
fn a_limited_pool_refuses_with_numbers_and_lives_on() {
    block_on(async {
        let disk = Disk::new(4);
        let pool = open(&disk, Some(10 * CHUNK)).await.unwrap();
        for number in [1, 2] {
            let size = ByteSize(20 * CHUNK);
            pool.create_volume(&disk, volume_id(number), size, &Source::Blank).await.unwrap();
        }
        let one = pool.volume(&disk, volume_id(1)).await.unwrap();
        let two = pool.volume(&disk, volume_id(2)).await.unwrap();
        put(&disk, &one, 0, 9 * CHUNK, 1).await;
        put(&disk, &two, 0, 512, 2).await;
        let refused = two.write(&disk, CHUNK, vec![Bytes::from(vec![3; 512])], false).await;
        let (needed, free) = (ByteSize(CHUNK), ByteSize(0));
        assert!(
            matches!(refused, Err(StoreError::NoSpace { needed: n, free: f }) if n == needed && f == free)
        );
        // What is allocated can be written, also in the same chunk.
        put(&disk, &one, 512, 3 * CHUNK, 4).await;
        put(&disk, &two, 512, 1024, 5).await;
        let snapshot = pool.create_snapshot(&disk, volume_id(1), snapshot_id(1)).await;
        assert!(matches!(snapshot, Err(StoreError::NoSpace { .. })));
        one.discard(&disk, 0, 4 * CHUNK).await.unwrap();
        put(&disk, &two, CHUNK, 512, 3).await;
        pool.create_snapshot(&disk, volume_id(1), snapshot_id(1)).await.unwrap();
        let usage = pool.usage().unwrap();
        assert_eq!((usage.used, usage.capacity), (ByteSize(7 * CHUNK), ByteSize(10 * CHUNK)));
        assert_eq!(usage.provisioned, ByteSize(40 * CHUNK));
        drop((one, two, pool));
        let pool = open(&disk, Some(10 * CHUNK)).await.unwrap();
        // Until a volume is opened its files count as what they take, rounded up.
        assert_eq!(pool.usage().unwrap().used, ByteSize(6 * CHUNK));
        pool.volume(&disk, volume_id(2)).await.unwrap();
        assert_eq!(pool.usage().unwrap().used, ByteSize(7 * CHUNK));
    });
}

#[test]
fn a_full_file_system_is_no_space_and_a_failed_sync_is_remembered() {
    block_on(async {
        let disk = Disk::new(5);
        let (pool, volume) = pool_with_volume(&disk, 4 * CHUNK).await;
        let fault = |operation, errno| Fault { operation, suffix: ".data", after: 0, errno };
        disk.inject(fault(Operation::Write, 28));
        let parts = || vec![Bytes::from(vec![1; 512])];
        let full = volume.write(&disk, 0, parts(), false).await;
        assert!(matches!(full, Err(StoreError::NoSpace { .. })));
        assert_eq!(pool.usage().unwrap().used, ByteSize(0));
        volume.write(&disk, 0, parts(), true).await.unwrap();
        disk.inject(fault(Operation::Sync, 5));
        assert!(matches!(volume.write(&disk, 0, parts(), true).await, Err(StoreError::Io { .. })));
        assert!(matches!(volume.flush(&disk).await, Err(StoreError::Io { .. })));
        // Another volume of the pool does not suffer.
        pool.create_volume(&disk, volume_id(2), ByteSize(CHUNK), &Source::Blank).await.unwrap();
        let other = pool.volume(&disk, volume_id(2)).await.unwrap();
        other.write(&disk, 0, parts(), true).await.unwrap();
        drop((volume, other, pool));
        let pool = open(&disk, None).await.unwrap();
        pool.volume(&disk, volume_id(1)).await.unwrap().flush(&disk).await.unwrap();
    });
}

#[test]
fn damage_is_told_and_stays_with_its_volume() {
    block_on(async {
        let disk = Disk::new(6);
        let (pool, volume) = pool_with_volume(&disk, 4 * CHUNK).await;
        pool.create_volume(&disk, volume_id(2), ByteSize(CHUNK), &Source::Blank).await.unwrap();
        volume.save_reservations(&disk, b"held").await.unwrap();
        drop((pool, volume));
        let rot = |path: PathBuf| {
            for slot in [0, 4096] {
                assert!(disk.rot(&path, slot, &[0x5a; 512]));
            }
        };
        rot(Path::new("/pool/reservations").join(format!("{}.rec", volume_id(1))));
        rot(Path::new("/pool/volumes").join(format!("{}.rec", volume_id(2))));
        let pool = open(&disk, None).await.unwrap();
        let layers = env::Files::list(&disk, Path::new("/pool/layers")).unwrap();
        assert_eq!(layers.len(), 4, "nothing is cleaned up while a record is unreadable");
        let volume = pool.volume(&disk, volume_id(1)).await.unwrap();
        let lost = volume.load_reservations(&disk).await;
        assert!(matches!(lost, Err(StoreError::Corrupt { .. })));
        volume.save_reservations(&disk, b"cleared").await.unwrap();
        assert_eq!(
            volume.load_reservations(&disk).await.unwrap().as_deref(),
            Some(&b"cleared"[..])
        );
        let damaged = pool.volume(&disk, volume_id(2)).await.map(drop);
        assert!(matches!(damaged, Err(StoreError::Corrupt { .. })));
        let again = pool.create_volume(&disk, volume_id(2), ByteSize(CHUNK), &Source::Blank).await;
        assert!(matches!(again, Err(StoreError::Corrupt { .. })));
        pool.delete_volume(&disk, volume_id(2)).await.unwrap();
        drop((volume, pool));
        let pool = open(&disk, None).await.unwrap();
        assert_eq!(pool.volumes().len(), 1);
        assert_eq!(env::Files::list(&disk, Path::new("/pool/layers")).unwrap().len(), 2);
        env::Files::remove(
            &disk,
            &Path::new("/pool/reservations").join(format!("{}.rec", volume_id(1))),
        )
        .unwrap();
        drop(pool);
        let pool = open(&disk, None).await.unwrap();
        let volume = pool.volume(&disk, volume_id(1)).await.unwrap();
        let lost = volume.load_reservations(&disk).await;
        assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "a missing record is lost state");
    });
}

#[test]
fn orders_may_come_twice_and_wrong_ones_are_refused() {
    block_on(async {
        let disk = Disk::new(7);
        let (pool, volume) = pool_with_volume(&disk, 2 * CHUNK).await;
        put(&disk, &volume, 0, 2 * CHUNK, 1).await;
        let (id, size) = (volume_id(1), ByteSize(2 * CHUNK));
        for _ in 0..2 {
            pool.create_volume(&disk, id, size, &Source::Blank).await.unwrap();
            pool.create_snapshot(&disk, id, snapshot_id(1)).await.unwrap();
        }
        assert_eq!(get(&disk, &volume, CHUNK, 512).await, [1; 512]);
        put(&disk, &volume, 0, CHUNK, 2).await;
        volume.grow(&disk, 3 * CHUNK).await.unwrap();
        volume.grow(&disk, CHUNK).await.unwrap();
        put(&disk, &volume, 2 * CHUNK, CHUNK, 9).await;
        for _ in 0..2 {
            pool.revert(&disk, id, snapshot_id(1)).await.unwrap();
            assert_eq!(get(&disk, &volume, 0, 512).await, [1; 512]);
            assert_eq!(get(&disk, &volume, 2 * CHUNK, 512).await, [0; 512]);
        }
        assert_eq!(volume.size(), 3 * CHUNK);
        let source = Source::Snapshot { volume: id, snapshot: snapshot_id(1) };
        let small = pool.create_volume(&disk, volume_id(2), ByteSize(CHUNK), &source).await;
        assert!(matches!(small, Err(StoreError::Refused { .. })));
        let source = Source::Snapshot { volume: id, snapshot: snapshot_id(2) };
        let missing = pool.create_volume(&disk, volume_id(2), size, &source).await;
        assert!(matches!(missing, Err(StoreError::Missing { .. })));
        for _ in 0..2 {
            pool.delete_snapshot(&disk, id, snapshot_id(1)).await.unwrap();
            pool.delete_volume(&disk, id).await.unwrap();
        }
        assert!(matches!(volume.read(&disk, 0, 512).await, Err(StoreError::Missing { .. })));
    });
}

#[test]
fn ranges_are_checked() {
    block_on(async {
        let disk = Disk::new(8);
        let (_pool, volume) = pool_with_volume(&disk, CHUNK).await;
        let read =
            async |offset, length| volume.read(&disk, offset, length).await.map(|p| p.concat());
        assert!(matches!(read(CHUNK, 512).await, Err(StoreError::OutOfRange { .. })));
        assert!(matches!(read(u64::MAX - 511, 512).await, Err(StoreError::OutOfRange { .. })));
        assert!(matches!(read(1, 512).await, Err(StoreError::Unaligned { .. })));
        assert!(matches!(read(0, 5).await, Err(StoreError::Unaligned { .. })));
        assert_eq!(read(CHUNK, 0).await.unwrap(), b"");
        volume.discard(&disk, CHUNK, 0).await.unwrap();
        volume.flush(&disk).await.unwrap();
    });
}

/// Maps of more than one page, and a clone of a deleted volume that outlives it.
#[test]
fn a_large_clone_outlives_its_source() {
    block_on(async {
        let disk = Disk::new(9);
        let size = 3 << 30;
        let (pool, volume) = pool_with_volume(&disk, size).await;
        let far = 2_500 << 20;
        put(&disk, &volume, far, 1024, 1).await;
        pool.create_snapshot(&disk, volume_id(1), snapshot_id(1)).await.unwrap();
        let source = Source::Snapshot { volume: volume_id(1), snapshot: snapshot_id(1) };
        pool.create_volume(&disk, volume_id(2), ByteSize(2 * size), &source).await.unwrap();
        let clone = pool.volume(&disk, volume_id(2)).await.unwrap();
        put(&disk, &clone, far + 512, 512, 2).await;
        put(&disk, &clone, size + far, 512, 3).await;
        clone.discard(&disk, 0, 2 << 30).await.unwrap();
        pool.delete_volume(&disk, volume_id(1)).await.unwrap();
        let steps = RefCell::new(0);
        let check = async |clone: &Volume| {
            *steps.borrow_mut() += 1;
            assert_eq!(get(&disk, clone, far, 1024).await, [[1; 512], [2; 512]].concat());
            assert_eq!(get(&disk, clone, size + far, 512).await, [3; 512]);
            assert_eq!(get(&disk, clone, size, 512).await, [0; 512]);
        };
        check(&clone).await;
        clone.flush(&disk).await.unwrap();
        drop((clone, volume, pool));
        disk.restart_process();
        let pool = open(&disk, None).await.unwrap();
        let clone = pool.volume(&disk, volume_id(2)).await.unwrap();
        check(&clone).await;
        for _ in 0..5 {
            pool.merge_step(&disk).await.unwrap();
            check(&clone).await;
        }
        while pool.merge_step(&disk).await.unwrap().is_some() {}
        check(&clone).await;
        assert_eq!(*steps.borrow(), 8);
        assert_eq!(pool.usage().unwrap().used, ByteSize(2 * CHUNK));
    });
}
