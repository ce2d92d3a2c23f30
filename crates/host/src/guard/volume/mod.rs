//! A guard's way to its volume: one path, or those of a multipath device and the gate above it.

mod gate;
mod path;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::guard::paths::{Command, PathId, Paths, Terms};
use ::guard::wire::{Ages, FullStatus, Out};
use ::guard::{Answer, Key, Liveness};
use env::multipath::{Disk, Map};
use env::scsi_device::ScsiDevice;
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;

use self::path::Path;
use crate::HostError;

pub(crate) use self::gate::path_of as gate_path_of;
pub(super) use self::gate::{Gate, GateState, Turn};
pub use self::path::Portal;

/// How long a device may take to open: one whose session is gone takes as long as the kernel tries.
const OPENING: Duration = Duration::from_secs(1);
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
    /// Devices that are being opened.
    opening: BTreeSet<Disk>,
    named: u32,
}

/// A path that was asked, and what it says.
pub(super) type Answered = (Path, Answer);
/// A device below the map has been opened, or not.
pub(super) type Opened = (Disk, Result<Path, String>);

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

    /// The paths of a multipath device; those that do not open in time are tried again.
    ///
    /// # Errors
    /// The map is gone.
    pub async fn multipath(map: Map, kind: ReservationType) -> io::Result<Self> {
        let below = Below { map, designators: None, opening: BTreeSet::new(), named: 0 };
        let (paths, known) = (Vec::new(), Vec::new());
        let mut volume = Self { kind, ages: true, paths, known, map: Some(below) };
        let mut opening = tokio::task::JoinSet::new();
        for disk in volume.appeared()? {
            opening.spawn(volume.open(disk));
        }
        while let Some(Ok((disk, opened))) = opening.join_next().await {
            volume.opened(disk, opened);
        }
        Ok(volume)
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

    /// The disks of the map that are new, each to be opened.
    ///
    /// # Errors
    /// The map is gone.
    pub(super) fn appeared(&mut self) -> io::Result<Vec<Disk>> {
        let Some(below) = &mut self.map else { return Ok(Vec::new()) };
        let disks = below.map.disks()?;
        below.opening.retain(|disk| disks.contains(disk));
        let is_new = |disk: &Disk| {
            !self.known.iter().any(|(_, known)| known == disk) && !below.opening.contains(disk)
        };
        let new: Vec<Disk> = disks.into_iter().filter(is_new).collect();
        below.opening.extend(new.iter().cloned());
        Ok(new)
    }

    /// The paths whose disks are not there any more.
    ///
    /// # Errors
    /// The map is gone.
    pub(super) fn gone(&mut self) -> io::Result<Vec<PathId>> {
        let Some(below) = &self.map else { return Ok(Vec::new()) };
        let disks = below.map.disks()?;
        let gone = self.known.iter().filter(|(_, disk)| !disks.contains(disk));
        let gone: Vec<PathId> = gone.map(|(id, _)| *id).collect();
        self.known.retain(|(id, _)| !gone.contains(id));
        self.paths.retain(|path| !gone.contains(&path.id));
        Ok(gone)
    }

    /// Open a device below the map.
    pub(super) fn open(
        &mut self,
        disk: Disk,
    ) -> impl Future<Output = Opened> + Send + 'static + use<> {
        let kind = self.kind;
        let named = self.map.as_mut().map_or(0, |below| {
            below.named += 1;
            below.named
        });
        async move {
            let name = disk.name.clone();
            let file = format!("/dev/{name}");
            let opening =
                tokio::task::spawn_blocking(move || ScsiDevice::open(std::path::Path::new(&file)));
            let opened = match tokio::time::timeout(OPENING, opening).await {
                Err(_) => Err("it does not open".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Ok(Ok(device))) => Ok(Path::device(PathId(named), name, device, kind)),
            };
            let opened = match opened {
                Err(why) => Err(why),
                Ok(mut path) => path.identify().await.map(|()| path),
            };
            (disk, opened)
        }
    }

    /// Takes a path in, unless it leads to another volume. One that did not open is tried again.
    pub(super) fn opened(&mut self, disk: Disk, opened: Result<Path, String>) -> Option<PathId> {
        let below = self.map.as_mut()?;
        match opened {
            Err(why) => {
                tracing::debug!(path = disk.name, why, "the path cannot be used");
                below.opening.remove(&disk);
                None
            }
            Ok(path) if below.designators.get_or_insert(path.unit.clone()) != &path.unit => {
                // It stays among those that are being opened: nothing is sent down to it.
                tracing::error!(path = disk.name, "it leads to another logical unit; not used");
                None
            }
            Ok(mut path) => {
                below.opening.remove(&disk);
                path.ages = self.ages;
                let id = path.id;
                tracing::info!(path = disk.name, "a path to the volume");
                self.known.push((id, disk));
                self.paths.push(path);
                Some(id)
            }
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

    /// Find out how this target shows that an owner lives.
    ///
    /// # Errors
    /// When it cannot be reached, or does not know PERSISTENT RESERVE IN.
    pub async fn probe(&mut self) -> Result<Liveness, HostError> {
        let mut last = no_path();
        for path in &mut self.paths {
            match path.probe().await {
                Err(error) => last = error,
                Ok(liveness) => {
                    self.ages = liveness == Liveness::Ages;
                    let ages = self.ages;
                    self.paths.iter_mut().for_each(|path| path.ages = ages);
                    return Ok(liveness);
                }
            }
        }
        Err(last)
    }

    /// Who is registered and who holds, by the first path that answers.
    ///
    /// # Errors
    /// [`HostError`] of the commands; [`HostError::Short`] for an answer that cannot be read.
    pub async fn look(&mut self) -> Result<Picture, HostError> {
        let mut last = no_path();
        for path in &mut self.paths {
            match path.patient_look().await {
                Err(error) => last = error,
                picture => return picture,
            }
        }
        Err(last)
    }

    /// Change the own key, or give it up (zero), while nothing of this host runs. Of several paths
    /// that have it one alone is left registered.
    ///
    /// # Errors
    /// [`HostError::Status`] for any status but GOOD.
    pub async fn change_key(&mut self, from: u64, to: u64) -> Result<(), HostError> {
        let several = self.map.is_some();
        let mut last = no_path();
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
        let silent = Some("it cannot be opened".to_owned());
        let state = |disk: Disk| PathState { device: disk.name, silent: silent.clone() };
        let mut states: Vec<_> = closed.map(state).collect();
        for path in &mut self.paths {
            let silent = path.patient_look().await.err().map(|error| error.to_string());
            states.push(PathState { device: path.name.clone(), silent });
        }
        states.sort_by(|one, other| one.device.cmp(&other.device));
        states
    }

    /// Nothing of this host is written any more, where a gate says so.
    ///
    /// # Errors
    /// It may be as it was.
    pub async fn shut_gate(&self) -> io::Result<()> {
        match self.gate() {
            Some(gate) => gate?.turn(Turn::Shut).await,
            None => Ok(()),
        }
    }

    /// Whether the map has disks that are no paths yet, as one that does not open; also where that
    /// is not known.
    pub(super) fn unopened(&self) -> bool {
        let is_path = |disk: &Disk| self.known.iter().any(|(_, known)| known == disk);
        let has =
            |below: &Below| below.map.disks().map(|disks| disks.iter().any(|one| !is_path(one)));
        self.map.as_ref().is_some_and(|below| has(below).unwrap_or(true))
    }

    /// `open`, `closed` (what this host writes is held back), `shut` (it fails) or `none`; `None`
    /// where there is no multipath device.
    pub async fn gate_state(&self) -> Option<&'static str> {
        let gate = self.gate()?.ok()?;
        Some(gate.state().await.map_or("unknown", GateState::word))
    }
}

fn no_path() -> HostError {
    HostError::Device("none of its paths can be opened".to_owned())
}
