//! API tokens: shown once, kept hashed.

use model::id::{TokenId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// Make a token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Name or id of the user; the caller when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seconds until it expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// Change what is given; leave the rest. The secret never changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateToken {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seconds from now until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A token, without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    #[schema(value_type = Uuid)]
    pub id: TokenId,
    #[schema(value_type = Uuid)]
    pub user_id: UserId,
    pub description: String,
    pub created_at: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
    pub revoked: bool,
}

impl From<model::user::Token> for Token {
    fn from(token: model::user::Token) -> Self {
        Self {
            id: token.id,
            user_id: token.user,
            description: token.description,
            created_at: crate::timestamp_ms(token.created_ms),
            expires_at: token.expires_ms.map(crate::timestamp_ms),
            revoked: token.revoked,
        }
    }
}

/// The one answer that holds the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    pub token: Token,
    /// Send it as `Authorization: Bearer <secret>`. It is never shown again.
    pub secret: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

list_query! {
    /// Which tokens.
    TokenQuery -> Token, "v1/tokens", {
        /// Only those of this user, by name or id; for admins.
        user: String,
    }
}
