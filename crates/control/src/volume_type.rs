//! Volume types: what may be asked for, and which projects may.

use model::event::{EventResult, ResourceKind};
use model::id::{PoolId, ProjectId, VolumeTypeId};
use model::pool::Pool;
use model::project::Project;
use model::size::ByteSize;
use model::text;
use model::user::Role;
use model::volume::{self, Volume};
use model::volume_type::{DATA_LOSS_WARNING, Grant, VolumeType};

use crate::caller::Caller;
use crate::catalog::{self, Connection, GrantRecord, Query};
use crate::error::{ControlError, Result};
use crate::facade::{
    Control, invalid, name_is_free, not_found, resolve, valid_description, valid_name,
};
use crate::page::{Page, Paging};
use crate::params::{GrantCreate, GrantView, VolumeTypeCreate, VolumeTypeFilter, VolumeTypeUpdate};

/// Public, or granted to the project.
async fn is_granted(on: &mut Connection, kind: &VolumeType, project: ProjectId) -> Result<bool> {
    let grants = Query::<GrantRecord>::all().eq("volume_type", kind.id).eq("project", project);
    Ok(kind.public || catalog::count(on, grants).await? > 0)
}

/// The type of this name, if the project may use it. A grant is asked of the operator too: it is
/// the record of who answered for the type.
pub(crate) async fn usable_type(
    on: &mut Connection,
    caller: &Caller,
    project: ProjectId,
    name: &str,
) -> Result<VolumeType> {
    let kind: VolumeType = resolve(on, caller, name).await?;
    if is_granted(on, &kind, project).await? {
        Ok(kind)
    } else {
        Err(not_found(ResourceKind::VolumeType, name))
    }
}

/// Names of all types that a volume in this pool could have.
pub(crate) async fn fitting_types(
    on: &mut Connection,
    project: ProjectId,
    pool: &Pool,
) -> Result<Vec<String>> {
    let same_class = Query::<VolumeType>::all().eq("class", pool.class.as_str());
    let mut names = Vec::new();
    for kind in catalog::select(on, same_class).await? {
        let serves = kind.pools.is_empty() || kind.pools.contains(&pool.id);
        if serves && kind.kind == pool.driver.kind() && is_granted(on, &kind, project).await? {
            names.push(kind.name);
        }
    }
    Ok(names)
}

fn valid_max_size(size: Option<ByteSize>) -> Result<Option<ByteSize>> {
    size.map(volume::size).transpose().map_err(invalid("max_size"))
}

/// Ascending, each once.
fn valid_sizes(sizes: &[ByteSize]) -> Result<Vec<ByteSize>> {
    let mut sizes: Vec<ByteSize> = sizes
        .iter()
        .map(|size| volume::size(*size).map_err(invalid("sizes")))
        .collect::<Result<_>>()?;
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

async fn pool_ids(on: &mut Connection, caller: &Caller, names: &[String]) -> Result<Vec<PoolId>> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        ids.push(resolve::<Pool>(on, caller, name).await?.id);
    }
    Ok(ids)
}

impl Control {
    /// # Errors
    /// Not an admin; a bad value; the name is taken; no such pool.
    pub async fn volume_type_create(
        &self,
        caller: &Caller,
        new: VolumeTypeCreate,
    ) -> Result<VolumeType> {
        caller.must_be(Role::Admin, "create volume types")?;
        let name = valid_name(&new.name)?;
        let description = valid_description(&new.description)?;
        let class = text::class(&new.class).map_err(invalid("class"))?;
        let mut tx = self.inner.catalog.begin().await?;
        name_is_free::<VolumeType>(&mut tx, Query::all(), &name, None).await?;
        let kind = VolumeType {
            id: VolumeTypeId(self.inner.new_id()),
            name,
            description,
            kind: new.kind,
            class,
            multiattach: new.multiattach,
            public: new.public,
            max_size: valid_max_size(new.max_size)?,
            sizes: valid_sizes(&new.sizes)?,
            pools: pool_ids(&mut tx, caller, &new.pools).await?,
            created_ms: self.inner.now_ms(),
        };
        catalog::insert(&mut tx, &kind).await?;
        self.inner.done(&mut tx, caller, &kind, "volume_type.create").await?;
        self.inner.commit(tx).await?;
        Ok(kind)
    }

    /// What the caller's project may use; everything for an admin.
    ///
    /// # Errors
    /// Bad paging.
    pub async fn volume_type_list(
        &self,
        caller: &Caller,
        filter: &VolumeTypeFilter,
    ) -> Result<Page<VolumeType>> {
        let mut on = self.inner.catalog.read().await?;
        let query = Query::<VolumeType>::all().maybe("name", filter.name.as_deref());
        let query = match caller.limited_to()? {
            None => query,
            Some(project) => query.fragment(
                "(public = 1 OR id IN (SELECT volume_type FROM grants WHERE project =",
                project,
                "))",
            ),
        };
        self.inner.page(&mut on, query, &filter.paging).await
    }

    /// # Errors
    /// No such type, or none that the caller's project may use.
    pub async fn volume_type_get(&self, caller: &Caller, kind: &str) -> Result<VolumeType> {
        let mut on = self.inner.catalog.read().await?;
        match caller.limited_to()? {
            None => resolve(&mut on, caller, kind).await,
            Some(project) => usable_type(&mut on, caller, project, kind).await,
        }
    }

    /// # Errors
    /// Not an admin; a bad value; a promise would change while volumes have the type.
    pub async fn volume_type_update(
        &self,
        caller: &Caller,
        kind: &str,
        change: VolumeTypeUpdate,
    ) -> Result<VolumeType> {
        caller.must_be(Role::Admin, "change volume types")?;
        let mut tx = self.inner.catalog.begin().await?;
        let old: VolumeType = resolve(&mut tx, caller, kind).await?;
        let mut new = old.clone();
        if let Some(name) = &change.name {
            new.name = valid_name(name)?;
            name_is_free::<VolumeType>(&mut tx, Query::all(), &new.name, Some(old.id.0)).await?;
        }
        if let Some(description) = &change.description {
            new.description = valid_description(description)?;
        }
        if let Some(class) = &change.class {
            new.class = text::class(class).map_err(invalid("class"))?;
        }
        if let Some(pools) = &change.pools {
            new.pools = pool_ids(&mut tx, caller, pools).await?;
        }
        if let Some(sizes) = &change.sizes {
            new.sizes = valid_sizes(sizes)?;
        }
        new.multiattach = change.multiattach.unwrap_or(old.multiattach);
        new.max_size = valid_max_size(change.max_size)?.or(old.max_size);
        new.public = change.public.unwrap_or(old.public);
        let promises = |kind: &VolumeType| {
            let (class, sizes, pools) = (&kind.class, &kind.sizes, &kind.pools);
            (class.clone(), kind.multiattach, kind.max_size, sizes.clone(), pools.clone())
        };
        if promises(&old) != promises(&new) {
            let volumes = Query::<Volume>::all().eq("volume_type", old.id);
            let volumes = catalog::count(&mut tx, volumes).await?;
            if volumes > 0 {
                return Err(ControlError::TypeInUse { name: old.name, volumes });
            }
        }
        catalog::update(&mut tx, &new).await?;
        self.inner.done(&mut tx, caller, &new, "volume_type.update").await?;
        self.inner.commit(tx).await?;
        Ok(new)
    }

    /// Its grants go along.
    ///
    /// # Errors
    /// Not an admin; no such type; volumes have it.
    pub async fn volume_type_delete(&self, caller: &Caller, kind: &str) -> Result<()> {
        caller.must_be(Role::Admin, "delete volume types")?;
        let mut tx = self.inner.catalog.begin().await?;
        let kind: VolumeType = resolve(&mut tx, caller, kind).await?;
        let volumes = Query::<Volume>::all().eq("volume_type", kind.id);
        let volumes = catalog::count(&mut tx, volumes).await?;
        if volumes > 0 {
            return Err(ControlError::InUse {
                kind: ResourceKind::VolumeType,
                name: kind.name,
                by: format!("{volumes} volumes"),
            });
        }
        catalog::delete::<VolumeType>(&mut tx, kind.id.0).await?;
        self.inner.done(&mut tx, caller, &kind, "volume_type.delete").await?;
        self.inner.commit(tx).await
    }

    /// Let a project use a private type. Granted already: the grant that is there.
    ///
    /// # Errors
    /// Not an admin; the type allows multi-attach and the warning was not acknowledged.
    pub async fn volume_type_grant(
        &self,
        caller: &Caller,
        kind: &str,
        new: GrantCreate,
    ) -> Result<GrantView> {
        caller.must_be(Role::Admin, "grant volume types")?;
        let mut tx = self.inner.catalog.begin().await?;
        let kind: VolumeType = resolve(&mut tx, caller, kind).await?;
        let project: Project = resolve(&mut tx, caller, &new.project).await?;
        if kind.multiattach && !new.acknowledge_data_loss {
            return Err(ControlError::Invalid {
                field: "acknowledge_data_loss",
                why: format!("the warning must be acknowledged: {DATA_LOSS_WARNING}"),
            });
        }
        let query =
            Query::<GrantRecord>::all().eq("volume_type", kind.id).eq("project", project.id);
        if let Some(record) = catalog::select(&mut tx, query).await?.pop() {
            return Ok(GrantView { grant: record.grant, project_name: project.name });
        }
        let grant = Grant {
            volume_type: kind.id,
            project: project.id,
            acknowledged_by: kind.multiattach.then(|| caller.user_name.clone()),
            warning: kind.multiattach.then(|| DATA_LOSS_WARNING.to_owned()),
            granted_ms: self.inner.now_ms(),
        };
        let record = GrantRecord { id: self.inner.new_id(), grant: grant.clone() };
        catalog::insert(&mut tx, &record).await?;
        let detail = match &grant.acknowledged_by {
            Some(who) => {
                format!(
                    "granted to project '{}'; {who} acknowledged the data-loss warning",
                    project.name
                )
            }
            None => format!("granted to project '{}'", project.name),
        };
        let (action, result) = ("volume_type.grant", EventResult::Done);
        self.inner.record(&mut tx, caller, &kind, action, result, detail).await?;
        self.inner.commit(tx).await?;
        Ok(GrantView { grant, project_name: project.name })
    }

    /// Who may use a private type.
    ///
    /// # Errors
    /// Not an admin; no such type; bad paging.
    pub async fn volume_type_grants(
        &self,
        caller: &Caller,
        kind: &str,
        paging: &Paging,
    ) -> Result<Page<GrantView>> {
        caller.must_be(Role::Admin, "see grants")?;
        let mut on = self.inner.catalog.read().await?;
        let kind: VolumeType = resolve(&mut on, caller, kind).await?;
        let query = Query::<GrantRecord>::all().eq("volume_type", kind.id);
        let page = self.inner.page(&mut on, query, paging).await?;
        let projects = page.items.iter().map(|record| record.grant.project.0);
        let names = catalog::names::<Project>(&mut on, projects).await?;
        Ok(page.map(|record| GrantView {
            project_name: names.get(&record.grant.project.0).cloned().unwrap_or_default(),
            grant: record.grant,
        }))
    }

    /// Take a grant back: no new volumes of the type; those that are there stay and work.
    ///
    /// # Errors
    /// Not an admin; no such type, project or grant.
    pub async fn volume_type_revoke(
        &self,
        caller: &Caller,
        kind: &str,
        project: &str,
    ) -> Result<()> {
        caller.must_be(Role::Admin, "revoke volume types")?;
        let mut tx = self.inner.catalog.begin().await?;
        let kind: VolumeType = resolve(&mut tx, caller, kind).await?;
        let project: Project = resolve(&mut tx, caller, project).await?;
        let query =
            Query::<GrantRecord>::all().eq("volume_type", kind.id).eq("project", project.id);
        let record = catalog::select(&mut tx, query).await?.pop();
        let record = record.ok_or_else(|| not_found(ResourceKind::Project, &project.name))?;
        catalog::delete::<GrantRecord>(&mut tx, record.id).await?;
        let volumes = Query::<Volume>::all().eq("volume_type", kind.id).eq("project", project.id);
        let left = catalog::count(&mut tx, volumes).await?;
        let detail = format!(
            "revoked from project '{}'; its {left} volumes of the type stay as they are",
            project.name
        );
        let (action, result) = ("volume_type.revoke", EventResult::Done);
        self.inner.record(&mut tx, caller, &kind, action, result, detail).await?;
        self.inner.commit(tx).await
    }
}
