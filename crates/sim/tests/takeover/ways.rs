//! Which way the command's writes go: down which path, and through the gate of a host with several.

use guard::pair::Event as Happens;
use guard::paths::{Command, News, PathId};
use rand::Rng;

use crate::checker::Content;
use crate::host::{Gate, Line, Pending};
use crate::target::{Op, ToTarget};
use crate::world::{BLOCKS, Event, Scheme, World};

const PENDING_MAX: usize = 4;
/// How long a gate may take to close.
const CLOSE_US: u64 = 1_000_000;

impl World {
    /// A path has come back under another name: to the kernel it is another device, and what
    /// became of writes by the old one nobody learns.
    pub(crate) fn renamed(&mut self, at: usize, line: usize) {
        if !self.scheme.has_paths() {
            return;
        }
        let host = &mut self.hosts[at];
        let new = PathId(host.named);
        host.named += 1;
        let old = std::mem::replace(&mut host.lines[line].id, new);
        let was_open = std::mem::replace(&mut host.lines[line].open, true);
        let old = was_open.then_some(old);
        host.lines[line].asked = None;
        // Nobody waits for a device that is gone; another one is heard, too, while a note is there.
        host.lines[line].owes = host.standing.unanswered;
        for write in host.pending.values_mut().filter(|write| write.line == Some(line)) {
            write.line = None;
        }
        self.at(self.now_us + 1, Event::Renamed { host: at, old, new });
    }

    /// A device whose session does not answer may not open, now and then.
    pub(crate) fn open_lines(&mut self, at: usize) {
        for line in 0..self.hosts[at].lines.len() {
            let Line { ready, blocked, .. } = self.hosts[at].lines[line];
            let answers = ready && blocked == [false; 2];
            let open = !self.scheme.has_paths() || answers || self.random.random_bool(0.5);
            self.hosts[at].lines[line].open = open;
            if !open && ready {
                // What opening asks comes after all that is on its way.
                let host = &mut self.hosts[at];
                host.tag += 1;
                let (tag, link) = (host.tag, host.link(line));
                let op = Op::Guard(Command::Look);
                self.send(link, ToTarget::Command { tag, op });
            }
        }
    }

    /// The guard's own look at what is below its map.
    pub(crate) fn tell_of_lines(&mut self, at: usize) {
        if self.scheme.has_paths() {
            let unopened = self.hosts[at].unopened();
            self.happens(at, Happens::News(unopened));
        }
    }

    /// The device opens, if it has not yet.
    pub(crate) fn opened(&mut self, at: usize, line: usize) {
        if !std::mem::replace(&mut self.hosts[at].lines[line].open, true) {
            let (old, new) = (None, self.hosts[at].lines[line].id);
            self.at(self.now_us + 1, Event::Renamed { host: at, old, new });
        }
    }

    pub(crate) fn close_gate(&mut self, at: usize) {
        self.tell(format!("{at} closes its gate to let a path in"));
        self.count("path let in");
        let soon_us = self.now_us + self.us(3);
        let life = self.hosts[at].life;
        self.disturb(at);
        if self.scheme != Scheme::PathsWithoutGate {
            self.hosts[at].gate = Gate::Closing { until_us: self.now_us + CLOSE_US };
        }
        self.at(soon_us, Event::Gate { host: at, life });
    }

    /// Closed when all that went through has ended; not for ever waited for.
    pub(crate) fn gate_moves(&mut self, at: usize) {
        let ended = self.hosts[at].pending.values().all(|write| write.line.is_none());
        let fails = self.calm_us > self.now_us && self.random.random_bool(0.05);
        match self.hosts[at].gate {
            Gate::Closing { .. } if fails => {
                self.count("gate does not close");
                self.hosts[at].gate = Gate::Open;
                self.happens(at, Happens::News(News::NotClosed));
            }
            Gate::Closing { .. } if ended => {
                self.hosts[at].gate = Gate::Closed;
                self.happens(at, Happens::News(News::Closed));
            }
            Gate::Closing { until_us } if self.now_us >= until_us => {
                self.hosts[at].gate = Gate::Open;
                self.happens(at, Happens::News(News::NotClosed));
            }
            Gate::Closing { .. } => {
                let (later_us, life) = (self.now_us + 5_000, self.hosts[at].life);
                self.at(later_us, Event::Gate { host: at, life });
            }
            Gate::Open if self.scheme == Scheme::PathsWithoutGate => {
                self.happens(at, Happens::News(News::Closed));
            }
            _ => {}
        }
    }

    pub(crate) fn write(&mut self, at: usize) {
        let Some(app) = &self.hosts[at].app else { return };
        let (key, frozen) = (app.key, app.frozen);
        let pending = &self.hosts[at].pending;
        let block = self.random.random_range(0..BLOCKS);
        let busy = pending.values().any(|one| one.block == block);
        let under_way = pending.values().filter(|one| one.line.is_some()).count();
        let open = !self.scheme.has_paths() || self.hosts[at].gate == Gate::Open;
        if open && !frozen && !busy && under_way < PENDING_MAX {
            self.sequence += 1;
            let content = Content { key, sequence: self.sequence };
            let withheld = self.random.random_bool(0.3);
            let line = self.line_to_write(at);
            let host = &mut self.hosts[at];
            host.tag += 1;
            let (tag, link, ready) = (host.tag, host.link(line), host.lines[line].ready);
            host.pending.insert(tag, Pending { line: Some(line), block, content, withheld });
            if ready {
                let op = Op::Write { block, content, withheld };
                self.send(link, ToTarget::Command { tag, op });
            }
        }
        let life = self.hosts[at].life;
        let next_us = self.now_us + self.us(24);
        self.at(next_us, Event::Write { host: at, life });
    }

    /// The kernel writes down any path that has a session, and knows of no registration.
    fn line_to_write(&mut self, at: usize) -> usize {
        let lines = &self.hosts[at].lines;
        if lines.len() == 1 {
            return 0;
        }
        let ready: Vec<usize> = (0..lines.len()).filter(|line| lines[*line].ready).collect();
        let among = if ready.is_empty() { (0..lines.len()).collect() } else { ready };
        among[self.random.random_range(0..among.len())]
    }
}
