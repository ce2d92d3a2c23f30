//! NFS version 4: minor versions 0 (RFC 7530), 1 (RFC 8881) and what Linux uses of 2 (RFC 7862).
//!
//! Entry point: [`answer`], which runs a COMPOUND operation by operation. What outlives a request
//! is [`state::State`]; the operations stand in files by what they touch, under a table of all.

mod attributes;
mod compound;
mod operations;
pub mod state;
mod status;
pub mod types;

pub use self::compound::{Service, answer};
pub use self::status::Status;

pub const VERSION: u32 = 4;

/// The name of an operation, for logs and metrics.
#[must_use]
pub fn operation_name(code: u32) -> Option<&'static str> {
    operations::row::<crate::memory::Memory>(code).map(|row| row.name)
}
