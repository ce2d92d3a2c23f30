//! Use cases: everything that a person or a tool may ask of Commonhold.
//!
//! Entry point: [`Control`], cheap to clone, shared by every door. Each method takes the
//! [`Caller`] first and checks what the role allows; resources are named by name or id.
//!
//! ```text
//! project_create(ProjectCreate) project_list(ProjectFilter) project_get(&str)
//! project_update(&str, ProjectUpdate) project_delete(&str)               -> ProjectView, Page, ()
//! user_create/list/get/update/delete       token_create/list/get/update/delete authenticate(token, from)
//! volume_type_create/list/get/update/delete
//! volume_type_grant(&str, GrantCreate) volume_type_grants(&str, Paging) volume_type_revoke(&str, &str)
//! pool_create/ensure/list/get/update/delete
//! volume_create/list/get/update/delete(&str, VolumeDelete)               -> VolumeView
//! volume_resize(&str, ByteSize) volume_retype(&str, &str) volume_revert(&str, VolumeRevert)
//! volume_export(&str, VolumeExport)                                      -> Operation
//! volume_backup(&str, Option<&str>) -> Pieces                            volume_restore(&str, Pieces)
//! volume_reservations(&str) volume_reservations_clear(&str)
//! snapshot_create/list/get/update/delete                                 -> SnapshotView
//! network_create/list/get/update/delete                                  -> Network
//! export_get(&str) export_update(&str, ExportChange)                     -> ExportView
//! reference_create/list/get/delete                                       -> ReferenceView
//! schedule_create/list/get/update/delete                                 -> ScheduleView
//! host_create/list/get/update/delete                                     -> Host, HostView
//! agent_create(AgentCreate) agent_delete(&str)                           -> AgentCreated
//! agent_authenticate(token, from) beat(Beat)                             -> Assignments
//! group_create/list/get/start/stop/move/freeze/unfreeze/permit/delete    -> GroupView
//! group_update(&str, GroupUpdate)                                        -> GroupView
//! attachment_create(AttachmentCreate)                                    -> Vec<AttachmentCreated>
//! attachment_list/get/delete attachment_update(&str, AttachmentUpdate)   -> AttachmentView
//! attachment_fence(&str)                                                 -> Fenced
//! node_create(NodeCreate) node_list/get node_update(&str, NodeUpdate)     -> NodeView
//! node_delete(&str, bool) node_volumes(&str, NodeVolumeFilter)           -> (), Page<NodeVolumeView>
//! node_restart(&str, bool) node_upgrade(&str, NodeUpgrade)               -> Operation
//! node_evacuate(&str, bool)                                              -> NodeEvacuation
//! operation_list/get/cancel                event_list/get
//! ```
//!
//! A request writes the desired state in one transaction and returns the resource in its
//! transient state; orders to the node follow, are sent again after a crash, and move it on.
//!
//! Invariant: no HTTP, no SCSI, no bytes of volumes. The catalog alone says what is wanted.

mod agent;
mod attachment;
mod attachment_change;
mod backup;
mod board;
mod bootstrap;
mod caller;
mod catalog;
mod error;
mod event;
mod export;
mod facade;
mod group;
mod host;
mod links;
mod lost;
mod network;
mod node;
mod node_link;
mod operation;
mod page;
mod params;
mod plan;
mod pool;
mod project;
mod reconcile;
mod reference;
mod schedule;
mod snapshot;
mod user;
mod volume;
mod volume_change;
mod volume_type;
mod work;

pub use agent::{
    AgentAttachment, AgentCaller, AgentCreate, AgentCreated, AgentGroup, Assignments, Beat,
    HostView,
};
pub use caller::Caller;
pub use catalog::catalog_formats;
pub use error::{Candidate, ControlError, ErrorKind, NodeReference, NodeWork, Result};
pub use facade::{Control, EVENT_DAYS_DEFAULT, Settings};
pub use group::{GroupCreate, GroupFilter, GroupHostView, GroupUpdate, GroupView, Said};
pub use links::{NodeDoors, NodeHeard, NodeLinks, NotAdopted, Way};
pub use node::{
    NodeCreate, NodeEvacuation, NodeUpdate, NodeUpgrade, NodeView, NodeVolumeFilter, NodeVolumeView,
};
pub use node_link::{NodeLink, Pieces};
pub use page::{PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX, Page, Paging};
pub use params::*;
