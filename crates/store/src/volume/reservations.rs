//! The reservation state of a volume: one atomic record, opaque here.

use env::BlockIo;

use super::Volume;
use crate::error::StoreError;
use crate::record::{Kind, Record};

impl Volume {
    /// The record that was last saved, or `None` when none ever was.
    ///
    /// The file is made together with the volume, so its absence is damage, never `None`.
    ///
    /// # Errors
    /// `Corrupt` when the record is gone or unreadable, `Io`.
    pub async fn load_reservations(&self, io: &dyn BlockIo) -> Result<Option<Vec<u8>>, StoreError> {
        self.layers()?;
        let mut open = self.reservations.lock().await;
        let (record, payload) = self.open_reservations(io).await?;
        *open = Some(record);
        Ok((!payload.is_empty()).then_some(payload))
    }

    /// Replace the record; durable when this returns. After a crash it is this one or the one
    /// before, never neither. An unreadable record is replaced.
    ///
    /// # Errors
    /// `Io`, `NoSpace`: the durable record is then the old one or this one.
    pub async fn save_reservations(
        &self,
        io: &dyn BlockIo,
        record: &[u8],
    ) -> Result<(), StoreError> {
        self.layers()?;
        let names = &*self.shared.names;
        let mut open = self.reservations.lock().await;
        if open.is_none() {
            match self.open_reservations(io).await {
                Ok((found, _)) => *open = Some(found),
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match open.as_mut() {
            Some(file) => file.write(names, io, record).await,
            None => {
                let path = self.shared.reservations_path(self.id);
                *open = Some(Record::create(names, io, &path, Kind::Reservations, record).await?);
                Ok(())
            }
        }
    }

    async fn open_reservations(&self, io: &dyn BlockIo) -> Result<(Record, Vec<u8>), StoreError> {
        let path = self.shared.reservations_path(self.id);
        if !self.shared.names.exists(&path) {
            return Err(StoreError::corrupt(
                format!("the reservation record of volume {}", self.id),
                "the file is gone",
            ));
        }
        Record::open(&*self.shared.names, io, &path, Kind::Reservations).await
    }
}
