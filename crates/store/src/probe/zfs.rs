//! ZFS pool members: four labels of 256 KiB, two at either end.

use super::Content;
use super::bytes_at::Pieces;

const LABEL_BYTES: u64 = 256 << 10;
/// The second half of a label is a ring of uberblocks, one at each KiB at the closest.
const RING_OFFSET: u64 = 128 << 10;
const UBERBLOCKS: u64 = 128;
const MAGIC: u32 = 0x00ba_b10c;

/// A pool member, and whether only the labels at the end tell so.
pub(super) fn recognise(region: &Pieces) -> Option<(Content, bool)> {
    let end = region.length() - region.length() % LABEL_BYTES;
    let labels = [
        (Some(0), false),
        (Some(LABEL_BYTES), false),
        (end.checked_sub(2 * LABEL_BYTES), true),
        (end.checked_sub(LABEL_BYTES), true),
    ];
    let (_, at_end) = labels
        .into_iter()
        .find(|(label, _)| label.is_some_and(|label| has_uberblock(region, label)))?;
    Some((Content::ordinary("zfs"), at_end))
}

/// The magic is a 64-bit number in the byte order of the machine that wrote it.
fn has_uberblock(region: &Pieces, label: u64) -> bool {
    (0..UBERBLOCKS).map(|n| label + RING_OFFSET + (n << 10)).any(|at| {
        let little = region.le32(at) == Some(MAGIC) && region.le32(at + 4) == Some(0);
        little || (region.be32(at) == Some(0) && region.be32(at + 4) == Some(MAGIC))
    })
}
