//! What the control plane asks of a storage node, and what the node answers.
//!
//! Invariant: every order is idempotent. Sent twice, or again after a crash, it converges on the
//! same state and gives the same report.

use serde::{Deserialize, Serialize};

use crate::export::Terms;
use crate::id::{AttachmentId, HostId, PoolId, SnapshotId, VolumeId};
use crate::pool::{CopyMethod, Driver};
use crate::size::ByteSize;

/// May the host write?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Read and write.
    #[serde(rename = "rw")]
    ReadWrite,
    /// Read only, enforced by the target.
    #[serde(rename = "ro")]
    ReadOnly,
}

/// How a pool does its I/O.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoMode {
    /// Past the page cache (O_DIRECT).
    Direct,
    /// Through the page cache; flushes make writes durable.
    Cached,
}

/// Where a new volume's bytes come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Zeros.
    Blank,
    /// A snapshot of a volume in the same pool: a clone, constant time.
    Snapshot { volume: VolumeId, snapshot: SnapshotId },
}

/// Image file formats for import and export.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    Raw,
    Qcow2,
}

/// The credentials of one attachment (RFC 7143 12.1). Never logged: `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chap {
    pub user: String,
    pub secret: String,
    /// The target proves itself with these where the initiator asks for it (mutual CHAP).
    pub target_user: String,
    pub target_secret: String,
}

impl std::fmt::Debug for Chap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chap").field("user", &self.user).finish_non_exhaustive()
    }
}

/// All that a node must know to let one host reach one volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Access {
    pub attachment: AttachmentId,
    pub volume: VolumeId,
    pub host: HostId,
    /// For people: shown with reservations and in events.
    pub host_name: String,
    /// IQNs that count as this host, lower case.
    pub initiators: Vec<String>,
    pub mode: Mode,
    /// Credentials; `None` only where the operator switched CHAP off in the configuration.
    pub chap: Option<Chap>,
}

/// One idempotent step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// Open or create the pool in `path` (absolute). `capacity` limits what it may hold. The
    /// driver decides what the orders of its volumes and snapshots make: block volumes, or file
    /// trees. `io` is for block volumes.
    OpenPool { pool: PoolId, driver: Driver, path: String, io: IoMode, capacity: Option<ByteSize> },
    /// Forget the pool; refused by the node while it holds volumes.
    ClosePool { pool: PoolId },
    /// A file volume is an empty tree that every caller may write to (its root directory has mode
    /// 1777), so that a squashed root can use it; or what the snapshot holds.
    CreateVolume { volume: VolumeId, pool: PoolId, size: ByteSize, source: Source },
    /// Refused while a host is attached, or while it is exported.
    DeleteVolume { volume: VolumeId, pool: PoolId },
    /// Give the volume this size. A block volume only ever grows, and attached initiators are
    /// told. A file volume may shrink too, but not below what its tree holds: refused.
    ResizeVolume { volume: VolumeId, pool: PoolId, size: ByteSize },
    /// One of a file volume can be browsed in its tree under `.snapshots/NAME`, where it has a
    /// name; block volumes have no use for one.
    CreateSnapshot { volume: VolumeId, pool: PoolId, snapshot: SnapshotId, name: Option<String> },
    /// Drops the name at once; its bytes are merged in the background.
    DeleteSnapshot { volume: VolumeId, pool: PoolId, snapshot: SnapshotId },
    /// Make the volume's content the snapshot's; later snapshots stay. Refused while a host is
    /// attached, or while it is exported.
    RevertVolume { volume: VolumeId, pool: PoolId, snapshot: SnapshotId },
    /// Fill the (unattached) volume from an image file readable by the node. Long; see `Progress`.
    ImportImage { volume: VolumeId, pool: PoolId, path: String, format: ImageFormat },
    /// Write the volume's content to a new file on the node. Long.
    ExportImage { volume: VolumeId, pool: PoolId, path: String, format: ImageFormat },
    /// Let this host in. One that is in already is let in on these terms from now on: when this
    /// is answered, its sessions under the terms of before are over and nothing of theirs can
    /// land any more.
    Attach { access: Access },
    /// Let the host's running commands end, close its sessions on this target, remove its
    /// registrations, and let it in no more. Gone already: success.
    Detach { volume: VolumeId, attachment: AttachmentId },
    /// The same at once: drop what can be dropped, wait for what cannot, and answer only when
    /// nothing of the host can land any more.
    Fence { volume: VolumeId, attachment: AttachmentId },
    /// Operator's clear of all reservations and registrations of the volume.
    ClearReservations { volume: VolumeId },
    /// Serve a file volume. One that is served already is served on these terms from the next
    /// call of each client on: path, rules and portals may have changed.
    Export { terms: Terms },
    /// Serve it no more. Refused while clients are connected; with `evict` their opens and locks
    /// are dropped, and it is answered only when nothing of theirs can land any more. Not served:
    /// success.
    Unexport { volume: VolumeId, evict: bool },
    /// Keep the clients of a file volume waiting: from the next call of each on they are told to
    /// try again, and their opens and locks are dropped; it is answered when nothing of theirs can
    /// land any more. The volume itself need not be here: a node that it will move to is given this
    /// order for clients that come before it. Durable: it ends with `Export` or `Unexport` alone,
    /// also where the node starts anew.
    Hold { terms: Terms },
}

/// What went along when a file volume was carried to another pool. Both ends say the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Carried {
    /// The volume's size, which is not what it holds.
    pub size: ByteSize,
    /// Names in all its trees: those of its snapshots count, too.
    pub entries: u64,
    /// Bytes of their content, without holes.
    pub bytes: u64,
    pub snapshots: u64,
}

/// What came of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub enum Report {
    /// Done, or was so already.
    Done,
    /// Attached: how to reach it.
    Attached { target: String, portals: Vec<String>, lun: u16 },
    /// Fenced or detached: how many sessions were closed and registrations removed.
    CutOff { sessions: u32, registrations: u32 },
    /// Exported: the `address:port` of every portal that serves it.
    Exported { portals: Vec<String> },
    /// Created or resized: the size that it has now.
    Sized { size: ByteSize },
}

/// Why a node could not carry out an order: a sentence, and whether trying again may help.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum OrderError {
    #[error("the node does not have {what}")]
    Missing { what: String },
    #[error("the node refuses: {why}")]
    Refused { why: String },
    #[error("the pool is full: {needed} needed, {free} free")]
    NoSpace { needed: ByteSize, free: ByteSize },
    #[error("the image cannot be used: {why}")]
    BadImage { why: String },
    #[error("the node failed: {why}")]
    Failed { why: String },
    #[error("the node is not reachable: {why}")]
    Unreachable { why: String },
    #[error("the work was cancelled")]
    Cancelled,
}

/// A pool as the node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PoolUsage {
    pub pool: PoolId,
    /// Bytes that it can hold in all.
    pub capacity: ByteSize,
    /// Bytes that volumes and snapshots take now.
    pub used: ByteSize,
    /// Sum of the sizes promised to volumes.
    pub provisioned: ByteSize,
    /// How snapshots are made; of pools of file volumes.
    #[serde(default)]
    pub copies: Option<CopyMethod>,
}

/// What a snapshot holds for itself: the bytes that its end would free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotUsage {
    pub snapshot: SnapshotId,
    pub held: ByteSize,
}

/// A registration as `volume reservations` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegistrantView {
    pub host: Option<HostId>,
    pub host_name: Option<String>,
    pub iqn: String,
    /// Twelve hex digits.
    pub isid: String,
    /// The reservation key.
    pub key: u64,
    pub holder: bool,
    /// Milliseconds since this nexus sent a command; `None` when it never did since start.
    pub last_command_age_ms: Option<u64>,
    pub session: bool,
}

/// One change of reservation state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReservationChange {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The SPC word: register, reserve, release, clear, preempt, preempt and abort, ...; or
    /// `operator clear`, `detach`, `fence`.
    pub action: String,
    /// Who did it: host name and port.
    pub by: String,
    /// What changed, as a sentence.
    pub what: String,
}

/// Reservation state of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReservationView {
    pub generation: u32,
    /// `None`, or the type's name, for example `Write Exclusive - Registrants Only`.
    pub reservation_type: Option<String>,
    /// SPC's code of the type.
    pub type_code: Option<u8>,
    pub persist_through_power_loss: bool,
    /// State was lost (44h/01h) and must be replaced or cleared.
    pub lost: bool,
    pub registrants: Vec<RegistrantView>,
    /// Newest first.
    pub history: Vec<ReservationChange>,
}

/// What the node found on a volume (see design, invariant 6).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// For example `ext4`, `xfs`, `LVM`, `gfs2`.
    pub content: String,
    /// Made for being shared by several writers (GFS2, OCFS2, VMFS)?
    pub cluster_aware: bool,
    /// For example `at the start of the volume`, `in partition 2 (at 1 MiB)`.
    pub place: String,
}

/// Something that the node saw by itself and the operator should know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    PoolFull {
        pool: PoolId,
        volume: VolumeId,
    },
    MediumError {
        pool: PoolId,
        volume: VolumeId,
        why: String,
    },
    MergeFinished {
        volume: VolumeId,
        snapshot: SnapshotId,
    },
    /// A host's SANITIZE was accepted: nothing of the volume's content comes back.
    SanitizeBegun {
        volume: VolumeId,
        by: String,
        what: String,
    },
    /// It was not accepted, because others hold the volume's bytes.
    SanitizeRefused {
        volume: VolumeId,
        by: String,
        why: String,
    },
    /// It is over; `failure` where it was not done.
    SanitizeEnded {
        volume: VolumeId,
        failure: Option<String>,
    },
    ReservationChanged {
        volume: VolumeId,
        change: ReservationChange,
    },
    SessionOpened {
        volume: VolumeId,
        host: HostId,
        iqn: String,
        from: String,
    },
    SessionClosed {
        volume: VolumeId,
        host: HostId,
        iqn: String,
        why: String,
    },
    LoginRefused {
        iqn: String,
        target: String,
        from: String,
        why: String,
    },
}
