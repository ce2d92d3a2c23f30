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
    /// How many snapshots of any one volume.
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
    /// Of any one volume.
    pub snapshots_per_volume: u64,
}

impl From<model::project::Quotas> for Quota {
    fn from(quotas: model::project::Quotas) -> Self {
        Self {
            volumes: quotas.volumes,
            gigabytes: quotas.gigabytes,
            snapshots: quotas.snapshots,
            snapshots_per_volume: quotas.snapshots_per_volume,
        }
    }
}

/// What a project holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub volumes: u64,
    /// The sum of the volumes' sizes.
    pub size_bytes: u64,
    pub snapshots: u64,
}

impl From<model::project::ProjectUsage> for Usage {
    fn from(usage: model::project::ProjectUsage) -> Self {
        Self { volumes: usage.volumes, size_bytes: usage.bytes, snapshots: usage.snapshots }
    }
}

/// A project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Project {
    #[schema(value_type = Uuid)]
    pub id: ProjectId,
    pub name: String,
    pub description: String,
    pub quota: Quota,
    pub usage: Usage,
    pub created_at: jiff::Timestamp,
}

impl Project {
    /// The view of a project and what it holds.
    #[must_use]
    pub fn new(project: model::project::Project, usage: model::project::ProjectUsage) -> Self {
        Self {
            id: project.id,
            name: project.name,
            description: project.description,
            quota: project.quotas.into(),
            usage: usage.into(),
            created_at: crate::timestamp_ms(project.created_ms),
        }
    }
}

list_query! {
    /// Which projects.
    ProjectQuery -> Project, "v1/projects", {
        /// Only those with this name.
        name: String,
    }
}
