//! A simulated world for what must survive anything: crashes, full disks, lost packets.
//!
//! Entry point: [`disk::Disk`], which stands in for block I/O and files. The scenarios and their
//! checkers are this crate's tests.
//!
//! Invariant: a seed names one run. Nothing here asks the machine for time, random or I/O.

pub mod disk;
