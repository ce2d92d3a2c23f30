//! Clients' durable records: who may reclaim after a restart of the server (RFC 8881 8.4.2.1).
//!
//! A record is written when a client is confirmed, before that is answered, and taken away before
//! anything is granted that the client's state stood against. So after a restart a record means:
//! nobody was given what this client may reclaim. A client that has held nothing for a while has
//! no record either, so that nobody waits for it; it gets one again with its next open.

use bytes::Bytes;

use super::Shared;
use crate::xdr::{XdrError, from_bytes, to_bytes, xdr_struct};

/// The layout of a record; a reader of another refuses it.
pub const LAYOUT: u32 = 1;

xdr_struct! {
    /// One client that may have opens and locks.
    pub struct ClientRecord {
        /// The name that the client gives itself (`co_ownerid`), unchanged by its restarts.
        pub owner: Bytes,
        /// The client speaks NFSv4.0 and never says that it has reclaimed all.
        pub minor_zero: bool,
    }
}

impl ClientRecord {
    /// The bytes to keep; the shell adds what finds them damaged.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        to_bytes(&(LAYOUT, self.clone()))
    }
    /// # Errors
    /// These are no record of this layout.
    pub fn decode(bytes: Bytes) -> Result<Self, XdrError> {
        let (layout, record) = from_bytes::<(u32, Self)>(bytes)?;
        if layout == LAYOUT { Ok(record) } else { Err(XdrError::BadValue) }
    }
}

/// What has to be durable before anything that came after it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    Store(ClientRecord),
    /// The record of the client of this name.
    Remove(Bytes),
}

/// A record could not be written or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the record of a client could not be made durable")]
pub struct RecordError;

/// Where the shell keeps the records. What [`ClientRecords::store`] and [`ClientRecords::remove`]
/// do is done when they return, and doing it again changes nothing.
pub trait ClientRecords {
    /// Runs this while no other thread runs such a thing: two that wrote side by side could bring
    /// back a record that one of them has just taken away.
    ///
    /// # Errors
    /// Those of `settle`.
    fn alone(&self, settle: &mut dyn FnMut() -> Result<(), RecordError>)
    -> Result<(), RecordError>;
    /// # Errors
    /// It is not durable.
    fn store(&self, record: &ClientRecord) -> Result<(), RecordError>;
    /// # Errors
    /// It may still be there after a restart.
    fn remove(&self, owner: &Bytes) -> Result<(), RecordError>;
}

/// Makes durable what the state wants to be so.
///
/// # Errors
/// Something is not; it stays pending, and nothing that came after it may be answered.
pub fn settle(state: &dyn Shared, records: &dyn ClientRecords) -> Result<(), RecordError> {
    if state.with(|state| state.is_settled()) {
        return Ok(());
    }
    records.alone(&mut || {
        // Read anew: who was alone before may have done it all.
        let (effects, mark) = state.with(|state| state.pending());
        for effect in &effects {
            match effect {
                Effect::Store(record) => records.store(record)?,
                Effect::Remove(owner) => records.remove(owner)?,
            }
        }
        state.with(|state| state.settled(mark));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_what_it_wrote_and_nothing_else() {
        let record = ClientRecord { owner: Bytes::from_static(b"client"), minor_zero: true };
        let bytes = record.encode();
        assert_eq!(ClientRecord::decode(bytes.clone()), Ok(record));
        assert_eq!(ClientRecord::decode(bytes.slice(..8)), Err(XdrError::Short));
        let mut other = bytes.to_vec();
        other[3] = 2;
        assert_eq!(ClientRecord::decode(other.into()), Err(XdrError::BadValue));
    }
}
