//! The resources of a group, from the lowest (a mount) to the highest (an address).
//!
//! ```text
//!             held                  all are up
//!   Down -------------> Starting ------------------> Up
//!    ^ `--> Adopting -----'  | ^                      |
//!    |  adopt    |           | | those below go on    | one failed, or asked to stop
//!    |           v           v |                      |
//!    |<------- Stopping <-----------------------------'
//!    |  all are   | one does not end, not even by force
//!    |  down      v
//!    |-------- Killing <----- the volume is lost, from anywhere
//!    |            | some did not end
//!    |            v
//!    `------- Insisting
//! ```
//!
//! Steps go up one by one and down one by one. Checks of resources that are up run side by side,
//! so that a slow one hides no other. An end by force is short, because what is below waits for it;
//! what has not ended by then is asked to once more when nothing waits for it, all at once and with
//! more time. Whoever does the steps ends each with exactly one
//! [`Event::Done`], soon after [`Deed::Abort`] if that was said.

use std::collections::VecDeque;
use std::mem;

/// How long an end by force may take, while what is below waits for it.
const KILL_MS: u64 = 3_000;
/// How long it may take the second time.
const INSIST_MS: u64 = 10_000;

/// Times of one resource in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    pub start_ms: u64,
    pub stop_ms: u64,
    pub check_ms: u64,
    /// From the end of a check to the next one.
    pub interval_ms: u64,
}

/// So many restarts within so long, of all resources together, before the group counts as failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub restarts: usize,
    pub window_ms: u64,
}

/// What is done to one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Start,
    Stop,
    /// Is it up?
    Check,
    /// End it whatever it takes, with nothing that waits for the volume.
    Kill,
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The guard holds the volume, and nothing runs.
    Held,
    /// The guard holds the volume, and an earlier life of this program has started the resources.
    Adopt,
    /// End in good order.
    Stop,
    /// End at once: the volume belongs to another host, or is out of reach for good.
    Lost,
    /// The volume does not answer; what runs has been frozen.
    Suspend,
    Resume,
    /// An operator wants no checks and no restarts (`true`), or wants them again.
    Frozen(bool),
    Done {
        resource: usize,
        step: Step,
        good: bool,
    },
}

/// What to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    Do {
        resource: usize,
        step: Step,
    },
    /// The step of this resource has taken too long, or is not wanted any more.
    Abort {
        resource: usize,
    },
    /// Kill every process of the group at once.
    Silence,
    /// A restart was allowed.
    Restarts {
        resource: usize,
    },
    /// All of it runs.
    Up,
    /// Nothing runs, unless it is [`Outcome::Stuck`].
    Down(Outcome),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Stopped,
    /// This one failed, and no more restarts are allowed.
    Failed {
        resource: usize,
    },
    Killed,
    /// This one cannot be ended.
    Stuck {
        resource: usize,
    },
}

/// What is shown of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Down,
    Starting,
    Up,
    Stopping,
    Killing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Restart { from: usize },
    End(Outcome),
}

/// `up`: how many are up, counted from the lowest; in `Stopping` the highest of them is being
/// stopped, in `Killing` the highest of those that are `left`. `stuck`: counts as not ended,
/// whatever it does from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Down,
    Adopting { up: usize },
    Starting { up: usize },
    Up,
    Stopping { up: usize, forced: bool, then: Then },
    Killing { left: usize, stuck: Option<usize> },
    Insisting { stuck: Option<usize> },
}

#[derive(Clone, Copy, Debug)]
struct Under {
    step: Step,
    until_ms: u64,
    aborted: bool,
    /// It was under way while everything was frozen: a bad end says nothing.
    disturbed: bool,
}

#[derive(Clone, Debug)]
struct One {
    terms: Terms,
    under: Option<Under>,
    due_ms: u64,
    /// It has not ended by force, and is asked to once more.
    insists: bool,
}

/// See the module's picture.
#[derive(Clone, Debug)]
pub struct Resources {
    ones: Vec<One>,
    limit: Limit,
    restarted_ms: VecDeque<u64>,
    phase: Phase,
    suspended_ms: Option<u64>,
    frozen: bool,
}

impl Resources {
    /// From the lowest to the highest.
    #[must_use]
    pub fn new(terms: &[Terms], limit: Limit) -> Self {
        let one = |terms: &Terms| One { terms: *terms, under: None, due_ms: 0, insists: false };
        Self {
            ones: terms.iter().map(one).collect(),
            limit,
            restarted_ms: VecDeque::new(),
            phase: Phase::Down,
            suspended_ms: None,
            frozen: false,
        }
    }

    /// Another limit counts from now on, with the restarts that there have been.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// Something happened; what to do about it.
    pub fn on(&mut self, now_ms: u64, event: Event) -> Vec<Deed> {
        let mut out = Vec::new();
        match event {
            Event::Tick => {}
            Event::Held if self.phase == Phase::Down => self.phase = Phase::Starting { up: 0 },
            Event::Adopt if self.phase == Phase::Down => self.phase = Phase::Adopting { up: 0 },
            Event::Held | Event::Adopt => {}
            Event::Stop => self.stop(&mut out),
            Event::Lost => self.kill(None, &mut out),
            Event::Suspend => self.suspend(now_ms),
            Event::Resume => self.resume(now_ms),
            Event::Frozen(frozen) => self.frozen = frozen,
            Event::Done { resource, step, good } => {
                self.done(now_ms, (resource, step), good, &mut out);
            }
        }
        self.turn(now_ms, &mut out);
        out
    }

    /// When to tell it that time has passed, at the latest.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        let checks = self.phase == Phase::Up && !self.frozen && self.suspended_ms.is_none();
        let of = |one: &One| match one.under {
            Some(under) if under.aborted => u64::MAX,
            Some(under) if self.waits_for(under.step) => under.until_ms,
            None if checks => one.due_ms,
            _ => u64::MAX,
        };
        self.ones.iter().map(of).min().unwrap_or(u64::MAX)
    }

    /// Whether what runs stands still until the volume answers.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended_ms.is_some()
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.phase {
            Phase::Down => Stage::Down,
            Phase::Adopting { .. } | Phase::Starting { .. } => Stage::Starting,
            Phase::Up => Stage::Up,
            Phase::Stopping { .. } => Stage::Stopping,
            Phase::Killing { .. } | Phase::Insisting { .. } => Stage::Killing,
        }
    }

    /// Whether this one is known to be up: all below it are, too.
    #[must_use]
    pub fn is_up(&self, resource: usize) -> bool {
        match self.phase {
            Phase::Down | Phase::Killing { .. } | Phase::Insisting { .. } => false,
            Phase::Adopting { up } | Phase::Starting { up } => resource < up,
            Phase::Up => true,
            Phase::Stopping { up, .. } => resource + 1 < up,
        }
    }

    fn waits_for(&self, step: Step) -> bool {
        self.suspended_ms.is_none() || step == Step::Kill
    }

    fn suspend(&mut self, now_ms: u64) {
        self.suspended_ms.get_or_insert(now_ms);
        for one in &mut self.ones {
            one.under.iter_mut().for_each(|under| under.disturbed = true);
        }
    }

    /// The time that everything was frozen is nobody's fault.
    fn resume(&mut self, now_ms: u64) {
        let Some(since_ms) = self.suspended_ms.take() else { return };
        let frozen_ms = now_ms.saturating_sub(since_ms);
        for one in &mut self.ones {
            one.due_ms += frozen_ms;
            if let Some(under) = one.under.as_mut().filter(|under| under.step != Step::Kill) {
                under.until_ms += frozen_ms;
            }
        }
    }

    /// How many may have something running.
    fn touched(&self) -> usize {
        match self.phase {
            Phase::Down | Phase::Insisting { .. } => 0,
            Phase::Adopting { .. } | Phase::Up => self.ones.len(),
            Phase::Starting { up } => (up + 1).min(self.ones.len()),
            Phase::Stopping { up, .. } => up,
            Phase::Killing { left, .. } => left,
        }
    }

    fn abort(&mut self, is_meant: impl Fn(usize, Step) -> bool, out: &mut Vec<Deed>) {
        for (resource, one) in self.ones.iter_mut().enumerate() {
            let Some(under) = &mut one.under else { continue };
            if !under.aborted && is_meant(resource, under.step) {
                under.aborted = true;
                out.push(Deed::Abort { resource });
            }
        }
    }

    fn stop(&mut self, out: &mut Vec<Deed>) {
        let end = Then::End(Outcome::Stopped);
        match self.phase {
            Phase::Down => out.push(Deed::Down(Outcome::Stopped)),
            Phase::Killing { .. } | Phase::Insisting { .. } => {}
            Phase::Stopping { up, forced, .. } => {
                self.phase = Phase::Stopping { up, forced, then: end };
            }
            _ => self.go_down(end, out),
        }
    }

    fn go_down(&mut self, then: Then, out: &mut Vec<Deed>) {
        self.abort(|_, step| matches!(step, Step::Start | Step::Check), out);
        self.phase = Phase::Stopping { up: self.touched(), forced: false, then };
    }

    fn kill(&mut self, stuck: Option<usize>, out: &mut Vec<Deed>) {
        if self.stage() == Stage::Killing {
            return;
        }
        out.push(Deed::Silence);
        self.abort(|_, step| step != Step::Kill, out);
        self.phase = Phase::Killing { left: self.ones.len(), stuck };
    }

    fn failed(&mut self, now_ms: u64, resource: usize, out: &mut Vec<Deed>) {
        let since_ms = now_ms.saturating_sub(self.limit.window_ms);
        self.restarted_ms.retain(|at_ms| *at_ms >= since_ms);
        let then = if self.restarted_ms.len() < self.limit.restarts {
            self.restarted_ms.push_back(now_ms);
            out.push(Deed::Restarts { resource });
            Then::Restart { from: resource }
        } else {
            Then::End(Outcome::Failed { resource })
        };
        self.go_down(then, out);
    }

    fn done(
        &mut self,
        now_ms: u64,
        (resource, step): (usize, Step),
        good: bool,
        out: &mut Vec<Deed>,
    ) {
        let Some(one) = self.ones.get_mut(resource) else { return };
        let Some(under) = one.under.take_if(|under| under.step == step) else { return };
        one.due_ms = now_ms + one.terms.interval_ms;
        let good = good && !under.aborted;
        match (self.phase, step) {
            (Phase::Killing { left, stuck }, Step::Kill) => {
                self.ones[resource].insists = !good;
                self.phase = Phase::Killing { left: left.min(resource), stuck };
            }
            (Phase::Insisting { stuck }, Step::Kill) if !good => {
                self.phase = Phase::Insisting { stuck: stuck.or(Some(resource)) };
            }
            (Phase::Starting { up }, Step::Start) if good => {
                self.phase = Phase::Starting { up: up + 1 };
            }
            (Phase::Starting { .. }, Step::Start) => self.failed(now_ms, resource, out),
            // While an operator wants no restarts, what does not run is left so.
            (Phase::Adopting { up }, Step::Check) if good || self.frozen => {
                self.phase = Phase::Adopting { up: up + 1 };
            }
            (Phase::Adopting { .. }, Step::Check) if !under.disturbed => {
                self.go_down(Then::Restart { from: resource }, out);
            }
            (Phase::Up, Step::Check) if !good && !under.disturbed && !self.frozen => {
                self.failed(now_ms, resource, out);
            }
            (Phase::Stopping { up, then, .. }, Step::Stop | Step::Kill) if good => {
                self.phase = Phase::Stopping { up: up - 1, forced: false, then };
            }
            (Phase::Stopping { up, then, .. }, Step::Stop) => {
                self.phase = Phase::Stopping { up, forced: true, then };
            }
            (Phase::Stopping { .. }, Step::Kill) => self.kill(Some(resource), out),
            _ => {}
        }
    }

    /// What time brings about, and the next steps.
    fn turn(&mut self, now_ms: u64, out: &mut Vec<Deed>) {
        let late: Vec<usize> = (0..self.ones.len())
            .filter(|at| {
                let waits = |under: &Under| self.waits_for(under.step) && under.until_ms <= now_ms;
                self.ones[*at].under.as_ref().is_some_and(waits)
            })
            .collect();
        self.abort(|resource, _| late.contains(&resource), out);
        match self.phase {
            Phase::Killing { left: 0, stuck } if self.is_quiet() => {
                self.phase = Phase::Insisting { stuck };
                for resource in 0..self.ones.len() {
                    if mem::take(&mut self.ones[resource].insists) {
                        self.step(now_ms, resource, Step::Kill, out);
                    }
                }
                self.turn(now_ms, out);
            }
            Phase::Insisting { stuck } if self.is_quiet() => {
                let killed = stuck.map(|resource| Outcome::Stuck { resource });
                self.end(killed.unwrap_or(Outcome::Killed), out);
            }
            Phase::Killing { left, .. } if left > 0 => self.step(now_ms, left - 1, Step::Kill, out),
            Phase::Killing { .. } | Phase::Insisting { .. } | Phase::Down => {}
            _ if self.suspended_ms.is_some() => {}
            Phase::Adopting { up } | Phase::Starting { up } if up == self.ones.len() => {
                self.phase = Phase::Up;
                out.push(Deed::Up);
            }
            Phase::Adopting { up } => self.step(now_ms, up, Step::Check, out),
            Phase::Starting { up } => self.step(now_ms, up, Step::Start, out),
            Phase::Up if self.frozen => {}
            Phase::Up => {
                for at in 0..self.ones.len() {
                    if self.ones[at].due_ms <= now_ms {
                        self.step(now_ms, at, Step::Check, out);
                    }
                }
            }
            Phase::Stopping { up, forced, then } => {
                let floor = if let Then::Restart { from } = then { from } else { 0 };
                match then {
                    _ if up > floor => {
                        let step = if forced { Step::Kill } else { Step::Stop };
                        self.step(now_ms, up - 1, step, out);
                    }
                    Then::Restart { from } => {
                        self.phase = Phase::Starting { up: from };
                        self.turn(now_ms, out);
                    }
                    Then::End(outcome) if self.is_quiet() => self.end(outcome, out),
                    Then::End(_) => {}
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.ones.iter().all(|one| one.under.is_none())
    }

    fn end(&mut self, outcome: Outcome, out: &mut Vec<Deed>) {
        self.phase = Phase::Down;
        self.suspended_ms = None;
        out.push(Deed::Down(outcome));
    }

    fn step(&mut self, now_ms: u64, resource: usize, step: Step, out: &mut Vec<Deed>) {
        let one = &mut self.ones[resource];
        if one.under.is_some() {
            return;
        }
        let limit_ms = match step {
            Step::Start => one.terms.start_ms,
            Step::Stop => one.terms.stop_ms,
            Step::Check => one.terms.check_ms,
            Step::Kill if matches!(self.phase, Phase::Insisting { .. }) => INSIST_MS,
            Step::Kill => KILL_MS,
        };
        let until_ms = now_ms + limit_ms;
        one.under = Some(Under { step, until_ms, aborted: false, disturbed: false });
        out.push(Deed::Do { resource, step });
    }
}
