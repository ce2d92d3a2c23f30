//! What goes over the wire.

use model::id::{OperationId, VolumeId};
use model::node::NoticeMark;
use model::order::{ImageFormat, Order};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) const ADOPT: &str = "/node/v1/adopt";
pub(super) const RELEASE: &str = "/node/v1/release";
pub(super) const ASK: &str = "/node/v1/ask";
pub(super) const BACKUP: &str = "/node/v1/volumes/{volume}/backup";
pub(super) const CARRY: &str = "/node/v1/pools/{pool}/volumes/{volume}/carry";
pub(super) const RECEIVE: &str = "/node/v1/pools/{pool}/volumes/{volume}/receive";
pub(super) const RESTORE: &str = "/node/v1/volumes/{volume}/restore";

/// Whose request it is, in which start of that control plane, the number of the request, and which
/// node it is for.
pub(super) const CONTROL: &str = "x-commonhold-control";
pub(super) const TERM: &str = "x-commonhold-term";
pub(super) const NUMBER: &str = "x-commonhold-number";
pub(super) const NODE: &str = "x-commonhold-node";

/// The largest request but for streams: the rules of an export name many addresses.
pub(super) const ASK_BYTES_MAX: usize = 16 << 20;

/// A question or an order.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub(super) enum Ask {
    Order { order: Order },
    Node,
    Notices { after: NoticeMark },
    ClientCounts,
    RestartFiles { after: u32 },
    CheckBinary { binary: Option<String>, kept_out: Vec<String> },
    Upgrade { operation: OperationId, binary: String },
    PoolUsage,
    Probe { volume: VolumeId },
    ImageSize { path: String, format: ImageFormat },
    FileUsage { volume: VolumeId },
    FileClients { volume: VolumeId },
    SnapshotUsage { volume: VolumeId },
    Reservations { volume: VolumeId },
    Progress { volume: VolumeId },
    Cancel { volume: VolumeId },
}

/// What an adopted node is.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Adopted {
    pub(super) identity: Uuid,
}

/// Of a backup.
#[derive(Serialize, Deserialize, Debug, Default)]
pub(super) struct BackupOf {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
}

/// Of a restore.
#[derive(Serialize, Deserialize, Debug, Default)]
pub(super) struct RestoreWith {
    #[serde(default)]
    pub(super) drop_acls: bool,
}

/// Why somebody who has the secret is not heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(super) enum Turned {
    #[error("another node is at its address; give the right one with `node update --address`")]
    OtherNode,
    #[error("no control plane has adopted it; `node create` does")]
    Free,
    #[error(
        "it belongs to another control plane; `node delete` there lets it go; where that one is \
         gone for good, stop the node, remove node/adopted.json from its data directory, and start it"
    )]
    OtherControl,
    #[error("a later start of this control plane has spoken to it: two of it are running")]
    OlderStart,
    #[error("the request lacks a header, and is of another release")]
    Unreadable,
    #[error(
        "it cannot write down whose node it is; its log says why: make room on its disk, or mend \
         it, and try again"
    )]
    Unwritten,
}
