//! Who owns a shared volume: the takeover of a reservation by one host from another, pure.
//!
//! Entry points: [`Machine`], which is told what happens and says what to do; [`wire`], the bytes
//! that it speaks to the volume by; [`Standing`], what a host must not forget; [`group`], the
//! resources of a failover group, which run where the volume is held; [`paths::Paths`], the ways to a
//! volume that has several.
//!
//! Invariant: no clock, no socket, no file. A command runs only after READ FULL STATUS has shown
//! this run's own key as the holder and PREEMPT AND ABORT, or a reset, has proven that nothing of
//! the owner before can land any more; and the volume is never left without a reservation, not
//! even by an owner that stops in good order.

pub mod group;
mod key;
mod machine;
pub mod pair;
pub mod paths;
mod standing;
mod terms;
#[cfg(test)]
mod tests;
pub mod wire;

pub use key::{Key, host_number};
pub use machine::Machine;
pub use standing::{Malformed, Standing, State};
pub use terms::{Action, Advice, Answer, End, Input, Liveness, Request, Seen, Settings, Task, Why};
