//! A failover group on one of its hosts: what its resources do, and when the host tries to have it.
//!
//! Entry points: [`Resources`], told what happens to the group's resources; [`Conduct`], told what
//! is wanted of the group and how each run of the guard ended.
//!
//! Invariant: a resource starts only while the guard holds the volume and everything below it is
//! up, and nothing starts any more after the volume was lost.

mod beat;
mod conduct;
mod resources;
#[cfg(test)]
mod tests;

pub use beat::{BEAT_BYTES, Beat, Peers, Role};
pub use conduct::{Conduct, Course, Happened, Idle, Move, Past, Wish, delay_ms};
pub use resources::{Deed, Event, Limit, Outcome, Resources, Stage, Step, Terms};
