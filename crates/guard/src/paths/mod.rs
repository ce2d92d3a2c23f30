//! One volume by several paths: what the machine asks for, done down the paths of a multipath
//! device, and the gate through which this host's own writes go.
//!
//! ```text
//!   a path:   Unsure --REGISTER K to K: GOOD---------------------> Inside
//!               ^ ^ `--CONFLICT--> Outside --let in, see the gate----^  |
//!               | `------------------- no answer, or it was moved -----'
//!               `- Claiming: the key's claiming form; of a run that has not started yet
//!
//!   the gate: Shut --start--> Open --a path is Outside--> Closing --closed--> Registering
//!              ^               ^ ^----------- not closed ----'                  |    | no answer
//!              |               |                                        answered|    v
//!              `--- end        `--- shown as the holder --- Looking <-----------'-- Doubt
//!
//!   Open --a run before this one left a doubt--> Closing --closed--> Doubt
//!   Registering --it could not be noted, and was not sent--> Looking
//! ```
//!
//! Under the types that a guard reserves with every registered path may write. So a registration is
//! a right to write, and one that is made late would let a host in again that was fenced meanwhile,
//! with whatever its kernel still has to write. Therefore a path that is not registered is let in
//! behind a closed gate: nothing of this host is written from before the registration is sent until
//! READ FULL STATUS, sent after its answer, has shown this host as the holder. From then on the
//! path's registration goes with the others when another host preempts the key.
//!
//! A registration that was sent and not answered may still be done. As long as that is so the gate
//! is not opened: an answer to something sent later on the same path ends the doubt; and so does the
//! end of its device, which proves less (see `doubt`). A run that is killed leaves the doubt to the
//! next one, by a note in the record.
//!
//! The holder is one nexus, and stays it when its path dies: its registration outlives the session,
//! and all that counts is the key. Only what changes the holder's key (to finish a claim, to leave)
//! needs the holder's path, or moves the reservation first, by PREEMPT AND ABORT of the own key.
//! That removes the key's other registrations (SPC-5 5.14.11.4), so it is done only while nothing
//! of this host runs, and under the key's claiming form: whoever takes over before it is answered
//! has to prove that what it aborts has ended.

mod asking;
mod doubt;
mod gate;
#[cfg(test)]
mod tests;

use crate::wire::Out;
use crate::{Answer, Key, Request};

use asking::Ask;
use gate::Gate;

/// One path, for as long as its device exists. Never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathId(pub u32);

/// What goes down one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// READ FULL STATUS, and the ages where there are any.
    Look,
    /// LOGICAL UNIT RESET.
    Reset,
    /// REGISTER of the other ports that a volume was given; see [`Request::Admit`].
    Admit(Key),
    /// PERSISTENT RESERVE OUT, with RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
    Out { action: Out, own: u64, about: u64 },
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// Time has passed.
    Tick,
    /// The machine wants this; one at a time.
    Ask(Request),
    /// The end of what was sent down a path.
    Answer(PathId, Answer),
    /// The registration that was to let this path in was not sent.
    Unsent(PathId),
    Appeared(PathId),
    /// Its device is gone.
    Gone(PathId),
    /// Whether there are devices that could not be opened, and so are no paths yet.
    Unopened(bool),
    /// The machine starts the command.
    Start,
    /// No path is let in any more; one that is being let in still is, or is left where it is.
    Finish,
    /// Whatever this host still has to write is not to be written any more.
    End,
    /// The gate is closed: everything that went through it has ended, and nothing more does.
    Closed,
    /// It could not be closed in time, and is open.
    NotClosed,
}

/// What to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// One command at a time down each path.
    Send(PathId, Command),
    /// For the machine.
    Answer(Answer),
    /// Hold back what this host writes; [`News::Closed`] or [`News::NotClosed`] follows.
    Close,
    Open,
    /// Fail whatever this host writes.
    Shut,
}

/// What is known of a path's registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Unsure,
    Outside,
    Claiming,
    Inside,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    command: Command,
    serial: u64,
    /// Which request of the machine it is for.
    ask: Option<u64>,
}

#[derive(Clone, Debug)]
struct Path {
    id: PathId,
    place: Place,
    /// It did not answer the last time.
    silent: bool,
    /// A registration was sent that may yet be done.
    late: bool,
    sent: Option<Sent>,
    /// When to see how it is.
    probe_ms: u64,
    /// Not to be let in before.
    let_in_ms: u64,
}

impl Path {
    fn new(id: PathId, late: bool) -> Self {
        let (place, silent) = (Place::Unsure, false);
        Self { id, place, silent, late, sent: None, probe_ms: 0, let_in_ms: 0 }
    }
    fn is_free(&self) -> bool {
        self.sent.is_none()
    }
}

/// How the paths of a volume are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// What a path that does not answer is given before another one is asked, too.
    pub hedge_ms: u64,
    /// Between two looks at a path that is not in use.
    pub probe_ms: u64,
}

/// The paths of one volume, for one run of a guard; see the module's picture.
#[derive(Clone, Debug)]
pub struct Paths {
    key: Key,
    /// `None` for a volume with one path, whose machine speaks for itself.
    terms: Option<Terms>,
    paths: Vec<Path>,
    gate: Gate,
    started: bool,
    /// The last look showed this run as the holder.
    owned: bool,
    /// It gives the volume up: no path is let in any more.
    leaving: bool,
    /// The path whose nexus is known to hold the reservation.
    holder: Option<PathId>,
    /// The holder's key as last seen.
    seen_holder: Option<u64>,
    /// The own key was preempted and no answer came: what that aborts may still land.
    undrained: bool,
    /// An earlier run may have left registrations without an answer, also on paths that are not
    /// open yet.
    inherits: bool,
    unopened: bool,
    /// Not to be closed for a doubt before.
    close_ms: u64,
    lead: Option<PathId>,
    ask: Option<Ask>,
    asks: u64,
    serial: u64,
}

impl Command {
    /// What a request is where there is one path.
    #[must_use]
    pub fn of(request: Request) -> Self {
        let (action, own, about) = match request {
            Request::Look => return Self::Look,
            Request::Reset => return Self::Reset,
            Request::Admit(key) => return Self::Admit(key),
            Request::Claim(key) => (Out::RegisterAndIgnore, 0, key.claiming().number()),
            Request::Prove(key) => (Out::Register, key.claiming().number(), key.number()),
            Request::Reserve(key) => (Out::Reserve, key.claiming().number(), 0),
            Request::Preempt { own, victim } => (Out::PreemptAndAbort, own.number(), victim),
            Request::Renew(key) => (Out::Register, key.number(), key.number()),
            Request::Vacate(key) => (Out::Register, key.number(), key.vacated().number()),
        };
        Self::Out { action, own, about }
    }

    /// Whether it waits for writes that are under way.
    #[must_use]
    pub const fn drains(self) -> bool {
        matches!(self, Self::Reset | Self::Out { action: Out::PreemptAndAbort, .. })
    }

    /// Whether it moves the reservation to the path that sends it.
    fn moves(self) -> bool {
        let Self::Out { action: Out::PreemptAndAbort, own, about } = self else { return false };
        Key::of(own).zip(Key::of(about)).is_some_and(|(own, about)| own.is_of(about))
    }

    /// Whether it registers a path that is not registered.
    #[must_use]
    pub const fn grants(self) -> bool {
        match self {
            Self::Out { action: Out::RegisterAndIgnore, .. } => true,
            Self::Out { action: Out::Register, own, .. } => own == 0,
            _ => false,
        }
    }
}

impl Paths {
    /// A volume with one path: each request is one command.
    #[must_use]
    pub fn single(key: Key, path: PathId) -> Self {
        Self::with(key, None, &[path], Gate::Shut)
    }

    /// The paths of a multipath device, for a run that begins; nothing of this host goes through
    /// the gate.
    #[must_use]
    pub fn several(key: Key, terms: Terms, paths: &[PathId]) -> Self {
        Self::with(key, Some(terms), paths, Gate::Shut)
    }

    /// The same for a run that goes on under the key of one that ended without a word. It may have
    /// left the gate closed, and registrations without an answer on any path.
    #[must_use]
    pub fn adopted(key: Key, terms: Terms, paths: &[PathId], is_open: bool) -> Self {
        let gate = if is_open { Gate::Open } else { Gate::Doubt };
        let mut all = Self::with(key, Some(terms), paths, gate);
        all.started = true;
        if !is_open {
            all.inherit_doubt();
        }
        all
    }

    /// Whether they are those of a multipath device, however many that has now.
    pub(crate) fn are_several(&self) -> bool {
        self.terms.is_some()
    }

    fn with(key: Key, terms: Option<Terms>, paths: &[PathId], gate: Gate) -> Self {
        Self {
            key,
            terms,
            paths: paths.iter().map(|id| Path::new(*id, false)).collect(),
            gate,
            started: false,
            owned: false,
            leaving: false,
            holder: None,
            seen_holder: None,
            undrained: false,
            inherits: false,
            unopened: false,
            close_ms: 0,
            lead: paths.first().copied(),
            ask: None,
            asks: 0,
            serial: 0,
        }
    }

    /// Something happened; what to do about it.
    pub fn on(&mut self, now_ms: u64, news: News) -> Vec<Step> {
        let mut out = Vec::new();
        match news {
            News::Tick => {}
            News::Ask(request) => {
                self.asks += 1;
                self.ask = Some(Ask::new(self.asks, request));
            }
            News::Answer(id, answer) => self.answered(now_ms, id, answer, &mut out),
            News::Unsent(id) => self.unsent(now_ms, id),
            News::Appeared(id) if self.path(id).is_none() => {
                self.paths.push(Path::new(id, self.inherits));
            }
            News::Appeared(_) => {}
            News::Gone(id) => self.gone(id),
            News::Unopened(is) => self.unopened = is,
            News::Start => self.start(&mut out),
            News::Finish => self.leaving = true,
            News::End => {
                (self.started, self.gate) = (false, Gate::Shut);
                out.push(Step::Shut);
                self.give_up(&mut out);
            }
            News::Closed => self.closed(),
            News::NotClosed => {
                if matches!(self.gate, Gate::Closing(_)) {
                    self.gate = Gate::Open;
                }
            }
        }
        self.end_of_doubt();
        self.dispatch(now_ms, &mut out);
        if self.terms.is_some() {
            self.turn_gate(now_ms, &mut out);
            self.probe(now_ms, &mut out);
        }
        out
    }

    /// When to tell it that time has passed, at the latest.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        if self.terms.is_none() {
            return u64::MAX;
        }
        let free = self.paths.iter().filter(|path| path.is_free() && !self.is_next(path.id));
        let probe_ms = free.map(|path| path.probe_ms).min().unwrap_or(u64::MAX);
        probe_ms.min(self.ask.as_ref().map_or(u64::MAX, |ask| ask.hedge_ms))
    }

    /// What is known of each path, and whether it answered the last time.
    pub fn places(&self) -> impl Iterator<Item = (PathId, Place, bool)> + '_ {
        self.paths.iter().map(|path| (path.id, path.place, !path.silent))
    }

    fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.iter().find(|path| path.id == id)
    }

    fn path_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.id == id)
    }

    /// Nothing of this host goes down it any more, and what was sent by it is not waited for. Should
    /// its initiator port come back, then by another session, which ends what the one before had
    /// still to do (RFC 7143 6.3.5), and as another path here, which is asked before it is believed.
    /// A registration that was done by then is that port's still: see docs/failover.md for what
    /// follows when this host was fenced before.
    fn gone(&mut self, id: PathId) {
        self.paths.retain(|path| path.id != id);
        if self.gate == Gate::Registering(id) {
            self.gate = Gate::Doubt;
        }
    }

    fn send(&mut self, id: PathId, command: Command, ask: Option<u64>, out: &mut Vec<Step>) {
        self.serial += 1;
        let serial = self.serial;
        if let Some(path) = self.path_mut(id) {
            path.sent = Some(Sent { command, serial, ask });
            out.push(Step::Send(id, command));
        }
    }

    /// What an answer says about the path, the reservation and the gate, whoever asked.
    fn answered(&mut self, now_ms: u64, id: PathId, answer: Answer, out: &mut Vec<Step>) {
        let probe_ms = self.terms.map_or(u64::MAX, |terms| terms.probe_ms);
        let sent = self.path_mut(id).and_then(|path| path.sent.take());
        let Some(sent) = sent else { return };
        self.freed();
        let Some(path) = self.path_mut(id) else { return };
        path.silent = answer == Answer::Failed;
        path.probe_ms = now_ms.saturating_add(probe_ms);
        if answer == Answer::Failed {
            path.late |= sent.command.grants();
            path.place = Place::Unsure;
        } else {
            path.late = false;
            self.learn(id, sent.command, &answer);
        }
        if let Answer::Seen(seen) = &answer {
            self.seen_holder = seen.holder;
            self.owned = seen.holder == Some(self.key.number());
            if !seen.holder.and_then(Key::of).is_some_and(|key| key.is_of(self.key)) {
                self.lost();
            }
            self.looked(sent.serial, out);
        }
        let verifies = self.started;
        if let Some(path) = self.path_mut(id)
            && verifies
            && path.place == Place::Unsure
            && !path.silent
        {
            path.probe_ms = now_ms;
        }
        self.gate_answered(id, sent.command);
        self.ask_answered(id, sent, answer, out);
    }

    fn learn(&mut self, id: PathId, command: Command, answer: &Answer) {
        let Command::Out { action, own, about } = command else {
            if command == Command::Reset && *answer == Answer::Good {
                self.undrained = false;
            }
            return;
        };
        let (key, claiming) = (self.key.number(), self.key.claiming().number());
        let good = *answer == Answer::Good;
        let registers = matches!(action, Out::Register | Out::RegisterAndIgnore);
        let place = match (registers, good) {
            (true, true) if about == key => Place::Inside,
            (true, true) if about == claiming => Place::Claiming,
            (true, false) if own == key && about == key => Place::Outside,
            (false, true) => self.path(id).map_or(Place::Unsure, |path| path.place),
            // No other path has the key: then this one is the holder, if this host is.
            _ if command.moves() && own != about => {
                self.holder = Some(id);
                Place::Claiming
            }
            _ => Place::Unsure,
        };
        if !registers && good {
            if action == Out::Reserve || own == about || self.seen_holder == Some(about) {
                self.holder = Some(id);
            }
            if command.moves() {
                self.moved_to(id);
            }
        }
        if let Some(path) = self.path_mut(id) {
            path.place = place;
        }
    }

    /// The own key was preempted by this path: it alone is left registered.
    fn moved_to(&mut self, id: PathId) {
        for path in self.paths.iter_mut().filter(|path| path.id != id) {
            path.place = Place::Unsure;
        }
    }

    /// Another run is shown as the holder. It may have preempted what a claim of this one had
    /// registered, and the next claim registers it again.
    fn lost(&mut self) {
        self.holder = None;
        let inside = |path: &&mut Path| path.place == Place::Inside;
        if !self.started {
            self.paths.iter_mut().filter(inside).for_each(|path| path.place = Place::Unsure);
        }
    }

    /// How the paths are that nobody uses.
    fn probe(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let due =
            |path: &&Path| path.is_free() && now_ms >= path.probe_ms && !self.is_next(path.id);
        let due: Vec<_> = self.paths.iter().filter(due).map(|one| (one.id, one.place)).collect();
        for (id, place) in due {
            let key = self.key;
            let verifies = self.started && place == Place::Unsure;
            let renew = Command::of(Request::Renew(key));
            self.send(id, if verifies { renew } else { Command::Look }, None, out);
        }
    }
}
