//! `guard status`: the volume's side and this host's side.

use std::process::ExitCode;

use guard::wire::Listed;
use guard::{Key, Seen};
use host::guard::{PathState, Picture, Record};
use serde::Serialize;

use super::place::PlaceArguments;
use super::{unreachable, unusable};
use crate::failure::Failure;
use crate::output::{self, Format};

/// What the verb prints.
#[derive(Serialize)]
struct Status {
    device: String,
    /// `none`, `vacant`, `claiming`, `held` or `foreign`.
    state: &'static str,
    reservation: Option<&'static str>,
    owner_key: Option<String>,
    owner_host_id: Option<u32>,
    owner_epoch: Option<u16>,
    /// Since the owner's last command; where the target tells.
    owner_age_ms: Option<u32>,
    generation: u32,
    registrations: usize,
    this_host_id: u32,
    this_host_owns: bool,
    /// `clean`, `running` or `fenced`, from this host's record.
    this_host_standing: &'static str,
    /// `running`; `left`, when it is gone and something that its command has started is not; `none`.
    this_host_guard: &'static str,
    /// What is left of the command, as far as this user may see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_processes: Vec<String>,
    /// Of a multipath device: `open`, `closed` (what is written waits), `shut` (it fails), `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'static str>,
    /// How often the gate is open: each mount, and each process that has it open. A shut one that
    /// is in use keeps the next guard of this host out.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_users: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<ShownPath>,
}

/// One path of a multipath device.
#[derive(Serialize)]
struct ShownPath {
    device: String,
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

pub(super) async fn show(place: &PlaceArguments, format: Format) -> Result<ExitCode, Failure> {
    // Without the lock: it is asked for while a guard runs.
    let directory = place.state_directory()?;
    let standing = Record::read(&directory).map_err(unusable)?;
    let presence = Record::presence(&directory).map_err(unusable)?;
    let mut volume = place.volume().await?;
    let lost = |error: host::HostError| unreachable(place, &error.to_string());
    volume.probe().await.map_err(lost)?;
    let picture = volume.look().await.map_err(lost)?;
    let holder = picture.status.registrations.iter().find(|one| one.holder);
    let key = holder.and_then(|one| Key::of(one.key));
    let owns = key.is_some_and(|key| standing.keys.iter().any(|known| known.is_of(key)));
    let (gate, gate_users) = volume.gate_state().await.unzip();
    let status = Status {
        device: place.device().to_owned(),
        state: state_of(holder, key),
        reservation: holder.and_then(|one| one.kind).map(|kind| kind.name()),
        owner_key: holder.map(|one| format!("{:#018x}", one.key)),
        owner_host_id: key.map(Key::host),
        owner_epoch: key.map(Key::epoch),
        owner_age_ms: age_of(&picture),
        generation: picture.status.generation,
        registrations: picture.status.registrations.len(),
        this_host_id: place.host_id()?,
        this_host_owns: owns && key.is_some_and(|key| !key.is_vacant()),
        this_host_standing: standing.state.word(),
        this_host_guard: presence.word(),
        left_processes: presence.left().iter().map(ToString::to_string).collect(),
        gate,
        gate_users: gate_users.flatten(),
        paths: volume.path_states().await.into_iter().map(shown).collect(),
    };
    output::show(format, &status)?;
    Ok(ExitCode::SUCCESS)
}

fn state_of(holder: Option<&Listed>, key: Option<Key>) -> &'static str {
    match (holder, key) {
        (None, _) => "none",
        (Some(_), None) => "foreign",
        (Some(_), Some(key)) if key.is_vacant() => "vacant",
        (Some(_), Some(key)) if key.is_claiming() => "claiming",
        (Some(_), Some(_)) => "held",
    }
}

fn shown(PathState { device, silent }: PathState) -> ShownPath {
    ShownPath { device, answers: silent.is_none(), why_not: silent }
}

fn age_of(picture: &Picture) -> Option<u32> {
    let seen = Seen::of(&picture.status, picture.ages.as_ref());
    seen.age_ms.and_then(|age_ms| u32::try_from(age_ms).ok())
}
