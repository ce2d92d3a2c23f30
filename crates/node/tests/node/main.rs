//! A whole node under test: real threads, sockets and files, our own initiator as the hosts, and a
//! backend that can be held, torn or made to fail. Cases 1 to 11 are numbered as in the conformance
//! notes on reservations; each is a defect that some target has had.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod attentions;
mod backend;
mod client;
mod copy;
mod durability;
mod fence;
mod fencing;
mod files;
mod identity;
mod limits;
mod logins;
mod medium;
mod modes;
mod moves;
mod sanitize;
mod strangers;
mod tasks;
mod world;
