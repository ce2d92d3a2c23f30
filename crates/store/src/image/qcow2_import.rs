//! A qcow2 image into a volume: one L2 table after the other, several clusters at once.

#[cfg(fuzzing)]
pub mod fuzz;

use bytes::Bytes;
use env::{Buffer, Files};
use flate2::{Decompress, FlushDecompress};

use super::copy::{self, Meter};
use super::qcow2::{Cluster, ENTRY_BYTES, HEADER_BYTES, Header};
use super::{PIECE_BYTES, Work};
use crate::error::StoreError;

/// Neighbouring clusters that are copied as one.
#[derive(Clone, Copy)]
struct Run {
    /// Offset in the volume.
    start: u64,
    length: u64,
    from: Cluster,
}

/// Copy the image into the volume; how many bytes of the volume it fills.
pub(super) async fn import(work: &Work<'_>, files: &dyn Files) -> Result<u64, StoreError> {
    let file_bytes = files.length(&work.image).map_err(|why| work.failed("reading", 0, why))?;
    let bytes = work.read_image(0, HEADER_BYTES).await?;
    let header = Header::parse(&bytes, file_bytes).map_err(|why| work.bad(why))?;
    let filled = header.size.checked_next_multiple_of(512).unwrap_or(u64::MAX);
    work.refuse_if_larger(filled)?;
    let mut meter = Meter { done: 0, total: filled };
    let mut start = 0;
    while start < filled {
        work.check_cancelled()?;
        let end = start.saturating_add(header.l2_span()).min(filled);
        let entry = header.l1_offset + start / header.l2_span() * ENTRY_BYTES;
        let entry = numbers(&work.read_image(entry, 8).await?).next().unwrap_or(0);
        match header.l2_table(entry, file_bytes).map_err(|why| work.bad(why))? {
            None => {
                work.volume.discard(work.io, start, end - start).await?;
                meter.advance(work, end - start);
            }
            Some(table) => {
                let length = usize::try_from(header.cluster_bytes()).unwrap_or(0);
                let table = work.read_image(table, length).await?;
                let runs = runs(&header, &table, (start, end), file_bytes);
                let runs = runs.map_err(|why| work.bad(why))?;
                copy::all(work, &mut meter, runs, async |run| copy_in(work, &header, run).await)
                    .await?;
            }
        }
        start = end;
    }
    Ok(filled)
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|it| it.try_into().map_or(0, u64::from_be_bytes))
}

/// The clusters of one L2 table from `start` to `end` of the volume, neighbours joined.
fn runs(
    header: &Header,
    table: &[u8],
    (start, end): (u64, u64),
    file_bytes: u64,
) -> Result<Vec<Run>, String> {
    let mut runs: Vec<Run> = Vec::new();
    let mut at = start;
    for entry in numbers(table) {
        if at >= end {
            break;
        }
        let length = header.cluster_bytes().min(end - at);
        let from = header.cluster(entry, file_bytes)?;
        let joined = runs.last_mut().filter(|last| match (last.from, from) {
            (Cluster::Zero, Cluster::Zero) => true,
            (Cluster::Data(first), Cluster::Data(next)) => {
                next == first + last.length && last.length + length <= PIECE_BYTES
            }
            _ => false,
        });
        match joined {
            Some(last) => last.length += length,
            None => runs.push(Run { start: at, length, from }),
        }
        at += length;
    }
    Ok(runs)
}

async fn copy_in(work: &Work<'_>, header: &Header, run: Run) -> Result<u64, StoreError> {
    let length = usize::try_from(run.length).unwrap_or(0);
    let bytes: Bytes = match run.from {
        Cluster::Zero => {
            work.volume.discard(work.io, run.start, run.length).await?;
            return Ok(run.length);
        }
        Cluster::Data(offset) => work.read_image(offset, length).await?.into_bytes(),
        Cluster::Compressed { offset, length: packed } => {
            let packed = work.read_image(offset, usize::try_from(packed).unwrap_or(0)).await?;
            let cluster_bytes = usize::try_from(header.cluster_bytes()).unwrap_or(0);
            let cluster = unpack(&packed, cluster_bytes);
            let cluster = cluster.ok_or_else(|| work.bad("a compressed cluster is damaged"))?;
            cluster.into_bytes().slice(..length)
        }
    };
    if copy::is_zero(&bytes) {
        work.volume.discard(work.io, run.start, run.length).await?;
    } else {
        work.volume.write(work.io, run.start, vec![bytes], false).await?;
    }
    Ok(run.length)
}

/// A raw deflate stream that fills exactly one cluster; what follows it is not looked at.
fn unpack(packed: &[u8], cluster_bytes: usize) -> Option<Buffer> {
    let mut cluster = Buffer::zeroed(cluster_bytes);
    let mut stream = Decompress::new(false);
    stream.decompress(packed, &mut cluster, FlushDecompress::Finish).ok()?;
    (stream.total_out() == cluster_bytes as u64).then_some(cluster)
}
