//! Groups: a service on one of several hosts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::event::EventQuery;
use api::group::{
    CreateGroup, DeleteGroup, Group, GroupHost, GroupQuery, MoveGroup, PermitHost, UpdateGroup,
};
use clap::{Args, Subcommand, ValueEnum};
use model::group::{
    FoundBy, GroupState, OnFailure, Policy, PolicyChange, Reservation, Resource, ResourceReport,
    RestartChange, Standing, Wanted,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::failure::Failure;
use crate::output::{self, Column, Format, Listed, age, moment, note, or_dash};
use crate::progress::Bar;

const RESOURCES: &str = "\
Resources, in the order in which they start; the reservation of the volume comes first by itself:
  mount:/srv/db,fs=ext4[,options=noatime+discard][,fsck=never|preen|force]
  exec:start=/usr/local/bin/up[,stop=...][,status=...][,start-ms=60000][,stop-ms=60000]
      [,status-ms=10000][,interval-ms=10000]
  address:10.0.0.9/24,dev=eth0
  export:/srv/db[,to=10.0.0.0/24][,options=rw+no_root_squash]
  unit:postgresql.service
A value with a comma in it needs --file.";

#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// Have a service run on exactly one of several hosts that share a volume
    #[command(after_long_help = RESOURCES)]
    Create(Box<CreateArguments>),
    /// All groups: where each runs, since when, and how old that news is
    List {
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
        /// Only those of this host
        #[arg(long)]
        host: Option<String>,
    },
    /// One group, and what each of its hosts says
    Show { group: String },
    /// Change it while it exists: nothing moves because of it
    ///
    /// Name, hosts and policy change at once. Resources, --reserve, --takeover-ms and --freeze-ms
    /// change only while the group is stopped.
    #[command(after_long_help = RESOURCES)]
    Update(Box<UpdateArguments>),
    /// Have it run; again: also forgive hosts their failures
    Start { group: String },
    /// Have it run nowhere
    Stop { group: String },
    /// Have another host own it; the next one that is up when none is named
    Move { group: String, host: Option<String> },
    /// Have its hosts watch and change nothing, for maintenance
    Freeze { group: String },
    /// Have its hosts act again
    Unfreeze { group: String },
    /// Let a host that was fenced try again, once nothing of its old life is left
    Permit { group: String, host: String },
    /// What happened to it: orders, takeovers, failures; newest first
    History {
        group: String,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Forget groups that run nowhere; their volumes stay attached
    Delete {
        #[arg(required = true)]
        groups: Vec<String>,
        /// Also while a host may run it; it goes on there until somebody stops it
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CreateArguments {
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// A block volume of a multi-attach type; attached to the hosts where it is not yet
    #[arg(long, required_unless_present = "file")]
    volume: Option<String>,
    /// Given at least twice, the preferred one first
    #[arg(long = "host", value_name = "HOST", required_unless_present = "file")]
    hosts: Vec<String>,
    /// May be given several times; --help shows the forms
    #[arg(long = "resource", value_name = "RESOURCE")]
    resources: Vec<Resource>,
    #[command(flatten)]
    policy: PolicyArguments,
    /// Read the group from this TOML or JSON file, in the fields of the API
    #[arg(long, value_name = "FILE", conflicts_with_all = ["volume", "hosts", "resources", "policy"])]
    file: Option<PathBuf>,
    /// Start it at once
    #[arg(long)]
    start: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FailureWord {
    Restart,
    Move,
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ReserveWord {
    WriteExclusive,
    ExclusiveAccess,
}

#[derive(Args, Debug)]
#[group(id = "policy", multiple = true)]
struct PolicyArguments {
    /// Go back to a host that comes earlier in the list when it is there again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    failback: Option<bool>,
    /// When a resource fails: restart it, move the group, or stop it there [default: restart]
    #[arg(long, value_enum, value_name = "WHAT")]
    on_failure: Option<FailureWord>,
    /// So many restarts are tried before the group moves [default: 3]
    #[arg(long, value_name = "COUNT")]
    restarts: Option<u32>,
    /// Restarts that are older than this do not count [default: 600000]
    #[arg(long, value_name = "MS")]
    restarts_within_ms: Option<u64>,
    /// Whether the others may read [default: write-exclusive]
    #[arg(long, value_enum, value_name = "KIND")]
    reserve: Option<ReserveWord>,
    /// Take over from an owner that has been silent for so long [default: 500]
    #[arg(long, value_name = "MS")]
    takeover_ms: Option<u64>,
    /// Freeze the resources when the volume has not answered for so long [default: 350]
    #[arg(long, value_name = "MS")]
    freeze_ms: Option<u64>,
    /// An address that a host must reach to claim the group, or 'none'
    #[arg(long, value_name = "ADDRESS", value_parser = witness)]
    witness: Option<Witness>,
}

/// An address, or none.
#[derive(Clone, Copy, Debug)]
struct Witness(Option<IpAddr>);

fn witness(text: &str) -> Result<Witness, String> {
    if text == "none" {
        return Ok(Witness(None));
    }
    let address = text.parse().map_err(|_| "it must be an IP address, or 'none'".to_owned())?;
    Ok(Witness(Some(address)))
}

#[derive(Args, Debug)]
pub(crate) struct UpdateArguments {
    group: String,
    #[arg(long)]
    name: Option<String>,
    /// All its hosts, the preferred one first; the volume is attached to new ones
    #[arg(long = "host", value_name = "HOST", conflicts_with_all = ["add_hosts", "remove_hosts"])]
    hosts: Vec<String>,
    /// A host that comes after those that it has; may be given several times
    #[arg(long = "add-host", value_name = "HOST")]
    add_hosts: Vec<String>,
    /// A host that goes; one that runs the group is refused. May be given several times
    #[arg(long = "remove-host", value_name = "HOST")]
    remove_hosts: Vec<String>,
    /// All its resources, each by one --resource; 'none' for none; --help shows the forms
    #[arg(long = "resource", value_name = "RESOURCE")]
    resources: Vec<String>,
    #[command(flatten)]
    policy: PolicyArguments,
    /// Read what changes from this TOML or JSON file, in the fields of the API
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["name", "hosts", "add_hosts", "remove_hosts", "resources", "policy"])]
    file: Option<PathBuf>,
    /// Take hosts out although they may run it; what runs there goes on
    #[arg(long)]
    force: bool,
}

/// A file that changes a group: that which made it will do. What it does not hold stays.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Changes {
    name: Option<String>,
    /// Must be the group's.
    volume: Option<String>,
    hosts: Option<Vec<String>>,
    resources: Option<Vec<Resource>>,
    policy: PolicyChange,
    /// Says how a group begins, and nothing to one that is there.
    #[serde(rename = "start")]
    _start: bool,
}

impl UpdateArguments {
    /// What changes, and the volume that the group must be of.
    fn body(self) -> Result<(UpdateGroup, Option<String>), Failure> {
        let force = self.force;
        let Some(file) = &self.file else {
            let given = |list: Vec<String>| (!list.is_empty()).then_some(list);
            let body = UpdateGroup {
                name: self.name,
                hosts: given(self.hosts),
                add_hosts: self.add_hosts,
                remove_hosts: self.remove_hosts,
                resources: given(self.resources).map(|texts| resources(&texts)).transpose()?,
                policy: self.policy.change(),
                force,
            };
            return Ok((body, None));
        };
        let Changes { name, volume, hosts, resources, policy, _start: _ } = read(file)?;
        let body = UpdateGroup { name, hosts, resources, policy, force, ..UpdateGroup::default() };
        Ok((body, volume))
    }
}

/// The resources of these texts; `none` alone is an empty list.
fn resources(texts: &[String]) -> Result<Vec<Resource>, Failure> {
    if texts == ["none"] {
        return Ok(Vec::new());
    }
    let read = |text: &String| {
        text.parse().map_err(|why: model::group::ResourceError| Failure::Usage {
            message: format!("the resource '{text}' cannot be used: {why}"),
            hint: "`group update --help` shows the forms.".to_owned(),
        })
    };
    texts.iter().map(read).collect()
}

async fn update(context: &Context, arguments: UpdateArguments) -> Result<Group, Failure> {
    let group = arguments.group.clone();
    let (body, volume) = arguments.body()?;
    if let Some(volume) = volume {
        let shown = context.client.group_show(&group).await?;
        if volume != shown.volume_name && volume != shown.volume_id.to_string() {
            return Err(Failure::Usage {
                message: format!(
                    "the file is of a group of volume '{volume}', and group '{group}' is of \
                     volume '{}'",
                    shown.volume_name
                ),
                hint: "A group keeps its volume: make another group.".to_owned(),
            });
        }
    }
    Ok(context.client.group_update(&group, &body).await?)
}

impl PolicyArguments {
    /// The words that were given.
    fn change(&self) -> PolicyChange {
        let limit = RestartChange { count: self.restarts, within_ms: self.restarts_within_ms };
        PolicyChange {
            failback: self.failback,
            on_failure: self.on_failure.map(|word| match word {
                FailureWord::Restart => OnFailure::Restart,
                FailureWord::Move => OnFailure::Move,
                FailureWord::Stop => OnFailure::Stop,
            }),
            restart: (limit != RestartChange::default()).then_some(limit),
            reservation: self.reserve.map(|word| match word {
                ReserveWord::WriteExclusive => Reservation::WriteExclusive,
                ReserveWord::ExclusiveAccess => Reservation::ExclusiveAccess,
            }),
            takeover_ms: self.takeover_ms,
            freeze_ms: self.freeze_ms,
            witness: self.witness.map(|Witness(address)| address),
        }
    }

    fn policy(&self) -> Policy {
        self.change().of(&Policy::default())
    }
}

impl CreateArguments {
    fn body(self) -> Result<CreateGroup, Failure> {
        let Some(file) = &self.file else {
            return Ok(CreateGroup {
                name: self.name.unwrap_or_default(),
                volume: self.volume.unwrap_or_default(),
                hosts: self.hosts,
                resources: self.resources,
                policy: self.policy.policy(),
                start: self.start,
            });
        };
        let mut body: CreateGroup = read(file)?;
        body.name = self.name.unwrap_or(body.name);
        body.start |= self.start;
        Ok(body)
    }
}

/// A group, or what changes of one, from a file: JSON where it begins with a brace, TOML else.
fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|why| Failure::Io { what: file.display().to_string(), why })?;
    let group = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|why| why.to_string())
    } else {
        toml::from_str(&text).map_err(|why| why.to_string())
    };
    group.map_err(|why| Failure::Usage {
        message: format!("{} is no group: {why}", file.display()),
        hint: "docs/failover.md shows one.".to_owned(),
    })
}

impl Listed for Group {
    const WORD: &'static str = "groups";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |group| group.name.clone()),
        ("volume", |group| group.volume_name.clone()),
        ("state", |group| group.state.word().to_owned()),
        ("wanted", wanted),
        ("owner", |group| or_dash(group.owner.as_ref().map(|owner| &owner.host_name))),
        ("epoch", |group| or_dash(group.owner.as_ref().map(|owner| owner.epoch))),
        ("since", |group| or_dash(group.owner.as_ref().map(|owner| moment(&owner.since)))),
        ("said", |group| or_dash(group.owner.as_ref().map(|owner| age(owner.age_ms)))),
        ("hosts", |group| {
            group.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ")
        }),
    ];
}

fn wanted(group: &Group) -> String {
    let frozen = if group.frozen { ", frozen" } else { "" };
    format!("{}{frozen}", group.wanted.word())
}

/// What a host last said.
fn said<T>(host: &GroupHost, of: fn(&api::group::HostReport) -> T) -> Option<T> {
    host.report.as_ref().map(of)
}

impl Listed for GroupHost {
    const WORD: &'static str = "hosts";
    const COLUMNS: &'static [Column<Self>] = &[
        ("host", |host| format!("{}{}", host.name, if host.leaving { " (leaving)" } else { "" })),
        ("agent", |host| if host.up { "up".to_owned() } else { "down".to_owned() }),
        ("standing", |host| or_dash(said(host, |said| said.standing.word()))),
        ("epoch", |host| or_dash(said(host, |said| said.epoch))),
        ("since", |host| or_dash(said(host, |said| moment(&said.since)))),
        ("said", |host| or_dash(said(host, |said| age(said.age_ms)))),
        ("paths", |host| or_dash(said(host, paths).flatten())),
        ("hears", |host| or_dash(said(host, hears))),
        ("why", |host| or_dash(said(host, |said| said.why.clone()))),
        ("error", |host| or_dash(said(host, |said| or_dash(said.error.as_ref())))),
    ];
}

/// How many paths answer, of how many there could be.
fn paths(said: &api::group::HostReport) -> Option<String> {
    let paths = said.paths.as_ref()?;
    let why = paths.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("{} of {}{why}", paths.answering, paths.portals))
}

/// The age of the heartbeats of the others.
fn hears(said: &api::group::HostReport) -> String {
    let peers = said.peers.iter().map(|peer| {
        let heard = peer.heartbeat_age_ms.map_or_else(|| "never".to_owned(), age);
        format!("{} {heard}", peer.host_name)
    });
    peers.collect::<Vec<_>>().join(", ")
}

/// How what the resource's programs have started is found, where it has some.
fn found_by(said: &ResourceReport) -> &'static str {
    match said.found_by {
        None => "",
        Some(FoundBy::Cgroup) => ", in a cgroup",
        Some(FoundBy::Mark) => ", found by its mark",
    }
}

/// What stands above the table of the hosts.
#[derive(Serialize)]
struct Summary {
    id: String,
    name: String,
    volume: String,
    state: &'static str,
    wanted: String,
    generation: u64,
    wanted_owner: Option<String>,
    owner: Option<String>,
    resources: Vec<String>,
    policy: Policy,
    created_at: jiff::Timestamp,
}

impl From<&Group> for Summary {
    fn from(group: &Group) -> Self {
        let states = group.owner.as_ref().and_then(|owner| {
            let host = group.hosts.iter().find(|host| host.id == owner.host_id)?;
            Some(host.report.as_ref()?.resources.as_slice())
        });
        let states = states.unwrap_or_default();
        let resource = |(at, resource): (usize, &Resource)| match states.get(at) {
            Some(said) => format!("{resource} ({}{})", said.state.word(), found_by(said)),
            None => resource.to_string(),
        };
        Self {
            id: group.id.to_string(),
            name: group.name.clone(),
            volume: group.volume_name.clone(),
            state: group.state.word(),
            wanted: wanted(group),
            generation: group.generation,
            wanted_owner: group.wanted_owner.clone(),
            owner: group.owner.as_ref().map(|owner| {
                let since = moment(&owner.since);
                format!("{}, epoch {}, since {since}: {}", owner.host_name, owner.epoch, owner.why)
            }),
            resources: group.resources.iter().enumerate().map(resource).collect(),
            policy: group.policy.clone(),
            created_at: group.created_at,
        }
    }
}

fn show(context: &Context, group: &Group) -> Result<(), Failure> {
    if context.format != Format::Table {
        return context.show(group);
    }
    context.show(&Summary::from(group))?;
    output::write("\n")?;
    output::list(context.format, &group.hosts)
}

/// For hosts to reach a volume that they have just been attached to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `--wait` waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    Started,
    Stopped,
    Moved,
    /// All that are up know of the order.
    Told,
    /// The same, where there are any, and those that were to leave have.
    Updated,
}

/// Is it there? `Err` when it will not be.
fn is_reached(goal: Goal, group: &Group) -> Result<bool, String> {
    let up: Vec<&GroupHost> = group.hosts.iter().filter(|host| host.up).collect();
    if up.is_empty() && goal == Goal::Updated {
        return Ok(true);
    }
    if up.is_empty() {
        return Err("no agent of its hosts is up; the order is kept for them".to_owned());
    }
    let knows = |host: &&GroupHost| {
        host.report.as_ref().is_some_and(|said| said.generation >= group.generation)
    };
    let told = up.iter().all(knows);
    let owner = group.owner.as_ref();
    let owner = owner.and_then(|owner| group.hosts.iter().find(|host| host.id == owner.host_id));
    let runs = owner.is_some_and(|host| {
        let standing = host.report.as_ref().map(|said| said.standing);
        knows(&host) && standing == Some(Standing::Running)
    });
    // A host that does not reach the volume may be attaching it.
    let hopeless = |host: &&GroupHost| {
        let standing = host.report.as_ref().map(|said| said.standing);
        matches!(standing, Some(Standing::Failed | Standing::Fenced))
    };
    let failed = told && group.state == GroupState::Failed && up.iter().all(hopeless);
    match goal {
        Goal::Told => Ok(told),
        Goal::Updated => Ok(told && !group.hosts.iter().any(|host| host.leaving)),
        Goal::Stopped => Ok(told && group.state == GroupState::Stopped),
        _ if failed => Err(nobody_could(group)),
        Goal::Moved if group.wanted == Wanted::Stopped => Ok(told),
        Goal::Started => Ok(runs),
        Goal::Moved => Ok(runs && owner.map(|host| &host.name) == group.wanted_owner.as_ref()),
    }
}

/// None of its hosts could run it, and why.
fn nobody_could(group: &Group) -> String {
    let why = |host: &GroupHost| {
        let said = host.report.as_ref()?;
        let why = said.error.as_ref().unwrap_or(&said.why);
        Some(format!("{} is {}: {why}", host.name, said.standing.word()))
    };
    let each: Vec<String> = group.hosts.iter().filter_map(why).collect();
    format!("none of its hosts could run it; {}", each.join("; "))
}

/// Wait for it, where waiting was asked for, and show the group.
async fn reach(context: &Context, mut group: Group, goal: Goal) -> Result<(), Failure> {
    if context.wait {
        let id = group.id.to_string();
        let mut bar = Bar::new(format!("group {}", group.name));
        let mut failed_at: Option<Instant> = None;
        loop {
            let state = group.state;
            failed_at = failed_at.or_else(|| Some(Instant::now()));
            failed_at = failed_at.filter(|_| state == GroupState::Failed);
            let late = failed_at.is_some_and(|at| at.elapsed() > PATIENCE);
            let starts = matches!(goal, Goal::Started | Goal::Moved);
            let reached = match is_reached(goal, &group) {
                Ok(false) if late && starts => Err(nobody_could(&group)),
                other => other,
            };
            match reached {
                Ok(true) => break,
                Ok(false) => {}
                Err(why) => {
                    return Err(Failure::Work {
                        message: format!("group '{}': {why}", group.name),
                        hint: "`group show` and `group history` tell more.".to_owned(),
                    });
                }
            }
            bar.pause().await;
            group = context.client.group_show(&id).await?;
        }
    }
    show(context, &group)
}

impl GroupCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        let (group, goal) = match self {
            Self::Create(arguments) => {
                let body = arguments.body()?;
                let group = client.group_create(&body).await?;
                if !body.start {
                    return show(context, &group);
                }
                (group, Goal::Started)
            }
            Self::List { volume, host } => {
                return context.list(&GroupQuery { volume, host, ..GroupQuery::default() }).await;
            }
            Self::Show { group } => return show(context, &client.group_show(&group).await?),
            Self::Update(arguments) => (update(context, *arguments).await?, Goal::Updated),
            Self::Start { group } => (client.group_start(&group).await?, Goal::Started),
            Self::Stop { group } => (client.group_stop(&group).await?, Goal::Stopped),
            Self::Move { group, host } => {
                (client.group_move(&group, &MoveGroup { host }).await?, Goal::Moved)
            }
            Self::Freeze { group } => (client.group_freeze(&group).await?, Goal::Told),
            Self::Unfreeze { group } => (client.group_unfreeze(&group).await?, Goal::Told),
            Self::Permit { group, host } => {
                (client.group_permit(&group, &PermitHost { host }).await?, Goal::Told)
            }
            Self::History { group, limit } => {
                let id = client.group_show(&group).await?.id.0;
                let query = EventQuery {
                    resource_id: Some(id),
                    limit: Some(limit),
                    ..EventQuery::default()
                };
                return output::list(context.format, &client.list(&query).await?.items);
            }
            Self::Delete { groups, force } => {
                for group in groups {
                    client.group_delete(&group, &DeleteGroup { force }).await?;
                    note(&format!("Forgot the group {group}; its volume stays attached."));
                }
                return Ok(());
            }
        };
        reach(context, group, goal).await
    }
}
