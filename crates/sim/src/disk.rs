//! A disk that can lose power: block I/O and file names in memory, seeded.
//!
//! Operations take a random number of polls, and so end in random order. Nothing is durable until
//! it is synced; [`Disk::recover`] decides, per 512-byte sector and per name, which of the
//! unsynced changes survived. The same seed and the same calls give the same world.
//!
//! Invariant: what was synced is never lost, and a sector holds one of the values that were
//! written to it.

mod content;
mod holds;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use env::{BlockIo, Buffer, Files, IoFile, IoFuture, OpenMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use content::{Content, SECTOR_BYTES};
use holds::Holds;
use names::Names;

/// What a fault hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Read,
    Write,
    /// The unsynced writes of the file are then in doubt for ever, as on Linux: a later sync that
    /// succeeds does not cover them.
    Sync,
    Punch,
    /// Creating, renaming, removing, changing the length, syncing a directory.
    Name,
}

/// Fail one operation.
#[derive(Clone, Debug)]
pub struct Fault {
    pub operation: Operation,
    /// The file's name ends like this; empty: any file.
    pub suffix: &'static str,
    /// So many matching operations succeed first.
    pub after: u32,
    /// What it fails with: 5 (EIO), 28 (ENOSPC), ...
    pub errno: i32,
}

/// A disk with its files. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    world: Arc<Mutex<World>>,
}

struct World {
    random: StdRng,
    /// Counts power losses; handles from before one are dead.
    life: u64,
    steps: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// Orders changes of content and names.
    stamp: u64,
    files: BTreeMap<i32, Content>,
    next_file: i32,
    names: Names,
    running: BTreeMap<u64, Running>,
    next_running: u64,
    locks: BTreeSet<(u64, PathBuf)>,
    faults: Vec<Fault>,
    holds: Holds,
    capacity: u64,
    polls_max: u32,
}

enum Kind {
    Read(Option<Buffer>),
    Write(Bytes),
    Sync { before: u64 },
    Punch { length: u64 },
}

/// An operation that was submitted and not answered.
struct Running {
    life: u64,
    file: i32,
    offset: u64,
    kind: Kind,
    error: Option<i32>,
}

fn power_is_gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl World {
    /// One more thing happens, unless the power is gone.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if self.crash_at.is_some_and(|at| self.steps > at) {
            self.lose_power();
        }
        if self.crashed { Err(power_is_gone()) } else { Ok(()) }
    }

    fn lose_power(&mut self) {
        self.crashed = true;
        // What is held fails now; those without a waiter stay among the running ones.
        self.holds.lift();
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// The error that is to hit this operation, if any.
    fn fault(&mut self, operation: Operation, path: &Path) -> Option<i32> {
        let name = path.to_string_lossy();
        let hit = |fault: &Fault| fault.operation == operation && name.ends_with(fault.suffix);
        let at = self.faults.iter().position(hit)?;
        if self.faults[at].after > 0 {
            self.faults[at].after -= 1;
            return None;
        }
        Some(self.faults.remove(at).errno)
    }

    fn name_step(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.fault(Operation::Name, path).map_or(Ok(()), |errno| Err(from_errno(errno)))
    }

    fn content(&mut self, file: &IoFile) -> io::Result<&mut Content> {
        let life = file.owner().downcast_ref::<u64>();
        if life != Some(&self.life) {
            return Err(power_is_gone());
        }
        self.files.get_mut(&file.handle()).ok_or_else(|| from_errno(9))
    }

    fn used(&self) -> u64 {
        self.files.values().map(Content::allocated).sum()
    }

    fn submit(&mut self, file: &IoFile, offset: u64, kind: Kind) -> io::Result<u64> {
        self.step()?;
        let path = self.content(file)?.path.clone();
        let operation = match kind {
            Kind::Read(_) => Operation::Read,
            Kind::Write(_) => Operation::Write,
            Kind::Sync { .. } => Operation::Sync,
            Kind::Punch { .. } => Operation::Punch,
        };
        let error = self.fault(operation, &path);
        let running = Running { life: self.life, file: file.handle(), offset, kind, error };
        self.next_running += 1;
        self.holds.submitted(self.next_running, operation, &path);
        self.running.insert(self.next_running, running);
        Ok(self.next_running)
    }

    /// The operation takes effect and is answered; a read gives its buffer back.
    fn finish(&mut self, number: u64) -> io::Result<Option<Buffer>> {
        // After a power loss it stays among the running ones, whose effect is open.
        self.step()?;
        let Some(mut running) = self.running.remove(&number) else { return Err(power_is_gone()) };
        if running.life != self.life {
            return Err(power_is_gone());
        }
        let stamp = self.next_stamp();
        let full = matches!(running.kind, Kind::Write(_)) && self.used() > self.capacity;
        let Some(content) = self.files.get_mut(&running.file) else { return Err(from_errno(9)) };
        let error = running.error.or(full.then_some(28));
        match (&mut running.kind, error) {
            (Kind::Sync { before }, Some(errno)) => {
                content.doubt(*before);
                Err(from_errno(errno))
            }
            (_, Some(errno)) => Err(from_errno(errno)),
            (Kind::Read(buffer), None) => {
                let mut buffer = buffer.take().expect("a read is finished once");
                content.read(running.offset, &mut buffer);
                Ok(Some(buffer))
            }
            (Kind::Write(data), None) => {
                content.write(stamp, running.offset, data);
                Ok(None)
            }
            (Kind::Sync { before }, None) => {
                content.settle(*before);
                Ok(None)
            }
            (Kind::Punch { length }, None) => {
                content.punch(stamp, running.offset, *length);
                Ok(None)
            }
        }
    }

    /// The power comes back: unsynced changes survive or not.
    fn recover(&mut self) {
        let (running, life) = (std::mem::take(&mut self.running), self.life);
        for running in running.into_values().filter(|running| running.life == life) {
            let stamp = self.next_stamp();
            let Some(content) = self.files.get_mut(&running.file) else { continue };
            match running.kind {
                Kind::Write(data) => content.write(stamp, running.offset, &data),
                Kind::Punch { length } => content.punch(stamp, running.offset, length),
                Kind::Read(_) | Kind::Sync { .. } => {}
            }
        }
        // Losing all, keeping all and losing some at random find different mistakes.
        let kept = [0.0, 0.5, 0.5, 0.9, 1.0][self.random.random_range(0..5)];
        for content in self.files.values_mut() {
            content.crash(&mut self.random, kept);
        }
        let kept = [0.0, 0.5, 0.5, 0.9, 1.0][self.random.random_range(0..5)];
        self.names.crash(|random| random.random_bool(kept), &mut self.random);
        let linked: BTreeSet<i32> = self.names.linked().collect();
        self.files.retain(|file, _| linked.contains(file));
        self.life += 1;
        self.crashed = false;
        self.crash_at = None;
        self.faults.clear();
        self.holds = Holds::default();
    }
}

fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// A submitted operation; answered after some polls.
struct Operating {
    disk: Disk,
    number: u64,
    polls_left: u32,
    answered: bool,
}

impl Future for Operating {
    type Output = io::Result<Option<Buffer>>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut world = self.disk.world();
        if world.holds.wait(self.number, Some(context.waker())) {
            return Poll::Pending;
        }
        let answer = world.finish(self.number);
        drop(world);
        self.answered = true;
        Poll::Ready(answer)
    }
}

impl Drop for Operating {
    fn drop(&mut self) {
        if !self.answered {
            // Dropping does not recall an operation. Nobody hears its answer.
            let mut world = self.disk.world();
            if !world.holds.wait(self.number, None) {
                let _ = world.finish(self.number);
            }
        }
    }
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            random: StdRng::seed_from_u64(seed),
            life: 0,
            steps: 0,
            crash_at: None,
            crashed: false,
            stamp: 0,
            files: BTreeMap::new(),
            next_file: 3,
            names: Names::default(),
            running: BTreeMap::new(),
            next_running: 0,
            locks: BTreeSet::new(),
            faults: Vec::new(),
            holds: Holds::default(),
            capacity: u64::MAX >> 1,
            polls_max: 6,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many things have happened: submissions, answers, changes of names.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world().steps
    }
    /// Lose power after this many steps from the start.
    pub fn crash_at(&self, step: u64) {
        self.world().crash_at = Some(step);
    }
    /// Lose power now.
    pub fn crash(&self) {
        self.world().lose_power();
    }
    /// Is the power gone? Then every operation fails and changes nothing.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.world().crashed
    }
    /// Power comes back. Open files are gone, unsynced changes are lost or kept at random.
    pub fn recover(&self) {
        self.world().recover();
    }
    /// The process dies and the machine lives: all that was answered is kept, of what was submitted
    /// some takes effect all the same, handles die.
    pub fn restart_process(&self) {
        let mut world = self.world();
        world.holds = Holds::default();
        let running: Vec<u64> = world.running.keys().copied().collect();
        for number in running {
            if world.random.random_bool(0.5) {
                // Nobody hears its answer.
                let _ = world.finish(number);
            }
        }
        world.running.clear();
        world.life += 1;
        world.crashed = false;
        world.crash_at = None;
    }
    /// Hold the next `count` operations of this kind on files whose name ends with `suffix`: they
    /// are submitted, and have no effect until [`Self::lift`].
    pub fn hold(&self, operation: Operation, suffix: &str, count: usize) {
        self.world().holds.add(operation, suffix, count);
    }
    /// How many operations are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.world().holds.count()
    }
    /// Hold nothing any more.
    pub fn lift(&self) {
        let mut world = self.world();
        for orphan in world.holds.lift() {
            // Nobody hears its answer.
            let _ = world.finish(orphan);
        }
    }
    pub fn inject(&self, fault: Fault) {
        self.world().faults.push(fault);
    }
    /// Bytes that all files together may take before writes fail with ENOSPC.
    pub fn limit(&self, capacity_bytes: u64) {
        self.world().capacity = capacity_bytes;
    }
    /// Operations take up to so many polls.
    pub fn slow_down(&self, polls_max: u32) {
        self.world().polls_max = polls_max;
    }
    /// Overwrite bytes of a file behind everybody's back, durably: rot.
    pub fn rot(&self, path: &Path, offset: u64, data: &[u8]) -> bool {
        let mut world = self.world();
        let stamp = world.next_stamp();
        let Some(file) = world.names.find(path) else { return false };
        let Some(content) = world.files.get_mut(&file) else { return false };
        content.write(stamp, offset, &Bytes::copy_from_slice(data));
        content.settle(u64::MAX);
        true
    }

    fn start(
        &self,
        file: &IoFile,
        offset: u64,
        kind: impl FnOnce(&World) -> Kind,
    ) -> IoFuture<Option<Buffer>> {
        let mut world = self.world();
        let kind = kind(&world);
        let submitted = world.submit(file, offset, kind);
        let polls_max = world.polls_max;
        let polls_left = world.random.random_range(0..=polls_max);
        drop(world);
        match submitted {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(number) => {
                Box::pin(Operating { disk: self.clone(), number, polls_left, answered: false })
            }
        }
    }
}

impl BlockIo for Disk {
    fn read(&self, file: &IoFile, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        let running = self.start(file, offset, |_| Kind::Read(Some(buffer)));
        Box::pin(async move { Ok(running.await?.expect("a read gives its buffer back")) })
    }
    fn write(&self, file: &IoFile, offset: u64, parts: Vec<Bytes>) -> IoFuture<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES), "writes begin on a sector");
        let data = match &parts[..] {
            [part] => part.clone(),
            parts => Bytes::from(parts.concat()),
        };
        let running = self.start(file, offset, |_| Kind::Write(data));
        Box::pin(async move { running.await.map(drop) })
    }
    fn sync(&self, file: &IoFile) -> IoFuture<()> {
        let running = self.start(file, 0, |world| Kind::Sync { before: world.stamp + 1 });
        Box::pin(async move { running.await.map(drop) })
    }
    fn punch(&self, file: &IoFile, offset: u64, length: u64) -> IoFuture<()> {
        let running = self.start(file, offset, |_| Kind::Punch { length });
        Box::pin(async move { running.await.map(drop) })
    }
}

impl Files for Disk {
    fn open(&self, path: &Path, mode: OpenMode, _direct: bool) -> io::Result<IoFile> {
        let mut world = self.world();
        let found = world.names.find(path);
        let file = if mode == OpenMode::CreateNew {
            world.name_step(path)?;
            if found.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = world.next_file;
            world.next_file += 1;
            world.names.link(path, file)?;
            world.files.insert(file, Content::new(path));
            file
        } else {
            world.step()?;
            found.ok_or(io::ErrorKind::NotFound)?
        };
        Ok(IoFile::new(file, false, Arc::new(world.life)))
    }
    fn length(&self, file: &IoFile) -> io::Result<u64> {
        Ok(self.world().content(file)?.length())
    }
    fn set_length(&self, file: &IoFile, length: u64) -> io::Result<()> {
        let mut world = self.world();
        let path = world.content(file)?.path.clone();
        world.name_step(&path)?;
        let stamp = world.next_stamp();
        world.content(file)?.set_length(stamp, length);
        Ok(())
    }
    fn allocated(&self, file: &IoFile) -> io::Result<u64> {
        Ok(self.world().content(file)?.allocated())
    }
    fn next_data(&self, file: &IoFile, offset: u64) -> io::Result<Option<(u64, u64)>> {
        Ok(self.world().content(file)?.next_data(offset))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.name_step(path)?;
        world.names.create_dir(path);
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut world = self.world();
        world.step()?;
        world.names.list(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.world().names.find(path).is_some()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.name_step(to)?;
        let file = world.names.rename(from, to)?;
        if let Some(content) = world.files.get_mut(&file) {
            to.clone_into(&mut content.path);
        }
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.name_step(path)?;
        world.names.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.name_step(path)?;
        world.names.settle(path);
        Ok(())
    }
    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        let world = self.world();
        Ok((world.capacity, world.capacity.saturating_sub(world.used())))
    }
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut world = self.world();
        let key = (world.life, path.to_owned());
        if !world.locks.insert(key.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(DirLock { disk: self.clone(), key }))
    }
}

/// Frees the directory on drop. A dead process' locks are of an earlier life and hinder nobody.
struct DirLock {
    disk: Disk,
    key: (u64, PathBuf),
}

impl Drop for DirLock {
    fn drop(&mut self) {
        self.disk.world().locks.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    async fn disk_with_file(seed: u64) -> (Disk, IoFile) {
        let disk = Disk::new(seed);
        disk.create_dir(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/f"), OpenMode::CreateNew, false).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.write(&file, 0, vec![Bytes::from(vec![1; 2048])]).await.unwrap();
        disk.sync(&file).await.unwrap();
        (disk, file)
    }

    async fn reread(disk: &Disk) -> Vec<u8> {
        disk.recover();
        let file = disk.open(Path::new("/d/f"), OpenMode::Read, false).unwrap();
        disk.read(&file, 0, Buffer::new(2048)).await.unwrap().to_vec()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_tears_the_rest_by_sector() {
        let mut torn = 0;
        for seed in 0..50 {
            let found = block_on(async {
                let (disk, file) = disk_with_file(seed).await;
                disk.write(&file, 0, vec![Bytes::from(vec![2; 2048])]).await.unwrap();
                disk.crash();
                assert!(disk.sync(&file).await.is_err());
                reread(&disk).await
            });
            for sector in found.chunks(512) {
                assert!(sector == [1; 512] || sector == [2; 512]);
            }
            torn += i32::from(found.contains(&1) && found.contains(&2));
        }
        assert!(torn > 5);
    }

    #[test]
    fn a_sync_covers_what_was_answered_before_it_and_a_failed_one_nothing_ever() {
        let mut lost = 0;
        for seed in 0..50 {
            block_on(async {
                let (disk, file) = disk_with_file(seed).await;
                disk.write(&file, 0, vec![Bytes::from(vec![2; 2048])]).await.unwrap();
                disk.sync(&file).await.unwrap();
                assert_eq!(reread(&disk).await, [2; 2048]);
                let file = disk.open(Path::new("/d/f"), OpenMode::ReadWrite, false).unwrap();
                disk.write(&file, 0, vec![Bytes::from(vec![3; 2048])]).await.unwrap();
                disk.inject(Fault { operation: Operation::Sync, suffix: "f", after: 0, errno: 5 });
                assert!(disk.sync(&file).await.is_err());
                disk.sync(&file).await.unwrap();
                lost += i32::from(reread(&disk).await.contains(&2));
            });
        }
        assert!(lost > 5);
    }

    #[test]
    fn names_are_durable_after_their_directory_is_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let (disk, _) = block_on(disk_with_file(seed));
            let (f, g) = (Path::new("/d/f"), Path::new("/d/g"));
            disk.rename(f, g).unwrap();
            assert!(disk.exists(g) && !disk.exists(f));
            disk.recover();
            assert!(disk.exists(g) != disk.exists(f));
            lost += i32::from(disk.exists(f));
        }
        assert!((1..50).contains(&lost));
        let (disk, _) = block_on(disk_with_file(1));
        disk.remove(Path::new("/d/f")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.recover();
        assert!(!disk.exists(Path::new("/d/f")));
    }
}
