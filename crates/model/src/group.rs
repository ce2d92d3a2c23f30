//! Group: a service and its file system on a shared volume, on exactly one of several hosts.
//!
//! ```text
//!             the volume is free,            the reservation is      every resource
//!             or its owner is silent         this host's             runs
//!   standby ---------------------> claiming ----------> starting ----------> running
//!     ^  ^                             |                    |                 |   |
//!     |  '--- another one won ---------'                    '----> stopping <-'   |
//!     |                                                               |           |
//!     |<-- asked to go, or its resources failed too often: stopped, failed        |
//!     '<-- permitted ------- fenced <--- the volume was lost ---------------------'
//! ```
//!
//! The control plane keeps what is wanted and what was reported. Who owns the group is decided by
//! the agents and the volume alone, so that everything goes on while the control plane is away.

mod change;
mod resource;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{GroupId, HostId, ProjectId, VolumeId};

pub use change::{PolicyChange, RestartChange};
pub use resource::{Fsck, Resource, ResourceError};

/// Most hosts, and most resources, of one group.
pub const HOSTS_MAX: usize = 16;
pub const RESOURCES_MAX: usize = 64;
/// Between two signs of life of an owner, in milliseconds.
pub const BEAT_MS: u64 = 100;
/// Longest silence before a takeover: ten minutes.
pub const TAKEOVER_MS_MAX: u64 = 600_000;

/// What is wanted of the group as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It runs on one of its hosts.
    Started,
    /// It runs nowhere.
    Stopped,
}

impl Wanted {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }
}

/// What the owner does when one of its resources fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Start it again here, with what depends on it; move when the limit is reached.
    #[default]
    Restart,
    /// Give the group to another host at once.
    Move,
    /// Stop the group here and leave it; no other host takes it before it is started again.
    Stop,
}

/// The kind of reservation that keeps the others out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reservation {
    /// Write exclusive, registrants only (SPC-4 type 5): the others may read.
    #[default]
    WriteExclusive,
    /// Exclusive access, registrants only (type 6): the others may not even read.
    ExclusiveAccess,
}

/// So many restarts of resources within so long; then the group moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartLimit {
    pub count: u32,
    pub within_ms: u64,
}

impl Default for RestartLimit {
    fn default() -> Self {
        Self { count: 3, within_ms: 600_000 }
    }
}

/// How the agents decide.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Go back to a host that comes earlier in the list when it is there again.
    pub failback: bool,
    pub on_failure: OnFailure,
    pub restart: RestartLimit,
    pub reservation: Reservation,
    /// An owner that has been silent for so long may be replaced.
    pub takeover_ms: u64,
    /// An owner that the volume has not answered for so long freezes its resources.
    pub freeze_ms: u64,
    /// An address that a host must reach to claim the group: it tells a host that is cut off from
    /// one whose peers are gone. The volume keeps the data safe without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<std::net::IpAddr>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failback: false,
            on_failure: OnFailure::default(),
            restart: RestartLimit::default(),
            reservation: Reservation::default(),
            takeover_ms: 500,
            freeze_ms: 350,
            witness: None,
        }
    }
}

/// A group. Its name is unique inside its project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub project: ProjectId,
    pub name: String,
    /// A block volume of a multi-attach type. Its reservation is the first of the resources,
    /// without being listed.
    pub volume: VolumeId,
    /// The preferred one first.
    pub hosts: Vec<HostId>,
    /// Those of `hosts` that were taken out while they might run the group: each is told that it
    /// is stopped, and stays in the list until it says that it is.
    #[serde(default)]
    pub leaving: BTreeSet<HostId>,
    /// In the order in which they start; they stop in the opposite one.
    pub resources: Vec<Resource>,
    pub policy: Policy,
    pub wanted: Wanted,
    /// Agents watch and report, and neither start, stop, move nor take over. The reservation is
    /// renewed, and an owner that loses it stops all the same.
    pub frozen: bool,
    /// Who is to own it, by the move of generation [`Self::moved`].
    pub owner: Option<HostId>,
    /// The generation of that move. An owner that began under an earlier one, and is not
    /// [`Self::owner`], stops in good order and lets the other come first.
    pub moved: u64,
    /// Grows with each change of what is wanted, so that a newer order is known from an older one.
    pub generation: u64,
    /// The generation of the last order that forgives hosts their failures: a start, a move or a
    /// permission.
    #[serde(default)]
    pub forgiven: u64,
    /// Hosts that may try again after they were fenced, by the generation of the permission. It
    /// holds for a fence that happened under an earlier generation.
    pub permits: BTreeMap<HostId, u64>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Group {
    /// The hosts that stay, the preferred one first.
    pub fn staying(&self) -> impl Iterator<Item = HostId> {
        self.hosts.iter().copied().filter(|host| !self.leaving.contains(host))
    }

    /// What this host is to see to.
    #[must_use]
    pub fn wanted_of(&self, host: HostId) -> Wanted {
        if self.leaving.contains(&host) { Wanted::Stopped } else { self.wanted }
    }
}

/// Where a host stands with a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Ready to take over.
    Standby,
    /// Takes the volume.
    Claiming,
    /// Has the volume; resources start.
    Starting,
    /// Has the volume, and every resource runs.
    Running,
    /// Has the volume; resources stop.
    Stopping,
    /// Nothing runs here, as is wanted.
    Stopped,
    /// Lost the volume to another host; nothing starts before somebody permits it.
    Fenced,
    /// Resources failed too often, or could not be stopped.
    Failed,
    /// The volume cannot be reached from here.
    Unreachable,
}

impl Standing {
    pub const ALL: [Self; 9] = [
        Self::Standby,
        Self::Claiming,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Fenced,
        Self::Failed,
        Self::Unreachable,
    ];
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Claiming => "claiming",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Fenced => "fenced",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
    /// Does the host hold the volume?
    #[must_use]
    pub const fn owns(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }
    /// Does nothing of the group run there, and does the host not try to have it?
    #[must_use]
    pub const fn rests(self) -> bool {
        matches!(self, Self::Stopped | Self::Fenced | Self::Failed | Self::Unreachable)
    }
}

/// Where a resource is on the host that says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    Stopped,
    Starting,
    Running,
    Stopping,
    Failed,
}

impl ResourceState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// How all that the programs of a resource start is found, to be frozen and ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// It is in a cgroup of its own, and marked besides.
    Cgroup,
    /// By a mark in its environment alone.
    Mark,
}

impl FoundBy {
    /// A newer agent may know of another way.
    fn if_known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Known(FoundBy),
            Other(serde::de::IgnoredAny),
        }
        Ok(match Said::deserialize(from)? {
            Said::Known(found_by) => Some(found_by),
            Said::Other(_) => None,
        })
    }
}

/// What an agent says of one resource; reports keep the order of the group's resources.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceReport {
    pub state: ResourceState,
    /// What went wrong last, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Absent where the resource has no programs of its own.
    #[serde(
        default,
        deserialize_with = "FoundBy::if_known",
        skip_serializing_if = "Option::is_none"
    )]
    pub found_by: Option<FoundBy>,
}

/// How long ago another host of the group was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    pub host: HostId,
    /// `None` when it was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_age_ms: Option<u64>,
}

/// By how many ways the kernel of a host reaches a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathsReport {
    /// How many portals the service names: as many could be had.
    pub portals: u32,
    /// How many of them the host has a session with.
    pub sessions: u32,
    /// How many of those carry commands now.
    pub answering: u32,
    /// Why there are fewer sessions than portals, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What an agent says of one group. Times are ages, because clocks of hosts differ. What a newer
/// agent says beyond this is passed over, here and in what is inside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub group: GroupId,
    pub standing: Standing,
    /// Which run of this host's guard: the epoch in its reservation key. 0 before the first.
    pub epoch: u64,
    /// The newest generation of the group that the agent acts upon.
    pub generation: u64,
    /// Who holds the volume, as this host sees it; itself, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<HostId>,
    /// How long it has been standing so.
    pub for_ms: u64,
    /// Why it came to stand so, as a sentence.
    pub why: String,
    /// Empty, or one for each of the group's resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceReport>,
    /// What went wrong last, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerReport>,
    /// Absent where the kernel does not log in to the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<PathsReport>,
}

/// Where a group is as a whole, by what its hosts have reported lately.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    Running,
    Starting,
    Stopping,
    /// Wanted stopped, and no host says that it runs.
    Stopped,
    /// Wanted started, and hosts stand by to take it.
    Waiting,
    /// Wanted started, and no host that reports could take it.
    Failed,
    /// No host has reported lately. The group may well run.
    Unknown,
}

impl GroupState {
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Starting,
        Self::Stopping,
        Self::Stopped,
        Self::Waiting,
        Self::Failed,
        Self::Unknown,
    ];
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
    /// From what is wanted, and what the hosts have reported lately. A host that cannot report
    /// is believed to run the group when the others see it hold the volume.
    #[must_use]
    pub fn of(wanted: Wanted, fresh: &[&Report]) -> Self {
        let any = |wanted: Standing| fresh.iter().any(|report| report.standing == wanted);
        if fresh.is_empty() {
            Self::Unknown
        } else if any(Standing::Running) {
            Self::Running
        } else if any(Standing::Stopping) {
            Self::Stopping
        } else if any(Standing::Starting) || any(Standing::Claiming) {
            Self::Starting
        } else if fresh.iter().any(|report| report.owner.is_some()) {
            Self::Running
        } else if wanted == Wanted::Stopped {
            Self::Stopped
        } else if any(Standing::Standby) || any(Standing::Stopped) {
            Self::Waiting
        } else {
            Self::Failed
        }
    }
}

/// Why a group cannot be as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("it must be 2 to {HOSTS_MAX} hosts, and {0} are given")]
    Hosts(usize),
    #[error("host '{0}' is given twice")]
    HostTwice(String),
    #[error("it must be at most {RESOURCES_MAX} resources, and {0} are given")]
    Resources(usize),
    #[error("resource '{text}': {why}")]
    Resource { text: String, why: ResourceError },
    #[error("'{0}' is there twice")]
    ResourceTwice(String),
    #[error(
        "two mounts are at '{0}', where one would hide the other; it must be one for each path"
    )]
    MountTwice(String),
    #[error("export '{0}' needs a mount of that path, or of one above it, before it")]
    ExportBeforeMount(String),
    #[error(
        "freeze after {freeze_ms} ms and takeover after {takeover_ms} ms do not go together: more \
         than two beats ({} ms), then freeze, then takeover, at most {TAKEOVER_MS_MAX} ms", 2 * BEAT_MS
    )]
    Times { freeze_ms: u64, takeover_ms: u64 },
    #[error("a restart limit needs a time: 'within_ms' is 0")]
    RestartLimit,
}

impl Policy {
    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), GroupError> {
        let Self { freeze_ms, takeover_ms, restart, .. } = *self;
        if freeze_ms <= 2 * BEAT_MS || takeover_ms <= freeze_ms || takeover_ms > TAKEOVER_MS_MAX {
            return Err(GroupError::Times { freeze_ms, takeover_ms });
        }
        if restart.count > 0 && restart.within_ms == 0 {
            return Err(GroupError::RestartLimit);
        }
        Ok(())
    }
}

/// Can these be the resources of one group, in this order?
///
/// # Errors
/// The rule that they break.
pub fn check_resources(resources: &[Resource]) -> Result<(), GroupError> {
    if resources.len() > RESOURCES_MAX {
        return Err(GroupError::Resources(resources.len()));
    }
    for (at, resource) in resources.iter().enumerate() {
        resource.check().map_err(|why| GroupError::Resource { text: resource.to_string(), why })?;
        let before = &resources[..at];
        if before.iter().any(|other| other.is_same(resource)) {
            return Err(match resource {
                Resource::Mount { path, .. } => GroupError::MountTwice(path.clone()),
                other => GroupError::ResourceTwice(other.to_string()),
            });
        }
        if let Resource::Export { path, .. } = resource {
            let holds = |other: &Resource| match other {
                Resource::Mount { path: mount, .. } => {
                    std::path::Path::new(path).starts_with(mount)
                }
                _ => false,
            };
            if !before.iter().any(holds) {
                return Err(GroupError::ExportBeforeMount(path.clone()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that was upgraded before the service was heard no more, and heard nothing.
    #[test]
    fn what_a_newer_agent_says_beyond_is_passed_over() {
        let text = serde_json::json!({
            "group": uuid::Uuid::nil(), "standing": "running", "epoch": 1, "generation": 2,
            "for_ms": 3, "why": "", "mood": "good",
            "resources": [
                { "state": "running", "found_by": "cgroup", "colour": 7 },
                { "state": "running", "found_by": "smell" },
                { "state": "running", "found_by": { "nose": 1 } }
            ],
            "peers": [{ "host": uuid::Uuid::nil(), "heartbeat_age_ms": 9, "voice": "loud" }]
        });
        let report: Report = serde_json::from_value(text).unwrap();
        let found: Vec<_> = report.resources.iter().map(|resource| resource.found_by).collect();
        assert_eq!((report.generation, found), (2, vec![Some(FoundBy::Cgroup), None, None]));
        assert_eq!(report.peers[0].heartbeat_age_ms, Some(9));
    }

    #[test]
    fn the_state_is_what_the_hosts_say_and_not_what_is_wanted() {
        use Standing::{Claiming, Failed, Fenced, Running, Standby, Starting, Stopped, Stopping};
        use Wanted::Started;
        let said = |standing| Report {
            group: GroupId(uuid::Uuid::nil()),
            standing,
            epoch: 0,
            generation: 1,
            owner: None,
            for_ms: 0,
            why: String::new(),
            resources: Vec::new(),
            error: None,
            peers: Vec::new(),
            paths: None,
        };
        let of = |wanted, fresh: &[Standing]| {
            let fresh: Vec<Report> = fresh.iter().map(|standing| said(*standing)).collect();
            GroupState::of(wanted, &fresh.iter().collect::<Vec<_>>())
        };
        assert_eq!(of(Started, &[]), GroupState::Unknown);
        assert_eq!(of(Wanted::Stopped, &[]), GroupState::Unknown);
        assert_eq!(of(Wanted::Stopped, &[Running, Standby]), GroupState::Running);
        assert_eq!(of(Started, &[Fenced, Running]), GroupState::Running);
        assert_eq!(of(Started, &[Stopping, Claiming]), GroupState::Stopping);
        assert_eq!(of(Started, &[Standby, Starting]), GroupState::Starting);
        assert_eq!(of(Started, &[Standby, Fenced]), GroupState::Waiting);
        assert_eq!(of(Started, &[Failed, Fenced]), GroupState::Failed);
        assert_eq!(of(Wanted::Stopped, &[Stopped, Fenced]), GroupState::Stopped);
        let seen = Report { owner: Some(HostId(uuid::Uuid::nil())), ..said(Standby) };
        assert_eq!(GroupState::of(Started, &[&seen]), GroupState::Running);
    }

    #[test]
    fn an_owner_freezes_before_another_takes_over() {
        assert_eq!(Policy::default().check(), Ok(()));
        for (freeze_ms, takeover_ms) in [(200, 500), (500, 500), (600, 500), (350, 600_001)] {
            let policy = Policy { freeze_ms, takeover_ms, ..Policy::default() };
            assert_eq!(policy.check(), Err(GroupError::Times { freeze_ms, takeover_ms }));
        }
        let restart = RestartLimit { count: 1, within_ms: 0 };
        let policy = Policy { restart, ..Policy::default() };
        assert_eq!(policy.check(), Err(GroupError::RestartLimit));
    }

    #[test]
    fn resources_depend_on_those_before_them() {
        let of = |texts: &[&str]| -> Vec<Resource> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let good = of(&["mount:/srv/db,fs=ext4", "export:/srv/db/a", "address:10.0.0.9/24,dev=e0"]);
        assert_eq!(check_resources(&good), Ok(()));
        let early = of(&["export:/srv/db", "mount:/srv/db,fs=ext4"]);
        assert!(matches!(check_resources(&early), Err(GroupError::ExportBeforeMount(_))));
        let beside = of(&["mount:/srv/db,fs=ext4", "export:/srv/dbx"]);
        assert!(matches!(check_resources(&beside), Err(GroupError::ExportBeforeMount(_))));
        let twice = of(&["unit:db.service", "unit:db.service"]);
        assert!(matches!(check_resources(&twice), Err(GroupError::ResourceTwice(_))));
        let many = vec![good[0].clone(); RESOURCES_MAX + 1];
        assert_eq!(check_resources(&many), Err(GroupError::Resources(RESOURCES_MAX + 1)));
    }

    #[test]
    fn two_mounts_of_one_path_were_taken_when_it_was_spelled_in_two_ways() {
        let of = |second: &str| -> Vec<Resource> {
            ["mount:/srv/db,fs=ext4", second].map(|text| text.parse().unwrap()).to_vec()
        };
        for path in ["/srv/db", "/srv/db/", "/srv//db", "/srv/./db"] {
            let twice = check_resources(&of(&format!("mount:{path},fs=xfs")));
            assert_eq!(twice, Err(GroupError::MountTwice(path.to_owned())));
        }
        for inside in ["/srv/db/log", "/srv", "/srv/dbx"] {
            assert_eq!(check_resources(&of(&format!("mount:{inside},fs=ext4"))), Ok(()));
        }
    }
}
