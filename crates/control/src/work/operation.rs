//! Ending operations, and watching those that run by themselves.

use std::time::Duration;

use model::event::EventResult;
use model::id::OperationId;
use model::operation::{Operation, OperationState};
use model::order::OrderError;
use uuid::Uuid;

use super::Outcome;
use crate::caller::Caller;
use crate::catalog::{self, Record, Transaction};
use crate::error::Result;
use crate::facade::Inner;

/// How often running work is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

impl Inner {
    /// One record, by id.
    pub(super) async fn read_one<R: Record>(&self, id: Uuid) -> Result<Option<R>> {
        let mut on = self.catalog.read().await?;
        catalog::get(&mut on, id).await
    }

    /// Give the operation its final state.
    pub(crate) async fn end_operation(
        &self,
        tx: &mut Transaction,
        id: OperationId,
        answer: Result<(), OrderError>,
    ) -> Result<()> {
        let state = match &answer {
            Ok(()) => OperationState::Succeeded,
            Err(OrderError::Cancelled) => OperationState::Cancelled,
            Err(_) => OperationState::Failed,
        };
        self.finish(tx, id, state, answer.err().map(|error| error.to_string())).await
    }

    /// The same, with the reason as people read it.
    pub(crate) async fn finish(
        &self,
        tx: &mut Transaction,
        id: OperationId,
        state: OperationState,
        fault: Option<String>,
    ) -> Result<()> {
        let Some(mut operation) = catalog::get::<Operation>(tx, id.0).await? else {
            return Ok(());
        };
        if operation.state.is_final() {
            return Ok(());
        }
        let is_failed = state == OperationState::Failed;
        let result = if is_failed { EventResult::Failed } else { EventResult::Done };
        operation.state = state;
        operation.fault = fault;
        operation.finished_ms = Some(self.now_ms());
        catalog::update(tx, &operation).await?;
        let action = format!("operation.{}", state.word());
        let detail = operation.fault.clone().unwrap_or_default();
        self.record(tx, &Caller::system(), &operation, &action, result, detail).await
    }

    /// Tell the node until the work has ended: the first time may have come before its start.
    pub(super) async fn cancel_work(&self, id: OperationId) -> Result<Outcome> {
        let Some(operation) = self.read_one::<Operation>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let Some(volume) = operation.subject.volume().filter(|_| !operation.state.is_final())
        else {
            return Ok(Outcome::Nothing);
        };
        self.link_with(volume).await?.cancel(volume).await?;
        Ok(Outcome::Wait(LOOK_PAUSE))
    }

    /// A merge is over when the node has no more work on the volume.
    pub(super) async fn watch_merge(&self, id: OperationId) -> Result<Outcome> {
        let operation = self.read_one::<Operation>(id.0).await?;
        let Some(volume) = operation.and_then(|operation| operation.subject.volume()) else {
            return Ok(Outcome::Nothing);
        };
        let progress = match self.link_with(volume).await {
            Ok(link) => link.progress(volume).await,
            Err(error) => Err(error),
        };
        match progress {
            Ok(Some(_)) => return Ok(Outcome::Wait(LOOK_PAUSE)),
            Ok(None) | Err(OrderError::Missing { .. }) => {}
            Err(error) => return Ok(Outcome::Retry(error.into())),
        }
        let mut tx = self.catalog.begin().await?;
        self.end_operation(&mut tx, id, Ok(())).await?;
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }
}
