//! iSCSI (RFC 7143) at error recovery level 0: the target's and the initiator's side of one
//! connection, as machines without sockets.
//!
//! Entry points: [`target::Connection`] and [`initiator::Initiator`]. Both take received bytes and
//! give events and bytes to send; the shell around them owns the socket, the time and the work.
//!
//! Invariant: bytes and values in, bytes and values out. No socket, no clock, no async, no lock;
//! nothing that a peer sends makes this crate panic or hold more memory than its settings allow.

pub mod chap;
pub mod digest;
pub mod initiator;
pub mod keys;

pub mod name;
pub mod outbox;
pub mod pdu;
pub mod target;
