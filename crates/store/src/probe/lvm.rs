//! LVM2 physical volumes, and whether their group is one that hosts share.
//!
//! A label in one of the first four sectors leads to a header with lists of data and metadata
//! areas; a metadata area's header leads to the group's text, which names its lock type.

use super::Content;
use super::bytes_at::Pieces;

const SECTOR: u64 = 512;
/// The header of a metadata area fills one sector.
const AREA_HEADER_BYTES: u64 = 512;
/// The lock type stands near the top of the text.
const TEXT_BYTES_MAX: u64 = 64 << 10;
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
/// More entries than this no list of areas has.
const AREAS_MAX: u64 = 16;

/// A physical volume's label.
pub(super) struct Label {
    /// Offset of the header that follows it.
    header: u64,
    /// First metadata area: offset, length.
    area: Option<(u64, u64)>,
}

/// The label of a region, if it is a physical volume.
pub(super) fn label(region: &Pieces) -> Option<Label> {
    let at = (0..4)
        .map(|n| n * SECTOR)
        .find(|at| region.has(*at, b"LABELONE") && region.has(at + 24, b"LVM2 001"))?;
    let header = at + u64::from(region.le32(at + 20)?);
    let mut label = Label { header, area: None };
    label.area = label.first_area(region);
    Some(label)
}

impl Label {
    /// The header: UUID (32 bytes), device size (8), then two lists of (offset, size), each
    /// ended by zeros: data areas, metadata areas.
    fn first_area(&self, region: &Pieces) -> Option<(u64, u64)> {
        let list = self.header + 40;
        let entry = |n: u64| Some((region.le64(list + n * 16)?, region.le64(list + n * 16 + 8)?));
        let mut ended = (0..AREAS_MAX).filter(|n| entry(*n).is_some_and(|(offset, _)| offset == 0));
        let first = entry(ended.next()? + 1)?;
        (first.0 != 0).then_some(first)
    }
    /// Where the metadata area's own header is: offset and length in the region.
    pub(super) fn metadata_header(&self) -> Option<(u64, u64)> {
        self.area.map(|(offset, _)| (offset, AREA_HEADER_BYTES))
    }
    /// Where the group's text is, told by the area's header.
    pub(super) fn text(&self, header: &[u8]) -> Option<(u64, u64)> {
        let (area, _) = self.area?;
        let number = |at: usize| -> Option<u64> {
            header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
        };
        if header.get(4..20)? != AREA_MAGIC {
            return None;
        }
        let (offset, length) = (number(40)?, number(48)?);
        Some((area.checked_add(offset)?, length.min(TEXT_BYTES_MAX)))
    }
}

/// `text` is the group's metadata where it could be found. Without it nothing speaks for sharing.
pub(super) fn content(text: Option<&[u8]>) -> Content {
    match text.and_then(lock_type).as_deref() {
        Some("sanlock") => Content::shared("LVM (shared volume group, sanlock)"),
        Some("dlm") => Content::shared("LVM (shared volume group, dlm)"),
        _ => Content::ordinary("LVM"),
    }
}

/// The value of the line `lock_type = "..."`.
fn lock_type(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lock_type"))?;
    let value = line.trim_start().strip_prefix('=')?.trim();
    Some(value.trim_matches('"').to_owned())
}
