//! What each thread of the file service is at.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use env::posix::waits;

/// A thread that is at one call for so long is relieved of the others that it has read: sooner when
/// it waits for something, since one that has no processor is only behind by what others run.
const LONG_MS: u64 = 5;
const WAITS_MS: u64 = 1;
/// Who runs so many calls between two looks, none of them for longer than a disk takes at the
/// least, waits for none of them.
const QUICK_CALLS: u64 = 5;
const QUICK: Duration = Duration::from_micros(100);

/// Where a thread says what it is at, for who looks whether it keeps up.
#[derive(Default)]
pub(super) struct Post {
    thread: i32,
    /// It is one of those that wait for sockets.
    polls: AtomicBool,
    /// The connection whose calls it runs as their reader; 0 for none.
    token: AtomicU64,
    since_ms: AtomicU64,
    /// Calls that it has begun as a reader, and how many the last look found.
    calls: AtomicU64,
    seen_calls: AtomicU64,
    /// One of them took longer than a quick one does.
    has_lingered: AtomicBool,
    /// It went from call to call between the last two looks.
    is_quick: AtomicBool,
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
        // Nobody else counts here.
        self.calls.store(self.calls.load(Relaxed).wrapping_add(1), Relaxed);
        self.token.store(token, Release);
    }
    /// The call that it was at took so long.
    pub(super) fn ran(&self, took: Duration) {
        if took > QUICK {
            self.has_lingered.store(true, Relaxed);
        }
    }
    /// A look at regular times at how quickly it goes on.
    pub(super) fn look(&self) {
        let calls = self.calls.load(Relaxed);
        let since = calls.wrapping_sub(self.seen_calls.swap(calls, Relaxed));
        let has_lingered = self.has_lingered.swap(false, Relaxed);
        self.is_quick.store(since >= QUICK_CALLS && !has_lingered, Relaxed);
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
    /// It should wait for sockets, and waits for something else. The kernel, whose answer costs as
    /// much as a call, is not asked about one that goes from call to call.
    pub(super) fn is_blocked(&self) -> bool {
        self.polls.load(Relaxed) && !self.is_quick.load(Relaxed) && waits::is_waiting(self.thread)
    }
    /// Somebody runs calls as their reader.
    pub(super) fn is_taken(&self) -> bool {
        self.token.load(Acquire) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_blocked_and_who_goes_from_call_to_call_is_not() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let waiter = std::thread::spawn(move || {
            tell.send(Post::of_this_thread()).unwrap();
            ends.recv().unwrap_err();
        });
        let post = told.recv().unwrap();
        while !waits::is_waiting(post.thread) {
            std::thread::yield_now();
        }
        post.polls(true);
        assert!(post.is_blocked());
        (0..QUICK_CALLS).for_each(|_| post.occupy(7, 1));
        post.look();
        assert!(!post.is_blocked(), "it has run calls since the look before");
        post.occupy(7, 1);
        post.look();
        assert!(post.is_blocked(), "it is at one call");
        // Quick ones, and one that waited for a disk: no thread came to help on fast disks.
        (0..QUICK_CALLS).for_each(|_| post.occupy(7, 1));
        post.ran(4 * QUICK);
        post.look();
        assert!(post.is_blocked(), "one of its calls waited");
        (0..QUICK_CALLS).for_each(|_| post.occupy(7, 1));
        post.ran(QUICK);
        post.look();
        assert!(!post.is_blocked());
        drop(end);
        waiter.join().unwrap();
    }
}
