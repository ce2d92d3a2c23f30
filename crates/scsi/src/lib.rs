//! SCSI primary (SPC) and block (SBC) commands, and persistent reservations: pure machines.
//!
//! Entry points: [`logical_unit`] (the fixed order in which every command is judged),
//! [`reservations`] (the state machine), [`command::Command`] (what is left for the shell to do).
//!
//! Invariant: values in, values out. No socket, no clock, no async, no lock. Knows neither iSCSI
//! sessions nor volumes; of iSCSI it knows only how SPC writes an initiator port's name.
#![deny(clippy::little_endian_bytes)]

pub mod command;
pub mod conflict;
pub mod nexus;
pub mod reservations;
pub mod sense;
pub mod transport_id;
pub mod unit;
pub mod unit_attention;
