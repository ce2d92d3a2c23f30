//! Values, states and legal moves of every resource: one file per resource.
//!
//! Entry points: the resource modules ([`volume`], [`attachment`], ...), [`text`] for the rules
//! that names and metadata obey, and [`order`] for what the control plane asks of a node.
//!
//! Invariant: no I/O, no clock, no randomness, no HTTP. Everything here is a value.

pub mod agent;
pub mod attachment;
pub mod event;
pub mod export;
pub mod file;
pub mod group;
pub mod host;
pub mod id;
pub mod network;
pub mod node;
pub mod operation;
pub mod order;
pub mod placement;
pub mod pool;
pub mod project;
pub mod reference;
pub mod schedule;
pub mod size;
pub mod snapshot;
pub mod text;
pub mod user;
pub mod volume;
pub mod volume_type;
