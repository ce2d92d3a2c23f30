//! One method per verb, in the order of the resources. Lists are [`Client::list`] and
//! [`Client::every`] with the resource's query.
//!
//! Every method returns what the service refused, or why it could not be asked, as [`ApiError`].

use super::{Client, Download, STREAM_LIMIT};
use crate::agent::{Assignments, Beat, CreateAgent, CreatedAgent};
use crate::attachment::{
    Attachment, CreateAttachments, CreatedAttachments, Fenced, UpdateAttachment,
};
use crate::error::ApiError;
use crate::event::Event;
use crate::export::{Export, UpdateExport};
use crate::group::{CreateGroup, DeleteGroup, Group, MoveGroup, PermitHost, UpdateGroup};
use crate::host::{CreateHost, Host, UpdateHost};
use crate::network::{CreateNetwork, Network, UpdateNetwork};
use crate::node::{
    CreateNode, DeleteNode, EvacuateNode, Evacuation, Health, Node, RestartNode, UpdateNode,
    UpgradeNode,
};
use crate::operation::Operation;
use crate::pool::{CreatePool, DeletePool, Pool, UpdatePool};
use crate::project::{CreateProject, Project, UpdateProject};
use crate::reference::{CreateReference, Reference};
use crate::reservation::Reservations;
use crate::schedule::{CreateSchedule, Schedule, UpdateSchedule};
use crate::snapshot::{CreateSnapshot, Snapshot, UpdateSnapshot};
use crate::token::{CreateToken, CreatedToken, Token, UpdateToken};
use crate::user::{CreateUser, UpdateUser, User, WhoAmI};
use crate::volume::{
    BackupQuery, CreateVolume, DeleteVolume, ExportVolume, ResizeVolume, RestoreQuery,
    RetypeVolume, RevertVolume, UpdateVolume, Volume,
};
use crate::volume_type::{CreateGrant, CreateVolumeType, Grant, UpdateVolumeType, VolumeType};

type Result<T> = std::result::Result<T, ApiError>;

/// Verbs: `name(arguments; body) -> answer = method path`. The generated methods are what one
/// would write by hand; the table keeps verb, path and types of all of them on one screen.
macro_rules! verbs {
    ($(
        $(#[$doc:meta])*
        $name:ident($($segment:ident),*) $( <- $body:ty )? => $answer:ty = $method:ident [$($path:expr),*];
    )*) => {
        #[allow(clippy::missing_errors_doc)] // The module's head says it once for all.
        impl Client {$(
            $(#[$doc])*
            pub async fn $name(&self $(, $segment: &str)* $(, body: &$body)?) -> Result<$answer> {
                self.$method(&[$($path),*] $(, body as &$body)?).await
            }
        )*}
    };
}

impl Client {
    /// The volume is `deleting` until it is gone.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn volume_delete(&self, volume: &str, how: &DeleteVolume) -> Result<Volume> {
        let request = self.request(reqwest::Method::DELETE, &["v1", "volumes", volume])?;
        self.answer(request.query(how)).await
    }

    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn group_delete(&self, group: &str, how: &DeleteGroup) -> Result<()> {
        let request = self.request(reqwest::Method::DELETE, &["v1", "groups", group])?;
        self.answer(request.query(how)).await
    }

    /// Give up an empty pool.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn pool_delete(&self, pool: &str, how: &DeletePool) -> Result<Pool> {
        let request = self.request(reqwest::Method::DELETE, &["v1", "pools", pool])?;
        self.answer(request.query(how)).await
    }

    /// Forget a node of another machine, and let it go.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn node_delete(&self, node: &str, how: &DeleteNode) -> Result<()> {
        let request = self.request(reqwest::Method::DELETE, &["v1", "nodes", node])?;
        self.answer(request.query(how)).await
    }

    /// The tree of a file volume, piece by piece, as a tar.zst stream.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn volume_backup(&self, volume: &str, of: &BackupQuery) -> Result<Download> {
        let request = self.request(reqwest::Method::GET, &["v1", "volumes", volume, "backup"])?;
        self.download(request.query(of)).await
    }

    /// Fill an empty file volume from such a stream; returns when all of it is durable.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn volume_restore(
        &self,
        volume: &str,
        how: &RestoreQuery,
        from: super::Body,
    ) -> Result<()> {
        let path = ["v1", "volumes", volume, "restore"];
        let request = self.request(reqwest::Method::POST, &path)?;
        self.answer(request.query(how).timeout(STREAM_LIMIT).body(from)).await
    }
}

verbs! {
    /// Is the service well? Needs no token.
    health() => Health = get ["health"];
    /// The metrics in Prometheus' text format.
    metrics() => String = text ["metrics"];
    /// Who the token stands for.
    whoami() => WhoAmI = get ["v1", "whoami"];

    project_create() <- CreateProject => Project = post ["v1", "projects"];
    project_show(project) => Project = get ["v1", "projects", project];
    project_update(project) <- UpdateProject => Project = patch ["v1", "projects", project];
    project_delete(project) => () = delete ["v1", "projects", project];

    user_create() <- CreateUser => User = post ["v1", "users"];
    user_show(user) => User = get ["v1", "users", user];
    user_update(user) <- UpdateUser => User = patch ["v1", "users", user];
    user_delete(user) => () = delete ["v1", "users", user];

    /// The answer holds the secret, this once.
    token_create() <- CreateToken => CreatedToken = post ["v1", "tokens"];
    /// Revoke: the token is refused from now on. Takes the token's id.
    token_show(token) => Token = get ["v1", "tokens", token];
    token_update(token) <- UpdateToken => Token = patch ["v1", "tokens", token];
    token_delete(token) => () = delete ["v1", "tokens", token];

    volume_type_create() <- CreateVolumeType => VolumeType = post ["v1", "volume-types"];
    volume_type_show(volume_type) => VolumeType = get ["v1", "volume-types", volume_type];
    volume_type_update(volume_type) <- UpdateVolumeType => VolumeType
        = patch ["v1", "volume-types", volume_type];
    volume_type_delete(volume_type) => () = delete ["v1", "volume-types", volume_type];
    grant_create(volume_type) <- CreateGrant => Grant
        = post ["v1", "volume-types", volume_type, "grants"];
    grant_delete(volume_type, project) => ()
        = delete ["v1", "volume-types", volume_type, "grants", project];

    node_create() <- CreateNode => Node = post ["v1", "nodes"];
    node_update(node) <- UpdateNode => Node = patch ["v1", "nodes", node];
    node_show(node) => Node = get ["v1", "nodes", node];
    /// Its file service alone. Block volumes notice nothing.
    node_restart(node) <- RestartNode => Operation = post ["v1", "nodes", node, "restart"];
    /// The daemon as a whole, which does not answer for a moment while the operation goes on.
    node_upgrade(node) <- UpgradeNode => Operation = post ["v1", "nodes", node, "upgrade"];
    /// Its file volumes alone.
    node_evacuate(node) <- EvacuateNode => Evacuation = post ["v1", "nodes", node, "evacuate"];

    pool_create() <- CreatePool => Pool = post ["v1", "pools"];
    pool_show(pool) => Pool = get ["v1", "pools", pool];
    pool_update(pool) <- UpdatePool => Pool = patch ["v1", "pools", pool];
    /// The pool is `closing` until it is gone.

    /// The volume is `creating` until its status says `available`.
    volume_create() <- CreateVolume => Volume = post ["v1", "volumes"];
    volume_show(volume) => Volume = get ["v1", "volumes", volume];
    volume_update(volume) <- UpdateVolume => Volume = patch ["v1", "volumes", volume];
    volume_resize(volume) <- ResizeVolume => Volume = post ["v1", "volumes", volume, "resize"];
    volume_retype(volume) <- RetypeVolume => Volume = post ["v1", "volumes", volume, "retype"];
    volume_revert(volume) <- RevertVolume => Volume = post ["v1", "volumes", volume, "revert"];
    volume_export(volume) <- ExportVolume => Operation = post ["v1", "volumes", volume, "export"];
    volume_reservations(volume) => Reservations = get ["v1", "volumes", volume, "reservations"];
    /// Operator's clear of all reservations and registrations.
    volume_reservations_clear(volume) => ()
        = delete ["v1", "volumes", volume, "reservations"];

    snapshot_create() <- CreateSnapshot => Snapshot = post ["v1", "snapshots"];
    snapshot_show(snapshot) => Snapshot = get ["v1", "snapshots", snapshot];
    snapshot_update(snapshot) <- UpdateSnapshot => Snapshot = patch ["v1", "snapshots", snapshot];
    /// The snapshot is `deleting` until it is gone.
    snapshot_delete(snapshot) => Snapshot = delete ["v1", "snapshots", snapshot];

    network_create() <- CreateNetwork => Network = post ["v1", "networks"];
    network_show(network) => Network = get ["v1", "networks", network];
    network_update(network) <- UpdateNetwork => Network = patch ["v1", "networks", network];
    network_delete(network) => () = delete ["v1", "networks", network];

    /// How a file volume is handed out.
    export_show(volume) => Export = get ["v1", "exports", volume];
    /// Returns when the node serves it on the new terms.
    export_update(volume) <- UpdateExport => Export = patch ["v1", "exports", volume];

    reference_create() <- CreateReference => Reference = post ["v1", "references"];
    reference_show(reference) => Reference = get ["v1", "references", reference];
    reference_delete(reference) => () = delete ["v1", "references", reference];

    /// The first snapshot is taken at once.
    schedule_create() <- CreateSchedule => Schedule = post ["v1", "schedules"];
    schedule_show(schedule) => Schedule = get ["v1", "schedules", schedule];
    schedule_update(schedule) <- UpdateSchedule => Schedule = patch ["v1", "schedules", schedule];
    schedule_delete(schedule) => () = delete ["v1", "schedules", schedule];

    host_create() <- CreateHost => Host = post ["v1", "hosts"];
    host_show(host) => Host = get ["v1", "hosts", host];
    host_update(host) <- UpdateHost => Host = patch ["v1", "hosts", host];
    host_delete(host) => () = delete ["v1", "hosts", host];

    /// Attach one volume to many hosts: all or none. Secrets are in this answer only.
    attachment_create() <- CreateAttachments => CreatedAttachments = post ["v1", "attachments"];
    attachment_show(attachment) => Attachment = get ["v1", "attachments", attachment];
    /// Change the mode; returns when the target enforces the new one.
    attachment_update(attachment) <- UpdateAttachment => Attachment =
        patch ["v1", "attachments", attachment];
    /// Detach: `detaching` until it is gone.
    attachment_delete(attachment) => Attachment = delete ["v1", "attachments", attachment];
    /// Cut the host off; returns when nothing of it can land any more.
    attachment_fence(attachment) => Fenced = act ["v1", "attachments", attachment, "fence"];

    /// The volume is attached to its hosts where it is not yet.
    group_create() <- CreateGroup => Group = post ["v1", "groups"];
    group_show(group) => Group = get ["v1", "groups", group];
    group_update(group) <- UpdateGroup => Group = patch ["v1", "groups", group];
    group_start(group) => Group = act ["v1", "groups", group, "start"];
    group_stop(group) => Group = act ["v1", "groups", group, "stop"];
    group_move(group) <- MoveGroup => Group = post ["v1", "groups", group, "move"];
    group_freeze(group) => Group = act ["v1", "groups", group, "freeze"];
    group_unfreeze(group) => Group = act ["v1", "groups", group, "unfreeze"];
    group_permit(group) <- PermitHost => Group = post ["v1", "groups", group, "permit"];

    /// Make a host and its agent known. The answer holds the agent's token, this once.
    agent_create() <- CreateAgent => CreatedAgent = post ["v1", "agents"];
    /// The agent's token is void from now on.
    agent_delete(host) => () = delete ["v1", "agents", host];
    /// A sign of life of an agent, with its own token; the answer is what its host is to have.
    beat() <- Beat => Assignments = post ["v1", "beats"];

    event_show(event) => Event = get ["v1", "events", event];

    operation_show(operation) => Operation = get ["v1", "operations", operation];
    operation_cancel(operation) => Operation = act ["v1", "operations", operation, "cancel"];

}
