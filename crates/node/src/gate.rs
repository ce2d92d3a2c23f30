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
//!
//! Invariant: a wait covers every command that arrived before its `close`, also those that an
//! earlier `close` has voided already and that still run. Whoever closes last may be the one who
//! promises that nothing lands any more, and the void is no excuse for a write that is under way.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// How a voided command ends towards its initiator (SAM-5 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Without a status: aborted by its own initiator, or TAS is zero.
    Silent,
    /// With TASK ABORTED: aborted for another nexus' sake while TAS is one.
    TaskAborted,
    /// With NOT READY, SANITIZE IN PROGRESS, unless it had run to its end before (SBC-4 4.11.2).
    Sanitizing,
}

/// What the `closed` field of a group holds.
const OPEN: u8 = 0;
const CLOSED_SILENT: u8 = 1;
const CLOSED_TASK_ABORTED: u8 = 2;
const CLOSED_SANITIZING: u8 = 3;

#[derive(Debug, Default)]
struct Group {
    closed: AtomicU8,
    running: AtomicUsize,
    idle: Notify,
}

/// The gate of one I_T nexus to one logical unit.
#[derive(Debug, Default)]
pub struct Gate {
    current: ArcSwap<Group>,
    /// Closed groups of which commands may still run.
    closed: Mutex<Vec<Arc<Group>>>,
}

/// A command's membership, taken when it arrives.
#[derive(Clone, Debug)]
pub struct Pass(Arc<Group>);

/// A command that runs. Dropping it counts it out.
#[derive(Debug)]
pub struct Inflight(Arc<Group>);

/// The commands that were running when the gate was closed.
#[derive(Debug)]
pub struct Draining(Vec<Arc<Group>>);

impl Gate {
    /// What a command carries from its arrival to its submission.
    #[must_use]
    pub fn pass(&self) -> Pass {
        Pass(self.current.load_full())
    }

    /// Void every pass handed out so far. Later commands pass again.
    #[must_use]
    pub fn close(&self, fate: Fate) -> Draining {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.swap(Arc::new(Group::default()));
        old.close(fate);
        // A closed group that is idle stays idle: nothing enters it any more.
        closed.retain(|group| group.running.load(SeqCst) != 0);
        closed.push(old);
        Draining(closed.clone())
    }
}

impl Group {
    fn close(&self, fate: Fate) {
        let fate = match fate {
            Fate::Silent => CLOSED_SILENT,
            Fate::TaskAborted => CLOSED_TASK_ABORTED,
            Fate::Sanitizing => CLOSED_SANITIZING,
        };
        self.closed.store(fate, SeqCst);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(SeqCst) != OPEN
    }
}

impl Pass {
    /// Count the command in; `None` when it was aborted since it arrived.
    #[must_use]
    pub fn enter(&self) -> Option<Inflight> {
        self.0.running.fetch_add(1, SeqCst);
        let inflight = Inflight(Arc::clone(&self.0));
        if self.0.is_closed() { None } else { Some(inflight) }
    }

    /// Was the command aborted since it arrived?
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.0.is_closed()
    }

    /// How the command ends, when it was aborted since it arrived.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        match self.0.closed.load(SeqCst) {
            OPEN => None,
            CLOSED_TASK_ABORTED => Some(Fate::TaskAborted),
            CLOSED_SANITIZING => Some(Fate::Sanitizing),
            _ => Some(Fate::Silent),
        }
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, SeqCst) == 1 && self.0.is_closed() {
            self.0.idle.notify_waiters();
        }
    }
}

impl Draining {
    /// Returns when every command that had entered before the gate was closed has ended.
    pub async fn wait(self) {
        for group in self.0 {
            group.wait_idle().await;
        }
    }
}

impl Group {
    async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.running.load(SeqCst) == 0 {
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
        let draining = gate.close(Fate::Silent);
        assert!(late.enter().is_none(), "arrived before the fence, submitted after it");
        assert!(gate.pass().enter().is_some(), "arrived after the fence");
        let wait = tokio::spawn(draining.wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!wait.is_finished());
        drop(running);
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_second_close_waits_for_what_the_first_still_waits_for() {
        let gate = Gate::default();
        let running = gate.pass().enter().expect("open");
        let first = tokio::spawn(gate.close(Fate::Silent).wait());
        let second = tokio::spawn(gate.close(Fate::Silent).wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!first.is_finished());
        assert!(!second.is_finished(), "a write that was under way twice voided still lands");
        drop(running);
        for wait in [first, second] {
            tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
        }
    }

    #[test]
    fn a_void_pass_knows_how_its_command_ends() {
        let gate = Gate::default();
        let (own, open) = (gate.pass(), gate.pass());
        assert_eq!(open.fate(), None);
        let _ = gate.close(Fate::Silent);
        let others = gate.pass();
        let _ = gate.close(Fate::TaskAborted);
        assert_eq!(own.fate(), Some(Fate::Silent));
        assert_eq!(others.fate(), Some(Fate::TaskAborted));
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
                let draining = gate.close(Fate::Silent);
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
