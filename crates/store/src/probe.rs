//! What lies on a volume: file systems, swap, volume managers, also inside partitions.
//!
//! Entry point: [`probe`]. It reads what it needs through a closure and decides purely; it knows
//! no volume and no file. The answer serves one question: may a second host write here? So it
//! reports every signature that it sees, rather one too many than one too few, and a stale one
//! can be overridden by the operator.
//!
//! Invariant: no bytes, however hostile, make it panic, loop or read more than a bounded amount.

mod bytes_at;
mod content;
mod lvm;
mod partitions;
mod raid;
mod zfs;

use ::bytes::Bytes;
use model::order::Found;
use model::size::ByteSize;

use self::bytes_at::Pieces;
use self::partitions::{Partition, Table};

/// Reads are made of whole blocks of this many bytes.
const BLOCK: u64 = 512;

/// From the start of a region: holds all superblocks but those named below, and the first two
/// labels of ZFS.
const HEAD_BYTES: u64 = 512 << 10;
/// Where a VMFS volume describes itself.
const VMFS_OFFSET: u64 = 1 << 20;
const VMFS_BYTES: u64 = 4096;
/// From the end: two ZFS labels, md superblocks of the versions 0.90 and 1.0, the backup GPT.
const TAIL_BYTES: u64 = 512 << 10;

/// More partitions than this are not looked into, but reported as such.
const PARTITIONS_MAX: usize = 128;

/// A recognised content, before it has a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    name: String,
    /// Safe under several writers: made for it, or never written at all.
    cluster_aware: bool,
}

impl Content {
    fn ordinary(name: &str) -> Self {
        Self { name: name.to_owned(), cluster_aware: false }
    }
    fn shared(name: &str) -> Self {
        Self { name: name.to_owned(), cluster_aware: true }
    }
    fn at(self, place: &str) -> Found {
        Found { content: self.name, cluster_aware: self.cluster_aware, place: place.to_owned() }
    }
}

/// Look at a volume of `size` bytes. `read(offset, length)` gives exactly `length` bytes; offsets
/// and lengths are whole 512-byte blocks inside the volume. At most about 1 MiB per partition is
/// asked for, and 128 partitions are looked into.
///
/// Media that are only ever read (ISO 9660, squashfs) are reported as cluster-aware, because any
/// number of hosts may use them.
///
/// # Errors
/// Those of `read`.
pub async fn probe<R, E>(size: u64, read: R) -> Result<Vec<Found>, E>
where
    R: AsyncFn(u64, usize) -> Result<Bytes, E>,
{
    let size = size - size % BLOCK;
    let whole = read_region(&read, 0, size).await?;
    let mut found = Vec::new();
    for (content, at_end) in contents(&read, &whole).await? {
        let place = if at_end { "at the end of the volume" } else { "at the start of the volume" };
        found.push(content.at(place));
    }
    if content::fills_boot_sector(&whole) {
        // A FAT or NTFS boot sector ends like a partition table does, but has none.
        return Ok(found);
    }
    let partitions = partitions(&read, &whole).await?;
    for partition in partitions.iter().take(PARTITIONS_MAX) {
        let region = read_region(&read, partition.start, partition.length).await?;
        let place = format!("in partition {} (at {})", partition.number, ByteSize(partition.start));
        found.extend(contents(&read, &region).await?.into_iter().map(|(what, _)| what.at(&place)));
    }
    if partitions.len() > PARTITIONS_MAX {
        found.push(Content::ordinary("more partitions than are looked into").at("in the rest"));
    }
    Ok(found)
}

/// All contents of one region, and whether only its end tells of them.
async fn contents<R, E>(read: &R, region: &Pieces) -> Result<Vec<(Content, bool)>, E>
where
    R: AsyncFn(u64, usize) -> Result<Bytes, E>,
{
    let mut all: Vec<(Content, bool)> = Vec::new();
    for content in content::recognise(region) {
        all.push((content, false));
    }
    if let Some(label) = lvm::label(region) {
        let metadata = match label.metadata_header() {
            Some((offset, length)) => read_part(read, region, offset, length).await?,
            None => None,
        };
        let text = match metadata.as_deref().and_then(|header| label.text(header)) {
            Some((offset, length)) => read_part(read, region, offset, length).await?,
            None => None,
        };
        all.push((lvm::content(text.as_deref()), false));
    }
    all.extend(raid::recognise(region));
    all.extend(zfs::recognise(region));
    Ok(all)
}

/// The partitions that the region's tables tell of, in the order of the tables.
async fn partitions<R, E>(read: &R, whole: &Pieces) -> Result<Vec<Partition>, E>
where
    R: AsyncFn(u64, usize) -> Result<Bytes, E>,
{
    let mut table = Table::new(whole);
    // Each step asks for one further block or table; the number of steps is bounded by `Table`.
    while let Some((offset, length)) = table.wanted() {
        let bytes = read_part(read, whole, offset, length).await?;
        table.take(bytes.as_deref().unwrap_or_default());
    }
    Ok(table.into_partitions())
}

async fn read_region<R, E>(read: &R, start: u64, length: u64) -> Result<Pieces, E>
where
    R: AsyncFn(u64, usize) -> Result<Bytes, E>,
{
    let mut region = Pieces::new(start, length);
    let head = HEAD_BYTES.min(length);
    let tail = TAIL_BYTES.min(length - head);
    for (offset, wanted) in [(0, head), (VMFS_OFFSET, VMFS_BYTES), (length - tail, tail)] {
        let inside = offset.checked_add(wanted).is_some_and(|end| end <= length);
        if wanted > 0 && inside {
            let bytes = read(start + offset, usize::try_from(wanted).unwrap_or(0)).await?;
            region.add(offset, bytes);
        }
    }
    Ok(region)
}

/// Any part of a region, cut to what the region has; `None` where it lies outside.
async fn read_part<R, E>(
    read: &R,
    region: &Pieces,
    offset: u64,
    length: u64,
) -> Result<Option<Bytes>, E>
where
    R: AsyncFn(u64, usize) -> Result<Bytes, E>,
{
    if offset >= region.length() || length == 0 {
        return Ok(None);
    }
    let end = offset.saturating_add(length).min(region.length());
    let first = offset - offset % BLOCK;
    let last = end.next_multiple_of(BLOCK).min(region.length());
    let Ok(blocks) = usize::try_from(last - first) else { return Ok(None) };
    let bytes = read(region.start() + first, blocks).await?;
    let inside = |at: u64| usize::try_from(at - first).unwrap_or(usize::MAX).min(bytes.len());
    Ok(Some(bytes.slice(inside(offset)..inside(end))))
}
