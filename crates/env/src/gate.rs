//! Keeps direct writes and page-cache writes of one file apart.
//!
//! A direct file also has a page-cache descriptor, for pieces that the device cannot take as they
//! are. The kernel keeps the two views coherent for one operation after the other: a direct read
//! first writes dirty pages out, a direct write does that and drops the pages before and after.
//! It is not safe at the same time: a page-cache write that reads a page while a direct write to
//! the same page is on its way would later write the page's old bytes over the new ones. So the
//! writers of a file form two rooms that are never both occupied:
//!
//! ```text
//!   direct write:      nobody in or before the page-cache room?  go direct  : go page-cache
//!   page-cache write:  announce, wait until the direct room is empty, write, leave
//! ```
//!
//! Direct writers never wait (they take the other road), so the direct room always empties.
//! Reads need no room: direct reads see finished page-cache writes.
//!
//! Invariant: no page-cache write runs while a direct write of the same file runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// One page-cache writer, running or waiting, in `counts`; direct writers count in the low half.
const CACHED: u64 = 1 << 32;
const DIRECT: u64 = 1;
const DIRECT_MASK: u64 = CACHED - 1;

/// The two rooms of one file.
#[derive(Default)]
pub(crate) struct Gate {
    counts: AtomicU64,
    waiters: Mutex<Vec<Waker>>,
}

impl Gate {
    /// Enter the direct room, or learn that the page cache is the way to go.
    pub(crate) fn enter_direct(&self) -> bool {
        let before = self.counts.fetch_add(DIRECT, Ordering::SeqCst);
        if before >= CACHED {
            self.leave_direct();
            return false;
        }
        true
    }
    pub(crate) fn leave_direct(&self) {
        let before = self.counts.fetch_sub(DIRECT, Ordering::SeqCst);
        if before & DIRECT_MASK == DIRECT && before >= CACHED {
            let waiters = {
                let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiters)
            };
            waiters.into_iter().for_each(Waker::wake);
        }
    }
    /// Announce a page-cache write. It may start once [`Gate::poll_quiet`] says so.
    pub(crate) fn enter_cached(&self) {
        self.counts.fetch_add(CACHED, Ordering::SeqCst);
    }
    pub(crate) fn leave_cached(&self) {
        self.counts.fetch_sub(CACHED, Ordering::SeqCst);
    }
    /// Is the direct room empty? If not, `waker` is woken when it may be.
    pub(crate) fn poll_quiet(&self, waker: &Waker) -> bool {
        if self.is_quiet() {
            return true;
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiters.iter().any(|waiting| waiting.will_wake(waker)) {
            waiters.push(waker.clone());
        }
        // Asked again under the lock: the last direct writer may have left in between, and it
        // takes this lock after it left.
        self.is_quiet()
    }
    fn is_quiet(&self) -> bool {
        self.counts.load(Ordering::SeqCst) & DIRECT_MASK == 0
    }
    /// The same for a thread that may block.
    pub(crate) fn wait_quiet(&self) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while !self.poll_quiet(&waker) {
            std::thread::park();
        }
    }
}

/// Wakes a parked thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;

    #[test]
    fn direct_writers_take_the_other_road_while_one_writes_through_the_cache() {
        let gate = Gate::default();
        assert!(gate.enter_direct());
        gate.enter_cached();
        assert!(!gate.poll_quiet(Waker::noop()), "a direct write still runs");
        assert!(!gate.enter_direct(), "announced already");
        gate.leave_direct();
        assert!(gate.poll_quiet(Waker::noop()));
        gate.leave_cached();
        assert!(gate.enter_direct());
    }

    #[test]
    fn both_rooms_are_never_occupied_at_once() {
        let gate = Arc::new(Gate::default());
        let inside = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (gate, inside) = (gate.clone(), inside.clone());
                std::thread::spawn(move || {
                    for turn in 0..2000 {
                        let (direct, cached) = &*inside;
                        if (turn + number) % 3 != 0 && gate.enter_direct() {
                            direct.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(cached.load(Ordering::SeqCst), 0);
                            direct.fetch_sub(1, Ordering::SeqCst);
                            gate.leave_direct();
                        } else {
                            gate.enter_cached();
                            gate.wait_quiet();
                            cached.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(direct.load(Ordering::SeqCst), 0);
                            cached.fetch_sub(1, Ordering::SeqCst);
                            gate.leave_cached();
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
