//! The whole target in simulation: initiator machines, the node, the disk, in virtual time, with
//! whatever can go wrong between them. Cases 1 to 11 are numbered as in the conformance notes on
//! reservations; the histories are random.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

mod attentions;
mod cases;
mod crashes;
mod histories;
mod oracle;
mod world;
