//! Schedules that were made to measure: each puts one operation exactly where one protection of
//! the store is the only thing that keeps a promise. Chance alone meets these too seldom.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::executor::block_on;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use sim::disk::{Disk, Operation};
use store::{Pool, StoreError, Volume};
use uuid::Uuid;

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));
const CHUNK: u64 = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;
/// The data file of the layer that a new pool's first volume starts with, and of the next one.
const FIRST: &str = "0000000000000001.data";
const SECOND: &str = "0000000000000002.data";

fn snapshot_id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

async fn open(disk: &Disk) -> Result<Arc<Pool>, StoreError> {
    let names = Arc::new(disk.clone());
    Pool::open(names, disk, Path::new("/pool"), POOL, IoMode::Cached, None).await
}

async fn pool_with_volume(disk: &Disk, size: u64) -> (Arc<Pool>, Arc<Volume>) {
    let pool = open(disk).await.unwrap();
    pool.create_volume(disk, VOLUME, ByteSize(size), &Source::Blank).await.unwrap();
    let volume = pool.volume(disk, VOLUME).await.unwrap();
    (pool, volume)
}

fn bytes(byte: u8, length: u64) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; usize::try_from(length).unwrap()])]
}

async fn put(disk: &Disk, volume: &Volume, offset: u64, length: u64, byte: u8) {
    volume.write(disk, offset, bytes(byte, length), false).await.unwrap();
}

async fn get(disk: &Disk, volume: &Volume, offset: u64, length: usize) -> Vec<u8> {
    volume.read(disk, offset, length).await.unwrap().concat()
}

/// Let it run until it is done or waits for something that does not come by itself.
fn push<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    (0..2000).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// The power goes and comes back: the volume as it is then.
fn after_power_loss(disk: &Disk) -> (Arc<Pool>, Arc<Volume>) {
    disk.crash();
    disk.recover();
    block_on(async {
        let pool = open(disk).await.unwrap();
        let volume = pool.volume(disk, VOLUME).await.unwrap();
        (pool, volume)
    })
}

/// A write that was answered after the snapshot must not lie in the frozen layer: flushes do not
/// look there any more, and a snapshot does not change.
#[test]
fn a_write_that_a_snapshot_overtakes_is_flushed_and_does_not_change_the_snapshot() {
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, 4 * CHUNK));
        disk.hold(Operation::Write, FIRST, 1);
        let mut write = Box::pin(volume.write(&disk, 0, bytes(7, 1024), false));
        assert!(push(&mut write).is_none());
        assert_eq!(disk.held(), 1);
        let mut snapshot = Box::pin(pool.create_snapshot(&disk, VOLUME, snapshot_id(1)));
        let overtook = push(&mut snapshot).is_some();
        let first_look = overtook.then(|| block_on(look(&disk, &pool, 10)));
        disk.lift();
        push(&mut write).unwrap().unwrap();
        if !overtook {
            push(&mut snapshot).unwrap().unwrap();
        }
        drop((write, snapshot));
        let second_look = block_on(look(&disk, &pool, 11));
        assert_eq!(first_look.unwrap_or(second_look.clone()), second_look, "a snapshot changed");
        block_on(volume.flush(&disk)).unwrap();
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        let found = block_on(get(&disk, &volume, 0, 1024));
        assert_eq!(found, [7; 1024], "seed {seed}: answered, flushed, and lost");
    }
}

/// What the snapshot holds at its start.
async fn look(disk: &Disk, pool: &Pool, number: u128) -> Vec<u8> {
    let clone = VolumeId(Uuid::from_u128(number));
    let source = Source::Snapshot { volume: VOLUME, snapshot: snapshot_id(1) };
    pool.create_volume(disk, clone, ByteSize(4 * CHUNK), &source).await.unwrap();
    let found = get(disk, &pool.volume(disk, clone).await.unwrap(), 0, 1024).await;
    pool.delete_volume(disk, clone).await.unwrap();
    found
}

/// A volume whose head has a chunk of twos over ones, and whose snapshot in between is deleted.
async fn before_merge(disk: &Disk) -> (Arc<Pool>, Arc<Volume>) {
    let (pool, volume) = pool_with_volume(disk, 4 * CHUNK).await;
    put(disk, &volume, 0, 4 * CHUNK, 1).await;
    pool.create_snapshot(disk, VOLUME, snapshot_id(1)).await.unwrap();
    put(disk, &volume, 0, CHUNK, 2).await;
    pool.delete_snapshot(disk, VOLUME, snapshot_id(1)).await.unwrap();
    volume.flush(disk).await.unwrap();
    (pool, volume)
}

/// A merge reads a chunk, writes it below and clears it above. A write to the upper one in between
/// would vanish with it.
#[test]
fn a_write_to_a_chunk_that_a_merge_is_moving_is_not_lost() {
    let disk = Disk::new(1);
    let (pool, volume) = block_on(before_merge(&disk));
    disk.hold(Operation::Write, FIRST, 1);
    let mut merge = Box::pin(pool.merge_step(&disk));
    assert!(push(&mut merge).is_none());
    assert_eq!(disk.held(), 1, "the merge is about to write the chunk below");
    let mut write = Box::pin(volume.write(&disk, 512, bytes(3, 512), false));
    let overtook = push(&mut write);
    disk.lift();
    push(&mut merge).unwrap().unwrap();
    overtook.or_else(|| push(&mut write)).unwrap().unwrap();
    let found = block_on(get(&disk, &volume, 0, 2048));
    assert_eq!(found, [[2; 512], [3; 512], [2; 512], [2; 512]].concat(), "the write is lost");
}

/// The same for a discard, which clears the chunk above: the merge must not bring it back.
#[test]
fn a_discard_of_a_chunk_that_a_merge_is_moving_is_not_undone() {
    let disk = Disk::new(2);
    let (pool, volume) = block_on(before_merge(&disk));
    disk.hold(Operation::Write, FIRST, 1);
    let mut merge = Box::pin(pool.merge_step(&disk));
    assert!(push(&mut merge).is_none());
    let mut discard = Box::pin(volume.discard(&disk, 0, CHUNK));
    let overtook = push(&mut discard);
    disk.lift();
    // Each may wait for the other's lock at its end.
    block_on(async {
        let discarded = async {
            match overtook {
                Some(done) => done,
                None => discard.await,
            }
        };
        let (merged, discarded) = futures::future::join(merge, discarded).await;
        merged.unwrap();
        discarded.unwrap();
    });
    assert_eq!(block_on(get(&disk, &volume, 0, 512)), [0; 512], "what was discarded is back");
}

/// Reads take no lock: a read that was sent to the upper layer may be served after the merge has
/// punched the chunk there.
#[test]
fn a_read_that_a_merge_overtakes_does_not_show_punched_bytes() {
    let disk = Disk::new(3);
    let (pool, volume) = block_on(before_merge(&disk));
    disk.hold(Operation::Read, SECOND, 1);
    let mut read = Box::pin(volume.read(&disk, 0, CHUNK_BYTES));
    assert!(push(&mut read).is_none());
    assert_eq!(disk.held(), 1);
    while block_on(pool.merge_step(&disk)).unwrap().is_some() {}
    disk.lift();
    let found = push(&mut read).unwrap().unwrap().concat();
    assert!(found == [2; CHUNK_BYTES], "the read shows {:?}", &found[..4]);
}

/// The same for the copy-up of a write: it reads the lower layers, of which two may be merged
/// meanwhile, and what it read is written for good.
#[test]
fn a_copy_up_that_a_merge_below_overtakes_copies_no_punched_bytes() {
    let disk = Disk::new(4);
    let (pool, volume) = block_on(before_merge(&disk));
    // One more layer: the merge of the two below it is none of the head's.
    block_on(pool.create_snapshot(&disk, VOLUME, snapshot_id(2))).unwrap();
    disk.hold(Operation::Read, SECOND, 1);
    let mut write = Box::pin(volume.write(&disk, 512, bytes(3, 512), false));
    assert!(push(&mut write).is_none());
    assert_eq!(disk.held(), 1, "the copy-up reads what lies below");
    while block_on(pool.merge_step(&disk)).unwrap().is_some() {}
    disk.lift();
    push(&mut write).unwrap().unwrap();
    let found = block_on(get(&disk, &volume, 0, CHUNK_BYTES));
    assert_eq!(found[..2048], [[2; 512], [3; 512], [2; 512], [2; 512]].concat());
    assert!(found[2048..].iter().all(|byte| *byte == 2));
}

/// How deep the merge is: into a base, which has no map, or into an overlay.
#[derive(Clone, Copy, Debug)]
enum Below {
    Base,
    Overlay,
}

/// Everything is flushed, so everything must be there, wherever the power goes in the merge.
#[test]
fn a_crash_at_any_step_of_a_merge_loses_nothing_that_was_flushed() {
    for below in [Below::Base, Below::Overlay] {
        for seed in 0..4 {
            let steps = merge_and_crash(below, seed, u64::MAX);
            for crash_after in 0..steps {
                merge_and_crash(below, seed, crash_after);
            }
        }
    }
}

/// Returns how many steps the merge took.
fn merge_and_crash(below: Below, seed: u64, crash_after: u64) -> u64 {
    let disk = Disk::new(seed);
    let expected = [[2; CHUNK_BYTES], [3; CHUNK_BYTES], [0; CHUNK_BYTES], [1; CHUNK_BYTES]];
    let (pool, volume) = block_on(async {
        let (pool, volume) = pool_with_volume(&disk, 4 * CHUNK).await;
        put(&disk, &volume, 0, 4 * CHUNK, 1).await;
        if let Below::Overlay = below {
            pool.create_snapshot(&disk, VOLUME, snapshot_id(1)).await.unwrap();
        }
        put(&disk, &volume, 0, 2 * CHUNK, 2).await;
        pool.create_snapshot(&disk, VOLUME, snapshot_id(2)).await.unwrap();
        put(&disk, &volume, CHUNK, CHUNK, 3).await;
        volume.discard(&disk, 2 * CHUNK, CHUNK).await.unwrap();
        volume.flush(&disk).await.unwrap();
        pool.delete_snapshot(&disk, VOLUME, snapshot_id(2)).await.unwrap();
        (pool, volume)
    });
    let start = disk.steps();
    disk.crash_at(start.saturating_add(crash_after));
    while block_on(pool.merge_step(&disk)).is_ok_and(|step| step.is_some()) {}
    let steps = disk.steps() - start;
    drop((pool, volume));
    let (pool, volume) = after_power_loss(&disk);
    let found = block_on(get(&disk, &volume, 0, 4 * CHUNK_BYTES));
    assert!(found == expected.concat(), "{below:?}, seed {seed}, crash after {crash_after} steps");
    while block_on(pool.merge_step(&disk)).unwrap().is_some() {}
    let found = block_on(get(&disk, &volume, 0, 4 * CHUNK_BYTES));
    assert!(found == expected.concat(), "{below:?}, seed {seed}, {crash_after}: the merge goes on");
    steps
}

/// A slot that holds the newest durable state is never the one that is written: a record of several
/// sectors tears.
#[test]
fn a_record_that_tears_leaves_the_one_before_it() {
    let record = |byte: u8| vec![byte; 3000];
    let run = |seed: u64, crash_after: u64| {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, CHUNK));
        for byte in 1..=3 {
            block_on(volume.save_reservations(&disk, &record(byte))).unwrap();
        }
        let start = disk.steps();
        disk.crash_at(start.saturating_add(crash_after));
        let saved = block_on(volume.save_reservations(&disk, &record(4))).is_ok();
        let steps = disk.steps() - start;
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        let found = block_on(volume.load_reservations(&disk)).unwrap().unwrap();
        let before = !saved && found == record(3);
        assert!(before || found == record(4), "seed {seed}, {crash_after}: record {}", found[0]);
        steps
    };
    for seed in 0..20 {
        for crash_after in 0..=run(seed, u64::MAX) {
            run(seed, crash_after);
        }
    }
}

/// A killed process leaves the newest record in the page cache alone. The next write goes over the
/// older one, which is the only one that is durable.
#[test]
fn a_record_that_was_not_synced_when_the_process_was_killed_survives_the_next_write() {
    let run = |seed: u64, crash_after: u64| {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, CHUNK));
        block_on(volume.save_reservations(&disk, &[1; 3000])).unwrap();
        disk.hold(Operation::Sync, ".rec", 1);
        let mut save = Box::pin(volume.save_reservations(&disk, &[2; 3000]));
        assert!(push(&mut save).is_none());
        disk.restart_process();
        drop(save);
        drop((pool, volume));
        let pool = block_on(open(&disk)).unwrap();
        let volume = block_on(pool.volume(&disk, VOLUME)).unwrap();
        assert_eq!(block_on(volume.load_reservations(&disk)).unwrap().unwrap(), [2; 3000]);
        let start = disk.steps();
        disk.crash_at(start.saturating_add(crash_after));
        let saved = block_on(volume.save_reservations(&disk, &[3; 3000])).is_ok();
        let steps = disk.steps() - start;
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        let found = block_on(volume.load_reservations(&disk)).expect("it is not lost").unwrap();
        assert!(found == [3; 3000] || (!saved && found == [2; 3000]), "seed {seed}: {}", found[0]);
        steps
    };
    for seed in 0..20 {
        for crash_after in 0..=run(seed, u64::MAX) {
            run(seed, crash_after);
        }
    }
}

/// The same for the page of a map, which tears where its sectors differ: so the chunks lie apart.
#[test]
fn a_map_page_that_was_not_synced_when_the_process_was_killed_survives_the_next_commit() {
    let run = |seed: u64, crash_after: u64| {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, 10_000 * CHUNK));
        block_on(pool.create_snapshot(&disk, VOLUME, snapshot_id(1))).unwrap();
        block_on(put(&disk, &volume, 0, CHUNK, 1));
        block_on(volume.flush(&disk)).unwrap();
        block_on(put(&disk, &volume, 4_000 * CHUNK, CHUNK, 2));
        disk.hold(Operation::Sync, ".map", 1);
        let mut flush = Box::pin(volume.flush(&disk));
        assert!(push(&mut flush).is_none());
        disk.restart_process();
        drop(flush);
        drop((pool, volume));
        let pool = block_on(open(&disk)).unwrap();
        let volume = block_on(pool.volume(&disk, VOLUME)).unwrap();
        let start = disk.steps();
        disk.crash_at(start.saturating_add(crash_after));
        let parts = bytes(3, CHUNK);
        let _unknown = block_on(volume.write(&disk, 9_000 * CHUNK, parts, true));
        let steps = disk.steps() - start;
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        let found = block_on(get(&disk, &volume, 0, 1024));
        assert_eq!(found, [1; 1024], "seed {seed}, {crash_after}: flushed, and lost");
        steps
    };
    for seed in 0..20 {
        for crash_after in 0..=run(seed, u64::MAX) {
            run(seed, crash_after);
        }
    }
}

/// The map may say zeros while the punch never reached the disk: a write to a part of the chunk
/// must not uncover what was discarded.
#[test]
fn a_write_into_a_discarded_chunk_does_not_uncover_what_was_discarded() {
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, 4 * CHUNK));
        block_on(pool.create_snapshot(&disk, VOLUME, snapshot_id(1))).unwrap();
        block_on(put(&disk, &volume, 0, CHUNK, 9));
        block_on(volume.flush(&disk)).unwrap();
        disk.hold(Operation::Punch, SECOND, 1);
        let mut discard = Box::pin(volume.discard(&disk, 0, CHUNK));
        assert!(push(&mut discard).is_none());
        block_on(volume.flush(&disk)).unwrap();
        disk.crash();
        assert!(push(&mut discard).unwrap().is_err());
        drop(discard);
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        let before = block_on(get(&disk, &volume, 0, CHUNK_BYTES));
        block_on(put(&disk, &volume, 512, 512, 3));
        let after = block_on(get(&disk, &volume, 0, CHUNK_BYTES));
        assert!(after[..512] == before[..512] && after[1024..] == before[1024..], "seed {seed}");
    }
}

/// Who gave up waiting for a flush has not made anything durable.
#[test]
fn a_flush_that_was_dropped_is_not_taken_for_one_that_was_done() {
    let disk = Disk::new(11);
    let (pool, volume) = block_on(pool_with_volume(&disk, CHUNK));
    for seed in 1..20 {
        block_on(put(&disk, &volume, 0, 512, seed));
        disk.hold(Operation::Sync, FIRST, 1);
        let mut flush = Box::pin(volume.flush(&disk));
        assert!(push(&mut flush).is_none());
        drop(flush);
        let start = disk.steps();
        block_on(volume.flush(&disk)).unwrap();
        assert!(disk.steps() > start, "nothing was synced");
        disk.lift();
    }
    drop((pool, volume));
    let (_pool, volume) = after_power_loss(&disk);
    assert_eq!(block_on(get(&disk, &volume, 0, 512)), [19; 512]);
}

/// What is written beyond the old end lies in the volume whatever crashes; so the new end is not
/// shown before it is durable.
#[test]
fn a_durable_write_beyond_the_old_end_is_there_after_a_crash() {
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let (pool, volume) = block_on(pool_with_volume(&disk, CHUNK));
        disk.hold(Operation::Sync, ".rec", 2);
        let mut grow = Box::pin(volume.grow(&disk, 2 * CHUNK));
        assert!(push(&mut grow).is_none());
        let written = block_on(volume.write(&disk, CHUNK, bytes(5, 512), true));
        drop(grow);
        drop((pool, volume));
        let (_pool, volume) = after_power_loss(&disk);
        if written.is_ok() {
            assert_eq!(volume.size(), 2 * CHUNK, "seed {seed}: the write's place is gone");
            assert_eq!(block_on(get(&disk, &volume, CHUNK, 512)), [5; 512]);
        }
    }
}

/// While a head is merged, its parent takes writes too; so it grows with it.
#[test]
fn a_volume_that_grows_during_a_merge_can_be_written_to_its_new_end() {
    let disk = Disk::new(12);
    // Past the first page of a map, which describes 1008 MiB.
    let (old, new) = (1000 << 20, 1100 << 20);
    let (pool, volume) = block_on(pool_with_volume(&disk, old));
    block_on(async {
        pool.create_snapshot(&disk, VOLUME, snapshot_id(1)).await.unwrap();
        pool.create_snapshot(&disk, VOLUME, snapshot_id(2)).await.unwrap();
        // More than one step of a merge.
        put(&disk, &volume, 0, 40 * CHUNK, 2).await;
        pool.delete_snapshot(&disk, VOLUME, snapshot_id(2)).await.unwrap();
        assert!(!pool.merge_step(&disk).await.unwrap().unwrap().finished);
        volume.grow(&disk, new).await.unwrap();
        put(&disk, &volume, new - CHUNK, CHUNK, 3).await;
        while pool.merge_step(&disk).await.unwrap().is_some() {}
        assert_eq!(get(&disk, &volume, new - CHUNK, 512).await, [3; 512]);
        assert_eq!(get(&disk, &volume, 39 * CHUNK, 512).await, [2; 512]);
    });
}

/// A write over two chunks that a revert overtakes is before it or after it, with both.
#[test]
fn a_write_and_a_revert_do_not_mix() {
    let disk = Disk::new(13);
    let (pool, volume) = block_on(pool_with_volume(&disk, 4 * CHUNK));
    block_on(put(&disk, &volume, 0, 4 * CHUNK, 1));
    block_on(pool.create_snapshot(&disk, VOLUME, snapshot_id(1))).unwrap();
    // The head has the first chunk; the second one needs a copy-up.
    block_on(put(&disk, &volume, 0, CHUNK, 2));
    disk.hold(Operation::Write, SECOND, 1);
    let mut write = Box::pin(volume.write(&disk, CHUNK - 512, bytes(7, 1024), false));
    assert!(push(&mut write).is_none());
    let mut revert = Box::pin(pool.revert(&disk, VOLUME, snapshot_id(1)));
    let overtook = push(&mut revert);
    disk.lift();
    block_on(async {
        let reverted = async {
            match overtook {
                Some(done) => done,
                None => revert.await,
            }
        };
        let (written, reverted) = futures::future::join(write, reverted).await;
        written.unwrap();
        reverted.unwrap();
    });
    let found = block_on(get(&disk, &volume, CHUNK - 512, 1024));
    assert!(found == [1; 1024] || found == [7; 1024], "{} and {}", found[0], found[512]);
}
