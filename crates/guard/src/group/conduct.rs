//! When a host of a group tries to have it, and when it gives it up.
//!
//! ```text
//!            wanted here                  the volume is held
//!   Idle -----------------> Contending --------------------> Owning
//!     ^                         |  not wanted any more          |  not wanted, moved away,
//!     |                         v                               |  or a preferred host is back
//!     `---- the run is over -- Leaving <------------------------'
//! ```
//!
//! A run is one life of the guard's machine. What a run leaves behind (a fence, a failure) keeps
//! the host out until a person, or a newer wish, forgives it.

use crate::End;

/// Before a host that stands behind others makes a claim, for each of them.
const SENIOR_MS: u64 = 400;
/// Before the next run after one that could not reach the volume, or could not have it.
const REST_MS: u64 = 1_000;
/// How long a preferred host must have stood ready before the group goes back to it.
const READY_MS: u64 = 5_000;

/// What is wanted of the group, as this host sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    pub generation: u64,
    /// The newest generation that forgives failures of before.
    pub forgiven: u64,
    /// It runs on one of its hosts.
    pub started: bool,
    /// Nobody starts, stops or moves anything.
    pub frozen: bool,
    /// The generation of the last move, if it names another host.
    pub moved_away: Option<u64>,
    /// The generation under which a person permitted this host to try again.
    pub permitted: Option<u64>,
    /// Go back to a preferred host that is ready.
    pub failback: bool,
}

/// What of a host's past keeps it out, by the generation under which it happened. Durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Past {
    pub fenced: Option<u64>,
    pub failed: Option<u64>,
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// Time has passed, or something else is wanted.
    Tick,
    /// The run has the volume.
    Held,
    /// The run is over. `failed`: because resources failed here.
    Over { end: End, failed: bool },
    /// A host that is preferred to this one stands ready.
    SeniorReady,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// The past is forgiven, or not: make it durable before going on.
    Remember(Past),
    /// A person permits it: the guard's record is clean again.
    Permit,
    /// Begin a run.
    Begin,
    /// Ask the run to end in good order.
    End,
}

/// Why nothing is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    NotWanted,
    Frozen,
    Fenced,
    Failed,
    /// The last run could not have the volume; the next one begins in a moment.
    Resting(End),
}

/// Where the host is with the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    Idle(Idle),
    Contending,
    /// `began`: the generation under which the volume was taken.
    Owning {
        began: u64,
    },
    Leaving,
}

/// See the module's picture.
#[derive(Clone, Debug)]
pub struct Conduct {
    course: Course,
    past: Past,
    rest: Option<(u64, End)>,
    /// Since when, and until when at the latest, a preferred host has stood ready.
    ready_ms: Option<(u64, u64)>,
}

impl Conduct {
    /// `owned`: an earlier life of this program had the volume, taken under this generation, and
    /// what runs is to be adopted.
    #[must_use]
    pub fn new(past: Past, owned: Option<u64>) -> Self {
        let course = match owned {
            Some(began) => Course::Owning { began },
            None => Course::Idle(Idle::NotWanted),
        };
        Self { course, past, rest: None, ready_ms: None }
    }

    #[must_use]
    pub fn course(&self) -> Course {
        self.course
    }

    /// Something happened, and this is wanted; what to do, in order.
    pub fn on(&mut self, now_ms: u64, wish: &Wish, happened: Happened) -> Vec<Move> {
        let mut out = Vec::new();
        match happened {
            Happened::Tick => {}
            Happened::Held if self.course == Course::Contending => {
                self.course = Course::Owning { began: wish.generation };
            }
            Happened::Held => {}
            Happened::Over { end, failed } => self.over(now_ms, wish, end, failed, &mut out),
            Happened::SeniorReady => self.senior(now_ms),
        }
        self.turn(now_ms, wish, &mut out);
        out
    }

    /// Ready is who has been so without a pause of more than a second.
    fn senior(&mut self, now_ms: u64) {
        let since_ms = match self.ready_ms {
            Some((since_ms, last_ms)) if now_ms.saturating_sub(last_ms) <= REST_MS => since_ms,
            _ => now_ms,
        };
        self.ready_ms = Some((since_ms, now_ms));
    }

    fn over(&mut self, now_ms: u64, wish: &Wish, end: End, failed: bool, out: &mut Vec<Move>) {
        let before = self.past;
        self.course = Course::Idle(Idle::NotWanted);
        self.ready_ms = None;
        match end {
            End::Lost | End::Fenced => self.past.fenced = Some(wish.generation),
            // Nobody can tell what is left: it takes a person, and both marks say so.
            End::Stuck => {
                self.past.fenced = Some(wish.generation);
                self.past.failed = Some(wish.generation);
            }
            End::Unreachable | End::Foreign | End::GaveUp => {
                self.rest = Some((now_ms + REST_MS, end));
            }
            End::Done { .. } | End::Held | End::Stopped => {}
        }
        if failed {
            self.past.failed = Some(wish.generation);
        }
        if self.past != before {
            out.push(Move::Remember(self.past));
        }
    }

    fn turn(&mut self, now_ms: u64, wish: &Wish, out: &mut Vec<Move>) {
        match self.course {
            Course::Leaving => {}
            Course::Contending if wish.started && !wish.frozen => {}
            Course::Owning { began } if !self.leaves(now_ms, wish, began) => {}
            Course::Contending | Course::Owning { .. } => {
                self.course = Course::Leaving;
                out.push(Move::End);
            }
            Course::Idle(_) => self.idle(now_ms, wish, out),
        }
    }

    fn leaves(&self, now_ms: u64, wish: &Wish, began: u64) -> bool {
        if wish.frozen {
            return false;
        }
        let ready = |(since_ms, last_ms): (u64, u64)| {
            now_ms.saturating_sub(last_ms) <= REST_MS && last_ms - since_ms >= READY_MS
        };
        !wish.started
            || wish.moved_away.is_some_and(|moved| moved > began)
            || wish.failback && self.ready_ms.is_some_and(ready)
    }

    fn idle(&mut self, now_ms: u64, wish: &Wish, out: &mut Vec<Move>) {
        if self.past.fenced.is_some_and(|at| wish.permitted.is_some_and(|by| by > at)) {
            self.past.fenced = None;
            out.extend([Move::Permit, Move::Remember(self.past)]);
        }
        if self.past.failed.is_some_and(|at| wish.forgiven > at) {
            self.past.failed = None;
            out.push(Move::Remember(self.past));
        }
        self.course = if self.past.failed.is_some() {
            Course::Idle(Idle::Failed)
        } else if self.past.fenced.is_some() {
            Course::Idle(Idle::Fenced)
        } else if !wish.started {
            Course::Idle(Idle::NotWanted)
        } else if wish.frozen {
            Course::Idle(Idle::Frozen)
        } else if let Some((_, end)) = self.rest.filter(|(until_ms, _)| now_ms < *until_ms) {
            Course::Idle(Idle::Resting(end))
        } else {
            out.push(Move::Begin);
            Course::Contending
        };
    }
}

/// How long to wait before a claim: `seniors` are the hosts that come before this one, and
/// `silent` is the owner that has not left. It is not waited for.
#[must_use]
pub fn delay_ms(seniors: &[u32], silent: Option<u32>) -> u64 {
    let ahead = seniors.iter().filter(|senior| Some(**senior) != silent).count();
    u64::try_from(ahead).unwrap_or(u64::MAX).saturating_mul(SENIOR_MS)
}
