//! What nodes do with themselves.

use model::event::EventResult;
use model::id::{NodeId, OperationId};
use model::node::Node;
use model::operation::{Operation, OperationKind, OperationState};

use super::{Outcome, is_final};
use crate::board::Claim;
use crate::caller::Caller;
use crate::catalog::{self, Transaction};
use crate::error::Result;
use crate::facade::Inner;

impl Inner {
    /// Have the node start its file service anew. Sent again after a crash, it finds that the
    /// service has started meanwhile, and is done.
    pub(super) async fn restart_node(&self, id: OperationId, claim: &Claim) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut operation) = catalog::get::<Operation>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let OperationKind::RestartNode { after } = operation.kind else {
            return Ok(Outcome::Nothing);
        };
        if operation.state.may_become(OperationState::Running) {
            operation.state = OperationState::Running;
            catalog::update(&mut tx, &operation).await?;
        }
        tx.commit().await?;
        let Some(node) = operation.subject.node() else { return Ok(Outcome::Nothing) };
        let answer = match self.links.to(node) {
            Ok(link) => link.restart_files(after).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Err(error) if !is_final(&error, claim) => return Ok(Outcome::Retry(error.into())),
            answer => answer,
        };
        let mut tx = self.catalog.begin().await?;
        let what = answer.as_ref().map(|boot| format!("its file service serves, start {boot}"));
        self.node_event(&mut tx, node, "node.restart", what).await?;
        self.end_operation(&mut tx, id, answer.map(drop)).await?;
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }

    /// How something that a node was asked to do with itself has ended.
    pub(crate) async fn node_event(
        &self,
        tx: &mut Transaction,
        node: NodeId,
        action: &str,
        what: Result<String, &(impl std::fmt::Display + Sync)>,
    ) -> Result<()> {
        let Some(node) = catalog::get::<Node>(tx, node.0).await? else { return Ok(()) };
        let (result, detail) = match what {
            Ok(detail) => (EventResult::Done, detail),
            Err(error) => (EventResult::Failed, error.to_string()),
        };
        self.record(tx, &Caller::system(), &node, action, result, detail).await
    }
}
