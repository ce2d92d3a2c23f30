//! Users and their tokens.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, TokenId, UserId};

/// What a user may do; each role may do all that the ones before it may.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read the own project.
    Reader,
    /// Read and change the own project.
    Member,
    /// The operator: everything, in every project.
    Admin,
}

impl Role {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Somebody, or something, that uses the API. The name is unique.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub role: Role,
    /// The project that the user works in.
    pub project: ProjectId,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A token as lists show it: never the secret, which only its creation returns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub user: UserId,
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch; `None` never expires.
    pub expires_ms: Option<u64>,
    pub revoked: bool,
}

impl Token {
    /// Is it past its time?
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|end_ms| now_ms >= end_ms)
    }
}
