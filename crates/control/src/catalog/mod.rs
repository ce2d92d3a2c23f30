//! The catalog: what is wanted, durable.
//!
//! Entry points: [`Catalog`] opens it and begins transactions; [`record`] reads and writes
//! records; [`query`] says which. `sqlite` is the one dialect so far and the only file that
//! names a database: another one comes as a file and a migrations folder beside it.
//!
//! Invariant: a write transaction holds the one writer connection, so nothing but the catalog
//! is awaited inside it.

pub(crate) mod query;
pub(crate) mod record;
mod sqlite;
mod tables;

pub(crate) use query::Query;
pub(crate) use record::{
    Record, count, delete, delete_all, fact, get, insert, least, names, pairs, parse_id, select,
    set_fact, sum, update, words,
};
pub use sqlite::catalog_formats;
pub(crate) use sqlite::{Catalog, Connection, Transaction};
pub(crate) use tables::{
    AgentRecord, AttachmentRecord, DoorRecord, GrantRecord, GroupRecord, LostPlace, LostRecord,
    TokenRecord, pool_place,
};
