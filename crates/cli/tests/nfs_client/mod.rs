//! NFS clients for tests, over real sockets: RPC calls, version 3 by its messages, and version 4.1
//! with what a careful client does: retries on their slots, recovery, reclaims.
//!
//! Several test programs use this module, and none uses all of it.
#![allow(dead_code, unreachable_pub)]

pub mod place;
pub mod session;
pub mod three;
pub mod wire;
