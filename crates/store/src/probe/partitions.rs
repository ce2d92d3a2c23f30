//! Partition tables: MBR with logical partitions, GPT with its backup.
//!
//! A [`Table`] is a machine that says which bytes it wants next and is given them:
//!
//! ```text
//!   block 0 + GPT header known -> GPT entries -> done
//!   block 0 with an MBR        -> extended boot record -> ... -> done
//! ```

use super::bytes_at::Pieces;

/// Numbers of blocks in MBRs count these.
const SECTOR: u64 = 512;
/// No chain of extended boot records is longer.
const LOGICAL_MAX: usize = 64;
/// Bytes of GPT entries that are looked at: 1024 entries of the usual size.
const ENTRIES_BYTES_MAX: u64 = 128 << 10;
const GPT_SIGNATURE: &[u8] = b"EFI PART";
const GPT_PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// A partition: its number as operating systems count, start and length in bytes of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// An entry of an MBR or an extended boot record, in sectors.
#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    first: u64,
    count: u64,
}

enum Wanted {
    GptEntries {
        offset: u64,
        length: u64,
        entry_bytes: usize,
        sector: u64,
    },
    /// The boot record in sector `at` of the extended partition that starts in `base`.
    Extended {
        base: u64,
        at: u64,
        left: usize,
        number: u32,
    },
}

pub(super) struct Table {
    volume_bytes: u64,
    /// The last one is next.
    wanted: Vec<Wanted>,
    partitions: Vec<Partition>,
}

impl Table {
    /// Look at what was read of the volume already.
    pub(super) fn new(whole: &Pieces) -> Self {
        let mut table =
            Self { volume_bytes: whole.length(), wanted: Vec::new(), partitions: Vec::new() };
        let records = whole.at(0, 512).map(entries).unwrap_or_default();
        let protective = records.iter().any(|record| record.kind == GPT_PROTECTIVE);
        if !protective {
            table.take_primary(&records);
        }
        // Also behind an MBR that does not protect it: the GPT may be stale, or the MBR may.
        table.wanted.extend(gpt(whole));
        table
    }

    /// The next bytes to be given to [`Table::take`]: offset and length.
    pub(super) fn wanted(&self) -> Option<(u64, u64)> {
        match *self.wanted.last()? {
            Wanted::GptEntries { offset, length, .. } => Some((offset, length)),
            Wanted::Extended { at, .. } => Some((at.saturating_mul(SECTOR), SECTOR)),
        }
    }

    /// The bytes that were wanted; fewer, or none, where the volume ends before.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        match self.wanted.pop() {
            None => {}
            Some(Wanted::GptEntries { entry_bytes, sector, .. }) => {
                self.take_gpt(bytes, entry_bytes, sector);
            }
            Some(Wanted::Extended { base, at, left, number }) => {
                self.take_extended(bytes, base, at, left, number);
            }
        }
    }

    pub(super) fn into_partitions(self) -> Vec<Partition> {
        self.partitions
    }

    fn add(&mut self, number: u32, first: u64, count: u64, sector: u64) {
        let (Some(start), Some(length)) = (first.checked_mul(sector), count.checked_mul(sector))
        else {
            return;
        };
        if start == 0 || start >= self.volume_bytes || length == 0 {
            return;
        }
        // A table may promise more than a shrunken volume has.
        let length = length.min(self.volume_bytes - start);
        let partition = Partition { number, start, length };
        let known = self.partitions.iter().any(|it| it.start == start && it.length == length);
        if !known {
            self.partitions.push(partition);
        }
    }

    fn take_primary(&mut self, records: &[Entry]) {
        for (number, record) in (1..).zip(records) {
            if EXTENDED.contains(&record.kind) {
                let base = record.first;
                self.wanted.push(Wanted::Extended { base, at: base, left: LOGICAL_MAX, number: 5 });
            } else if record.kind != 0 {
                self.add(number, record.first, record.count, SECTOR);
            }
        }
    }

    /// An extended boot record: one logical partition (relative to the record) and the next
    /// record (relative to the extended partition).
    fn take_extended(&mut self, bytes: &[u8], base: u64, at: u64, left: usize, number: u32) {
        let mut next = None;
        let mut number = number;
        for record in entries(bytes) {
            if EXTENDED.contains(&record.kind) {
                next = next.or(base.checked_add(record.first));
            } else if record.kind != 0
                && let Some(first) = at.checked_add(record.first)
            {
                self.add(number, first, record.count, SECTOR);
                number += 1;
            }
        }
        // A chain only goes forward, so it cannot run in a circle.
        if let Some(next) = next.filter(|next| *next > at && left > 1) {
            self.wanted.push(Wanted::Extended { base, at: next, left: left - 1, number });
        }
    }

    /// GPT entries: type (16 bytes, zero: unused), UUID (16), first and last block (8 each).
    fn take_gpt(&mut self, bytes: &[u8], entry_bytes: usize, sector: u64) {
        for (number, entry) in (1..).zip(bytes.chunks_exact(entry_bytes)) {
            let unused = entry.get(..16).is_none_or(|kind| kind.iter().all(|byte| *byte == 0));
            let block = |at: usize| -> Option<u64> {
                entry.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
            };
            if let (false, Some(first), Some(last)) = (unused, block(32), block(40))
                && let Some(count) = last.checked_sub(first).and_then(|it| it.checked_add(1))
            {
                self.add(number, first, count, sector);
            }
        }
    }
}

/// The four entries of a boot record; none if it is none.
fn entries(sector: &[u8]) -> Vec<Entry> {
    if sector.get(510..512) != Some(&[0x55, 0xaa]) {
        return Vec::new();
    }
    let table = sector.get(446..510).unwrap_or_default();
    let all: Vec<(u8, Entry)> = table
        .chunks_exact(16)
        .filter_map(|entry| {
            let number = |at: usize| -> Option<u64> {
                entry.get(at..at + 4)?.try_into().ok().map(|it| u64::from(u32::from_le_bytes(it)))
            };
            let kind = *entry.get(4)?;
            Some((*entry.first()?, Entry { kind, first: number(8)?, count: number(12)? }))
        })
        .collect();
    // Boot code ends in 55h AAh as well; a table has only these flags.
    if all.iter().any(|(flag, _)| *flag != 0 && *flag != 0x80) {
        return Vec::new();
    }
    all.into_iter().map(|(_, entry)| entry).collect()
}

/// The primary header in block 1, or the backup in the last block; blocks of 512 bytes or 4 KiB.
fn gpt(whole: &Pieces) -> Option<Wanted> {
    let places = [512u64, 4096].into_iter().flat_map(|sector| {
        let last = whole.length() / sector;
        [(Some(sector), sector), (last.checked_sub(1).map(|block| block * sector), sector)]
    });
    let mut headers = places.filter_map(|(at, sector)| gpt_header(whole, at?, sector));
    headers.next()
}

fn gpt_header(whole: &Pieces, at: u64, sector: u64) -> Option<Wanted> {
    if !whole.has(at, GPT_SIGNATURE) {
        return None;
    }
    let offset = whole.le64(at + 72)?.checked_mul(sector)?;
    let count = u64::from(whole.le32(at + 80)?);
    let entry_bytes = whole.le32(at + 84)?;
    if !(128..=4096).contains(&entry_bytes) || !entry_bytes.is_multiple_of(8) {
        return None;
    }
    let length = (count * u64::from(entry_bytes)).min(ENTRIES_BYTES_MAX);
    let entry_bytes = usize::try_from(entry_bytes).ok()?;
    Some(Wanted::GptEntries { offset, length, entry_bytes, sector })
}
