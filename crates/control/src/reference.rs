//! References: named uses of file volumes, which keep them from being deleted.
//!
//! Everything here may be done again: a reference that is there is seen once more, one that is
//! gone is gone already.

use model::event::EventResult;
use model::id::{ProjectId, ReferenceId};
use model::reference::{Reference, ReferenceKind};
use model::text;
use model::user::Role;
use model::volume::{Volume, VolumeKind, VolumeStatus};
use uuid::Uuid;

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{Control, invalid, listed_project, project_for, resolve, valid_name};
use crate::page::Page;
use crate::params::{ReferenceCreate, ReferenceFilter, ReferenceView};
use crate::volume::busy;

/// The references of a volume, as a sentence names them.
pub(crate) async fn names_of(on: &mut Connection, volume: &Volume) -> Result<Vec<String>> {
    let query = Query::<Reference>::all().eq("volume", volume.id);
    let references = catalog::select(on, query).await?;
    Ok(references.iter().map(|one| format!("{} '{}'", one.kind.word(), one.name)).collect())
}

/// Refuse what nobody who uses the volume may notice.
pub(crate) async fn nobody_uses(
    on: &mut Connection,
    volume: &Volume,
    action: &'static str,
) -> Result<()> {
    let references = names_of(on, volume).await?;
    if references.is_empty() {
        return Ok(());
    }
    let volume = volume.name.clone();
    Err(ControlError::VolumeReferenced { volume, references, action })
}

/// The volume is gone without its users' doing: what used it is a reservation of its name.
pub(crate) async fn outlive(tx: &mut Transaction, volume: &Volume) -> Result<()> {
    let query = Query::<Reference>::all().eq("volume", volume.id);
    for mut one in catalog::select(tx, query).await? {
        one.volume = None;
        catalog::update(tx, &one).await?;
    }
    Ok(())
}

/// A file volume has this name from now on: its references go along, and reservations of the name
/// become references.
pub(crate) async fn take_name(tx: &mut Transaction, volume: &Volume) -> Result<()> {
    let own = Query::<Reference>::all().eq("volume", volume.id);
    let reserved = Query::<Reference>::all()
        .eq("project", volume.project)
        .eq("volume_name", volume.name.as_str())
        .null("volume");
    let mut own = catalog::select(tx, own).await?;
    for mut reserved in catalog::select(tx, reserved).await? {
        let same = |one: &Reference| one.kind == reserved.kind && one.name == reserved.name;
        if own.iter().any(same) {
            // Who reserved the name has the volume under its old one.
            catalog::delete::<Reference>(tx, reserved.id.0).await?;
        } else {
            reserved.volume = Some(volume.id);
            catalog::update(tx, &reserved).await?;
        }
    }
    own.retain(|one| one.volume_name != volume.name);
    for mut one in own {
        one.volume_name.clone_from(&volume.name);
        catalog::update(tx, &one).await?;
    }
    Ok(())
}

/// The file volume that a text means; `None` when there is none of that name.
async fn file_volume(
    on: &mut Connection,
    caller: &Caller,
    project: ProjectId,
    text: &str,
) -> Result<Option<Volume>> {
    if Uuid::parse_str(text.trim()).is_ok() {
        return resolve::<Volume>(on, caller, text).await.map(Some);
    }
    let named = Query::<Volume>::all().eq("project", project).eq("name", text.trim());
    let mut named = catalog::select(on, named).await?;
    match named.iter().position(|volume| volume.kind() == VolumeKind::File) {
        Some(at) => Ok(Some(named.swap_remove(at))),
        // A block volume of that name is what was meant, and it has no references.
        None => Ok(named.pop()),
    }
}

impl Control {
    fn reference_view(&self, reference: Reference) -> ReferenceView {
        let now_ms = self.inner.now_ms();
        ReferenceView {
            age_ms: now_ms.saturating_sub(reference.created_ms),
            last_seen_age_ms: now_ms.saturating_sub(reference.last_seen_ms),
            reference,
        }
    }

    /// Note a use of a file volume, or of the one that will have this name. A use that is noted
    /// already has been seen just now.
    ///
    /// # Errors
    /// A reader; a bad value; a block volume; the volume is on its way out.
    pub async fn reference_create(
        &self,
        caller: &Caller,
        new: ReferenceCreate,
    ) -> Result<ReferenceView> {
        caller.must_be(Role::Member, "create references")?;
        let name = valid_name(&new.name)?;
        let mut tx = self.inner.catalog.begin().await?;
        let project = project_for(&mut tx, caller, new.project.as_deref()).await?;
        let volume = file_volume(&mut tx, caller, project.id, &new.volume).await?;
        let (project, volume_name) = match &volume {
            Some(volume) => {
                must_be(volume, VolumeKind::File, "refer to")?;
                if volume.status == VolumeStatus::Deleting {
                    return Err(busy(volume, "refer to"));
                }
                (volume.project, volume.name.clone())
            }
            None => {
                let name = text::file_volume_name(&new.volume).map_err(invalid("volume"))?;
                (project.id, name)
            }
        };
        let now_ms = self.inner.now_ms();
        let there = Query::<Reference>::all()
            .eq("project", project)
            .eq("volume_name", volume_name.as_str())
            .eq("kind", new.kind.word())
            .eq("name", name.as_str());
        if let Some(mut there) = catalog::select(&mut tx, there).await?.pop() {
            there.last_seen_ms = now_ms;
            catalog::update(&mut tx, &there).await?;
            // No event: it says no more than that the holder lives.
            self.inner.commit(tx).await?;
            return Ok(self.reference_view(there));
        }
        let reference = Reference {
            id: ReferenceId(self.inner.new_id()),
            project,
            name,
            kind: new.kind,
            volume: volume.as_ref().map(|volume| volume.id),
            volume_name,
            created_ms: now_ms,
            last_seen_ms: now_ms,
        };
        catalog::insert(&mut tx, &reference).await?;
        let what = if volume.is_some() { "of volume" } else { "reserves the name" };
        let detail = format!("{} {what} '{}'", new.kind.word(), reference.volume_name);
        let (action, result) = ("reference.create", EventResult::Done);
        self.inner.record(&mut tx, caller, &reference, action, result, detail).await?;
        self.inner.commit(tx).await?;
        Ok(self.reference_view(reference))
    }

    /// # Errors
    /// No such project; bad paging.
    pub async fn reference_list(
        &self,
        caller: &Caller,
        filter: &ReferenceFilter,
    ) -> Result<Page<ReferenceView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let mut query = Query::<Reference>::all()
            .maybe("project", project)
            .maybe("kind", filter.kind.map(ReferenceKind::word))
            .maybe("name", filter.name.as_deref());
        if let Some(volume) = &filter.volume {
            // Reservations are found by the name, too.
            query = match Uuid::parse_str(volume.trim()) {
                Ok(id) => query.eq("volume", id),
                Err(_) => query.eq("volume_name", volume.trim()),
            };
        }
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        Ok(page.map(|reference| self.reference_view(reference)))
    }

    /// # Errors
    /// No such reference, or ambiguous.
    pub async fn reference_get(&self, caller: &Caller, reference: &str) -> Result<ReferenceView> {
        let mut on = self.inner.catalog.read().await?;
        let reference = resolve(&mut on, caller, reference).await?;
        Ok(self.reference_view(reference))
    }

    /// The use has ended. One that is not there has ended already.
    ///
    /// # Errors
    /// A reader; the name means several.
    pub async fn reference_delete(&self, caller: &Caller, reference: &str) -> Result<()> {
        caller.must_be(Role::Member, "delete references")?;
        let mut tx = self.inner.catalog.begin().await?;
        let reference: Reference = match resolve(&mut tx, caller, reference).await {
            Err(ControlError::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        catalog::delete::<Reference>(&mut tx, reference.id.0).await?;
        let detail = format!("{} of '{}'", reference.kind.word(), reference.volume_name);
        let (action, result) = ("reference.delete", EventResult::Done);
        self.inner.record(&mut tx, caller, &reference, action, result, detail).await?;
        self.inner.commit(tx).await
    }
}
