//! SCSI primary (SPC) and block (SBC) commands, and persistent reservations: pure machines.
//!
//! Entry points: [`logical_unit`] (the fixed order in which every command is judged),
//! [`reservations`] (the state machine), [`command::Command`] (what is left for the shell to do).
//!
//! Invariant: values in, values out. No socket, no clock, no async, no lock. Knows neither iSCSI
//! sessions nor volumes; of iSCSI it knows only how SPC writes an initiator port's name.
#![deny(clippy::little_endian_bytes)]

mod capacity;
pub mod cdb;
pub mod command;
pub mod commands;
pub mod conflict;
pub mod copy;
mod inquiry;
pub mod logical_unit;
mod mode;
pub mod nexus;
pub mod registrants;
mod report;
pub mod reservations;
pub mod sanitize;
pub mod sense;
pub mod transport_id;
pub mod unit;
pub mod unit_attention;
mod vpd;
