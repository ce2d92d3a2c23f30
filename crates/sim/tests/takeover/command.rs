//! The command of a host: how it starts and ends, and who may run one.

use guard::Input;

use crate::checker::Wrong;
use crate::host::{App, Brain, Host, Line};
use crate::world::{Event, Scheme, World};

/// How long a host that has just woken may take to notice that it is not alone.
const NOTICE_US: u64 = 480_000;
const PATROL_US: u64 = 20_000;

impl World {
    pub(crate) fn start(&mut self, at: usize) {
        self.hosts[at].starts += 1;
        let key = self.hosts[at].run_key();
        self.tell(format!("{at} starts as {key:#x}; holder {:?}", self.target.holder()));
        let (ending, killed) = (None, false);
        self.hosts[at].app = Some(App { key, paused: false, frozen: false, ending, killed });
        // A host may be paused after the look that it starts by, on a clock that stands still, and
        // be fenced meanwhile. Whose the volume is the target says, not the host.
        let holds = self.target.holder().is_some_and(|holder| holder.number() == key);
        if holds || self.scheme == Scheme::ClearAndReserve {
            self.checker.begins(at, key);
        } else {
            self.count("host starts that has lost the volume since it looked");
            let host = &self.hosts[at];
            let was_paused = host.clock.stops && host.awake_us >= host.looked_us;
            if !was_paused && self.scheme.is_safe() {
                self.checker.fail(Wrong::Unheld { host: at });
            }
        }
        let life = self.hosts[at].life;
        self.at(self.now_us + 1, Event::Write { host: at, life });
    }

    pub(crate) fn command_ends(&mut self, at: usize) {
        let stands = |app: &App| app.frozen && !app.killed;
        if self.hosts[at].app.as_ref().is_some_and(stands) {
            // It has no time to end in.
            let (later_us, life) = (self.now_us + self.us(100), self.hosts[at].life);
            return self.at(later_us, Event::CommandEnds { host: at, life });
        }
        if self.hosts[at].app.take().is_some() {
            self.hosts[at].pending.clear();
            self.input(at, Input::Ended { code: 0 });
        }
    }

    /// Two hosts that are awake, and have been for a while, must not both run.
    pub(crate) fn patrol(&mut self) {
        let runs = |host: &&Host| {
            host.is_at_work()
                && host.is_awake()
                && (host.awake_us == 0 || self.now_us > host.awake_us + NOTICE_US)
        };
        let mut running = self.hosts.iter().filter(runs).map(|host| host.number);
        if let (Some(first), Some(second)) = (running.next(), running.next()) {
            self.checker.fail(Wrong::Twice { first, second });
        }
        self.at(self.now_us + PATROL_US, Event::Patrol);
    }

    pub(crate) fn tell_how_hosts_stand(&mut self) {
        for at in 0..self.hosts.len() {
            let host = &self.hosts[at];
            let line = |line: &Line| {
                let Line { id, ready, open, owes, blocked, .. } = line;
                format!("{id:?} ready {ready} open {open} owes {owes} blocked {blocked:?}")
            };
            let lines: Vec<String> = host.lines.iter().map(line).collect();
            let brain = host.brain.as_ref().map(Brain::story);
            let story = format!("{at}: {:?}\n{lines:#?}\n{brain:?}", host.standing);
            self.tell(story);
        }
    }

    /// Nobody runs, and somebody should. A host that was killed while it registered a path is not to
    /// as long as one of its paths is dead and has not answered since.
    pub(crate) fn is_deserted(&self) -> bool {
        let owes = |line: &Line| line.owes && line.blocked != [false; 2];
        let last = self.last.map(|last| &self.hosts[last]);
        let waits =
            last.is_some_and(|last| last.standing.unanswered && last.lines.iter().any(owes));
        !waits && !self.hosts.iter().any(Host::runs)
    }
}
