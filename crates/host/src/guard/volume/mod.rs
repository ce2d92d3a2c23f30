//! A guard's way to its volume: one path, or those of a multipath device and the gate above it.

mod claim;
mod gate;
mod openings;
mod path;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::guard::paths::{Command, PathId, Paths, Terms};
use ::guard::wire::{Ages, FullStatus, Out};
use ::guard::{Answer, Key, Liveness, Task};
use env::locks::Heirs;
use env::multipath::{Disk, Map};
use env::scsi_device::ScsiDevice;
use futures::stream::{FuturesUnordered, StreamExt};
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;

use self::claim::{CLAIMS, Claim};
use self::openings::Openings;
use self::path::Path;
use crate::HostError;

pub use self::claim::ClaimError;
pub use self::gate::GateError;
pub(crate) use self::gate::path_of as gate_path_of;
pub(super) use self::gate::{Gate, GateState, Turn};
pub use self::path::Portal;

/// How long the first look at a map waits for devices that do not open.
const OPENING: Duration = Duration::from_secs(1);
/// How long paths that have not answered yet are waited for when one has.
const HEARING: Duration = Duration::from_millis(100);
/// Between two looks at a path that is not in use, and before another path is asked, too.
const TERMS: Terms = Terms { hedge_ms: 100, probe_ms: 500 };

/// Everything that READ FULL STATUS and the registrants page tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    pub status: FullStatus,
    /// `None` where the target has no such page.
    pub ages: Option<Ages>,
}

/// One path, as `guard status` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathState {
    /// What the kernel calls its device.
    pub device: String,
    /// Why it does not answer.
    pub silent: Option<String>,
}

/// One volume, and how its reservation is held.
pub struct Volume {
    kind: ReservationType,
    ages: bool,
    /// Those that are not being asked.
    paths: Vec<Path>,
    /// All of them.
    known: Vec<(PathId, Disk)>,
    map: Option<Below>,
}

/// A multipath device.
struct Below {
    map: Map,
    /// Of the logical unit, by the first path that answered.
    designators: Option<Vec<u8>>,
    openings: Openings<(ScsiDevice, Vec<u8>)>,
    /// How many paths there were.
    named: u32,
    claim: Option<Claim>,
}

/// A path that was asked, and what it says.
pub(super) type Answered = (Path, Answer);

impl Volume {
    /// A volume behind a portal; `ports` are registered with the guard's key before the command
    /// starts.
    #[must_use]
    pub fn iscsi(portal: Portal, kind: ReservationType, ports: Vec<InitiatorPort>) -> Self {
        Self::single(Path::iscsi(portal, kind, ports), kind)
    }

    /// A device of this machine, whose initiator port is the command's too.
    #[must_use]
    pub fn device(device: ScsiDevice, kind: ReservationType) -> Self {
        Self::single(Path::device(PathId(0), String::new(), device, kind), kind)
    }

    fn single(path: Path, kind: ReservationType) -> Self {
        let disk = Disk { name: path.name.clone(), place: PathBuf::new() };
        let known = vec![(path.id, disk)];
        Self { kind, ages: true, paths: vec![path], known, map: None }
    }

    /// The paths of a multipath device; those that do not open in time come later.
    ///
    /// # Errors
    /// The map is gone.
    pub async fn multipath(map: Map, kind: ReservationType) -> io::Result<Self> {
        let (designators, openings, named, claim) = (None, Openings::new(), 0, None);
        let below = Below { map, designators, openings, named, claim };
        let (paths, known) = (Vec::new(), Vec::new());
        let mut volume = Self { kind, ages: true, paths, known, map: Some(below) };
        volume.look_below()?;
        let all = async {
            while volume.map.as_ref().is_some_and(|below| !below.openings.is_idle()) {
                volume.appeared().await;
            }
        };
        let _ = tokio::time::timeout(OPENING, all).await;
        Ok(volume)
    }

    /// Of a multipath device: this host's other guards are kept away from the gate, for as long as
    /// the volume is there or one of the heirs lives. `state` is the directory of the guard's record.
    ///
    /// # Errors
    /// [`GateError::Claim`] where another guard has it.
    pub async fn claim(&mut self, state: &std::path::Path, heirs: Heirs) -> Result<(), GateError> {
        let Some(below) = &mut self.map else { return Ok(()) };
        let claim = Claim::take(std::path::Path::new(CLAIMS), &below.map.uuid, heirs)?;
        let is = Gate::new(&below.map)?.state().await?;
        claim.assign(state, matches!(is, GateState::Open | GateState::Closed))?;
        below.claim = Some(claim);
        Ok(())
    }

    /// The gate of a multipath device.
    pub(super) fn gate(&self) -> Option<io::Result<Gate>> {
        self.map.as_ref().map(|below| Gate::new(&below.map))
    }

    /// Where the command finds a multipath device: above the gate.
    #[must_use]
    pub fn gate_path(&self) -> Option<String> {
        self.map.as_ref().map(|below| gate::path_of(&below.map))
    }

    /// How the machine's requests are done. `adopts` says whether this host may write already, and
    /// whether the gate is open.
    pub(super) fn plan(&self, key: Key, adopts: Option<bool>) -> Paths {
        let ids: Vec<PathId> = self.known.iter().map(|(id, _)| *id).collect();
        match (&self.map, adopts, &ids[..]) {
            (None, _, [path]) => Paths::single(key, *path),
            (_, Some(is_open), _) => Paths::adopted(key, TERMS, &ids, is_open),
            (_, None, _) => Paths::several(key, TERMS, &ids),
        }
    }

    /// Before anything is remembered of a run that begins: what an earlier one has left of the gate
    /// is shut and goes, unless this one goes on with it.
    ///
    /// # Errors
    /// [`GateError::InUse`] where somebody still has it open.
    pub async fn make_way(&self, task: Task) -> Result<(), GateError> {
        match self.gate() {
            Some(gate) => gate?.make_way(task).await,
            None => Ok(()),
        }
    }

    /// See which disks the map has: those that are new are opened. The paths whose disks are not
    /// there any more, and whether there are disks that are no paths yet.
    ///
    /// # Errors
    /// The map is gone.
    pub(super) fn look_below(&mut self) -> io::Result<(Vec<PathId>, bool)> {
        let Some(below) = &mut self.map else { return Ok((Vec::new(), false)) };
        let disks = below.map.disks()?;
        let gone = self.known.iter().filter(|(_, disk)| !disks.contains(disk));
        let gone: Vec<PathId> = gone.map(|(id, _)| *id).collect();
        self.known.retain(|(id, _)| !gone.contains(id));
        self.paths.retain(|path| !gone.contains(&path.id));
        let is_known = |disk: &Disk| self.known.iter().any(|(_, known)| known == disk);
        let new: Vec<&Disk> = disks.iter().filter(|disk| !is_known(disk)).collect();
        below.openings.see(&new, |disk| {
            let file = format!("/dev/{}", disk.name);
            move || {
                let device = ScsiDevice::open(std::path::Path::new(&file));
                let device = device.map_err(|error| error.to_string())?;
                let unit = path::unit_of(&device)?;
                Ok((device, unit))
            }
        });
        // What leads to another unit never becomes a path, and is none that was being registered.
        let unopened = new.iter().any(|disk| !below.openings.is_refused(disk));
        Ok((gone, unopened))
    }

    /// The next path that has been opened. Dropping the future loses nothing.
    pub(super) async fn appeared(&mut self) -> PathId {
        loop {
            let Some(below) = &mut self.map else { return std::future::pending().await };
            let (disk, (device, unit)) = below.openings.next().await;
            if below.designators.get_or_insert(unit.clone()) != &unit {
                let why = "it leads to another logical unit; not used";
                tracing::error!(path = disk.name, why);
                below.openings.refuse(disk, why.to_owned());
                continue;
            }
            below.named += 1;
            let id = PathId(below.named);
            let mut path = Path::device(id, disk.name.clone(), device, self.kind);
            path.ages = self.ages;
            tracing::info!(path = disk.name, "a path to the volume");
            self.known.push((id, disk));
            self.paths.push(path);
            return id;
        }
    }

    /// Send something down a path that is not being asked; `None` where there is no such.
    pub(super) fn send(
        &mut self,
        id: PathId,
        command: Command,
    ) -> Option<impl Future<Output = Answered> + Send + 'static + use<>> {
        let place = self.paths.iter().position(|path| path.id == id)?;
        let mut path = self.paths.swap_remove(place);
        Some(async move {
            let answer = path.execute(command).await;
            (path, answer)
        })
    }

    /// The path can be asked again, unless it is gone.
    pub(super) fn back(&mut self, path: Path) -> PathId {
        let id = path.id;
        if self.known.iter().any(|(known, _)| *known == id) {
            self.paths.push(path);
        }
        id
    }

    pub(super) fn name_of(&self, id: PathId) -> &str {
        let known = self.known.iter().find(|(known, _)| *known == id);
        known.map_or("", |(_, disk)| &disk.name)
    }

    /// What this machine has read of it before it was held is not to be believed any more. Of a
    /// multipath device the gate forgets, as it opens.
    ///
    /// # Errors
    /// The kernel may still remember it.
    pub(super) fn forget_cached(&self) -> io::Result<()> {
        match (&self.map, &self.paths[..]) {
            (None, [path]) => path.forget_cached(),
            _ => Ok(()),
        }
    }

    /// Find out how this target shows that an owner lives, by the first path that answers.
    ///
    /// # Errors
    /// When it cannot be reached, or does not know PERSISTENT RESERVE IN.
    pub async fn probe(&mut self) -> Result<Liveness, HostError> {
        let several = self.map.is_some();
        let probes = self.paths.iter_mut().map(|path| async move {
            let answer = if several { path.patient_probe().await } else { path.probe().await };
            path.noted(answer)
        });
        let liveness = first_good(probes.collect()).await?;
        self.ages = liveness == Liveness::Ages;
        let ages = self.ages;
        self.paths.iter_mut().for_each(|path| path.ages = ages);
        Ok(liveness)
    }

    /// Who is registered and who holds, by the first path that answers.
    ///
    /// # Errors
    /// [`HostError`] of the commands; [`HostError::Short`] for an answer that cannot be read.
    pub async fn look(&mut self) -> Result<Picture, HostError> {
        let looks = self.paths.iter_mut().map(|path| async move {
            let answer = path.patient_look().await;
            path.noted(answer)
        });
        first_good(looks.collect()).await
    }

    /// Change the own key, or give it up (zero), while nothing of this host runs. Of several paths
    /// that have it one alone is left registered. One path at a time is asked, and those that did
    /// not answer the last look come last.
    ///
    /// # Errors
    /// [`HostError::Status`] for any status but GOOD.
    pub async fn change_key(&mut self, from: u64, to: u64) -> Result<(), HostError> {
        let several = self.map.is_some();
        let mut last = no_path();
        self.paths.sort_by_key(|path| !path.answers);
        for path in &mut self.paths {
            let moved = match several {
                true => path.patient_out(Out::PreemptAndAbort, (from, from)).await,
                false => Ok(()),
            };
            match moved {
                Err(error) => last = error,
                Ok(()) => return path.patient_out(Out::Register, (from, to)).await,
            }
        }
        Err(last)
    }

    /// Each path of a multipath device, and whether it answers.
    pub async fn path_states(&mut self) -> Vec<PathState> {
        let Some(below) = &self.map else { return Vec::new() };
        let opened = |disk: &Disk| self.known.iter().any(|(_, known)| known == disk);
        let closed = below.map.disks().unwrap_or_default().into_iter();
        let closed = closed.filter(|disk| !opened(disk));
        let state =
            |disk: Disk| PathState { silent: Some(below.openings.why(&disk)), device: disk.name };
        let mut states: Vec<_> = closed.map(state).collect();
        let looks = self.paths.iter_mut().map(|path| async move {
            let silent = path.patient_look().await.err().map(|error| error.to_string());
            PathState { device: path.name.clone(), silent }
        });
        states.extend(futures::future::join_all(looks).await);
        states.sort_by(|one, other| one.device.cmp(&other.device));
        states
    }

    /// Nothing of this host is written any more, where a gate says so.
    ///
    /// # Errors
    /// It may be as it was.
    pub async fn shut_gate(&self) -> Result<(), GateError> {
        match self.gate() {
            Some(gate) => gate?.turn(Turn::Shut).await,
            None => Ok(()),
        }
    }

    /// `open`, `closed` (what this host writes is held back), `shut` (it fails), `none` or
    /// `unknown`, and how often it is open, where that is known; `None` where there is no
    /// multipath device.
    pub async fn gate_state(&self) -> Option<(&'static str, Option<u32>)> {
        let gate = self.gate()?.ok()?;
        let users = gate.users().await.ok();
        Some((gate.state().await.map_or("unknown", GateState::word), users))
    }
}

/// The first good answer. The others are given a moment: what is not heard to its end keeps its
/// path busy.
async fn first_good<T>(
    mut asked: FuturesUnordered<impl Future<Output = Result<T, HostError>>>,
) -> Result<T, HostError> {
    let mut last = no_path();
    while let Some(answer) = asked.next().await {
        match answer {
            Err(error) => last = error,
            Ok(good) => {
                let rest = async { while asked.next().await.is_some() {} };
                let _ = tokio::time::timeout(HEARING, rest).await;
                return Ok(good);
            }
        }
    }
    Err(last)
}

fn no_path() -> HostError {
    HostError::Device("none of its paths can be opened".to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Instant;

    use super::*;

    type Asked = std::pin::Pin<Box<dyn Future<Output = Result<u32, HostError>>>>;

    fn dead() -> Asked {
        Box::pin(pending())
    }
    fn after(millis: u64, answer: Result<u32, HostError>) -> Asked {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            answer
        })
    }

    /// Each dead path was waited for before the next one was asked.
    #[tokio::test]
    async fn the_first_good_answer_of_several_paths_counts_and_dead_ones_are_not_waited_for() {
        let begun = Instant::now();
        let wrong = || Err(HostError::Short);
        let asked = [dead(), after(1, wrong()), after(20, Ok(3)), after(40, Ok(4)), dead()];
        assert_eq!(first_good(asked.into_iter().collect()).await.unwrap(), 3);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let asked = [after(20, wrong()), after(1, Err(no_path()))];
        let last = first_good(asked.into_iter().collect()).await.unwrap_err();
        assert!(matches!(last, HostError::Short), "{last}");
        let none = first_good(FuturesUnordered::<Asked>::new()).await.unwrap_err();
        assert!(none.to_string().contains("none of its paths"), "{none}");
    }

    /// Patience with a dead path comes after the paths that have just answered.
    #[test]
    fn a_path_that_was_not_heard_to_its_end_is_noted_as_silent() {
        let portal = Portal {
            address: String::new(),
            target: String::new(),
            lun: 0,
            initiator: String::new(),
            isid: [0; 6],
            chap: None,
        };
        let mut path = Path::iscsi(portal, ReservationType::WriteExclusiveRegistrantsOnly, vec![]);
        drop(path.patient_probe());
        assert!(path.answers, "it was not even asked");
        assert!(path.noted::<u32>(Err(HostError::Short)).is_err() && !path.answers);
        assert!(path.noted(Ok(1)).is_ok() && path.answers);
    }
}
