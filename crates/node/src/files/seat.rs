//! On which cores a thread runs that looks for its client's next request: on any but the client's.
//!
//! The kernel had woken one beside the other, where the client could not run as long as we looked.
//!
//! Invariant: the thread may run again where it could as soon as it looks no more, and so may those
//! that it starts meanwhile, which would inherit the rest.

use std::cell::Cell;
use std::net::TcpStream;

use rustix::net::sockopt::socket_incoming_cpu;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Requests between which the client may have moved to another core.
const TURNS: u32 = 64;

thread_local! {
    /// Where this thread could run, and that without the client's core, while it keeps off.
    static KEPT: Cell<Option<(CpuSet, CpuSet)>> = const { Cell::new(None) };
}

/// For a thread that this one starts: what it runs, where this one could run before it kept off.
pub(super) fn anywhere<R>(run: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let kept = KEPT.get();
    move || {
        if let Some((all, _)) = kept {
            // One that has fewer cores runs all the same.
            let _ = sched_setaffinity(None, &all);
        }
        run()
    }
}

#[derive(Default)]
pub(super) struct Seat {
    turns: u32,
    client: Option<usize>,
}

impl Seat {
    /// A request has come. Only now the kernel's word is about the client: what comes after a reply
    /// is that reply's acknowledgement, from our own core.
    pub(super) fn note(&mut self, socket: &TcpStream) {
        if self.turns.is_multiple_of(TURNS) {
            let core = socket_incoming_cpu(socket).ok();
            self.client = core.and_then(|core| usize::try_from(core).ok());
        }
        self.turns = self.turns.wrapping_add(1);
    }

    /// Keeps off the client's core, or does so no more.
    pub(super) fn take(&self, keeps_off: bool) {
        let kept = KEPT.get();
        if !keeps_off {
            if let Some(kept) = kept {
                leave(kept);
            }
            return;
        }
        let Some(core) = self.client.filter(|core| *core < CpuSet::MAX_CPU) else { return };
        if kept.is_some_and(|(_, others)| !others.is_set(core)) {
            return;
        }
        let all = kept.map_or_else(|| sched_getaffinity(None), |(all, _)| Ok(all));
        let Ok(all) = all else { return };
        let mut others = all;
        others.unset(core);
        if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
            KEPT.set(Some((all, others)));
        }
    }
}

fn leave((all, others): (CpuSet, CpuSet)) {
    KEPT.set(None);
    // Unless somebody has set it anew meanwhile.
    if sched_getaffinity(None).is_ok_and(|now| now == others) {
        let _ = sched_setaffinity(None, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> CpuSet {
        sched_getaffinity(None).unwrap()
    }

    #[test]
    fn who_looks_keeps_off_the_core_of_its_client_and_may_then_run_anywhere_again() {
        let all = now();
        let first = |of: &CpuSet| (0..CpuSet::MAX_CPU).find(|core| of.is_set(*core)).unwrap();
        let mut seat = Seat { client: Some(first(&all)), turns: 0 };
        seat.take(false);
        assert_eq!(now(), all);
        seat.take(true);
        if all.count() > 1 {
            let others = now();
            assert_eq!((others.is_set(first(&all)), others.count()), (false, all.count() - 1));
            // A thread that was started just then kept off this core for good.
            assert_eq!(std::thread::spawn(now).join().unwrap(), others);
            assert_eq!(std::thread::spawn(anywhere(now)).join().unwrap(), all);
            // The client has moved.
            seat.client = Some(first(&others));
            seat.take(true);
            assert_eq!(now().count(), all.count() - 1);
            assert!(!now().is_set(first(&others)));
        } else {
            assert_eq!(now(), all, "there is no other");
        }
        seat.take(false);
        assert_eq!(now(), all);
        assert_eq!(std::thread::spawn(anywhere(now)).join().unwrap(), all);
    }
}
