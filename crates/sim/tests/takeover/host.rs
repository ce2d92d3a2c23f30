//! One host: a clock of its own, a guard or the scripts, a command that writes, paths to the volume.

use std::collections::BTreeMap;

use guard::pair::{Effect, Event as Happens, Pair};
use guard::paths::{News, PathId, Paths, Terms};
use guard::{Input, Liveness, Machine, Settings, Standing, State, Task, Why};

use crate::checker::Content;
use crate::scripts::{Scripts, Step};
use crate::target::{Link, Op, ToHost, ToTarget};
use crate::world::{Event, Scheme};

/// A clock of its own beginning that runs a little wrong, and that may stand still while the host
/// is paused.
pub(crate) struct Clock {
    pub(crate) begun_us: u64,
    /// Parts in a thousand that it runs too fast.
    pub(crate) skew: i64,
    pub(crate) stops: bool,
    pub(crate) lost_us: u64,
}

impl Clock {
    pub(crate) fn local_ms(&self, now_us: u64) -> u64 {
        let us = i64::try_from(now_us + self.begun_us - self.lost_us).unwrap();
        u64::try_from(us * (1000 + self.skew) / 1_000_000).unwrap()
    }

    /// The true time at which it shows this, or a little later.
    pub(crate) fn true_us(&self, local_ms: u64) -> u64 {
        let ms = i64::try_from(local_ms).unwrap();
        let shown_us = u64::try_from(ms * 1_000_000 / (1000 + self.skew)).unwrap() + 1;
        (shown_us + self.lost_us).saturating_sub(self.begun_us)
    }
}

pub(crate) enum Brain {
    Guard(Box<Pair>),
    Scripts(Scripts),
}

/// Between two looks at a path that is not in use, and before another path is asked, too.
const TERMS: Terms = Terms { hedge_ms: 100, probe_ms: 500 };

impl Brain {
    /// `lines` are the paths that the host has now.
    pub(crate) fn on(&mut self, now_ms: u64, event: Happens, lines: &[Line]) -> Vec<Step> {
        let pair = match (self, event) {
            (Self::Scripts(scripts), Happens::Input(input)) => return scripts.on(now_ms, input),
            (Self::Scripts(scripts), Happens::News(News::Answer(_, answer))) => {
                return scripts.on(now_ms, Input::Answer(answer));
            }
            (Self::Scripts(_), _) => return Vec::new(),
            (Self::Guard(pair), event) => pair.on(now_ms, event, |_| None),
        };
        let line_of = |path: PathId| lines.iter().position(|line| line.id == path);
        let step = |effect| match effect {
            Effect::Do(action) => Step::Do(action),
            Effect::Send(path, command) => match line_of(path) {
                Some(line) => Step::Ask(line, Op::Guard(command)),
                None => Step::NoPath(path),
            },
            Effect::SendNoted(path, command, standing) => match line_of(path) {
                Some(line) => Step::AskNoted(line, Op::Guard(command), standing),
                None => Step::NoPath(path),
            },
            Effect::Unnote(standing) => Step::Unnote(standing),
            Effect::Close => Step::Close,
            Effect::Open => Step::Open,
            Effect::Shut => Step::Shut,
        };
        pair.into_iter().map(step).collect()
    }

    pub(crate) fn story(&self) -> String {
        match self {
            Self::Guard(pair) => format!("{pair:?}"),
            Self::Scripts(_) => "scripts".to_owned(),
        }
    }

    pub(crate) fn wake_ms(&self) -> u64 {
        match self {
            Self::Guard(pair) => pair.wake_ms(),
            Self::Scripts(scripts) => scripts.wake_ms(),
        }
    }
}

/// One path to the target.
pub(crate) struct Line {
    pub(crate) id: PathId,
    /// Last byte of the ISID; a machine that boots again may come back with another.
    pub(crate) isid: u8,
    pub(crate) session: u32,
    pub(crate) ready: bool,
    /// The guard has opened its device, and knows it as a path.
    pub(crate) open: bool,
    pub(crate) asked: Option<(u32, Op)>,
    pub(crate) asked_us: u64,
    /// Something may have been sent by it that registers, and it has not answered since.
    pub(crate) owes: bool,
    /// What the network keeps back: to the target, and from it.
    pub(crate) blocked: [bool; 2],
    pub(crate) held_out: Vec<(Link, ToTarget)>,
    pub(crate) held_in: Vec<(Link, ToHost)>,
}

/// Where the command's writes of a host with several paths go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gate {
    Open,
    Closing { until_us: u64 },
    Closed,
    Shut,
}

/// The command.
pub(crate) struct App {
    /// Who it writes as.
    pub(crate) key: u64,
    /// Somebody else than the guard has stopped it.
    pub(crate) paused: bool,
    pub(crate) frozen: bool,
    pub(crate) ending: Option<Why>,
    pub(crate) killed: bool,
}

/// A write of the command without an answer.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    /// The path that it went down; `None` when that is gone, and nobody knows what became of it.
    pub(crate) line: Option<usize>,
    pub(crate) block: usize,
    pub(crate) content: Content,
    pub(crate) withheld: bool,
}

pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) clock: Clock,
    pub(crate) standing: Standing,
    /// Notes cannot be written to it, or taken out.
    pub(crate) full: bool,
    /// When the look was asked for that was answered last.
    pub(crate) looked_us: u64,
    pub(crate) brain: Option<Brain>,
    pub(crate) app: Option<App>,
    pub(crate) starts: u64,
    /// The whole machine stands still; the guard alone does.
    pub(crate) paused_us: Option<u64>,
    pub(crate) guard_paused: bool,
    pub(crate) awake_us: u64,
    /// When the guard is to be woken.
    pub(crate) wake_us: Option<u64>,
    pub(crate) deferred: Vec<Event>,
    pub(crate) lines: Vec<Line>,
    /// The sessions are the kernel's: they go with the machine's power.
    pub(crate) has_sessions: bool,
    /// Paths that there were so far.
    pub(crate) named: u32,
    pub(crate) gate: Gate,
    pub(crate) tag: u32,
    pub(crate) pending: BTreeMap<u32, Pending>,
    /// Counts lives of the guard and the command: what belongs to an earlier one is void.
    pub(crate) life: u32,
}

impl Host {
    pub(crate) fn new(number: usize, clock: Clock, paths: u32) -> Self {
        let line = |id| Line {
            id: PathId(id),
            isid: 1,
            session: 0,
            ready: false,
            open: true,
            asked: None,
            asked_us: 0,
            owes: false,
            blocked: [false; 2],
            held_out: Vec::new(),
            held_in: Vec::new(),
        };
        Self {
            number,
            clock,
            standing: Standing::default(),
            full: false,
            looked_us: 0,
            brain: None,
            app: None,
            starts: 0,
            paused_us: None,
            guard_paused: false,
            awake_us: 0,
            wake_us: None,
            deferred: Vec::new(),
            lines: (0..paths).map(line).collect(),
            has_sessions: false,
            named: paths,
            gate: Gate::Shut,
            tag: 0,
            pending: BTreeMap::new(),
            life: 0,
        }
    }

    /// The guard begins; what had fenced it is taken as permitted.
    pub(crate) fn begin(&mut self, scheme: Scheme, ages: bool, nonce: u16, now_us: u64) {
        if scheme == Scheme::ClearAndReserve {
            self.brain = Some(Brain::Scripts(Scripts::new(self.number)));
            return;
        }
        if self.standing.state == State::Fenced {
            self.standing.state = State::Clean;
            self.standing.keys.clear();
        }
        let number = u32::try_from(self.number).unwrap() + 1;
        let (standing, key) = match scheme.has_paths() {
            true => self.standing.begin_by_paths(number, nonce),
            false => self.standing.begin(number, nonce),
        };
        self.standing = standing.clone();
        self.lines.iter_mut().for_each(|line| line.owes |= standing.unanswered);
        let settings = Self::settings(Task::Hold, scheme, ages);
        let now_ms = self.clock.local_ms(now_us);
        let machine = Machine::new(settings, standing, key, now_ms);
        let ids: Vec<PathId> =
            self.lines.iter().filter(|line| line.open).map(|line| line.id).collect();
        let paths = match (scheme.has_paths(), &ids[..]) {
            (false, [path]) => Paths::single(key, *path),
            _ => Paths::several(key, TERMS, &ids),
        };
        self.brain = Some(Brain::Guard(Box::new(Pair::new(machine, paths))));
    }

    /// Another guard takes over what an earlier one has started, which still runs.
    pub(crate) fn adopt(&mut self, scheme: Scheme, ages: bool, now_us: u64) {
        let Some(app) = &mut self.app else { return };
        app.frozen = true;
        let noted = self.standing.unanswered;
        self.lines.iter_mut().for_each(|line| line.owes |= noted);
        let key = *self.standing.keys.last().expect("a command that runs is in the record");
        let settings = Self::settings(Task::Adopt, scheme, ages);
        let now_ms = self.clock.local_ms(now_us);
        let machine = Machine::new(settings, self.standing.clone(), key, now_ms);
        let ids: Vec<PathId> =
            self.lines.iter().filter(|line| line.open).map(|line| line.id).collect();
        let paths = match (scheme.has_paths(), &ids[..]) {
            (false, [path]) => Paths::single(key, *path),
            _ => Paths::adopted(key, TERMS, &ids, self.gate == Gate::Open),
        };
        self.brain = Some(Brain::Guard(Box::new(Pair::new(machine, paths))));
    }

    fn settings(task: Task, scheme: Scheme, ages: bool) -> Settings {
        let freezes = scheme != Scheme::GuardWithoutFreeze;
        Settings {
            task,
            liveness: if ages { Liveness::Ages } else { Liveness::Generation },
            beat_ms: 100,
            freeze_ms: if freezes { 350 } else { u64::MAX / 4 },
            takeover_ms: 500,
            delay_ms: 0,
            stop_ms: 500,
            give_up_ms: if freezes { 20_000 } else { u64::MAX / 4 },
            wait_ms: None,
            admits: false,
        }
    }

    /// Whether there are devices that the guard could not open yet.
    pub(crate) fn unopened(&self) -> News {
        News::Unopened(self.lines.iter().any(|line| !line.open))
    }

    /// The session of one of its paths, as the network knows it.
    pub(crate) fn link(&self, line: usize) -> Link {
        let Line { isid, session, .. } = self.lines[line];
        Link { host: self.number, line, isid, session }
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.paused_us.is_none() && !self.guard_paused
    }

    /// The command runs, and is meant to.
    pub(crate) fn runs(&self) -> bool {
        self.app.as_ref().is_some_and(|app| !app.frozen && app.ending.is_none())
    }

    /// The command runs, or takes its time to end in good order.
    pub(crate) fn is_at_work(&self) -> bool {
        let in_order = |why: Option<Why>| why.is_none_or(|why| why == Why::Asked);
        self.app.as_ref().is_some_and(|app| !app.frozen && in_order(app.ending))
    }

    /// Who the command writes as.
    pub(crate) fn run_key(&self) -> u64 {
        match &self.brain {
            Some(Brain::Guard(pair)) => pair.machine().key().number(),
            _ => self.starts << 8 | (self.number as u64 + 1),
        }
    }

    /// Guard and command are gone, and nothing of the command is left in the kernel.
    pub(crate) fn die(&mut self) {
        (self.brain, self.app, self.wake_us) = (None, None, None);
        self.lines.iter_mut().for_each(|line| line.asked = None);
        self.gate = Gate::Shut;
        self.pending.clear();
        self.life += 1;
    }
}
