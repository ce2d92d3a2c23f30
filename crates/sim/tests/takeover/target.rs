//! The target: the real reservation machine, and commands that take their time.

use std::collections::{BTreeMap, BTreeSet};

use guard::paths::Command;
use guard::wire;
use guard::{Answer, Key, Seen};
use scsi::commands::conflict_of;
use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{self, ReservationType, Reservations};

use crate::checker::Content;
use crate::scripts::Plain;

const WRITE_16: [u8; 16] = [0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;
const PORT: RelativePort = RelativePort(1);

/// One session of one host, by one of its paths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Link {
    pub(crate) host: usize,
    pub(crate) line: usize,
    pub(crate) isid: u8,
    pub(crate) session: u32,
}

/// What an initiator port is called: host, path, and the last byte of the ISID.
type PortName = (usize, usize, u8);

impl Link {
    fn port(self) -> PortName {
        (self.host, self.line, self.isid)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Op {
    Guard(Command),
    Plain(Plain),
    /// `withheld`: its data comes when it is asked for.
    Write {
        block: usize,
        content: Content,
        withheld: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum ToTarget {
    Login,
    Command { tag: u32, op: Op },
    Data { tag: u32 },
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ToHost {
    LoggedIn,
    Ready { tag: u32 },
    Answer { tag: u32, answer: Answer },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    NeedsData,
    Backend,
}

struct Write {
    link: Link,
    tag: u32,
    block: usize,
    content: Content,
    stage: Stage,
}

/// Somebody who is answered when these writes have ended.
struct Waiter {
    link: Link,
    what: ToHost,
    writes: Vec<u64>,
}

/// What the target wants done.
pub(crate) enum Effect {
    Send(Link, ToHost),
    /// This write reaches the medium after a while.
    Submit(u64),
}

pub(crate) struct Target {
    pub(crate) reservations: Reservations,
    /// Whether a preempt or a reset waits for what it aborts, and a write whose data comes late is
    /// judged again. The standard leaves room for a target that does neither.
    pub(crate) drains: bool,
    ports: BTreeMap<PortName, Port>,
    writes: BTreeMap<u64, Write>,
    waiters: Vec<Waiter>,
    next: u64,
}

/// What the target knows of an initiator port that has logged in.
struct Port {
    nexus: ItNexus,
    session: u32,
    spoke_us: Option<u64>,
    /// Commands of this session: one that the network delivers again is dropped (CmdSN does it).
    heard: BTreeSet<u32>,
}

impl Port {
    fn new((host, line, isid): PortName) -> Self {
        let name = format!("iqn.2026-11.org.example:host-{host}");
        let line = u8::try_from(line).unwrap();
        let initiator = InitiatorPort::iscsi(&name, [0, 0, 0, 0, line, isid]);
        let nexus = ItNexus { initiator, target: PORT };
        Self { nexus, session: 0, spoke_us: None, heard: BTreeSet::new() }
    }
}

impl Target {
    pub(crate) fn new(drains: bool) -> Self {
        Self {
            reservations: Reservations::default(),
            drains,
            ports: BTreeMap::new(),
            writes: BTreeMap::new(),
            waiters: Vec::new(),
            next: 0,
        }
    }

    pub(crate) fn receive(&mut self, now_us: u64, link: Link, message: ToTarget) -> Vec<Effect> {
        if message == ToTarget::Login {
            return self.login(link);
        }
        let port = self.ports.get_mut(&link.port()).filter(|port| port.session == link.session);
        let Some(port) = port else { return Vec::new() };
        match message {
            ToTarget::Login => Vec::new(),
            ToTarget::Command { tag, op } => {
                if !port.heard.insert(tag) {
                    return Vec::new();
                }
                port.spoke_us = Some(now_us);
                self.command(now_us, link, tag, op)
            }
            ToTarget::Data { tag } => {
                let waits = |(_, write): &(&u64, &mut Write)| {
                    (write.link, write.tag, write.stage) == (link, tag, Stage::NeedsData)
                };
                let Some((id, write)) = self.writes.iter_mut().find(waits) else {
                    return Vec::new();
                };
                let id = *id;
                let refused = self.reservations.refusal(&port.nexus, conflict_of(&WRITE_16));
                if self.drains && refused.is_some() {
                    self.writes.remove(&id);
                    return vec![answer(link, tag, Answer::Conflict)];
                }
                write.stage = Stage::Backend;
                vec![Effect::Submit(id)]
            }
        }
    }

    /// The session before ends first, with all that it sent (RFC 7143 6.3.5).
    fn login(&mut self, link: Link) -> Vec<Effect> {
        // A login that is older than the session comes from a connection that was given up.
        let port = self.ports.entry(link.port()).or_insert_with(|| Port::new(link.port()));
        if port.session >= link.session {
            return Vec::new();
        }
        port.session = link.session;
        port.heard.clear();
        self.drop_waiting(|write| write.link.port() == link.port());
        let writes = self.running(|write| write.link.port() == link.port());
        self.wait(link, ToHost::LoggedIn, writes)
    }

    /// Whether this session is still one.
    pub(crate) fn knows(&self, link: Link) -> bool {
        self.ports.get(&link.port()).is_some_and(|port| port.session == link.session)
    }

    fn command(&mut self, now_us: u64, link: Link, tag: u32, op: Op) -> Vec<Effect> {
        let request = match op {
            Op::Write { block, content, withheld } => {
                let nexus = &self.ports[&link.port()].nexus;
                if self.reservations.refusal(nexus, conflict_of(&WRITE_16)).is_some() {
                    return vec![answer(link, tag, Answer::Conflict)];
                }
                self.next += 1;
                let stage = if withheld { Stage::NeedsData } else { Stage::Backend };
                self.writes.insert(self.next, Write { link, tag, block, content, stage });
                return vec![match stage {
                    Stage::NeedsData => Effect::Send(link, ToHost::Ready { tag }),
                    Stage::Backend => Effect::Submit(self.next),
                }];
            }
            Op::Plain(plain) => return self.plain(now_us, link, tag, plain),
            Op::Guard(request) => request,
        };
        match request {
            Command::Look => vec![answer(link, tag, Answer::Seen(self.seen(now_us)))],
            Command::Reset => {
                let running = self.abort(|_| true);
                self.wait(link, ToHost::Answer { tag, answer: Answer::Good }, running)
            }
            Command::Admit(_) => unreachable!("no host has ports beside its paths"),
            Command::Out { action, own, about } => {
                let (cdb, list) = wire::out(action, TYPE, (own, about), &[]);
                self.persistent_out(link, tag, &cdb, &list)
            }
        }
    }

    fn plain(&mut self, now_us: u64, link: Link, tag: u32, plain: Plain) -> Vec<Effect> {
        if plain == Plain::Read {
            return vec![answer(link, tag, Answer::Seen(self.seen(now_us)))];
        }
        let (cdb, list) = plain.bytes(link.host);
        self.persistent_out(link, tag, &cdb, &list)
    }

    fn persistent_out(&mut self, link: Link, tag: u32, cdb: &[u8; 10], list: &[u8]) -> Vec<Effect> {
        let request = reservations::Request::parse(cdb, list).unwrap();
        let nexus = &self.ports[&link.port()].nexus;
        let change = match self.reservations.apply(nexus, &request, &[PORT]) {
            Ok(change) => change,
            Err(_) => return vec![answer(link, tag, Answer::Conflict)],
        };
        self.reservations = change.next;
        let is_victim = |port: &Port| change.abort.contains(&port.nexus);
        let victims = self.ports.iter().filter(|(_, port)| is_victim(port));
        let victims: Vec<PortName> = victims.map(|(name, _)| *name).collect();
        let running = if self.drains && !victims.is_empty() {
            self.abort(|write| victims.contains(&write.link.port()))
        } else {
            Vec::new()
        };
        self.wait(link, ToHost::Answer { tag, answer: Answer::Good }, running)
    }

    fn seen(&self, now_us: u64) -> Seen {
        let registrations = self.reservations.registrations();
        let holder = registrations.iter().find(|one| self.reservations.is_holder(&one.nexus));
        let by_paths = holder.and_then(|one| Key::of(one.key)).is_some_and(Key::is_by_paths);
        let of_holder = registrations.iter().filter(|one| match holder {
            Some(holder) if by_paths => one.key == holder.key,
            _ => self.reservations.is_holder(&one.nexus),
        });
        let age_us = |nexus: &ItNexus| {
            let port = self.ports.values().find(|port| port.nexus == *nexus);
            port.and_then(|port| port.spoke_us).map(|at| now_us - at)
        };
        Seen {
            generation: self.reservations.generation(),
            holder: holder.map(|one| one.key),
            keys: registrations.iter().map(|one| one.key).collect(),
            age_ms: of_holder.filter_map(|one| age_us(&one.nexus)).min().map(|us| us / 1000),
        }
    }

    /// Drops what waits for data; gives what is on its way to the medium.
    fn abort(&mut self, of: impl Fn(&Write) -> bool) -> Vec<u64> {
        self.drop_waiting(&of);
        self.running(of)
    }

    fn drop_waiting(&mut self, of: impl Fn(&Write) -> bool) {
        self.writes.retain(|_, write| write.stage != Stage::NeedsData || !of(write));
    }

    fn running(&self, of: impl Fn(&Write) -> bool) -> Vec<u64> {
        self.writes.iter().filter(|(_, write)| of(write)).map(|(id, _)| *id).collect()
    }

    fn wait(&mut self, link: Link, what: ToHost, writes: Vec<u64>) -> Vec<Effect> {
        if writes.is_empty() {
            return vec![Effect::Send(link, what)];
        }
        self.waiters.push(Waiter { link, what, writes });
        Vec::new()
    }

    /// The medium has it. Gives what changed and who is told.
    pub(crate) fn land(&mut self, id: u64) -> Option<(usize, Content, Vec<Effect>)> {
        let write = self.writes.remove(&id)?;
        let mut effects = vec![answer(write.link, write.tag, Answer::Good)];
        let (mut done, mut rest) = (Vec::new(), Vec::new());
        for mut waiter in self.waiters.drain(..) {
            waiter.writes.retain(|one| *one != id);
            if waiter.writes.is_empty() { done.push(waiter) } else { rest.push(waiter) }
        }
        self.waiters = rest;
        effects.extend(done.into_iter().map(|waiter| Effect::Send(waiter.link, waiter.what)));
        Some((write.block, write.content, effects))
    }

    /// The power goes: what was on its way lands now or never. Gives what landed.
    pub(crate) fn crash(&mut self, mut lands: impl FnMut() -> bool) -> Vec<(usize, Content)> {
        let writes = std::mem::take(&mut self.writes);
        let reached = writes.into_values().filter(|write| write.stage == Stage::Backend);
        let landed = reached.filter(|_| lands()).map(|w| (w.block, w.content)).collect();
        self.waiters.clear();
        for port in self.ports.values_mut() {
            port.spoke_us = None;
            // Sessions are not remembered; what they still send is to nobody.
            port.session += 1;
        }
        self.reservations = self.reservations.after_power_loss();
        landed
    }

    /// Whether nobody but the holder is registered, as an observer sees it.
    pub(crate) fn is_unchallenged(&self) -> bool {
        let keys = self.reservations.registrations().iter().map(|one| one.key);
        self.holder().is_some_and(|holder| keys.clone().all(|key| key == holder.number()))
    }

    /// Who holds the volume, as an observer sees it.
    pub(crate) fn holder(&self) -> Option<Key> {
        let registrations = self.reservations.registrations().iter();
        let mut holders = registrations.filter(|one| self.reservations.is_holder(&one.nexus));
        holders.next().and_then(|one| Key::of(one.key))
    }
}

fn answer(link: Link, tag: u32, answer: Answer) -> Effect {
    Effect::Send(link, ToHost::Answer { tag, answer })
}
