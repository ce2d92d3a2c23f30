//! All that is not deterministic: clock, random, block I/O, files. Traits, and the real ones.
//!
//! Entry points: [`BlockIo`] (data, asynchronous, one per worker thread, made by [`block_io`]),
//! [`Files`] (names, synchronous; the real one is [`RealFiles`]), [`Clock`], [`Random`]; [`posix`],
//! what only the kernel can do for a file server; [`handover`], sockets that outlive a program;
//! [`processes`], [`mounts`], [`locks`] and [`whole`] files, for the agent of a host; [`leftovers`],
//! what is let go of behind an answer.
//!
//! Invariant: nothing above this crate opens a file, asks the time or draws a random number by
//! itself; so the simulator can stand in for the world.

mod at_once;
pub mod block_io;
pub mod buffer;
pub mod clock;
mod descriptor;
mod descriptors;
pub mod echo;
pub mod engine;
pub mod files;
mod gate;
pub mod handover;
pub mod iscsi_session;
pub mod leftovers;
pub mod link;
pub mod locks;
pub mod mounts;
pub mod multipath;
pub mod pool;
pub mod posix;
pub mod processes;
pub mod random;
pub mod ring;
pub mod scsi_device;
pub mod whole;

pub use block_io::{BlockIo, IoFile, IoFuture};
pub use buffer::Buffer;
pub use clock::{Clock, RealClock};
pub use descriptors::raise_descriptor_limit;
pub use engine::{IoEngine, block_io};
pub use files::{Files, OpenMode, RealFiles};
pub use pool::ThreadPool;
pub use random::{OsRandom, Random};
pub use ring::Ring;
