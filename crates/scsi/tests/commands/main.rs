//! Conformance of the commands, a table for each family, and properties that hold for any bytes.

mod bench;
mod blocks;
mod conflicts;
mod copying;
mod medium;
mod modes;
mod order;
mod primary;
mod properties;
mod reports;
mod sanitize;
mod sense;
