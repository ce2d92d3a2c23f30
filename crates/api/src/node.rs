//! The service itself: is it well, what is it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `/health`: needs no token and tells no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `degraded` when a part is not.
    pub status: String,
    pub version: String,
    /// Does the catalog answer?
    pub catalog: bool,
    /// Does the storage node answer?
    pub node: bool,
}
