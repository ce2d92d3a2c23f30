//! The service itself: is it well, what is it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `/health`: needs no token and tells no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`; a service that is not well answers with an error instead.
    pub status: String,
    pub version: String,
}
