//! A failover group on this host: one process, the warden, that holds the group's reservation and
//! runs its resources, and goes on when the agent that started it ends.
//!
//! Entry points: [`Warden::open`] and [`Warden::run`]; [`Home`], the files by which agent and
//! warden speak; [`Order`], what the agent writes there.
//!
//! Invariant: what decides is `guard::Machine`, `guard::group::Resources` and
//! `guard::group::Conduct`; here is how it is done. Nothing of a group runs before its record says
//! so durably.

mod address;
mod aside;
mod beats;
mod exec;
mod export;
mod hands;
mod home;
mod mount;
mod neighbours;
mod program;
mod reach;
mod steps;
mod story;
#[cfg(test)]
mod testing;
mod unit;
mod warden;
mod witness;

pub use beats::{GroupOf, hand_on};
pub use home::{Home, Order, Past, Way};
pub use warden::{Ends, Warden, WardenError};
