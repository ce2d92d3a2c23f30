//! Watching nodes of other machines: do they answer, have they started anew, what did they see.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::attachment::Attachment;
use model::id::{NodeId, VolumeId};
use model::node::NoticeMark;
use tokio::time::sleep;

use super::on_node;
use crate::catalog::{self, AttachmentRecord, DoorRecord, Query};
use crate::error::Result;
use crate::facade::{Control, Inner};

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

    async fn note_mark(&self, node: NodeId, mark: NoticeMark) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        if let Some(mut door) = catalog::get::<DoorRecord>(&mut tx, node.0).await? {
            door.mark = mark;
            catalog::update(&mut tx, &door).await?;
        }
        // No wake: what was heard asks for no work.
        tx.commit().await?;
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
    let mut was_there = true;
    while let Some(control) = alive(&inner, node) {
        let report = control.report_of(node).await;
        match (&report, was_there) {
            (Err(error), true) => tracing::warn!(%node, %error, "a node does not answer"),
            (Ok(_), false) => tracing::info!(%node, "a node answers again"),
            _ => {}
        }
        was_there = report.is_ok();
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
        let Some(inner) = inner.upgrade() else { return };
        let control = Control { inner };
        if heard.lost {
            tracing::warn!(%node, "notices of a node were not recorded");
        }
        for notice in heard.notices {
            if let Err(error) = control.notice(notice).await {
                tracing::warn!(%node, %error, "a notice of a node could not be recorded");
            }
        }
        if heard.mark != mark
            && let Err(error) = control.inner.note_mark(node, heard.mark).await
        {
            tracing::warn!(%node, %error, "how far a node was heard could not be noted");
        }
        mark = heard.mark;
    }
}
