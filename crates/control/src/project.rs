//! Projects: the tenants, their quotas and what they hold.

use model::id::ProjectId;
use model::project::{Project, ProjectUsage, Quotas};
use model::reference::Reference;
use model::snapshot::Snapshot;
use model::user::{Role, User};
use model::volume::Volume;

use crate::caller::Caller;
use crate::catalog::{self, Connection, GrantRecord, Query};
use crate::error::{ControlError, Result};
use crate::export::move_paths;
use crate::facade::{Control, name_is_free, resolve, valid_description, valid_name};
use crate::page::Page;
use crate::params::{ProjectCreate, ProjectFilter, ProjectUpdate, ProjectView, QuotaChange};

fn changed(mut quotas: Quotas, change: QuotaChange) -> Quotas {
    quotas.volumes = change.volumes.unwrap_or(quotas.volumes);
    quotas.gigabytes = change.gigabytes.unwrap_or(quotas.gigabytes);
    quotas.snapshots = change.snapshots.unwrap_or(quotas.snapshots);
    quotas.snapshots_per_volume =
        change.snapshots_per_volume.unwrap_or(quotas.snapshots_per_volume);
    quotas
}

/// What a project holds now. Hidden snapshots are ours and count for nobody.
pub(crate) async fn usage(on: &mut Connection, project: ProjectId) -> Result<ProjectUsage> {
    let volumes = || Query::<Volume>::all().eq("project", project);
    let snapshots = Query::<Snapshot>::all().eq("project", project).null("hidden_for");
    Ok(ProjectUsage {
        volumes: catalog::count(on, volumes()).await?,
        bytes: catalog::sum(on, volumes(), "COALESCE(SUM(promised_bytes), 0)").await?,
        snapshots: catalog::count(on, snapshots).await?,
    })
}

impl Control {
    /// # Errors
    /// Not an admin; the name is taken or bad.
    pub async fn project_create(&self, caller: &Caller, new: ProjectCreate) -> Result<ProjectView> {
        caller.must_be(Role::Admin, "create projects")?;
        let project = Project {
            id: ProjectId(self.inner.new_id()),
            name: valid_name(&new.name)?,
            description: valid_description(&new.description)?,
            quotas: changed(Quotas::default(), new.quotas),
            created_ms: self.inner.now_ms(),
        };
        let mut tx = self.inner.catalog.begin().await?;
        name_is_free::<Project>(&mut tx, Query::all(), &project.name, None).await?;
        catalog::insert(&mut tx, &project).await?;
        self.inner.done(&mut tx, caller, &project, "project.create").await?;
        self.inner.commit(tx).await?;
        Ok(ProjectView { project, usage: ProjectUsage::default() })
    }

    /// All projects for an admin, the own one for everybody else.
    ///
    /// # Errors
    /// Bad paging.
    pub async fn project_list(
        &self,
        caller: &Caller,
        filter: &ProjectFilter,
    ) -> Result<Page<ProjectView>> {
        let mut on = self.inner.catalog.read().await?;
        let query =
            Query::all().maybe("id", caller.limited_to()?).maybe("name", filter.name.as_deref());
        let page = self.inner.page::<Project>(&mut on, query, &filter.paging).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for project in page.items {
            let usage = usage(&mut on, project.id).await?;
            items.push(ProjectView { project, usage });
        }
        Ok(Page { items, next: page.next })
    }

    /// # Errors
    /// No such project, or none that the caller may see.
    pub async fn project_get(&self, caller: &Caller, project: &str) -> Result<ProjectView> {
        let mut on = self.inner.catalog.read().await?;
        let project: Project = resolve(&mut on, caller, project).await?;
        let usage = usage(&mut on, project.id).await?;
        Ok(ProjectView { project, usage })
    }

    /// Quotas may go below what is used: nothing is taken away, nothing new is let in.
    ///
    /// # Errors
    /// Not an admin; no such project; the name is taken or bad.
    pub async fn project_update(
        &self,
        caller: &Caller,
        project: &str,
        change: ProjectUpdate,
    ) -> Result<ProjectView> {
        caller.must_be(Role::Admin, "change projects")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut project: Project = resolve(&mut tx, caller, project).await?;
        if let Some(name) = &change.name {
            project.name = valid_name(name)?;
            let id = Some(project.id.0);
            name_is_free::<Project>(&mut tx, Query::all(), &project.name, id).await?;
        }
        if let Some(description) = &change.description {
            project.description = valid_description(description)?;
        }
        project.quotas = changed(project.quotas, change.quotas);
        catalog::update(&mut tx, &project).await?;
        self.inner.done(&mut tx, caller, &project, "project.update").await?;
        let usage = usage(&mut tx, project.id).await?;
        let moved = move_paths(&mut tx, &project).await?;
        self.inner.commit(tx).await?;
        self.renew(moved).await?;
        Ok(ProjectView { project, usage })
    }

    /// # Errors
    /// Not an admin; no such project; it still holds something.
    pub async fn project_delete(&self, caller: &Caller, project: &str) -> Result<()> {
        caller.must_be(Role::Admin, "delete projects")?;
        let mut tx = self.inner.catalog.begin().await?;
        let project: Project = resolve(&mut tx, caller, project).await?;
        let held = self.held_by(&mut tx, project.id).await?;
        if !held.is_empty() {
            return Err(ControlError::InUse {
                kind: model::event::ResourceKind::Project,
                name: project.name,
                by: held.join(", "),
            });
        }
        let grants = Query::<GrantRecord>::all().eq("project", project.id);
        for grant in catalog::select(&mut tx, grants).await? {
            catalog::delete::<GrantRecord>(&mut tx, grant.id).await?;
        }
        catalog::delete::<Project>(&mut tx, project.id.0).await?;
        self.inner.done(&mut tx, caller, &project, "project.delete").await?;
        self.inner.commit(tx).await
    }

    async fn held_by(&self, on: &mut Connection, project: ProjectId) -> Result<Vec<String>> {
        let volumes = catalog::count(on, Query::<Volume>::all().eq("project", project)).await?;
        let hosts = Query::<model::host::Host>::all().eq("project", project);
        let hosts = catalog::count(on, hosts).await?;
        let users = catalog::count(on, Query::<User>::all().eq("project", project)).await?;
        let references = Query::<Reference>::all().eq("project", project);
        let references = catalog::count(on, references).await?;
        let counts =
            [(volumes, "volumes"), (references, "references"), (hosts, "hosts"), (users, "users")];
        let held = counts.iter().filter(|(count, _)| *count > 0);
        Ok(held.map(|(count, what)| format!("{count} {what}")).collect())
    }
}
