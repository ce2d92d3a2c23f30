//! The store on the machine's own files, cached and past the page cache.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use env::{BlockIo, IoEngine, RealFiles, block_io};
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use store::{Pool, StoreError};
use uuid::Uuid;

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(2));
const CLONE: VolumeId = VolumeId(Uuid::from_u128(3));
const SNAPSHOT: SnapshotId = SnapshotId(Uuid::from_u128(4));
const CHUNK: u64 = 64 << 10;

async fn open(io: &dyn BlockIo, dir: &Path, mode: IoMode) -> Result<Arc<Pool>, StoreError> {
    Pool::open(Arc::new(RealFiles), io, dir, POOL, mode, None).await
}

async fn content(io: &dyn BlockIo, pool: &Pool, volume: VolumeId) -> Vec<u8> {
    let volume = pool.volume(io, volume).await.unwrap();
    let length = usize::try_from(volume.size()).unwrap();
    volume.read(io, 0, length).await.unwrap().concat()
}

async fn walk(io: &dyn BlockIo, mode: IoMode) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pool");
    let size = 5 * CHUNK + 1536;
    let mut expected = vec![0; usize::try_from(size).unwrap()];
    {
        let pool = open(io, &dir, mode).await.unwrap();
        assert!(matches!(open(io, &dir, mode).await, Err(StoreError::Refused { .. })));
        pool.create_volume(io, VOLUME, ByteSize(size), &Source::Blank).await.unwrap();
        let volume = pool.volume(io, VOLUME).await.unwrap();
        volume.write(io, 512, vec![Bytes::from(vec![1; 100 << 10])], true).await.unwrap();
        expected[512..512 + (100 << 10)].fill(1);
        assert_eq!(volume.read(io, 0, 8192).await.unwrap().len(), 1, "one part when plain");
        pool.create_snapshot(io, VOLUME, SNAPSHOT).await.unwrap();
        volume.write(io, 1024, vec![Bytes::from(vec![2; 3 * 512])], false).await.unwrap();
        volume.discard(io, CHUNK, CHUNK).await.unwrap();
        volume.flush(io).await.unwrap();
    }
    let frozen = expected.clone();
    expected[1024..1024 + 3 * 512].fill(2);
    expected[65536..131_072].fill(0);
    let pool = open(io, &dir, mode).await.unwrap();
    assert_eq!(content(io, &pool, VOLUME).await, expected);
    let source = Source::Snapshot { volume: VOLUME, snapshot: SNAPSHOT };
    pool.create_volume(io, CLONE, ByteSize(size), &source).await.unwrap();
    assert_eq!(content(io, &pool, CLONE).await, frozen);
    pool.delete_volume(io, CLONE).await.unwrap();
    pool.delete_snapshot(io, VOLUME, SNAPSHOT).await.unwrap();
    while pool.merge_step(io).await.unwrap().is_some() {}
    assert_eq!(content(io, &pool, VOLUME).await, expected);
    // Merged into the base, which holds the first chunk only: the second was discarded.
    assert_eq!(pool.volumes()[0].allocated, ByteSize(CHUNK));
    let volume = pool.volume(io, VOLUME).await.unwrap();
    assert_eq!(volume.status(0, size), [(0, CHUNK, true), (CHUNK, size - CHUNK, false)]);
    volume.save_reservations(io, b"state").await.unwrap();
    drop((volume, pool));
    let pool = open(io, &dir, mode).await.unwrap();
    assert_eq!(content(io, &pool, VOLUME).await, expected);
    let volume = pool.volume(io, VOLUME).await.unwrap();
    assert_eq!(volume.load_reservations(io).await.unwrap().as_deref(), Some(&b"state"[..]));
    pool.delete_volume(io, VOLUME).await.unwrap();
    assert!(matches!(volume.flush(io).await, Err(StoreError::Missing { .. })));
    assert_eq!(std::fs::read_dir(dir.join("layers")).unwrap().count(), 0);
    assert_eq!(pool.usage().unwrap().used, ByteSize(0));
}

#[tokio::test(flavor = "current_thread")]
async fn volumes_keep_their_content_on_real_files() {
    for engine in [IoEngine::Threads, IoEngine::Auto] {
        for mode in [IoMode::Cached, IoMode::Direct] {
            walk(&*block_io(engine).unwrap(), mode).await;
        }
    }
}
