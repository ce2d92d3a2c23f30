//! Carrying out steps: read what is wanted, send the order, note what came of it.
//!
//! Every step has the same shape, so that a crash between any two lines is harmless: the order is
//! idempotent, and the note is written only if the resource still waits for exactly this.

mod attachment;
mod evacuate;
mod export;
mod lost;
mod moves;
mod node;
mod operation;
mod pool;
mod snapshot;
mod volume;

pub(crate) use volume::drop_hidden;

use std::sync::Arc;
use std::time::Duration;

use model::order::{OrderError, Report};

use crate::board::{Claim, Step};
use crate::error::{ControlError, Result};
use crate::facade::Inner;

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Carried out, or given up with a final state; both are noted.
    Done(Option<Report>),
    /// Nobody asks for it any more.
    Nothing,
    /// It goes on by itself; look again after this pause.
    Wait(Duration),
    /// It is to be tried again.
    Retry(ControlError),
}

/// Tries of an order that the node fails at, before the resource goes to error. A node that
/// cannot be reached is waited for without end.
const TRIES_MAX: u32 = 6;

/// Is there no sense in trying again?
fn is_final(error: &OrderError, claim: &Claim) -> bool {
    match error {
        OrderError::Unreachable { .. } => false,
        OrderError::Failed { .. } => claim.failures + 1 >= TRIES_MAX,
        OrderError::Missing { .. }
        | OrderError::Refused { .. }
        | OrderError::NoSpace { .. }
        | OrderError::BadImage { .. }
        | OrderError::Cancelled => true,
    }
}

impl Inner {
    /// Carry out a step.
    pub(crate) async fn perform(self: &Arc<Self>, claim: &Claim) -> Outcome {
        let outcome: Result<Outcome> = match claim.step {
            Step::OpenPool(id) => self.open_pool(id).await,
            Step::ClosePool(id) => self.close_pool(id).await,
            Step::CreateVolume(id) => self.create_volume(id, claim).await,
            Step::DeleteVolume(id) => self.delete_volume(id, claim).await,
            Step::ResizeVolume(id) => self.resize_volume(id, claim).await,
            Step::RevertVolume(id) => self.revert_volume(id, claim).await,
            Step::MoveVolume(id) => self.move_volume(id, claim).await,
            Step::ClearLeft(id) => self.clear_left(id).await,
            Step::Bury(id) => self.bury(id).await,
            Step::ExportVolume(id) => self.export_volume(id, claim).await,
            Step::Export(id) => self.export(id).await,
            Step::CreateSnapshot(id) => self.create_snapshot(id, claim).await,
            Step::DeleteSnapshot(id) => self.delete_snapshot(id, claim).await,
            Step::Attach(id) => self.attach(id, claim).await,
            Step::Detach(id) => {
                self.cut_off(id, model::attachment::AttachmentState::Detaching).await
            }
            Step::Fence(id) => self.cut_off(id, model::attachment::AttachmentState::Fencing).await,
            Step::CancelWork(id) => self.cancel_work(id).await,
            Step::WatchMerge(id) => self.watch_merge(id).await,
            Step::RestartNode(id) => self.restart_node(id, claim).await,
            Step::EvacuateNode(id) => self.evacuate_node(id).await,
        };
        outcome.unwrap_or_else(Outcome::Retry)
    }
}
