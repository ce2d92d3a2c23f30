//! The storage node: portals, workers, logical units, orders and reports.
//!
//! Entry point: [`Node::start`], then [`Node::order`]. Inside, [`unit::LogicalUnit`] is where
//! check and write meet; [`gate`] is what makes a fence provable.
//!
//! Invariant: the node decides nothing that the control plane should decide, and serves from its
//! last orders when nobody gives it new ones. No lock is shared between workers on the road of a
//! read or a write.

pub mod anteroom;
pub mod book;
pub mod budget;
pub mod connection;
pub mod copies;
mod door;
pub mod facts;
pub mod files;
pub mod gate;
pub mod journal;
pub mod metrics;
pub mod nexus;
mod node;
pub mod notice;
mod orders;
mod portal;
mod purse;
pub mod reserve;
mod reset;
pub mod run;
mod sanitize;
mod sockets;
mod throttle;
pub mod unit;
pub mod wire;
pub mod worker;

use model::node::DiskFormat;

pub use facts::facts_of;
pub use node::{Limits, Node, Settings, World};
pub use orders::Pieces;
pub use sockets::{Kept, Purpose, Sockets};
pub use worker::BlockIoFactory;

/// What this program reads of what a node has on its disk.
#[must_use]
pub fn disk_formats() -> Vec<DiskFormat> {
    let mut all = store::disk_formats();
    all.extend([
        DiskFormat::new("reservations", &[scsi::reservations::RECORD_VERSION.into()]),
        DiskFormat::new("the node's last orders", &[journal::FORM]),
        DiskFormat::new("the records of NFS clients", &[nfs::v4::state::RECORD_LAYOUT]),
        DiskFormat::new("the handles that NFS clients keep", &[nfs::handle::LAYOUT]),
    ]);
    all
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The directory of its last orders.
    #[error("the node's own records cannot be used: {0}")]
    Journal(#[source] std::io::Error),
    /// An address to listen on.
    #[error("cannot listen on {address}: {source}; is another daemon running there?")]
    Portal { address: std::net::SocketAddr, source: std::io::Error },
    /// A thread or its runtime.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[source] std::io::Error),
    /// It was told to end while it started.
    #[error("the node was stopped while it started")]
    Stopped,
}
