//! What was sent, what was answered, and what was promised to last, for each logical block.
//!
//! ```text
//!   durable <= acked <= submitted        versions only grow, over restarts too
//! ```
//! After a kill a block may have any version from `durable` to `submitted`, whole. Zeros count as
//! the version of the last UNMAP; an UNMAP promises nothing, so that it raises `submitted` only.
//!
//! Two test programs use this module: kill_nine and soak.
#![allow(dead_code, reason = "neither uses all of it")]

use std::ops::Range;

use bytes::Bytes;

/// Bytes of a logical block, and of a stamp: a block is its stamp over and over, so that one that
/// was torn shows two.
pub(crate) const BLOCK: usize = 512;
const STAMP: usize = 32;

pub(crate) struct Ledger {
    acked: Vec<u64>,
    durable: Vec<u64>,
    submitted: Vec<u64>,
    unmapped: Vec<u64>,
    version: u64,
}

/// What a picture of the volume may hold: for each block the lowest and the highest version, and
/// the one that zeros stand for.
#[derive(Clone)]
pub(crate) struct Bounds {
    low: Vec<u64>,
    high: Vec<u64>,
    zeros: Vec<u64>,
}

/// What had been sent before a command.
pub(crate) struct Sent {
    range: Range<usize>,
    submitted: Vec<u64>,
    unmapped: Vec<u64>,
}

impl Ledger {
    pub(crate) fn new(blocks: usize) -> Self {
        Self::of_volume(0, blocks)
    }

    /// A volume with versions of its own: a block of another volume has none of them.
    pub(crate) fn of_volume(number: u64, blocks: usize) -> Self {
        let none = vec![0; blocks];
        Self {
            acked: none.clone(),
            durable: none.clone(),
            submitted: none.clone(),
            unmapped: none,
            version: number << 40,
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.acked.len()
    }

    /// More blocks of zeros.
    pub(crate) fn grow(&mut self, blocks: usize) {
        let all = [&mut self.acked, &mut self.durable, &mut self.submitted, &mut self.unmapped];
        for versions in all {
            versions.resize(blocks, 0);
        }
    }

    /// Before a write is sent: its version.
    pub(crate) fn write_begins(&mut self, range: Range<usize>) -> u64 {
        self.version += 1;
        self.submitted[range].fill(self.version);
        self.version
    }

    pub(crate) fn write_ends(&mut self, range: Range<usize>, version: u64, durable: bool) {
        self.acked[range.clone()].fill(version);
        if durable {
            self.durable[range].fill(version);
        }
    }

    /// What was sent for these blocks up to now.
    pub(crate) fn sent(&self, range: Range<usize>) -> Sent {
        let submitted = self.submitted[range.clone()].to_vec();
        Sent { submitted, unmapped: self.unmapped[range.clone()].to_vec(), range }
    }

    /// The target refused what was sent since: not a byte of it may ever be seen.
    pub(crate) fn refused(&mut self, before: Sent) {
        self.submitted[before.range.clone()].copy_from_slice(&before.submitted);
        self.unmapped[before.range].copy_from_slice(&before.unmapped);
    }

    /// The blocks of a range whose last write was never answered: the smallest range with all.
    pub(crate) fn unanswered(&self, range: Range<usize>) -> Option<Range<usize>> {
        let open = |at: &usize| self.acked[*at] != self.submitted[*at];
        let first = range.clone().find(open)?;
        let last = range.rev().find(open)?;
        Some(first..last + 1)
    }

    /// Nothing is on its way to these blocks any more: what was found there stays.
    pub(crate) fn settle_part(&mut self, first: usize, found: &[u64]) {
        let range = first..first + found.len();
        self.acked[range.clone()].copy_from_slice(found);
        self.submitted[range].copy_from_slice(found);
    }

    /// Zeros begin to be written: their version.
    pub(crate) fn unmap_begins(&mut self, range: Range<usize>) -> u64 {
        let version = self.write_begins(range.clone());
        self.unmapped[range].fill(version);
        version
    }

    /// What a flush that is sent now covers.
    pub(crate) fn flush_begins(&self) -> Vec<u64> {
        self.acked.clone()
    }

    pub(crate) fn flush_ends(&mut self, covered: &[u64]) {
        for (durable, covered) in self.durable.iter_mut().zip(covered) {
            *durable = (*durable).max(*covered);
        }
    }

    /// For a picture that begins to be taken now: call [`Self::picture_ends`] when it is there.
    pub(crate) fn picture_begins(&self) -> Vec<u64> {
        self.acked.clone()
    }

    pub(crate) fn picture_ends(&self, low: Vec<u64>) -> Bounds {
        Bounds { low, high: self.submitted.clone(), zeros: self.unmapped.clone() }
    }

    /// What may be there after the process was killed.
    pub(crate) fn after_kill(&self) -> Bounds {
        self.picture_ends(self.durable.clone())
    }

    /// What is there after the process ended in order, with nothing on its way.
    pub(crate) fn after_end(&self) -> Bounds {
        self.picture_ends(self.acked.clone())
    }

    /// The content became that of a picture: what was found of it.
    pub(crate) fn become_picture(&mut self, bounds: &Bounds, found: Vec<u64>) {
        self.unmapped.clone_from(&bounds.zeros);
        self.settle(found);
    }

    /// What was found after a restart, and flushed, is where the next round starts.
    pub(crate) fn settle(&mut self, found: Vec<u64>) {
        self.acked.clone_from(&found);
        self.durable.clone_from(&found);
        self.submitted = found;
    }

    pub(crate) fn promised(&self) -> usize {
        self.durable.iter().filter(|version| **version > 0).count()
    }
}

impl Bounds {
    pub(crate) fn blocks(&self) -> usize {
        self.low.len()
    }

    /// The same with zeros behind it.
    pub(crate) fn longer(mut self, blocks: usize) -> Self {
        for versions in [&mut self.low, &mut self.high, &mut self.zeros] {
            versions.resize(blocks, 0);
        }
        self
    }
    /// The versions found in the whole content, or what is wrong with the first bad block.
    pub(crate) fn check(&self, content: &[u8]) -> Result<Vec<u64>, String> {
        assert_eq!(content.len(), self.low.len() * BLOCK);
        content.chunks(BLOCK).enumerate().map(|(at, block)| self.check_block(at, block)).collect()
    }

    pub(crate) fn check_block(&self, at: usize, block: &[u8]) -> Result<u64, String> {
        let (low, high) = (self.low[at], self.high[at]);
        let (stamp, rest) = block.split_at(STAMP);
        if !rest.chunks(STAMP).all(|other| other == stamp) {
            return Err(format!("block {at} is torn"));
        }
        let version = if stamp == [0; STAMP] {
            self.zeros[at]
        } else {
            let version = u64::from_be_bytes(stamp[8..16].try_into().unwrap());
            if stamp != stamp_of(at, version) {
                return Err(format!("block {at} has {stamp:02x?}, which nobody wrote there"));
            }
            version
        };
        if (low..=high).contains(&version) {
            return Ok(version);
        }
        Err(format!("block {at} has version {version}, not one of {low} to {high}"))
    }
}

/// Place, version, and a checksum of the two.
fn stamp_of(at: usize, version: u64) -> [u8; STAMP] {
    let place = u64::try_from(at).unwrap();
    let sum = (place ^ version.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut stamp = [0; STAMP];
    stamp[..8].copy_from_slice(&place.to_be_bytes());
    stamp[8..16].copy_from_slice(&version.to_be_bytes());
    stamp[16..24].copy_from_slice(&sum.to_be_bytes());
    stamp[24..].copy_from_slice(&(!version).to_be_bytes());
    stamp
}

/// The content of a write.
pub(crate) fn content(range: Range<usize>, version: u64) -> Bytes {
    range.flat_map(|at| stamp_of(at, version).repeat(BLOCK / STAMP)).collect::<Vec<u8>>().into()
}

#[test]
fn the_ledger_notices_loss_tearing_and_invention() {
    let mut ledger = Ledger::new(4);
    let first = ledger.write_begins(0..2);
    ledger.write_ends(0..2, first, true);
    let second = ledger.write_begins(1..3);
    let bounds = ledger.after_kill();
    let mut image = content(0..4, 0).to_vec();
    image.fill(0);
    let put = |image: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        image[at * BLOCK..at * BLOCK + bytes.len()].copy_from_slice(bytes);
    };
    assert!(bounds.check(&image).unwrap_err().contains("block 0 has version 0"));
    put(&mut image, 0, &content(0..2, first));
    assert_eq!(bounds.check(&image).unwrap(), [first, first, 0, 0]);
    put(&mut image, 1, &content(1..2, second));
    assert_eq!(bounds.check(&image).unwrap(), [first, second, 0, 0]);
    put(&mut image, 2, &content(2..3, second)[..256]);
    assert!(bounds.check(&image).unwrap_err().contains("block 2 is torn"));
    put(&mut image, 2, &content(1..2, second));
    assert!(bounds.check(&image).unwrap_err().contains("nobody wrote"));
}

#[test]
fn the_ledger_notices_a_refused_write_that_landed_and_a_settled_block_that_moved() {
    let mut ledger = Ledger::of_volume(3, 2);
    let before = ledger.sent(0..1);
    let refused = ledger.write_begins(0..1);
    assert_eq!(ledger.unanswered(0..2), Some(0..1));
    ledger.refused(before);
    assert_eq!(ledger.unanswered(0..2), None);
    let late = ledger.after_end().check_block(0, &content(0..1, refused));
    assert!(late.unwrap_err().contains("block 0 has version"));
    let lost = ledger.write_begins(1..2);
    let bounds = ledger.after_end();
    assert_eq!(bounds.check_block(1, &[0; BLOCK]), Ok(0));
    assert_eq!(bounds.check_block(1, &content(1..2, lost)), Ok(lost));
    ledger.settle_part(1, &[0]);
    let late = ledger.after_end().check_block(1, &content(1..2, lost));
    assert!(late.unwrap_err().contains("block 1 has version"));
}
