//! Locks over ranges of a volume, by chunk, striped.
//!
//! Shared: ordinary writes, which may overlap each other. Exclusive: whatever must see no write
//! half done (copy-up, discard in an overlay, read-modify-write, merge, snapshot).
//!
//! Invariant: stripes are taken in rising order, so that no two holders wait for each other.
//! Reads take no lock.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::map::CHUNK_BYTES;

const STRIPES: u64 = 64;
const EXCLUSIVE: u32 = 1 << 31;

/// One stripe: how many hold it shared, and whether somebody holds or wants it exclusively.
#[derive(Default)]
struct Stripe {
    state: AtomicU32,
    changed: Notify,
    /// Only one at a time may own the `EXCLUSIVE` bit.
    owner: Mutex<()>,
}

/// The locks of one volume.
pub(crate) struct RangeLock {
    stripes: Vec<Stripe>,
}

/// Stripes held shared; released on drop.
pub(crate) struct Shared<'a> {
    lock: &'a RangeLock,
    held: u64,
}

/// Stripes held exclusively; released on drop.
pub(crate) struct Exclusive<'a> {
    _held: Vec<ExclusiveStripe<'a>>,
}

struct ExclusiveStripe<'a> {
    stripe: &'a Stripe,
    _owner: MutexGuard<'a, ()>,
}

/// The stripes that a byte range touches, as a bit set.
fn stripes_of(offset: u64, length: u64) -> u64 {
    if length == 0 {
        return 0;
    }
    let first = offset / CHUNK_BYTES;
    let count = (offset + length - 1) / CHUNK_BYTES - first + 1;
    if count >= STRIPES {
        return u64::MAX;
    }
    let run = (1u64 << count) - 1;
    run.rotate_left(u32::try_from(first % STRIPES).expect("less than 64"))
}

/// The positions of the set bits, rising.
fn positions(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(position)
    })
}

impl Stripe {
    /// The fast road is one atomic addition.
    async fn share(&self) {
        while self.state.fetch_add(1, Ordering::AcqRel) & EXCLUSIVE != 0 {
            self.unshare();
            self.wait_until(|state| state & EXCLUSIVE == 0).await;
        }
    }
    fn unshare(&self) {
        if self.state.fetch_sub(1, Ordering::AcqRel) == EXCLUSIVE | 1 {
            self.changed.notify_waiters();
        }
    }
    async fn exclude(&self) -> ExclusiveStripe<'_> {
        let owner = self.owner.lock().await;
        self.state.fetch_or(EXCLUSIVE, Ordering::AcqRel);
        // From here on the guard clears the bit, also when this future is dropped while waiting.
        let held = ExclusiveStripe { stripe: self, _owner: owner };
        self.wait_until(|state| state == EXCLUSIVE).await;
        held
    }
    async fn wait_until(&self, reached: impl Fn(u32) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enlist before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if reached(self.state.load(Ordering::Acquire)) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for ExclusiveStripe<'_> {
    fn drop(&mut self) {
        self.stripe.state.fetch_and(!EXCLUSIVE, Ordering::AcqRel);
        self.stripe.changed.notify_waiters();
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        for position in positions(self.held) {
            self.lock.stripes[position].unshare();
        }
    }
}

impl RangeLock {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }
    /// Wait until nobody holds the range exclusively.
    pub(crate) async fn shared(&self, offset: u64, length: u64) -> Shared<'_> {
        let mut guard = Shared { lock: self, held: 0 };
        for position in positions(stripes_of(offset, length)) {
            self.stripes[position].share().await;
            guard.held |= 1 << position;
        }
        guard
    }
    /// Wait until nobody else holds any part of the range.
    pub(crate) async fn exclusive(&self, offset: u64, length: u64) -> Exclusive<'_> {
        self.exclude(stripes_of(offset, length)).await
    }
    /// Wait until no write at all is running.
    pub(crate) async fn exclusive_all(&self) -> Exclusive<'_> {
        self.exclude(u64::MAX).await
    }
    async fn exclude(&self, set: u64) -> Exclusive<'_> {
        let mut held = Vec::new();
        for position in positions(set) {
            held.push(self.stripes[position].exclude().await);
        }
        Exclusive { _held: held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn ranges_name_their_stripes() {
        assert_eq!(stripes_of(0, 1), 1);
        assert_eq!(stripes_of(CHUNK_BYTES - 512, 1024), 0b11);
        assert_eq!(stripes_of(63 * CHUNK_BYTES, 2 * CHUNK_BYTES), 1 << 63 | 1);
        assert_eq!(stripes_of(5, 64 * CHUNK_BYTES), u64::MAX);
        assert_eq!(stripes_of(5, 0), 0);
        assert_eq!(positions(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
    }

    #[tokio::test]
    async fn exclusive_waits_for_shared_and_keeps_new_ones_out() {
        let lock = RangeLock::new();
        let shared = lock.shared(0, 512).await;
        let also = lock.shared(0, 512).now_or_never().expect("shared holders do not wait");
        let mut exclusive = Box::pin(lock.exclusive(0, 512));
        assert!(exclusive.as_mut().now_or_never().is_none());
        assert!(lock.shared(0, 512).now_or_never().is_none(), "a waiting exclusive goes first");
        assert!(lock.shared(CHUNK_BYTES, 512).now_or_never().is_some());
        drop(shared);
        drop(also);
        let held = exclusive.await;
        assert!(lock.shared(0, 512).now_or_never().is_none());
        drop(held);
        assert!(lock.shared(0, 512).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_nothing_locked() {
        let lock = RangeLock::new();
        let shared = lock.shared(0, 512).await;
        assert!(lock.exclusive_all().now_or_never().is_none());
        drop(shared);
        assert!(lock.exclusive_all().now_or_never().is_some());
        assert!(lock.shared(0, 1 << 30).now_or_never().is_some());
    }

    #[tokio::test]
    async fn exclusive_holders_see_no_other() {
        let lock = Rc::new(RangeLock::new());
        let inside = Rc::new(Cell::new(0i32));
        let tasks = (0..40u64).map(|task| {
            let (lock, inside) = (lock.clone(), inside.clone());
            async move {
                for round in 0..20u64 {
                    let offset = (task * 7 + round * 3) % 5 * CHUNK_BYTES;
                    if (task + round) % 3 == 0 {
                        let _held = lock.exclusive_all().await;
                        assert_eq!(inside.replace(-1), 0);
                        tokio::task::yield_now().await;
                        assert_eq!(inside.replace(0), -1);
                    } else {
                        let _held = lock.shared(offset, 2 * CHUNK_BYTES).await;
                        assert!(inside.get() >= 0);
                        inside.set(inside.get() + 1);
                        tokio::task::yield_now().await;
                        inside.set(inside.get() - 1);
                    }
                }
            }
        });
        futures::future::join_all(tasks).await;
        assert_eq!(inside.get(), 0);
    }
}
