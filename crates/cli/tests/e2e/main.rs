//! End to end with real peers. A test whose peer is missing says so and ends; the closing line of
//! `cargo xtask test` for the packages tells which could not be installed.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod file_systems;
mod libiscsi;
mod peers;
mod programs;
mod rpcbind;
#[path = "../service/mod.rs"]
mod service;
