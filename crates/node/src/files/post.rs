//! What each thread of the file service is at.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use env::posix::waits;

/// A thread that is at one call for so long is relieved of the others that it has read: sooner when
/// it waits for something, since one that has no processor is only behind by what others run.
const LONG_MS: u64 = 5;
const WAITS_MS: u64 = 1;

/// Where a thread says what it is at, for who looks whether it keeps up.
#[derive(Default)]
pub(super) struct Post {
    thread: i32,
    /// It is one of those that wait for sockets.
    polls: AtomicBool,
    /// The connection whose calls it runs as their reader; 0 for none.
    token: AtomicU64,
    since_ms: AtomicU64,
    /// Since when it runs a call of a connection's queue; 0 for none.
    queued_ms: AtomicU64,
}

impl Post {
    pub(super) fn of_this_thread() -> Self {
        Self { thread: waits::this_thread(), ..Self::default() }
    }
    pub(super) fn polls(&self, does: bool) {
        self.polls.store(does, Relaxed);
    }
    pub(super) fn begin_queued(&self, now_ms: u64) {
        self.queued_ms.store(now_ms.max(1), Relaxed);
    }
    pub(super) fn end_queued(&self) {
        self.queued_ms.store(0, Relaxed);
    }
    /// For how long it has been at the call that it runs.
    pub(super) fn at_call_ms(&self, now_ms: u64) -> Option<u64> {
        let queued_ms = self.queued_ms.load(Relaxed);
        let read_ms = || self.is_taken().then(|| self.since_ms.load(Relaxed));
        let since_ms = if queued_ms > 0 { Some(queued_ms) } else { read_ms() };
        since_ms.map(|since_ms| now_ms.saturating_sub(since_ms))
    }
    pub(super) fn occupy(&self, token: u64, now_ms: u64) {
        self.since_ms.store(now_ms, Relaxed);
        self.token.store(token, Release);
    }
    pub(super) fn leave(&self) {
        self.token.store(0, Release);
    }
    pub(super) fn is_long(&self, now_ms: u64) -> Option<u64> {
        let token = self.token.load(Acquire);
        let for_ms = now_ms.saturating_sub(self.since_ms.load(Relaxed));
        let waits = || for_ms > WAITS_MS && waits::is_waiting(self.thread);
        (token != 0 && (for_ms >= LONG_MS || waits())).then_some(token)
    }
    /// It should wait for sockets, and waits for something else.
    pub(super) fn is_blocked(&self) -> bool {
        self.polls.load(Relaxed) && waits::is_waiting(self.thread)
    }
    /// Somebody runs calls as their reader.
    pub(super) fn is_taken(&self) -> bool {
        self.token.load(Acquire) != 0
    }
}
