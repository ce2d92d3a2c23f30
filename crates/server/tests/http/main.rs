//! The door over real sockets: a control plane on a catalog of its own, a node in memory, HTTP.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod fake_node;
mod files;
mod groups;
mod limits;
mod lists;
mod nodes;
mod refusals;
mod secrets;
mod verbs;
mod world;
