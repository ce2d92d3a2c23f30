//! The door over real sockets: a control plane on a catalog of its own, a node in memory, HTTP.

mod fake_node;
mod lists;
mod refusals;
mod secrets;
mod verbs;
mod world;
