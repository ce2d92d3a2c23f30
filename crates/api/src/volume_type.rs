//! Volume types: what may be asked for, and who may ask.

use model::id::{PoolId, ProjectId, VolumeTypeId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::page::list_query;
use crate::volume::VolumeKind;
use crate::{ListQuery, Size};

/// Make a volume type.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolumeType {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub kind: VolumeKind,
    /// `ssd`, `hdd`, or a word of your own; volumes go to pools of this class.
    pub class: String,
    /// May several hosts write to a volume of this type at once?
    #[serde(default)]
    pub multiattach: bool,
    /// May every project use it? Otherwise it is granted per project.
    #[serde(default)]
    pub public: bool,
    /// The largest volume of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// The only sizes that there are; any size when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<Size>>,
    /// Names or ids of the only pools that serve it; every pool of the class when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
}

/// Change what is given; leave the rest. A type in use cannot change what it promises.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateVolumeType {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiattach: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<Size>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
}

/// A volume type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VolumeType {
    #[schema(value_type = Uuid)]
    pub id: VolumeTypeId,
    pub name: String,
    pub description: String,
    pub kind: VolumeKind,
    pub class: String,
    pub multiattach: bool,
    pub public: bool,
    /// The largest volume of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size_bytes: Option<u64>,
    /// The only sizes that there are, ascending; any size when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes_bytes: Vec<u64>,
    /// The only pools that serve it; every pool of the class when empty.
    #[schema(value_type = Vec<Uuid>)]
    pub pools: Vec<PoolId>,
    pub created_at: jiff::Timestamp,
}

impl From<model::volume_type::VolumeType> for VolumeType {
    fn from(volume_type: model::volume_type::VolumeType) -> Self {
        Self {
            id: volume_type.id,
            name: volume_type.name,
            description: volume_type.description,
            kind: volume_type.kind.into(),
            class: volume_type.class,
            multiattach: volume_type.multiattach,
            public: volume_type.public,
            max_size_bytes: volume_type.max_size.map(model::size::ByteSize::bytes),
            sizes_bytes: volume_type.sizes.into_iter().map(model::size::ByteSize::bytes).collect(),
            pools: volume_type.pools,
            created_at: crate::timestamp_ms(volume_type.created_ms),
        }
    }
}

list_query! {
    /// Which volume types.
    VolumeTypeQuery -> VolumeType, "v1/volume-types", {
        /// Only those with this name.
        name: String,
    }
}

/// Let a project use a private type.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGrant {
    /// Name or id of the project.
    pub project: String,
    /// A multi-attach type is granted only with `true`: writers on several hosts that do not
    /// coordinate destroy each other's data. The grant records who acknowledged this.
    #[serde(default)]
    pub acknowledge_data_loss: bool,
}

/// A project's right to use a private type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    #[schema(value_type = Uuid)]
    pub volume_type_id: VolumeTypeId,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub project_name: String,
    /// Who acknowledged the data-loss warning; asked for by multi-attach types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// The warning as it was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    pub granted_at: jiff::Timestamp,
}

impl Grant {
    /// The view of a grant to the project of this name.
    #[must_use]
    pub fn new(grant: model::volume_type::Grant, project_name: String) -> Self {
        Self {
            volume_type_id: grant.volume_type,
            project_id: grant.project,
            project_name,
            acknowledged_by: grant.acknowledged_by,
            warning: grant.warning,
            granted_at: crate::timestamp_ms(grant.granted_ms),
        }
    }
}

/// Which grants of one volume type.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantQuery {
    /// Name or id of the type: part of the path, not of the query.
    #[serde(skip)]
    #[param(ignore)]
    pub volume_type: String,
    /// How many items at most: 1 to 1000, 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where to continue: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

impl ListQuery for GrantQuery {
    type Item = Grant;
    fn path(&self) -> Vec<String> {
        ["v1", "volume-types", &self.volume_type, "grants"].map(str::to_owned).to_vec()
    }
    fn set_marker(&mut self, marker: String) {
        self.marker = Some(marker);
    }
    fn whole_pages(&mut self) {
        self.limit.get_or_insert(crate::page::MAX_LIMIT);
    }
}
