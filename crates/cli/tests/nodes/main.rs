//! A node's file service is started anew, and its daemon is replaced, under clients that have
//! files open and locked and hosts that have disks: they go on, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

mod restart;
mod stage;
mod upgrade;
