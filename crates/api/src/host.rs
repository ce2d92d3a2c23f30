//! Hosts: consumer machines.

use std::collections::BTreeMap;

use model::id::{HostId, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::Agent;
use crate::page::list_query;

/// Make a host known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateHost {
    pub name: String,
    /// The iSCSI names (IQNs) that count as this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["iqn.2004-10.com.ubuntu:01:d1b5"]))]
    pub initiators: Vec<String>,
    /// IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Change what is given; leave the rest. A list that is given takes the place of the old one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateHost {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiators: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Host {
    #[schema(value_type = Uuid)]
    pub id: HostId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub initiators: Vec<String>,
    pub addresses: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    /// The daemon that speaks for it; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    pub created_at: jiff::Timestamp,
}

impl Host {
    /// The view of a host with this agent.
    #[must_use]
    pub fn new(host: model::host::Host, agent: Option<Agent>) -> Self {
        Self {
            id: host.id,
            name: host.name,
            project_id: host.project,
            initiators: host.initiators,
            addresses: host.addresses.iter().map(ToString::to_string).collect(),
            metadata: host.metadata,
            agent,
            created_at: crate::timestamp_ms(host.created_ms),
        }
    }
}

list_query! {
    /// Which hosts.
    HostQuery -> Host, "v1/hosts", {
        /// Only those with this name.
        name: String,
    }
}
