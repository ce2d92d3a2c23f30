//! Operations: long work, and the image files that it reads and writes.

use std::path::{Component, Path};

use model::event::{EventResult, ResourceKind};
use model::id::{OperationId, ProjectId};
use model::operation::{Operation, OperationKind, OperationState, Progress, Subject};
use model::user::Role;
use model::volume::Volume;

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, listed_project, not_found, resolve};
use crate::links::{LOOK_LIMIT, in_time};
use crate::page::Page;
use crate::params::OperationFilter;

impl Control {
    /// # Errors
    /// No such project or volume; bad paging.
    pub async fn operation_list(
        &self,
        caller: &Caller,
        filter: &OperationFilter,
    ) -> Result<Page<Operation>> {
        let mut page = {
            let mut on = self.inner.catalog.read().await?;
            let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
            let volume = match &filter.volume {
                None => None,
                Some(name) => Some(resolve::<Volume>(&mut on, caller, name).await?.id),
            };
            let query = Query::<Operation>::all()
                .maybe("project", project)
                .maybe("volume", volume)
                .maybe("state", filter.state.as_deref());
            self.inner.page(&mut on, query, &filter.paging).await?
        };
        for operation in &mut page.items {
            self.inner.note_progress(operation).await;
        }
        Ok(page)
    }

    /// With the progress of this moment.
    ///
    /// # Errors
    /// No such operation.
    pub async fn operation_get(&self, caller: &Caller, id: &str) -> Result<Operation> {
        let mut operation = {
            let mut on = self.inner.catalog.read().await?;
            find(&mut on, caller, id).await?
        };
        self.inner.note_progress(&mut operation).await;
        Ok(operation)
    }

    /// Ask for the end of the work. It is `cancelled` when the node has let go. Asking twice is
    /// asking once.
    ///
    /// # Errors
    /// A reader; no such operation; over already; of a kind that cannot be cancelled.
    pub async fn operation_cancel(&self, caller: &Caller, id: &str) -> Result<Operation> {
        caller.must_be(Role::Member, "cancel operations")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut operation = find(&mut tx, caller, id).await?;
        let state = operation.state;
        if state == OperationState::Cancelled {
            return Ok(operation);
        }
        if state.is_final() {
            return Err(ControlError::OperationFinished { state: state.word() });
        }
        if !operation.kind.can_be_cancelled() {
            return Err(ControlError::OperationNotCancellable { kind: operation.kind.word() });
        }
        if !operation.cancel_requested {
            operation.cancel_requested = true;
            catalog::update(&mut tx, &operation).await?;
            let (action, result) = ("operation.cancel", EventResult::Accepted);
            self.inner.record(&mut tx, caller, &operation, action, result, "").await?;
        }
        self.inner.commit(tx).await?;
        Ok(operation)
    }
}

/// The operation of this id. Those of nodes, which belong to no project, are the operator's.
async fn find(on: &mut Connection, caller: &Caller, id: &str) -> Result<Operation> {
    let operation: Operation = resolve(on, caller, id).await?;
    if operation.project.is_none() && !caller.is_admin() {
        return Err(not_found(ResourceKind::Operation, id));
    }
    Ok(operation)
}

impl Inner {
    pub(crate) async fn new_operation(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &Volume,
        kind: OperationKind,
    ) -> Result<Operation> {
        let subject = Subject::Volume { volume: volume.id, volume_name: volume.name.clone() };
        let detail = format!("{} of volume '{}'", kind.word(), volume.name);
        let operation = self.pending(Some(volume.project), kind, subject);
        catalog::insert(tx, &operation).await?;
        let (action, result) = ("operation.create", EventResult::Accepted);
        self.record(tx, caller, &operation, action, result, detail).await?;
        Ok(operation)
    }

    /// Work that has not begun.
    pub(crate) fn pending(
        &self,
        project: Option<ProjectId>,
        kind: OperationKind,
        subject: Subject,
    ) -> Operation {
        Operation {
            id: OperationId(self.new_id()),
            project,
            kind,
            subject,
            state: OperationState::Pending,
            progress: None,
            cancel_requested: false,
            fault: None,
            created_ms: self.now_ms(),
            finished_ms: None,
        }
    }

    /// Progress changes too often to be kept: whoever looks asks the node.
    async fn note_progress(&self, operation: &mut Operation) {
        self.note_evacuation(operation);
        let (OperationState::Running, Some(volume)) = (operation.state, operation.subject.volume())
        else {
            return;
        };
        let Ok(link) = self.link_with(volume).await else { return };
        if let Ok(Some((done, total))) = in_time(LOOK_LIMIT, link.progress(volume)).await {
            operation.progress = Some(Progress { done, total });
        }
    }

    /// The absolute path of an image file that the caller may name.
    ///
    /// The daemon reads and writes it with its own rights; so only the operator may name any
    /// file, and everybody else one of the image directory.
    pub(crate) fn image_path(&self, caller: &Caller, text: &str) -> Result<String> {
        let text = text.trim();
        let path = Path::new(text);
        if text.is_empty() || text.contains(char::is_control) {
            let why = "it must not be empty, and must hold no control character".to_owned();
            return Err(ControlError::Invalid { field: "path", why });
        }
        let forbidden = || ControlError::ImagePathForbidden { path: text.to_owned() };
        let within = if path.is_absolute() {
            if caller.is_admin() {
                return Ok(text.to_owned());
            }
            path.strip_prefix(&self.settings.image_dir).map_err(|_| forbidden())?
        } else {
            path
        };
        if !within.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(forbidden());
        }
        let whole = self.settings.image_dir.join(within);
        whole.to_str().map(str::to_owned).ok_or_else(forbidden)
    }
}
