//! Writes that are never torn: WRITE ATOMIC.
//!
//! ```text
//!   hold the range -> put its old bytes in place again -> note the new ones in a record
//!                  -> write them in place -> flush -> empty the record -> release
//!   opening:          a record that is not empty is written in place, flushed and emptied
//! ```
//!
//! A data file is written in place, and a power cut may leave any part of that; so the bytes stand
//! in a record of their own first, which is replaced whole or not at all. From the moment that it
//! is durable the write will be done, before it the write never was. The old bytes are written
//! first because that takes the space that the range may lack: what fails then has changed nothing.
//!
//! Invariant: a record is emptied durably before its range is released, so that what is found at
//! opening is newer than everything else in its range.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use env::BlockIo;

use super::{BLOCK_BYTES, Volume};
use crate::error::StoreError;
use crate::fields::Fields;
use crate::record::{Kind, Record};
use crate::stack::read_layers;

/// The first byte of a record that says something; one that starts with zero says nothing.
const PENDING: u8 = 1;
/// Bytes that a record has room for from the start, so that noting a write takes no new space.
const PREPARED_BYTES: usize = 256 << 10;

/// The payload of a record: bytes that belong at an offset.
fn encode(offset: u64, data: &[u8]) -> Vec<u8> {
    [&[PENDING][..], &offset.to_be_bytes(), data].concat()
}

/// `None` where nothing is pending.
fn decode(payload: &[u8]) -> Option<(u64, &[u8])> {
    let (flag, rest) = payload.split_first()?;
    let mut fields = Fields(rest);
    Some((fields.u64()?, fields.0)).filter(|_| *flag == PENDING)
}

impl Volume {
    /// Write the parts one after another from `offset`, all of them or none, whatever happens: a
    /// failure, a killed process, a power cut, other writes and reads at the same time. More than
    /// one block is durable when this returns; one block is if `durable`.
    ///
    /// # Errors
    /// Range errors and `NoSpace`: the old content is there. `Io`: that too, or the disk failed
    /// once the write was noted; then the range may be read half done and every later flush fails,
    /// until the volume is opened anew and the write is completed.
    pub async fn write_atomic(
        &self,
        io: &dyn BlockIo,
        offset: u64,
        parts: Vec<Bytes>,
        durable: bool,
    ) -> Result<(), StoreError> {
        let data = Bytes::from(parts.concat());
        let length = data.len() as u64;
        if length <= BLOCK_BYTES {
            // A block is never torn anyway.
            return self.write(io, offset, vec![data], durable).await;
        }
        self.check(offset, length)?;
        let mut record = self.atomic.lock().await;
        let _held = self.ranges.exclusive(offset, length).await;
        let stack = self.layers()?;
        if self.unsettled.load(SeqCst) {
            return Err(self.unsettled_error());
        }
        let old = read_layers(io, &stack.layers, offset, length).await?;
        self.write_locked(io, &stack, offset, old).await?;
        let names = &*self.shared.names;
        let record = match &mut *record {
            Some(record) => record,
            None => record.insert(self.make_record(io).await?),
        };
        self.unsettled.store(true, SeqCst);
        if let Err(error) = record.write(names, io, &encode(offset, &data)).await {
            // It may be durable all the same: only an empty one in its place settles it.
            if record.write(names, io, &[]).await.is_ok() {
                self.unsettled.store(false, SeqCst);
            }
            return Err(error);
        }
        self.being_replaced.fetch_add(1, SeqCst);
        let written = self.write_locked(io, &stack, offset, vec![data]).await;
        self.being_replaced.fetch_add(1, SeqCst);
        written?;
        self.commit_layers(io).await?;
        record.write(names, io, &[]).await?;
        self.unsettled.store(false, SeqCst);
        Ok(())
    }

    /// Do what an atomic write that was cut short has promised. Before anybody has the volume.
    pub(crate) async fn finish_atomic(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        let path = self.shared.atomic_path(self.id);
        if !self.shared.names.exists(&path) {
            return Ok(());
        }
        let names = &*self.shared.names;
        let (mut record, payload) = Record::open(names, io, &path, Kind::AtomicWrite).await?;
        if let Some((offset, data)) = decode(&payload) {
            self.check(offset, data.len() as u64)?;
            let stack = self.layers()?;
            let data = Bytes::copy_from_slice(data);
            self.write_locked(io, &stack, offset, vec![data]).await?;
            self.commit_layers(io).await?;
            record.write(names, io, &[]).await?;
        }
        *self.atomic.lock().await = Some(record);
        Ok(())
    }

    /// Overwrite what atomic writes have left in the record, and settle one that failed halfway:
    /// nothing that it noted is to come back. All of the volume is overwritten already.
    pub(super) async fn blank_atomic(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        let mut open = self.atomic.lock().await;
        let (names, path) = (&*self.shared.names, self.shared.atomic_path(self.id));
        if names.exists(&path) {
            let (mut record, _) = Record::open(names, io, &path, Kind::AtomicWrite).await?;
            let nothing = vec![0; record.payload_bytes_max()];
            record.write(names, io, &nothing).await?;
            record.write(names, io, &nothing).await?;
            *open = Some(record);
        }
        self.unsettled.store(false, SeqCst);
        Ok(())
    }

    /// Both slots are written once, so that they have their space.
    async fn make_record(&self, io: &dyn BlockIo) -> Result<Record, StoreError> {
        let (names, path) = (&*self.shared.names, self.shared.atomic_path(self.id));
        let nothing = vec![0; PREPARED_BYTES + 9];
        let mut record = Record::create(names, io, &path, Kind::AtomicWrite, &nothing).await?;
        record.write(names, io, &nothing).await?;
        Ok(record)
    }

    pub(super) fn unsettled_error(&self) -> StoreError {
        StoreError::corrupt(
            format!("volume {}", self.id),
            "an atomic write failed halfway; it is completed when the volume is opened anew",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_empty_or_zero_says_that_nothing_is_pending() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0; 20]), None);
        assert_eq!(decode(&[PENDING; 5]), None);
        assert_eq!(decode(&encode(512, b"new")), Some((512, &b"new"[..])));
    }
}
