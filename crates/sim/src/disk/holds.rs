//! Operations that were submitted and are held back, so that a test can place others between.

use std::path::Path;
use std::task::Waker;

use super::Operation;

/// The next so many operations of this kind on files whose name ends like this.
struct Hold {
    operation: Operation,
    suffix: String,
    left: usize,
}

#[derive(Default)]
pub(super) struct Holds {
    rules: Vec<Hold>,
    /// Held now, and who waits for them. One without a waker was dropped: it takes effect when it
    /// is let go, because dropping does not recall an operation.
    held: Vec<(u64, Option<Waker>)>,
}

impl Holds {
    pub(super) fn add(&mut self, operation: Operation, suffix: &str, count: usize) {
        self.rules.push(Hold { operation, suffix: suffix.to_owned(), left: count });
    }

    /// An operation was submitted: hold it, if a rule says so.
    pub(super) fn submitted(&mut self, number: u64, operation: Operation, path: &Path) {
        let name = path.to_string_lossy();
        let hits = |hold: &&mut Hold| {
            hold.left > 0 && hold.operation == operation && name.ends_with(&hold.suffix)
        };
        if let Some(hold) = self.rules.iter_mut().find(hits) {
            hold.left -= 1;
            self.held.push((number, Some(Waker::noop().clone())));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Is it held? Then this is whom to wake; `None`: nobody waits any more.
    pub(super) fn wait(&mut self, number: u64, waker: Option<&Waker>) -> bool {
        let found = self.held.iter_mut().find(|(held, _)| *held == number);
        found.map(|(_, waiting)| *waiting = waker.cloned()).is_some()
    }

    /// Forget all rules and let go what is held; gives those that nobody waits for.
    pub(super) fn lift(&mut self) -> Vec<u64> {
        self.rules.clear();
        let mut orphans = Vec::new();
        for (number, waker) in self.held.drain(..) {
            match waker {
                Some(waker) => waker.wake(),
                None => orphans.push(number),
            }
        }
        orphans
    }
}
