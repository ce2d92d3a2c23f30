//! Nodes that came back hear that a volume was given up: they serve it to nobody.

use std::time::Duration;

use model::event::EventResult;
use model::id::VolumeId;
use model::order::{Order, OrderError};
use model::pool::Pool;
use model::volume::VolumeKind;

use super::Outcome;
use crate::caller::Caller;
use crate::catalog::{self, LostPlace, LostRecord};
use crate::error::Result;
use crate::facade::Inner;
use crate::lost;

/// Before a node that is away is tried again. Whoever sees it come back tells us sooner.
const AWAY_PAUSE: Duration = Duration::from_secs(15);
/// The same of one that was heard a moment ago.
const THERE_PAUSE: Duration = Duration::from_secs(1);
impl Inner {
    pub(super) async fn bury(&self, id: VolumeId) -> Result<Outcome> {
        let Some(known) = self.read_one::<LostRecord>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let mut pause = None;
        for place in known.places.iter().filter(|place| !place.told) {
            match self.tell_lost(&known, place).await {
                Ok(()) => self.note_told(id, place).await?,
                Err(error) => {
                    tracing::debug!(volume = %id, node = %place.node_name, %error, "not told yet");
                    let is_there = self.heard(place.node).0;
                    let own = if is_there { THERE_PAUSE } else { AWAY_PAUSE };
                    pause = Some(pause.map_or(own, |other: Duration| other.min(own)));
                }
            }
        }
        Ok(pause.map_or(Outcome::Done(None), Outcome::Wait))
    }

    /// Nobody reaches the volume any more when this is done, and the node's own record of its
    /// orders names it no more. The data stays.
    async fn tell_lost(&self, known: &LostRecord, place: &LostPlace) -> Result<(), OrderError> {
        // A step that began before the volume was given up could still let a host in.
        if known.attachments.iter().any(|attachment| self.board.works_on(attachment.0)) {
            let why = "an earlier order about it is under way".to_owned();
            return Err(OrderError::Unreachable { why });
        }
        if !self.heard(place.node).0 {
            return Err(OrderError::Unreachable { why: "its node is away".to_owned() });
        }
        // There may be nothing to order: that it is there is asked of the node itself.
        self.report_of(place.node).await?;
        let link = self.links.to(place.node)?;
        let volume = known.volume;
        let mut orders = Vec::new();
        if known.kind == VolumeKind::File {
            orders.push(Order::Unexport { volume, evict: true });
        }
        let fence = |attachment: &_| Order::Fence { volume, attachment: *attachment };
        orders.extend(known.attachments.iter().map(fence));
        for order in orders {
            match link.order(order).await {
                // What the node does not have, nobody can reach through it.
                Ok(_) | Err(OrderError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn note_told(&self, id: VolumeId, place: &LostPlace) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut known) = catalog::get::<LostRecord>(&mut tx, id.0).await? else {
            return Ok(());
        };
        let is_kept = catalog::get::<Pool>(&mut tx, place.pool.0).await?.is_some();
        for one in known.places.iter_mut().filter(|one| one.pool == place.pool) {
            one.told = true;
        }
        known.places.retain(|one| one.pool != place.pool || is_kept);
        lost::keep(&mut tx, &known).await?;
        let LostPlace { pool_name, path, node_name, .. } = place;
        let detail = format!(
            "node '{node_name}' is back and serves it to nobody; what is left of it in pool \
             '{pool_name}' ({path}) is not deleted"
        );
        let (action, result) = ("volume.lost_found", EventResult::Done);
        self.record(&mut tx, &Caller::system(), &known, action, result, detail).await?;
        self.commit(tx).await
    }
}
