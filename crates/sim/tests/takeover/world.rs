//! Time, the network, and what follows from what.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use guard::pair::Event as Happens;
use guard::paths::{News, PathId};
use guard::{Action, Answer, End, Input};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::checker::{Checker, Wrong};
use crate::host::{Brain, Clock, Gate, Host, Pending};
use crate::scripts::Step;
use crate::target::{Effect, Link, Op, Target, ToHost, ToTarget};

pub(crate) const BLOCKS: usize = 6;
const LOGIN_US: u64 = 600_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Guard,
    GuardWithoutDrain,
    GuardWithoutFreeze,
    ClearAndReserve,
    /// Hosts with one to three paths.
    Paths,
    /// A path is let in while the host writes.
    PathsWithoutGate,
    /// A registration without an answer counts as one that was refused.
    PathsWithoutDoubt,
    /// The record does not say that a registration may be without an answer.
    PathsWithoutNote,
}

impl Scheme {
    pub(crate) const fn has_paths(self) -> bool {
        !matches!(
            self,
            Self::Guard
                | Self::GuardWithoutDrain
                | Self::GuardWithoutFreeze
                | Self::ClearAndReserve
        )
    }
    pub(crate) const fn is_safe(self) -> bool {
        matches!(self, Self::Guard | Self::Paths)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    Wake { host: usize, at_us: u64 },
    Write { host: usize, life: u32 },
    CommandEnds { host: usize, life: u32 },
    NoAnswer { host: usize, line: usize, tag: u32 },
    NoLogin { host: usize, line: usize, session: u32 },
    Reset { host: usize, line: usize, session: u32 },
    Gate { host: usize, life: u32 },
    HealPath { host: usize, line: usize, renames: bool },
    Renamed { host: usize, old: Option<PathId>, new: PathId },
    Disturb { host: usize },
    KillGuard { host: usize, life: u32 },
    Pause { host: usize, heal_us: u64 },
    HeardAgain(Expected),
    ToTarget { link: Link, message: ToTarget },
    ToHost { link: Link, message: ToHost },
    Land { id: u64, boot: u32 },
    Restart { host: usize, life: u32 },
    Fault,
    Resume { host: usize },
    WakeGuard { host: usize },
    WakeCommand { host: usize, life: u32 },
    Adopt { host: usize },
    HealNetwork { host: usize },
    WakeTarget,
    TargetUp,
    Patrol,
    Calm,
}

/// What is to happen, in order of time. The events lie beside the heap, which moves what it sorts.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    number: u64,
}

impl Queue {
    fn push(&mut self, at_us: u64, event: Event) {
        self.number += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at_us, self.number, place)));
    }

    fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at_us, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at_us, event))
    }
}

pub(crate) struct Outcome {
    pub(crate) wrong: Option<Wrong>,
    pub(crate) takeovers: u64,
    pub(crate) landed: u64,
    /// How often which thing went wrong.
    pub(crate) faults: Faults,
    pub(crate) story: String,
}

/// A live owner at a crash of the target, which is to be the owner afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    pub(crate) host: usize,
    pub(crate) starts: u64,
    /// How many things had gone wrong until then.
    pub(crate) faults: u64,
}

pub(crate) type Faults = BTreeMap<&'static str, u64>;

pub(crate) struct World {
    pub(crate) scheme: Scheme,
    pub(crate) random: StdRng,
    pub(crate) now_us: u64,
    pub(crate) end_us: u64,
    pub(crate) calm_us: u64,
    queue: Queue,
    pub(crate) hosts: Vec<Host>,
    pub(crate) target: Target,
    pub(crate) target_paused: bool,
    pub(crate) target_down: bool,
    pub(crate) target_deferred: Vec<Event>,
    pub(crate) boot: u32,
    pub(crate) slow_writes: u32,
    pub(crate) checker: Checker,
    pub(crate) faults: Faults,
    pub(crate) ages: bool,
    arrivals: BTreeMap<(Link, bool), u64>,
    /// The one host that is left in the end, by one path.
    pub(crate) last: Option<usize>,
    pub(crate) sequence: u64,
    story: String,
}

impl World {
    pub(crate) fn new(seed: u64, scheme: Scheme) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x7a6b_e01e);
        let count = if scheme == Scheme::ClearAndReserve { 2 } else { 3 };
        let mut clock = || Clock {
            begun_us: random.random_range(0..100_000_000_000),
            skew: random.random_range(-5..=5),
            stops: random.random_bool(0.3),
            lost_us: 0,
        };
        let clocks: Vec<Clock> = (0..count).map(|_| clock()).collect();
        let ages = random.random_bool(0.6);
        let mut host = |(number, clock)| {
            let paths = if scheme.has_paths() { random.random_range(1..=3) } else { 1 };
            Host::new(number, clock, paths)
        };
        let hosts = (0..).zip(clocks).map(&mut host).collect();
        Self {
            scheme,
            random,
            now_us: 0,
            end_us: 0,
            calm_us: 0,
            queue: Queue::default(),
            hosts,
            target: Target::new(!matches!(
                scheme,
                Scheme::GuardWithoutDrain | Scheme::ClearAndReserve
            )),
            target_paused: false,
            target_down: false,
            target_deferred: Vec::new(),
            boot: 0,
            slow_writes: 0,
            checker: Checker::new(BLOCKS),
            faults: Faults::new(),
            ages,
            arrivals: BTreeMap::new(),
            last: None,
            sequence: 0,
            story: String::new(),
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        self.plan_faults();
        for host in 0..self.hosts.len() {
            self.restart(host);
        }
        if self.scheme == Scheme::ClearAndReserve {
            self.start_scripts();
        }
        self.patrol();
        while let Some((at_us, event)) = self.queue.pop() {
            if at_us > self.end_us || self.checker.wrong.is_some() {
                break;
            }
            self.now_us = at_us;
            self.happen(event);
        }
        if self.is_deserted() && self.scheme.is_safe() {
            self.tell_how_hosts_stand();
            self.checker.fail(Wrong::Nobody);
        }
        Outcome {
            wrong: self.checker.wrong,
            takeovers: self.checker.takeovers,
            landed: self.checker.landed,
            faults: self.faults,
            story: self.story,
        }
    }

    /// The first host gets the volume.
    fn start_scripts(&mut self) {
        if let Some(Brain::Scripts(scripts)) = &mut self.hosts[0].brain {
            scripts.attack(0);
            self.schedule_wake(0);
        }
    }

    pub(crate) fn at(&mut self, at_us: u64, event: Event) {
        self.queue.push(at_us, event);
    }

    /// Up to so many milliseconds.
    pub(crate) fn us(&mut self, millis: u64) -> u64 {
        self.random.random_range(1..=millis * 1000)
    }

    pub(crate) fn tell(&mut self, what: String) {
        let line = format!("{:>9.3} ms  {what}\n", self.now_us as f64 / 1000.0);
        self.story.push_str(&line);
    }

    fn happen(&mut self, event: Event) {
        if self.defers(&event) {
            return;
        }
        match event {
            Event::Wake { host, at_us } if self.hosts[host].wake_us == Some(at_us) => {
                self.hosts[host].wake_us = None;
                self.input(host, Input::Tick);
            }
            Event::Write { host, life } if life == self.hosts[host].life => self.write(host),
            Event::CommandEnds { host, life } if life == self.hosts[host].life => {
                self.command_ends(host);
            }
            Event::NoAnswer { host, line, tag } => self.no_answer(host, line, tag),
            Event::NoLogin { host, line, session } => {
                let waits = &self.hosts[host].lines[line];
                if waits.session == session && !waits.ready {
                    self.log_in(host, line);
                }
            }
            Event::Reset { host, line, session } => self.connection_is_reset(host, line, session),
            Event::Gate { host, life } if life == self.hosts[host].life => self.gate_moves(host),
            Event::Renamed { host, old, new } => {
                if let Some(old) = old {
                    self.happens(host, Happens::News(News::Gone(old)));
                }
                self.happens(host, Happens::News(News::Appeared(new)));
                self.tell_of_lines(host);
            }
            Event::Disturb { host } => self.disturbed(host),
            Event::KillGuard { host, life } if life == self.hosts[host].life => {
                self.guard_ends(host);
            }
            Event::Pause { host, heal_us } => self.pause(host, heal_us),
            Event::HeardAgain(expected) => self.heard_again(expected),
            Event::HealPath { host, line, renames } => self.heal_path(host, line, renames),
            Event::ToTarget { link, message } => {
                let effects = self.target.receive(self.now_us, link, message);
                self.follow(effects);
            }
            Event::ToHost { link, message } => self.hear(link, message),
            Event::Land { id, boot } if boot == self.boot => {
                if let Some((block, content, effects)) = self.target.land(id) {
                    self.checker.lands(block, content);
                    self.follow(effects);
                }
            }
            Event::Restart { host, life } if life == self.hosts[host].life => self.restart(host),
            Event::Fault => self.fault(),
            Event::Resume { host } => self.resume(host),
            Event::WakeGuard { host } => self.wake_guard(host),
            Event::WakeCommand { host, life } if life == self.hosts[host].life => {
                self.wake_command(host);
            }
            Event::Adopt { host } => self.adopt(host),
            Event::HealNetwork { host } => self.heal_network(host),
            Event::WakeTarget | Event::TargetUp => {
                (self.target_paused, self.target_down) = (false, false);
                for event in std::mem::take(&mut self.target_deferred) {
                    let soon_us = self.now_us + 1;
                    self.at(soon_us, event);
                }
                self.connections_are_reset();
            }
            Event::Patrol => self.patrol(),
            Event::Calm => self.calm(),
            _ => {}
        }
    }

    /// Whoever stands still gets it later; whoever is down never.
    fn defers(&mut self, event: &Event) -> bool {
        let (host, guard_only) = match event {
            Event::Wake { host, .. } => (*host, true),
            Event::NoAnswer { host, .. }
            | Event::CommandEnds { host, .. }
            | Event::Renamed { host, .. }
            | Event::Gate { host, .. } => (*host, true),
            Event::ToHost { link, message: ToHost::Answer { tag, .. } } => {
                let asked = self.hosts[link.host].lines[link.line].asked;
                (link.host, asked.is_some_and(|(asked, _)| asked == *tag))
            }
            Event::ToHost { link, .. } => (link.host, false),
            Event::Write { host, .. } | Event::NoLogin { host, .. } | Event::Reset { host, .. } => {
                (*host, false)
            }
            // No guard begins on a machine that stands still.
            Event::Adopt { host } | Event::HealPath { host, .. } => (*host, false),
            Event::ToTarget { .. } | Event::Land { .. } => {
                if self.target_paused {
                    self.target_deferred.push(event.clone());
                }
                return self.target_paused || self.target_down;
            }
            _ => return false,
        };
        let writes = matches!(event, Event::Write { .. });
        let host = &mut self.hosts[host];
        let command_stands = writes && host.app.as_ref().is_some_and(|app| app.paused);
        let stands =
            host.paused_us.is_some() || (guard_only && host.guard_paused) || command_stands;
        if stands {
            host.deferred.push(event.clone());
        }
        stands
    }

    pub(crate) fn restart(&mut self, at: usize) {
        if self.hosts[at].brain.is_some() {
            return;
        }
        let nonce = self.random.random();
        let anew = !self.scheme.has_paths() || !self.hosts[at].has_sessions;
        self.hosts[at].has_sessions = true;
        for line in 0..self.hosts[at].lines.len() {
            if anew {
                self.log_in(at, line);
            }
        }
        self.open_lines(at);
        self.hosts[at].begin(self.scheme, self.ages, nonce, self.now_us);
        self.tell_of_lines(at);
        self.input(at, Input::Tick);
    }

    /// A new session: the one before ends when the target hears of it.
    pub(crate) fn log_in(&mut self, at: usize, line: usize) {
        let host = &mut self.hosts[at];
        host.lines[line].session += 1;
        host.lines[line].ready = false;
        let (session, link) = (host.lines[line].session, host.link(line));
        self.send(link, ToTarget::Login);
        self.at(self.now_us + LOGIN_US, Event::NoLogin { host: at, line, session });
    }

    fn delay_us(&mut self) -> u64 {
        match self.random.random_range(0..100) {
            0 => self.us(60),
            1..6 => self.us(8),
            _ => self.random.random_range(40..400),
        }
    }

    /// Messages of one session keep their order; those of two do not.
    fn arrival_us(&mut self, link: Link, out: bool) -> u64 {
        let at_us = self.now_us + self.delay_us();
        let last_us = self.arrivals.entry((link, out)).or_default();
        *last_us = at_us.max(*last_us + 1);
        *last_us
    }

    pub(crate) fn send(&mut self, link: Link, message: ToTarget) {
        if self.hosts[link.host].lines[link.line].blocked[0] {
            self.hosts[link.host].lines[link.line].held_out.push((link, message));
            return;
        }
        let at_us = self.arrival_us(link, true);
        if let Some(again_us) = self.again_us(at_us) {
            self.at(again_us, Event::ToTarget { link, message });
        }
        self.at(at_us, Event::ToTarget { link, message });
    }

    /// When a message comes a second time, if it does: in no order.
    fn again_us(&mut self, at_us: u64) -> Option<u64> {
        let twice = self.scheme != Scheme::ClearAndReserve && self.random.random_bool(0.01);
        twice.then(|| {
            self.count("message delivered twice");
            at_us + self.us(900)
        })
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn reply(&mut self, link: Link, message: ToHost) {
        if self.hosts[link.host].lines[link.line].blocked[1] {
            self.hosts[link.host].lines[link.line].held_in.push((link, message));
            return;
        }
        let at_us = self.arrival_us(link, false);
        if let Some(again_us) = self.again_us(at_us) {
            self.at(again_us, Event::ToHost { link, message: message.clone() });
        }
        self.at(at_us, Event::ToHost { link, message });
    }

    fn follow(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(link, message) => self.reply(link, message),
                Effect::Submit(id) => {
                    let slow = self.slow_writes > 0;
                    self.slow_writes = self.slow_writes.saturating_sub(1);
                    let takes_us = match self.random.random_range(0..50) {
                        _ if slow => 300_000 + self.us(1_700),
                        0 => self.us(700),
                        _ => self.us(4),
                    };
                    let boot = self.boot;
                    self.at(self.now_us + takes_us, Event::Land { id, boot });
                }
            }
        }
    }

    fn hear(&mut self, link: Link, message: ToHost) {
        let (at, line) = (link.host, link.line);
        if self.hosts[at].link(line) != link {
            return;
        }
        if !matches!(message, ToHost::Ready { .. }) {
            self.opened(at, line);
        }
        match message {
            ToHost::LoggedIn => {
                self.hosts[at].lines[line].ready = true;
                let pending = self.hosts[at].pending.iter();
                let of_line = pending.filter(|(_, one)| one.line == Some(line));
                let writes: Vec<(u32, Pending)> = of_line.map(|(tag, one)| (*tag, *one)).collect();
                for (tag, Pending { block, content, withheld, .. }) in writes {
                    let op = Op::Write { block, content, withheld };
                    self.send(link, ToTarget::Command { tag, op });
                }
                if let Some((tag, op)) = self.hosts[at].lines[line].asked {
                    self.hosts[at].lines[line].asked_us = self.now_us;
                    self.send(link, ToTarget::Command { tag, op });
                }
            }
            ToHost::Ready { tag } => {
                if self.hosts[at].pending.contains_key(&tag) {
                    self.send(link, ToTarget::Data { tag });
                }
            }
            ToHost::Answer { tag, answer } => {
                let asked = &mut self.hosts[at].lines[line].asked;
                if asked.is_some_and(|(asked, _)| asked == tag) {
                    *asked = None;
                    self.hosts[at].lines[line].owes = false;
                    if matches!(answer, Answer::Seen(_)) {
                        self.hosts[at].looked_us = self.hosts[at].lines[line].asked_us;
                    }
                    self.heard(at, line, answer);
                } else if let Some(write) = self.hosts[at].pending.remove(&tag)
                    && answer == Answer::Good
                {
                    self.checker.acknowledged(write.block, write.content.sequence);
                }
            }
        }
    }

    pub(crate) fn heard(&mut self, at: usize, line: usize, answer: Answer) {
        let id = self.hosts[at].lines[line].id;
        self.happens(at, Happens::News(News::Answer(id, answer)));
    }

    /// The request has taken too long: nobody knows what became of it.
    fn no_answer(&mut self, at: usize, line: usize, tag: u32) {
        if self.hosts[at].lines[line].asked.is_some_and(|(asked, _)| asked == tag) {
            let asked = self.hosts[at].lines[line].asked.take();
            // A session of the kernel's may live on, with the command in it.
            let lives = self.scheme.has_paths() && self.target.knows(self.hosts[at].link(line));
            if !lives || self.random.random_bool(0.5) {
                self.log_in(at, line);
            }
            let careless = self.scheme == Scheme::PathsWithoutDoubt;
            let grants = |op| matches!(op, Op::Guard(command) if command.grants());
            let refused = careless && asked.is_some_and(|(_, op)| grants(op));
            self.heard(at, line, if refused { Answer::Conflict } else { Answer::Failed });
        }
    }

    /// What the guard is told, and what it does.
    pub(crate) fn input(&mut self, at: usize, input: Input) {
        self.happens(at, Happens::Input(input));
    }

    pub(crate) fn happens(&mut self, at: usize, event: Happens) {
        let host = &mut self.hosts[at];
        let now_ms = host.clock.local_ms(self.now_us);
        let Some(brain) = &mut host.brain else { return };
        for step in brain.on(now_ms, event, &host.lines) {
            match step {
                Step::Ask(line, op) => self.ask(at, line, op),
                Step::AskNoted(line, op, standing) => {
                    if self.is_full(at, "note cannot be written") {
                        let path = self.hosts[at].lines[line].id;
                        self.happens(at, Happens::Unsent(path));
                    } else {
                        self.act(at, Action::Remember(standing));
                        self.ask(at, line, op);
                    }
                }
                Step::Unnote(_) if self.is_full(at, "note cannot be taken out") => {
                    self.happens(at, Happens::Unkept);
                }
                Step::Unnote(standing) => self.act(at, Action::Remember(standing)),
                Step::NoPath(path) => {
                    let answer = News::Answer(path, Answer::Failed);
                    self.happens(at, Happens::News(answer));
                }
                Step::Do(action) => self.act(at, action),
                Step::Close => self.close_gate(at),
                Step::Open => {
                    self.tell(format!("{at} opens its gate"));
                    self.hosts[at].gate = Gate::Open;
                }
                Step::Shut => self.hosts[at].gate = Gate::Shut,
            }
        }
        self.schedule_wake(at);
    }

    pub(crate) fn schedule_wake(&mut self, at: usize) {
        let host = &self.hosts[at];
        let Some(wake_ms) = host.brain.as_ref().map(|brain| brain.wake_ms()) else { return };
        if wake_ms < u64::MAX / 8 {
            let wake_us = host.clock.true_us(wake_ms).max(self.now_us + 1);
            if host.wake_us.is_none_or(|before| wake_us < before) {
                self.wake(at, wake_us);
            }
        }
    }

    /// The one alarm of a guard; an earlier one is void.
    pub(crate) fn wake(&mut self, at: usize, at_us: u64) {
        self.hosts[at].wake_us = Some(at_us);
        self.at(at_us, Event::Wake { host: at, at_us });
    }

    fn ask(&mut self, at: usize, line: usize, op: Op) {
        let host = &mut self.hosts[at];
        host.tag += 1;
        let (tag, link, ready) = (host.tag, host.link(line), host.lines[line].ready);
        host.lines[line].asked = Some((tag, op));
        host.lines[line].asked_us = self.now_us;
        if matches!(op, Op::Guard(command) if command.grants()) {
            host.lines[line].owes = true;
            self.disturb_registration(at, line);
        }
        if ready {
            self.send(link, ToTarget::Command { tag, op });
        }
        let long = matches!(op, Op::Guard(command) if command.drains());
        let patience_us = if long { 3_000_000 } else { 700_000 };
        self.at(self.now_us + patience_us, Event::NoAnswer { host: at, line, tag });
    }

    fn act(&mut self, at: usize, action: Action) {
        let life = self.hosts[at].life;
        match action {
            Action::Ask(_) => {}
            Action::Remember(mut standing) => {
                standing.unanswered &= self.scheme != Scheme::PathsWithoutNote;
                self.hosts[at].standing = standing;
            }
            Action::Start => self.start(at),
            Action::Freeze => {
                self.tell(format!("{at} freezes"));
                self.hosts[at].app.iter_mut().for_each(|app| app.frozen = true);
            }
            Action::Thaw => {
                self.tell(format!("{at} thaws"));
                self.hosts[at].app.iter_mut().for_each(|app| app.frozen = false);
            }
            Action::Terminate(why) => {
                self.tell(format!("{at} stops its command"));
                let Some(app) = &mut self.hosts[at].app else { return };
                (app.frozen, app.ending) = (false, Some(why));
                // With SIGTERM comes SIGCONT.
                self.wake_command(at);
                // One in five ignores it.
                if self.random.random_bool(0.8) {
                    let ends_us = self.now_us + self.us(300);
                    self.at(ends_us, Event::CommandEnds { host: at, life });
                }
            }
            Action::Kill => {
                self.hosts[at].app.iter_mut().for_each(|app| app.killed = true);
                self.at(self.now_us + 1, Event::CommandEnds { host: at, life });
            }
            Action::Over(end) => {
                self.tell(format!("{at} is over: {end:?}"));
                assert!(self.hosts[at].app.is_none(), "over while its command runs");
                self.hosts[at].die();
                if end != End::Foreign {
                    let (again_us, life) = (self.now_us + self.us(2_000), self.hosts[at].life);
                    self.at(again_us, Event::Restart { host: at, life });
                }
            }
        }
    }
}
