//! Users, their roles, and the answer to `whoami`.

use model::id::{ProjectId, TokenId, UserId};
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

/// Make a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    pub name: String,
    /// Name or id of the project that the user belongs to.
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

list_query! {
    /// Which users.
    UserQuery -> User, "v1/users"
}

/// Who the token of the request stands for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    #[schema(value_type = Uuid)]
    pub user_id: UserId,
    pub user_name: String,
    #[schema(value_type = Uuid)]
    pub project_id: ProjectId,
    pub project_name: String,
    pub role: Role,
    #[schema(value_type = Uuid)]
    pub token_id: TokenId,
}
