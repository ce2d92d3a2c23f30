//! The native contract: what the REST door takes and gives, and the typed client that speaks it.
//!
//! Entry points: [`Client`], and one module per resource with its parameters and its view. The
//! same types are the OpenAPI document's schemas.
//!
//! Invariant: nothing is decided here. Parameters refuse unknown fields, so that a misspelt word
//! is an error and never a silent default; views hold no secret except in the answers that hand
//! one out once ([`token::CreatedToken`], [`attachment::CreatedAttachment`]).

pub mod attachment;
mod client;
pub mod error;
pub mod event;
pub mod host;
pub mod node;
pub mod operation;
pub mod page;
pub mod pool;
pub mod project;
pub mod reservation;
mod size;
pub mod snapshot;
pub mod token;
pub mod user;
pub mod volume;
pub mod volume_type;

pub use client::{Client, PROJECT_HEADER, REQUEST_ID_HEADER};
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use page::{ListQuery, Page};
pub use size::Size;

/// Free key and value pairs that a caller keeps with a resource.
pub type Metadata = std::collections::BTreeMap<String, String>;

/// The moment so many milliseconds after the Unix epoch; the last one that can be written when
/// the number lies beyond it.
#[must_use]
pub fn timestamp_ms(milliseconds: u64) -> jiff::Timestamp {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}
