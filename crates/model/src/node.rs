//! Node: a storage machine of ours. It serves the volumes of its pools.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, OperationId};
use crate::order::Notice;

/// A node as the catalog knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// The machine's own name.
    pub name: String,
    /// Of the binary that it runs.
    pub version: String,
    /// The number of its daemon's start: each one's is higher than the one's before.
    pub boot: u64,
    /// When that was: milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Where its door is, as `http://HOST:PORT`; `None` for the node in the control plane's
    /// process.
    #[serde(default)]
    pub address: Option<String>,
    /// Are new volumes placed on it?
    #[serde(default = "yes")]
    pub takes_volumes: bool,
    /// The portals of its file service, as it last said.
    #[serde(default)]
    pub file_portals: Vec<SocketAddr>,
}

impl Node {
    /// Of the portals of a network, those that this node is to serve on: those that no other one
    /// has to itself. Where that leaves none it is all of them, and the node says what is wrong:
    /// an empty list would be every portal of the node.
    #[must_use]
    pub fn portals_of(&self, network: &[SocketAddr], others: &[Self]) -> Vec<SocketAddr> {
        let others_alone = |portal: &SocketAddr| {
            let has = |node: &Self| node.file_portals.contains(portal);
            !has(self) && others.iter().any(has)
        };
        let own: Vec<_> = network.iter().filter(|one| !others_alone(one)).copied().collect();
        if own.is_empty() { network.to_vec() } else { own }
    }

    /// Can it serve volumes of a network that has these portals?
    #[must_use]
    pub fn serves(&self, network: &[SocketAddr]) -> bool {
        network.is_empty() || network.iter().any(|portal| self.file_portals.contains(portal))
    }
}

/// Nodes of before that was asked take volumes.
const fn yes() -> bool {
    true
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    pub name: String,
    pub version: String,
    /// The number of its daemon's start, where it counts them itself: one in the control plane's
    /// process starts with it.
    #[serde(default)]
    pub boot: Option<u64>,
    /// The upgrade that this start is the end of, and why it has failed where it has.
    #[serde(default)]
    pub upgrade: Option<(OperationId, Option<String>)>,
    /// Where initiators find it, as `ADDRESS:PORT`.
    pub block_portals: Vec<String>,
    /// Sessions of initiators that are open.
    pub sessions: u64,
    /// Or why it serves no files.
    pub files: Result<FileServiceReport, String>,
}

/// Up to where somebody has heard a node's notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NoticeMark {
    /// The number of the node's start; 0 for who has heard nothing yet.
    pub boot: u64,
    /// How many notices of that start.
    pub count: u64,
}

/// Notices behind a mark.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    pub notices: Vec<Notice>,
    /// Up to where these reach.
    pub mark: NoticeMark,
    /// There were more, which nobody asked for in time.
    pub lost: bool,
}

/// What a node says of its file service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileServiceReport {
    /// The number of its start, which every one has of its own.
    pub boot: u32,
    /// Milliseconds since that.
    pub age_ms: u64,
    /// Where clients find it, as `ADDRESS:PORT`.
    pub portals: Vec<String>,
    /// How long a client may be silent.
    pub lease_ms: u64,
    /// Clients may reclaim what they held before the start, and nobody gets anything new.
    pub in_grace: bool,
    /// Clients that are known, of every version.
    pub clients: u64,
    pub connections: u64,
}

/// A form of the catalog, by the step that leads to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CatalogFormat {
    pub number: i64,
    /// Of the step, hexadecimal: two steps of one number are not the same.
    pub checksum: String,
}

/// Forms of one thing on a node's disk that a binary reads, besides the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskFormat {
    pub what: String,
    pub reads: Vec<u32>,
}

impl NodeReport {
    /// The portals of its file service; none where it has none.
    #[must_use]
    pub fn file_portals(&self) -> Vec<SocketAddr> {
        let portals = self.files.as_ref().map(|files| &files.portals[..]).unwrap_or_default();
        portals.iter().filter_map(|portal| portal.parse().ok()).collect()
    }
}

impl DiskFormat {
    #[must_use]
    pub fn new(what: &str, reads: &[u32]) -> Self {
        Self { what: what.to_owned(), reads: reads.to_vec() }
    }
}

/// A binary that may take the running one's place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binary {
    /// On the node, absolute and without links.
    pub path: String,
    pub version: String,
    /// The forms of the catalog that it knows.
    pub catalog: Vec<CatalogFormat>,
}

/// Why a binary may not take the running one's place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    #[error("its version '{version}' is none")]
    Version { version: String },
    #[error("it is {version}, which is older than {running}")]
    Older { version: String, running: String },
    #[error("{version} does not know the catalog's form {number}, which is written already")]
    Catalog { version: String, number: i64 },
    #[error("{version} does not read form {form} of {what}, which may be on the disk")]
    Disk { version: String, what: String, form: u32 },
}

/// `MAJOR.MINOR.PATCH`, and what may follow behind a `-` or `+`, which does not count.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Whether a binary may take the place of a running one of this version, whose catalog has these
/// forms. An older one may where that is asked for; one that cannot read the catalog never may.
///
/// # Errors
/// Why not.
pub fn may_replace(
    binary: &Binary,
    running: &str,
    written: &[CatalogFormat],
    older_too: bool,
) -> Result<(), Unfit> {
    let version = binary.version.clone();
    if let Some(unknown) = written.iter().find(|form| !binary.catalog.contains(form)) {
        return Err(Unfit::Catalog { version, number: unknown.number });
    }
    let Some(new) = numbers(&version) else { return Err(Unfit::Version { version }) };
    if !older_too && numbers(running).is_some_and(|running| new < running) {
        return Err(Unfit::Older { version, running: running.to_owned() });
    }
    Ok(())
}

/// Whether a binary reads whatever the running one does: all of that may be on the disk.
///
/// # Errors
/// What it does not read.
pub fn reads_all(version: &str, running: &[DiskFormat], new: &[DiskFormat]) -> Result<(), Unfit> {
    for DiskFormat { what, reads } in running {
        let known = new.iter().find(|one| one.what == *what).map_or(&[][..], |one| &one.reads);
        if let Some(form) = reads.iter().find(|form| !known.contains(form)) {
            let (version, what) = (version.to_owned(), what.clone());
            return Err(Unfit::Disk { version, what, form: *form });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_serves_on_the_portals_of_a_network_that_are_not_another_ones_alone() {
        let node = |portals: &[&str]| Node {
            id: NodeId(uuid::Uuid::nil()),
            name: "n".to_owned(),
            version: "1.0.0".to_owned(),
            boot: 1,
            started_ms: 0,
            created_ms: 0,
            address: None,
            takes_volumes: true,
            file_portals: portals.iter().map(|portal| portal.parse().unwrap()).collect(),
        };
        let (one, two) = (node(&["10.0.0.1:2049"]), node(&["10.0.0.2:2049", "0.0.0.0:9"]));
        let network = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|portal| portal.parse().unwrap()).collect()
        };
        let both = network(&["10.0.0.1:2049", "10.0.0.2:2049"]);
        let others = std::slice::from_ref(&two);
        assert_eq!(one.portals_of(&both, others), network(&["10.0.0.1:2049"]));
        assert_eq!(one.portals_of(&[], others), []);
        // A portal that nobody has is the node's to refuse, as is a network of other nodes' alone.
        let stray = network(&["10.0.0.9:2049", "10.0.0.2:2049"]);
        assert_eq!(one.portals_of(&stray, others), network(&["10.0.0.9:2049"]));
        let theirs = network(&["10.0.0.2:2049"]);
        assert_eq!(one.portals_of(&theirs, others), theirs);
        assert!(one.serves(&both) && one.serves(&[]) && !one.serves(&theirs));
    }

    #[test]
    fn a_binary_must_read_all_that_the_running_one_reads() {
        let running = [DiskFormat::new("maps", &[1, 2]), DiskFormat::new("records", &[1])];
        let judge = |new: &[DiskFormat]| reads_all("0.2.0", &running, new);
        let (maps, records) = (DiskFormat::new("maps", &[1, 2, 3]), running[1].clone());
        assert_eq!(judge(&running), Ok(()));
        let more = DiskFormat::new("more", &[1]);
        assert_eq!(judge(&[more, records.clone(), maps.clone()]), Ok(()));
        for (new, lacking, number) in [
            (vec![DiskFormat::new("maps", &[2, 3]), records], "maps", 1),
            (vec![maps], "records", 1),
            (Vec::new(), "maps", 1),
        ] {
            let unfit = judge(&new).unwrap_err();
            assert!(
                matches!(&unfit, Unfit::Disk { what, form, .. } if what == lacking && *form == number),
                "{unfit}"
            );
        }
    }

    #[test]
    fn a_binary_must_read_the_catalog_and_be_no_older_unless_asked_for() {
        let form = |number: i64| CatalogFormat { number, checksum: format!("{number:x}") };
        let binary = |version: &str, forms: i64| Binary {
            path: "/b".to_owned(),
            version: version.to_owned(),
            catalog: (1..=forms).map(form).collect(),
        };
        let written = [form(1), form(2)];
        let judge = |binary: &Binary, force| may_replace(binary, "0.10.0", &written, force);
        for version in ["0.10.0", "0.10.1", "0.11.0", "1.0.0", "0.10.0-rc1"] {
            assert_eq!(judge(&binary(version, 2), false), Ok(()), "{version}");
        }
        assert_eq!(judge(&binary("0.10.0", 3), false), Ok(()), "it may know more");
        let older = binary("0.9.9", 2);
        assert!(matches!(judge(&older, false), Err(Unfit::Older { .. })));
        assert_eq!(judge(&older, true), Ok(()));
        for force in [false, true] {
            let unread = judge(&binary("0.11.0", 1), force);
            assert!(matches!(unread, Err(Unfit::Catalog { number: 2, .. })), "{unread:?}");
            assert!(matches!(judge(&binary("new", 2), force), Err(Unfit::Version { .. })));
        }
        let mut other = binary("0.11.0", 2);
        other.catalog[1].checksum = "ff".to_owned();
        assert!(matches!(judge(&other, true), Err(Unfit::Catalog { number: 2, .. })));
    }
}
