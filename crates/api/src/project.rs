//! Projects: tenants with quotas.

use model::id::ProjectId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Make a project. Quotas that are not given take the service's defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaChange>,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaChange>,
}

/// New limits; a limit that is absent stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// How many volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u64>,
    /// Gibibytes of all volumes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gigabytes: Option<u64>,
    /// How many snapshots in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<u64>,
    /// How many snapshots of one volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots_per_volume: Option<u64>,
}

/// A project's limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    pub volumes: u64,
    /// Gibibytes of all volumes together.
    pub gigabytes: u64,
    pub snapshots: u64,
    pub snapshots_per_volume: u64,
}

/// What a project uses of its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub volumes: u64,
    /// Gibibytes of all volumes together, each rounded up.
    pub gigabytes: u64,
    pub snapshots: u64,
}

/// A project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Project {
    #[schema(value_type = Uuid)]
    pub id: ProjectId,
    pub name: String,
    pub description: String,
    pub quota: Quota,
    /// Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    pub created_at: jiff::Timestamp,
}

list_query! {
    /// Which projects.
    ProjectQuery -> Project, "v1/projects"
}
