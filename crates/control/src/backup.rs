//! Backup and restore of file volumes: streams that go through.

use model::event::EventResult;
use model::file::Acls;
use model::snapshot::{Snapshot, SnapshotState};
use model::user::Role;
use model::volume::{Volume, VolumeKind};

use crate::caller::Caller;
use crate::catalog::{self, Query};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{Control, not_found, resolve};
use crate::node_link::Pieces;
use crate::volume::busy;

impl Control {
    /// The tree of a file volume as a tar.zst stream: of one of its snapshots, by name or id, as it
    /// was then; else as it is, while clients go on changing it.
    ///
    /// # Errors
    /// A reader; a block volume; no such snapshot of it, or one that is not whole; the volume is at
    /// other work; the node cannot be reached.
    pub async fn volume_backup(
        &self,
        caller: &Caller,
        volume: &str,
        snapshot: Option<&str>,
    ) -> Result<Pieces> {
        caller.must_be(Role::Member, "back up volumes")?;
        let mut tx = self.inner.catalog.begin().await?;
        let volume: Volume = resolve(&mut tx, caller, volume).await?;
        must_be(&volume, VolumeKind::File, "back up")?;
        if !volume.status.takes_snapshots() {
            return Err(busy(&volume, "back up"));
        }
        let mut name = None;
        if let Some(text) = snapshot {
            let own = Query::<Snapshot>::all().eq("volume", volume.id).null("hidden_for");
            let own = catalog::select(&mut tx, own).await?;
            let is_it = |one: &Snapshot| one.name == text || one.id.to_string() == text;
            let found = own.into_iter().find(is_it);
            let kind = model::event::ResourceKind::Snapshot;
            let found = found.ok_or_else(|| not_found(kind, text))?;
            if found.state != SnapshotState::Available {
                let (snapshot, state) = (found.name, found.state.word());
                return Err(ControlError::SnapshotBusy { snapshot, state, action: "back up" });
            }
            name = Some(found.name);
        }
        let of = name.as_ref().map_or_else(String::new, |name| format!("of snapshot '{name}'"));
        let (action, result) = ("volume.backup", EventResult::Accepted);
        self.inner.record(&mut tx, caller, &volume, action, result, of).await?;
        tx.commit().await?;
        Ok(self.inner.link_at(volume.pool).await?.backup(volume.id, name).await?)
    }

    /// Fill an empty file volume from such a stream; returns when all of it is durable.
    ///
    /// # Errors
    /// A reader; a block volume, or one that is not empty or at other work; the stream is no
    /// archive, breaks off, holds more than the volume may, or an access control list that is to be
    /// kept and cannot be; the node cannot be reached.
    pub async fn volume_restore(
        &self,
        caller: &Caller,
        volume: &str,
        acls: Acls,
        from: Pieces,
    ) -> Result<()> {
        caller.must_be(Role::Member, "restore volumes")?;
        let mut on = self.inner.catalog.read().await?;
        let volume: Volume = resolve(&mut on, caller, volume).await?;
        drop(on);
        must_be(&volume, VolumeKind::File, "restore")?;
        if !volume.status.is_exported() {
            return Err(busy(&volume, "restore"));
        }
        let done = match self.inner.link_at(volume.pool).await {
            Ok(link) => link.restore(volume.id, acls, from).await,
            Err(error) => Err(error),
        };
        let (result, detail) = match &done {
            Ok(()) => (EventResult::Done, String::new()),
            Err(error) => (EventResult::Failed, error.to_string()),
        };
        let mut tx = self.inner.catalog.begin().await?;
        self.inner.record(&mut tx, caller, &volume, "volume.restore", result, detail).await?;
        tx.commit().await?;
        Ok(done?)
    }
}
