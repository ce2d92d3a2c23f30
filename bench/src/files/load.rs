//! Load from our own NFSv4.1 client: one thread and one connection for each client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use host::files::{Compound, FileClient, Identity, OpenFile, Opening, Stable, StateidOf, Who};

use super::pattern::{Data, Names, Step};
use crate::load::Moved;
use crate::statistics::Dice;

/// Bytes of the file that data are read from and written to.
pub(crate) const FILE_BYTES: u64 = 256 << 20;
const FILL_DEPTH: u32 = 32;
const SMALL_BYTES: usize = 4096;
/// Small files that each client reads and asks about.
const SMALL_FILES: u64 = 200;
/// Small files that one round removes, of all clients together; the round ends with the last.
const REMOVED: u64 = 2000;
/// Most files that one round makes for each client: so many can be removed again soon.
const MADE_MAX: u64 = 20_000;

/// Where a tree is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) portal: SocketAddr,
    /// From the root of what the server exports.
    pub(crate) path: String,
}

/// Each connection is a client of its own to the server.
fn connect(place: &Place, slots: u32) -> Result<FileClient> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("load-{}-{next}", std::process::id());
    let mut client =
        FileClient::connect(place.portal, &Identity::named(&name), &Who::default(), slots)?;
    client.reclaimed()?;
    Ok(client)
}

/// Makes the file that data are read from, whole, by writes of the size that most of the load has:
/// the file system remembers how large they were, and a file from large ones would make each small
/// write dear in the kernel, whoever serves it.
pub(crate) fn prepare(place: &Place) -> Result<()> {
    let mut client = connect(place, FILL_DEPTH)?;
    let root = client.mount(&place.path).context("the tree is not there")?;
    let file = client.open(&root, "data", Opening::OrCreate(0o644))?;
    let mut dice = Dice(0xF1_1E);
    let piece: Bytes =
        (0..SMALL_BYTES).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
    let mut offsets = (0..FILE_BYTES).step_by(SMALL_BYTES);
    let mut send = |client: &mut FileClient, slot| -> Result<bool> {
        let Some(offset) = offsets.next() else { return Ok(false) };
        let write = Compound::new().file(&file.handle);
        client.send(slot, write.write(&file.stateid, offset, Stable::Unstable, &piece))?;
        Ok(true)
    };
    let mut under_way = 0;
    for slot in 0..client.slots() {
        under_way += usize::from(send(&mut client, slot)?);
    }
    while under_way > 0 {
        let (slot, mut results) = client.receive()?;
        results.moved(1)?.written()?;
        under_way -= usize::from(!send(&mut client, slot)?);
    }
    let commit = Compound::new().file(&file.handle).commit(0, 0);
    client.call(commit)?.moved(1)?.committed()?;
    client.close(&file)?;
    Ok(client.leave()?)
}

/// So many requests under way on each connection, until the time is over.
pub(crate) fn data(place: &Place, data: Data, seconds: f64) -> Result<Moved> {
    let streams = (0..data.connections).map(|number| {
        let place = place.clone();
        std::thread::spawn(move || stream(&place, data, u64::from(number), seconds))
    });
    let (mut all, mut took) = (Vec::new(), 0.0_f64);
    for stream in streams.collect::<Vec<_>>() {
        let found = stream.join().map_err(|_| anyhow!("a client of the load broke down"))?;
        let (latencies_us, seconds) = found?;
        all.extend(latencies_us);
        took = took.max(seconds);
    }
    Ok(moved(all, took))
}

/// One connection's part: the latencies, and how long it took.
fn stream(place: &Place, data: Data, number: u64, seconds: f64) -> Result<(Vec<f64>, f64)> {
    let mut client = connect(place, data.depth)?;
    let depth = client.slots();
    let root = client.mount(&place.path)?;
    let file = client.open(&root, "data", Opening::Existing)?;
    let mut load = DataLoad {
        data,
        file: file.clone(),
        piece: vec![0xA5; data.block_bytes as usize].into(),
        dice: Dice(7 + number),
        next: 0,
    };
    let (begin, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut since = vec![begin; depth];
    let mut latencies_us = Vec::new();
    for (slot, since) in since.iter_mut().enumerate() {
        *since = Instant::now();
        client.send(slot, load.request())?;
    }
    let mut under_way = depth;
    while under_way > 0 {
        let (slot, mut results) = client.receive()?;
        let results = results.moved(1)?;
        if data.writes {
            results.written()?;
        } else {
            results.read()?;
        }
        let now = Instant::now();
        latencies_us.push((now - since[slot]).as_secs_f64() * 1e6);
        if now - begin < limit {
            since[slot] = now;
            client.send(slot, load.request())?;
        } else {
            under_way -= 1;
        }
    }
    if data.writes && !data.stable && !data.random {
        // What was written counts once it lasts: the time of the COMMIT is part of large writes.
        let commit = Compound::new().file(&file.handle).commit(0, 0);
        client.call(commit)?.moved(1)?.committed()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    client.close(&file)?;
    client.leave()?;
    Ok((latencies_us, seconds))
}

struct DataLoad {
    data: Data,
    file: OpenFile,
    piece: Bytes,
    dice: Dice,
    next: u64,
}

impl DataLoad {
    fn request(&mut self) -> Compound {
        let block = u64::from(self.data.block_bytes);
        let blocks = FILE_BYTES / block;
        let at = if self.data.random {
            self.dice.below(usize::try_from(blocks).unwrap_or(1)) as u64
        } else {
            self.next = (self.next + 1) % blocks;
            self.next
        };
        let (start, offset) = (Compound::new().file(&self.file.handle), at * block);
        let stable = if self.data.stable { Stable::File } else { Stable::Unstable };
        if self.data.writes {
            start.write(&self.file.stateid, offset, stable, &self.piece)
        } else {
            start.read(&self.file.stateid, offset, self.data.block_bytes)
        }
    }
}

fn moved(mut latencies_us: Vec<f64>, seconds: f64) -> Moved {
    latencies_us.sort_by(f64::total_cmp);
    let at = |share: usize| latencies_us.get(latencies_us.len() * share / 1000).copied();
    Moved { ios: latencies_us.len() as f64, seconds, p50_us: at(500), p99_us: at(990) }
}

/// A client with a directory of its own.
struct Worker {
    client: FileClient,
    root: Bytes,
    directory: Bytes,
    name: String,
    dice: Dice,
    made: u64,
}

impl Worker {
    fn new(place: &Place, number: u32) -> Result<Self> {
        let mut client = connect(place, 1)?;
        let root = client.mount(&place.path)?;
        let name = format!("d{number}");
        let directory = client.create_directory(&root, &name)?;
        let dice = Dice(u64::from(number) + 1);
        Ok(Self { client, root, directory, name, dice, made: 0 })
    }
    fn create(&mut self) -> Result<()> {
        let name = format!("f{}", self.made);
        let file = self.client.open(&self.directory, &name, Opening::New(0o644))?;
        self.client.close(&file)?;
        self.made += 1;
        Ok(())
    }
    /// Files with something in them.
    fn fill(&mut self, count: u64) -> Result<()> {
        let data = Bytes::from(vec![0x5A; SMALL_BYTES]);
        while self.made < count {
            let name = format!("f{}", self.made);
            let file = self.client.open(&self.directory, &name, Opening::New(0o644))?;
            self.client.write_at(&file, 0, Stable::Unstable, &data)?;
            self.client.close(&file)?;
            self.made += 1;
        }
        Ok(())
    }
    fn any(&mut self) -> String {
        let count = usize::try_from(self.made).unwrap_or(1);
        format!("f{}", self.dice.below(count.max(1)))
    }
    fn stat(&mut self) -> Result<()> {
        let name = self.any();
        // Type, change, size, file id, mode, links, owner, group, used, three times.
        let numbers = [1, 3, 4, 20, 33, 35, 36, 37, 45, 47, 52, 53];
        let asks = Compound::new().file(&self.directory).lookup(name.as_bytes());
        self.client.call(asks.attributes(&numbers))?.moved(2)?.attributes()?;
        Ok(())
    }
    fn read(&mut self) -> Result<()> {
        let name = self.any();
        let file = self.client.open(&self.directory, &name, Opening::Existing)?;
        let all = u32::try_from(SMALL_BYTES)?;
        let asks =
            Compound::new().file(&file.handle).read(&file.stateid, 0, all).close(&file.stateid);
        let mut results = self.client.call(asks)?;
        let (_, data) = results.moved(1)?.read()?;
        results.stateid(StateidOf::Close)?;
        (data.len() == SMALL_BYTES).then_some(()).context("a small file is not whole")
    }
    fn unlink(&mut self) -> Result<()> {
        self.made -= 1;
        Ok(self.client.remove(&self.directory, &format!("f{}", self.made))?)
    }
    /// Leaves nothing behind.
    fn finish(mut self) -> Result<()> {
        while self.made > 0 {
            self.unlink()?;
        }
        self.client.remove(&self.root, &self.name)?;
        Ok(self.client.leave()?)
    }
    /// The measured part: the latency of each.
    fn run(&mut self, step: Step, limit: Duration) -> Result<Vec<f64>> {
        let (begin, mut latencies_us) = (Instant::now(), Vec::new());
        let mut last = begin;
        while last - begin < limit {
            match step {
                Step::Create if self.made >= MADE_MAX => break,
                Step::Unlink if self.made == 0 => break,
                Step::Create => self.create()?,
                Step::Stat => self.stat()?,
                Step::Read => self.read()?,
                Step::Unlink => self.unlink()?,
            }
            let now = Instant::now();
            latencies_us.push((now - last).as_secs_f64() * 1e6);
            last = now;
        }
        Ok(latencies_us)
    }
}

/// All clients at once; `measured` wraps the part that counts, to take the server's CPU time
/// before and after.
pub(crate) fn names(
    place: &Place,
    names: Names,
    seconds: f64,
    cpu: impl Fn() -> Result<f64>,
) -> Result<(Moved, f64)> {
    let clients = names.clients as usize;
    let (ready, over) = (Arc::new(Barrier::new(clients + 1)), Arc::new(Barrier::new(clients + 1)));
    let mut workers = Vec::new();
    for number in 0..names.clients {
        let mut worker = Worker::new(place, number)?;
        worker.fill(match names.step {
            Step::Create => 0,
            Step::Stat | Step::Read => SMALL_FILES,
            Step::Unlink => REMOVED / u64::from(names.clients),
        })?;
        let (ready, over) = (Arc::clone(&ready), Arc::clone(&over));
        workers.push(std::thread::spawn(move || {
            ready.wait();
            let found = worker.run(names.step, Duration::from_secs_f64(seconds));
            over.wait();
            found.and_then(|latencies| worker.finish().map(|()| latencies))
        }));
    }
    let before = cpu()?;
    let begin = Instant::now();
    ready.wait();
    over.wait();
    let took = begin.elapsed().as_secs_f64();
    let spent_us = cpu()? - before;
    let mut all = Vec::new();
    for worker in workers {
        let found = worker.join().map_err(|_| anyhow!("a client of the load broke down"))?;
        all.extend(found?);
    }
    Ok((moved(all, took), spent_us))
}
