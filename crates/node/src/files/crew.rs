//! Which threads do what: as few as keep up wait for sockets, the others rest until somebody has
//! something for them.
//!
//! ```text
//!            nobody waits, and sockets are ready          sockets, run to the end
//!  resting ------------------------------------> poller <-------------------------.
//!   ^ ^  |                                       |  |  '--------------------------'
//!   | |  '-- something is queued: run it --.     |  |
//!   | '------------------------------------'<----'  |  more of them than are needed
//!   '----- stays with one connection (`stay`) <-----'  its calls come one after another
//! ```
//!
//! A second thread that waits for the same sockets would be woken for nearly every request, only to
//! find that the first had come back for it: on an idle core that costs more than the request. So
//! one waits, and takes what is there. Who looks at the clock sees when it does not keep up, because
//! a call waits for a disk or there is work for more cores, and has another one help ([`Gauge`]).
//!
//! Invariant: what is queued is run by a thread that is called for it, or by the first that is free;
//! and somebody waits for sockets, or will when the call that it is at has ended.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};

use super::connection::{Connection, lock};

/// What a thread does next.
pub(super) enum Role {
    /// Waits for sockets, and runs what comes.
    Poll,
    /// Runs something of this connection's queue.
    Run(Arc<Connection>),
    End,
}

/// How a call for a thread went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Called {
    /// One that rested comes.
    Comes,
    /// Nobody rests: there is to be one more thread.
    Start,
    /// There are as many as there may be, and all are at work.
    Busy,
}

#[derive(Default)]
struct Desk {
    /// Connections that have something queued, in turn.
    line: VecDeque<Arc<Connection>>,
    threads: usize,
    resting: usize,
    /// Of those that rest, how many were called and have not come yet.
    called: usize,
    pollers: usize,
    /// So many are to be pollers.
    wanted: usize,
    ending: bool,
}

pub(super) struct Crew {
    threads_max: usize,
    cores: usize,
    desk: Mutex<Desk>,
    bell: Condvar,
    /// Pollers that have nothing to do.
    waiting: AtomicUsize,
    /// Threads that stay with one connection each.
    staying: AtomicUsize,
    /// For so many looks nobody stays.
    crowded: AtomicU32,
}

impl Crew {
    pub(super) fn new(threads_max: usize) -> Self {
        let desk = Desk { wanted: 1, ..Desk::default() };
        let bell = Condvar::new();
        let (waiting, staying) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let crowded = AtomicU32::new(0);
        let (threads_max, desk) = (threads_max.max(1), Mutex::new(desk));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { threads_max, cores, desk, bell, waiting, staying, crowded }
    }

    pub(super) fn threads(&self) -> usize {
        lock(&self.desk).threads
    }
    /// One more thread is about to start, unless there are enough.
    pub(super) fn join(&self) -> bool {
        let mut desk = lock(&self.desk);
        let has_room = desk.threads < self.threads_max && !desk.ending;
        desk.threads += usize::from(has_room);
        has_room
    }
    /// It did not start, or has ended.
    pub(super) fn leave(&self) {
        lock(&self.desk).threads -= 1;
    }

    /// Rests until there is something to do.
    pub(super) fn next(&self) -> Role {
        let mut desk = lock(&self.desk);
        loop {
            if desk.pollers < desk.wanted && !desk.ending {
                desk.pollers += 1;
                return Role::Poll;
            }
            if let Some(connection) = desk.line.pop_front() {
                return Role::Run(connection);
            }
            if desk.ending {
                return Role::End;
            }
            desk.resting += 1;
            while desk.called == 0 && !desk.ending {
                desk = self.bell.wait(desk).expect("no panic while the lock is held");
            }
            desk.resting -= 1;
            desk.called = desk.called.saturating_sub(1);
        }
    }

    fn call(&self, desk: &mut Desk) -> Called {
        if desk.resting > desk.called {
            desk.called += 1;
            self.bell.notify_one();
            Called::Comes
        } else if desk.threads < self.threads_max && !desk.ending {
            Called::Start
        } else {
            Called::Busy
        }
    }

    /// Puts a connection into the line, and calls somebody.
    pub(super) fn list(&self, connection: &Arc<Connection>) -> Called {
        let mut desk = lock(&self.desk);
        desk.line.push_back(Arc::clone(connection));
        self.call(&mut desk)
    }
    /// Who is next in the line, and whether others stand behind it: strokes of the bell that came
    /// together wake one thread, which is to ring for the next.
    pub(super) fn take(&self) -> (Option<Arc<Connection>>, bool) {
        let mut desk = lock(&self.desk);
        (desk.line.pop_front(), !desk.line.is_empty())
    }

    /// A poller has nothing to do for now.
    pub(super) fn wait<R>(&self, how: impl FnOnce() -> R) -> R {
        self.waiting.fetch_add(1, SeqCst);
        let found = how();
        self.waiting.fetch_sub(1, SeqCst);
        found
    }
    /// Whether a poller has nothing to do.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }
    /// Whether a poller that has nothing to do is to be one no more.
    pub(super) fn is_dismissed(&self) -> bool {
        let mut desk = lock(&self.desk);
        let is_dismissed = desk.pollers > desk.wanted || desk.ending;
        desk.pollers -= usize::from(is_dismissed);
        is_dismissed
    }
    /// A poller cannot go on.
    pub(super) fn resign(&self) {
        lock(&self.desk).pollers -= 1;
    }

    /// A poller is to stay with one connection, and another waits for sockets in its place. It remains
    /// one when there is to be a thread first that could; `None`: there may be none, or others are
    /// waited for.
    pub(super) fn stay(&self) -> Option<Called> {
        let mut desk = lock(&self.desk);
        // Half of the threads are left to others.
        let is_one_more = self.staying.load(Relaxed) < self.threads_max / 2;
        if desk.ending || !is_one_more || !self.may_stay() {
            return None;
        }
        let called = self.call(&mut desk);
        if called == Called::Comes {
            desk.pollers -= 1;
            self.staying.fetch_add(1, Relaxed);
        }
        (called != Called::Busy).then_some(called)
    }
    /// How many stay with one connection each.
    #[cfg(test)]
    pub(super) fn staying(&self) -> usize {
        self.staying.load(Relaxed)
    }
    /// Who stayed does so no more.
    pub(super) fn comes_back(&self) {
        self.staying.fetch_sub(1, Relaxed);
    }
    /// Nobody is waited for who stays with another.
    pub(super) fn may_stay(&self) -> bool {
        self.crowded.load(Relaxed) == 0
    }
    /// Those that stay may keep a core busy each: half of all is left to others.
    pub(super) fn may_look(&self) -> bool {
        self.staying.load(Relaxed) <= self.cores / 2
    }

    /// Looks at the pollers, of which so many are at one call for long, and has one more or one
    /// fewer when that is due. `blocked` counts those that wait within a call.
    pub(super) fn govern(
        &self,
        gauge: &mut Gauge,
        held_up: usize,
        is_ready: impl FnOnce() -> bool,
        blocked: impl FnOnce() -> usize,
    ) -> Called {
        // This alone changes how many are wanted. What asks the kernel is done without the lock.
        let wanted = lock(&self.desk).wanted;
        let waiting = self.waiting.load(SeqCst);
        let is_late = waiting == 0 && is_ready();
        let free = wanted.saturating_sub(held_up);
        let running = || wanted.saturating_sub(blocked());
        let crowded = self.crowded.load(Relaxed);
        self.crowded.store(crowded.saturating_sub(1), Relaxed);
        match gauge.look(free, waiting, is_late, self.cores, running) {
            Due::More if wanted < self.threads_max => {
                let mut desk = lock(&self.desk);
                desk.wanted += 1;
                self.call(&mut desk)
            }
            Due::Fewer => {
                lock(&self.desk).wanted -= 1;
                Called::Comes
            }
            Due::Crowded => {
                let staying = self.staying.load(Relaxed);
                self.crowded.store(if staying > 0 { CROWDED } else { 0 }, Relaxed);
                Called::Comes
            }
            _ => Called::Comes,
        }
    }

    /// What is queued is run, then every thread ends.
    pub(super) fn end(&self) {
        lock(&self.desk).ending = true;
        self.bell.notify_all();
    }
}

/// What is due after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    More,
    Fewer,
    /// More would not help: all cores are at work.
    Crowded,
    Nothing,
}

/// Looks in a row that find sockets ready and nobody waiting, before one more is to help.
const LATE_MAX: u32 = 2;
/// So often in a row more would not help, before those that stay with one connection come back:
/// where all are on the way to stay, that is over sooner.
const PRESSED: u32 = 16;
/// Looks for which nobody stays then.
const CROWDED: u32 = 200;
/// Looks after which it is asked whether fewer would do.
const LOOKS: u32 = 64;
/// Among these, so many may have found all at work by chance: one that hands a connection to
/// another is seen beside it.
const FULL_MAX: u32 = 1;

/// How many pollers are needed, from looks at regular times. Values in, values out.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Gauge {
    late: u32,
    pressed: u32,
    looks: u32,
    full: u32,
}

impl Gauge {
    /// Of so many pollers, so many have nothing to do; `is_late`: none, and sockets are ready.
    /// `running` counts those that need a core: more of them than there are do not help.
    pub(super) fn look(
        &mut self,
        pollers: usize,
        waiting: usize,
        is_late: bool,
        cores: usize,
        running: impl FnOnce() -> usize,
    ) -> Due {
        self.looks += 1;
        self.full += u32::from(waiting == 0);
        (self.late, self.pressed) = if is_late { (self.late + 1, self.pressed) } else { (0, 0) };
        if self.late >= LATE_MAX {
            self.late = 0;
            if running() < cores {
                (self.looks, self.full) = (0, 0);
                return Due::More;
            }
            self.pressed += 1;
            if self.pressed >= PRESSED {
                self.pressed = 0;
                return Due::Crowded;
            }
        } else if self.looks >= LOOKS {
            let is_enough = self.full <= FULL_MAX;
            (self.looks, self.full) = (0, 0);
            if pollers > 1 && (is_enough || (pollers > cores && running() > cores)) {
                return Due::Fewer;
            }
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_comes_for_who_does_not_keep_up_and_goes_when_it_is_not_needed() {
        let mut gauge = Gauge::default();
        let mut look = |pollers, waiting, is_late, running| {
            gauge.look(pollers, waiting, is_late, 4, || running)
        };
        // At work at every look, but nothing waits for it: one connection that is busy.
        assert!((0..1000).all(|_| look(1, 0, false, 1) == Due::Nothing));
        // Once is chance.
        assert_eq!(look(1, 0, true, 1), Due::Nothing);
        assert_eq!(look(1, 0, false, 1), Due::Nothing);
        assert_eq!(look(1, 0, true, 1), Due::Nothing);
        assert_eq!(look(1, 0, true, 1), Due::More);
        // Both are needed now and then.
        let needed = |look: u32| usize::from(!look.is_multiple_of(10));
        assert!((0..1000).all(|turn| look(2, needed(turn), false, 2) == Due::Nothing));
        // One always waits.
        let fewer = (0..2 * LOOKS).filter(|_| look(2, 1, false, 1) == Due::Fewer).count();
        assert!((1..=2).contains(&fewer), "{fewer}");
        assert!((0..1000).all(|_| look(1, 1, false, 0) == Due::Nothing), "nobody is left");
        // More than there are cores help when they wait for a disk, and only then.
        let crowded: Vec<_> = (0..1000).map(|_| look(4, 0, true, 4)).collect();
        assert!(crowded.iter().all(|due| matches!(due, Due::Crowded | Due::Nothing)));
        let moment = usize::try_from(PRESSED * LATE_MAX).unwrap() - 1;
        assert!(crowded[..moment].iter().all(|due| *due == Due::Nothing), "not for a moment");
        assert_eq!(crowded.iter().filter(|due| **due == Due::Crowded).count(), 1000 / (moment + 1));
        assert!((0..LATE_MAX).any(|_| look(4, 0, true, 3) == Due::More));
        assert!((0..2 * LOOKS).any(|_| look(5, 0, true, 5) == Due::Fewer));
    }

    #[test]
    fn as_many_are_called_as_there_is_to_do_and_none_twice() {
        let crew = Arc::new(Crew::new(3));
        let (told, tells) = std::sync::mpsc::channel();
        let start = |poller: bool| {
            assert!(crew.join());
            let (mine, told) = (Arc::clone(&crew), told.clone());
            let thread = std::thread::spawn(move || {
                let role = mine.next();
                assert_eq!(matches!(role, Role::Poll), poller);
                mine.leave();
                told.send(()).unwrap();
            });
            while poller && lock(&crew.desk).pollers == 0 {
                std::thread::yield_now();
            }
            thread
        };
        let threads = [start(true), start(false), start(false)];
        tells.recv().unwrap();
        while lock(&crew.desk).resting < 2 {
            std::thread::yield_now();
        }
        let mut desk = lock(&crew.desk);
        assert_eq!(crew.call(&mut desk), Called::Comes);
        assert_eq!(crew.call(&mut desk), Called::Comes);
        // Both are on their way, and there is room since the first has left.
        assert_eq!(crew.call(&mut desk), Called::Start);
        desk.ending = true;
        assert_eq!(crew.call(&mut desk), Called::Busy);
        drop(desk);
        crew.end();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
