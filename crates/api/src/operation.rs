//! Operations: long work with progress and a final state.

use model::id::{OperationId, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::list_query;

/// An operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    #[schema(value_type = Uuid)]
    pub id: OperationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub project_id: Option<ProjectId>,
    /// For example `import`, `export`.
    pub kind: String,
    /// The resource that it works on: its word and its id.
    pub resource: String,
    pub resource_id: uuid::Uuid,
    /// `queued`, `running`, `cancelling`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// Has it ended?
    pub finished: bool,
    /// Bytes (or steps) done.
    pub done: u64,
    /// Bytes (or steps) in all; 0 while unknown.
    pub total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub created_at: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<jiff::Timestamp>,
}

list_query! {
    /// Which operations.
    OperationQuery -> Operation, "v1/operations", {
        /// Only those in this state.
        state: String,
    }
}
