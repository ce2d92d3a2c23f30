//! WRITE ATOMIC on a disk that tears: the power goes at every step of an atomic write, and what
//! is found afterwards is all of it or none of it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use env::Files;
use futures::executor::block_on;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use sim::disk::{Disk, Fault, Operation};
use store::{Pool, StoreError, Volume};
use uuid::Uuid;

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));
const SIZE: u64 = 1 << 20;
/// Over three chunks, whole at neither end.
const AT: u64 = 40 << 10;
const LENGTH: usize = 128 << 10;

async fn open(disk: &Disk) -> Result<Arc<Volume>, StoreError> {
    let names: Arc<dyn Files> = Arc::new(disk.clone());
    let pool = Pool::open(names, disk, Path::new("/pool"), POOL, IoMode::Cached, None).await?;
    pool.volume(disk, VOLUME).await
}

fn filled(byte: u8) -> Vec<Bytes> {
    let half = Bytes::from(vec![byte; LENGTH / 2]);
    vec![half.clone(), half]
}

/// A volume that holds `1` in the range and `9` around it, durably; with a snapshot where `stacked`,
/// so that the atomic write needs chunks of its own.
async fn prepared(seed: u64, stacked: bool) -> (Disk, Arc<Volume>) {
    let disk = Disk::new(seed);
    let names: Arc<dyn Files> = Arc::new(disk.clone());
    let pool =
        Pool::open(names, &disk, Path::new("/pool"), POOL, IoMode::Cached, None).await.unwrap();
    pool.create_volume(&disk, VOLUME, ByteSize(SIZE), &Source::Blank).await.unwrap();
    let volume = pool.volume(&disk, VOLUME).await.unwrap();
    volume.write(&disk, 0, vec![Bytes::from(vec![9; 512 << 10])], false).await.unwrap();
    volume.write(&disk, AT, filled(1), true).await.unwrap();
    if stacked {
        let snapshot = SnapshotId(Uuid::from_u128(3));
        pool.create_snapshot(&disk, VOLUME, snapshot).await.unwrap();
    }
    (disk, volume)
}

/// The byte that the whole range holds; what is around it is checked on the way.
async fn found(disk: &Disk, volume: &Volume, what: &str) -> u8 {
    let data = volume.read(disk, 0, 512 << 10).await.unwrap().concat();
    let start = usize::try_from(AT).unwrap();
    let (before, rest) = data.split_at(start);
    let (range, after) = rest.split_at(LENGTH);
    assert!(before.iter().chain(after).all(|byte| *byte == 9), "{what}: the neighbours");
    assert!(range.iter().all(|byte| *byte == range[0]), "{what}: torn");
    range[0]
}

#[test]
fn an_atomic_write_is_whole_or_absent_wherever_the_power_goes() {
    let (mut kept, mut lost) = (0, 0);
    for stacked in [false, true] {
        for seed in 0..3 {
            let mut step = 0;
            loop {
                let what = format!("seed {seed}, step {step}, stacked {stacked}");
                let done = block_on(async {
                    let (disk, volume) = prepared(seed, stacked).await;
                    disk.crash_at(disk.steps() + step);
                    let written = volume.write_atomic(&disk, AT, filled(2), false).await;
                    let done = !disk.crashed();
                    assert!(written.is_ok() || !done, "{what}: {written:?}");
                    disk.crash();
                    drop(volume);
                    disk.recover();
                    let volume = open(&disk).await.unwrap();
                    match found(&disk, &volume, &what).await {
                        2 => kept += 1,
                        1 if written.is_err() => lost += 1,
                        other => panic!("{what}: answered, and {other} is there"),
                    }
                    done
                });
                if done {
                    break;
                }
                step += 1;
            }
            assert!(step > 5, "the power never went inside the write");
        }
    }
    assert!(kept > 10 && lost > 10, "kept {kept}, lost {lost}");
}

#[test]
fn a_later_write_is_not_undone_by_the_record_of_an_atomic_one() {
    for seed in 0..20 {
        block_on(async {
            let (disk, volume) = prepared(seed, seed % 2 == 0).await;
            volume.write_atomic(&disk, AT, filled(2), false).await.unwrap();
            volume.write(&disk, AT, filled(3), true).await.unwrap();
            disk.crash();
            drop(volume);
            disk.recover();
            let volume = open(&disk).await.unwrap();
            assert_eq!(found(&disk, &volume, &format!("seed {seed}")).await, 3);
        });
    }
}

#[test]
fn the_power_may_go_again_while_an_atomic_write_is_completed() {
    for seed in 0..5 {
        for second in 0..24 {
            let what = format!("seed {seed}, again after {second}");
            block_on(async {
                let (disk, volume) = prepared(seed, false).await;
                disk.crash_at(disk.steps() + 20 + seed);
                let _ = volume.write_atomic(&disk, AT, filled(2), false).await;
                disk.crash();
                drop(volume);
                disk.recover();
                disk.crash_at(disk.steps() + second);
                let _ = open(&disk).await;
                disk.crash();
                disk.recover();
                let volume = open(&disk).await.unwrap();
                let first = found(&disk, &volume, &what).await;
                drop(volume);
                disk.restart_process();
                let volume = open(&disk).await.unwrap();
                assert_eq!(found(&disk, &volume, &what).await, first, "{what}");
            });
        }
    }
}

#[test]
fn an_atomic_write_that_fails_leaves_the_old_content_or_stops_all_flushes() {
    let (mut clean, mut stopped) = (0, 0);
    for operation in [Operation::Write, Operation::Sync, Operation::Name] {
        for (errno, suffix) in [(5, ""), (28, ""), (5, ".data"), (5, ".rec")] {
            for after in 0..6_u32 {
                let what = format!("{operation:?} of {suffix:?} fails with {errno} after {after}");
                block_on(async {
                    let (disk, volume) = prepared(u64::from(after), false).await;
                    disk.inject(Fault { operation, suffix, after, errno });
                    let failed = volume.write_atomic(&disk, AT, filled(2), false).await.is_err();
                    if !failed {
                        assert_eq!(found(&disk, &volume, &what).await, 2);
                    } else if volume.flush(&disk).await.is_ok() {
                        clean += 1;
                        assert_eq!(found(&disk, &volume, &what).await, 1);
                    } else {
                        stopped += 1;
                    }
                    drop(volume);
                    disk.restart_process();
                    // A fault that has not struck yet may strike here, once.
                    let volume = match open(&disk).await {
                        Ok(volume) => volume,
                        Err(_) => open(&disk).await.unwrap(),
                    };
                    found(&disk, &volume, &what).await;
                });
            }
        }
    }
    assert!(clean > 0 && stopped > 0, "clean {clean}, stopped {stopped}");
}
