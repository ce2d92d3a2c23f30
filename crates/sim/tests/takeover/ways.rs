//! Which way the command's writes go: down which path, and through the gate of a host with several.

use guard::pair::Event as Happens;
use guard::paths::{News, PathId};
use rand::Rng;

use crate::checker::Content;
use crate::host::{Gate, Pending};
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
        host.lines[line].asked = None;
        for write in host.pending.values_mut().filter(|write| write.line == Some(line)) {
            write.line = None;
        }
        self.at(self.now_us + 1, Event::Renamed { host: at, old, new });
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
        match self.hosts[at].gate {
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
