//! The board: what is being worked on, what waits for its next try, and what the node has been
//! told since it started.
//!
//! Invariant: two steps that could overtake each other at the node never run at the same time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::{AttachmentId, OperationId, PoolId, SnapshotId, VolumeId};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::facade::Inner;

/// One piece of work that brings the node closer to what is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    OpenPool(PoolId),
    ClosePool(PoolId),
    CreateVolume(VolumeId),
    DeleteVolume(VolumeId),
    ResizeVolume(VolumeId),
    RevertVolume(VolumeId),
    MoveVolume(VolumeId),
    /// Delete what moves have left of a volume elsewhere.
    ClearLeft(VolumeId),
    ExportVolume(VolumeId),
    /// Have nodes that came back serve a lost volume to nobody.
    Bury(VolumeId),
    /// Serve a file volume on the terms of the catalog.
    Export(VolumeId),
    CreateSnapshot(SnapshotId),
    DeleteSnapshot(SnapshotId),
    Attach(AttachmentId),
    Detach(AttachmentId),
    Fence(AttachmentId),
    CancelWork(OperationId),
    WatchMerge(OperationId),
    RestartNode(OperationId),
    EvacuateNode(OperationId),
}

impl Step {
    const fn resource(self) -> Uuid {
        match self {
            Self::OpenPool(id) | Self::ClosePool(id) => id.0,
            Self::CreateVolume(id)
            | Self::DeleteVolume(id)
            | Self::ResizeVolume(id)
            | Self::RevertVolume(id)
            | Self::MoveVolume(id)
            | Self::ClearLeft(id)
            | Self::Bury(id)
            | Self::ExportVolume(id)
            | Self::Export(id) => id.0,
            Self::CreateSnapshot(id) | Self::DeleteSnapshot(id) => id.0,
            Self::Attach(id) | Self::Detach(id) | Self::Fence(id) => id.0,
            Self::CancelWork(id)
            | Self::WatchMerge(id)
            | Self::RestartNode(id)
            | Self::EvacuateNode(id) => id.0,
        }
    }

    /// Must `next` wait until this one has ended? One step at a time for each resource; but a
    /// fence does not wait for a detach that waits for the host.
    fn holds_up(self, next: Self) -> bool {
        let cuts_through = matches!((self, next), (Self::Detach(_), Self::Fence(_)));
        self.resource() == next.resource() && !cuts_through
    }
}

#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    /// A step ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    /// By the resource that they work on: only those of one can hold each other up.
    running: HashMap<Uuid, Vec<Step>>,
    waiting: HashMap<Step, Waiting>,
    /// Steps that somebody sends himself, to hear what comes of them: not begun by the plan.
    asked: Vec<Step>,
    /// Pools, attachments and exported volumes that the node has confirmed since it started.
    confirmed: HashSet<Uuid>,
    /// All attached attachments and all exported volumes are among them.
    all_confirmed: bool,
    /// No new step is begun.
    stopped: bool,
}

impl State {
    fn runs(&self, step: Step) -> bool {
        self.running.get(&step.resource()).is_some_and(|beside| beside.contains(&step))
    }
    fn end(&mut self, step: Step) {
        if let Some(beside) = self.running.get_mut(&step.resource()) {
            beside.retain(|running| *running != step);
            if beside.is_empty() {
                self.running.remove(&step.resource());
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Waiting {
    failures: u32,
    due: Instant,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// The right to run one step; given back when dropped, even by a panic.
pub(crate) struct Claim {
    inner: Arc<Inner>,
    pub(crate) step: Step,
    /// Failures of this step in a row before this try.
    pub(crate) failures: u32,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.board.lock().end(self.step);
        self.inner.board.ended.notify_waiters();
    }
}

/// The word that a step is sent by who holds this, and not by the plan.
pub(crate) struct Asked {
    inner: Arc<Inner>,
    step: Step,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.inner.board.lock();
        if let Some(at) = state.asked.iter().position(|asked| *asked == self.step) {
            state.asked.swap_remove(at);
        }
        drop(state);
        // What was not done is the plan's again.
        self.inner.wake.notify_one();
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_confirmed(&self, id: Uuid) -> bool {
        self.lock().confirmed.contains(&id)
    }
    pub(crate) fn confirm(&self, id: Uuid) {
        self.lock().confirmed.insert(id);
    }
    pub(crate) fn forget(&self, id: Uuid) {
        self.lock().confirmed.remove(&id);
    }
    /// What was confirmed is not what is wanted any more.
    pub(crate) fn renew(&self, id: Uuid) {
        let mut state = self.lock();
        state.confirmed.remove(&id);
        state.all_confirmed = false;
    }
    pub(crate) fn forget_all(&self) {
        let mut state = self.lock();
        state.confirmed.clear();
        state.all_confirmed = false;
        state.waiting.clear();
    }
    pub(crate) fn all_confirmed(&self) -> bool {
        self.lock().all_confirmed
    }
    pub(crate) fn set_all_confirmed(&self) {
        self.lock().all_confirmed = true;
    }
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
    }
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }
    /// Does a step work on it now?
    pub(crate) fn works_on(&self, id: Uuid) -> bool {
        self.lock().running.contains_key(&id)
    }
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().running.is_empty()
    }

    /// Forget the pauses of steps that nobody asks for any more.
    pub(crate) fn keep_only(&self, steps: &[Step]) {
        let steps: HashSet<&Step> = steps.iter().collect();
        self.lock().waiting.retain(|step, _| steps.contains(step));
    }

    /// Try again after a failure.
    pub(crate) fn pause(&self, claim: &Claim) {
        let failures = claim.failures.saturating_add(1);
        let due = Instant::now() + pause_after(failures);
        self.lock().waiting.insert(claim.step, Waiting { failures, due });
    }
    /// Look again later; nothing failed.
    pub(crate) fn wait(&self, step: Step, pause: Duration) {
        let due = Instant::now() + pause;
        self.lock().waiting.insert(step, Waiting { failures: 0, due });
    }
    pub(crate) fn clear(&self, step: Step) {
        self.lock().waiting.remove(&step);
    }
    /// When the next step is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        let idle = state.waiting.iter().filter(|(step, _)| !state.runs(**step));
        idle.map(|(_, waiting)| waiting.due).min()
    }
}

impl Inner {
    /// Keep the plan from beginning a step, from before it is wanted until its end is known.
    pub(crate) fn ask(self: &Arc<Self>, step: Step) -> Asked {
        self.board.lock().asked.push(step);
        Asked { inner: Arc::clone(self), step }
    }

    /// The right to run a step, if it is due (or `now`) and nothing holds it up.
    pub(crate) fn claim(self: &Arc<Self>, step: Step, now: bool) -> Option<Claim> {
        let mut state = self.board.lock();
        let beside = state.running.get(&step.resource());
        if beside.is_some_and(|beside| beside.iter().any(|running| running.holds_up(step))) {
            return None;
        }
        let waiting = state.waiting.get(&step).copied();
        let not_due = waiting.is_some_and(|waiting| waiting.due > Instant::now());
        if !now && (state.stopped || not_due || state.asked.contains(&step)) {
            return None;
        }
        state.running.entry(step.resource()).or_default().push(step);
        let failures = waiting.map_or(0, |waiting| waiting.failures);
        Some(Claim { inner: Arc::clone(self), step, failures })
    }

    /// The same, as soon as nothing holds it up.
    pub(crate) async fn claim_soon(self: &Arc<Self>, step: Step) -> Claim {
        loop {
            let ended = self.board.ended.notified();
            tokio::pin!(ended);
            // Listening starts before looking, so that an end in between is not missed.
            ended.as_mut().enable();
            if let Some(claim) = self.claim(step, true) {
                return claim;
            }
            ended.await;
        }
    }

    /// Until no step runs.
    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.board.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.board.is_idle() {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_resource_wait_for_each_other_but_a_fence_cuts_through_a_detach() {
        let id = AttachmentId(Uuid::from_u128(1));
        let other = AttachmentId(Uuid::from_u128(2));
        assert!(Step::Attach(id).holds_up(Step::Detach(id)));
        assert!(Step::Attach(id).holds_up(Step::Fence(id)));
        assert!(Step::Fence(id).holds_up(Step::Fence(id)));
        assert!(!Step::Detach(id).holds_up(Step::Fence(id)));
        assert!(!Step::Attach(id).holds_up(Step::Attach(other)));
    }

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause_after(1), FIRST_PAUSE);
        assert_eq!(pause_after(2), FIRST_PAUSE * 2);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
