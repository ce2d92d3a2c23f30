//! Records of clients beside a file system in memory: neither outlives the process.

use bytes::Bytes;

use crate::v4::state::{ClientRecord, ClientRecords, RecordError};

/// Keeps nothing, so that a start knows no client of before, as it knows no file.
#[derive(Debug)]
pub struct Forgotten;

impl ClientRecords for Forgotten {
    fn alone(
        &self,
        settle: &mut dyn FnMut() -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        settle()
    }
    fn store(&self, _: &ClientRecord) -> Result<(), RecordError> {
        Ok(())
    }
    fn remove(&self, _: &Bytes) -> Result<(), RecordError> {
        Ok(())
    }
}
