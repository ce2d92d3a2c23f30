//! Remote procedure calls, version 2 (RFC 5531): record marking, calls, replies, who calls.
//!
//! Entry points: [`record::Records`] cuts records out of a stream, [`Call`] and [`Reply`] are their
//! contents, [`Credential`] is who calls.
//!
//! Invariant: bytes to values and back, no panic; a record, a credential and a list of groups are
//! never larger than their limits.

mod auth;
mod message;
pub mod record;

pub use auth::{AUTH_BYTES_MAX, AuthStat, AuthSys, Credential, Flavor, GIDS_MAX, Opaque};
pub use message::{Accepted, Call, Denied, RPC_VERSION, Reply, ReplyBody, Unreadable, Versions};

#[cfg(test)]
mod tests;
