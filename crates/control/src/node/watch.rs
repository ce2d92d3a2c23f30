//! Watching nodes of other machines: do they answer, have they started anew, what did they see.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::attachment::Attachment;
use model::id::{NodeId, VolumeId};
use model::node::{Heard, NoticeMark};
use model::order::Notice;
use tokio::time::sleep;

use super::on_node;
use crate::catalog::{self, AttachmentRecord, DoorRecord, Query};
use crate::error::Result;
use crate::facade::Inner;

/// Between two looks at a node.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Before notices are asked for again after a failure.
const NOTICES_PAUSE: Duration = Duration::from_secs(5);

impl Inner {
    /// Look at a node of another machine from now on, until it is forgotten.
    pub(super) fn watch(self: &Arc<Self>, node: NodeId) {
        tokio::spawn(look(Arc::downgrade(self), node));
        tokio::spawn(listen(Arc::downgrade(self), node));
    }

    /// Watch all of them.
    pub(crate) fn watch_all(self: &Arc<Self>) {
        let local = self.links.local();
        for node in self.linked_nodes().into_iter().filter(|node| Some(*node) != local) {
            self.watch(node);
        }
    }

    /// Up to where the node's notices are recorded.
    async fn mark_of(&self, node: NodeId) -> NoticeMark {
        let read = async {
            let mut on = self.catalog.read().await?;
            catalog::get::<DoorRecord>(&mut on, node.0).await
        };
        let door = read.await.ok().flatten();
        door.map_or_else(NoticeMark::default, |door| door.mark)
    }

    /// Make events of what was heard. How far that goes is noted in the same transaction, so that a
    /// crash has no notice recorded twice or left out.
    async fn record_heard(&self, node: NodeId, heard: Heard, before: NoticeMark) -> Result<()> {
        if heard.lost {
            tracing::warn!(%node, "notices of a node were not recorded");
        }
        if heard.mark == before {
            return Ok(());
        }
        let is_merged = |notice: &Notice| matches!(notice, Notice::MergeFinished { .. });
        let wakes = heard.notices.iter().any(is_merged);
        let mut tx = self.catalog.begin().await?;
        for notice in heard.notices {
            let event = self.event_of(&mut tx, notice).await?;
            catalog::insert(&mut tx, &event).await?;
        }
        if let Some(mut door) = catalog::get::<DoorRecord>(&mut tx, node.0).await? {
            door.mark = heard.mark;
            catalog::update(&mut tx, &door).await?;
        }
        tx.commit().await?;
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// What the node has confirmed, it does not know any more.
    pub(super) async fn forget_of(&self, node: NodeId) -> Result<()> {
        let mut on = self.catalog.read().await?;
        let pools = super::pools_of(&mut on, node).await?;
        let query = on_node(&mut on, node).await?;
        let volumes = catalog::select(&mut on, query).await?;
        let ids: Vec<VolumeId> = volumes.iter().map(|volume| volume.id).collect();
        let mut attachments: Vec<Attachment> = Vec::new();
        for some in ids.chunks(500) {
            let query = Query::<AttachmentRecord>::all().one_of("volume", some.iter().copied());
            let found = catalog::select(&mut on, query).await?;
            attachments.extend(found.into_iter().map(|record| record.attachment));
        }
        drop(on);
        let of_pools = pools.iter().map(|pool| pool.id.0);
        let of_volumes = ids.iter().map(|id| id.0);
        let of_attachments = attachments.iter().map(|attachment| attachment.id.0);
        for id in of_pools.chain(of_volumes).chain(of_attachments) {
            self.board.renew(id);
        }
        self.wake.notify_one();
        Ok(())
    }
}

/// The control plane, while it goes on and knows the node.
fn alive(inner: &Weak<Inner>, node: NodeId) -> Option<Arc<Inner>> {
    let control = inner.upgrade()?;
    let goes_on = !control.board.is_stopped() && control.links.to(node).is_ok();
    goes_on.then_some(control)
}

async fn look(inner: Weak<Inner>, node: NodeId) {
    let mut was_there = None;
    while let Some(control) = alive(&inner, node) {
        let report = control.report_of(node).await;
        match (&report, was_there) {
            (Err(error), None | Some(true)) => {
                tracing::warn!(%node, %error, "a node does not answer");
            }
            (Ok(_), Some(false)) => tracing::info!(%node, "a node answers again"),
            _ => {}
        }
        if report.is_ok()
            && was_there != Some(true)
            && let Err(error) = control.tell_soon(node).await
        {
            tracing::warn!(%node, %error, "what was lost with a node could not be read");
        }
        was_there = Some(report.is_ok());
        if let Ok(report) = report
            && let Err(error) = control.heard_from(node, report).await
        {
            tracing::warn!(%node, %error, "that a node was heard could not be noted");
        }
        drop(control);
        sleep(LOOK_PAUSE).await;
    }
}

/// What the node sees by itself becomes part of the audit trail.
async fn listen(inner: Weak<Inner>, node: NodeId) {
    let mut mark = match inner.upgrade() {
        Some(control) => control.mark_of(node).await,
        None => return,
    };
    while let Some(control) = alive(&inner, node) {
        let Ok(link) = control.links.to(node) else { return };
        drop(control);
        // Nobody is kept alive by waiting.
        let Ok(heard) = link.notices(mark).await else {
            sleep(NOTICES_PAUSE).await;
            continue;
        };
        let Some(control) = inner.upgrade() else { return };
        let next = heard.mark;
        if let Err(error) = control.record_heard(node, heard, mark).await {
            // They are told again: what was recorded, and up to where, is one.
            tracing::warn!(%node, %error, "notices of a node could not be recorded");
            sleep(NOTICES_PAUSE).await;
            continue;
        }
        mark = next;
    }
}
