//! What safety costs: the same writes with sixteen registrants and a reservation of type 5, and
//! with none, in slices next to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use host::{HostError, LogicalUnit};

use crate::process::threads_cpu_us;
use crate::report::{Safety, Taken};
use crate::servers::Running;
use crate::sessions;
use crate::statistics::{Dice, median};

const REGISTRANTS: u8 = 16;
const DEPTH: u64 = 32;
const WRITE_BYTES: usize = 4096;
/// Service actions and type of PERSISTENT RESERVE OUT (SPC-5 6.16).
const REGISTER_AND_IGNORE: u8 = 6;
const RESERVE: u8 = 1;
const CLEAR: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 5;

/// CPU time of the server and time by the clock, for one write.
#[derive(Clone, Copy)]
struct Slice {
    cpu_us: f64,
    time_us: f64,
}

/// Measure so many pairs. The first of a pair alternates, so that a drift meets both alike.
pub(crate) async fn measure(
    running: &Running,
    taken: Taken,
    (pairs, slice_s): (u32, f64),
    progress: impl Fn(String),
) -> Result<Safety> {
    let units = sessions::log_in_many(&running.address, REGISTRANTS).await?;
    let mut safety = Safety {
        taken,
        registrants: u32::from(REGISTRANTS),
        slice_s,
        cpu_ratios: Vec::new(),
        time_ratios: Vec::new(),
        plain_cpu_us: 0.0,
        plain_time_us: 0.0,
    };
    let mut plain_slices = Vec::new();
    for pair in 0..pairs {
        progress(format!("cost of safety, pair {} of {pairs}", pair + 1));
        let first = pair % 2 == 0;
        let one = timely(slice(running, &units, first, slice_s)).await?;
        let other = timely(slice(running, &units, !first, slice_s)).await?;
        let (guarded, plain) = if first { (one, other) } else { (other, one) };
        safety.cpu_ratios.push(guarded.cpu_us / plain.cpu_us);
        safety.time_ratios.push(guarded.time_us / plain.time_us);
        plain_slices.push(plain);
    }
    let of = |pick: fn(&Slice) -> f64| {
        median(&plain_slices.iter().map(pick).collect::<Vec<_>>()).unwrap_or_default()
    };
    (safety.plain_cpu_us, safety.plain_time_us) = (of(|s| s.cpu_us), of(|s| s.time_us));
    guard(&units, false).await?;
    Ok(safety)
}

/// A server that no longer answers ends the run; it does not hold it up for ever.
async fn timely(slice: impl Future<Output = Result<Slice>>) -> Result<Slice> {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, slice).await.context("the server no longer answers writes")?
}

fn key(at: usize) -> u64 {
    0xC0DE_0001 + at as u64
}

fn list(own: u64, action: u64) -> Bytes {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&own.to_be_bytes());
    list[8..16].copy_from_slice(&action.to_be_bytes());
    Bytes::copy_from_slice(&list)
}

/// Register all and reserve for the first, or clear all that.
async fn guard(units: &[LogicalUnit], on: bool) -> Result<(), HostError> {
    let first = &units[0];
    if !on {
        first.persistent_reserve_out(REGISTER_AND_IGNORE, 0, list(0, key(0))).await?;
        return first.persistent_reserve_out(CLEAR, 0, list(key(0), 0)).await;
    }
    for (at, unit) in units.iter().enumerate() {
        // What the others were told of the last CLEAR is taken first.
        while let Err(HostError::Status { key: 6, .. }) = unit.test_unit_ready().await {}
        unit.persistent_reserve_out(REGISTER_AND_IGNORE, 0, list(0, key(at))).await?;
    }
    let kind = WRITE_EXCLUSIVE_REGISTRANTS_ONLY;
    first.persistent_reserve_out(RESERVE, kind, list(key(0), 0)).await
}

async fn slice(
    running: &Running,
    units: &[LogicalUnit],
    guarded: bool,
    seconds: f64,
) -> Result<Slice> {
    guard(units, guarded).await?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let cpu_before = threads_cpu_us(running.pid)?;
    let begin = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..DEPTH {
        lanes.spawn(write(units[0].clone(), lane, Arc::clone(&stop), Arc::clone(&count)));
    }
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    let took_us = begin.elapsed().as_secs_f64() * 1e6;
    let writes = count.load(Ordering::Relaxed).max(1) as f64;
    let cpu_us = (threads_cpu_us(running.pid)? - cpu_before) / writes;
    Ok(Slice { cpu_us, time_us: took_us / writes })
}

/// Random writes, one after the other, until told to stop.
async fn write(
    unit: LogicalUnit,
    lane: u64,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<(), HostError> {
    let bytes = Bytes::from(vec![0xA5; WRITE_BYTES]);
    let blocks = (WRITE_BYTES as u64) / u64::from(unit.block_bytes().max(1));
    let places = usize::try_from(unit.blocks() / blocks.max(1)).unwrap_or(1);
    let mut dice = Dice(lane + 1);
    while !stop.load(Ordering::Relaxed) {
        unit.write(dice.below(places) as u64 * blocks, bytes.clone(), false).await?;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
