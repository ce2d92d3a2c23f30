//! A volume into a new qcow2 image (version 3, clusters of 64 KiB).
//!
//! The file grows by appending: for each 512 MiB of the volume its data clusters, then their L2
//! table; at the end the L1 table and the reference counts, and the header last of all. So a file
//! that was not completed is no qcow2 image.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use env::Buffer;

use super::Work;
use super::copy::{self, Meter, is_zero, pieces};
use super::qcow2::{COPIED, ENTRY_BYTES, Layout};
use crate::error::StoreError;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_LENGTH: usize = 1 << CLUSTER_BITS;
/// Entries of an L2 table.
const L2_ENTRIES: usize = CLUSTER_LENGTH / 8;
/// Bytes of the volume that one L2 table tells of.
const L2_SPAN: u64 = CLUSTER * (CLUSTER / ENTRY_BYTES);
/// Reference counts of 16 bits: how many one block holds.
const COUNTS_PER_BLOCK: u64 = CLUSTER / 2;

/// Copy the volume into the (new) file.
pub(super) async fn export(work: &Work<'_>) -> Result<(), StoreError> {
    let size = work.volume.size();
    // Cluster 0 is kept for the header.
    let next_cluster = Cell::new(1);
    let mut meter = Meter { done: 0, total: size };
    let mut l1 = Vec::new();
    let mut start = 0;
    while start < size {
        work.check_cancelled()?;
        let end = (start + L2_SPAN).min(size);
        l1.push(export_span(work, &mut meter, &next_cluster, (start, end)).await?);
        start = end;
    }
    let l1_entries = u32::try_from(l1.len())
        .map_err(|_| StoreError::refused("the volume is too large for a qcow2 image".to_owned()))?;
    let l1_offset = append(work, &next_cluster, &table(&l1)).await?;
    let (refcount_offset, refcount_clusters) = append_refcounts(work, &next_cluster).await?;
    let layout = Layout {
        cluster_bits: CLUSTER_BITS,
        size,
        l1_entries,
        l1_offset,
        refcount_offset,
        refcount_clusters,
    };
    let mut header = Buffer::zeroed(CLUSTER_LENGTH);
    let bytes = layout.header();
    header[..bytes.len()].copy_from_slice(&bytes);
    work.write_image(0, header.into_bytes()).await
}

/// The part of the volume that one L2 table tells of; the L1 entry for it.
async fn export_span(
    work: &Work<'_>,
    meter: &mut Meter,
    next_cluster: &Cell<u64>,
    (start, end): (u64, u64),
) -> Result<u64, StoreError> {
    let l2 = RefCell::new(vec![0u64; L2_ENTRIES]);
    for (at, length, mapped) in work.volume.status(start, end - start) {
        if !mapped {
            meter.advance(work, length);
            continue;
        }
        // Mapped ranges are whole chunks, and those are clusters; were they ever not, a cluster
        // would be written twice, so they are widened here.
        let first = at - at % CLUSTER;
        let last = (at + length).next_multiple_of(CLUSTER).min(end);
        copy::all(work, meter, pieces(first, last), async |(offset, length)| {
            copy_out(work, next_cluster, &l2, offset - start, (offset, length)).await
        })
        .await?;
    }
    let l2 = l2.into_inner();
    if l2.iter().all(|entry| *entry == 0) {
        return Ok(0);
    }
    Ok(append(work, next_cluster, &table(&l2)).await? | COPIED)
}

/// One piece: the clusters of it that are not all zeros are appended, neighbours in one write.
async fn copy_out(
    work: &Work<'_>,
    next_cluster: &Cell<u64>,
    l2: &RefCell<Vec<u64>>,
    in_span: u64,
    (offset, length): (u64, u64),
) -> Result<u64, StoreError> {
    let bytes = read_padded(work, offset, length).await?;
    let first = usize::try_from(in_span / CLUSTER).unwrap_or(0);
    let clusters: Vec<bool> = bytes.chunks(CLUSTER_LENGTH).map(|it| !is_zero(it)).collect();
    let mut at = 0;
    while at < clusters.len() {
        let count = clusters[at..].iter().take_while(|used| **used).count();
        if count > 0 {
            // Taken and entered before the write: other pieces append meanwhile.
            let host = next_cluster.replace(next_cluster.get() + count as u64);
            for (n, entry) in l2.borrow_mut().iter_mut().skip(first + at).take(count).enumerate() {
                *entry = ((host + n as u64) * CLUSTER) | COPIED;
            }
            let range = at * CLUSTER_LENGTH..(at + count) * CLUSTER_LENGTH;
            work.write_image(host * CLUSTER, bytes.slice(range)).await?;
        }
        at += count.max(1);
    }
    Ok(length)
}

/// The volume's bytes, filled up with zeros to whole clusters.
async fn read_padded(work: &Work<'_>, offset: u64, length: u64) -> Result<Bytes, StoreError> {
    let wanted = usize::try_from(length).unwrap_or(0);
    let mut parts = work.volume.read(work.io, offset, wanted).await?;
    if length.is_multiple_of(CLUSTER) && parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let mut bytes = Buffer::zeroed(wanted.next_multiple_of(CLUSTER_LENGTH));
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(&part);
        at += part.len();
    }
    Ok(bytes.into_bytes())
}

/// A table as bytes, filled up to whole clusters.
fn table(entries: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(CLUSTER_LENGTH).max(CLUSTER_LENGTH), 0);
    bytes
}

/// Append whole clusters; their offset in the file.
async fn append(
    work: &Work<'_>,
    next_cluster: &Cell<u64>,
    bytes: &[u8],
) -> Result<u64, StoreError> {
    let first = next_cluster.replace(next_cluster.get() + bytes.len() as u64 / CLUSTER);
    work.write_image(first * CLUSTER, Bytes::copy_from_slice(bytes)).await?;
    Ok(first * CLUSTER)
}

/// Every cluster of the file is used once, those of the counts themselves too. Gives the offset
/// and the clusters of the reference count table.
async fn append_refcounts(
    work: &Work<'_>,
    next_cluster: &Cell<u64>,
) -> Result<(u64, u32), StoreError> {
    let used = next_cluster.get();
    let (mut blocks, mut tables) = (1, 1);
    // Grows until the blocks count themselves as well; a few rounds at most.
    while blocks * COUNTS_PER_BLOCK < used + blocks + tables {
        blocks += 1;
        tables = (blocks * ENTRY_BYTES).div_ceil(CLUSTER);
    }
    let total = used + blocks + tables;
    let mut entries = Vec::new();
    for block in 0..blocks {
        let counted = (total - (block * COUNTS_PER_BLOCK).min(total)).min(COUNTS_PER_BLOCK);
        let mut counts = vec![0u8; CLUSTER_LENGTH];
        let used = usize::try_from(counted).unwrap_or(0);
        counts.chunks_exact_mut(2).take(used).for_each(|count| count[1] = 1);
        entries.push(append(work, next_cluster, &counts).await?);
    }
    let offset = append(work, next_cluster, &table(&entries)).await?;
    Ok((offset, u32::try_from(tables).unwrap_or(u32::MAX)))
}
