//! Hosts: the consumer machines.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::event::ResourceKind;
use model::host::{HOST_NAMES_MAX, Host, iscsi_name};
use model::id::{HostId, ProjectId};
use model::text::Metadata;
use model::user::Role;
use sqlx::Executor;
use uuid::Uuid;

use crate::agent::HostView;
use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::naming_host;
use crate::facade::{
    Control, invalid, listed_project, name_is_free, project_for, resolve, valid_metadata,
    valid_name,
};
use crate::group;
use crate::page::Page;
use crate::params::{HostCreate, HostFilter, HostUpdate};

fn at_most(field: &'static str, count: usize) -> Result<()> {
    if count <= HOST_NAMES_MAX {
        return Ok(());
    }
    let why = format!("it must be at most {HOST_NAMES_MAX}, and {count} are given");
    Err(ControlError::Invalid { field, why })
}

pub(crate) fn valid_initiators(names: &[String]) -> Result<Vec<String>> {
    at_most("initiators", names.len())?;
    let mut seen = BTreeSet::new();
    let mut valid = Vec::with_capacity(names.len());
    for name in names {
        let name = iscsi_name(name).map_err(invalid("initiators"))?;
        if seen.insert(name.clone()) {
            valid.push(name);
        }
    }
    Ok(valid)
}

pub(crate) fn valid_addresses(addresses: &[String]) -> Result<Vec<IpAddr>> {
    at_most("addresses", addresses.len())?;
    let parse = |text: &String| {
        text.trim().parse().map_err(|_| ControlError::Invalid {
            field: "addresses",
            why: format!("it must be an IP address, and '{text}' is not"),
        })
    };
    addresses.iter().map(parse).collect()
}

/// Make these names the host's. Each belongs to one host, whatever the project: a target must be
/// able to tell who logs in.
pub(crate) async fn claim_initiators(tx: &mut Transaction, host: &Host) -> Result<()> {
    let release = sqlx::query("DELETE FROM initiators WHERE host = $1");
    tx.execute(release.bind(host.id.to_string())).await?;
    are_not_taken(tx, host, &host.initiators).await?;
    for name in &host.initiators {
        let claim = sqlx::query("INSERT INTO initiators (name, host) VALUES ($1, $2)");
        tx.execute(claim.bind(name.as_str()).bind(host.id.to_string())).await?;
    }
    Ok(())
}

/// Refuse names that are another host's.
pub(crate) async fn are_not_taken(
    on: &mut Connection,
    host: &Host,
    names: &[String],
) -> Result<()> {
    for name in names {
        let others = sqlx::query("SELECT host FROM initiators WHERE name = $1 AND host != $2");
        let others = others.bind(name.as_str()).bind(host.id.to_string());
        if on.fetch_optional(others).await?.is_some() {
            return Err(ControlError::InitiatorTaken { iqn: name.clone() });
        }
    }
    Ok(())
}

pub(crate) async fn has_no_attachment(on: &mut Connection, host: &Host) -> Result<()> {
    let attachments = Query::<AttachmentRecord>::all().eq("host", host.id);
    let attachments = catalog::count(on, attachments).await?;
    if attachments == 0 {
        return Ok(());
    }
    Err(ControlError::InUse {
        kind: ResourceKind::Host,
        name: host.name.clone(),
        by: format!("{attachments} attachments"),
    })
}

/// A host of this name, not written yet; `(id, now_ms)`.
pub(crate) async fn new_host(
    on: &mut Connection,
    (id, now_ms): (Uuid, u64),
    project: ProjectId,
    name: &str,
) -> Result<Host> {
    let name = valid_name(name)?;
    name_is_free(on, Query::<Host>::all().eq("project", project), &name, None).await?;
    Ok(Host {
        id: HostId(id),
        project,
        name,
        initiators: Vec::new(),
        addresses: Vec::new(),
        metadata: Metadata::new(),
        created_ms: now_ms,
    })
}

impl Control {
    /// # Errors
    /// A reader; a bad value; the name is taken in the project; an initiator name is another's.
    pub async fn host_create(&self, caller: &Caller, new: HostCreate) -> Result<Host> {
        caller.must_be(Role::Member, "create hosts")?;
        let initiators = valid_initiators(&new.initiators)?;
        let addresses = valid_addresses(&new.addresses)?;
        let metadata = valid_metadata(&new.metadata)?;
        let mut tx = self.inner.catalog.begin().await?;
        let project = project_for(&mut tx, caller, new.project.as_deref()).await?;
        let made = (self.inner.new_id(), self.inner.now_ms());
        let host = new_host(&mut tx, made, project.id, &new.name).await?;
        let host = Host { initiators, addresses, metadata, ..host };
        catalog::insert(&mut tx, &host).await?;
        claim_initiators(&mut tx, &host).await?;
        self.inner.done(&mut tx, caller, &host, "host.create").await?;
        self.inner.commit(tx).await?;
        Ok(host)
    }

    /// # Errors
    /// No such project; bad paging.
    pub async fn host_list(&self, caller: &Caller, filter: &HostFilter) -> Result<Page<HostView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let query = Query::all().maybe("project", project).maybe("name", filter.name.as_deref());
        let page = self.inner.page::<Host>(&mut on, query, &filter.paging).await?;
        let ids = page.items.iter().map(|host| host.id);
        let mut agents = self.inner.agents(&mut on, ids).await?;
        let now_ms = self.inner.now_ms();
        Ok(page.map(|host| HostView { agent: agents.remove(&host.id), host, now_ms }))
    }

    /// # Errors
    /// No such host, or ambiguous.
    pub async fn host_get(&self, caller: &Caller, host: &str) -> Result<HostView> {
        let mut on = self.inner.catalog.read().await?;
        let host = resolve(&mut on, caller, host).await?;
        self.inner.host_view(&mut on, host).await
    }

    /// # Errors
    /// A reader; a bad value; the name is taken; the initiator names would change while a volume
    /// is attached, or are another host's.
    pub async fn host_update(
        &self,
        caller: &Caller,
        host: &str,
        change: HostUpdate,
    ) -> Result<HostView> {
        caller.must_be(Role::Member, "change hosts")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut host: Host = resolve(&mut tx, caller, host).await?;
        if let Some(name) = &change.name {
            host.name = valid_name(name)?;
            let among = Query::<Host>::all().eq("project", host.project);
            name_is_free(&mut tx, among, &host.name, Some(host.id.0)).await?;
        }
        if let Some(initiators) = &change.initiators {
            let initiators = valid_initiators(initiators)?;
            if initiators != host.initiators {
                // Sessions and reservations stand under the old names: they must end first.
                has_no_attachment(&mut tx, &host).await?;
                host.initiators = initiators;
                claim_initiators(&mut tx, &host).await?;
            }
        }
        if let Some(addresses) = &change.addresses {
            host.addresses = valid_addresses(addresses)?;
        }
        if let Some(metadata) = &change.metadata {
            host.metadata = valid_metadata(metadata)?;
        }
        catalog::update(&mut tx, &host).await?;
        self.inner.done(&mut tx, caller, &host, "host.update").await?;
        let touched = naming_host(&mut tx, &host).await?;
        let view = self.inner.host_view(&mut tx, host).await?;
        self.inner.commit(tx).await?;
        self.renew(touched).await?;
        Ok(view)
    }

    /// # Errors
    /// A reader; no such host; a volume is attached to it, or a group names it.
    pub async fn host_delete(&self, caller: &Caller, host: &str) -> Result<()> {
        caller.must_be(Role::Member, "delete hosts")?;
        let mut tx = self.inner.catalog.begin().await?;
        let host: Host = resolve(&mut tx, caller, host).await?;
        group::names_no_host(&mut tx, &host).await?;
        has_no_attachment(&mut tx, &host).await?;
        catalog::delete::<Host>(&mut tx, host.id.0).await?;
        self.inner.done(&mut tx, caller, &host, "host.delete").await?;
        let touched = naming_host(&mut tx, &host).await?;
        self.inner.commit(tx).await?;
        self.inner.heard.forget_host(host.id);
        self.renew(touched).await
    }
}
