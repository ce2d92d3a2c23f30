//! Turns: orders about one resource run one after the other, and none that was overtaken runs.
//!
//! The control plane never sends two orders about one resource at a time. But one whose answer was
//! lost may still run, or wait in a socket, when the next one comes: without turns the first could
//! undo what the second has done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use model::order::Order;
use tokio::sync::Notify;
use uuid::Uuid;

/// Of so many resources the last order is remembered. One that is older than that many others has
/// no connection any more on which it could come.
const REMEMBERED: usize = 1 << 16;

/// The start of a control plane, and the number of its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Stamp {
    pub(super) term: u64,
    pub(super) number: u64,
    /// Whose it is.
    pub(super) control: Uuid,
}

/// What an order is to others about its resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// Others wait for it.
    Usual,
    /// A fence does not wait for it.
    Detach,
    Fence,
}

/// What an order is about. None of the operator's clear: it changes nothing that an order could
/// bring back.
pub(super) const fn about(order: &Order) -> Option<(Uuid, Manner)> {
    let (id, manner) = match order {
        Order::OpenPool { pool, .. } | Order::ClosePool { pool } => (pool.0, Manner::Usual),
        Order::CreateVolume { volume, .. }
        | Order::DeleteVolume { volume, .. }
        | Order::ResizeVolume { volume, .. }
        | Order::RevertVolume { volume, .. }
        | Order::ImportImage { volume, .. }
        | Order::ExportImage { volume, .. }
        | Order::Unexport { volume, .. } => (volume.0, Manner::Usual),
        Order::Export { terms } | Order::Hold { terms } => (terms.volume.0, Manner::Usual),
        Order::CreateSnapshot { snapshot, .. } | Order::DeleteSnapshot { snapshot, .. } => {
            (snapshot.0, Manner::Usual)
        }
        Order::Attach { access } => (access.attachment.0, Manner::Usual),
        Order::Detach { attachment, .. } => (attachment.0, Manner::Detach),
        Order::Fence { attachment, .. } => (attachment.0, Manner::Fence),
        Order::ClearReservations { .. } => return None,
    };
    Some((id, manner))
}

#[derive(Default)]
struct State {
    running: HashMap<Uuid, Vec<Manner>>,
    last: HashMap<Uuid, Stamp>,
}

impl State {
    fn is_held_up(&self, resource: Uuid, manner: Manner) -> bool {
        let waits = |running: &Manner| (*running, manner) != (Manner::Detach, Manner::Fence);
        self.running.get(&resource).is_some_and(|running| running.iter().any(waits))
    }

    /// Begin, unless a later one has begun before.
    fn begin(&mut self, resource: Uuid, manner: Manner, stamp: Stamp) -> bool {
        if self.last.get(&resource).is_some_and(|last| *last >= stamp) {
            return false;
        }
        if self.last.len() >= REMEMBERED {
            let mut stamps: Vec<Stamp> = self.last.values().copied().collect();
            stamps.sort_unstable();
            let middle = stamps[REMEMBERED / 2];
            self.last.retain(|_, last| *last >= middle);
        }
        self.last.insert(resource, stamp);
        self.running.entry(resource).or_default().push(manner);
        true
    }

    fn end(&mut self, resource: Uuid, manner: Manner) {
        if let Some(running) = self.running.get_mut(&resource) {
            if let Some(at) = running.iter().position(|one| *one == manner) {
                running.swap_remove(at);
            }
            if running.is_empty() {
                self.running.remove(&resource);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Notify,
}

/// The right to carry one order out; given back when dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    resource: Uuid,
    manner: Manner,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().end(self.resource, self.manner);
        self.turns.ended.notify_waiters();
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    /// Another control plane counts from here on, whose numbers may be lower.
    pub(super) fn forget(&self) {
        self.lock().last.clear();
    }

    /// As soon as nothing holds it up; `None` for an order that was overtaken.
    pub(super) async fn turn(
        self: &Arc<Self>,
        (resource, manner): (Uuid, Manner),
        stamp: Stamp,
    ) -> Option<Turn> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Listening starts before looking, so that an end in between is not missed.
            ended.as_mut().enable();
            {
                let mut state = self.lock();
                if !state.is_held_up(resource, manner) {
                    let begun = state.begin(resource, manner, stamp);
                    drop(state);
                    return begun.then(|| Turn { turns: Arc::clone(self), resource, manner });
                }
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: Uuid = Uuid::from_u128(1);

    fn stamp(term: u64, number: u64) -> Stamp {
        Stamp { term, number, control: A }
    }

    #[tokio::test]
    async fn an_order_that_was_overtaken_does_not_run() {
        let turns = Arc::new(Turns::default());
        let usual = (A, Manner::Usual);
        drop(turns.turn(usual, stamp(1, 5)).await.expect("the first"));
        assert!(turns.turn(usual, stamp(1, 5)).await.is_none(), "twice");
        assert!(turns.turn(usual, stamp(1, 4)).await.is_none(), "late");
        assert!(turns.turn((Uuid::from_u128(2), Manner::Usual), stamp(1, 4)).await.is_some());
        drop(turns.turn(usual, stamp(2, 1)).await.expect("of a later start"));
        assert!(turns.turn(usual, stamp(1, 9)).await.is_none(), "of an earlier start");
    }

    #[tokio::test]
    async fn an_order_waits_for_the_one_before_and_a_fence_does_not_wait_for_a_detach() {
        let turns = Arc::new(Turns::default());
        let soon = Duration::from_millis(20);
        let first = turns.turn((A, Manner::Usual), stamp(1, 1)).await.expect("the first");
        let second = turns.turn((A, Manner::Detach), stamp(1, 2));
        tokio::pin!(second);
        assert!(tokio::time::timeout(soon, second.as_mut()).await.is_err(), "it waits");
        drop(first);
        let second = second.await.expect("its turn");
        let fence = turns.turn((A, Manner::Fence), stamp(1, 3)).await.expect("past the detach");
        let later = turns.turn((A, Manner::Usual), stamp(1, 4));
        tokio::pin!(later);
        drop(second);
        assert!(tokio::time::timeout(soon, later.as_mut()).await.is_err(), "the fence runs");
        drop(fence);
        assert!(later.await.is_some());
    }

    #[tokio::test]
    async fn one_that_waited_and_was_overtaken_meanwhile_does_not_run() {
        let turns = Arc::new(Turns::default());
        let usual = (A, Manner::Usual);
        let first = turns.turn(usual, stamp(1, 1)).await.expect("the first");
        let (early, late) = (turns.turn(usual, stamp(1, 2)), turns.turn(usual, stamp(1, 3)));
        tokio::pin!(early, late);
        let soon = Duration::from_millis(5);
        assert!(tokio::time::timeout(soon, late.as_mut()).await.is_err());
        drop(first);
        drop(late.await.expect("its turn"));
        assert!(early.await.is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let mut state = State::default();
        let many = REMEMBERED as u64 * 2;
        for number in 1..=many {
            assert!(state.begin(Uuid::from_u128(number.into()), Manner::Usual, stamp(1, number)));
        }
        assert!(state.last.len() <= REMEMBERED);
        assert!(state.last.contains_key(&Uuid::from_u128(many.into())));
    }
}
