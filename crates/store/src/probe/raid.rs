//! Linux md RAID members.

use super::Content;
use super::bytes_at::Pieces;

const MAGIC: u32 = 0xa92b_4efc;

/// A member's superblock, and whether it stands at the end of the region.
pub(super) fn recognise(region: &Pieces) -> Option<(Content, bool)> {
    let length = region.length();
    // Version 0.90: the last whole 64 KiB; 1.0: 8 KiB before the end, on 4 KiB; 1.1 and 1.2: start.
    let old = (length & !0xffff).checked_sub(0x1_0000);
    let last = length.checked_sub(0x2000).map(|at| at & !0xfff);
    let places = [(old, true), (last, true), (Some(0), false), (Some(0x1000), false)];
    let (_, at_end) = places.into_iter().find(|(place, _)| {
        // 0.90 is written in the byte order of its machine.
        place.is_some_and(|at| region.le32(at) == Some(MAGIC) || region.be32(at) == Some(MAGIC))
    })?;
    Some((Content::ordinary("md RAID member"), at_end))
}
