//! Clients of a file volume that wait: while the volume moves, to where it is and where it will be.

use env::BlockIo;
use model::export::Terms;
use model::order::{OrderError, Report};

use super::super::{State, failed};

impl State {
    /// See [`model::order::Order::Hold`].
    pub(in crate::orders) async fn hold_files(
        &self,
        io: &dyn BlockIo,
        terms: Terms,
    ) -> Result<Report, OrderError> {
        let volume = terms.volume;
        let mut exports = self.files.exports.lock().await;
        // Before anything changes: a restart from here on serves it no more.
        self.shared.journal.save_held(io, &terms).await.map_err(failed)?;
        self.shared.journal.forget_export(volume).map_err(failed)?;
        exports.held.insert(volume, terms);
        self.end_serving(&mut exports, volume).await?;
        Ok(Report::Done)
    }
}
