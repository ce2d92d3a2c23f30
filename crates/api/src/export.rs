//! Exports: how a file volume is handed out, and to whom.

use model::id::{NetworkId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::attachment::Mode;

/// Whose calls are made the anonymous user's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Squash {
    /// Nobody's: root on a client is root in the volume.
    None,
    #[default]
    Root,
    All,
}

impl From<Squash> for model::export::Squash {
    fn from(squash: Squash) -> Self {
        match squash {
            Squash::None => Self::None,
            Squash::Root => Self::Root,
            Squash::All => Self::All,
        }
    }
}

impl From<model::export::Squash> for Squash {
    fn from(squash: model::export::Squash) -> Self {
        match squash {
            model::export::Squash::None => Self::None,
            model::export::Squash::Root => Self::Root,
            model::export::Squash::All => Self::All,
        }
    }
}

/// What a reply to a client means for the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Stable writes, COMMIT and every change of names and attributes survive power loss.
    #[default]
    Strict,
    /// They survive the end of the daemon; power loss may take the last seconds.
    Relaxed,
}

impl From<Durability> for model::export::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Strict => Self::Strict,
            Durability::Relaxed => Self::Relaxed,
        }
    }
}

impl From<model::export::Durability> for Durability {
    fn from(durability: model::export::Durability) -> Self {
        match durability {
            model::export::Durability::Strict => Self::Strict,
            model::export::Durability::Relaxed => Self::Relaxed,
        }
    }
}

const fn nobody() -> u32 {
    model::export::NOBODY
}

/// What a client may do with a file volume, and as whom. The first rule that speaks of a client
/// counts; without one there is no access, and never beyond the volume's network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// `*` (every client of the network), an address, a CIDR, or the name of a host of the project
    /// or of a network.
    pub client: String,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub squash: Squash,
    /// Uid of those who are squashed.
    #[serde(default = "nobody")]
    pub anonymous_uid: u32,
    /// Gid of those who are squashed.
    #[serde(default = "nobody")]
    pub anonymous_gid: u32,
}

/// Change what is given; leave the rest. It counts from the next call of each client on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateExport {
    /// Name or id of a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Takes the place of all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<AccessRule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// How a file volume is handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Export {
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    #[schema(value_type = Uuid)]
    pub network_id: NetworkId,
    pub network: String,
    /// Where clients mount it.
    pub path: String,
    /// `nfs://host[:port]/path` of each portal; empty until the node serves it.
    pub resources: Vec<String>,
    pub durability: Durability,
    pub access: Vec<AccessRule>,
    /// Why it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A client that has a file volume mounted, as far as the node can tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectedClient {
    pub address: String,
    /// What an NFSv4 client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `3`, `4.0`, `4.1` or `4.2`.
    pub version: String,
    pub opens: u64,
    pub locks: u64,
    /// Milliseconds since its last call.
    pub last_call_age_ms: u64,
}

impl From<model::export::ConnectedClient> for ConnectedClient {
    fn from(client: model::export::ConnectedClient) -> Self {
        Self {
            address: client.address.to_string(),
            name: client.name,
            version: client.version,
            opens: client.opens,
            locks: client.locks,
            last_call_age_ms: client.last_call_age_ms,
        }
    }
}
