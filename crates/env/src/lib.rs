//! All that is not deterministic: clock, random, block I/O, files. Traits, and the real ones.
//!
//! Entry points: [`BlockIo`] (data, asynchronous, one per worker thread), [`Files`] (names,
//! synchronous), [`Clock`], [`Random`].
//!
//! Invariant: nothing above this crate opens a file, asks the time or draws a random number by
//! itself; so the simulator can stand in for the world.

pub mod block_io;
pub mod buffer;
pub mod clock;
pub mod files;
pub mod random;

pub use block_io::{BlockIo, IoFile, IoFuture};
pub use buffer::Buffer;
pub use clock::{Clock, RealClock};
pub use files::{Files, OpenMode};
pub use random::{OsRandom, Random};
