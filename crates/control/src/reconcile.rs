//! The loop that brings the node to what the catalog wants.
//!
//! ```text
//!  a request commits --wake--> pass: desired -> plan -> steps not running and due
//!          ^                                              | each in a task of its own
//!          |                                              v
//!   GET sees the outcome <-- one transaction <-- orders to the node; failures pause and grow
//! ```
//!
//! After a crash the same pass finds the same transient states and sends the same orders.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::attachment::AttachmentState;
use model::id::{PoolId, VolumeId};
use model::operation::Operation;
use model::snapshot::Snapshot;
use model::volume::Volume;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::board::{Claim, Step};
use crate::catalog::{self, AttachmentRecord, Connection, Query};
use crate::error::Result;
use crate::facade::{Control, Inner};
use crate::lost;
use crate::plan::{Desired, plan};
use crate::schedule;
use crate::work::Outcome;

/// How long nothing is looked at when nothing is due: a net below the wake-ups.
const IDLE_PAUSE: Duration = Duration::from_secs(30);
/// A step may be due and still held up by another: the loop must not spin until that one ends,
/// which wakes it anyway.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// How often old events are looked for.
const FORGET_PAUSE: Duration = Duration::from_secs(60 * 60);
/// How soon a pass that could not read the catalog is tried again.
const CATALOG_PAUSE: Duration = Duration::from_secs(1);

const TRANSIENT_VOLUMES: &[&str] =
    &["creating", "extending", "shrinking", "reverting", "moving", "exporting", "deleting"];

impl Control {
    /// Begin the work in the background: everything that a crash left half done, then whatever
    /// requests ask for. It ends when the last clone of this `Control` is gone.
    pub fn start(&self) {
        tokio::spawn(run(Arc::downgrade(&self.inner)));
        tokio::spawn(forget(Arc::downgrade(&self.inner)));
        tokio::spawn(schedule::run(Arc::downgrade(&self.inner)));
        self.inner.watch_all();
    }

    /// Bring the node to what is wanted as far as it goes now: steps that fail are left to the
    /// loop. For start-up, and for whoever has no loop.
    ///
    /// # Errors
    /// The catalog failed.
    pub async fn reconcile(&self) -> Result<()> {
        loop {
            let begun = self.inner.pass().await?;
            if begun.is_empty() {
                self.inner.idle().await;
                // What others ended in the meantime may have made new steps possible.
                let begun = self.inner.pass().await?;
                if begun.is_empty() {
                    return Ok(());
                }
                join(begun).await;
            } else {
                join(begun).await;
            }
        }
    }

    /// Begin no new step and wait for those that run: the node may be stopped then, and its last
    /// notices can still be recorded. Whoever must not wait for a node that hangs puts a time
    /// limit on this: what is left undone is done at the next start.
    pub async fn end_steps(&self) {
        self.inner.board.stop();
        self.inner.idle().await;
    }

    /// Let go of the catalog. Requests fail from here on.
    pub async fn close(&self) {
        self.inner.catalog.close().await;
    }
}

async fn join(begun: Vec<JoinHandle<()>>) {
    for task in begun {
        if let Err(error) = task.await {
            tracing::error!(%error, "a step broke off");
        }
    }
}

async fn run(inner: Weak<Inner>) {
    loop {
        // The strong reference lives for one pass only, so that the loop keeps nobody alive.
        let Some(control) = inner.upgrade() else { return };
        if control.board.is_stopped() {
            return;
        }
        let next = match control.pass().await {
            Ok(_tasks) => control.board.next_due().map_or(IDLE_PAUSE, until),
            Err(error) => {
                tracing::warn!(%error, "the catalog could not be read; trying again");
                CATALOG_PAUSE
            }
        };
        let wake = Arc::clone(&control.wake);
        drop(control);
        // A dropped `Control` wakes the loop, which then finds it gone.
        let _woken_or_due =
            tokio::time::timeout(next.clamp(SHORTEST_PAUSE, IDLE_PAUSE), wake.notified()).await;
    }
}

/// Forget old events, now and then. It ends with the last clone of the `Control`, too.
async fn forget(inner: Weak<Inner>) {
    while let Some(control) = inner.upgrade().filter(|control| !control.board.is_stopped()) {
        match control.forget_old_events().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "old events are forgotten"),
            Err(error) => tracing::warn!(%error, "old events could not be forgotten"),
        }
        drop(control);
        tokio::time::sleep(FORGET_PAUSE).await;
    }
}

fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

impl Inner {
    /// One look: begin every step that is wanted, due and not held up.
    async fn pass(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>> {
        let desired = self.desired().await?;
        let steps = plan(&desired, |id| self.board.is_confirmed(id));
        self.board.keep_only(&steps);
        let claims = steps.into_iter().filter_map(|step| self.claim(step, false));
        let begin = |claim: Claim| {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                inner.run_claimed(claim).await;
            })
        };
        Ok(claims.map(begin).collect())
    }

    /// Run one step as soon as nothing holds it up, whatever pause it was in.
    pub(crate) async fn run_now(self: &Arc<Self>, step: Step) -> Outcome {
        let claim = self.claim_soon(step).await;
        self.run_claimed(claim).await
    }

    async fn run_claimed(self: &Arc<Self>, claim: Claim) -> Outcome {
        let outcome = self.perform(&claim).await;
        match &outcome {
            Outcome::Done(_) => self.board.clear(claim.step),
            Outcome::Nothing => self.board.wait(claim.step, CATALOG_PAUSE),
            Outcome::Wait(pause) => self.board.wait(claim.step, *pause),
            Outcome::Retry(error) => {
                tracing::warn!(step = ?claim.step, %error, "a step failed and will be tried again");
                self.board.pause(&claim);
            }
        }
        drop(claim);
        self.wake.notify_one();
        outcome
    }

    /// The file volumes that clients are to have.
    async fn exports(&self, on: &mut Connection) -> Result<Vec<(VolumeId, PoolId)>> {
        let statuses = ["available", "extending", "shrinking"];
        let query = Query::<Volume>::all().eq("kind", "file").one_of("status", statuses);
        let id = |text: &str| catalog::parse_id::<Volume>(text);
        let pairs = catalog::pairs(on, query, "id, pool").await?;
        pairs.iter().map(|(volume, pool)| Ok((VolumeId(id(volume)?), PoolId(id(pool)?)))).collect()
    }

    async fn desired(&self) -> Result<Desired> {
        let mut on = self.catalog.read().await?;
        let volumes = Query::<Volume>::all().one_of("status", TRANSIENT_VOLUMES.iter().copied());
        let snapshots = Query::<Snapshot>::all().one_of("state", ["creating", "deleting"]);
        let operations = Query::<Operation>::all().one_of("state", ["pending", "running"]);
        let all = !self.board.all_confirmed();
        let states: &[&str] = if all {
            &["attaching", "attached", "changing", "detaching", "fencing"]
        } else {
            &["attaching", "changing", "detaching", "fencing"]
        };
        let attachments = Query::<AttachmentRecord>::all().one_of("state", states.iter().copied());
        let mut desired = Desired {
            pools: catalog::select(&mut on, Query::all()).await?,
            volumes: catalog::select(&mut on, volumes).await?,
            snapshots: catalog::select(&mut on, snapshots).await?,
            operations: catalog::select(&mut on, operations).await?,
            ..Desired::default()
        };
        let left = Query::<Volume>::all().eq("left_over", 1_u64);
        desired.left = catalog::select(&mut on, left).await?;
        desired.lost = lost::untold(&mut on).await?.into_iter().map(|lost| lost.volume).collect();
        for record in catalog::select(&mut on, attachments).await? {
            desired.attachments.push(record.attachment);
        }
        if all {
            desired.exports = self.exports(&mut on).await?;
        }
        let is_news = |a: &model::attachment::Attachment| {
            a.state == AttachmentState::Attached && !self.board.is_confirmed(a.id.0)
        };
        let all_served = desired.exports.iter().all(|(id, _)| self.board.is_confirmed(id.0));
        if all && all_served && !desired.attachments.iter().any(is_news) {
            self.board.set_all_confirmed();
        }
        let volumes = desired.attachments.iter().map(|attachment| attachment.volume);
        let of_snapshots = desired.snapshots.iter().map(|snapshot| snapshot.volume);
        for id in volumes.chain(of_snapshots).collect::<Vec<_>>() {
            if desired.pool_of.contains_key(&id) {
                continue;
            }
            if let Some(volume) = catalog::get::<Volume>(&mut on, id.0).await? {
                desired.pool_of.insert(id, volume.pool);
            }
        }
        Ok(desired)
    }
}
