//! Groups: a service on a shared volume, on exactly one of several hosts.
//!
//! Resources and policy are the values of [`model::group`]; the types of the same names here only
//! describe them in the document.

use model::group::{GroupState, Standing, Wanted};
use model::id::{GroupId, HostId, ProjectId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::page::list_query;

/// A service that is to run on exactly one of several hosts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    pub name: String,
    /// Name or id of a block volume of a multi-attach type. It is attached to the hosts where it
    /// is not yet.
    pub volume: String,
    /// Names or ids of the hosts, the preferred one first.
    #[schema(min_items = 2, max_items = 16)]
    pub hosts: Vec<String>,
    /// In the order in which they start. The reservation of the volume comes first by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Resource>)]
    pub resources: Vec<model::group::Resource>,
    #[serde(default)]
    #[schema(value_type = Policy)]
    pub policy: model::group::Policy,
    /// Start it at once.
    #[serde(default)]
    pub start: bool,
}

/// Change what is given; leave the rest. The same again changes nothing.
///
/// Name, hosts and the rest of the policy change at once, and nothing moves because of it (with
/// `failback` a group goes to a host that is preferred now). Resources, and of the policy
/// `reservation`, `takeover_ms` and `freeze_ms`, change only while the group is stopped and every
/// host that was told to start it has said that it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names or ids of all its hosts, the preferred one first. The volume is attached to the new
    /// ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 2, max_items = 16)]
    pub hosts: Option<Vec<String>>,
    /// In the place of `hosts`: names or ids of hosts that come after those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_hosts: Vec<String>,
    /// In the place of `hosts`: names or ids of hosts that go. One that stands by is told so, and
    /// is `leaving` until it has said that it heard of it; one that runs the group, or may and is
    /// not heard, is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_hosts: Vec<String>,
    /// All its resources, in the order in which they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Resource>>)]
    pub resources: Option<Vec<model::group::Resource>>,
    #[serde(default)]
    #[schema(value_type = UpdatePolicy)]
    pub policy: model::group::PolicyChange,
    /// Take hosts out although they may run it. What runs goes on there until somebody stops it.
    #[serde(default)]
    pub force: bool,
}

/// Have another host own the group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveGroup {
    /// Name or id of one of its hosts; the next one in the list that is up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Let a host that was fenced try again, once nothing of its old life is left.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitHost {
    /// Name or id of one of the group's hosts.
    pub host: String,
}

/// How a group is deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteGroup {
    /// Also while a host may run it. What runs goes on there until somebody stops it.
    #[serde(default)]
    pub force: bool,
}

/// A group. What it is to be stands beside what its hosts say that it is, with the age of that.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Group {
    #[schema(value_type = Uuid)]
    pub id: GroupId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    /// By what its hosts have reported lately.
    #[schema(value_type = GroupStateWord)]
    pub state: GroupState,
    #[schema(value_type = WantedWord)]
    pub wanted: Wanted,
    pub frozen: bool,
    /// Grows with each change of what is wanted.
    pub generation: u64,
    /// The host that the last move named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_owner: Option<String>,
    /// Who owns the group, by its own words, or else by those of its peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    #[schema(value_type = Vec<Resource>)]
    pub resources: Vec<model::group::Resource>,
    #[schema(value_type = Policy)]
    pub policy: model::group::Policy,
    /// The preferred one first.
    pub hosts: Vec<GroupHost>,
    pub created_at: jiff::Timestamp,
}

/// The host that owns a group, as hosts have said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Owner {
    #[schema(value_type = Uuid)]
    pub host_id: HostId,
    pub host_name: String,
    /// Which run of that host's guard.
    pub epoch: u64,
    /// Since when it has been standing so.
    pub since: jiff::Timestamp,
    pub why: String,
    /// How old these words are.
    pub age_ms: u64,
}

/// One host of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupHost {
    #[schema(value_type = Uuid)]
    pub id: HostId,
    pub name: String,
    /// Has its agent been heard lately?
    pub up: bool,
    /// It was taken out, and has not said yet that it heard of it.
    #[serde(default)]
    pub leaving: bool,
    /// The last that it said of the group; absent before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<HostReport>,
}

/// What a host said of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HostReport {
    #[schema(value_type = StandingWord)]
    pub standing: Standing,
    /// Which run of the host's guard.
    pub epoch: u64,
    /// The newest generation of the group that the host acts upon.
    pub generation: u64,
    /// Since when it has been standing so.
    pub since: jiff::Timestamp,
    pub why: String,
    /// In the order of the group's resources.
    #[schema(value_type = Vec<ResourceReport>)]
    pub resources: Vec<model::group::ResourceReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub peers: Vec<PeerAge>,
    /// Absent where the host's kernel does not log in to the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PathsReport>)]
    pub paths: Option<model::group::PathsReport>,
    /// How old these words are.
    pub age_ms: u64,
}

/// How long ago a host heard another one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerAge {
    #[schema(value_type = Uuid)]
    pub host_id: HostId,
    pub host_name: String,
    /// Absent when it was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_age_ms: Option<u64>,
}

list_query! {
    /// Which groups.
    GroupQuery -> Group, "v1/groups", {
        /// Only those with this name.
        name: String,
        /// Only those of this volume, by name or id.
        volume: String,
        /// Only those of this host, by name or id.
        host: String,
    }
}

/// Where a group is as a whole.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = GroupState)]
pub enum GroupStateWord {
    Running,
    Starting,
    Stopping,
    Stopped,
    /// Wanted started, and hosts stand by to take it.
    Waiting,
    /// Wanted started, and no host that reports could take it.
    Failed,
    /// No host has reported lately; the group may well run.
    Unknown,
}

/// What is wanted of a group.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = Wanted)]
pub enum WantedWord {
    Started,
    Stopped,
}

/// Where a host stands with a group.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = Standing)]
pub enum StandingWord {
    Standby,
    Claiming,
    Starting,
    Running,
    Stopping,
    Stopped,
    /// It lost the volume to another host; nothing starts before it is permitted.
    Fenced,
    Failed,
    Unreachable,
}

/// Where a resource is on a host.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = ResourceState)]
pub enum ResourceStateWord {
    Stopped,
    Starting,
    Running,
    Stopping,
    Failed,
}

/// How all that the programs of a resource start is found, to be frozen and ended.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = FoundBy)]
pub enum FoundByWord {
    /// It is in a cgroup of its own, and marked besides.
    Cgroup,
    /// By a mark in its environment alone.
    Mark,
}

/// What a host says of one resource.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ResourceReport {
    #[schema(value_type = ResourceStateWord)]
    pub state: String,
    /// What went wrong last.
    #[serde(default)]
    pub error: Option<String>,
    /// Absent where the resource has no programs of its own.
    #[serde(default)]
    #[schema(value_type = Option<FoundByWord>)]
    pub found_by: Option<String>,
}

/// By how many paths a host's kernel reaches the volume.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PathsReport {
    /// How many portals the service names: as many paths could be had.
    pub portals: u32,
    /// How many of them the host has a session with.
    pub sessions: u32,
    /// How many of those carry commands now.
    pub answering: u32,
    /// Why there are fewer sessions than portals, as a sentence.
    #[serde(default)]
    pub why: Option<String>,
}

/// What is done to a file system before it is mounted.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fsck {
    Never,
    Preen,
    Force,
}

/// One resource of a group.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Resource {
    /// The group's volume, mounted.
    Mount {
        path: String,
        file_system: String,
        #[serde(default)]
        options: Vec<String>,
        #[serde(default = "preen")]
        fsck: Fsck,
    },
    /// Programs that start a service, stop it, and say whether it runs (exit code 0): each a
    /// program and its arguments, read by no shell.
    Exec {
        start: Vec<String>,
        #[serde(default)]
        stop: Vec<String>,
        #[serde(default)]
        status: Vec<String>,
        #[serde(default)]
        start_timeout_ms: u64,
        #[serde(default)]
        stop_timeout_ms: u64,
        #[serde(default)]
        status_timeout_ms: u64,
        #[serde(default)]
        interval_ms: u64,
    },
    /// An address that moves along.
    Address { cidr: String, interface: String },
    /// A directory of the mounted file system, exported by the NFS server of the host itself.
    Export {
        path: String,
        #[serde(default)]
        client: String,
        #[serde(default)]
        options: Vec<String>,
    },
    /// A unit of systemd.
    Unit { name: String },
}

const fn preen() -> Fsck {
    Fsck::Preen
}

/// What the owner does when one of its resources fails.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Start it again there, with what depends on it; move when the limit is reached.
    Restart,
    /// Give the group to another host at once.
    Move,
    /// Stop the group and leave it.
    Stop,
}

/// The kind of reservation that keeps the other hosts out.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationKind {
    /// Write exclusive, registrants only: the others may read.
    WriteExclusive,
    /// Exclusive access, registrants only: the others may not even read.
    ExclusiveAccess,
}

/// So many restarts of resources within so long; then the group moves.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RestartLimit {
    pub count: u32,
    pub within_ms: u64,
}

/// How the agents decide. What is not given is usual.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Go back to a host that comes earlier in the list when it is there again.
    #[schema(default = false)]
    #[serde(default)]
    pub failback: bool,
    #[serde(default = "restart")]
    pub on_failure: OnFailure,
    #[serde(default = "limit")]
    pub restart: RestartLimit,
    #[serde(default = "write_exclusive")]
    pub reservation: ReservationKind,
    /// An owner that has been silent for so long may be replaced.
    #[serde(default)]
    #[schema(default = 500)]
    pub takeover_ms: u64,
    /// An owner that the volume has not answered for so long freezes its resources.
    #[serde(default)]
    #[schema(default = 350)]
    pub freeze_ms: u64,
    /// An address that a host must reach to claim the group.
    #[serde(default)]
    pub witness: Option<String>,
}

/// What is to change of a policy.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct UpdatePolicy {
    #[serde(default)]
    pub failback: Option<bool>,
    #[serde(default)]
    pub on_failure: Option<OnFailure>,
    #[serde(default)]
    pub restart: Option<UpdateRestartLimit>,
    /// Only while the group is stopped.
    #[serde(default)]
    pub reservation: Option<ReservationKind>,
    /// Only while the group is stopped.
    #[serde(default)]
    pub takeover_ms: Option<u64>,
    /// Only while the group is stopped.
    #[serde(default)]
    pub freeze_ms: Option<u64>,
    /// Null takes it away.
    #[serde(default)]
    pub witness: Option<String>,
}

/// What is to change of the limit of restarts.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct UpdateRestartLimit {
    #[serde(default)]
    pub count: Option<u32>,
    #[serde(default)]
    pub within_ms: Option<u64>,
}

const fn restart() -> OnFailure {
    OnFailure::Restart
}
const fn write_exclusive() -> ReservationKind {
    ReservationKind::WriteExclusive
}
const fn limit() -> RestartLimit {
    RestartLimit { count: 3, within_ms: 600_000 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use utoipa::PartialSchema;

    use super::*;

    fn keys(object: &Value) -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn documented_policy_and_reports_have_the_models_fields() {
        let policy = model::group::Policy {
            witness: Some("10.0.0.1".parse().unwrap()),
            ..model::group::Policy::default()
        };
        let policy = serde_json::to_value(policy).unwrap();
        let schema = serde_json::to_value(Policy::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&policy));
        let schema = serde_json::to_value(RestartLimit::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&policy["restart"]));
        let change: model::group::PolicyChange = serde_json::from_value(policy.clone()).unwrap();
        assert_eq!(serde_json::to_value(change).unwrap(), policy, "a change has all fields");
        let schema = serde_json::to_value(UpdatePolicy::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&policy));
        let schema = serde_json::to_value(UpdateRestartLimit::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&policy["restart"]));
        let _all_words: Policy = serde_json::from_value(policy).unwrap();
        let report = model::group::ResourceReport {
            state: model::group::ResourceState::Failed,
            error: Some("why".to_owned()),
            found_by: Some(model::group::FoundBy::Cgroup),
        };
        let report = serde_json::to_value(report).unwrap();
        let schema = serde_json::to_value(ResourceReport::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&report));
    }

    #[test]
    fn documented_resources_have_the_models_kinds_and_fields() {
        let texts = [
            "mount:/srv,fs=ext4,options=noatime,fsck=force",
            "exec:start=/x,stop=/y,status=/z",
            "address:10.0.0.9/24,dev=eth0",
            "export:/srv,to=*,options=rw",
            "unit:x.service",
        ];
        let schema = serde_json::to_value(Resource::schema()).unwrap();
        let documented = schema["oneOf"].as_array().unwrap();
        assert_eq!(documented.len(), texts.len());
        for (text, documented) in texts.iter().zip(documented) {
            let resource: model::group::Resource = text.parse().unwrap();
            let value = serde_json::to_value(&resource).unwrap();
            assert_eq!(keys(&documented["properties"]), keys(&value), "{text}");
            let kind = &documented["properties"]["kind"]["enum"][0];
            assert_eq!(*kind, value["kind"], "{text}");
            let _all_words: Resource = serde_json::from_value(value).unwrap();
        }
    }
}
