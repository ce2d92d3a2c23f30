//! What a file holds: durable, and changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

/// The unit that a crash keeps or loses whole.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A change that no sync covers ever again (see [`Content::doubt`]).
const NEVER: u64 = u64::MAX;

/// A sector's bytes; `None` is a hole.
type Sector = Option<Bytes>;

/// One sector: the durable value, then the unsynced ones with their stamps, oldest first.
#[derive(Default)]
struct History {
    durable: Sector,
    unsynced: Vec<(u64, Sector)>,
}

impl History {
    fn now(&self) -> &Sector {
        self.unsynced.last().map_or(&self.durable, |(_, sector)| sector)
    }
}

/// A file's content.
pub(super) struct Content {
    /// Its last name, for faults.
    pub(super) path: PathBuf,
    sectors: BTreeMap<u64, History>,
    /// Sectors with unsynced values.
    changed: BTreeSet<u64>,
    length_durable: u64,
    lengths: Vec<(u64, u64)>,
    /// Sectors that are not holes now.
    filled: u64,
}

impl Content {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            sectors: BTreeMap::new(),
            changed: BTreeSet::new(),
            length_durable: 0,
            lengths: Vec::new(),
            filled: 0,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.lengths.last().map_or(self.length_durable, |(_, length)| *length)
    }

    pub(super) fn allocated(&self) -> u64 {
        self.filled * SECTOR_BYTES
    }

    fn set(&mut self, stamp: u64, number: u64, value: Sector) {
        let history = self.sectors.entry(number).or_default();
        self.filled -= u64::from(history.now().is_some());
        self.filled += u64::from(value.is_some());
        history.unsynced.push((stamp, value));
        self.changed.insert(number);
    }

    pub(super) fn write(&mut self, stamp: u64, offset: u64, data: &Bytes) {
        let step = usize::try_from(SECTOR_BYTES).expect("512");
        for (index, start) in (0..data.len()).step_by(step).enumerate() {
            let number = offset / SECTOR_BYTES + index as u64;
            let sector = match data.len() - start {
                rest if rest < step => self.completed(number, &data[start..]),
                _ => data.slice(start..start + step),
            };
            self.set(stamp, number, Some(sector));
        }
        let end = offset + data.len() as u64;
        if end > self.length() {
            self.lengths.push((stamp, end));
        }
    }

    /// A sector of which only the beginning is written.
    fn completed(&self, number: u64, beginning: &[u8]) -> Bytes {
        let now = self.sectors.get(&number).and_then(|history| history.now().as_ref());
        let zeros = vec![0; usize::try_from(SECTOR_BYTES).expect("512")];
        let mut sector = now.map_or(zeros, |bytes| bytes.to_vec());
        sector[..beginning.len()].copy_from_slice(beginning);
        sector.into()
    }

    pub(super) fn punch(&mut self, stamp: u64, offset: u64, length: u64) {
        let range = offset / SECTOR_BYTES..(offset.saturating_add(length)) / SECTOR_BYTES;
        let filled: Vec<u64> = self
            .sectors
            .range(range)
            .filter(|(_, history)| history.now().is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in filled {
            self.set(stamp, number, None);
        }
    }

    pub(super) fn set_length(&mut self, stamp: u64, length: u64) {
        if length < self.length() {
            self.punch(stamp, length, self.length() - length);
        }
        self.lengths.push((stamp, length));
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        buffer.fill(0);
        let length = self.length();
        let end = (offset + buffer.len() as u64).min(length);
        let first = offset / SECTOR_BYTES;
        for (number, history) in self.sectors.range(first..end.div_ceil(SECTOR_BYTES).max(first)) {
            let Some(sector) = history.now() else { continue };
            let at = number * SECTOR_BYTES;
            let from = at.max(offset);
            let to = (at + SECTOR_BYTES).min(end);
            if from < to {
                let index = |value: u64| usize::try_from(value).expect("within the buffer");
                buffer[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&sector[index(from - at)..index(to - at)]);
            }
        }
    }

    pub(super) fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        let mut found: Option<(u64, u64)> = None;
        for (number, history) in self.sectors.range(offset / SECTOR_BYTES..) {
            let (start, end) = (number * SECTOR_BYTES, (number + 1) * SECTOR_BYTES);
            match &mut found {
                _ if history.now().is_none() => {}
                None => found = Some((start.max(offset), end)),
                Some((_, last)) if *last == start => *last = end,
                Some(_) => break,
            }
        }
        found
    }

    /// Changes with stamps below `before` are durable.
    pub(super) fn settle(&mut self, before: u64) {
        let covered = |stamp: u64| stamp < before && stamp != NEVER;
        self.changed.retain(|number| {
            let Some(history) = self.sectors.get_mut(number) else { return false };
            if let Some(last) = history.unsynced.iter().rposition(|(stamp, _)| covered(*stamp)) {
                history.durable = history.unsynced.drain(..=last).next_back().and_then(|(_, s)| s);
            }
            !history.unsynced.is_empty()
        });
        if let Some(last) = self.lengths.iter().rposition(|(stamp, _)| covered(*stamp)) {
            let settled = self.lengths.drain(..=last).next_back();
            self.length_durable = settled.map_or(self.length_durable, |(_, length)| length);
        }
    }

    /// A sync failed: changes with stamps below `before` stay visible, but no later sync covers
    /// them, because the system believes that they are written.
    pub(super) fn doubt(&mut self, before: u64) {
        for number in &self.changed {
            if let Some(history) = self.sectors.get_mut(number) {
                for (stamp, _) in history.unsynced.iter_mut().filter(|(stamp, _)| *stamp < before) {
                    *stamp = NEVER;
                }
            }
        }
    }

    /// Power loss: each changed sector becomes one of the values that it had since the last sync.
    pub(super) fn crash(&mut self, random: &mut StdRng, kept: f64) {
        for number in std::mem::take(&mut self.changed) {
            let Some(history) = self.sectors.get_mut(&number) else { continue };
            let unsynced = std::mem::take(&mut history.unsynced);
            if random.random_bool(kept) {
                // Mostly the last one; but a device may also have written an earlier one only.
                let last = unsynced.len() - 1;
                let chosen =
                    if random.random_bool(0.7) { last } else { random.random_range(0..=last) };
                history.durable = unsynced.into_iter().nth(chosen).and_then(|(_, sector)| sector);
            }
        }
        for (_, length) in std::mem::take(&mut self.lengths) {
            if random.random_bool(kept) {
                self.length_durable = length;
            }
        }
        let end = self.length_durable.div_ceil(SECTOR_BYTES);
        self.sectors.retain(|number, history| *number < end && history.durable.is_some());
        self.filled = self.sectors.len() as u64;
    }
}
