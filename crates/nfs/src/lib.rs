//! NFS over TCP: XDR, RPC, MOUNT version 3, NFS versions 3 and 4, as machines without sockets.
//!
//! Entry point: [`server::answer`], a call's record in and the reply's pieces out. What it needs of
//! files is the trait [`model::file::FileStore`]; what NFSv4 remembers is [`v4::state::State`].
//!
//! Invariant: bytes and values in, bytes and values out. No socket, no clock, no async, no lock;
//! nothing that a peer sends makes this crate panic or hold more memory than its limits allow.
#![deny(clippy::little_endian_bytes)]

pub mod export;
pub mod handle;
pub mod memory;
pub mod mount;
pub mod pseudo;
pub mod replay;
pub mod request;
pub mod rpc;
pub mod rpcbind;
pub mod server;
pub mod v3;
pub mod v4;
pub mod xdr;
