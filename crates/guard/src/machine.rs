//! The takeover machine.
//!
//! ```text
//!                silent, vacant or no owner            shown as the holder, and nothing
//!                                                      of the one before can land
//!   Waiting ------------------------------> Claiming ----------------------------> Holding
//!      ^                                       |                                   |  |  |
//!      `--- another one won, or it is alive ---'                                   |  |  |
//!                                                    the reservation is lost, or   |  |  |
//!   Over <---- the command has ended ---- Stopping <-- asked to stop --------------'  |  |
//!     ^                                      |  ^---- unreachable for too long -------'  |
//!     |                                      v                                           |
//!     `------ the key says "vacant" ---- Vacating <------- the command ended by itself --'
//! ```
//!
//! Whatever it sends, it believes only READ FULL STATUS about who owns the volume, and only GOOD
//! about what can land no more. So a lost answer costs time and never safety.
//!
//! A claim is a compare-and-swap in the target: PREEMPT AND ABORT names the key that was seen as
//! the owner's, and no key is used twice, so of two challengers one finds it gone. No vote, no
//! third party and no clock that two hosts share is needed for that.
//!
//! A challenger registers, looks, and only then strikes. An owner that was silent goes on only when
//! it sees no other registration. The target does one command after the other, so that of an owner
//! that comes back and a challenger that decides at least one sees the other, however late their
//! messages come.
//!
//! Whatever runs is frozen while the volume does not show this host as the owner, also what is
//! ending in good order: it takes its time, and another host may be the owner by then. A frozen
//! owner that is asked to stop waits for the volume first.

use crate::terms::{
    Action, Advice, Answer, End, Input, Liveness, Request, Seen, Settings, Task, Why,
};
use crate::{Key, Standing, State};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Running,
    Frozen,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Waiting,
    Claiming,
    Holding(Service),
    Stopping { why: Why, kill_ms: u64, killed: bool, service: Service },
    Vacating { end: End, until_ms: u64 },
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    request: Request,
    at_ms: u64,
    /// Whether something was unproven before a preempt was sent.
    undrained: bool,
}

/// How long a good end tries to tell the volume that nobody runs any more.
const VACATE_MS: u64 = 3_000;
/// What an owner is given, besides `takeover_ms`, that the target has not heard since it began: its
/// session comes back when it has noticed, and a restart of the target is to move nothing.
const UNHEARD_MS: u64 = 2_000;
/// How long a path that may yet be registered is waited for: by a claim, for nobody else can have the
/// volume, and by a host that could claim and does not.
const BARRED_MS: u64 = 3_000;

/// One host's guard of one volume; see the module's picture.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    advice: Advice,
    key: Key,
    standing: Standing,
    phase: Phase,
    asked: Option<Asked>,
    look_ms: u64,
    born_ms: u64,
    stop: bool,
    /// When the request was sent whose answer last showed this host as the holder.
    confirmed_ms: u64,
    /// GOOD came for the request that took the volume.
    proven: bool,
    /// A preempt was sent whose GOOD did not come: what it aborts may still land.
    undrained: bool,
    admitted: bool,
    /// A path keeps it from starting.
    barred: bool,
    /// Since when that matters: it claims the volume, or could.
    barred_ms: Option<u64>,
    /// Its own registration has moved the generation since the last look.
    claimed: bool,
    /// Holder and generation as last seen, when they last moved, and when they were last seen.
    watched: (Option<u64>, u32),
    /// The target had heard the owner.
    heard: bool,
    moved_ms: u64,
    seen_ms: Option<u64>,
    /// When the last request was sent that others can see, where the target tells no ages.
    signed_ms: u64,
    claimable_ms: Option<u64>,
}

impl Machine {
    /// A guard that begins at `now_ms`, on a clock that goes on while the machine is paused.
    /// `standing` is the durable record, with this run's `key` among its keys already (for
    /// [`Task::Defend`] and [`Task::Adopt`] the key is that of the run that took the volume).
    #[must_use]
    pub fn new(settings: Settings, standing: Standing, key: Key, now_ms: u64) -> Self {
        let phase = match settings.task {
            Task::Hold | Task::Attack => Phase::Waiting,
            Task::Defend => Phase::Holding(Service::Running),
            // Nobody watched over it: it goes on when it is seen to own the volume.
            Task::Adopt => Phase::Holding(Service::Frozen),
        };
        Self {
            settings,
            advice: Advice::default(),
            key,
            standing,
            phase,
            asked: None,
            look_ms: now_ms,
            born_ms: now_ms,
            stop: false,
            confirmed_ms: now_ms,
            proven: false,
            undrained: false,
            admitted: false,
            barred: false,
            barred_ms: None,
            claimed: false,
            watched: (None, 0),
            heard: false,
            moved_ms: now_ms,
            seen_ms: None,
            signed_ms: now_ms,
            claimable_ms: None,
        }
    }

    /// Something happened; what to do about it.
    pub fn on(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Tick => {}
            Input::Answer(answer) => {
                if let Some(asked) = self.asked.take() {
                    self.answered(now_ms, asked, answer, &mut out);
                }
            }
            Input::Ended { code } => self.ended(now_ms, code, &mut out),
            Input::Stuck => self.stuck(&mut out),
            Input::Stop => self.stop = true,
            Input::HeldUp => self.held_up(now_ms, &mut out),
        }
        self.turn(now_ms, &mut out);
        out
    }

    /// When to tell it that time has passed, at the latest.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        let look = if self.asked.is_none() { self.look_ms } else { u64::MAX };
        let phase = match self.phase {
            Phase::Holding(Service::Running) => self.confirmed_ms + self.settings.freeze_ms + 1,
            Phase::Holding(Service::Frozen) => self.confirmed_ms + self.settings.give_up_ms + 1,
            Phase::Stopping { why, kill_ms, killed: false, service } => match (why, service) {
                (Why::Asked, Service::Running) => {
                    kill_ms.min(self.confirmed_ms + self.settings.freeze_ms + 1)
                }
                (Why::Asked, Service::Frozen) => {
                    kill_ms.min(self.confirmed_ms + self.settings.give_up_ms + 1)
                }
                _ => kill_ms,
            },
            Phase::Vacating { until_ms, .. } => until_ms,
            Phase::Waiting => self.settings.wait_ms.map_or(u64::MAX, |wait| self.born_ms + wait),
            _ => u64::MAX,
        };
        look.min(phase)
    }

    /// What is known besides the volume's own evidence. It can only hold a claim back.
    pub fn advise(&mut self, advice: Advice) {
        self.advice = advice;
    }

    /// Whether a path keeps it from starting. It claims nothing then but what an earlier run of this
    /// host holds: an owner that is fenced for a host that cannot start is fenced for nothing.
    pub fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Other ports than the one that claims are to be registered before the command starts.
    pub(crate) fn admit(&mut self) {
        self.settings.admits = true;
    }

    /// The key of this run.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }
    /// The record as it is to be.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
    /// Whether registrations may be without an answer; see [`Standing::unanswered`].
    pub fn note(&mut self, unanswered: bool) {
        self.standing.unanswered = unanswered;
    }
    /// Whether it is about to have the volume.
    #[must_use]
    pub fn claims(&self) -> bool {
        self.phase == Phase::Claiming
    }
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// Whether the command may run now.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.phase == Phase::Holding(Service::Running)
    }

    /// Whether it goes on as the owner under the key of a run before.
    #[must_use]
    pub fn adopts(&self) -> bool {
        matches!(self.settings.task, Task::Defend | Task::Adopt)
    }

    /// Whether what runs is in other hands, and goes on when this is over.
    #[must_use]
    pub fn leaves_running(&self) -> bool {
        matches!(self.settings.task, Task::Attack | Task::Defend)
    }

    /// What time and a wish to stop bring about, and the next request.
    fn turn(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Over => return,
            Phase::Waiting if self.stop => return self.over(End::Stopped, out),
            Phase::Waiting => {
                if self.standing.state == State::Fenced {
                    return self.over(End::Fenced, out);
                }
                let waited_ms = now_ms.saturating_sub(self.born_ms);
                if self.settings.wait_ms.is_some_and(|wait| waited_ms >= wait) {
                    return self.over(End::GaveUp, out);
                }
            }
            Phase::Holding(service) => self.hold_on(now_ms, service, out),
            Phase::Stopping { killed: false, .. } => self.stop_on(now_ms, out),
            Phase::Vacating { end, until_ms } if now_ms >= until_ms => return self.over(end, out),
            _ => {}
        }
        if self.phase != Phase::Over && self.asked.is_none() && now_ms >= self.look_ms {
            let renews = matches!(self.phase, Phase::Holding(_) | Phase::Stopping { .. })
                && self.settings.liveness == Liveness::Generation;
            let request = if renews { Request::Renew(self.key) } else { Request::Look };
            self.ask(now_ms, request, out);
        }
    }

    /// What time brings about for an owner.
    fn hold_on(&mut self, now_ms: u64, service: Service, out: &mut Vec<Action>) {
        let unconfirmed_ms = now_ms.saturating_sub(self.confirmed_ms);
        // Who only watches has nothing that runs.
        let may_stop = service == Service::Running || self.settings.task == Task::Defend;
        if self.stop && may_stop {
            self.begin_stop(now_ms, Why::Asked, out);
        } else if unconfirmed_ms > self.settings.give_up_ms {
            self.begin_stop(now_ms, Why::Unreachable, out);
        } else if service == Service::Running && unconfirmed_ms > self.settings.freeze_ms {
            self.phase = Phase::Holding(Service::Frozen);
            out.push(Action::Freeze);
        }
    }

    /// What time brings about for what is ending.
    fn stop_on(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let Phase::Stopping { why, kill_ms, service, .. } = self.phase else { return };
        let unconfirmed_ms = now_ms.saturating_sub(self.confirmed_ms);
        if now_ms >= kill_ms {
            self.phase = Phase::Stopping { why, kill_ms, killed: true, service };
            out.push(Action::Kill);
        } else if why != Why::Asked {
            // It ends at once already.
        } else if unconfirmed_ms > self.settings.give_up_ms {
            self.begin_stop(now_ms, Why::Unreachable, out);
        } else if service == Service::Running && unconfirmed_ms > self.settings.freeze_ms {
            let service = Service::Frozen;
            self.phase = Phase::Stopping { why, kill_ms, killed: false, service };
            out.push(Action::Freeze);
        }
    }

    fn ask(&mut self, now_ms: u64, request: Request, out: &mut Vec<Action>) {
        self.asked = Some(Asked { request, at_ms: now_ms, undrained: self.undrained });
        if matches!(request, Request::Preempt { .. }) && self.phase == Phase::Claiming {
            self.undrained = true;
        }
        out.push(Action::Ask(request));
    }

    fn over(&mut self, end: End, out: &mut Vec<Action>) {
        self.phase = Phase::Over;
        out.push(Action::Over(end));
    }

    fn answered(&mut self, now_ms: u64, asked: Asked, answer: Answer, out: &mut Vec<Action>) {
        if answer == Answer::Failed && self.phase == Phase::Claiming && self.stop {
            return self.over(End::Stopped, out);
        }
        let moves = !matches!(asked.request, Request::Look | Request::Reset | Request::Reserve(_));
        if moves && answer == Answer::Good {
            self.signed_ms = asked.at_ms;
        }
        match (asked.request, answer) {
            (Request::Look, Answer::Seen(seen)) => return self.seen(now_ms, asked, &seen, out),
            (Request::Look, _) => {
                self.look_ms = now_ms + self.settings.beat_ms / 2;
                return;
            }
            (Request::Preempt { victim, .. }, Answer::Good) if self.phase == Phase::Claiming => {
                self.undrained = asked.undrained;
                // Of a victim that had not finished its own claim it proves nothing: there may be
                // writes under way of the one that it had preempted.
                let finished = Key::of(victim).is_some_and(|key| !key.is_claiming());
                // Nor of an earlier run of this host by several paths: what that had sent by those
                // whose registration this run has replaced is not what the preempt aborts.
                let replaced = Key::of(victim).is_some_and(|key| {
                    key.host() == self.key.host() && (key.is_by_paths() || self.key.is_by_paths())
                });
                let proves = finished && !replaced;
                self.proven |= self.watched.0 == Some(victim) && proves;
            }
            // Nobody held it, so there is nobody whose commands could be left.
            (Request::Reserve(_), Answer::Good) => self.proven = true,
            (Request::Reset, Answer::Good) => {
                (self.proven, self.undrained) = (true, false);
            }
            (Request::Admit(_), Answer::Good) => self.admitted = true,
            (Request::Admit(_), Answer::Failed) if self.is_barred(now_ms) => {
                return self.vacate(now_ms, End::Unreachable, out);
            }
            (Request::Renew(_), Answer::Good | Answer::Conflict) => {
                return self.ask(now_ms, Request::Look, out);
            }
            // The look that follows decides: what was seen before the registration is too old.
            (Request::Claim(_), Answer::Good) => self.claimed = true,
            (Request::Vacate(_), Answer::Good | Answer::Conflict) => {
                if let Phase::Vacating { end, .. } = self.phase {
                    return self.vacated(end, out);
                }
            }
            (_, Answer::Failed) => {
                self.look_ms = now_ms + self.settings.beat_ms / 2;
                return;
            }
            _ => {}
        }
        self.look_ms = now_ms;
    }

    fn is_barred(&mut self, now_ms: u64) -> bool {
        let since_ms = *self.barred_ms.get_or_insert(now_ms);
        let long = now_ms.saturating_sub(since_ms) >= BARRED_MS;
        long && self.key.is_by_paths() && self.phase == Phase::Claiming
    }

    fn claim_of(&self, holder: Option<u64>) -> Request {
        match holder {
            Some(victim) => Request::Preempt { own: self.key.claiming(), victim },
            None => Request::Reserve(self.key),
        }
    }

    fn seen(&mut self, now_ms: u64, asked: Asked, seen: &Seen, out: &mut Vec<Action>) {
        self.watch(now_ms, asked, seen);
        match self.phase {
            Phase::Waiting => self.seen_waiting(now_ms, asked, seen, out),
            Phase::Claiming => self.seen_claiming(now_ms, asked, seen, out),
            Phase::Holding(service) => {
                if seen.holder != Some(self.key.number()) {
                    return self.begin_stop(now_ms, Why::Lost, out);
                }
                if self.seen_own(now_ms, asked, seen, service, out) {
                    self.phase = Phase::Holding(Service::Running);
                }
            }
            Phase::Stopping { why: Why::Lost, .. } => {}
            Phase::Stopping { why, kill_ms, killed, service } => {
                if seen.holder != Some(self.key.number()) {
                    self.phase = Phase::Stopping { why: Why::Lost, kill_ms, killed, service };
                    out.push(Action::Terminate(Why::Lost));
                    self.remember(State::Fenced, out);
                    self.look_ms = u64::MAX;
                } else if self.seen_own(now_ms, asked, seen, service, out) {
                    let service = Service::Running;
                    self.phase = Phase::Stopping { why, kill_ms, killed, service };
                }
            }
            Phase::Vacating { end, .. } => {
                let own = [self.key.number(), self.key.claiming().number()];
                if seen.holder.is_some_and(|holder| own.contains(&holder)) {
                    self.ask(now_ms, Request::Vacate(self.key), out);
                } else {
                    self.vacated(end, out);
                }
            }
            Phase::Over => {}
        }
    }

    /// A host that was paused itself has not watched: what it saw before says nothing about how
    /// long the other one has been silent.
    fn watch(&mut self, now_ms: u64, asked: Asked, seen: &Seen) {
        let gap_ms = self.seen_ms.map_or(u64::MAX, |before| now_ms.saturating_sub(before));
        let (holder, before) = self.watched;
        let own = self.claimed && seen.generation == before.wrapping_add(1);
        self.claimed = false;
        let moved = holder != seen.holder || (seen.generation != before && !own);
        // The target has begun anew, whatever else it shows: the owner is given its time again.
        let unheard = self.heard && seen.age_ms.is_none();
        self.heard = seen.age_ms.is_some();
        if moved || unheard || gap_ms > self.settings.takeover_ms / 2 {
            self.moved_ms = now_ms;
        }
        self.watched = (seen.holder, seen.generation);
        self.seen_ms = Some(asked.at_ms);
    }

    fn seen_waiting(&mut self, now_ms: u64, asked: Asked, seen: &Seen, out: &mut Vec<Action>) {
        let mine = seen.holder.is_some_and(|holder| self.is_mine(holder));
        if self.standing.state == State::Running && !mine {
            // Somebody took the volume while nobody watched over it here.
            self.remember(State::Fenced, out);
            return self.over(End::Fenced, out);
        }
        if seen.keys.iter().any(|key| Key::of(*key).is_none()) {
            return self.over(End::Foreign, out);
        }
        if !self.may_claim(now_ms, asked, seen) {
            if self.has_waited_barred(now_ms) {
                return self.over(End::Unreachable, out);
            }
            self.look_ms = asked.at_ms + self.settings.beat_ms / 2;
            return;
        }
        self.phase = Phase::Claiming;
        (self.proven, self.admitted, self.barred_ms) = (false, false, None);
        self.seen_claiming(now_ms, asked, seen, out);
    }

    fn seen_claiming(&mut self, now_ms: u64, asked: Asked, seen: &Seen, out: &mut Vec<Action>) {
        let (own, claiming) = (self.key.number(), self.key.claiming().number());
        if seen.holder != Some(own) && seen.holder != Some(claiming) {
            if !self.may_claim(now_ms, asked, seen) {
                // Another one won, or the owner is alive. The registration stays: the owner
                // removes it, and giving it up here could give up the volume with it, should an
                // answer that never came have been GOOD.
                self.phase = Phase::Waiting;
                self.look_ms = asked.at_ms + self.settings.beat_ms;
                return;
            }
            let registered = seen.keys.contains(&claiming);
            let next = self.claim_of(seen.holder);
            let request = if registered { next } else { Request::Claim(self.key) };
            self.proven = false;
            return self.ask(now_ms, request, out);
        }
        let finished = seen.holder == Some(own);
        let stranger = seen.keys.iter().find(|key| **key != own && **key != claiming);
        if let Some(victim) = stranger {
            // Under these types every registrant may write, so there must be no other.
            let own = if finished { self.key } else { self.key.claiming() };
            self.ask(now_ms, Request::Preempt { own, victim: *victim }, out);
        } else if self.undrained || !self.proven {
            self.ask(now_ms, Request::Reset, out);
        } else if !finished {
            self.ask(now_ms, Request::Prove(self.key), out);
        } else if self.settings.admits && !self.admitted {
            self.ask(now_ms, Request::Admit(self.key), out);
        } else if now_ms.saturating_sub(self.sign_of_life(asked, seen)) > self.settings.freeze_ms {
            // Paused since it asked: much may have happened.
            match self.settings.liveness {
                Liveness::Ages => self.look_ms = asked.at_ms + self.settings.beat_ms / 2,
                Liveness::Generation => self.ask(now_ms, Request::Renew(self.key), out),
            }
        } else {
            self.own(now_ms, asked, seen, out);
        }
    }

    fn own(&mut self, now_ms: u64, asked: Asked, seen: &Seen, out: &mut Vec<Action>) {
        self.confirmed_ms = self.sign_of_life(asked, seen);
        self.look_ms = asked.at_ms + self.settings.beat_ms;
        if self.stop {
            return self.vacate(now_ms, End::Stopped, out);
        }
        self.standing.keys = vec![self.key];
        self.remember(State::Running, out);
        if self.settings.task == Task::Attack {
            return self.over(End::Held, out);
        }
        self.phase = Phase::Holding(Service::Running);
        out.push(Action::Start);
    }

    /// The volume shows this host as the owner. Whether what was frozen goes on.
    fn seen_own(
        &mut self,
        now_ms: u64,
        asked: Asked,
        seen: &Seen,
        service: Service,
        out: &mut Vec<Action>,
    ) -> bool {
        self.confirmed_ms = self.confirmed_ms.max(self.sign_of_life(asked, seen));
        self.look_ms = asked.at_ms + self.settings.beat_ms;
        let fresh = self.is_confirmed(now_ms);
        let stranger = seen.keys.iter().find(|key| **key != self.key.number());
        let thaws = service == Service::Frozen && fresh && stranger.is_none();
        if thaws {
            out.push(Action::Thaw);
        }
        // An owner that lives disarms a challenger.
        if let Some(victim) = stranger.filter(|_| fresh) {
            self.ask(now_ms, Request::Preempt { own: self.key, victim: *victim }, out);
        }
        thaws
    }

    fn is_confirmed(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.confirmed_ms) <= self.settings.freeze_ms
    }

    /// Since when a challenger may count this host as silent, at the earliest. The holder's age
    /// counts even for the owner itself: it grows when the holder is an initiator port that this
    /// host does not speak through any more, or not since the target began.
    fn sign_of_life(&self, asked: Asked, seen: &Seen) -> u64 {
        match self.settings.liveness {
            Liveness::Ages => seen.age_ms.map_or(0, |age_ms| asked.at_ms.saturating_sub(age_ms)),
            Liveness::Generation => self.signed_ms,
        }
    }

    fn begin_stop(&mut self, now_ms: u64, why: Why, out: &mut Vec<Action>) {
        if self.settings.task == Task::Defend {
            let end = match why {
                Why::Asked => End::Stopped,
                Why::Lost => End::Lost,
                Why::Unreachable => End::Unreachable,
            };
            if why == Why::Lost {
                self.remember(State::Fenced, out);
            }
            return self.over(end, out);
        }
        let kill_ms = now_ms + self.settings.stop_ms;
        // Whoever is told to end is thawed for that.
        let service = Service::Running;
        self.phase = Phase::Stopping { why, kill_ms, killed: false, service };
        // There is nothing more to learn of a volume that is lost.
        self.look_ms = if why == Why::Lost { u64::MAX } else { now_ms + self.settings.beat_ms };
        out.push(Action::Terminate(why));
        if why == Why::Lost {
            self.remember(State::Fenced, out);
        }
    }

    fn ended(&mut self, now_ms: u64, code: u8, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Holding(_) | Phase::Stopping { why: Why::Asked, .. } => {
                self.vacate(now_ms, End::Done { code }, out);
            }
            Phase::Stopping { why: Why::Lost, .. } => self.over(End::Lost, out),
            // Out of reach was one path: the next host need not wait.
            Phase::Stopping { why: Why::Unreachable, .. } if self.is_confirmed(now_ms) => {
                self.vacate(now_ms, End::Unreachable, out);
            }
            // The record says `running`: whoever starts next finds out whether it was lost.
            Phase::Stopping { why: Why::Unreachable, .. } => self.over(End::Unreachable, out),
            _ => {}
        }
    }

    /// Nobody knows when what is written goes on: others are to have the volume.
    fn held_up(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Holding(_) | Phase::Stopping { why: Why::Asked, .. } => {
                self.begin_stop(now_ms, Why::Unreachable, out);
            }
            _ => {}
        }
    }

    /// What may be left could write as soon as a key of this host is registered again.
    fn stuck(&mut self, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Holding(_) | Phase::Stopping { .. }) {
            self.remember(State::Fenced, out);
            self.over(End::Stuck, out);
        }
    }

    /// The key stays in the record until the volume says "vacant": if it never does, the next run
    /// must know it as its own, for its looks keep the holder's age young.
    fn vacate(&mut self, now_ms: u64, end: End, out: &mut Vec<Action>) {
        self.remember(State::Clean, out);
        self.phase = Phase::Vacating { end, until_ms: now_ms + VACATE_MS };
        if self.asked.is_none() {
            self.ask(now_ms, Request::Vacate(self.key), out);
        } else {
            self.look_ms = now_ms;
        }
    }

    fn vacated(&mut self, end: End, out: &mut Vec<Action>) {
        self.standing.keys.clear();
        self.remember(State::Clean, out);
        self.over(end, out);
    }

    fn remember(&mut self, state: State, out: &mut Vec<Action>) {
        self.standing.state = state;
        out.push(Action::Remember(self.standing.clone()));
    }

    /// An earlier run of this host, whose command is known to run no more.
    fn is_mine(&self, number: u64) -> bool {
        let Some(number) = Key::of(number) else { return false };
        number.is_of(self.key) || self.standing.keys.iter().any(|key| number.is_of(*key))
    }

    fn may_claim(&mut self, now_ms: u64, asked: Asked, seen: &Seen) -> bool {
        let takeover_ms = self.settings.takeover_ms;
        if now_ms.saturating_sub(asked.at_ms) > takeover_ms / 2 {
            self.barred_ms = None;
            return false;
        }
        let watched_ms = now_ms.saturating_sub(self.moved_ms);
        let free = match seen.holder.map(|number| (number, Key::of(number))) {
            None => true,
            Some((number, _)) if self.is_mine(number) => true,
            Some((_, None)) => false,
            Some((_, Some(key))) if key.is_vacant() => true,
            Some(_) if !self.advice.strikes => false,
            Some(_) => match (self.settings.liveness, seen.age_ms) {
                (Liveness::Ages, Some(age_ms)) => age_ms >= takeover_ms,
                (Liveness::Ages, None) => watched_ms >= takeover_ms + UNHEARD_MS,
                (Liveness::Generation, _) => watched_ms >= takeover_ms,
            },
        };
        if !free || self.advice.waits {
            (self.claimable_ms, self.barred_ms) = (None, None);
            return false;
        }
        let since_ms = *self.claimable_ms.get_or_insert(now_ms);
        let waited =
            now_ms.saturating_sub(since_ms) >= self.settings.delay_ms + self.advice.delay_ms;
        // What an earlier run holds nobody else would take from a host that speaks.
        let mine = seen.holder.filter(|number| self.is_mine(*number)).and_then(Key::of);
        let bars = waited && self.barred && mine.is_none_or(Key::is_vacant);
        if bars {
            self.barred_ms.get_or_insert(now_ms);
        } else if self.phase == Phase::Waiting {
            self.barred_ms = None;
        }
        waited && !bars
    }

    /// It could have had the volume for long, but for a path: somebody has to hear of that.
    fn has_waited_barred(&self, now_ms: u64) -> bool {
        self.barred_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= BARRED_MS)
    }
}
