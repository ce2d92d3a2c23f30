//! Pools and volumes on the machine's own file systems: sparse layers, snapshots, clones.
//!
//! Entry points: [`Pool::open`], then [`Pool::volume`]; and [`files`] for file volumes,
//! [`archive`] for their trees as streams. The files are
//! described in docs/formats/store.md and docs/formats/files.md.
//!
//! Invariant: what a flush has answered survives power loss; what it has not may be lost, but is
//! never torn below a 512-byte block and never invented. Nothing here spawns a task, sets a timer,
//! or touches a file except through `env` ([`files`] is the kernel's own, and asks it directly); a future is driven to its end once it was polled,
//! because a dropped one leaves operations running that nobody waits for.
#![allow(unexpected_cfgs, reason = "cfg(fuzzing) is set by the fuzz targets' builds alone")]

mod acl;
pub mod archive;
mod error;
mod fields;
pub mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod group_commit;
pub mod image;
mod layer;
mod map;
mod pool;
pub mod probe;
mod range_lock;
mod record;
mod space;
mod stack;
mod tree;
mod volume;

use model::node::DiskFormat;

pub use error::StoreError;
pub use pool::{Pool, Progress, SnapshotInfo, VolumeInfo};
pub use volume::{Sanitize, SanitizeMethod, SanitizeOrder, Volume};

/// What this program reads of what is on the disk. A form that it reads no more is no upgrade for
/// a node that may have it.
#[must_use]
pub fn disk_formats() -> Vec<DiskFormat> {
    vec![
        DiskFormat::new("the records of block volumes", &[record::VERSION.into()]),
        DiskFormat::new("the maps of block volumes", &[map::VERSION.into()]),
        DiskFormat::new("the records of file volumes", &files::record::VERSIONS.map(u32::from)),
        DiskFormat::new(
            "the tables of ids that files had elsewhere",
            &[files::carried::VERSION.into()],
        ),
    ]
}
