//! Export: what hands a file volume to clients over NFS.
//!
//! A volume's own access rules say who may do what; its network says who may be a client at all.
//! What the node gets is the two in one: [`rules`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::id::{HostId, NetworkId, PoolId, ProjectId, VolumeId};
use crate::network::Cidr;
use crate::order::Mode;
use crate::text;

/// Uid and gid of nobody, where a rule names no other.
pub const NOBODY: u32 = 65534;
/// Most access rules of one volume.
pub const RULES_MAX: usize = 256;

/// Whose calls are made the anonymous user's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Squash {
    None,
    Root,
    All,
}

/// What a client's reply means for the data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Stable writes, COMMIT and every change of names and attributes survive power loss.
    #[default]
    Strict,
    /// What a client commits does. The rest survives the end of the daemon; power loss may take the
    /// last seconds.
    Relaxed,
}

impl Squash {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Root => "root",
            Self::All => "all",
        }
    }
}

impl Durability {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        }
    }
}

/// Whom a rule speaks of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// Every client of the volume's network.
    Any,
    /// One address, or those of a network.
    Addresses(Cidr),
    /// All addresses of a host of the project.
    Host(HostId),
    /// All clients of a network.
    Network(NetworkId),
}

/// One access rule of a volume. The first that speaks of a client counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessRule {
    pub client: Client,
    pub mode: Mode,
    pub squash: Squash,
    pub anonymous_uid: u32,
    pub anonymous_gid: u32,
}

impl AccessRule {
    /// What a new volume has: every client reads and writes, and its root is nobody.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            client: Client::Any,
            mode: Mode::ReadWrite,
            squash: Squash::Root,
            anonymous_uid: NOBODY,
            anonymous_gid: NOBODY,
        }
    }
}

/// How a file volume is handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Export {
    pub network: NetworkId,
    /// Where clients mount it; see [`path`].
    pub path: String,
    pub access: Vec<AccessRule>,
    pub durability: Durability,
    /// `address:port` of the portals that serve it; empty until the node has said.
    pub portals: Vec<String>,
    /// Connected clients do not hold up the deletion or rollback that was asked for.
    #[serde(default)]
    pub evict: bool,
}

/// A rule as the node enforces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    pub clients: Cidr,
    pub mode: Mode,
    pub squash: Squash,
    pub anonymous_uid: u32,
    pub anonymous_gid: u32,
}

/// All that a node must know to serve a file volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    pub volume: VolumeId,
    pub pool: PoolId,
    /// Where clients mount it: `/PROJECT/VOLUME`, unique on the node.
    pub path: String,
    /// The portals that serve it; empty is every one. On others the path does not exist.
    pub portals: Vec<SocketAddr>,
    /// The first whose clients hold the caller's address counts; without one there is no access.
    pub rules: Vec<Rule>,
    pub durability: Durability,
}

/// The addresses behind a rule's client: looked up where the rule names a resource.
pub struct Addresses<'a> {
    pub rule: &'a AccessRule,
    /// `None` is every address.
    pub addresses: Option<Vec<Cidr>>,
}

/// What the node enforces: each rule, limited to those whom the volume's network lets in.
#[must_use]
pub fn rules(access: &[Addresses<'_>], network: &[Cidr]) -> Vec<Rule> {
    let mut all = Vec::new();
    for Addresses { rule, addresses } in access {
        let limited: Vec<Cidr> = match addresses {
            None => network.to_vec(),
            Some(named) => {
                let with_network =
                    |one: &Cidr| network.iter().filter_map(|net| net.common(one)).collect();
                named.iter().flat_map(|one| -> Vec<Cidr> { with_network(one) }).collect()
            }
        };
        let with_clients = |clients| Rule {
            clients,
            mode: rule.mode,
            squash: rule.squash,
            anonymous_uid: rule.anonymous_uid,
            anonymous_gid: rule.anonymous_gid,
        };
        all.extend(limited.into_iter().map(with_clients));
    }
    all
}

/// Where a volume is mounted. A project whose name cannot stand in a path is named by its id,
/// which no project may have as its name: so no two volumes share a path.
#[must_use]
pub fn path(project: ProjectId, project_name: &str, volume_name: &str) -> String {
    if text::file_volume_name(project_name).is_ok() {
        format!("/{project_name}/{volume_name}")
    } else {
        format!("/{project}/{volume_name}")
    }
}

/// `nfs://host[:port]/path` (RFC 2224 1); the port only where it is not the usual one.
#[must_use]
pub fn resource(portal: &str, path: &str) -> String {
    let host = portal.strip_suffix(":2049").unwrap_or(portal);
    format!("nfs://{host}{path}")
}

/// How full a file volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileUsage {
    pub used_bytes: u64,
    pub available_bytes: u64,
    pub used_inodes: u64,
    /// `None` where the file system below has no limit.
    pub available_inodes: Option<u64>,
}

/// A client that has the volume mounted, as far as the node can tell: NFSv3 has no sessions, and
/// there it is who sent a call in the last minutes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectedClient {
    pub address: IpAddr,
    /// What it calls itself (NFSv4's client owner), for people.
    pub name: Option<String>,
    /// `3`, `4.0`, `4.1` or `4.2`.
    pub version: String,
    pub opens: u64,
    pub locks: u64,
    /// Milliseconds since its last call.
    pub last_call_age_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn rules_never_reach_beyond_the_network_and_keep_their_order() {
        let read_only = AccessRule { mode: Mode::ReadOnly, ..AccessRule::usual() };
        let any = AccessRule::usual();
        let access = [
            Addresses {
                rule: &read_only,
                addresses: Some(cidrs(&["10.1.2.3", "192.168.0.0/16", "0.0.0.0/0"])),
            },
            Addresses { rule: &any, addresses: None },
        ];
        let network = cidrs(&["10.1.0.0/16", "fd00::/8"]);
        let got: Vec<(String, Mode)> = rules(&access, &network)
            .into_iter()
            .map(|rule| (rule.clients.to_string(), rule.mode))
            .collect();
        let expected = [
            ("10.1.2.3", Mode::ReadOnly),
            ("10.1.0.0/16", Mode::ReadOnly),
            ("10.1.0.0/16", Mode::ReadWrite),
            ("fd00::/8", Mode::ReadWrite),
        ];
        assert_eq!(got, expected.map(|(clients, mode)| (clients.to_owned(), mode)));
        assert_eq!(rules(&access, &[]), [], "a network without clients lets nobody in");
    }

    #[test]
    fn paths_are_plain_and_no_two_volumes_share_one() {
        let id = ProjectId(Uuid::from_u128(7));
        assert_eq!(path(id, "shop", "uploads"), "/shop/uploads");
        assert_eq!(path(id, "the shop", "uploads"), format!("/{id}/uploads"));
        assert_eq!(path(id, "..", "uploads"), format!("/{id}/uploads"));
        assert_eq!(path(id, "a/b", "c"), format!("/{id}/c"));
    }

    #[test]
    fn resources_leave_the_usual_port_out() {
        assert_eq!(resource("10.0.0.1:2049", "/p/v"), "nfs://10.0.0.1/p/v");
        assert_eq!(resource("127.0.0.1:12049", "/p/v"), "nfs://127.0.0.1:12049/p/v");
        assert_eq!(resource("[::1]:2049", "/p/v"), "nfs://[::1]/p/v");
    }
}
