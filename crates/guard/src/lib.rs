//! Who owns a shared volume: the takeover of a reservation by one host from another, pure.
//!
//! Entry points: [`Machine`], which is told what happens and says what to do; [`wire`], the bytes
//! that it speaks to the volume by; [`Standing`], what a host must not forget.
//!
//! Invariant: no clock, no socket, no file. A command runs only after READ FULL STATUS has shown
//! this run's own key as the holder and PREEMPT AND ABORT, or a reset, has proven that nothing of
//! the owner before can land any more; and the volume is never left without a reservation, not
//! even by an owner that stops in good order.

mod key;
mod machine;
mod standing;
mod terms;
#[cfg(test)]
mod tests;
pub mod wire;

pub use key::Key;
pub use machine::Machine;
pub use standing::{Malformed, Standing, State};
pub use terms::{Action, Answer, End, Input, Liveness, Request, Seen, Settings, Task};
