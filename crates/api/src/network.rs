//! Networks: named sets of client addresses, with the portals that serve them.

use model::id::NetworkId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Make a network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who may be a client at all: addresses and CIDRs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["10.0.0.0/24", "fd00::/8"]))]
    pub clients: Vec<String>,
    /// `address:port` of the NFS portals that serve it; every one of the node when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub portals: Vec<String>,
}

/// Change what is given; leave the rest. A list that is given takes the place of the old one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateNetwork {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portals: Option<Vec<String>>,
}

/// A network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Network {
    #[schema(value_type = Uuid)]
    pub id: NetworkId,
    pub name: String,
    pub description: String,
    pub clients: Vec<String>,
    /// Every NFS portal of the node when empty.
    pub portals: Vec<String>,
    pub created_at: jiff::Timestamp,
}

impl From<model::network::Network> for Network {
    fn from(network: model::network::Network) -> Self {
        Self {
            id: network.id,
            name: network.name,
            description: network.description,
            clients: network.clients.iter().map(ToString::to_string).collect(),
            portals: network.portals.iter().map(ToString::to_string).collect(),
            created_at: crate::timestamp_ms(network.created_ms),
        }
    }
}

list_query! {
    /// Which networks.
    NetworkQuery -> Network, "v1/networks", {
        /// Only those with this name.
        name: String,
    }
}
