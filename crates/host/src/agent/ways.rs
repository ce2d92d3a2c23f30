//! How this host reaches its volumes: by the kernel's initiator, or by a program's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use api::agent::{AgentAttachment, Assignments};
use env::{OsRandom, Random, whole};
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
const BY: &str = "a warden of this host has not let go of it yet";
const OWNED: &str = "what runs here goes on, and has to end first";
const LATER: &str = "it is logged in to when this host does not own the volume";
/// Every volume has a target of its own, and this LUN there.
const LUN: u16 = 0;

/// Before a volume that could not be reached, or did not grow, is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Before portals without a session are asked again.
const ASK: Duration = Duration::from_secs(10);

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
    /// Something that is no group had the device in use when that was last tried.
    used: bool,
    /// How often portals have let nobody in, one time after the other.
    refusals: u32,
    /// Nothing is tried before.
    due: Option<Instant>,
    /// Portals without a session are not asked before, and what is there not put in order.
    ask: Option<Instant>,
    /// Why what is detached is still there.
    waits: Option<&'static str>,
}

fn is_past(moment: Option<Instant>) -> bool {
    moment.is_none_or(|moment| Instant::now() >= moment)
}

impl Known {
    fn goes_nowhere(&mut self, why: &str) {
        self.way = Some(Way::Nowhere { why: why.to_owned() });
    }

    /// Said once.
    fn waits_for(&mut self, volume: VolumeId, why: &'static str) {
        if self.waits.replace(why) != Some(why) {
            tracing::info!(why, %volume, "the volume is detached, and its sessions stay for now");
        }
    }

    /// When portals that did not do as they should are tried again.
    fn refused(&mut self, now: Instant) -> Instant {
        self.refusals = self.refusals.saturating_add(1);
        let mut chance = [0];
        OsRandom.fill(&mut chance);
        now + plan::back_off(self.refusals, chance[0])
    }
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The volumes of this host. What takes time runs beside the agent: a portal that does not answer
/// holds up its own volume and nothing else.
pub(super) struct Ways {
    kernel: bool,
    own_name: String,
    file: PathBuf,
    logins: BTreeMap<VolumeId, Login>,
    known: BTreeMap<VolumeId, Known>,
    under_way: JoinSet<(VolumeId, Done)>,
    /// Begins when the wardens have been told that there is no way meanwhile.
    next: Vec<(VolumeId, Work)>,
    busy: BTreeMap<VolumeId, Option<task::Id>>,
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
            next: Vec::new(),
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

    /// The wardens know their ways, but for those of some volumes, for which nothing begins then.
    pub(super) fn release(&mut self, untold: &BTreeSet<VolumeId>) {
        self.locks.clear();
        for (volume, work) in std::mem::take(&mut self.next) {
            if untold.contains(&volume) {
                self.busy.remove(&volume);
                continue;
            }
            let begun = self.under_way.spawn(async move { (volume, work.await) });
            self.busy.insert(volume, Some(begun.id()));
        }
    }

    /// Begin to attach what is new, to detach what is gone, to see what has grown.
    pub(super) fn follow(&mut self, assignments: &Assignments, hold: impl Fn(VolumeId) -> Hold) {
        let attached = |volume: &VolumeId| {
            assignments.attachments.iter().any(|attachment| attachment.volume_id == *volume)
        };
        self.known.retain(|volume, _| attached(volume) || self.logins.contains_key(volume));
        for attachment in &assignments.attachments {
            if self.kernel {
                let volume = attachment.volume_id;
                let is_group = assignments.groups.iter().any(|group| group.volume_id == volume);
                self.attend(attachment, is_group, &hold);
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

    /// The sessions of one volume, as the kernel has them and as they are to be. Only a group has
    /// several: its warden lets go of the volume when the agent has to change them.
    fn attend(
        &mut self,
        attachment: &AgentAttachment,
        is_group: bool,
        hold: &impl Fn(VolumeId) -> Hold,
    ) {
        let (volume, connection) = (attachment.volume_id, &attachment.connection);
        let (target, named) = (connection.target.clone(), &connection.portals);
        let Some(want) = Login::new(target, named, attachment.size_bytes) else {
            return self.known.entry(volume).or_default().goes_nowhere(NO_PORTAL);
        };
        let login = self.logins.get(&volume).filter(|login| login.target == want.target).cloned();
        let remembered = login.as_ref().map(Login::portals).unwrap_or_default();
        let both = want.clone().and(&remembered).portals();
        let sight = kernel::look(&want.target, &both, connection.lun);
        let known = self.known.entry(volume).or_default();
        known.paths = Some(sight.paths(named, known.why.clone()));
        if self.busy.contains_key(&volume) {
            return;
        }
        let unfinished = login.as_ref().is_some_and(|login| !login.making.is_empty());
        let tidies = is_past(known.ask);
        let waits = unfinished && !tidies && !known.used;
        if waits || sight.sessions.is_empty() && !is_past(known.due) {
            return;
        }
        let mut locks = Locks::new();
        let stands = || match hold(volume) {
            // Without a group here the gate may be that of a guard that somebody runs.
            Hold::Aside(all) if all.is_empty() && has_gate(&sight) => Stands::Owns,
            Hold::Aside(all) => {
                locks = all;
                Stands::Aside
            }
            Hold::By => Stands::By,
            Hold::Owns => Stands::Owns,
        };
        let portals = Portals {
            named,
            answering: &known.answering,
            alone: known.alone || known.unmapped || !is_group,
            remembered: &remembered,
            unfinished: unfinished && tidies,
            grown: login.as_ref().map(|login| login.size_bytes) != Some(want.size_bytes),
            tidies,
        };
        let next = plan::next(portals, &sight, stands);
        let login = self.with_map(volume, login, &sight);
        match next {
            Next::Make(make) => {
                let job = job(attachment, is_group, want, login, make, sight);
                self.make(volume, job, locks);
            }
            Next::LetGo => self.known.entry(volume).or_default().goes_nowhere(ATTACHING),
            Next::Serve | Next::Grow => {
                let known = self.known.entry(volume).or_default();
                known.way = sight.way();
                let missing = sight.missing(named);
                let has_one = sight.has_any(named);
                let few = !missing.is_empty() && is_group && !known.unmapped;
                if matches!(next, Next::Grow) && is_past(known.due) {
                    let size_bytes = want.size_bytes;
                    let all = Login { size_bytes, ..login.unwrap_or(want) }.and(named);
                    self.grow(volume, all, connection.lun);
                } else if tidies && (few || !has_one) {
                    self.ask(volume, missing, has_one);
                }
            }
        }
    }

    /// multipathd may have made the map when nobody waited for it any more.
    fn with_map(&mut self, volume: VolumeId, login: Option<Login>, sight: &Sight) -> Option<Login> {
        let login = login?;
        let map = sight.map.as_ref().and_then(|(map, _)| name_of(map));
        if map.is_none() || map == login.map {
            return Some(login);
        }
        let login = Login { map, ..login };
        self.remember(volume, Some(login.clone()));
        Some(login)
    }

    fn make(&mut self, volume: VolumeId, job: Job, locks: Locks) {
        self.known.entry(volume).or_default().goes_nowhere(ATTACHING);
        // Remembered first: a crash in between leaves nothing that nobody logs out of, or waits for.
        if self.remember(volume, Some(job.before.clone().by(&job.make))) {
            self.begin(volume, async move { Done::Made(job.run().await, locks) });
        }
    }

    fn grow(&mut self, volume: VolumeId, login: Login, lun: u16) {
        self.begin(volume, async move {
            let done = attach::grow(&login, lun).await;
            Done::Grown(login, done)
        });
    }

    /// Whether portals without a session have come back.
    fn ask(&mut self, volume: VolumeId, missing: Vec<String>, has_one: bool) {
        self.begin(volume, async move {
            let trouble = maps::trouble().await;
            let alone = trouble.is_some();
            let answering = match alone && has_one {
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
            Hold::By if login.map.is_some() => return known.waits_for(volume, BY),
            Hold::Owns if login.map.is_some() => return known.waits_for(volume, OWNED),
            Hold::By | Hold::Owns => Locks::new(),
        };
        known.waits = None;
        self.begin(volume, async move {
            let done = attach::detach(&login, LUN).await;
            drop(locks);
            Done::Out(done)
        });
    }

    fn begin(&mut self, volume: VolumeId, work: impl Future<Output = Done> + Send + 'static) {
        self.next.push((volume, Box::pin(work)));
        self.busy.insert(volume, None);
    }

    /// Wait until something that was begun has ended. Dropping the future loses nothing.
    pub(super) async fn settled(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok((volume, done))) => self.settle(volume, done),
            // It has panicked, and is tried again.
            Some(Err(error)) => {
                tracing::error!(%error, "a login has ended badly");
                self.busy.retain(|_, id| *id != Some(error.id()));
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
            Done::Made(made, locks) => {
                let Made { login, why, alone, unmapped, refused, used } = made;
                if let Some(why) = &why {
                    tracing::warn!(why, %volume, "not every portal has a session");
                }
                // Until it is known that no login is under way any more there is no way.
                let unfinished = login.as_ref().is_some_and(|login| !login.making.is_empty());
                let unfinished = unfinished && !used;
                let again = if refused { known.refused(now) } else { now + ASK };
                known.ask = Some(if unfinished { now + ASK } else { again });
                known.refusals = if refused { known.refusals } else { 0 };
                known.used = used;
                if login.is_none() || unfinished {
                    known.due = Some(now + AGAIN);
                    known.goes_nowhere(why.as_deref().unwrap_or("none of its portals answers"));
                }
                known.answering.clear();
                (known.why, known.alone, known.unmapped) = (why, alone, unmapped);
                self.locks.extend(locks);
                self.remember(volume, login);
            }
            Done::Grown(login, Ok(())) => {
                self.remember(volume, Some(login));
            }
            Done::Grown(_, Err(why)) => {
                tracing::warn!(why, %volume, "the volume has grown, and its device has not");
                known.due = Some(now + AGAIN);
            }
            Done::Out(Ok(())) => {
                self.remember(volume, None);
            }
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

    /// Durable before anything is done by it: whether it is.
    fn remember(&mut self, volume: VolumeId, login: Option<Login>) -> bool {
        match login {
            Some(login) => self.logins.insert(volume, login),
            None => self.logins.remove(&volume),
        };
        let text = serde_json::to_string_pretty(&self.logins).map_err(io::Error::other);
        let kept = text.and_then(|text| whole::replace(&self.file, &text));
        if let Err(error) = &kept {
            tracing::error!(%error, "the logins cannot be kept");
        }
        kept.is_ok()
    }
}

/// Whether a guard has its gate above the map.
fn has_gate(sight: &Sight) -> bool {
    sight.map.as_ref().is_some_and(|(_, gate)| maps::is_device(gate))
}

fn name_of(map: &Path) -> Option<String> {
    Some(map.file_name()?.to_str()?.to_owned())
}

fn job(
    attachment: &AgentAttachment,
    several: bool,
    want: Login,
    login: Option<Login>,
    make: Vec<String>,
    sight: Sight,
) -> Job {
    let Login { map, making, size_bytes, .. } = login.clone().unwrap_or(want.clone());
    let remembered = login.as_ref().map(Login::portals).unwrap_or_default();
    let named = want.portals();
    let drop = remembered.iter().filter(|portal| !named.contains(portal)).cloned().collect();
    // Those that are there grow afterwards; what is new has the new size.
    let keeps = sight.sessions.iter().any(|session| named.contains(&session.portal));
    let size_bytes = if keeps { size_bytes } else { want.size_bytes };
    let before = Login { map, making, size_bytes, ..want.clone() }.and(&remembered);
    let devices = match &sight.map {
        Some(_) => Vec::new(),
        None => {
            let answering = sight.sessions.into_iter().filter(|session| session.answers);
            answering.map(|session| session.device).collect()
        }
    };
    Job {
        want: Login { size_bytes, ..want },
        several,
        before,
        devices,
        make,
        drop,
        gate: sight.map.map(|(_, gate)| gate),
        lun: attachment.connection.lun,
        chap: attachment.credentials.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn ways(state: &Path) -> Ways {
        let settings = Settings {
            url: String::new(),
            token: None,
            project: None,
            name: "h".to_owned(),
            initiator: "iqn.2026-11.io:h".to_owned(),
            addresses: Vec::new(),
            heartbeat: ([127, 0, 0, 1], 0).into(),
            state: state.to_owned(),
            initiators: Initiators::Own,
            warden: Vec::new(),
            version: String::new(),
        };
        Ways::open(&settings).unwrap()
    }

    fn login() -> Login {
        Login::new("t".to_owned(), &["10.0.0.5:3260".to_owned()], 1).unwrap()
    }

    /// A login was under way when the warden's order did not yet say that there is no way, and the
    /// agent was killed then.
    #[tokio::test]
    async fn no_session_is_made_before_the_order_that_there_is_no_way_is_durable() {
        let state = tempfile::tempdir().unwrap();
        let mut ways = ways(state.path());
        let volume = VolumeId(uuid::Uuid::from_u128(7));
        for told in [false, true] {
            let begun = Arc::new(AtomicBool::new(false));
            let work = {
                let begun = Arc::clone(&begun);
                async move {
                    begun.store(true, Ordering::SeqCst);
                    Done::Out(Ok(()))
                }
            };
            ways.begin(volume, work);
            task::yield_now().await;
            assert!(!begun.load(Ordering::SeqCst) && ways.busy.contains_key(&volume));
            ways.release(&if told { BTreeSet::new() } else { BTreeSet::from([volume]) });
            if told {
                ways.settled().await;
            } else {
                task::yield_now().await;
            }
            assert_eq!(begun.load(Ordering::SeqCst), told);
            assert!(ways.busy.is_empty(), "it is tried again");
        }
    }

    #[test]
    fn a_map_that_multipathd_makes_late_is_taken_away_with_the_volume() {
        let state = tempfile::tempdir().unwrap();
        let mut of_before = ways(state.path());
        let volume = VolumeId(uuid::Uuid::from_u128(7));
        let map = (PathBuf::from("/dev/mapper/mpatha"), PathBuf::new());
        let sight = Sight { map: Some(map), ..Sight::default() };
        of_before.with_map(volume, Some(login()), &sight);
        let login = of_before.logins.get(&volume).cloned();
        of_before.with_map(volume, login, &Sight::default());
        let kept = ways(state.path()).logins.remove(&volume).unwrap();
        assert_eq!(kept.map.as_deref(), Some("mpatha"), "also when it has no disk any more");
    }

    /// The mark of a login that has not ended counted for nothing, and wardens went on by what
    /// was there.
    #[tokio::test]
    async fn a_login_that_may_still_be_under_way_is_remembered_and_leads_nowhere() {
        let state = tempfile::tempdir().unwrap();
        let mut of_before = ways(state.path());
        let volume = VolumeId(uuid::Uuid::from_u128(7));
        let login = login().by(&["10.0.0.5:3260".to_owned()]);
        let made = Made {
            login: Some(login.clone()),
            why: Some("iscsid hangs".to_owned()),
            alone: false,
            unmapped: false,
            refused: true,
            used: false,
        };
        of_before.settle(volume, Done::Made(made, Locks::new()));
        assert!(matches!(of_before.to(volume), Way::Nowhere { why } if why == "iscsid hangs"));
        assert_eq!(ways(state.path()).logins.get(&volume), Some(&login));
    }
}
