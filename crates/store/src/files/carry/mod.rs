//! A volume on its way to another pool, which may be another node's: all that keeps the handles good
//! that clients hold.
//!
//! ```text
//!   manifest: key of roots, secret, count of moves, size, snapshots
//!   each snapshot's tree, oldest first, and the living one: an archive with a note for each file
//!   end: what went through, the latest time of change, a digest of all before it
//! ```
//!
//! Entry points: [`FileVolume::carry`] at the one end, [`FilePool::receive`] at the other. What is
//! received has its place when it is whole and durable, and not before; nothing of it is served
//! until then.
//!
//! The stream holds the volume's secrets: whoever has it can sign handles of the volume, and name
//! what came with it. It is for the way from node to node alone.
//!
//! [`FileVolume::carry`]: super::FileVolume::carry
//! [`FilePool::receive`]: super::FilePool::receive

mod note;
mod receive;
mod send;
mod stream;

#[cfg(fuzzing)]
pub(crate) use stream::{again, unframed};

#[cfg(test)]
mod tests;
