//! SANITIZE on a disk that loses power: what was promised is done in the end, wherever it goes, and
//! what was not promised leaves everything as it was.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use env::Files;
use futures::executor::block_on;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use sim::disk::{Disk, Fault, Operation};
use store::{Pool, Sanitize, SanitizeMethod, SanitizeOrder, StoreError, Volume};
use uuid::Uuid;

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));
const CLONE: VolumeId = VolumeId(Uuid::from_u128(3));
const SNAPSHOT: SnapshotId = SnapshotId(Uuid::from_u128(4));
/// Three pieces of an overwrite, the last one short.
const SIZE: usize = (2 << 20) + (192 << 10);
const SECRET: u8 = 0x5A;

async fn pool(disk: &Disk) -> Result<Arc<Pool>, StoreError> {
    let names: Arc<dyn Files> = Arc::new(disk.clone());
    Pool::open(names, disk, Path::new("/pool"), POOL, IoMode::Cached, None).await
}

async fn open(disk: &Disk) -> Arc<Volume> {
    pool(disk).await.unwrap().volume(disk, VOLUME).await.unwrap()
}

/// A volume that holds secrets in its first and last part and in the record of atomic writes.
async fn prepared(seed: u64) -> (Disk, Arc<Pool>, Arc<Volume>) {
    let disk = Disk::new(seed);
    let pool = pool(&disk).await.unwrap();
    let size = ByteSize(SIZE as u64);
    pool.create_volume(&disk, VOLUME, size, &Source::Blank).await.unwrap();
    let volume = pool.volume(&disk, VOLUME).await.unwrap();
    let secret = |length| vec![Bytes::from(vec![SECRET; length])];
    volume.write(&disk, 0, secret(512 << 10), false).await.unwrap();
    volume.write_atomic(&disk, 4096, secret(128 << 10), false).await.unwrap();
    volume.write(&disk, SIZE as u64 - 65536, secret(65536), true).await.unwrap();
    (disk, pool, volume)
}

fn erase() -> SanitizeOrder {
    SanitizeOrder { method: SanitizeMethod::Erase, unrestricted: false }
}

/// Three passes of half a block of `1` and half of `2`, the second one inverted.
fn overwrite() -> SanitizeOrder {
    let block = [[1; 256], [2; 256]].concat().into();
    let method = SanitizeMethod::Overwrite { block, passes: 3, invert: true };
    SanitizeOrder { method, unrestricted: true }
}

async fn content(disk: &Disk, volume: &Volume) -> Vec<u8> {
    volume.read(disk, 0, SIZE).await.unwrap().concat()
}

/// All of the volume is what the order asked for.
async fn check_done(disk: &Disk, volume: &Volume, order: &SanitizeOrder, what: &str) {
    let content = content(disk, volume).await;
    match &order.method {
        SanitizeMethod::Erase => {
            assert!(content.iter().all(|byte| *byte == 0), "{what}: not zeros");
            let status = volume.status(0, SIZE as u64);
            assert_eq!(status, [(0, SIZE as u64, false)], "{what}: still mapped");
        }
        SanitizeMethod::Overwrite { block, .. } => {
            assert!(content.chunks(512).all(|found| found == &block[..]), "{what}: no pattern");
        }
    }
}

fn always(_: u64, _: u64) -> bool {
    true
}

#[test]
fn what_was_promised_is_done_wherever_the_power_goes_and_nothing_else_is() {
    let (mut kept, mut done) = (0, 0);
    for (order, seed) in [(erase(), 1), (overwrite(), 2), (overwrite(), 3)] {
        let mut step = 0;
        loop {
            let what = format!("seed {seed}, step {step}");
            let through = block_on(async {
                let (disk, pool, volume) = prepared(seed).await;
                let before = content(&disk, &volume).await;
                disk.crash_at(disk.steps() + step);
                let begun = volume.begin_sanitize(&disk, &order).await.is_ok();
                let ended = begun && volume.sanitize(&disk, &always).await.is_ok();
                let through = !disk.crashed();
                assert!(ended || !through, "{what}: failed on a sound disk");
                disk.crash();
                drop((volume, pool));
                disk.recover();
                let volume = open(&disk).await;
                let state = volume.sanitize_state(&disk).await.unwrap();
                match &state {
                    Sanitize::None if !begun => {
                        assert!(content(&disk, &volume).await == before, "{what}: changed");
                        kept += 1;
                    }
                    Sanitize::None | Sanitize::Pending(_) => {
                        assert!(state != Sanitize::None || !ended || through, "{what}");
                        assert!(
                            matches!(&state, Sanitize::Pending(now) if *now == order)
                                || state == Sanitize::None,
                            "{what}"
                        );
                        let left = volume.sanitize(&disk, &always).await.unwrap();
                        assert_eq!(left, Sanitize::None, "{what}");
                        check_done(&disk, &volume, &order, &what).await;
                        done += 1;
                    }
                    Sanitize::Failed { .. } => panic!("{what}: a power cut is no failure"),
                }
                through
            });
            if through {
                break;
            }
            step += 1;
        }
        assert!(step > 8, "the power never went inside the sanitize");
    }
    assert!(kept > 5 && done > 20, "kept {kept}, done {done}");
}

#[test]
fn a_kill_in_the_middle_costs_time_alone_and_the_secret_is_in_no_file_afterwards() {
    for order in [erase(), overwrite()] {
        block_on(async {
            let (disk, pool, volume) = prepared(7).await;
            volume.begin_sanitize(&disk, &order).await.unwrap();
            let calls = Cell::new(0);
            let once = |_, _| calls.replace(calls.get() + 1) < 1;
            let stopped = volume.sanitize(&disk, &once).await;
            let erased_at_once = order.method == SanitizeMethod::Erase;
            assert_eq!(matches!(stopped, Err(StoreError::Cancelled)), !erased_at_once);
            drop((volume, pool));
            disk.restart_process();
            let volume = open(&disk).await;
            assert_eq!(volume.sanitize(&disk, &always).await.unwrap(), Sanitize::None);
            check_done(&disk, &volume, &order, "after the kill").await;
            let names: &dyn Files = &disk;
            for part in ["atomic", "layers"] {
                let part = Path::new("/pool").join(part);
                for name in names.list(&part).unwrap() {
                    let file = names.open(&part.join(&name), env::OpenMode::Read, false).unwrap();
                    let length = usize::try_from(names.length(&file).unwrap()).unwrap();
                    let io: &dyn env::BlockIo = &disk;
                    let bytes = io.read(&file, 0, env::Buffer::new(length)).await.unwrap();
                    let secret = bytes.windows(64).any(|run| run.iter().all(|b| *b == SECRET));
                    assert!(!secret, "the secret is still in {}", part.join(&name).display());
                }
            }
        });
    }
}

#[test]
fn a_volume_whose_bytes_others_hold_is_not_sanitized() {
    block_on(async {
        let (disk, pool, volume) = prepared(1).await;
        let refused = async |why: &str| {
            let error = volume.begin_sanitize(&disk, &erase()).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(volume.sanitize_state(&disk).await.unwrap(), Sanitize::None);
        };
        pool.create_snapshot(&disk, VOLUME, SNAPSHOT).await.unwrap();
        refused(&SNAPSHOT.to_string()).await;
        let source = Source::Snapshot { volume: VOLUME, snapshot: SNAPSHOT };
        pool.create_volume(&disk, CLONE, ByteSize(SIZE as u64), &source).await.unwrap();
        pool.delete_snapshot(&disk, VOLUME, SNAPSHOT).await.unwrap();
        refused("a clone shares").await;
        pool.delete_volume(&disk, CLONE).await.unwrap();
        refused("not merged yet").await;
        while pool.merge_step(&disk).await.unwrap().is_some() {}
        volume.begin_sanitize(&disk, &erase()).await.unwrap();
        let late = SnapshotId(Uuid::from_u128(9));
        let snapshot = pool.create_snapshot(&disk, VOLUME, late).await;
        assert!(matches!(snapshot, Err(StoreError::Refused { .. })), "it would keep the bytes");
        assert_eq!(volume.sanitize(&disk, &always).await.unwrap(), Sanitize::None);
        check_done(&disk, &volume, &erase(), "after the merge").await;
        pool.create_snapshot(&disk, VOLUME, late).await.unwrap();
    });
}

#[test]
fn a_failure_is_remembered_and_left_as_its_order_allows() {
    for order in [overwrite(), SanitizeOrder { unrestricted: false, ..overwrite() }] {
        block_on(async {
            let (disk, pool, volume) = prepared(1).await;
            volume.begin_sanitize(&disk, &order).await.unwrap();
            let (operation, suffix) = (Operation::Write, ".data");
            disk.inject(Fault { operation, suffix, after: 1, errno: 5 });
            volume.sanitize(&disk, &always).await.unwrap_err();
            drop((volume, pool));
            disk.restart_process();
            let volume = open(&disk).await;
            let failed = Sanitize::Failed { unrestricted: order.unrestricted };
            assert_eq!(volume.sanitize(&disk, &always).await.unwrap(), failed, "not done again");
            let left = volume.leave_failed_sanitize(&disk).await;
            assert_eq!(left.is_ok(), order.unrestricted, "{left:?}");
            volume.begin_sanitize(&disk, &erase()).await.unwrap();
            assert_eq!(volume.sanitize(&disk, &always).await.unwrap(), Sanitize::None);
            check_done(&disk, &volume, &erase(), "the second one").await;
        });
    }
}

#[test]
fn a_mark_that_could_not_be_made_durable_is_no_promise_or_is_kept() {
    let mut refused = 0;
    for operation in [Operation::Write, Operation::Sync, Operation::Name] {
        for after in 0..4 {
            block_on(async {
                let what = format!("{operation:?} fails after {after}");
                let (disk, pool, volume) = prepared(1).await;
                let before = content(&disk, &volume).await;
                disk.inject(Fault { operation, suffix: "", after, errno: 5 });
                let begun = volume.begin_sanitize(&disk, &erase()).await.is_ok();
                drop((volume, pool));
                disk.crash();
                disk.recover();
                // A fault that has not struck yet may strike here, once.
                let opened = pool_or_again(&disk).await;
                let volume = opened.volume(&disk, VOLUME).await.unwrap();
                let state = volume.sanitize_state(&disk).await.unwrap();
                if begun {
                    assert_eq!(state, Sanitize::Pending(erase()), "{what}");
                } else {
                    refused += 1;
                    assert_eq!(state, Sanitize::None, "{what}");
                    assert!(content(&disk, &volume).await == before, "{what}");
                }
            });
        }
    }
    assert!(refused > 3, "refused {refused}");
}

async fn pool_or_again(disk: &Disk) -> Arc<Pool> {
    match pool(disk).await {
        Ok(pool) => pool,
        Err(_) => pool(disk).await.unwrap(),
    }
}
