//! What each block may show: every write with the span in which it took effect, if it did.
//!
//! ```text
//!   start ──────── effect, somewhere ──────── end          time: one tick for each thing that
//!   (submitted)                        (answered, fenced)        happens at a host
//! ```
//!
//! A write is *sure* when it was answered with GOOD or was seen. A sure write kills all writes that
//! had ended when it started: whoever reads later must not see them. A write that was fenced ended
//! at the fence, whatever becomes of it: so that what lands later, lands among the dead.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

pub(crate) const BLOCK: usize = 512;
const STAMP: usize = 32;

pub(crate) type Tick = u64;
/// Names a write; 0 is the zeros of the beginning.
pub(crate) type Sequence = u32;

/// One write at one block.
#[derive(Clone, Copy, Debug)]
struct Effect {
    sequence: Sequence,
    start: Tick,
    end: Option<Tick>,
    sure: bool,
    /// Reads that start from here on must not see it.
    dead: Option<Tick>,
    /// It was overwritten for good: no power loss brings it back.
    gone: bool,
}

#[derive(Default)]
pub(crate) struct Oracle {
    now: Tick,
    last: Sequence,
    blocks: Vec<Vec<Effect>>,
    /// Range and start of every write.
    writes: BTreeMap<Sequence, (Range<usize>, Tick)>,
    /// Writes that must have no effect.
    refused: BTreeSet<Sequence>,
    /// Folds all that happened: two runs of one seed have the same.
    pub(crate) trace: u64,
}

impl Oracle {
    pub(crate) fn new(blocks: usize) -> Self {
        let zeros =
            Effect { sequence: 0, start: 0, end: Some(0), sure: true, dead: None, gone: false };
        Self { blocks: vec![vec![zeros]; blocks], ..Self::default() }
    }

    /// Something happened.
    pub(crate) fn tick(&mut self, what: u64) -> Tick {
        self.now += 1;
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(7);
        self.now
    }

    pub(crate) fn start_of(&self, sequence: Sequence) -> Tick {
        self.writes[&sequence].1
    }

    /// A write is submitted. A forbidden one must have no effect at all.
    pub(crate) fn begin(&mut self, range: Range<usize>, forbidden: bool) -> Sequence {
        self.last += 1;
        let (sequence, start) = (self.last, self.tick(1));
        if forbidden {
            self.refused.insert(sequence);
        } else {
            for effects in &mut self.blocks[range.clone()] {
                let (end, sure, dead, gone) = (None, false, None, false);
                effects.push(Effect { sequence, start, end, sure, dead, gone });
            }
        }
        self.writes.insert(sequence, (range, start));
        sequence
    }

    /// It was answered with GOOD; `durable`: with FUA.
    pub(crate) fn good(&mut self, sequence: Sequence, durable: bool) {
        let now = self.tick(2);
        let (range, start) = self.writes[&sequence].clone();
        let refused = self.refused.contains(&sequence);
        assert!(!refused, "write {sequence} of a fenced host was answered with GOOD");
        for at in range {
            let found = self.blocks[at].iter_mut().find(|effect| effect.sequence == sequence);
            // Seen by a read, overwritten for good and lost sight of before its answer came.
            let Some(effect) = found else { continue };
            let end = effect.end.map_or(now, |end| end.min(now));
            (effect.end, effect.sure) = (Some(end), true);
            self.kill_before(at, sequence, start, end);
            if durable {
                for other in self.blocks[at].iter_mut().filter(|other| other.sequence != sequence) {
                    other.gone |= other.end.is_some_and(|end| end < start);
                }
            }
        }
    }

    /// It had no effect and will have none: refused, or its data was never sent.
    pub(crate) fn never(&mut self, sequence: Sequence) {
        self.tick(3);
        self.refused.insert(sequence);
        for effects in &mut self.blocks[self.writes[&sequence].0.clone()] {
            effects.retain(|effect| effect.sequence != sequence);
        }
    }

    /// It took effect before now, or never will.
    pub(crate) fn close(&mut self, sequence: Sequence) {
        let now = self.tick(4);
        for effects in &mut self.blocks[self.writes[&sequence].0.clone()] {
            for effect in effects.iter_mut().filter(|effect| effect.sequence == sequence) {
                effect.end = effect.end.or(Some(now));
            }
        }
    }

    fn kill_before(&mut self, at: usize, sequence: Sequence, start: Tick, end: Tick) {
        for other in &mut self.blocks[at] {
            if other.sequence != sequence && other.end.is_some_and(|ended| ended < start) {
                other.dead = Some(other.dead.map_or(end, |dead| dead.min(end)));
            }
        }
    }

    pub(crate) fn read_begins(&mut self) -> Tick {
        self.tick(5)
    }

    /// Judge what a read that started then shows from block `first` on.
    pub(crate) fn read_ends(&mut self, first: usize, started: Tick, content: &[u8]) {
        let now = self.tick(6);
        for (at, block) in (first..).zip(content.chunks(BLOCK)) {
            let sequence = sequence_of(at, block);
            self.tick(u64::from(sequence) << 8);
            let effects = &mut self.blocks[at];
            let known = effects.iter().position(|effect| effect.sequence == sequence);
            let Some(known) = known else {
                panic!(
                    "block {at} shows write {sequence} ({:?}), which was refused, fenced before \
                     it began, or overwritten for good; known: {effects:?}",
                    self.writes.get(&sequence)
                );
            };
            let effect = effects[known];
            assert!(
                effect.dead.is_none_or(|dead| dead > started),
                "block {at} shows write {sequence} to a read of {started}..{now}, but it was \
                 overwritten or fenced: {effect:?} among {effects:?}"
            );
            let end = effect.end.map_or(now, |end| end.min(now));
            effects[known] = Effect { end: Some(end), sure: true, ..effect };
            self.kill_before(at, sequence, effect.start, end);
            // What had ended before this read, and is not what it shows, is gone.
            self.kill_before(at, sequence, started, now);
        }
    }

    pub(crate) fn flush_begins(&mut self) -> Tick {
        self.tick(7)
    }

    /// What was overwritten when the flush started does not come back, whatever crashes.
    pub(crate) fn flush_ends(&mut self, started: Tick) {
        self.tick(8);
        for effect in self.blocks.iter_mut().flatten() {
            effect.gone |= effect.dead.is_some_and(|dead| dead <= started);
        }
    }

    /// The process ended: whatever was under way ends with it.
    pub(crate) fn killed(&mut self) {
        let now = self.tick(9);
        for effect in self.blocks.iter_mut().flatten() {
            effect.end = effect.end.or(Some(now));
        }
    }

    /// The power was lost: each block has any value that it may have had since it was flushed.
    pub(crate) fn power_lost(&mut self) {
        self.killed();
        for effects in &mut self.blocks {
            effects.retain(|effect| !effect.gone);
        }
        for effect in self.blocks.iter_mut().flatten() {
            (effect.sure, effect.dead) = (false, None);
        }
    }
}

/// The content of a write: who, in which epoch, which one, where, and a checksum over it.
pub(crate) fn content(writer: u32, epoch: u32, sequence: Sequence, range: Range<usize>) -> Bytes {
    let stamp = |at: usize| {
        let mut stamp = Vec::with_capacity(STAMP);
        for word in [writer, epoch, sequence, 0] {
            stamp.extend(word.to_be_bytes());
        }
        stamp.extend((at as u64).to_be_bytes());
        stamp.extend(sum(&stamp).to_be_bytes());
        stamp.repeat(BLOCK / STAMP)
    };
    range.flat_map(stamp).collect::<Vec<u8>>().into()
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The write that a block shows; panics on a block that is torn, misplaced or nobody's.
pub(crate) fn sequence_of(at: usize, block: &[u8]) -> Sequence {
    if block.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let (stamp, rest) = block.split_at(STAMP);
    assert!(rest.chunks(STAMP).all(|other| other == stamp), "block {at} is torn");
    let place = u64::from_be_bytes(stamp[16..24].try_into().unwrap());
    let found = u64::from_be_bytes(stamp[24..32].try_into().unwrap());
    assert!(found == sum(&stamp[..24]) && place == at as u64, "block {at} holds {stamp:02x?}");
    Sequence::from_be_bytes(stamp[8..12].try_into().unwrap())
}

/// What the oracle is for: each of these is a way to break the promise.
#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks; write 1 of block 0 was fenced and not answered.
    fn fenced() -> Oracle {
        let mut oracle = Oracle::new(2);
        oracle.begin(0..1, false);
        oracle.close(1);
        oracle
    }

    fn shows(oracle: &mut Oracle, sequence: Sequence) {
        let started = oracle.read_begins();
        let block = match sequence {
            0 => vec![0; BLOCK].into(),
            _ => content(1, 1, sequence, 0..1),
        };
        oracle.read_ends(0, started, &block);
    }

    #[test]
    fn a_fenced_write_shows_at_once_or_never() {
        shows(&mut fenced(), 0);
        let mut oracle = fenced();
        shows(&mut oracle, 1);
        shows(&mut oracle, 1);
    }

    #[test]
    #[should_panic(expected = "overwritten or fenced")]
    fn a_fenced_write_that_becomes_visible_later_is_noticed() {
        let mut oracle = fenced();
        shows(&mut oracle, 0);
        shows(&mut oracle, 1);
    }

    #[test]
    #[should_panic(expected = "overwritten or fenced")]
    fn a_fenced_write_over_the_winners_is_noticed() {
        let mut oracle = fenced();
        let winner = oracle.begin(0..1, false);
        oracle.good(winner, false);
        shows(&mut oracle, 1);
    }

    #[test]
    #[should_panic(expected = "overwritten or fenced")]
    fn a_lost_write_of_the_winner_is_noticed() {
        let mut oracle = Oracle::new(1);
        let winner = oracle.begin(0..1, false);
        oracle.good(winner, false);
        shows(&mut oracle, 0);
    }

    #[test]
    #[should_panic(expected = "which was refused")]
    fn a_refused_write_that_lands_is_noticed() {
        let mut oracle = Oracle::new(1);
        let refused = oracle.begin(0..1, false);
        oracle.never(refused);
        shows(&mut oracle, refused);
    }

    #[test]
    fn what_was_not_flushed_may_go_with_the_power() {
        let mut oracle = Oracle::new(1);
        let first = oracle.begin(0..1, false);
        oracle.good(first, true);
        let second = oracle.begin(0..1, false);
        oracle.good(second, false);
        oracle.power_lost();
        shows(&mut oracle, first);
    }

    #[test]
    #[should_panic(expected = "which was refused")]
    fn what_was_flushed_and_goes_with_the_power_is_noticed() {
        let mut oracle = Oracle::new(1);
        let first = oracle.begin(0..1, false);
        oracle.good(first, false);
        let started = oracle.flush_begins();
        oracle.flush_ends(started);
        oracle.power_lost();
        shows(&mut oracle, 0);
    }
}
