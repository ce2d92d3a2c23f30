//! Attachments: one volume made reachable to one host.

use model::id::{AttachmentId, HostId, ProjectId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// May the host write?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub enum Mode {
    /// Read and write.
    #[default]
    #[serde(rename = "rw")]
    ReadWrite,
    /// Read only, enforced by the target.
    #[serde(rename = "ro")]
    ReadOnly,
}

impl From<Mode> for model::order::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::ReadWrite => Self::ReadWrite,
            Mode::ReadOnly => Self::ReadOnly,
        }
    }
}

impl From<model::order::Mode> for Mode {
    fn from(mode: model::order::Mode) -> Self {
        match mode {
            model::order::Mode::ReadWrite => Self::ReadWrite,
            model::order::Mode::ReadOnly => Self::ReadOnly,
        }
    }
}

/// Attach a volume to one or more hosts: all of them, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAttachments {
    /// Name or id of the volume.
    pub volume: String,
    /// Names or ids of the hosts.
    #[schema(min_items = 1)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub mode: Mode,
    /// Attach although the volume holds a file system that two writers destroy. Recorded.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateAttachment {
    /// From `rw` to `ro` needs nothing; from `ro` to `rw` follows the rules of a new attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Let the host write although the volume holds a file system that two writers destroy.
    /// Recorded.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// Where an attachment is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum AttachmentState {
    Attaching,
    Attached,
    Changing,
    Detaching,
    Fencing,
    Error,
}

/// How a host reaches the volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// `address:port` of each iSCSI portal.
    pub portals: Vec<String>,
    /// The iSCSI target name.
    pub target: String,
    pub lun: u16,
}

impl From<model::attachment::Connection> for Connection {
    fn from(connection: model::attachment::Connection) -> Self {
        Self { portals: connection.portals, target: connection.target, lun: connection.lun }
    }
}

/// An attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    #[schema(value_type = Uuid)]
    pub id: AttachmentId,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    #[schema(value_type = Uuid)]
    pub volume_id: VolumeId,
    pub volume_name: String,
    #[schema(value_type = Uuid)]
    pub host_id: HostId,
    pub host_name: String,
    pub mode: Mode,
    #[schema(value_type = AttachmentState)]
    pub state: String,
    /// Why the node cannot let the host in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Absent until the node has let the host in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// The CHAP user; absent where CHAP is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_user: Option<String>,
    /// Who accepted that data may be lost, where the content is not made for sharing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss_accepted_by: Option<String>,
    pub created_at: jiff::Timestamp,
}

impl Attachment {
    /// The view of an attachment of the volume of this name to the host of that name.
    #[must_use]
    pub fn new(
        attachment: model::attachment::Attachment,
        volume_name: String,
        host_name: String,
    ) -> Self {
        Self {
            id: attachment.id,
            project_id: attachment.project,
            volume_id: attachment.volume,
            volume_name,
            host_id: attachment.host,
            host_name,
            mode: attachment.mode.into(),
            state: attachment.state.word().to_owned(),
            fault: attachment.fault,
            connection: attachment.connection.map(Into::into),
            chap_user: attachment.chap_user,
            data_loss_accepted_by: attachment.data_loss_accepted_by,
            created_at: crate::timestamp_ms(attachment.created_ms),
        }
    }
}

/// The credentials of one attachment (RFC 7143 12.1), shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChapCredentials {
    pub user: String,
    pub secret: String,
    /// With these the target proves itself, where the initiator asks for it (mutual CHAP).
    pub target_user: String,
    pub target_secret: String,
}

impl std::fmt::Debug for ChapCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChapCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl From<model::order::Chap> for ChapCredentials {
    fn from(chap: model::order::Chap) -> Self {
        Self {
            user: chap.user,
            secret: chap.secret,
            target_user: chap.target_user,
            target_secret: chap.target_secret,
        }
    }
}

/// A new attachment with the credentials that are never shown again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedAttachment {
    pub attachment: Attachment,
    /// Absent where CHAP is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ChapCredentials>,
}

/// The new attachments, in the order of the hosts asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedAttachments {
    pub attachments: Vec<CreatedAttachment>,
}

/// What a fence did. When it is answered, nothing of the host can land any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Fenced {
    #[schema(value_type = Uuid)]
    pub attachment_id: AttachmentId,
    pub sessions_closed: u32,
    pub registrations_removed: u32,
}

list_query! {
    /// Which attachments.
    AttachmentQuery -> Attachment, "v1/attachments", {
        /// Only those of this volume, by name or id.
        volume: String,
        /// Only those of this host, by name or id.
        host: String,
    }
}
