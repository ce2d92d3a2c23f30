//! Agents: what the daemon on a host tells the service, and what it is told.
//!
//! A host's agent has a token of its own, which opens [`crate::Client::beat`] and nothing else: it
//! speaks for that host alone and sees that host's secrets alone.

use model::group::{Report, Wanted};
use model::id::{AttachmentId, GroupId, HostId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::attachment::{ChapCredentials, Connection, Mode};
use crate::host::Host;

/// Make a host and its agent known, or known anew: with the token of a member. The agent's
/// earlier token is void from then on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Name or id of the host, inside the project. One of that name is made where there is none.
    pub host: String,
    /// The iSCSI names that it logs in with. A host that has names must have one of them; the
    /// others are added to it then, while nothing is attached to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initiators: Vec<String>,
    /// IP addresses at which its peers reach it; those that it has when none are given. A host that
    /// is there keeps the addresses that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Version of the agent.
    #[serde(default)]
    pub version: String,
}

/// The one answer that holds the agent's token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedAgent {
    pub host: Host,
    /// Send it as `Authorization: Bearer <secret>`. It is never shown again.
    pub secret: String,
}

impl std::fmt::Debug for CreatedAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedAgent").field("host", &self.host).finish_non_exhaustive()
    }
}

/// An agent as its host shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Was it heard lately?
    pub up: bool,
    /// How long ago it was heard.
    pub last_seen_age_ms: u64,
    pub version: String,
    /// Where its peers reach it.
    pub addresses: Vec<String>,
    /// UDP port for their heartbeats; 0 before it has said so.
    pub port: u16,
    pub enrolled_at: jiff::Timestamp,
}

impl Agent {
    /// The view of an agent, at this time.
    #[must_use]
    pub fn new(agent: &model::agent::Agent, now_ms: u64) -> Self {
        Self {
            up: agent.is_up(now_ms),
            last_seen_age_ms: agent.age_ms(now_ms),
            version: agent.version.clone(),
            addresses: agent.addresses.iter().map(ToString::to_string).collect(),
            port: agent.port,
            enrolled_at: crate::timestamp_ms(agent.enrolled_ms),
        }
    }
}

/// A sign of life, every second or so, with the token of the agent. What a newer agent says beyond
/// this is passed over: an agent may be upgraded before the service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Beat {
    pub version: String,
    /// Where its peers reach it; as before when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// UDP port for their heartbeats.
    pub port: u16,
    /// One for each group that it knows.
    #[serde(default)]
    #[schema(value_type = Vec<GroupReport>)]
    pub reports: Vec<Report>,
}

/// What a host is to have. An attachment that is missing here is no longer the host's; a group
/// that is missing here and runs goes on running, because only a stopped one is deleted in good
/// order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Assignments {
    #[schema(value_type = Uuid)]
    pub host_id: HostId,
    pub host_name: String,
    /// The iSCSI names that count as this host.
    pub initiators: Vec<String>,
    pub attachments: Vec<AgentAttachment>,
    pub groups: Vec<AgentGroup>,
}

/// A volume that the host is let in to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentAttachment {
    #[schema(value_type = Uuid)]
    pub id: AttachmentId,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    pub size_bytes: u64,
    pub mode: Mode,
    pub connection: Connection,
    /// Absent where CHAP is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ChapCredentials>,
}

/// A group that names the host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentGroup {
    #[schema(value_type = Uuid)]
    pub id: GroupId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    /// All of the group, this one among them; the preferred one first.
    pub hosts: Vec<Peer>,
    #[schema(value_type = Vec<crate::group::Resource>)]
    pub resources: Vec<model::group::Resource>,
    #[schema(value_type = crate::group::Policy)]
    pub policy: model::group::Policy,
    #[schema(value_type = crate::group::WantedWord)]
    pub wanted: Wanted,
    /// Watch and report; neither start, stop, move nor take over.
    pub frozen: bool,
    /// Grows with each change of what is wanted.
    pub generation: u64,
    /// The newest generation that forgives hosts their failures: one that is greater than that
    /// under which resources failed does.
    #[serde(default)]
    pub forgiven: u64,
    /// Who is to own it, by the move of generation `moved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub owner_id: Option<HostId>,
    /// An owner that began under an earlier generation than this one, and is not `owner_id`,
    /// stops in good order and lets the other come first.
    pub moved: u64,
    /// The generation at which this host was last permitted to try again; it holds for a fence
    /// that happened under an earlier one.
    pub permitted: u64,
    /// What the heartbeats of this group are authenticated with: 32 bytes, hexadecimal.
    pub heartbeat_key: String,
}

impl std::fmt::Debug for AgentGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentGroup")
            .field("name", &self.name)
            .field("wanted", &self.wanted)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A host of a group, as its peers reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    #[schema(value_type = Uuid)]
    pub host_id: HostId,
    pub host_name: String,
    /// Empty before it has an agent.
    pub addresses: Vec<String>,
    /// UDP port for heartbeats; 0 before its agent has said so.
    pub port: u16,
}

/// What an agent says of one group. Times are ages, because clocks of hosts differ.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct GroupReport {
    pub group: uuid::Uuid,
    #[schema(value_type = crate::group::StandingWord)]
    pub standing: String,
    /// Which run of this host's guard: the epoch in its reservation key. 0 before the first.
    pub epoch: u64,
    /// The newest generation of the group that the agent acts upon.
    pub generation: u64,
    /// Who holds the volume, as this host sees it; itself, where it does.
    #[serde(default)]
    pub owner: Option<uuid::Uuid>,
    /// How long it has been standing so.
    pub for_ms: u64,
    /// Why it came to stand so, as a sentence.
    pub why: String,
    /// Empty, or one for each of the group's resources.
    #[serde(default)]
    pub resources: Vec<crate::group::ResourceReport>,
    /// What went wrong last, as a sentence.
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub peers: Vec<PeerReport>,
    /// Absent where the kernel does not log in to the volume.
    #[serde(default)]
    pub paths: Option<crate::group::PathsReport>,
}

/// How long ago another host of the group was heard.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PeerReport {
    pub host: uuid::Uuid,
    /// Absent when it was never heard.
    #[serde(default)]
    pub heartbeat_age_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::group::{ResourceReport, ResourceState, Standing};
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_documented_report_has_the_models_fields() {
        let peer =
            model::group::PeerReport { host: HostId(uuid::Uuid::nil()), heartbeat_age_ms: Some(1) };
        let report = Report {
            group: GroupId(uuid::Uuid::nil()),
            standing: Standing::Running,
            epoch: 1,
            generation: 2,
            owner: Some(HostId(uuid::Uuid::nil())),
            for_ms: 3,
            why: "the volume was free".to_owned(),
            resources: vec![ResourceReport {
                state: ResourceState::Running,
                error: None,
                found_by: None,
            }],
            error: Some("none".to_owned()),
            peers: vec![peer],
            paths: Some(model::group::PathsReport {
                portals: 2,
                sessions: 1,
                answering: 1,
                why: Some("a portal does not answer".to_owned()),
            }),
        };
        let keys = |value: &serde_json::Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let value = serde_json::to_value(&report).unwrap();
        let schema = serde_json::to_value(GroupReport::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&value));
        let schema = serde_json::to_value(PeerReport::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&value["peers"][0]));
        let schema = serde_json::to_value(crate::group::PathsReport::schema()).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&value["paths"]));
        let _all_words: GroupReport = serde_json::from_value(value).unwrap();
    }
}
