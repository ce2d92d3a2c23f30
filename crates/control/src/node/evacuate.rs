//! Evacuation: other nodes take a node's file volumes.

use model::event::EventResult;
use model::node::Node;
use model::user::Role;
use model::volume::VolumeKind;

use super::{NodeView, on_node, uses_of};
use crate::caller::Caller;
use crate::catalog;
use crate::error::{ControlError, Result};
use crate::facade::{Control, resolve};
use crate::links::{LOOK_LIMIT, in_time};

impl Control {
    /// Have other nodes take the file volumes of this one. One that has none is empty already.
    ///
    /// # Errors
    /// Not an admin; no such node; its volumes are used, and it is not forced; there is no other
    /// node.
    pub async fn node_evacuate(
        &self,
        caller: &Caller,
        node: &str,
        force: bool,
    ) -> Result<NodeView> {
        caller.must_be(Role::Admin, "evacuate nodes")?;
        let inner = &self.inner;
        let node: Node = {
            let mut on = inner.catalog.read().await?;
            resolve(&mut on, caller, node).await?
        };
        let counts = match inner.links.to(node.id) {
            Ok(link) => in_time(LOOK_LIMIT, link.client_counts()).await.unwrap_or_default(),
            Err(_) => Default::default(),
        };
        let mut tx = inner.catalog.begin().await?;
        let of_files = on_node(&mut tx, node.id).await?.eq("kind", VolumeKind::File.word());
        let volumes = catalog::count(&mut tx, of_files).await?;
        let clients = counts.values().sum();
        uses_of(&mut tx, &node, clients).await?.allow("evacuated", force)?;
        if volumes > 0 {
            return Err(ControlError::NoOtherNode { node: node.name, volumes });
        }
        let (action, result) = ("node.evacuate", EventResult::Done);
        inner.record(&mut tx, caller, &node, action, result, "it has no file volumes").await?;
        inner.commit(tx).await?;
        self.node_get(caller, &node.id.to_string()).await
    }
}
