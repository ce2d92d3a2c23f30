//! Serving file volumes on the terms that the catalog has.

use model::id::VolumeId;
use model::order::{Order, OrderError, Report};
use model::volume::{Volume, VolumeStatus};

use super::Outcome;
use crate::catalog;
use crate::error::Result;
use crate::export::terms;
use crate::facade::Inner;

/// In front of the fault of a volume that is there and cannot be mounted.
const NOT_SERVED: &str = "it is not served: ";

impl Inner {
    pub(super) async fn export(&self, id: VolumeId) -> Result<Outcome> {
        let Some(volume) = self.read_one::<Volume>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        if !volume.status.is_exported() {
            return Ok(Outcome::Nothing);
        }
        match self.serve(id).await? {
            Ok(()) => Ok(Outcome::Done(None)),
            Err(error) => {
                let mut tx = self.catalog.begin().await?;
                if let Some(mut volume) = catalog::get::<Volume>(&mut tx, id.0).await? {
                    volume.fault = Some(format!("{NOT_SERVED}{error}"));
                    catalog::update(&mut tx, &volume).await?;
                    tx.commit().await?;
                }
                Ok(Outcome::Retry(error.into()))
            }
        }
    }

    /// Is the volume on its way to another node?
    pub(crate) async fn is_moving(&self, id: VolumeId) -> bool {
        let volume = self.read_one::<Volume>(id.0).await.ok().flatten();
        volume.is_some_and(|volume| matches!(volume.status, VolumeStatus::Moving { .. }))
    }

    /// Have the node serve the volume, until it does so on the terms that stand at the end.
    pub(super) async fn serve(&self, id: VolumeId) -> Result<Result<(), OrderError>> {
        loop {
            let sent = {
                let mut on = self.catalog.read().await?;
                match catalog::get::<Volume>(&mut on, id.0).await? {
                    None => None,
                    Some(volume) => terms(&mut on, &volume).await?,
                }
            };
            let Some(sent) = sent else { return Ok(Ok(())) };
            let order = Order::Export { terms: sent.clone() };
            let portals = match self.order_at(sent.pool, order).await {
                Ok(Report::Exported { portals }) => portals,
                Ok(other) => {
                    return Ok(Err(OrderError::Failed { why: format!("it answered {other:?}") }));
                }
                Err(error) => return Ok(Err(error)),
            };
            let mut tx = self.catalog.begin().await?;
            let Some(mut volume) = catalog::get::<Volume>(&mut tx, id.0).await? else {
                return Ok(Ok(()));
            };
            if terms(&mut tx, &volume).await?.as_ref() != Some(&sent) {
                // Changed in the meantime: what was sent is not what is wanted.
                continue;
            }
            if let Some(export) = &mut volume.export {
                export.portals = portals;
            }
            if volume.fault.as_ref().is_some_and(|fault| fault.starts_with(NOT_SERVED)) {
                volume.fault = None;
            }
            catalog::update(&mut tx, &volume).await?;
            tx.commit().await?;
            self.board.confirm(id.0);
            return Ok(Ok(()));
        }
    }

    /// Serve a file volume no more, for work that nobody may be in the way of. Done for a block
    /// volume.
    pub(super) async fn unexport(&self, volume: &Volume) -> Result<(), OrderError> {
        let Some(export) = &volume.export else { return Ok(()) };
        self.board.forget(volume.id.0);
        let order = Order::Unexport { volume: volume.id, evict: export.evict };
        self.order_at(volume.pool, order).await.map(drop)
    }
}
