//! File volumes on real file systems, as root; without root everything here is skipped, and says
//! so. The suite of [`conformance`] is passed by the file system in memory too.

#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod acls;
mod archive;
mod carried;
mod carried_faults;
mod confinement;
mod conformance;
mod durability;
mod holds;
mod homes;
mod listing;
mod model;
mod permissions;
mod power;
mod quota;
mod races;
mod scale;
mod snapshots;
mod xattrs;
