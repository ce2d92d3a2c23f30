//! Counting commands in and shutting them out: what makes a fence provable.
//!
//! ```text
//!   arrival            submission                         completion
//!   gate.pass() ─────► pass.enter() ── Some(Inflight) ──► drop
//!                          │
//!                          └─ None: the gate was closed after the arrival; the command is dropped
//!
//!   gate.close() ─► every pass handed out before is void ─► Draining::wait ─► nothing is running
//! ```
//!
//! The order is what counts: `enter` first adds one to the group's count and only then looks
//! whether the group is closed; `close` first marks the group closed and only then looks at the
//! count. With sequentially consistent operations at least one of the two sees the other, so a
//! command is either refused or waited for. Commands that arrive after `close` belong to a new
//! group and never prolong the wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Group {
    closed: AtomicBool,
    running: AtomicUsize,
    idle: Notify,
}

/// The gate of one I_T nexus to one logical unit.
#[derive(Debug, Default)]
pub struct Gate {
    current: ArcSwap<Group>,
}

/// A command's membership, taken when it arrives.
#[derive(Clone, Debug)]
pub struct Pass(Arc<Group>);

/// A command that runs. Dropping it counts it out.
#[derive(Debug)]
pub struct Inflight(Arc<Group>);

/// The commands that were running when the gate was closed.
#[derive(Debug)]
pub struct Draining(Arc<Group>);

impl Gate {
    /// What a command carries from its arrival to its submission.
    #[must_use]
    pub fn pass(&self) -> Pass {
        Pass(self.current.load_full())
    }

    /// Void every pass handed out so far. Later commands pass again.
    #[must_use]
    pub fn close(&self) -> Draining {
        let old = self.current.swap(Arc::new(Group::default()));
        old.closed.store(true, SeqCst);
        Draining(old)
    }

    /// Void every pass, and all that are yet to come.
    #[must_use]
    pub fn close_for_good(&self) -> Draining {
        let shut = Group { closed: AtomicBool::new(true), ..Group::default() };
        let old = self.current.swap(Arc::new(shut));
        old.closed.store(true, SeqCst);
        Draining(old)
    }

    /// How many commands run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.current.load().running.load(SeqCst)
    }
}

impl Pass {
    /// Count the command in; `None` when it was aborted since it arrived.
    #[must_use]
    pub fn enter(&self) -> Option<Inflight> {
        self.0.running.fetch_add(1, SeqCst);
        let inflight = Inflight(Arc::clone(&self.0));
        if self.0.closed.load(SeqCst) { None } else { Some(inflight) }
    }

    /// Was the command aborted since it arrived?
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.0.closed.load(SeqCst)
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, SeqCst) == 1 && self.0.closed.load(SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

impl Draining {
    /// Returns when every command that had entered before the gate was closed has ended.
    pub async fn wait(self) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.0.running.load(SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Wait for several groups.
pub async fn wait_all(draining: Vec<Draining>) {
    for group in draining {
        group.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_refuses_old_passes_and_waits_for_those_inside() {
        let gate = Gate::default();
        let inside = gate.pass();
        let late = gate.pass();
        let running = inside.enter().expect("open");
        let draining = gate.close();
        assert!(late.enter().is_none(), "arrived before the fence, submitted after it");
        assert!(gate.pass().enter().is_some(), "arrived after the fence");
        let wait = tokio::spawn(draining.wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!wait.is_finished());
        drop(running);
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_gate_closed_for_good_stays_closed() {
        let gate = Gate::default();
        gate.close_for_good().wait().await;
        assert!(gate.pass().enter().is_none());
    }

    /// Writers on other threads race with fences. Each write marks the shared word while it runs;
    /// the fence, after its wait, must never find the mark of a command that was let in earlier.
    #[test]
    fn nothing_of_the_old_group_lands_after_the_wait() {
        let gate = Arc::new(Gate::default());
        // How many commands are between `enter` and their end, by the parity of their group.
        let inside = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let group = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                let (group, stop) = (Arc::clone(&group), Arc::clone(&stop));
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        let before = group.load(SeqCst);
                        let pass = gate.pass();
                        let after = group.load(SeqCst);
                        // Only passes whose group is certain take part.
                        if before != after || before % 2 == 1 {
                            continue;
                        }
                        if let Some(running) = pass.enter() {
                            let cell = &inside[usize::from(before / 2 % 2 == 1)];
                            cell.fetch_add(1, SeqCst);
                            std::hint::spin_loop();
                            cell.fetch_sub(1, SeqCst);
                            drop(running);
                        }
                    }
                })
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for round in 0..2_000_u64 {
                group.fetch_add(1, SeqCst);
                let draining = gate.close();
                group.fetch_add(1, SeqCst);
                draining.wait().await;
                let cell = &inside[usize::from(round % 2 == 1)];
                assert_eq!(cell.load(SeqCst), 0, "round {round}: a fenced command still runs");
            }
        });
        stop.store(true, SeqCst);
        for writer in writers {
            writer.join().unwrap();
        }
    }
}
