//! The door to the portals: who is let in, who is turned away, and what is told of it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use env::Clock;
use tokio::sync::mpsc::UnboundedSender;

use crate::anteroom::{Anteroom, Refusal, Ticket};
use crate::nexus::Signal;
use crate::node::Limits;
use crate::throttle::{Quota, Throttle};

/// Why a connection, a session or a command did not get what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turned {
    /// Its address has too many logins under way.
    Address,
    /// The node has too many logins under way.
    Logins,
    /// A login under way lost its place to another one.
    Expelled,
    /// The process has few file descriptors left.
    Descriptors,
    /// The kernel gave no connection.
    Accept,
    /// The node has as many sessions as it may have.
    Sessions,
    /// One attachment has as many initiator ports as it may have.
    Ports,
    /// TASK SET FULL: no memory for the data that a command brings.
    TaskSetFull,
    /// A connection was ended that sat on memory while others waited for it.
    Idle,
}

/// The name of each in the metrics, and what a log line says.
const TURNED: [(Turned, &str, &str); 9] = [
    (Turned::Address, "address", "an address has too many logins under way"),
    (Turned::Logins, "logins", "the node has too many logins under way"),
    (Turned::Expelled, "expelled", "a login under way lost its place to another"),
    (Turned::Descriptors, "descriptors", "few file descriptors are left: connections are refused"),
    (Turned::Accept, "accept", "a connection was not accepted"),
    (Turned::Sessions, "sessions", "no more sessions are allowed"),
    (Turned::Ports, "ports", "an attachment has too many initiator ports"),
    (Turned::TaskSetFull, "task_set_full", "no memory for the data of a command: TASK SET FULL"),
    (Turned::Idle, "idle", "a connection sat on memory that others waited for, and was ended"),
];

/// Of so many descriptors one is kept for the API and for the files of volumes.
const DESCRIPTORS_KEPT: u64 = 4;

#[derive(Default)]
struct Told {
    lines: [Throttle; TURNED.len()],
    refused_logins: Quota,
}

/// The door of a node.
pub(crate) struct Door {
    room: Mutex<Anteroom<UnboundedSender<Signal>>>,
    descriptors: u64,
    clock: Arc<dyn Clock>,
    counts: [AtomicU64; TURNED.len()],
    told: Mutex<Told>,
}

impl Door {
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            room: Mutex::new(Anteroom::new(limits.places)),
            descriptors: limits.descriptors,
            clock,
            counts: Default::default(),
            told: Mutex::default(),
        }
    }

    /// A connection was accepted under this file descriptor. `None`: it is to be closed, and was
    /// counted.
    pub(crate) fn knock(
        self: &Arc<Self>,
        descriptor: u64,
        from: IpAddr,
        signals: UnboundedSender<Signal>,
    ) -> Option<Place> {
        if descriptor >= self.descriptors - self.descriptors / DESCRIPTORS_KEPT {
            self.turn_away(Turned::Descriptors, &from);
            return None;
        }
        let knocked = lock(&self.room).knock(from, self.clock.now(), signals);
        match knocked {
            Ok((ticket, expelled)) => {
                if let Some(expelled) = expelled {
                    let why = "another login took the place of this one";
                    let _ = expelled.send(Signal::Close { why });
                    self.turn_away(Turned::Expelled, &from);
                }
                Some(Place { door: Arc::clone(self), ticket: Some(ticket), seated: false })
            }
            Err(refusal) => {
                let why = match refusal {
                    Refusal::Address => Turned::Address,
                    Refusal::Node => Turned::Logins,
                };
                self.turn_away(why, &from);
                None
            }
        }
    }

    /// Count it, and say it now and then.
    pub(crate) fn turn_away(&self, turned: Turned, who: &dyn std::fmt::Display) {
        let at = TURNED.iter().position(|(known, ..)| *known == turned).unwrap_or(0);
        self.counts[at].fetch_add(1, Relaxed);
        if let Some(times) = lock(&self.told).lines[at].tell(self.clock.now()) {
            tracing::warn!(last = %who, times, "{}", TURNED[at].2);
        }
    }

    /// May this refused login become a notice? A flood of them must not fill the audit trail.
    pub(crate) fn tells_refused_login(&self, from: IpAddr) -> bool {
        lock(&self.told).refused_logins.allows(from, self.clock.now())
    }

    /// The door's part of the metrics page.
    pub(crate) fn page(&self) -> String {
        let (logins, sessions) = lock(&self.room).counts();
        let untold = lock(&self.told).refused_logins.suppressed();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (reason, value) in values {
                let labels = match *reason {
                    "" => String::new(),
                    reason => format!("{{reason=\"{reason}\"}}"),
                };
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let help = "Connections that have not logged in yet, and discovery sessions.";
        family("commonhold_logins", "gauge", help, &[("", as_u64(logins))]);
        let help = "Sessions with targets that count against their limit.";
        family("commonhold_seats", "gauge", help, &[("", as_u64(sessions))]);
        let counts: Vec<_> = TURNED
            .iter()
            .zip(&self.counts)
            .map(|((_, name, _), count)| (*name, count.load(Relaxed)))
            .collect();
        let help = "Connections, sessions and commands that met a limit, by reason.";
        family("commonhold_refused_total", "counter", help, &counts);
        let help = "Refused logins that were not written into the audit trail.";
        family("commonhold_refused_logins_untold_total", "counter", help, &[("", untold)]);
        text
    }
}

/// One connection's place at the door; given back when dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    ticket: Option<Ticket>,
    seated: bool,
}

impl Place {
    /// The login is through: have a seat. False: there is none.
    pub(crate) fn seat(&mut self) -> bool {
        if let Some(ticket) = self.ticket.take() {
            self.seated = lock(&self.door.room).seat(ticket);
        }
        self.seated
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.door.room).leave(ticket);
        }
        if self.seated {
            lock(&self.door.room).rise();
        }
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while the lock is held")
}
