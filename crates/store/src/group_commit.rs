//! Callers that want the same thing made durable share one piece of work.
//!
//! Invariant: a caller returns Ok only after work that *began* after its call has succeeded.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The queue of one volume's flushes.
#[derive(Default)]
pub(crate) struct GroupCommit {
    /// Calls so far.
    called: AtomicU64,
    /// Calls that finished work covers.
    covered: AtomicU64,
    busy: AtomicBool,
    changed: Notify,
}

/// The right to work; passes on when it is dropped, also by a cancelled caller.
struct Turn<'a>(&'a GroupCommit);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl GroupCommit {
    /// Return when work that began after this call is done; do it, if nobody else does.
    pub(crate) async fn run<E>(&self, work: impl AsyncFnOnce() -> Result<(), E>) -> Result<(), E> {
        let call = self.called.fetch_add(1, Ordering::AcqRel) + 1;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enlist before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            let turn = (!self.busy.swap(true, Ordering::AcqRel)).then(|| Turn(self));
            if self.covered.load(Ordering::Acquire) >= call {
                return Ok(());
            }
            if let Some(_turn) = turn {
                let covers = self.called.load(Ordering::Acquire);
                work().await?;
                self.covered.store(covers, Ordering::Release);
                return Ok(());
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn callers_share_work_that_began_after_their_call() {
        let group = GroupCommit::default();
        let runs = Cell::new(0);
        let call = || {
            group.run(async || {
                runs.set(runs.get() + 1);
                tokio::task::yield_now().await;
                Ok::<(), ()>(())
            })
        };
        let results = futures::future::join_all((0..50).map(|_| call())).await;
        assert!(results.iter().all(Result::is_ok));
        // The first began alone; the second covers all who came while it ran.
        assert_eq!(runs.get(), 2);
        call().await.unwrap();
        assert_eq!(runs.get(), 3);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_who_did_the_work_and_tried_again_by_the_next() {
        let group = GroupCommit::default();
        let runs = Cell::new(0);
        let call = || {
            group.run(async || {
                runs.set(runs.get() + 1);
                let first = runs.get() == 1;
                tokio::task::yield_now().await;
                if first { Err("broken") } else { Ok(()) }
            })
        };
        let results = futures::future::join_all((0..3).map(|_| call())).await;
        assert_eq!(results, [Err("broken"), Ok(()), Ok(())]);
        assert_eq!(runs.get(), 2);
    }
}
