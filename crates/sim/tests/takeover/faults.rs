//! What goes wrong, and how it becomes well again.

use guard::Input;
use rand::Rng;

use crate::checker::Wrong;
use crate::host::{Brain, Gate, Host, Line};
use crate::world::{Event, Expected, Scheme, World};

/// Faults of one history.
const FAULTS: u32 = 10;
/// How often an owner had to be, and was.
pub(crate) const HEARD_AGAIN: &str = "owner is heard again after a crash of the target";

impl World {
    pub(crate) fn plan_faults(&mut self) {
        if self.scheme == Scheme::ClearAndReserve {
            return self.plan_pauses();
        }
        for at in 1..=FAULTS {
            let at_us = u64::from(at) * 3_000_000 + self.us(2_500);
            self.at(at_us, Event::Fault);
        }
        self.calm_us = u64::from(FAULTS + 1) * 3_000_000 + 12_000_000;
        self.at(self.calm_us, Event::Calm);
        self.end_us = self.calm_us + 9_000_000;
    }

    /// All that the scripts are asked to survive: now and then their owner is paused.
    fn plan_pauses(&mut self) {
        for at in 1..=5 {
            let at_us = at * 30_000_000 + self.us(9_000);
            self.at(at_us, Event::Fault);
        }
        self.end_us = 180_000_000;
    }

    /// The owner is paused for long enough that the other host's product takes it for dead.
    fn pause_owner(&mut self) {
        let Some(owner) = self.hosts.iter().position(|host| host.runs()) else { return };
        let heal_us = self.now_us + 2_000_000 + self.us(14_000);
        self.pause(owner, heal_us);
        for at in (0..self.hosts.len()).filter(|at| *at != owner) {
            let now_ms = self.hosts[at].clock.local_ms(self.now_us);
            if let Some(Brain::Scripts(scripts)) = &mut self.hosts[at].brain {
                scripts.attack(now_ms + 1_500);
                self.schedule_wake(at);
            }
        }
    }

    /// The owner more often than not.
    fn victim(&mut self) -> usize {
        let owner = self.hosts.iter().position(|host| host.runs());
        match owner {
            Some(owner) if self.random.random_bool(0.7) => owner,
            _ => self.random.random_range(0..self.hosts.len()),
        }
    }

    pub(crate) fn fault(&mut self) {
        if self.scheme == Scheme::ClearAndReserve {
            return self.pause_owner();
        }
        let at = self.victim();
        if self.scheme.has_paths() && self.random.random_bool(0.4) {
            return self.cut_path(at);
        }
        let kind = self.random.random_range(0..100);
        match kind {
            0..22 => {
                let heal_us = self.now_us + self.us(if kind < 5 { 300 } else { 9_000 });
                self.pause(at, heal_us);
            }
            22..29 => {
                self.befalls("guard alone is paused", at);
                self.hosts[at].guard_paused = true;
                let heal_us = self.now_us + self.us(3_000);
                self.at(heal_us, Event::WakeGuard { host: at });
            }
            29..33 => self.pause_command(at),
            33..53 => self.cut_network(at),
            53..58 => {
                self.befalls("session is opened anew", at);
                let line = self.line_of(at);
                self.log_in(at, line);
            }
            58..61 => {
                let line = self.line_of(at);
                self.rename(at, line);
            }
            61..68 => self.kill(at, true),
            68..72 => self.kill(at, false),
            72..76 => self.guard_dies(at),
            76..82 => {
                self.note("target is paused");
                self.target_paused = true;
                let heal_us = self.now_us + self.us(if kind < 78 { 9_000 } else { 2_000 });
                self.at(heal_us, Event::WakeTarget);
            }
            82..88 => self.crash_target(),
            88..90 => {
                self.note("power of everything is cut");
                self.crash_target();
                (0..self.hosts.len()).for_each(|host| self.kill(host, true));
            }
            90..95 => {
                self.note("medium is slow");
                self.slow_writes = 8;
            }
            _ => {
                self.befalls("guard is asked to stop", at);
                self.input(at, Input::Stop);
            }
        }
    }

    /// A fault in the story and in the count.
    fn note(&mut self, fault: &'static str) {
        self.count(fault);
        self.tell(fault.to_owned());
    }

    fn befalls(&mut self, fault: &'static str, at: usize) {
        self.count(fault);
        self.tell(format!("{at}: {fault}"));
    }

    /// One of its paths.
    fn line_of(&mut self, at: usize) -> usize {
        let lines = self.hosts[at].lines.len();
        if lines > 1 { self.random.random_range(0..lines) } else { 0 }
    }

    fn rename(&mut self, at: usize, line: usize) {
        if self.scheme.has_paths() && self.hosts[at].paused_us.is_some() {
            // Its kernel stands still, too.
            return;
        }
        self.befalls("session is opened under another ISID", at);
        self.hosts[at].lines[line].isid += 1;
        self.renamed(at, line);
        self.log_in(at, line);
    }

    /// One path alone: it comes back as it was, or under another name.
    fn cut_path(&mut self, at: usize) {
        let line = self.line_of(at);
        self.befalls("path is cut", at);
        // Now and then the file system of the record is full as long.
        self.hosts[at].full |= self.random.random_bool(0.2);
        self.hosts[at].lines[line].blocked = [true; 2];
        let renames = self.random.random_bool(0.4);
        let long = self.random.random_bool(0.3);
        let heal_us = self.now_us + self.us(if long { 9_000 } else { 1_500 });
        self.at(heal_us, Event::HealPath { host: at, line, renames });
    }

    /// A registration stays where it is, in the network or in a portal that stands still. Its guard
    /// may be killed, and the next one have the volume for a while; then the host is paused for long
    /// enough to be fenced, and the registration goes on.
    pub(crate) fn disturb_registration(&mut self, at: usize, line: usize) {
        let path = &self.hosts[at].lines[line];
        let ready = path.ready && path.blocked == [false; 2];
        let soon = self.calm_us <= self.now_us + 8_000_000;
        if !self.scheme.has_paths() || !ready || soon {
            return;
        }
        if self.random.random_bool(0.04) {
            // And so may its host, from there on.
            let pause_us = self.now_us + self.us(5);
            let heal_us = pause_us + self.us(4_000);
            return self.at(pause_us, Event::Pause { host: at, heal_us });
        }
        if !self.random.random_bool(0.12) {
            return;
        }
        self.befalls("registration stalls", at);
        self.hosts[at].lines[line].blocked = [true; 2];
        if self.random.random_bool(0.5) {
            let life = self.hosts[at].life;
            let kill_us = self.now_us + self.us(5);
            self.at(kill_us, Event::KillGuard { host: at, life });
        }
        let pause_us = self.now_us + self.us(4_000);
        let heal_us = pause_us + 600_000 + self.us(2_000);
        self.at(pause_us, Event::Pause { host: at, heal_us });
        let goes_on_us = heal_us - self.us(200);
        self.at(goes_on_us, Event::HealPath { host: at, line, renames: false });
    }

    /// While a path is let in, something befalls the host or one of its paths, more often than not:
    /// within the few milliseconds that it takes.
    pub(crate) fn disturb(&mut self, at: usize) {
        if self.random.random_bool(0.6) {
            let at_us = self.now_us + self.us(5);
            self.at(at_us, Event::Disturb { host: at });
        }
    }

    pub(crate) fn disturbed(&mut self, at: usize) {
        if self.calm_us <= self.now_us {
            return;
        }
        match self.random.random_range(0..10) {
            0..4 => {
                let heal_us = self.now_us + self.us(4_000);
                self.pause(at, heal_us);
            }
            4..6 => {
                self.befalls("guard alone is paused", at);
                self.hosts[at].guard_paused = true;
                let heal_us = self.now_us + self.us(3_000);
                self.at(heal_us, Event::WakeGuard { host: at });
            }
            6..9 => self.cut_path(at),
            _ => self.guard_dies(at),
        }
    }

    pub(crate) fn heal_path(&mut self, at: usize, line: usize, renames: bool) {
        if renames {
            self.rename(at, line);
        }
        self.hosts[at].full = false;
        self.heal_line(at, line);
    }

    fn cut_network(&mut self, at: usize) {
        let sides = [
            ("network is cut both ways", [true, true]),
            ("network is cut to the target", [true, false]),
            ("network is cut from the target", [false, true]),
        ];
        let (what, blocked) = sides[self.random.random_range(0..3)];
        self.befalls(what, at);
        self.hosts[at].lines.iter_mut().for_each(|line| line.blocked = blocked);
        let heal_us = self.now_us + self.us(5_000);
        self.at(heal_us, Event::HealNetwork { host: at });
    }

    /// The command alone: what it would have written it writes later.
    fn pause_command(&mut self, at: usize) {
        let life = self.hosts[at].life;
        let Some(app) = &mut self.hosts[at].app else { return };
        app.paused = true;
        self.befalls("command alone is paused", at);
        let heal_us = self.now_us + self.us(5_000);
        self.at(heal_us, Event::WakeCommand { host: at, life });
    }

    pub(crate) fn wake_command(&mut self, at: usize) {
        if let Some(app) = &mut self.hosts[at].app {
            app.paused = false;
            self.again(at);
        }
    }

    pub(crate) fn pause(&mut self, at: usize, heal_us: u64) {
        if self.hosts[at].paused_us.is_none() {
            self.befalls("host is paused", at);
            self.hosts[at].paused_us = Some(self.now_us);
            self.at(heal_us, Event::Resume { host: at });
        }
    }

    /// The host's power, or the guard's process with its command.
    pub(crate) fn kill(&mut self, at: usize, power: bool) {
        self.befalls(if power { "host loses its power" } else { "guard is killed" }, at);
        let renamed = self.random.random_bool(0.5);
        let host = &mut self.hosts[at];
        host.die();
        if power {
            host.has_sessions = false;
            for line in &mut host.lines {
                line.session += 1;
                line.ready = false;
                line.isid += u8::from(renamed);
                line.held_out.clear();
                line.held_in.clear();
            }
        }
        let again_us = self.now_us + self.us(if power { 5_000 } else { 1_500 });
        let life = self.hosts[at].life;
        self.at(again_us, Event::Restart { host: at, life });
    }

    /// With its command, or alone.
    pub(crate) fn guard_ends(&mut self, at: usize) {
        if self.random.random_bool(0.6) { self.kill(at, false) } else { self.guard_dies(at) }
    }

    pub(crate) fn is_full(&mut self, at: usize, what: &'static str) -> bool {
        let full = self.hosts[at].full;
        if full {
            self.count(what);
        }
        full
    }

    /// The guard alone, as in an upgrade that goes wrong: its command runs on, and the next guard
    /// adopts it.
    pub(crate) fn guard_dies(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let runs = host.app.as_ref().is_some_and(|app| app.ending.is_none());
        if !runs || host.guard_paused {
            return;
        }
        host.brain = None;
        host.lines.iter_mut().for_each(|line| line.asked = None);
        host.guard_paused = true;
        self.befalls("guard dies and its command does not", at);
        let again_us = self.now_us + self.us(1_500);
        self.at(again_us, Event::Adopt { host: at });
    }

    pub(crate) fn adopt(&mut self, at: usize) {
        self.hosts[at].guard_paused = false;
        if self.hosts[at].brain.is_none() && self.hosts[at].app.is_some() {
            let closed = matches!(self.hosts[at].gate, Gate::Closed | Gate::Closing { .. });
            if closed && self.scheme.has_paths() && self.random.random_bool(0.5) {
                self.befalls("closed gate is opened by hand", at);
                self.hosts[at].gate = Gate::Open;
            }
            self.tell(format!("another guard adopts the command of {at}"));
            self.hosts[at].adopt(self.scheme, self.ages, self.now_us);
            self.tell_of_lines(at);
            self.input(at, Input::Tick);
        }
        self.replay(at);
    }

    fn crash_target(&mut self) {
        self.note("target crashes");
        let random = &mut self.random;
        let landed = self.target.crash(|| random.random_bool(0.5));
        for (block, content) in landed {
            self.checker.lands(block, content);
        }
        self.boot += 1;
        self.target_down = true;
        let up_us = self.now_us + self.us(800);
        self.at(up_us, Event::TargetUp);
        self.expect_owner(up_us + 3_000_000);
    }

    /// A target that has begun anew resets the connections that it does not know: hosts learn of it
    /// at once, every other time, or when their kernels look.
    pub(crate) fn connections_are_reset(&mut self) {
        if !self.scheme.has_paths() {
            return;
        }
        let at_once = self.random.random_bool(0.5);
        for host in 0..self.hosts.len() {
            for line in 0..self.hosts[host].lines.len() {
                let session = self.hosts[host].lines[line].session;
                let after_us = if at_once { 1 } else { self.us(5_000) };
                self.at(self.now_us + after_us, Event::Reset { host, line, session });
            }
        }
    }

    /// The kernel learns that a session is gone, if it is one that it has.
    pub(crate) fn connection_is_reset(&mut self, at: usize, line: usize, session: u32) {
        let Line { ready, blocked, session: now, .. } = self.hosts[at].lines[line];
        if !ready || now != session || self.target.knows(self.hosts[at].link(line)) {
            return;
        }
        if blocked != [false; 2] {
            let later_us = self.now_us + self.us(1_000);
            return self.at(later_us, Event::Reset { host: at, line, session });
        }
        // The target has counted one more already.
        self.hosts[at].lines[line].session += 1;
        self.log_in(at, line);
    }

    /// A restart of the target moves nothing: the owner, if nothing else goes wrong, is heard again
    /// within two seconds, and stays the owner. (Where no target tells ages it has to be faster.)
    fn expect_owner(&mut self, at_us: u64) {
        let is_well = |host: &&Host| {
            let lines = &mut host.lines.iter();
            let open = lines.all(|line| line.ready && line.open && line.blocked == [false; 2]);
            let at_work = host.runs() && host.app.as_ref().is_some_and(|app| !app.paused);
            at_work && host.is_awake() && open
        };
        let mut well = self.hosts.iter().filter(is_well);
        let key = self.target.holder().map(|key| key.number());
        let Some(owner) = well.find(|host| Some(host.run_key()) == key) else { return };
        // Who is about to preempt a challenger waits for the answer longer than for any other.
        let alone = self.target.is_unchallenged();
        if alone && self.ages && !self.target_paused && self.scheme.is_safe() {
            let (host, starts, faults) = (owner.number, owner.starts, self.disturbances());
            self.at(at_us, Event::HeardAgain(Expected { host, starts, faults }));
        }
    }

    fn disturbances(&self) -> u64 {
        let harmless =
            ["message delivered twice", "path let in", "gate does not close", HEARD_AGAIN];
        let faults = self.faults.iter().filter(|(what, _)| !harmless.contains(what));
        faults.map(|(_, times)| times).sum()
    }

    pub(crate) fn heard_again(&mut self, expected: Expected) {
        let Expected { host, starts, faults } = expected;
        if faults == self.disturbances() && self.now_us < self.calm_us {
            self.count(HEARD_AGAIN);
            let stays = self.hosts[host].runs() && self.hosts[host].starts == starts;
            if !stays {
                self.checker.fail(Wrong::Moved { host });
            }
        }
    }

    pub(crate) fn resume(&mut self, at: usize) {
        let Some(since_us) = self.hosts[at].paused_us.take() else { return };
        self.tell(format!("{at} goes on"));
        let host = &mut self.hosts[at];
        if host.clock.stops {
            host.clock.lost_us += self.now_us - since_us;
        }
        self.replay(at);
    }

    pub(crate) fn wake_guard(&mut self, at: usize) {
        if self.hosts[at].brain.is_none() && self.hosts[at].app.is_some() {
            // It is dead, and nobody has come after it yet.
            return;
        }
        self.hosts[at].guard_paused = false;
        self.replay(at);
    }

    /// What the host missed comes at once, and in whatever order its parts get to run.
    fn replay(&mut self, at: usize) {
        self.hosts[at].awake_us = self.now_us;
        self.again(at);
        let soon_us = self.now_us + self.random.random_range(0..3_000);
        self.wake(at, soon_us);
    }

    fn again(&mut self, at: usize) {
        for event in std::mem::take(&mut self.hosts[at].deferred) {
            let soon_us = self.now_us + 1;
            self.at(soon_us, event);
        }
    }

    pub(crate) fn heal_network(&mut self, at: usize) {
        for line in 0..self.hosts[at].lines.len() {
            self.heal_line(at, line);
        }
    }

    fn heal_line(&mut self, at: usize, line: usize) {
        if self.last.is_some() {
            return;
        }
        self.hosts[at].lines[line].blocked = [false; 2];
        for (link, message) in std::mem::take(&mut self.hosts[at].lines[line].held_out) {
            self.send(link, message);
        }
        for (link, message) in std::mem::take(&mut self.hosts[at].lines[line].held_in) {
            self.reply(link, message);
        }
    }

    /// Everything is well; somebody must run in the end.
    pub(crate) fn calm(&mut self) {
        self.tell("all is well".into());
        self.slow_writes = 0;
        self.hosts.iter_mut().for_each(|host| host.full = false);
        self.target_paused = false;
        self.target_down = false;
        for at in 0..self.hosts.len() {
            self.heal_network(at);
            self.resume(at);
            self.adopt(at);
            self.wake_command(at);
        }
        for event in std::mem::take(&mut self.target_deferred) {
            let soon_us = self.now_us + 1;
            self.at(soon_us, event);
        }
        if self.scheme.has_paths() && self.random.random_bool(0.3) {
            self.leave_one();
        }
    }

    /// One host is left, with one path: that is enough.
    fn leave_one(&mut self) {
        let last = self.random.random_range(0..self.hosts.len());
        let good = self.line_of(last);
        self.last = Some(last);
        self.befalls("is left alone with one path", last);
        for at in (0..self.hosts.len()).filter(|at| *at != last) {
            self.hosts[at].die();
            self.hosts[at].lines.iter_mut().for_each(|line| line.session += 1);
        }
        let lines = self.hosts[last].lines.iter_mut().enumerate();
        lines.filter(|(line, _)| *line != good).for_each(|(_, line)| line.blocked = [true; 2]);
    }
}
