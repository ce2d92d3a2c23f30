//! Errors: the body that the service answers with, and the error that the client returns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is not a success.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong, and what to do next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable: programs may compare it. docs/http-status-codes.md lists them.
    #[schema(example = "volume_attached")]
    pub code: String,
    /// What happened, as a sentence.
    pub message: String,
    /// What to do next, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The values that the message speaks of, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<serde_json::Value>,
}

/// A call that did not succeed: refused by the service, or never answered by it.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status; `None` when there was no answer.
    pub status: Option<u16>,
    /// The service's code, or one of [`ApiError::UNREACHABLE`], [`ApiError::TIMED_OUT`],
    /// [`ApiError::UNREADABLE`], [`ApiError::BAD_ADDRESS`].
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub details: Option<Box<serde_json::Value>>,
    /// The id under which the service's log has this request.
    pub request_id: Option<String>,
}

impl ApiError {
    /// Nothing answers at the address.
    pub const UNREACHABLE: &str = "unreachable";
    /// The answer did not come in time; the request may or may not have taken effect.
    pub const TIMED_OUT: &str = "timed_out";
    /// What answered does not speak this contract.
    pub const UNREADABLE: &str = "unreadable_answer";
    /// The configured address is not a usable URL.
    pub const BAD_ADDRESS: &str = "bad_address";

    pub(crate) fn local(code: &str, message: String, hint: &str) -> Self {
        Self {
            status: None,
            code: code.to_owned(),
            message,
            hint: Some(hint.to_owned()),
            details: None,
            request_id: None,
        }
    }

    /// Is it this code?
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code == code
    }
}
