//! What can go wrong: a sentence, a stable code, a hint what to do next, and a kind.

use model::event::ResourceKind;
use model::id::{OperationId, ProjectId};
use model::order::OrderError;
use model::size::ByteSize;
use model::user::Role;

use crate::links::NotAdopted;

/// What a use case answers.
pub type Result<T, E = ControlError> = std::result::Result<T, E>;

/// The kinds that doors translate (HTTP: 404, 409, 400, 403, 401, 413 or 429, 507, 503, 500).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    NotFound,
    Conflict,
    Invalid,
    Forbidden,
    Unauthorized,
    OverQuota,
    NoSpace,
    /// Trying again later may help.
    Unavailable,
    Internal,
}

/// One of the resources that an ambiguous name may mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub id: String,
    pub name: String,
    /// `None` for what belongs to no project.
    pub project: Option<ProjectId>,
}

/// A use of one of a node's file volumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReference {
    pub project: String,
    pub volume: String,
    pub kind: &'static str,
    pub name: String,
}

/// An operation that keeps a node from being upgraded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeWork {
    pub operation: OperationId,
    /// `export_image of volume 'a'`.
    pub what: String,
}

/// Everything a use case can refuse with. Details that name resources are names, for people.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no {} '{name}'", .kind.spoken())]
    NotFound { kind: ResourceKind, name: String },
    #[error("the name '{name}' means {} {}s: {}", .candidates.len(), .kind.spoken(), ids(.candidates))]
    Ambiguous { kind: ResourceKind, name: String, candidates: Vec<Candidate> },
    #[error("there is already a {} named '{name}'", .kind.spoken())]
    NameTaken { kind: ResourceKind, name: String },
    #[error("{field} cannot be used: {why}")]
    Invalid { field: &'static str, why: String },
    #[error("the request carries no token")]
    TokenMissing,
    #[error("the token is not known; it may have been revoked")]
    TokenUnknown,
    #[error("the token has expired")]
    TokenExpired,
    #[error("the token is revoked, and nothing of it can be changed")]
    TokenRevoked,
    #[error("to {action}, one must be {needs}")]
    Forbidden { action: &'static str, needs: Role },
    #[error(
        "the project's quota of {what} is {limit}, {used} are used and {asked} more are asked for"
    )]
    QuotaExceeded { what: &'static str, limit: String, used: String, asked: String },
    #[error("no pool of class '{class}' has {needed} free; the most that one has is {free}")]
    NoSpace { class: String, needed: ByteSize, free: ByteSize },
    #[error("there is no pool of class '{class}' for {kind} volumes")]
    NoPool { class: String, kind: &'static str },
    #[error("no pool of class '{class}' for {kind} volumes is online")]
    PoolUnavailable { class: String, kind: &'static str },
    #[error("volume '{volume}' is attached to {}, so it cannot be {action} now", list(.hosts))]
    VolumeInUse { volume: String, hosts: Vec<String>, action: &'static str },
    #[error("no pool keeps the rules of affinity: {why}")]
    Unplaceable { why: String },
    #[error("to {action} is for {needs} volumes, and volume '{volume}' is a {is} volume")]
    WrongKind { volume: String, is: &'static str, needs: &'static str, action: &'static str },
    #[error("volume '{volume}' is used by {}, so it cannot be {action} now", each(.references))]
    VolumeReferenced { volume: String, references: Vec<String>, action: &'static str },
    #[error(
        "the file service of node '{node}' cannot be {action} now, because file volumes of it are \
         used: {}; {clients} clients are connected",
        uses(.references)
    )]
    NodeReferenced {
        node: String,
        references: Vec<NodeReference>,
        clients: u64,
        action: &'static str,
    },
    #[error(
        "clients have file volumes of node '{node}' mounted, so it cannot be evacuated now: {}",
        .volumes.join(", ")
    )]
    NodeMounted { node: String, volumes: Vec<String> },
    #[error("node '{node}' cannot be upgraded now, because operations are under way: {}", works(.work))]
    NodeBusy { node: String, work: Vec<NodeWork> },
    #[error("the binary cannot take the running one's place: {why}")]
    BinaryUnfit { why: String },
    #[error("there is no other node that could take the {volumes} file volumes of node '{node}'")]
    NoOtherNode { node: String, volumes: u64 },
    #[error("volume '{volume}' is not lost: its node '{node}' answers")]
    NodeAnswers { volume: String, node: String },
    #[error("no node was made known at {address}: {why}")]
    NotAdopted { address: String, why: NotAdopted },
    #[error("node '{node}' has no file service: {why}")]
    NoFileService { node: String, why: String },
    #[error("{} has volume '{volume}' mounted, so it cannot be {action} now", list(.clients))]
    ClientsConnected { volume: String, clients: Vec<String>, action: &'static str },
    #[error("type '{kind}' has no size {size}; it has {}", sizes(.available))]
    SizeNotAvailable { kind: String, size: ByteSize, available: Vec<ByteSize> },
    #[error("volume '{volume}' holds {used}, which is more than {asked}")]
    BelowUsed { volume: String, used: ByteSize, asked: ByteSize },
    #[error("volume '{volume}' is depended on by {}", dependents(.snapshots, .clones))]
    VolumeHasDependents { volume: String, snapshots: Vec<String>, clones: Vec<String> },
    #[error("snapshot '{snapshot}' is depended on by {}", dependents(&[], .clones))]
    SnapshotHasClones { snapshot: String, clones: Vec<String> },
    #[error("volume '{volume}' is {status}; one cannot {action} it now")]
    VolumeBusy { volume: String, status: &'static str, action: &'static str },
    #[error("snapshot '{snapshot}' is {state}; one cannot {action} it now")]
    SnapshotBusy { snapshot: String, state: &'static str, action: &'static str },
    #[error(
        "volume '{volume}' is of a type without multi-attach, and {} has or would have it read-write",
        list(.hosts)
    )]
    NotMultiattach { volume: String, hosts: Vec<String> },
    #[error(
        "volume '{volume}' holds {content} {place}, which is destroyed when a second host writes to it"
    )]
    FilesystemNotClusterAware { volume: String, content: String, place: String },
    #[error("host '{host}' has volume '{volume}' already, in mode {mode}")]
    AttachedInOtherMode { volume: String, host: String, mode: &'static str },
    #[error("host '{host}' is still on its way out of volume '{volume}' ({state})")]
    AttachmentLeaving { volume: String, host: String, state: &'static str },
    #[error(
        "the attachment of volume '{volume}' to host '{host}' is {state}; its mode cannot be changed now"
    )]
    AttachmentBusy { volume: String, host: String, state: &'static str },
    #[error("volume '{volume}' is {size}; {asked} would be smaller, and block volumes only grow")]
    VolumeShrink { volume: String, size: ByteSize, asked: ByteSize },
    #[error(
        "a volume of class '{from}' cannot become class '{to}', because its bytes cannot be moved \
         to another pool yet; the types that fit it are {}",
        list(.fits)
    )]
    RetypeNeedsMove { from: String, to: String, fits: Vec<String> },
    #[error("volume '{volume}' is attached to {}; multi-attach changes only while at most one host has it", list(.hosts))]
    RetypeWhileShared { volume: String, hosts: Vec<String> },
    #[error(
        "volume type '{name}' is used by {volumes} volumes, and a type in use cannot change what it promises"
    )]
    TypeInUse { name: String, volumes: u64 },
    #[error("the initiator name '{iqn}' belongs to another host already")]
    InitiatorTaken { iqn: String },
    #[error("host '{host}' does not have the initiator name '{iqn}'; it has {}", list(.known))]
    InitiatorNew { host: String, iqn: String, known: Vec<String> },
    #[error("{} '{name}' is still used by {by}", .kind.spoken())]
    InUse { kind: ResourceKind, name: String, by: String },
    #[error("host '{host}' is none of group '{group}', whose hosts are {}", list(.hosts))]
    GroupHostUnknown { group: String, host: String, hosts: Vec<String> },
    #[error("group '{group}' is frozen")]
    GroupFrozen { group: String },
    #[error("group '{group}' may run: {why}")]
    GroupRuns { group: String, why: String },
    #[error(
        "group '{group}' would have {count} hosts, and it must have 2 to {}; it has {}",
        model::group::HOSTS_MAX,
        list(.hosts)
    )]
    GroupHosts { group: String, hosts: Vec<String>, count: usize },
    #[error("host '{host}' cannot be taken out of group '{group}': {why}")]
    GroupHostRuns { group: String, host: String, why: String },
    #[error("the {what} of group '{group}' change only while it is stopped; {why}")]
    GroupNotStopped { group: String, what: &'static str, why: String },
    #[error("host '{host}' was fenced from group '{group}'")]
    GroupHostFenced { group: String, host: String },
    #[error("host '{host}' cannot take group '{group}': {why}")]
    GroupHostAway { group: String, host: String, why: String },
    #[error("no other host of group '{group}' could take it")]
    GroupNowhereToMove { group: String },
    #[error("the token is that of a host's agent, and opens nothing but its beats")]
    TokenOfAgent,
    #[error("this is the last admin, and without one nobody could make another")]
    LastAdmin,
    #[error(
        "a member may name image files in the daemon's image directory only, and '{path}' is not there"
    )]
    ImagePathForbidden { path: String },
    #[error("the operation is {state} and cannot be cancelled any more")]
    OperationFinished { state: &'static str },
    #[error("an operation of kind {kind} cannot be cancelled")]
    OperationNotCancellable { kind: &'static str },
    #[error("{0}")]
    Node(#[from] OrderError),
    #[error("the catalog failed: {0}")]
    Catalog(#[from] sqlx::Error),
    #[error("the catalog's schema cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the catalog holds a record of {kind} that cannot be read: {why}")]
    CorruptRecord { kind: &'static str, why: String },
    #[error("the rule '{rule}' would have been broken")]
    IllegalMove { rule: String },
}

impl ControlError {
    /// A code that never changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { kind, .. } => not_found_code(*kind),
            Self::Ambiguous { .. } => "ambiguous_name",
            Self::NameTaken { .. } => "name_taken",
            Self::Invalid { .. } => "invalid_value",
            Self::TokenMissing => "token_missing",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Forbidden { .. } => "forbidden",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::NoSpace { .. } => "no_space",
            Self::NoPool { .. } => "no_pool",
            Self::PoolUnavailable { .. } => "pool_unavailable",
            Self::VolumeInUse { .. } => "volume_in_use",
            Self::Unplaceable { .. } => "unplaceable",
            Self::WrongKind { .. } => "wrong_kind",
            Self::VolumeReferenced { .. } => "volume_referenced",
            Self::NodeReferenced { .. } => "node_referenced",
            Self::NodeMounted { .. } => "clients_connected",
            Self::NodeBusy { .. } => "node_busy",
            Self::BinaryUnfit { .. } => "binary_unfit",
            Self::NoOtherNode { .. } => "no_other_node",
            Self::NoFileService { .. } => "no_file_service",
            Self::ClientsConnected { .. } => "clients_connected",
            Self::SizeNotAvailable { .. } => "size_not_available",
            Self::BelowUsed { .. } => "below_used",
            Self::VolumeHasDependents { .. } => "volume_has_dependents",
            Self::SnapshotHasClones { .. } => "snapshot_has_clones",
            Self::VolumeBusy { .. } => "volume_busy",
            Self::SnapshotBusy { .. } => "snapshot_busy",
            Self::NotMultiattach { .. } => "not_multiattach",
            Self::FilesystemNotClusterAware { .. } => "filesystem_not_cluster_aware",
            Self::AttachedInOtherMode { .. } => "attached_in_other_mode",
            Self::AttachmentLeaving { .. } => "attachment_leaving",
            Self::AttachmentBusy { .. } => "attachment_busy",
            Self::VolumeShrink { .. } => "volume_shrink",
            Self::RetypeNeedsMove { .. } => "retype_needs_move",
            Self::RetypeWhileShared { .. } => "retype_while_shared",
            Self::TypeInUse { .. } => "type_in_use",
            Self::InitiatorTaken { .. } => "initiator_taken",
            Self::InitiatorNew { .. } => "initiator_new",
            Self::InUse { .. } => "in_use",
            Self::GroupHostUnknown { .. } => "group_host_unknown",
            Self::GroupFrozen { .. } => "group_frozen",
            Self::GroupRuns { .. } => "group_runs",
            Self::GroupHosts { .. } => "group_hosts",
            Self::GroupHostRuns { .. } => "group_host_runs",
            Self::GroupNotStopped { .. } => "group_not_stopped",
            Self::GroupHostFenced { .. } => "group_host_fenced",
            Self::GroupHostAway { .. } => "group_host_away",
            Self::GroupNowhereToMove { .. } => "group_nowhere_to_move",
            Self::TokenOfAgent => "token_of_agent",
            Self::LastAdmin => "last_admin",
            Self::ImagePathForbidden { .. } => "image_path_forbidden",
            Self::OperationFinished { .. } => "operation_finished",
            Self::OperationNotCancellable { .. } => "operation_not_cancellable",
            Self::Node(OrderError::NoSpace { .. }) => "no_space",
            Self::Node(OrderError::BadImage { .. }) => "bad_image",
            Self::Node(OrderError::Unreachable { .. })
            | Self::NotAdopted { why: NotAdopted::Silent { .. }, .. } => "node_unreachable",
            Self::NotAdopted { why: NotAdopted::NoNode { .. }, .. } => "not_a_node",
            Self::NodeAnswers { .. } => "node_answers",
            Self::Node(_) | Self::NotAdopted { .. } => "node_failed",
            Self::Catalog(_) | Self::Migration(_) => "catalog_failed",
            Self::CorruptRecord { .. } => "catalog_corrupt",
            Self::IllegalMove { .. } => "internal",
        }
    }

    /// What doors make of it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Invalid { .. } | Self::VolumeShrink { .. } | Self::SizeNotAvailable { .. } => {
                ErrorKind::Invalid
            }
            Self::TokenMissing | Self::TokenUnknown | Self::TokenExpired => ErrorKind::Unauthorized,
            Self::Forbidden { .. } | Self::ImagePathForbidden { .. } | Self::TokenOfAgent => {
                ErrorKind::Forbidden
            }
            Self::QuotaExceeded { .. } => ErrorKind::OverQuota,
            Self::NoSpace { .. } | Self::Node(OrderError::NoSpace { .. }) => ErrorKind::NoSpace,
            Self::PoolUnavailable { .. }
            | Self::NotAdopted { why: NotAdopted::Silent { .. }, .. }
            | Self::Node(OrderError::Unreachable { .. } | OrderError::Failed { .. }) => {
                ErrorKind::Unavailable
            }
            Self::Node(OrderError::BadImage { .. })
            | Self::NotAdopted { why: NotAdopted::NoNode { .. }, .. } => ErrorKind::Invalid,
            Self::Catalog(_)
            | Self::Migration(_)
            | Self::CorruptRecord { .. }
            | Self::IllegalMove { .. } => ErrorKind::Internal,
            _ => ErrorKind::Conflict,
        }
    }

    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => {
                "List what there is; another project's resources are not shown."
            }
            Self::Ambiguous { .. } => "Use one of the ids.",
            Self::NameTaken { .. } => "Choose another name, or use the one that is there.",
            Self::TokenMissing => "Send a token: `Authorization: Bearer ch_...`.",
            Self::TokenUnknown | Self::TokenExpired => {
                "Ask for a new token, or have an admin make one."
            }
            Self::TokenRevoked => "Make a new token.",
            Self::Forbidden { .. } => "Ask somebody with that role.",
            Self::QuotaExceeded { .. } => {
                "Delete what is not needed, or ask the operator for more."
            }
            Self::NoSpace { .. } | Self::Node(OrderError::NoSpace { .. }) => {
                "Delete volumes or snapshots of this class, or have the operator add a pool."
            }
            Self::NoPool { .. } => {
                "Have the operator create a pool of this class, with a driver for this kind; a daemon that runs as root has one for file volumes."
            }
            Self::PoolUnavailable { .. } => "Wait a moment; if it lasts, `pool show` says why.",
            Self::VolumeInUse { .. } => {
                "Detach it from them first: `attachment list --volume` shows the attachments."
            }
            Self::VolumeHasDependents { .. } => {
                "Delete the clones first; snapshots go along when asked to (cascade)."
            }
            Self::SnapshotHasClones { .. } => "Delete the clones first.",
            Self::VolumeBusy { .. } | Self::SnapshotBusy { .. } | Self::AttachmentBusy { .. } => {
                "Wait until that is through; in state error, its fault says why, and it can be deleted."
            }
            Self::NotMultiattach { .. } => {
                "Attach read-only, detach the writer first, or retype the volume to a multi-attach type."
            }
            Self::FilesystemNotClusterAware { .. } => {
                "Three ways out: attach read-only (--mode ro); put a cluster file system (GFS2, \
                 OCFS2) on it; or accept the loss of data with --accept-data-loss, which is recorded."
            }
            Self::AttachedInOtherMode { .. } => {
                "Change the mode of the attachment that there is: `attachment update --mode`."
            }
            Self::AttachmentLeaving { .. } => {
                "Wait until the attachment is gone, then attach again."
            }
            Self::VolumeShrink { .. } => "Give a larger size.",
            Self::RetypeNeedsMove { .. } => "Choose a type that fits, or copy to a new volume.",
            Self::RetypeWhileShared { .. } => "Detach hosts until one is left.",
            Self::TypeInUse { .. } => {
                "Create another type; name, description and visibility may change."
            }
            Self::InitiatorTaken { .. } => {
                "Give every host its own initiator name (/etc/iscsi/initiatorname.iscsi)."
            }
            Self::InitiatorNew { .. } => {
                "If it is that host, add the name to those that it has (`host update --initiator`); \
                 if it is another one, enrol it under a name of its own (`host run --host`)."
            }
            Self::InUse { .. } => "Remove what uses it first.",
            Self::LastAdmin => "Make another admin first.",
            Self::ImagePathForbidden { .. } => {
                "Give a plain file name in that directory, or have an admin do it."
            }
            Self::OperationFinished { .. } | Self::OperationNotCancellable { .. } => {
                "Show the operation to see how it ended."
            }
            other => other.hint_of_groups_and_files(),
        }
    }
}

impl ControlError {
    /// What to do next: about groups, file volumes, and where something of ours failed.
    const fn hint_of_groups_and_files(&self) -> &'static str {
        match self {
            Self::GroupHostUnknown { .. } => "Name one of these.",
            Self::GroupFrozen { .. } => "Let its hosts act again first: `group unfreeze`.",
            Self::GroupRuns { .. } => {
                "Stop it first, and wait until its hosts have: `group stop --wait`; --force forgets \
                 it all the same, and what runs goes on."
            }
            Self::GroupHosts { .. } => "Add a host before another one goes.",
            Self::GroupHostRuns { .. } => {
                "Move the group to another host first (`group move`), or start the agent of this one; \
                 --force takes it out all the same, and what runs there goes on."
            }
            Self::GroupNotStopped { .. } => {
                "`group stop --wait` returns when its hosts have stopped; one that is gone for good \
                 is taken out with `group update --remove-host HOST --force`."
            }
            Self::GroupHostFenced { .. } => {
                "See that nothing of its old life is left there, then `group permit`."
            }
            Self::GroupHostAway { .. } => {
                "Start its agent and mend its way to the volume, or name another host; `group show` \
                 says where each one stands."
            }
            Self::GroupNowhereToMove { .. } => {
                "Start the agents of its hosts, and permit those that are fenced; `group show` says \
                 where each one stands."
            }
            Self::TokenOfAgent => "Use the token of a user.",
            Self::Unplaceable { .. } => {
                "Leave a rule out, or make it a wish with ==~ or !=~; or have the operator add a pool."
            }
            Self::WrongKind { .. } => {
                "A block volume is attached to hosts; a file volume is mounted over NFS, and \
                 `export` shows and changes who may."
            }
            Self::VolumeReferenced { .. } => {
                "Have them let go of it; `reference list --volume` shows them, and `reference \
                 delete` removes one whose holder is gone."
            }
            Self::ClientsConnected { .. } => {
                "Unmount it there, or cut the clients off with --force."
            }
            Self::SizeNotAvailable { .. } => "Choose one of these sizes, or another type.",
            Self::BelowUsed { .. } => "Delete files first, or give a larger size.",
            Self::Node(OrderError::BadImage { .. }) => "Check the file with `qemu-img check`.",
            Self::Node(_) => "Try again; if it lasts, look at the node's log.",
            Self::Catalog(_) => "Try again; if it lasts, look at the daemon's log and its disk.",
            Self::Migration(_) => "Use the release that wrote the catalog, or a newer one.",
            Self::CorruptRecord { .. } => "Restore the catalog from a backup.",
            Self::IllegalMove { .. } => "This is a defect; report it with the daemon's log.",
            _ => self.hint_of_nodes(),
        }
    }

    /// The same of nodes.
    const fn hint_of_nodes(&self) -> &'static str {
        match self {
            Self::NodeReferenced { .. } => {
                "Have them let go of the volumes (`reference list` shows all), or accept that \
                 their clients wait for a while: --force."
            }
            Self::NodeMounted { .. } => {
                "Unmount them there, or cut the clients off with --force: each mounts the new place \
                 then, which `volume show` says."
            }
            Self::NodeBusy { .. } => {
                "Wait for them (`operation list`), cancel those that can be (`operation cancel`), or \
                 cut them short: --force. An upgrade to another binary has to end first."
            }
            Self::BinaryUnfit { .. } => {
                "Nothing has stopped. Put a release that is no older there, owned by root; an older \
                 one that reads the catalog is taken with --force."
            }
            Self::NoOtherNode { .. } => {
                "Run `commonhold serve --role node` on another machine, make it known with `node \
                 create`, and give it a pool: `pool create --node`. A pause of clients needs no other \
                 node: `node restart`, `node upgrade`."
            }
            Self::NotAdopted { why: NotAdopted::Silent { .. }, .. } => {
                "See that `commonhold serve --role node` runs there, and that the control plane \
                 reaches its door: the daemon says it when it starts (`door`), and --listen moves it."
            }
            Self::NotAdopted { why: NotAdopted::NoNode { .. }, .. } => {
                "Give the door of a daemon that runs with --role node: it says it when it starts \
                 (`door`). A daemon of role all or control takes no orders of another one."
            }
            Self::NotAdopted { why: NotAdopted::Refused { .. }, .. } => {
                "The secret is in node/secret of the node's data directory, made at its first start; \
                 a node that another control plane has is let go there: `node delete`."
            }
            Self::NodeAnswers { .. } => {
                "Delete it without --lost, or have other nodes take it: `node evacuate`."
            }
            Self::NoFileService { .. } => {
                "Start its daemon with --nfs-portals; block volumes are served without."
            }
            _ => "Correct the value and send the request again.",
        }
    }
}

const fn not_found_code(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Project => "project_not_found",
        ResourceKind::User => "user_not_found",
        ResourceKind::Token => "token_not_found",
        ResourceKind::VolumeType => "volume_type_not_found",
        ResourceKind::Pool => "pool_not_found",
        ResourceKind::Volume => "volume_not_found",
        ResourceKind::Snapshot => "snapshot_not_found",
        ResourceKind::Host => "host_not_found",
        ResourceKind::Attachment => "attachment_not_found",
        ResourceKind::Network => "network_not_found",
        ResourceKind::Reference => "reference_not_found",
        ResourceKind::Schedule => "schedule_not_found",
        ResourceKind::Group => "group_not_found",
        ResourceKind::Node => "node_not_found",
        ResourceKind::Operation => "operation_not_found",
        ResourceKind::Event => "event_not_found",
        ResourceKind::Target => "target_not_found",
    }
}

fn ids(candidates: &[Candidate]) -> String {
    candidates.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// `mount 'a' and container 'b'`: each of them, because each must be found.
fn each(references: &[String]) -> String {
    references.join(", ")
}

/// `'default/www' by mount '/srv'`, the first of many.
fn uses(references: &[NodeReference]) -> String {
    const SHOWN: usize = 8;
    let use_of = |one: &NodeReference| {
        format!("'{}/{}' by {} '{}'", one.project, one.volume, one.kind, one.name)
    };
    let shown: Vec<String> = references.iter().take(SHOWN).map(use_of).collect();
    match references.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// `export_image of volume 'a' (0198...)`, the first of many.
fn works(work: &[NodeWork]) -> String {
    const SHOWN: usize = 8;
    let one = |one: &NodeWork| format!("{} ({})", one.what, one.operation);
    let shown: Vec<String> = work.iter().take(SHOWN).map(one).collect();
    match work.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn sizes(available: &[ByteSize]) -> String {
    available.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `'a', 'b' and 3 more`.
pub(crate) fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn dependents(snapshots: &[String], clones: &[String]) -> String {
    let part = |word: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("the {word}{} {}", plural(names), list(names)))
    };
    let parts: Vec<String> =
        [part("snapshot", snapshots), part("clone", clones)].into_iter().flatten().collect();
    parts.join(" and ")
}

const fn plural(names: &[String]) -> &'static str {
    if names.len() == 1 { "" } else { "s" }
}
