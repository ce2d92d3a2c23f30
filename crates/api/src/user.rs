//! Users, their roles, and the answer to `whoami`.

use model::id::{ProjectId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// What a user may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, in every project.
    Admin,
    /// Everything with the resources of the own project.
    Member,
    /// See the resources of the own project.
    Reader,
}

impl From<Role> for model::user::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Member => Self::Member,
            Role::Reader => Self::Reader,
        }
    }
}

impl From<model::user::Role> for Role {
    fn from(role: model::user::Role) -> Self {
        match role {
            model::user::Role::Admin => Self::Admin,
            model::user::Role::Member => Self::Member,
            model::user::Role::Reader => Self::Reader,
        }
    }
}

/// Make a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    pub name: String,
    /// Name or id of the project that the user works in.
    pub project: String,
    pub role: Role,
}

/// Change what is given; leave the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    #[schema(value_type = Uuid)]
    pub id: UserId,
    pub name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub role: Role,
    pub created_at: jiff::Timestamp,
}

impl From<model::user::User> for User {
    fn from(user: model::user::User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            project_id: user.project,
            role: user.role.into(),
            created_at: crate::timestamp_ms(user.created_ms),
        }
    }
}

list_query! {
    /// Which users.
    UserQuery -> User, "v1/users", {
        /// Only those with this name.
        name: String,
    }
}

/// Who the token of the request stands for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    #[schema(value_type = Uuid)]
    pub user_id: UserId,
    pub user_name: String,
    /// The project that requests work in; an admin may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub project_id: Option<ProjectId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    pub role: Role,
}
