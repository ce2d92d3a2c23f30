//! What use cases take and give: one block per resource, in the order of the resources.
//!
//! Fields that name another resource take its name or its id. `None` in an update means
//! "leave it". `project` in a create is for the operator; everybody else has one project.

use model::attachment::Attachment;
use model::export::{ConnectedClient, Durability, FileUsage, Squash};
use model::id::{AttachmentId, NetworkId, OperationId, VolumeId};
use model::order::{Chap, ImageFormat, IoMode, Mode};
use model::pool::Driver;
use model::project::{Project, ProjectUsage};
use model::reference::{Reference, ReferenceKind};
use model::schedule::Schedule;
use model::size::ByteSize;
use model::snapshot::Snapshot;
use model::text::Metadata;
use model::user::{Role, Token};
use model::volume::{Volume, VolumeKind};
use model::volume_type::Grant;

use crate::page::Paging;

// Projects

/// A new project; quotas that are not given are the defaults.
#[derive(Clone, Debug, Default)]
pub struct ProjectCreate {
    pub name: String,
    pub description: String,
    pub quotas: QuotaChange,
}

/// Changes of quotas.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotaChange {
    pub volumes: Option<u64>,
    /// GiB.
    pub gigabytes: Option<u64>,
    pub snapshots: Option<u64>,
    pub snapshots_per_volume: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct ProjectUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    pub quotas: QuotaChange,
}

#[derive(Clone, Debug, Default)]
pub struct ProjectFilter {
    pub name: Option<String>,
    pub paging: Paging,
}

/// A project and what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectView {
    pub project: Project,
    pub usage: ProjectUsage,
}

// Users and tokens

#[derive(Clone, Debug)]
pub struct UserCreate {
    pub name: String,
    pub project: String,
    pub role: Role,
}

#[derive(Clone, Debug, Default)]
pub struct UserUpdate {
    pub name: Option<String>,
    pub role: Option<Role>,
}

#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub name: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

/// A new token; for oneself without `user`.
#[derive(Clone, Debug, Default)]
pub struct TokenCreate {
    pub user: Option<String>,
    pub description: String,
    /// Seconds from now; `None` never expires.
    pub expires_in_seconds: Option<u64>,
}

/// What is to change of a token; never its secret.
#[derive(Clone, Debug, Default)]
pub struct TokenUpdate {
    pub description: Option<String>,
    /// Seconds from now; `None` leaves its end as it is.
    pub expires_in_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct TokenFilter {
    /// Of this user; only an admin sees other people's.
    pub user: Option<String>,
    pub paging: Paging,
}

/// A token and its secret, which is never shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenCreated {
    pub token: Token,
    /// `ch_` and 43 characters.
    pub secret: String,
}

impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated").field("token", &self.token).finish_non_exhaustive()
    }
}

// Volume types

#[derive(Clone, Debug, Default)]
pub struct VolumeTypeCreate {
    pub name: String,
    pub description: String,
    pub kind: VolumeKind,
    pub class: String,
    pub multiattach: bool,
    pub public: bool,
    pub max_size: Option<ByteSize>,
    /// The only sizes that there are; empty is any size.
    pub sizes: Vec<ByteSize>,
    /// The only pools that serve it; empty is every pool of the class.
    pub pools: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct VolumeTypeUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Promises: class, multi-attach, largest size, sizes and pools do not change while a volume
    /// has it. The kind never does.
    pub class: Option<String>,
    pub multiattach: Option<bool>,
    pub public: Option<bool>,
    pub max_size: Option<ByteSize>,
    pub sizes: Option<Vec<ByteSize>>,
    pub pools: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default)]
pub struct VolumeTypeFilter {
    pub name: Option<String>,
    pub paging: Paging,
}

/// A grant of a private type to a project.
#[derive(Clone, Debug, Default)]
pub struct GrantCreate {
    pub project: String,
    /// Needed by multi-attach types: [`model::volume_type::DATA_LOSS_WARNING`] was read.
    pub acknowledge_data_loss: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantView {
    pub grant: Grant,
    pub project_name: String,
}

// Pools

#[derive(Clone, Debug)]
pub struct PoolCreate {
    pub name: String,
    pub class: String,
    /// By name or id; the only one when none is named.
    pub node: Option<String>,
    /// Absolute path on the node.
    pub path: String,
    pub driver: Driver,
    pub io: IoMode,
    /// `None` is all that the file system has.
    pub capacity: Option<ByteSize>,
}

#[derive(Clone, Debug, Default)]
pub struct PoolUpdate {
    pub name: Option<String>,
    /// Only while no volume lies in it.
    pub class: Option<String>,
    pub capacity: Option<ByteSize>,
}

#[derive(Clone, Debug, Default)]
pub struct PoolFilter {
    pub name: Option<String>,
    pub class: Option<String>,
    pub paging: Paging,
}

// Volumes

/// What a new volume starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VolumeSource {
    /// Zeros.
    #[default]
    Blank,
    /// A snapshot, by name or id.
    Snapshot(String),
    /// A volume as it is now, by name or id.
    Volume(String),
    /// An image file on the node. Members name a file in the image directory, admins any
    /// absolute path.
    Image { path: String, format: ImageFormat },
}

#[derive(Clone, Debug, Default)]
pub struct VolumeCreate {
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
    /// `None` is what the type is; without a type, block.
    pub kind: Option<VolumeKind>,
    /// Rounded up to 1 MiB. `None` takes the source's, or the smallest of a type with sizes.
    pub size: Option<ByteSize>,
    /// `None` takes the source's, or the default type.
    pub volume_type: Option<String>,
    pub source: VolumeSource,
    /// How a file volume is handed out; nothing of it may be given for a block volume.
    pub export: ExportChange,
    /// Rules about the volumes beside it; see [`model::placement`].
    pub affinity: Vec<String>,
    pub project: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct VolumeUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Default)]
pub struct VolumeFilter {
    pub name: Option<String>,
    pub kind: Option<VolumeKind>,
    pub status: Option<String>,
    pub volume_type: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

/// How to delete a volume.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeDelete {
    /// Its snapshots go along.
    pub cascade: bool,
    /// Clients that have it mounted are cut off; of a lost one, attachments and references end.
    pub force: bool,
    /// Its node does not answer and never will: it is forgotten, and nothing is erased.
    pub lost: bool,
}

/// What to make of a volume's content.
#[derive(Clone, Debug, Default)]
pub struct VolumeRevert {
    pub snapshot: String,
    /// Clients that have it mounted are cut off.
    pub force: bool,
}

/// Where to write a volume's content.
#[derive(Clone, Debug)]
pub struct VolumeExport {
    /// As for [`VolumeSource::Image`]; the file must not exist yet.
    pub path: String,
    pub format: ImageFormat,
}

/// A volume with what people want to see beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeView {
    pub volume: Volume,
    pub type_name: String,
    pub pool_name: String,
    pub multiattach: bool,
    pub attachments: Vec<AttachmentId>,
    /// The long work that goes on with it.
    pub operation: Option<OperationId>,
    /// Of a file volume.
    pub file: Option<FileView>,
}

/// What people want to see of a file volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileView {
    pub network_name: String,
    /// `nfs://host[:port]/path` of each portal; empty until the node serves it.
    pub resources: Vec<String>,
    /// In lists, and while the node cannot be reached, `None`.
    pub usage: Option<FileUsage>,
    /// In lists, and while the node cannot be reached, empty.
    pub clients: Vec<ConnectedClient>,
    /// What uses it: kind and name. In lists, empty.
    pub references: Vec<String>,
}

// Networks and exports

#[derive(Clone, Debug, Default)]
pub struct NetworkCreate {
    pub name: String,
    pub description: String,
    /// Addresses and CIDRs.
    pub clients: Vec<String>,
    /// `address:port`; empty is every NFS portal of the node.
    pub portals: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct NetworkUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    pub clients: Option<Vec<String>>,
    pub portals: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default)]
pub struct NetworkFilter {
    pub name: Option<String>,
    pub paging: Paging,
}

/// An access rule as it is given and shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRuleGiven {
    /// `*`, an address, a CIDR, or the name of a host of the project or of a network.
    pub client: String,
    pub mode: Mode,
    pub squash: Squash,
    pub anonymous_uid: u32,
    pub anonymous_gid: u32,
}

/// How a file volume is to be handed out.
#[derive(Clone, Debug, Default)]
pub struct ExportChange {
    /// A new volume without one is on the network `default`.
    pub network: Option<String>,
    /// Takes the place of all rules. A new volume without any lets every client of its network
    /// read and write, with root squashed.
    pub access: Option<Vec<AccessRuleGiven>>,
    pub durability: Option<Durability>,
}

/// How a file volume is handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportView {
    pub volume: VolumeId,
    pub volume_name: String,
    pub network: NetworkId,
    pub network_name: String,
    pub access: Vec<AccessRuleGiven>,
    pub path: String,
    pub durability: Durability,
    pub resources: Vec<String>,
    pub fault: Option<String>,
}

// Snapshots

#[derive(Clone, Debug, Default)]
pub struct SnapshotCreate {
    pub volume: String,
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
}

#[derive(Clone, Debug, Default)]
pub struct SnapshotUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    pub name: Option<String>,
    pub volume: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotView {
    pub snapshot: Snapshot,
    pub volume_name: String,
    /// What it holds for itself: of file volumes, while the node can be reached.
    pub held: Option<ByteSize>,
}

// References

#[derive(Clone, Debug)]
pub struct ReferenceCreate {
    /// Name or id; the name of a volume that is still to be made reserves it.
    pub volume: String,
    pub name: String,
    pub kind: ReferenceKind,
    pub project: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ReferenceFilter {
    pub name: Option<String>,
    pub volume: Option<String>,
    pub kind: Option<ReferenceKind>,
    pub project: Option<String>,
    pub paging: Paging,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferenceView {
    pub reference: Reference,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Milliseconds since its holder last said that it is there.
    pub last_seen_age_ms: u64,
}

// Schedules

#[derive(Clone, Debug)]
pub struct ScheduleCreate {
    /// Name or id.
    pub volume: String,
    pub name: String,
    pub every_ms: u64,
    pub keep: u32,
}

#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    pub name: Option<String>,
    pub volume: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

#[derive(Clone, Debug, Default)]
pub struct ScheduleUpdate {
    pub every_ms: Option<u64>,
    pub keep: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleView {
    pub schedule: Schedule,
    pub volume_name: String,
}

// Hosts

#[derive(Clone, Debug, Default)]
pub struct HostCreate {
    pub name: String,
    /// iSCSI names; lower-cased.
    pub initiators: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<String>,
    pub metadata: Metadata,
    pub project: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct HostUpdate {
    pub name: Option<String>,
    /// Only while no volume is attached to it.
    pub initiators: Option<Vec<String>>,
    pub addresses: Option<Vec<String>>,
    pub metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Default)]
pub struct HostFilter {
    pub name: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

// Attachments

/// Many hosts in one call, all or none.
#[derive(Clone, Debug)]
pub struct AttachmentCreate {
    pub volume: String,
    pub hosts: Vec<String>,
    pub mode: Mode,
    /// Let a second writer in although the content is not made for it. Recorded.
    pub accept_data_loss: bool,
}

/// What is to change of an attachment.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachmentUpdate {
    pub mode: Option<Mode>,
    /// Let the host write although the content is not made for a second writer. Recorded.
    pub accept_data_loss: bool,
}

/// An attachment, and its secrets when this very call made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachmentCreated {
    pub view: AttachmentView,
    /// `None` when the attachment was there before, or where CHAP is switched off.
    pub chap: Option<Chap>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachmentView {
    pub attachment: Attachment,
    pub volume_name: String,
    pub host_name: String,
}

#[derive(Clone, Debug, Default)]
pub struct AttachmentFilter {
    pub volume: Option<String>,
    pub host: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

/// What a fence cut off; nothing of the host can land any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fenced {
    pub attachment: AttachmentId,
    pub sessions_closed: u32,
    pub registrations_removed: u32,
}

// Operations and events

#[derive(Clone, Debug, Default)]
pub struct OperationFilter {
    pub state: Option<String>,
    pub volume: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub action: Option<String>,
    /// The actor's name.
    pub actor: Option<String>,
    /// The kind of resource: `volume`, `attachment`, ...
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub project: Option<String>,
    /// Milliseconds since the Unix epoch, inclusive.
    pub since_ms: Option<u64>,
    /// Milliseconds since the Unix epoch, exclusive.
    pub until_ms: Option<u64>,
    pub paging: Paging,
}
