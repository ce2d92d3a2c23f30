//! What several fuzz targets need: a unit to send commands to, and a target and an initiator that
//! know each other, and what is asserted of JSON.
//!
//! Invariant: nothing here depends on anything but its arguments, so that an input that fails
//! fails again.

pub mod json;
pub mod session;
pub mod unit;
