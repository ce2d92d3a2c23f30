//! What a volume can become: larger, of another type, an earlier self, an image file.

use model::event::EventResult;
use model::host::Host;
use model::operation::{Operation, OperationKind};
use model::order::{Order, OrderError, ReservationView};
use model::pool::Pool;
use model::project::Project;
use model::size::ByteSize;
use model::snapshot::{Snapshot, SnapshotState};
use model::user::Role;
use model::volume::{self, Volume, VolumeKind, VolumeStatus};
use model::volume_type::VolumeType;

use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{Control, invalid, resolve};
use crate::params::{VolumeExport, VolumeRevert, VolumeView};
use crate::pool::has_room;
use crate::volume::{busy, expected, host_names, pool_serves, view, within_quota, within_type};
use crate::volume_type::usable_type;

impl Control {
    /// Make the volume larger, attached or not: initiators see the new size. A file volume may
    /// become smaller too, while it is mounted. Asking for the size that it has, or is getting,
    /// changes nothing.
    ///
    /// # Errors
    /// A reader; a smaller block volume; a file volume that holds more; past the type, a quota or
    /// the pool; other work goes on.
    pub async fn volume_resize(
        &self,
        caller: &Caller,
        volume: &str,
        size: ByteSize,
    ) -> Result<VolumeView> {
        caller.must_be(Role::Member, "resize volumes")?;
        let to = volume::size(size).map_err(invalid("size"))?;
        self.refresh_usage().await;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume: Volume = resolve(&mut tx, caller, volume).await?;
        if to < volume.size && volume.kind() == VolumeKind::File {
            drop(tx);
            return self.shrink(caller, volume, to).await;
        }
        if to < volume.size {
            let (volume, size) = (volume.name, volume.size);
            return Err(ControlError::VolumeShrink { volume, size, asked: to });
        }
        let extending = VolumeStatus::Extending { to };
        let is_there = to == volume.size && volume.status.is_settled();
        if is_there || volume.status == extending {
            return view(&mut tx, volume).await;
        }
        if !volume.status.may_become(&extending) {
            return Err(busy(&volume, "resize"));
        }
        let kind: VolumeType = expected(&mut tx, volume.volume_type.0).await?;
        within_type(&kind, to)?;
        let more = ByteSize(to.0 - volume.size.0);
        let pool: Pool = expected(&mut tx, volume.pool.0).await?;
        has_room(&pool, more)?;
        let project: Project = expected(&mut tx, volume.project.0).await?;
        within_quota(&mut tx, &project, 0, more).await?;
        let detail = format!("from {} to {to}", volume.size);
        volume.status = extending;
        volume.fault = None;
        self.accept(tx, caller, volume, "volume.resize", detail).await
    }

    /// Whether it holds more is asked before, to say so at once; the node looks again.
    async fn shrink(&self, caller: &Caller, known: Volume, to: ByteSize) -> Result<VolumeView> {
        let id = known.id;
        let used = self.inner.file_usage(&known).await.map(|usage| ByteSize(usage.used_bytes));
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume: Volume = expected(&mut tx, id.0).await?;
        let shrinking = VolumeStatus::Shrinking { to };
        if volume.status == shrinking {
            return view(&mut tx, volume).await;
        }
        if to >= volume.size || !volume.status.may_become(&shrinking) {
            return Err(busy(&volume, "resize"));
        }
        if let Ok(used) = used
            && used > to
        {
            return Err(ControlError::BelowUsed { volume: volume.name, used, asked: to });
        }
        let kind: VolumeType = expected(&mut tx, volume.volume_type.0).await?;
        within_type(&kind, to)?;
        let detail = format!("from {} to {to}", volume.size);
        volume.status = shrinking;
        volume.fault = None;
        self.accept(tx, caller, volume, "volume.resize", detail).await
    }

    /// Refuse what clients that have a file volume mounted would notice, unless forced. Asked of
    /// the node before a transaction begins; the node looks again when it carries the order out.
    pub(crate) async fn nobody_is_connected(
        &self,
        caller: &Caller,
        volume: &str,
        force: bool,
        action: &'static str,
    ) -> Result<()> {
        let volume: Volume = {
            let mut on = self.inner.catalog.read().await?;
            resolve(&mut on, caller, volume).await?
        };
        let is_served = volume.kind() == VolumeKind::File && volume.status.is_exported();
        if force || !is_served {
            return Ok(());
        }
        let clients = match self.inner.file_clients(&volume).await {
            // What the node does not have, nobody has mounted.
            Err(OrderError::Missing { .. }) => return Ok(()),
            other => other?,
        };
        if clients.is_empty() {
            return Ok(());
        }
        let clients = clients.into_iter().map(|client| client.address.to_string()).collect();
        Err(ControlError::ClientsConnected { volume: volume.name, clients, action })
    }

    /// Give the volume another type, at once and whole. Multi-attach changes only while at most
    /// one host has it.
    ///
    /// # Errors
    /// A reader; the type is not the project's; it lies in another class of pool; shared now.
    pub async fn volume_retype(
        &self,
        caller: &Caller,
        volume: &str,
        kind: &str,
    ) -> Result<VolumeView> {
        caller.must_be(Role::Member, "retype volumes")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume: Volume = resolve(&mut tx, caller, volume).await?;
        let new = usable_type(&mut tx, caller, volume.project, kind).await?;
        if new.id == volume.volume_type {
            return view(&mut tx, volume).await;
        }
        if !volume.status.is_settled() {
            return Err(busy(&volume, "retype"));
        }
        let old: VolumeType = expected(&mut tx, volume.volume_type.0).await?;
        let pool: Pool = expected(&mut tx, volume.pool.0).await?;
        pool_serves(&mut tx, volume.project, &pool, &new).await?;
        within_type(&new, volume.size)?;
        if old.multiattach != new.multiattach {
            let attachments = Query::<AttachmentRecord>::all().eq("volume", volume.id);
            let mut attachments = catalog::select(&mut tx, attachments).await?;
            if attachments.len() > 1 {
                let hosts = host_names(&mut tx, volume.id).await?;
                return Err(ControlError::RetypeWhileShared { volume: volume.name, hosts });
            }
            if let Some(record) = attachments.first_mut() {
                record.multiattach = new.multiattach;
                catalog::update(&mut tx, record).await?;
            }
        }
        volume.volume_type = new.id;
        catalog::update(&mut tx, &volume).await?;
        let detail = format!("from '{}' to '{}'", old.name, new.name);
        let (action, result) = ("volume.retype", EventResult::Done);
        self.inner.record(&mut tx, caller, &volume, action, result, detail).await?;
        let view = view(&mut tx, volume).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }

    /// Make the volume's content that of one of its snapshots.
    ///
    /// # Errors
    /// A reader; attached; clients have it mounted, without `force`; not a snapshot of this volume; other work goes on.
    pub async fn volume_revert(
        &self,
        caller: &Caller,
        volume: &str,
        to: VolumeRevert,
    ) -> Result<VolumeView> {
        caller.must_be(Role::Member, "revert volumes")?;
        self.nobody_is_connected(caller, volume, to.force, "reverted").await?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume = self.idle_volume(&mut tx, caller, volume, "reverted", "revert").await?;
        let snapshot: Snapshot = resolve(&mut tx, caller, &to.snapshot).await?;
        if snapshot.volume != volume.id {
            let why = format!("'{}' is a snapshot of another volume", snapshot.name);
            return Err(ControlError::Invalid { field: "snapshot", why });
        }
        if snapshot.state != SnapshotState::Available {
            return Err(ControlError::SnapshotBusy {
                snapshot: snapshot.name,
                state: snapshot.state.word(),
                action: "revert to",
            });
        }
        volume.status = VolumeStatus::Reverting { to: snapshot.id };
        if let Some(export) = &mut volume.export {
            export.evict = to.force;
        }
        volume.fault = None;
        let detail = format!("to snapshot '{}'", snapshot.name);
        self.accept(tx, caller, volume, "volume.revert", detail).await
    }

    /// Write the volume's content to an image file on the node: an operation.
    ///
    /// # Errors
    /// A reader; attached; a path that the caller may not name; other work goes on.
    pub async fn volume_export(
        &self,
        caller: &Caller,
        volume: &str,
        export: VolumeExport,
    ) -> Result<Operation> {
        caller.must_be(Role::Member, "export volumes")?;
        let path = self.inner.image_path(caller, &export.path)?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume = self.idle_volume(&mut tx, caller, volume, "exported", "export").await?;
        must_be(&volume, VolumeKind::Block, "export to an image file")?;
        let detail = format!("to '{path}'");
        let kind = OperationKind::ExportImage { path, format: export.format };
        let operation = self.inner.new_operation(&mut tx, caller, &volume, kind).await?;
        volume.status = VolumeStatus::Exporting { operation: operation.id };
        volume.fault = None;
        self.accept(tx, caller, volume, "volume.export", detail).await?;
        Ok(operation)
    }

    /// Registrants, holder, generation and history, as the node sees them now.
    ///
    /// # Errors
    /// No such volume; the node cannot be reached.
    pub async fn volume_reservations(
        &self,
        caller: &Caller,
        volume: &str,
    ) -> Result<ReservationView> {
        let volume: Volume = {
            let mut on = self.inner.catalog.read().await?;
            resolve(&mut on, caller, volume).await?
        };
        let mut view = self.inner.link_at(volume.pool).await?.reservations(volume.id).await?;
        // The node knows the name that a host had when it was let in.
        let mut on = self.inner.catalog.read().await?;
        for registrant in &mut view.registrants {
            let Some(id) = registrant.host else { continue };
            if let Some(host) = catalog::get::<Host>(&mut on, id.0).await? {
                registrant.host_name = Some(host.name);
            }
        }
        Ok(view)
    }

    /// The operator's way out: clear all registrations and the reservation. Audited, whatever
    /// comes of it.
    ///
    /// # Errors
    /// Not an admin; no such volume; the node could not.
    pub async fn volume_reservations_clear(&self, caller: &Caller, volume: &str) -> Result<()> {
        caller.must_be(Role::Admin, "clear reservations")?;
        let volume: Volume = {
            let mut on = self.inner.catalog.read().await?;
            resolve(&mut on, caller, volume).await?
        };
        let cleared =
            self.inner.order_at(volume.pool, Order::ClearReservations { volume: volume.id }).await;
        let mut tx = self.inner.catalog.begin().await?;
        let (result, detail) = match &cleared {
            Ok(_) => (EventResult::Done, String::new()),
            Err(error) => (EventResult::Failed, error.to_string()),
        };
        let action = "volume.reservations_clear";
        self.inner.record(&mut tx, caller, &volume, action, result, detail).await?;
        self.inner.commit(tx).await?;
        cleared?;
        Ok(())
    }

    /// A volume that no host has and nothing is done to.
    async fn idle_volume(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &str,
        done_to: &'static str,
        action: &'static str,
    ) -> Result<Volume> {
        let volume: Volume = resolve(tx, caller, volume).await?;
        let hosts = host_names(tx, volume.id).await?;
        if !hosts.is_empty() {
            let volume = volume.name;
            return Err(ControlError::VolumeInUse { volume, hosts, action: done_to });
        }
        if volume.status == VolumeStatus::Available {
            Ok(volume)
        } else {
            Err(busy(&volume, action))
        }
    }

    /// Note the new status and the event, and have the work begun.
    async fn accept(
        &self,
        mut tx: Transaction,
        caller: &Caller,
        volume: Volume,
        action: &str,
        detail: String,
    ) -> Result<VolumeView> {
        catalog::update(&mut tx, &volume).await?;
        let result = EventResult::Accepted;
        self.inner.record(&mut tx, caller, &volume, action, result, detail).await?;
        let view = view(&mut tx, volume).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }
}
