//! What a unit tells about its blocks: capacity, which of them are mapped, which are defect; and
//! the list of those to unmap (SBC-4 5.20, 5.21, 5.8, 5.22, 5.35).

use bytes::Bytes;

use crate::command::Extent;
use crate::sense::Sense;
use crate::unit::Unit;

/// READ CAPACITY (10) parameter data. A unit with more blocks than the field can say answers
/// FFFFFFFFh, which sends the initiator to READ CAPACITY (16).
#[must_use]
pub(crate) fn read_capacity_10(unit: &Unit) -> Vec<u8> {
    let last_lba = u32::try_from(unit.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    [last_lba.to_be_bytes(), unit.block_bytes.to_be_bytes()].concat()
}

/// READ CAPACITY (16) parameter data, 32 bytes.
///
/// ```text
/// 0 last LBA (8)  8 block length (4)  12 protection  13 physical exponent  14 LBPME LBPRZ  16 ...
/// ```
#[must_use]
pub(crate) fn read_capacity_16(unit: &Unit) -> Vec<u8> {
    let mut data = vec![0; 32];
    data[0..8].copy_from_slice(&unit.blocks.saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&unit.block_bytes.to_be_bytes());
    data[13] = unit.physical_exponent & 0x0F;
    if unit.thin {
        data[14] = 0x80 | 0x40;
    }
    data
}

/// READ DEFECT DATA (10) header in front of no descriptors: `asked` is CDB byte 2, whose list and
/// format bits the header repeats. The medium below repairs itself, there is none to name.
#[must_use]
pub(crate) fn defect_data_10(asked: u8) -> Vec<u8> {
    vec![0, asked & 0x1F, 0, 0]
}

/// READ DEFECT DATA (12) header in front of no descriptors: `asked` is CDB byte 1.
#[must_use]
pub(crate) fn defect_data_12(asked: u8) -> Vec<u8> {
    vec![0, asked & 0x1F, 0, 0, 0, 0, 0, 0]
}

const LBA_STATUS_HEADER_BYTES: usize = 8;
const LBA_STATUS_DESCRIPTOR_BYTES: usize = 16;

/// GET LBA STATUS parameter data from `first_lba` on, cut to the allocation length.
///
/// `ranges` are in ascending order and start at or before `first_lba`; neighbours of the same state
/// become one descriptor. As many whole descriptors are given as the allocation length has room
/// for, one at least, so that an initiator that asks for 24 bytes gets one range (SBC-4 5.8.2).
#[must_use]
pub fn lba_status_data(first_lba: u64, ranges: &[(Extent, bool)], allocation_bytes: u32) -> Bytes {
    let allocation_bytes = usize::try_from(allocation_bytes).unwrap_or(usize::MAX);
    let room = allocation_bytes.saturating_sub(LBA_STATUS_HEADER_BYTES);
    let descriptors_max = (room / LBA_STATUS_DESCRIPTOR_BYTES).max(1);
    let mut data = vec![0; LBA_STATUS_HEADER_BYTES];
    for (extent, mapped) in merged_ranges(first_lba, ranges, descriptors_max) {
        data.extend_from_slice(&extent.lba.to_be_bytes());
        data.extend_from_slice(&u32::try_from(extent.blocks).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(&[u8::from(!mapped), 0, 0, 0]);
    }
    // PARAMETER DATA LENGTH counts what follows it.
    let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[0..4].copy_from_slice(&length.to_be_bytes());
    data.truncate(allocation_bytes);
    data.into()
}

/// At most `count_max` runs of one state, from `first_lba` on. A count has 32 bits: a longer run
/// goes on in the next one.
fn merged_ranges(
    first_lba: u64,
    ranges: &[(Extent, bool)],
    count_max: usize,
) -> Vec<(Extent, bool)> {
    let most = u64::from(u32::MAX);
    let mut merged: Vec<(Extent, bool)> = Vec::new();
    for (extent, mapped) in ranges {
        let end = extent.lba.saturating_add(extent.blocks);
        let mut start = extent.lba.max(first_lba);
        while start < end {
            let full = merged.len() == count_max;
            match merged.last_mut() {
                Some((run, state))
                    if state == mapped && run.lba + run.blocks == start && run.blocks < most =>
                {
                    let more = (end - start).min(most - run.blocks);
                    run.blocks += more;
                    start += more;
                }
                _ if full => return merged,
                _ => merged.push((Extent { lba: start, blocks: 0 }, *mapped)),
            }
        }
    }
    merged
}

const UNMAP_HEADER_BYTES: usize = 8;
const UNMAP_DESCRIPTOR_BYTES: usize = 16;

/// The ranges of an UNMAP parameter list, in the order of the list, without empty ones; all of
/// them lie inside the unit.
///
/// An incomplete last descriptor is passed over, as the standard wants (SBC-4 5.35.2).
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR for a list that ends inside its header or before its descriptors,
/// INVALID FIELD IN PARAMETER LIST above the limits that page B0h tells, LOGICAL BLOCK ADDRESS OUT
/// OF RANGE.
pub fn unmap_extents(list: &[u8], unit: &Unit) -> Result<Vec<Extent>, Sense> {
    let Some((header, body)) = list.split_at_checked(UNMAP_HEADER_BYTES) else {
        return if list.is_empty() { Ok(Vec::new()) } else { Err(Sense::parameter_list_length()) };
    };
    let descriptor_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let descriptors = body.get(..descriptor_bytes).ok_or(Sense::parameter_list_length())?;
    let count = descriptor_bytes / UNMAP_DESCRIPTOR_BYTES;
    if u32::try_from(count).unwrap_or(u32::MAX) > unit.max_unmap_descriptors {
        return Err(Sense::illegal_field_in_list(2));
    }
    let mut extents = Vec::with_capacity(count);
    let mut total_blocks = 0_u64;
    for descriptor in descriptors.chunks_exact(UNMAP_DESCRIPTOR_BYTES) {
        let extent = unmap_extent(descriptor).ok_or(Sense::parameter_list_length())?;
        match extent.lba.checked_add(extent.blocks) {
            Some(end) if end <= unit.blocks => {}
            _ => return Err(Sense::lba_out_of_range()),
        }
        total_blocks += extent.blocks;
        if unit.deallocation_limit_blocks().is_some_and(|most| total_blocks > most) {
            let at = UNMAP_HEADER_BYTES + extents.len() * UNMAP_DESCRIPTOR_BYTES + 8;
            return Err(Sense::illegal_field_in_list(u16::try_from(at).unwrap_or(u16::MAX)));
        }
        extents.push(extent);
    }
    extents.retain(|extent| extent.blocks > 0);
    Ok(extents)
}

fn unmap_extent(descriptor: &[u8]) -> Option<Extent> {
    let lba = u64::from_be_bytes(descriptor.get(0..8)?.try_into().ok()?);
    let blocks = u32::from_be_bytes(descriptor.get(8..12)?.try_into().ok()?);
    Some(Extent { lba, blocks: u64::from(blocks) })
}
