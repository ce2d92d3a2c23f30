//! NFS clients for tests, over real sockets: version 3 by its messages, and version 4.1 with what a
//! careful client does over [`host::files`]: retries on their slots, recovery, reclaims.
//!
//! Several test programs use this module, and none uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;

use host::files::{Who, Wire};

pub mod place;
pub mod session;
pub mod three;

/// The way to a server for a user who is in a group of the same number.
pub fn wire(portal: SocketAddr, uid: u32) -> Wire {
    Wire::new(portal, &Who { uid, gid: uid, gids: Vec::new() })
}
