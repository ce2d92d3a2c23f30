//! The node door: how a control plane reaches storage nodes of other machines, over HTTP.
//!
//! ```text
//!  control plane                                      node
//!  far::FarNode --POST ask, JSON, with the secret--> open: secret -> identity -> whose, which start
//!       ^                                                       |
//!       |                                                       v
//!       +--blanks while it works, then the answer---- turns (one order at a time for a resource,
//!                                                       none that was overtaken) -> NodeLink
//! ```
//!
//! Entry points: [`NodeDoor`] on the node, [`HttpDoors`] on the control plane.
//!
//! Invariants: who does not show the secret gets nothing, not even what is wrong. An order that
//! comes late, twice, from an earlier start of the control plane or from another control plane
//! changes nothing. An order that was begun goes on to its end, whoever hangs up.

mod far;
mod first;
mod notices;
mod open;
mod turns;
mod wire;

pub use far::HttpDoors;
pub(crate) use open::router;
pub use open::{Adoption, DoorRecord, NodeDoor};
