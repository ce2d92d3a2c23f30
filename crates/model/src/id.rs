//! Typed identifiers: a volume's id cannot be passed where a host's is wanted.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

typed_id! {
    /// A tenant.
    ProjectId,
    /// A user of a project, or the operator.
    UserId,
    /// An API token.
    TokenId,
    /// What may be asked for: class, multiattach, public or granted.
    VolumeTypeId,
    /// Where bytes lie.
    PoolId,
    /// What we provide.
    VolumeId,
    /// A read-only image of a volume at a point.
    SnapshotId,
    /// A consumer machine.
    HostId,
    /// One volume made reachable to one host.
    AttachmentId,
    /// Long work with progress and a final state.
    OperationId,
    /// One line of the audit trail.
    EventId,
    /// A storage machine of ours.
    NodeId,
    /// A set of client addresses.
    NetworkId,
    /// A named use of a file volume.
    ReferenceId,
    /// Snapshots of a volume by the clock.
    ScheduleId,
    /// A service that runs on one of several hosts.
    GroupId,
}
