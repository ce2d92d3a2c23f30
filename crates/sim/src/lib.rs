//! A simulated world for what must survive anything: crashes, full disks, lost packets.
//!
//! Entry points: [`disk::Disk`], which stands in for block I/O and files, and [`station::Station`],
//! a whole storage node over that disk and a [`network::Network`], which [`session::Session`]s log in
//! to. The scenarios and their checkers are this crate's tests.
//!
//! Invariant: a seed names one run. Nothing here asks the machine for time, random or I/O.

pub mod disk;
pub mod network;
pub mod session;
pub mod station;
