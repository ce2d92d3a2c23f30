//! How this host reaches its volumes: by the kernel's initiator, or by a program's own.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use api::agent::{AgentAttachment, Assignments};
use env::{mounts, whole};
use model::group::PathsReport;
use model::id::VolumeId;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use super::attach::{self, Job, Made};
use super::plan::{self, Login, Next, Portals, Sight, Stands};
use super::{kernel, maps};
use crate::agent::Settings;
use crate::group::Way;

const NOT_ATTACHED: &str = "the volume is not attached to this host yet";
const NO_PORTAL: &str = "the service names no portal of the volume";
const ATTACHING: &str = "the sessions of the volume are being made";
const LATER: &str = "it is logged in to when this host does not own the volume";
/// Every volume has a target of its own, and this LUN there.
const LUN: u16 = 0;

/// Before a volume that could not be reached, or did not grow, is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Before portals without a session are asked again, and before one that let nobody in is.
const ASK: Duration = Duration::from_secs(10);
const REFUSED: Duration = Duration::from_secs(60);

/// Which initiator logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Initiators {
    /// The kernel's where there is one, else this program's.
    Automatic,
    Kernel,
    /// This program's, and those of the groups' programs: no device, no mount.
    Own,
}

/// Kept as long as no guard of this host may begin a run with the volume.
pub(super) type Locks = Vec<Box<dyn Send + Sync>>;

/// What this host's wardens do with a volume.
pub(super) enum Hold {
    /// None has a run, and none begins one before these are let go.
    Aside(Locks),
    By,
    Owns,
}

/// What was begun has ended.
enum Done {
    /// Portals without a session: those that answer, why the others have none, and whether several
    /// sessions are no use.
    Asked {
        answering: Vec<String>,
        why: Option<String>,
        alone: bool,
    },
    Made(Made, Locks),
    Grown(Login, Result<(), String>),
    Out(Result<(), String>),
}

/// What is known of a volume.
#[derive(Default)]
struct Known {
    way: Option<Way>,
    paths: Option<PathsReport>,
    /// Portals without a session that could be had.
    answering: Vec<String>,
    /// Why there are fewer sessions than portals.
    why: Option<String>,
    /// Several sessions are no use for now, or not before the agent begins anew.
    alone: bool,
    unmapped: bool,
    /// Nothing is tried before.
    due: Option<Instant>,
    /// Portals without a session are not asked before.
    ask: Option<Instant>,
}

fn is_past(moment: Option<Instant>) -> bool {
    moment.is_none_or(|moment| Instant::now() >= moment)
}

impl Known {
    fn goes_nowhere(&mut self, why: &str) {
        self.way = Some(Way::Nowhere { why: why.to_owned() });
    }
}

/// The volumes of this host. What takes time runs beside the agent: a portal that does not answer
/// holds up its own volume and nothing else.
pub(super) struct Ways {
    kernel: bool,
    own_name: String,
    file: PathBuf,
    logins: BTreeMap<VolumeId, Login>,
    known: BTreeMap<VolumeId, Known>,
    under_way: JoinSet<(VolumeId, Done)>,
    busy: BTreeMap<VolumeId, task::Id>,
    /// Until the wardens have been told by which way.
    locks: Locks,
}

impl Ways {
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let kernel = match settings.initiators {
            Initiators::Automatic => kernel::is_there(),
            Initiators::Kernel => true,
            Initiators::Own => false,
        };
        let file = settings.state.join("logins.json");
        let logins = match whole::read(&file)? {
            Some(text) => serde_json::from_str(&text).map_err(io::Error::other)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            kernel,
            own_name: settings.initiator.clone(),
            file,
            logins,
            known: BTreeMap::new(),
            under_way: JoinSet::new(),
            busy: BTreeMap::new(),
            locks: Locks::new(),
        })
    }

    /// The way to a volume.
    pub(super) fn to(&self, volume: VolumeId) -> Way {
        let way = self.known.get(&volume).and_then(|known| known.way.clone());
        way.unwrap_or_else(|| Way::Nowhere { why: NOT_ATTACHED.to_owned() })
    }

    /// By how many paths the kernel reaches it.
    pub(super) fn paths(&self, volume: VolumeId) -> Option<PathsReport> {
        self.known.get(&volume)?.paths.clone()
    }

    /// The wardens know their ways.
    pub(super) fn release(&mut self) {
        self.locks.clear();
    }

    /// Begin to attach what is new, to detach what is gone, to see what has grown.
    pub(super) fn follow(&mut self, assignments: &Assignments, hold: impl Fn(VolumeId) -> Hold) {
        let attached = |volume: &VolumeId| {
            assignments.attachments.iter().any(|attachment| attachment.volume_id == *volume)
        };
        self.known.retain(|volume, _| attached(volume) || self.logins.contains_key(volume));
        for attachment in &assignments.attachments {
            if self.kernel {
                self.attend(attachment, &hold);
            } else {
                let way = self.own(attachment);
                self.known.entry(attachment.volume_id).or_default().way = Some(way);
            }
        }
        let gone = self.logins.keys().filter(|volume| !attached(volume));
        for volume in gone.copied().collect::<Vec<_>>() {
            self.detach(volume, &hold);
        }
    }

    /// The sessions of one volume, as the kernel has them and as they are to be.
    fn attend(&mut self, attachment: &AgentAttachment, hold: &impl Fn(VolumeId) -> Hold) {
        let (volume, connection) = (attachment.volume_id, &attachment.connection);
        let (target, named) = (connection.target.clone(), &connection.portals);
        let Some(want) = Login::new(target, named, attachment.size_bytes) else {
            return self.known.entry(volume).or_default().goes_nowhere(NO_PORTAL);
        };
        let login = self.logins.get(&volume).filter(|login| login.target == want.target).cloned();
        let map = login.as_ref().and_then(|login| login.map.clone());
        let before = login.as_ref().map(Login::portals).unwrap_or_default();
        let all = Login { map, ..want.clone() }.and(&before);
        let sight = kernel::look(&want.target, &all.portals(), connection.lun);
        let known = self.known.entry(volume).or_default();
        known.paths = Some(sight.paths(named, known.why.clone()));
        if self.busy.contains_key(&volume) {
            return;
        }
        let is_new = sight.sessions.is_empty();
        let has_grown = login.as_ref().map(|login| login.size_bytes) != Some(want.size_bytes);
        if is_new && !is_past(known.due) {
            return;
        }
        if !is_new && has_grown {
            // First: multipathd takes no disk in that has another size.
            known.way = sight.way();
            if is_past(known.due) {
                self.grow(volume, all, connection.lun);
            }
            return;
        }
        let mut locks = Locks::new();
        let stands = || match hold(volume) {
            // Without a group here the gate may be that of a guard that somebody runs.
            Hold::Aside(all) if is_used(&sight, all.is_empty()) => Stands::Owns,
            Hold::Aside(all) => {
                locks = all;
                Stands::Aside
            }
            Hold::By => Stands::By,
            Hold::Owns => Stands::Owns,
        };
        let alone = known.alone || known.unmapped;
        let next =
            plan::next(Portals { named, answering: &known.answering, alone }, &sight, stands);
        match next {
            Next::Make(make) => {
                known.goes_nowhere(ATTACHING);
                let is_named = |portal: &String| named.contains(portal);
                let drop = all.portals().into_iter().filter(|portal| !is_named(portal)).collect();
                // Remembered first: a crash in between leaves nothing that nobody logs out.
                self.remember(volume, Some(all.clone()));
                let (lun, chap) = (connection.lun, attachment.credentials.clone());
                let gate = sight.map.map(|(_, gate)| gate);
                let job = Job { want, before: all, make, drop, gate, lun, chap };
                self.begin(volume, async move { Done::Made(job.run().await, locks) });
            }
            Next::LetGo => known.goes_nowhere(ATTACHING),
            Next::Serve => {
                known.way = sight.way();
                let missing = sight.missing(named);
                if !missing.is_empty() && !known.unmapped && is_past(known.ask) {
                    self.ask(volume, missing);
                }
            }
        }
    }

    fn grow(&mut self, volume: VolumeId, login: Login, lun: u16) {
        self.begin(volume, async move {
            let done = attach::grow(&login, lun).await;
            Done::Grown(login, done)
        });
    }

    /// Whether portals without a session have come back.
    fn ask(&mut self, volume: VolumeId, missing: Vec<String>) {
        self.begin(volume, async move {
            let trouble = maps::trouble().await;
            let alone = trouble.is_some();
            let answering = match alone {
                true => Vec::new(),
                false => attach::answering(&missing).await,
            };
            let silent = attach::silent(&missing, &answering);
            let later = || format!("{}: {LATER}", answering.join(", "));
            let why = Some(trouble.or(silent).unwrap_or_else(later));
            Done::Asked { answering, why, alone }
        });
    }

    fn detach(&mut self, volume: VolumeId, hold: &impl Fn(VolumeId) -> Hold) {
        let known = self.known.entry(volume).or_default();
        known.goes_nowhere(NOT_ATTACHED);
        known.paths = None;
        let Some(login) = self.logins.get(&volume).cloned() else { return };
        if self.busy.contains_key(&volume) || !is_past(known.due) {
            return;
        }
        // What goes through the gate has to have ended before the map can go.
        let locks = match hold(volume) {
            Hold::Aside(locks) => locks,
            Hold::By | Hold::Owns if login.map.is_some() => return,
            Hold::By | Hold::Owns => Locks::new(),
        };
        self.begin(volume, async move {
            let done = attach::detach(&login, LUN).await;
            drop(locks);
            Done::Out(done)
        });
    }

    fn begin(&mut self, volume: VolumeId, work: impl Future<Output = Done> + Send + 'static) {
        let begun = self.under_way.spawn(async move { (volume, work.await) });
        self.busy.insert(volume, begun.id());
    }

    /// Wait until something that was begun has ended. Dropping the future loses nothing.
    pub(super) async fn settled(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok((volume, done))) => self.settle(volume, done),
            // It has panicked, and is tried again.
            Some(Err(error)) => {
                tracing::error!(%error, "a login has ended badly");
                self.busy.retain(|_, id| *id != error.id());
            }
            None => std::future::pending().await,
        }
    }

    fn settle(&mut self, volume: VolumeId, done: Done) {
        self.busy.remove(&volume);
        let known = self.known.entry(volume).or_default();
        let now = Instant::now();
        match done {
            Done::Asked { answering, why, alone } => {
                if known.why != why {
                    tracing::info!(why, %volume, "not every portal has a session");
                }
                known.ask = Some(now + ASK);
                (known.answering, known.why, known.alone) = (answering, why, alone);
            }
            Done::Made(Made { login, why, alone, unmapped, refused }, locks) => {
                if let Some(why) = &why {
                    tracing::warn!(why, %volume, "not every portal has a session");
                }
                known.ask = Some(now + if refused { REFUSED } else { ASK });
                if login.is_none() {
                    known.due = Some(now + AGAIN);
                    known.goes_nowhere(why.as_deref().unwrap_or("none of its portals answers"));
                }
                known.answering.clear();
                (known.why, known.alone, known.unmapped) = (why, alone, unmapped);
                self.locks.extend(locks);
                self.remember(volume, login);
            }
            Done::Grown(login, Ok(())) => self.remember(volume, Some(login)),
            Done::Grown(_, Err(why)) => {
                tracing::warn!(why, %volume, "the volume has grown, and its device has not");
                known.due = Some(now + AGAIN);
            }
            Done::Out(Ok(())) => self.remember(volume, None),
            Done::Out(Err(why)) => {
                tracing::warn!(why, %volume, "the volume is still there");
                known.due = Some(now + AGAIN);
            }
        }
    }

    fn own(&self, attachment: &AgentAttachment) -> Way {
        let connection = &attachment.connection;
        let Some(address) = connection.portals.first() else {
            return Way::Nowhere { why: NO_PORTAL.to_owned() };
        };
        let chap = attachment.credentials.as_ref();
        Way::Portal {
            address: address.clone(),
            target: connection.target.clone(),
            lun: connection.lun,
            initiator: self.own_name.clone(),
            chap: chap.map(|chap| (chap.user.clone(), chap.secret.clone())),
        }
    }

    /// Durable before anything is done by it.
    fn remember(&mut self, volume: VolumeId, login: Option<Login>) {
        match login {
            Some(login) => self.logins.insert(volume, login),
            None => self.logins.remove(&volume),
        };
        let text = serde_json::to_string_pretty(&self.logins).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| whole::replace(&self.file, &text)) {
            tracing::error!(%error, "the logins cannot be kept");
        }
    }
}

/// Whether a guard has its gate above the map, where that counts, or somebody has the one device
/// in use: a session that comes now must not change what is below them.
fn is_used(sight: &Sight, by_gate: bool) -> bool {
    match &sight.map {
        Some((_, gate)) => by_gate && maps::is_device(gate),
        None => {
            let mut answering = sight.sessions.iter().filter(|session| session.answers);
            answering.any(|session| mounts::is_in_use(&session.device).unwrap_or(true))
        }
    }
}
