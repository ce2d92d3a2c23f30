//! A request of the machine as commands down one path or several.

use super::{Command, Path, PathId, Paths, Place, Sent, Step};
use crate::wire::Out;
use crate::{Answer, Request};

/// How many paths that did not answer the last time are asked at once: each takes a thread until
/// the kernel gives it up.
const SILENT_MAX: usize = 4;

/// What the machine has asked for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    number: u64,
    request: Request,
    /// The path that does it step by step.
    by: Option<PathId>,
    tried: Vec<PathId>,
    /// Paths that have answered since it was asked.
    heard: Vec<PathId>,
    /// Until when it waits for the others.
    heard_ms: Option<u64>,
    /// When another path is asked, too.
    pub(super) hedge_ms: u64,
    /// When another path was to be asked, one that fits was busy: it is asked when it is free.
    wants: bool,
    /// One path at least said that it is not registered.
    conflict: bool,
    /// Something was unproven before the own key was preempted.
    undrained: bool,
}

impl Ask {
    pub(super) fn new(number: u64, request: Request) -> Self {
        let (by, tried, heard, hedge_ms) = (None, Vec::new(), Vec::new(), u64::MAX);
        let (heard_ms, wants, conflict, undrained) = (None, false, false, false);
        Self { number, request, by, tried, heard, heard_ms, hedge_ms, wants, conflict, undrained }
    }
}

fn move_to(own: u64, about: u64) -> Command {
    Command::Out { action: Out::PreemptAndAbort, own, about }
}

/// Whether the request is done when this is.
fn is_last(request: Request, command: Command) -> bool {
    match (request, command) {
        (Request::Vacate(key), Command::Out { about, .. }) => about == key.vacated().number(),
        _ => command == Command::of(request),
    }
}

impl Paths {
    pub(super) fn dispatch(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let Some(ask) = &self.ask else { return };
        let (number, request) = (ask.number, ask.request);
        if self.terms.is_none() {
            let free = self.paths.iter().find(|path| path.is_free() && ask.tried.is_empty());
            if let Some(id) = free.map(|path| path.id) {
                self.tried(id);
                self.send(id, Command::of(request), Some(number), out);
            }
            return;
        }
        match request {
            Request::Look | Request::Renew(_) => self.spread(now_ms, out),
            Request::Admit(_) => self.admit_all(now_ms, out),
            _ => self.step_on(out),
        }
    }

    /// Nothing is registered any more. A look goes on: it registers nothing.
    pub(super) fn give_up(&mut self, out: &mut Vec<Step>) {
        if self.terms.is_none() {
            return;
        }
        self.leaving = true;
        if self.ask.as_ref().is_some_and(|ask| ask.request != Request::Look) {
            self.finish(Answer::Failed, out);
        }
    }

    /// A path can be asked again.
    pub(super) fn freed(&mut self) {
        if let Some(ask) = &mut self.ask
            && std::mem::take(&mut ask.wants)
        {
            ask.hedge_ms = 0;
        }
    }

    fn tried(&mut self, id: PathId) {
        if let Some(ask) = &mut self.ask {
            ask.tried.push(id);
        }
    }

    fn is_under_way(&self, number: u64) -> bool {
        let of = |path: &Path| path.sent.is_some_and(|sent| sent.ask == Some(number));
        self.paths.iter().any(of)
    }

    fn finish(&mut self, answer: Answer, out: &mut Vec<Step>) {
        self.ask = None;
        out.push(Step::Answer(answer));
    }

    /// The same question by the best path; when that takes too long by all others that are known to
    /// answer, and by those that are not: whichever answers first. An owner that has lost several
    /// paths at once has no time to try them one after the other.
    fn spread(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let Some(ask) = &self.ask else { return };
        let (number, request) = (ask.number, ask.request);
        let waits = self.is_under_way(number);
        if waits && now_ms < ask.hedge_ms {
            return;
        }
        let renews = request != Request::Look;
        let fit = |path: &&Path| {
            let place = !renews || matches!(path.place, Place::Inside | Place::Unsure);
            place && !ask.tried.contains(&path.id) && !self.is_next(path.id)
        };
        // A registered path that answers is best: its command is also a sign of life.
        let rank = |path: &&Path| {
            let second = self.lead != Some(path.id);
            (path.silent, path.place != Place::Inside, second)
        };
        let mut free: Vec<&Path> =
            self.paths.iter().filter(fit).filter(|path| path.is_free()).collect();
        free.sort_by_key(rank);
        let silent = free.first().is_some_and(|path| path.silent);
        let most = match (silent, ask.tried.is_empty()) {
            (true, _) => SILENT_MAX,
            (false, true) => 1,
            (false, false) => usize::MAX,
        };
        let wave = free.iter().filter(|path| path.silent == silent).take(most);
        let wave: Vec<PathId> = wave.map(|path| path.id).collect();
        let busy = self.paths.iter().filter(fit).any(|path| path.sent.is_some());
        if wave.is_empty() && !waits && !busy {
            // It may have been another question that a path has answered so.
            let outside = self.paths.iter().any(|path| path.place == Place::Outside);
            let conflict = ask.conflict || renews && outside;
            let answer = if conflict { Answer::Conflict } else { Answer::Failed };
            return self.finish(answer, out);
        }
        let hedge_ms = self.terms.map_or(u64::MAX, |terms| now_ms.saturating_add(terms.hedge_ms));
        if let Some(ask) = &mut self.ask {
            ask.hedge_ms = if wave.is_empty() { u64::MAX } else { hedge_ms };
            // At first one is enough, and the others may be probed meanwhile.
            ask.wants = busy && (waits || wave.is_empty());
        }
        for id in wave {
            self.tried(id);
            self.send(id, Command::of(request), Some(number), out);
        }
    }

    /// Every path that answers is registered with the key of this run, before anything starts. It
    /// is heard first, and not waited for long: one that has just died would be in doubt, and keep
    /// this host from starting.
    fn admit_all(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let hedge_ms = self.terms.map_or(u64::MAX, |terms| terms.hedge_ms);
        let Some(ask) = &mut self.ask else { return };
        let until_ms = *ask.heard_ms.get_or_insert(now_ms.saturating_add(hedge_ms));
        let hears = now_ms < until_ms;
        ask.hedge_ms = if hears { until_ms } else { u64::MAX };
        let (number, about) = (ask.number, self.key.number());
        let fit = |path: &&Path| {
            !path.silent && path.place != Place::Inside && !ask.tried.contains(&path.id)
        };
        let fit: Vec<_> = self.paths.iter().filter(fit).map(|path| path.id).collect();
        let mut busy = false;
        for id in fit {
            if !self.path(id).is_some_and(Path::is_free) {
                busy = true;
            } else if self.ask.as_ref().is_some_and(|ask| ask.heard.contains(&id)) {
                self.tried(id);
                let command = Command::Out { action: Out::RegisterAndIgnore, own: 0, about };
                self.send(id, command, Some(number), out);
            } else if hears {
                self.send(id, Command::Look, Some(number), out);
            }
        }
        let registers = |path: &Path| {
            path.sent.is_some_and(|sent| sent.ask == Some(number) && sent.command.grants())
        };
        let waits = hears && (busy || self.is_under_way(number));
        if !waits && !self.paths.iter().any(registers) {
            self.finish(if self.is_late() { Answer::Failed } else { Answer::Good }, out);
        }
    }

    /// What is done by one path, in steps, and never by a second one because the first takes long:
    /// a preempt and a reset wait for writes, and an owner whose key is gone is preempted no second
    /// time. That answers CONFLICT at once, which proves nothing of the writes, and the GOOD that
    /// would prove it is lost with the first path. Every other step depends on which path has done
    /// the one before. The path is one that answered the last look.
    fn step_on(&mut self, out: &mut Vec<Step>) {
        let Some(ask) = &self.ask else { return };
        let (number, request) = (ask.number, ask.request);
        if self.is_under_way(number) {
            return;
        }
        let chosen = match ask.by {
            Some(id) => self.path(id).map(|path| path.id),
            None => self.choose(request),
        };
        let Some(id) = chosen else { return self.finish(Answer::Failed, out) };
        if !self.path(id).is_some_and(Path::is_free) {
            return;
        }
        if self.started && ask.by.is_none() && self.is_unsure(id) && request != Request::Reset {
            return;
        }
        let Some(command) = self.next_step(request, id) else {
            return self.finish(Answer::Failed, out);
        };
        let (moves, undrained) = (command.moves(), self.undrained);
        if let Some(ask) = &mut self.ask {
            (ask.by, ask.undrained) = (Some(id), if moves { undrained } else { ask.undrained });
        }
        self.lead = Some(id);
        self.undrained |= moves;
        self.leaving |= matches!(request, Request::Vacate(_));
        self.send(id, command, Some(number), out);
    }

    /// The path for a request that one path does; it may have to be waited for.
    fn choose(&self, request: Request) -> Option<PathId> {
        let registered = self.started && !matches!(request, Request::Reset);
        let fit = |path: &&Path| {
            let place = match path.place {
                Place::Inside => true,
                // It is being asked.
                Place::Unsure => !path.silent,
                _ => false,
            };
            place || !registered
        };
        let leaves = matches!(request, Request::Vacate(_));
        let rank = |path: &&Path| {
            let first = if leaves { self.holder } else { self.lead };
            let unsure = registered && path.place != Place::Inside;
            (path.silent, unsure, first != Some(path.id))
        };
        self.paths.iter().filter(fit).min_by_key(rank).map(|path| path.id)
    }

    /// The next command that the request needs of this path; `None` when it cannot be done by it.
    fn next_step(&self, request: Request, id: PathId) -> Option<Command> {
        let path = self.path(id)?;
        let (key, claiming) = (self.key.number(), self.key.claiming().number());
        let form = match request {
            Request::Reserve(_) | Request::Prove(_) => claiming,
            Request::Preempt { own, .. } => own.number(),
            Request::Vacate(_) => return self.next_to_leave(path),
            _ => return Some(Command::of(request)),
        };
        let place = if form == key { Place::Inside } else { Place::Claiming };
        if path.place != place {
            // Never once this host may write.
            let register = Command::Out { action: Out::RegisterAndIgnore, own: 0, about: form };
            return (!self.started && !self.leaving).then_some(register);
        }
        if matches!(request, Request::Prove(_)) && self.holder != Some(id) {
            return Some(move_to(claiming, claiming));
        }
        Some(Command::of(request))
    }

    /// The next step to the vacant key. Where the holder is another path the reservation is moved,
    /// and as long as it is not known that all writes of that path have ended, the key says so.
    fn next_to_leave(&self, path: &Path) -> Option<Command> {
        let (key, claiming) = (self.key.number(), self.key.claiming().number());
        let register = |own, about| Command::Out { action: Out::Register, own, about };
        match path.place {
            Place::Inside if self.holder == Some(path.id) => {
                Some(register(key, self.key.vacated().number()))
            }
            Place::Inside => Some(register(key, claiming)),
            Place::Claiming if self.holder != Some(path.id) => Some(move_to(claiming, key)),
            Place::Claiming if self.undrained => Some(Command::Reset),
            Place::Claiming => Some(register(claiming, self.key.vacated().number())),
            _ => None,
        }
    }

    /// What the answer means for the machine's request.
    pub(super) fn ask_answered(
        &mut self,
        id: PathId,
        sent: Sent,
        answer: Answer,
        out: &mut Vec<Step>,
    ) {
        let Some(ask) = &mut self.ask else { return };
        if sent.ask != Some(ask.number) {
            return;
        }
        let alone = self.terms.is_none();
        match (ask.request, &answer) {
            _ if alone => self.finish(answer, out),
            // Others may answer; see `spread`.
            (Request::Look | Request::Renew(_), Answer::Failed) => ask.hedge_ms = 0,
            (Request::Renew(_), Answer::Conflict) => (ask.conflict, ask.hedge_ms) = (true, 0),
            (Request::Look | Request::Renew(_), _) => {
                let better = !self.started || self.is_inside(id);
                if better {
                    self.lead = Some(id);
                }
                self.finish(answer, out);
            }
            (Request::Admit(_), Answer::Failed) => {}
            (Request::Admit(_), _) => ask.heard.push(id),
            (Request::Vacate(_), Answer::Conflict) if sent.command.moves() => {
                self.undrained = ask.undrained;
            }
            (request, Answer::Good) if !is_last(request, sent.command) => {
                if sent.command.moves() {
                    self.undrained = ask.undrained;
                }
            }
            _ => self.finish(answer, out),
        }
    }

    fn is_inside(&self, id: PathId) -> bool {
        self.path(id).is_some_and(|path| path.place == Place::Inside)
    }

    fn is_unsure(&self, id: PathId) -> bool {
        self.path(id).is_some_and(|path| path.place == Place::Unsure)
    }
}
