//! A random history on one pool, with the model beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use env::Files;
use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::{IoMode, Source};
use model::size::ByteSize;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::disk::{Disk, Fault, Operation};
use store::{Pool, StoreError};
use uuid::Uuid;

use crate::model::{BLOCK, Image, Presence, Snapshot, Tag, Volume, fill, saw_image, tags};

const CHUNK_BLOCKS: u64 = 128;
const DIR: &str = "/pool";
const POOL: PoolId = PoolId(Uuid::from_u128(99));

/// One run: the disk, the pool while it is open, the model.
pub(crate) struct History {
    pub(crate) disk: Disk,
    random: StdRng,
    pool: Option<Arc<Pool>>,
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    next_id: u128,
    next_tag: Tag,
    /// Operations may fail without a crash.
    faulty: bool,
}

/// What one of several concurrent calls does.
enum Part {
    Write { first: u64, blocks: u64, tag: Tag, durable: bool },
    Discard { first: u64, blocks: u64 },
    Flush,
    Merge,
    Snapshot(SnapshotId),
    Read { first: u64, blocks: u64 },
}

impl History {
    pub(crate) fn new(seed: u64, faulty: bool) -> Self {
        Self {
            disk: Disk::new(seed ^ 0x5eed),
            random: StdRng::seed_from_u64(seed),
            pool: None,
            volumes: BTreeMap::new(),
            next_id: 1,
            next_tag: 1,
            faulty,
        }
    }

    fn new_id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }
    fn new_tag(&mut self) -> Tag {
        self.next_tag += 1;
        self.next_tag
    }
    fn pool(&self) -> Arc<Pool> {
        self.pool.clone().expect("the pool is open")
    }

    /// Open the pool. `Err` only when the power goes while it opens.
    pub(crate) async fn open(&mut self) -> Result<(), StoreError> {
        self.pool = None;
        let names: Arc<dyn Files> = Arc::new(self.disk.clone());
        let opened =
            Pool::open(names, &self.disk, Path::new(DIR), POOL, IoMode::Cached, None).await;
        match opened {
            Ok(pool) => self.pool = Some(pool),
            Err(error) if self.disk.crashed() => return Err(error),
            Err(error) => panic!("the pool must open: {error}"),
        }
        Ok(())
    }

    /// Did this work? A failure without a power loss must have been injected.
    fn judge<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.disk.crashed() || self.faulty => None,
            Err(error) => panic!("nothing was injected, and yet: {error}"),
        }
    }

    fn pick_volume(&mut self) -> Option<VolumeId> {
        let usable = |volume: &Volume| !volume.uncertain && volume.presence == Presence::Yes;
        let usable: Vec<VolumeId> =
            self.volumes.iter().filter(|(_, v)| usable(v)).map(|(id, _)| *id).collect();
        (!usable.is_empty()).then(|| usable[self.random.random_range(0..usable.len())])
    }

    fn pick_snapshot(&mut self, volume: VolumeId) -> Option<SnapshotId> {
        let snapshots: Vec<SnapshotId> = self.volumes[&volume]
            .snapshots
            .iter()
            .filter(|(_, snapshot)| snapshot.presence == Presence::Yes)
            .map(|(id, _)| *id)
            .collect();
        (!snapshots.is_empty()).then(|| snapshots[self.random.random_range(0..snapshots.len())])
    }

    fn pick_range(&mut self, volume: VolumeId) -> (u64, u64) {
        let size = self.volumes[&volume].blocks();
        let first = match self.random.random_range(0..3) {
            0 => self.random.random_range(0..size.div_ceil(CHUNK_BLOCKS)) * CHUNK_BLOCKS,
            _ => self.random.random_range(0..size),
        };
        let most = size - first;
        let blocks = match self.random.random_range(0..4) {
            0 => 1,
            1 => CHUNK_BLOCKS.min(most),
            2 => self.random.random_range(1..=most.min(20)),
            _ => self.random.random_range(1..=most),
        };
        (first, blocks)
    }

    /// One random operation, judged. Returns early when the power goes.
    pub(crate) async fn step(&mut self) {
        if self.faulty && self.random.random_bool(0.3) {
            self.inject();
        }
        let Some(volume) = self.pick_volume() else {
            return self.create(None).await;
        };
        match self.random.random_range(0..100) {
            0..24 => self.write(volume).await,
            24..29 => self.flush(volume).await,
            29..37 => self.discard(volume).await,
            37..41 => self.update(volume).await,
            41..50 => self.snapshot(volume).await,
            50..59 => self.delete_snapshot(volume).await,
            59..71 => self.merge().await,
            71..74 => self.revert(volume).await,
            74..77 => self.create(Some(volume)).await,
            77..78 => self.create(None).await,
            78..80 => self.grow(volume).await,
            80..83 => self.reserve(volume).await,
            83..84 => self.delete(volume).await,
            _ => self.together(volume).await,
        }
        if !self.disk.crashed() {
            self.look(volume).await;
        }
    }

    fn inject(&mut self) {
        let operations =
            [Operation::Read, Operation::Write, Operation::Sync, Operation::Punch, Operation::Name];
        let operation = operations[self.random.random_range(0..operations.len())];
        let suffix = ["", ".data", ".map", ".rec"][self.random.random_range(0..4)];
        let errno = [5, 28][self.random.random_range(0..2)];
        let after = self.random.random_range(0..8);
        self.disk.inject(Fault { operation, suffix, after, errno });
    }

    async fn opened(&self, volume: VolumeId) -> Option<Arc<store::Volume>> {
        self.judge(self.pool().volume(&self.disk, volume).await)
    }

    /// Read something and compare.
    async fn look(&mut self, id: VolumeId) {
        if !self.volumes.get(&id).is_some_and(|v| !v.uncertain && v.presence == Presence::Yes) {
            return;
        }
        let (first, blocks) = self.pick_range(id);
        if let Some(found) = self.read(id, first, blocks).await {
            self.volumes.get_mut(&id).unwrap().saw(id, first, &found);
        }
    }

    async fn read(&self, id: VolumeId, first: u64, blocks: u64) -> Option<Vec<Tag>> {
        let volume = self.opened(id).await?;
        let length = usize::try_from(blocks * BLOCK).unwrap();
        let bytes = self.judge(volume.read(&self.disk, first * BLOCK, length).await)?.concat();
        assert_eq!(bytes.len(), length);
        Some(tags(&bytes, first))
    }

    async fn write(&mut self, id: VolumeId) {
        let (first, blocks) = self.pick_range(id);
        let (tag, durable) = (self.new_tag(), self.random.random_bool(0.25));
        self.model(id).begin(first, blocks, tag);
        let Some(volume) = self.opened(id).await else { return };
        let parts = self.parts(tag, first, blocks);
        let written = volume.write(&self.disk, first * BLOCK, parts, durable).await;
        if self.judge(written).is_some() {
            self.model(id).end(first, blocks, tag);
            if durable {
                self.model(id).flushed();
            }
        }
    }

    /// The write's bytes, cut somewhere.
    fn parts(&mut self, tag: Tag, first: u64, blocks: u64) -> Vec<Bytes> {
        let mut rest = Bytes::from(fill(tag, first, blocks));
        let cut = self.random.random_range(0..=blocks);
        let head = rest.split_to(usize::try_from(cut * BLOCK).unwrap());
        vec![head, rest]
    }

    fn model(&mut self, id: VolumeId) -> &mut Volume {
        self.volumes.get_mut(&id).unwrap()
    }

    async fn flush(&mut self, id: VolumeId) {
        let Some(volume) = self.opened(id).await else { return };
        if self.judge(volume.flush(&self.disk).await).is_some() {
            self.model(id).flushed();
        }
    }

    async fn discard(&mut self, id: VolumeId) {
        let (first, blocks) = self.pick_range(id);
        self.model(id).begin(first, blocks, 0);
        let Some(volume) = self.opened(id).await else { return };
        let (offset, length) = (first * BLOCK, blocks * BLOCK);
        let done = match self.random.random_range(0..3) {
            0 => volume.discard(&self.disk, offset, length).await,
            1 => volume.write_zeros(&self.disk, offset, length, true).await,
            _ => volume.write_zeros(&self.disk, offset, length, false).await,
        };
        if self.judge(done).is_some() {
            self.model(id).end(first, blocks, 0);
        }
    }

    async fn update(&mut self, id: VolumeId) {
        let (first, blocks) = self.pick_range(id);
        let blocks = blocks.min(200);
        let (tag, durable) = (self.new_tag(), self.random.random_bool(0.5));
        let refuse = self.random.random_bool(0.2);
        let Some(volume) = self.opened(id).await else { return };
        if !refuse {
            self.model(id).begin(first, blocks, tag);
        }
        let mut seen = None;
        let length = usize::try_from(blocks * BLOCK).unwrap();
        let change = |found: &[u8]| {
            seen = Some(tags(found, first));
            if refuse { Err("no") } else { Ok(Some(Bytes::from(fill(tag, first, blocks)))) }
        };
        let done = volume.update(&self.disk, first * BLOCK, length, durable, change).await;
        let done = self.judge(done);
        if refuse {
            assert!(matches!(done, None | Some(Err("no"))));
            if let Some(seen) = seen {
                self.model(id).saw(id, first, &seen);
            }
        } else if done.is_some() {
            self.model(id).end(first, blocks, tag);
            if durable {
                self.model(id).flushed();
            }
        }
    }

    async fn snapshot(&mut self, id: VolumeId) {
        let snapshot = SnapshotId(self.new_id());
        let image = self.volumes[&id].image();
        let maybe = Snapshot { image, presence: Presence::Maybe };
        self.model(id).snapshots.insert(snapshot, maybe);
        let done = self.pool().create_snapshot(&self.disk, id, snapshot).await;
        if self.judge(done).is_some() {
            self.model(id).snapshots.get_mut(&snapshot).unwrap().presence = Presence::Yes;
            self.model(id).flushed();
        }
    }

    async fn delete_snapshot(&mut self, id: VolumeId) {
        let Some(snapshot) = self.pick_snapshot(id) else { return };
        self.model(id).snapshots.get_mut(&snapshot).unwrap().presence = Presence::Maybe;
        let done = self.pool().delete_snapshot(&self.disk, id, snapshot).await;
        if self.judge(done).is_some() {
            self.model(id).snapshots.remove(&snapshot);
        }
    }

    async fn merge(&mut self) {
        for _ in 0..self.random.random_range(1..4) {
            if self.judge(self.pool().merge_step(&self.disk).await).is_none_or(|p| p.is_none()) {
                return;
            }
        }
    }

    async fn revert(&mut self, id: VolumeId) {
        let Some(snapshot) = self.pick_snapshot(id) else { return };
        let image = self.volumes[&id].snapshots[&snapshot].image.clone();
        self.model(id).begin_revert(&image);
        let done = self.pool().revert(&self.disk, id, snapshot).await;
        match self.judge(done) {
            Some(()) => self.model(id).end_revert(&image),
            None => self.model(id).uncertain = true,
        }
    }

    /// A volume with a deleted snapshot, of which one layer waits to be merged.
    pub(crate) async fn prelude(&mut self) {
        self.create(None).await;
        for _ in 0..2 {
            let id = *self.volumes.keys().next().expect("just made");
            for _ in 0..3 {
                self.write(id).await;
            }
            self.snapshot(id).await;
        }
        let id = *self.volumes.keys().next().expect("just made");
        self.write(id).await;
        self.delete_snapshot(id).await;
    }

    pub(crate) async fn create(&mut self, from: Option<VolumeId>) {
        if self.volumes.len() >= 4 {
            return;
        }
        let id = VolumeId(self.new_id());
        let snapshot = match from {
            None => None,
            Some(parent) => self.pick_snapshot(parent).map(|snapshot| (parent, snapshot)),
        };
        let (source, image) = match snapshot {
            None => (Source::Blank, None),
            Some((volume, snapshot)) => {
                let image = self.volumes[&volume].snapshots[&snapshot].image.clone();
                (Source::Snapshot { volume, snapshot }, Some(image))
            }
        };
        let least = image.as_ref().map_or(200, |image: &Image| image.len() as u64);
        let blocks = least + [0, 5, 200][self.random.random_range(0..3)];
        let mut volume = Volume::new(blocks, image.as_ref());
        volume.presence = Presence::Maybe;
        self.volumes.insert(id, volume);
        let size = ByteSize(blocks * BLOCK);
        let done = self.pool().create_volume(&self.disk, id, size, &source).await;
        if self.judge(done).is_some() {
            self.model(id).presence = Presence::Yes;
        }
    }

    async fn grow(&mut self, id: VolumeId) {
        let blocks = self.volumes[&id].blocks() + self.random.random_range(1..150);
        let Some(volume) = self.opened(id).await else { return };
        let before = self.volumes[&id].blocks();
        self.model(id).grow(blocks);
        if self.judge(volume.grow(&self.disk, blocks * BLOCK).await).is_some() {
            self.model(id).sizes = vec![blocks];
        } else {
            self.model(id).sizes = vec![blocks, before];
            self.model(id).uncertain = true;
        }
    }

    async fn reserve(&mut self, id: VolumeId) {
        let length = [10, 3000, 9000][self.random.random_range(0..3)];
        let record = vec![self.random.random_range(1..=255); length];
        let Some(volume) = self.opened(id).await else { return };
        self.model(id).reservations.push(record.clone());
        if self.judge(volume.save_reservations(&self.disk, &record).await).is_some() {
            self.model(id).reservations = vec![record];
        }
    }

    async fn delete(&mut self, id: VolumeId) {
        self.model(id).presence = Presence::Maybe;
        let done = self.pool().delete_volume(&self.disk, id).await;
        if self.judge(done).is_some() {
            self.volumes.remove(&id);
        }
    }

    /// Several calls on one volume at the same time.
    async fn together(&mut self, id: VolumeId) {
        let Some(volume) = self.opened(id).await else { return };
        let mut parts = Vec::new();
        for _ in 0..self.random.random_range(2..7) {
            let (first, blocks) = self.pick_range(id);
            parts.push(match self.random.random_range(0..13) {
                0..5 => {
                    let (tag, durable) = (self.new_tag(), self.random.random_bool(0.2));
                    Part::Write { first, blocks, tag, durable }
                }
                5..7 => Part::Discard { first, blocks },
                7 => Part::Flush,
                8..10 => Part::Merge,
                10..12 => Part::Snapshot(SnapshotId(self.new_id())),
                _ => Part::Read { first, blocks },
            });
        }
        let before = self.volumes[&id].clone();
        for part in &parts {
            match part {
                Part::Write { first, blocks, tag, .. } => {
                    self.model(id).begin(*first, *blocks, *tag)
                }
                Part::Discard { first, blocks } => self.model(id).begin(*first, *blocks, 0),
                _ => {}
            }
        }
        // Each block ends as one of what ran; a write that was alone on a block is there.
        let image = self.volumes[&id].image();
        for part in &parts {
            if let Part::Snapshot(snapshot) = part {
                let maybe = Snapshot { image: image.clone(), presence: Presence::Maybe };
                self.model(id).snapshots.insert(*snapshot, maybe);
            }
        }
        let pool = self.pool();
        let calls = parts.iter().map(|part| call(&self.disk, &pool, &volume, part));
        let results = futures::future::join_all(calls).await;
        let results: Vec<Option<Option<Vec<u8>>>> =
            results.into_iter().map(|result| self.judge(result)).collect();
        self.settle(id, &before, &parts, &results);
    }

    fn settle(
        &mut self,
        id: VolumeId,
        before: &Volume,
        parts: &[Part],
        results: &[Option<Option<Vec<u8>>>],
    ) {
        let all_done = results.iter().all(Option::is_some);
        for (part, result) in parts.iter().zip(results) {
            let Some(result) = result else { continue };
            match part {
                Part::Read { first, .. } => {
                    let found = tags(result.as_ref().expect("a read gives bytes"), *first);
                    for (index, tag) in found.iter().enumerate() {
                        let cell =
                            &self.volumes[&id].cells[usize::try_from(*first).unwrap() + index];
                        assert!(cell.live.contains(tag), "{id:?}: a read among writes: {tag}");
                    }
                }
                Part::Snapshot(snapshot) => {
                    let model = self.model(id);
                    model.snapshots.get_mut(snapshot).unwrap().presence = Presence::Yes;
                    untouched_flushed(model, before);
                }
                Part::Flush => untouched_flushed(self.model(id), before),
                _ => {}
            }
        }
        // What was there before is gone from blocks where every write was answered.
        if all_done {
            let after = self.model(id);
            for (cell, old) in after.cells.iter_mut().zip(&before.cells) {
                if cell.live.len() > old.live.len() {
                    cell.live.drain(..old.live.len());
                }
            }
        }
    }

    /// The power comes back: open, and judge everything that is there.
    pub(crate) async fn recover(&mut self) {
        self.pool = None;
        self.disk.recover();
        self.faulty = false;
        self.open().await.expect("there is power");
        self.check_all().await;
    }

    async fn check_all(&mut self) {
        let infos: BTreeMap<VolumeId, store::VolumeInfo> =
            self.pool().volumes().into_iter().map(|info| (info.id, info)).collect();
        let unknown: Vec<_> = infos.keys().filter(|id| !self.volumes.contains_key(id)).collect();
        assert!(unknown.is_empty(), "deleted volumes are back: {unknown:?}");
        for id in self.volumes.keys().copied().collect::<Vec<_>>() {
            let Some(info) = infos.get(&id) else {
                assert_eq!(self.volumes[&id].presence, Presence::Maybe, "{id:?} is gone");
                self.volumes.remove(&id);
                continue;
            };
            self.check_volume(id, info).await;
        }
    }

    async fn check_volume(&mut self, id: VolumeId, info: &store::VolumeInfo) {
        let blocks = info.size.bytes() / BLOCK;
        let model = self.model(id);
        assert!(model.sizes.contains(&blocks), "{id:?}: {blocks} blocks, not {:?}", model.sizes);
        (model.sizes, model.presence, model.uncertain) = (vec![blocks], Presence::Yes, false);
        let durable: Image = model.cells.iter().map(|cell| cell.durable.clone()).collect();
        let found = self.read(id, 0, blocks).await.expect("there is power");
        self.model(id).survived(id, &found);
        let volume = self.opened(id).await.expect("there is power");
        let record = volume.load_reservations(&self.disk).await.expect("never lost");
        let record = record.unwrap_or_default();
        let model = self.model(id);
        assert!(model.reservations.contains(&record), "{id:?}: the wrong reservation record");
        model.reservations = vec![record];
        let there: Vec<SnapshotId> = info.snapshots.iter().map(|snapshot| snapshot.id).collect();
        for snapshot in self.volumes[&id].snapshots.keys().copied().collect::<Vec<_>>() {
            let presence = self.volumes[&id].snapshots[&snapshot].presence;
            if !there.contains(&snapshot) {
                assert_eq!(presence, Presence::Maybe, "{snapshot:?} of {id:?} is gone");
                self.model(id).snapshots.remove(&snapshot);
                continue;
            }
            if presence == Presence::Maybe {
                // Nobody was told that it was taken. So it may be of any time until the crash.
                let model = self.model(id).snapshots.get_mut(&snapshot).unwrap();
                for (tags, more) in model.image.iter_mut().zip(&durable) {
                    tags.extend(more);
                }
                model.presence = Presence::Yes;
            }
            self.check_snapshot(id, snapshot).await;
        }
        assert_eq!(there.len(), self.volumes[&id].snapshots.len(), "a deleted snapshot is back");
    }

    /// A snapshot is read through a clone.
    async fn check_snapshot(&mut self, volume: VolumeId, snapshot: SnapshotId) {
        let clone = VolumeId(self.new_id());
        let blocks = self.volumes[&volume].snapshots[&snapshot].image.len() as u64;
        let source = Source::Snapshot { volume, snapshot };
        let pool = self.pool();
        let size = ByteSize(blocks * BLOCK);
        self.judge(pool.create_volume(&self.disk, clone, size, &source).await);
        let found = self.read(clone, 0, blocks).await.expect("there is power");
        let model = self.model(volume).snapshots.get_mut(&snapshot).unwrap();
        saw_image(snapshot, &mut model.image, &found);
        self.judge(pool.delete_volume(&self.disk, clone).await);
    }

    /// Everything is deleted: nothing may be left over.
    pub(crate) async fn finish(&mut self) {
        self.check_live().await;
        while self.judge(self.pool().merge_step(&self.disk).await).flatten().is_some() {}
        self.check_live().await;
        for id in self.volumes.keys().copied().collect::<Vec<_>>() {
            self.judge(self.pool().delete_volume(&self.disk, id).await);
            self.volumes.remove(&id);
        }
        let left = self.disk.list(&Path::new(DIR).join("layers")).unwrap();
        assert!(left.is_empty(), "files are left over: {left:?}");
        assert_eq!(self.pool().usage().unwrap().used, ByteSize(0));
    }

    async fn check_live(&mut self) {
        for id in self.volumes.keys().copied().collect::<Vec<_>>() {
            let blocks = self.volumes[&id].blocks();
            let found = self.read(id, 0, blocks).await.expect("nothing fails here");
            self.model(id).saw(id, 0, &found);
            for snapshot in self.volumes[&id].snapshots.keys().copied().collect::<Vec<_>>() {
                self.check_snapshot(id, snapshot).await;
            }
        }
    }
}

/// A flush among other calls covers at least the blocks that none of them touched.
fn untouched_flushed(after: &mut Volume, before: &Volume) {
    for (cell, old) in after.cells.iter_mut().zip(&before.cells) {
        if cell.live.len() == old.live.len() {
            cell.durable = cell.live.clone();
        }
    }
}

async fn call(
    disk: &Disk,
    pool: &Pool,
    volume: &store::Volume,
    part: &Part,
) -> Result<Option<Vec<u8>>, StoreError> {
    match part {
        Part::Write { first, blocks, tag, durable } => {
            let parts = vec![Bytes::from(fill(*tag, *first, *blocks))];
            volume.write(disk, first * BLOCK, parts, *durable).await?;
        }
        Part::Discard { first, blocks } => {
            volume.discard(disk, first * BLOCK, blocks * BLOCK).await?;
        }
        Part::Flush => volume.flush(disk).await?,
        Part::Merge => {
            pool.merge_step(disk).await?;
        }
        Part::Snapshot(snapshot) => pool.create_snapshot(disk, volume.id(), *snapshot).await?,
        Part::Read { first, blocks } => {
            let length = usize::try_from(blocks * BLOCK).unwrap();
            return Ok(Some(volume.read(disk, first * BLOCK, length).await?.concat()));
        }
    }
    Ok(None)
}
