//! Values, states and legal moves of every resource: one file per resource.
//!
//! Entry points: the resource modules, and [`order`] for what the control plane asks of a node.
//!
//! Invariant: no I/O, no clock, no randomness, no HTTP. Everything here is a value.

pub mod id;
pub mod order;
pub mod size;
