//! Reads and writes of one file by our own NFSv4.1 client: one thread and one connection for each
//! stream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use host::files::{Compound, FileClient, Identity, OpenFile, Opening, Stable, Who};

use super::pattern::Data;
use crate::load::Moved;
use crate::statistics::Dice;

/// Bytes of the file that data are read from and written to.
pub(crate) const FILE_BYTES: u64 = 256 << 20;
const FILL_DEPTH: u32 = 32;
/// Bytes of a small file, and of a piece of the large one.
pub(super) const SMALL_BYTES: usize = 4096;

/// Where a tree is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) portal: SocketAddr,
    /// From the root of what the server exports.
    pub(crate) path: String,
}

/// Each connection is a client of its own to the server.
pub(super) fn connect(place: &Place, slots: u32) -> Result<FileClient> {
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

pub(super) fn moved(mut latencies_us: Vec<f64>, seconds: f64) -> Moved {
    latencies_us.sort_by(f64::total_cmp);
    let at = |share: usize| latencies_us.get(latencies_us.len() * share / 1000).copied();
    Moved { ios: latencies_us.len() as f64, seconds, p50_us: at(500), p99_us: at(990) }
}
