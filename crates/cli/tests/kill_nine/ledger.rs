//! What was sent, what was answered, and what was promised to last, for each logical block.
//!
//! ```text
//!   durable <= acked <= submitted        versions only grow, over restarts too
//! ```
//! After a kill a block may have any version from `durable` to `submitted`, whole. Zeros count as
//! the version of the last UNMAP; an UNMAP promises nothing, so that it raises `submitted` only.

use std::ops::Range;

use bytes::Bytes;

/// Bytes of a logical block, and of a stamp: a block is its stamp over and over, so that one that
/// was torn shows two.
pub(crate) const BLOCK: usize = 512;
const STAMP: usize = 16;

pub(crate) struct Ledger {
    acked: Vec<u32>,
    durable: Vec<u32>,
    submitted: Vec<u32>,
    unmapped: Vec<u32>,
    version: u32,
}

/// What a picture of the volume may hold: for each block the lowest and the highest version, and
/// the one that zeros stand for.
#[derive(Clone)]
pub(crate) struct Bounds {
    low: Vec<u32>,
    high: Vec<u32>,
    zeros: Vec<u32>,
}

impl Ledger {
    pub(crate) fn new(blocks: usize) -> Self {
        let none = vec![0; blocks];
        Self {
            acked: none.clone(),
            durable: none.clone(),
            submitted: none.clone(),
            unmapped: none,
            version: 0,
        }
    }

    /// Before a write is sent: its version.
    pub(crate) fn write_begins(&mut self, range: Range<usize>) -> u32 {
        self.version += 1;
        self.submitted[range].fill(self.version);
        self.version
    }

    pub(crate) fn write_ends(&mut self, range: Range<usize>, version: u32, durable: bool) {
        self.acked[range.clone()].fill(version);
        if durable {
            self.durable[range].fill(version);
        }
    }

    pub(crate) fn unmap_begins(&mut self, range: Range<usize>) {
        let version = self.write_begins(range.clone());
        self.unmapped[range].fill(version);
    }

    /// What a flush that is sent now covers.
    pub(crate) fn flush_begins(&self) -> Vec<u32> {
        self.acked.clone()
    }

    pub(crate) fn flush_ends(&mut self, covered: &[u32]) {
        for (durable, covered) in self.durable.iter_mut().zip(covered) {
            *durable = (*durable).max(*covered);
        }
    }

    /// For a picture that begins to be taken now: call [`Self::picture_ends`] when it is there.
    pub(crate) fn picture_begins(&self) -> Vec<u32> {
        self.acked.clone()
    }

    pub(crate) fn picture_ends(&self, low: Vec<u32>) -> Bounds {
        Bounds { low, high: self.submitted.clone(), zeros: self.unmapped.clone() }
    }

    /// What may be there after the process was killed.
    pub(crate) fn after_kill(&self) -> Bounds {
        self.picture_ends(self.durable.clone())
    }

    /// What was found after a restart, and flushed, is where the next round starts.
    pub(crate) fn settle(&mut self, found: Vec<u32>) {
        self.acked.clone_from(&found);
        self.durable.clone_from(&found);
        self.submitted = found;
    }

    pub(crate) fn promised(&self) -> usize {
        self.durable.iter().filter(|version| **version > 0).count()
    }
}

impl Bounds {
    /// The versions found in the whole content, or what is wrong with the first bad block.
    pub(crate) fn check(&self, content: &[u8]) -> Result<Vec<u32>, String> {
        assert_eq!(content.len(), self.low.len() * BLOCK);
        content.chunks(BLOCK).enumerate().map(|(at, block)| self.check_block(at, block)).collect()
    }

    pub(crate) fn check_block(&self, at: usize, block: &[u8]) -> Result<u32, String> {
        let (low, high) = (self.low[at], self.high[at]);
        let (stamp, rest) = block.split_at(STAMP);
        if !rest.chunks(STAMP).all(|other| other == stamp) {
            return Err(format!("block {at} is torn"));
        }
        let version = if stamp == [0; STAMP] {
            self.zeros[at]
        } else {
            let word = |from: usize| u32::from_be_bytes(stamp[from..from + 4].try_into().unwrap());
            let version = word(8);
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

fn stamp_of(at: usize, version: u32) -> [u8; STAMP] {
    let mut stamp = [0; STAMP];
    stamp[..8].copy_from_slice(&u64::try_from(at).unwrap().to_be_bytes());
    stamp[8..12].copy_from_slice(&version.to_be_bytes());
    stamp[12..].copy_from_slice(&(!version).to_be_bytes());
    stamp
}

/// The content of a write.
pub(crate) fn content(range: Range<usize>, version: u32) -> Bytes {
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
