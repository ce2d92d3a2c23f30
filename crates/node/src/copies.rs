//! What one nexus may ask about its copies at one unit: the newest under each list identifier.
//!
//! Invariant: at most [`COPIES_MAX`] are kept, and a running one is never forgotten for a new one.

use std::sync::{Mutex, MutexGuard};

use scsi::copy::{COPIES_MAX, Progress};

/// Copies by list identifier, the oldest first.
#[derive(Debug, Default)]
pub struct Copies(Mutex<Vec<Progress>>);

impl Copies {
    /// A copy begins under this identifier: false where one of that name runs, or too many run.
    pub fn begin(&self, list_id: u8) -> bool {
        let mut known = self.lock();
        let runs = |copy: &Progress| copy.ended_well.is_none();
        if known.iter().any(|copy| copy.list_id == list_id && runs(copy)) {
            return false;
        }
        known.retain(|copy| copy.list_id != list_id);
        if known.len() >= usize::from(COPIES_MAX) {
            let Some(ended) = known.iter().position(|copy| !runs(copy)) else { return false };
            known.remove(ended);
        }
        known.push(Progress::begin(list_id));
        true
    }

    /// How far the copy of this identifier has come.
    pub fn note(&self, progress: Progress) {
        if let Some(known) = self.lock().iter_mut().find(|copy| copy.list_id == progress.list_id) {
            *known = progress;
        }
    }

    /// The copy under this identifier.
    #[must_use]
    pub fn find(&self, list_id: u8) -> Option<Progress> {
        self.lock().iter().find(|copy| copy.list_id == list_id).cloned()
    }

    /// Forget all: the nexus is lost (SPC-4 6.4.1). None of them runs any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Progress>> {
        self.0.lock().expect("no panic while the lock is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_copy_keeps_its_identifier_and_ended_ones_make_room() {
        let copies = Copies::default();
        assert!(copies.begin(0));
        assert!(!copies.begin(0), "it runs");
        copies.note(Progress { ended_well: Some(true), ..Progress::begin(0) });
        for list_id in 1..COPIES_MAX {
            assert!(copies.begin(list_id));
        }
        assert!(copies.begin(COPIES_MAX), "the ended one makes room");
        assert_eq!(copies.find(0), None);
        assert!(!copies.begin(COPIES_MAX + 1), "all of them run");
        copies.clear();
        assert_eq!(copies.find(1), None);
    }
}
