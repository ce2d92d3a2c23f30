//! The ring's slots and queues; knows nothing of futures but their wakers.
//!
//! A slot's life:
//!
//! ```text
//!   free -> ready -> in flight -> finished -> free        (result taken by the future)
//!            ^  \-> gated  |  \-> free                    (future dropped: nobody to tell)
//!            +-----+-------+  short transfer, or the gate opened
//! ```

// Submitting entries is unsafe: their memory must outlive them.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use io_uring::{IoUring, cqueue};

use super::job::{Job, Output, Verdict};

/// Run the kernel's deferred completion work on entering (IORING_ENTER_GETEVENTS).
const GET_EVENTS: u32 = 1;

enum Slot {
    Free,
    Running {
        /// `None` only while an answer is being worked out.
        job: Option<Job>,
        waker: Option<Waker>,
        /// The future is gone.
        abandoned: bool,
    },
    Finished(io::Result<Output>),
}

/// What a turn leaves to be done outside of the borrow.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) wakers: Vec<Waker>,
    /// Finished jobs, and results that nobody waits for: only to be dropped.
    pub(super) leftovers: Vec<(Option<Job>, Option<io::Result<Output>>)>,
}

pub(super) struct Core {
    ring: IoUring,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// To be submitted, oldest first.
    ready: VecDeque<usize>,
    /// Wait until direct writes of their file are through.
    gated: Vec<usize>,
    /// In the kernel, or in the submission queue.
    in_flight: usize,
    in_flight_max: usize,
    settled: Settled,
}

impl Core {
    pub(super) fn new(ring: IoUring) -> Self {
        let in_flight_max = usize::try_from(ring.params().cq_entries()).unwrap_or(usize::MAX);
        Self {
            ring,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            gated: Vec::new(),
            in_flight: 0,
            in_flight_max,
            settled: Settled::default(),
        }
    }

    pub(super) fn insert(&mut self, job: Job) -> usize {
        let slot = Slot::Running { job: Some(job), waker: None, abandoned: false };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.ready.push_back(index);
        index
    }

    /// The result, if the job is finished; else the waker is kept.
    pub(super) fn poll_slot(&mut self, index: usize, cx: &Waker) -> Option<io::Result<Output>> {
        if let Slot::Running { waker, .. } = &mut self.slots[index] {
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx)) {
                *waker = Some(cx.clone());
            }
            return None;
        }
        self.take_result(index)
    }

    fn take_result(&mut self, index: usize) -> Option<io::Result<Output>> {
        match std::mem::replace(&mut self.slots[index], Slot::Free) {
            Slot::Finished(result) => {
                self.free.push(index);
                Some(result)
            }
            other => {
                self.slots[index] = other;
                None
            }
        }
    }

    /// The future is gone. The job runs on; a finished result comes back to be dropped.
    pub(super) fn abandon(&mut self, index: usize) -> Option<io::Result<Output>> {
        if let Slot::Running { abandoned, waker, .. } = &mut self.slots[index] {
            *abandoned = true;
            *waker = None;
            return None;
        }
        self.take_result(index)
    }

    /// Submit what is ready, settle what is finished, until there is nothing of either.
    pub(super) fn turn(&mut self, driver: &Waker) -> Settled {
        // What completes while we look is seen by looking; no event needed.
        self.ring.completion().disable_eventfd();
        self.ready.extend(self.gated.drain(..));
        loop {
            self.fill(driver);
            let Some(drained) = self.enter_and_drain(driver) else { break };
            if drained == 0 && !self.has_work() && self.is_quiet(driver) {
                break;
            }
        }
        self.ring.completion().enable_eventfd();
        std::mem::take(&mut self.settled)
    }

    /// How many completions were settled; `None` when the kernel wants to be asked later.
    fn enter_and_drain(&mut self, driver: &Waker) -> Option<usize> {
        let entered = self.enter(0);
        let drained = self.drain();
        if let Err(why) = entered {
            // EBUSY and EAGAIN: the kernel is short of something and wants us to drain first.
            tracing::debug!("io_uring_enter will be tried again: {why}");
            driver.wake_by_ref();
            return None;
        }
        Some(drained)
    }

    /// Have the event descriptor told of all that comes from now on, and look once more at what
    /// came before.
    ///
    /// The kernel's mark for deferred work is only a hint: it is set after the work was queued, so
    /// that a call in between does the work and the mark stays behind, until the next work. Who
    /// waits for the mark to go may wait for ever.
    fn is_quiet(&mut self, driver: &Waker) -> bool {
        self.ring.completion().enable_eventfd();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.ring.completion().is_empty() && !self.ring.submission().taskrun() {
            return true;
        }
        let quiet = self.enter_and_drain(driver).is_none_or(|drained| drained == 0);
        if !quiet {
            self.ring.completion().disable_eventfd();
        }
        quiet
    }

    /// Give emptied lists back for the next turn.
    pub(super) fn recycle(&mut self, settled: Settled) {
        if self.settled.wakers.is_empty() && self.settled.leftovers.is_empty() {
            self.settled = settled;
        }
    }

    fn has_work(&mut self) -> bool {
        (!self.ready.is_empty() && self.in_flight < self.in_flight_max)
            || !self.ring.submission().is_empty()
    }

    /// Move ready jobs to the submission queue as far as there is room. `driver` is woken when a
    /// gated one may run.
    fn fill(&mut self, driver: &Waker) {
        let mut queue = self.ring.submission();
        while !queue.is_full() && self.in_flight < self.in_flight_max {
            let Some(index) = self.ready.pop_front() else { break };
            let Slot::Running { job: Some(job), .. } = &mut self.slots[index] else { continue };
            if !job.poll_ready(driver) {
                self.gated.push(index);
                continue;
            }
            let entry = job.entry().user_data(index as u64);
            // SAFETY: the entry's memory, vectors and descriptor belong to the job, which stays
            // in its slot until its completion is drained; all of it lives on the heap, so that
            // growing `slots` does not move it. Dropping the core waits for all completions.
            let pushed = unsafe { queue.push(&entry) };
            if pushed.is_err() {
                self.ready.push_front(index);
                break;
            }
            self.in_flight += 1;
        }
    }

    /// One system call, if there is a reason: entries to submit, completions to be worked out by
    /// the kernel, or completions to wait for.
    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        let (waiting, deferred) = {
            let queue = self.ring.submission();
            (queue.len(), queue.taskrun() || queue.cq_overflow())
        };
        if waiting == 0 && !deferred && wanted == 0 {
            return Ok(());
        }
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // SAFETY: no argument is passed with it, and the entries were argued in `fill`.
        let entered = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(waiting, wanted, GET_EVENTS, None)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Settle all completions that are there; how many.
    fn drain(&mut self) -> usize {
        let mut drained = 0;
        loop {
            let next: Option<cqueue::Entry> = self.ring.completion().next();
            let Some(entry) = next else { return drained };
            drained += 1;
            self.in_flight -= 1;
            if let Ok(index) = usize::try_from(entry.user_data()) {
                self.settle(index, entry.result());
            }
        }
    }

    fn settle(&mut self, index: usize, answer: i32) {
        let Some(Slot::Running { job, waker, abandoned }) = self.slots.get_mut(index) else {
            return;
        };
        let Some(taken) = job.take() else { return };
        match taken.completed(answer) {
            Verdict::Again(again) => {
                *job = Some(again);
                self.ready.push_back(index);
            }
            Verdict::Done(result, rest) if *abandoned => {
                self.settled.leftovers.push((rest, Some(result)));
                self.slots[index] = Slot::Free;
                self.free.push(index);
            }
            Verdict::Done(result, rest) => {
                self.settled.wakers.extend(waker.take());
                self.settled.leftovers.push((rest, None));
                self.slots[index] = Slot::Finished(result);
            }
        }
    }
}

impl Drop for Core {
    /// The kernel writes into memory that the slots own, so it must be done first; and what was
    /// started is to be carried out although nobody waits any more.
    fn drop(&mut self) {
        loop {
            self.fill(Waker::noop());
            if self.in_flight == 0 {
                // All of our own direct writes are through: only other threads' can be left.
                let Some(index) = self.gated.pop() else { return };
                if let Slot::Running { job: Some(job), .. } = &self.slots[index] {
                    job.wait_ready();
                }
                self.ready.push_back(index);
                continue;
            }
            if let Err(why) = self.enter(1) {
                let busy = matches!(why.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN));
                if !busy {
                    tracing::error!("a ring cannot wait for its last operations: {why}");
                    // Rather lose the memory than let the kernel write into another's.
                    std::mem::forget(std::mem::take(&mut self.slots));
                    return;
                }
            }
            self.drain();
            // Finished writes leave their room here, so that gated ones can go on.
            self.settled = Settled::default();
        }
    }
}
