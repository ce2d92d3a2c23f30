//! A group is changed while it exists. What its hosts may be told at any time (its name, which
//! hosts and in which order, most of its policy) is wanted at once, and nothing moves because of
//! it; what an owner and its challengers must agree on waits until the group runs nowhere.

use std::collections::BTreeSet;

use model::event::EventResult;
use model::group::{self as rules, Group, HOSTS_MAX, PolicyChange, Resource, Wanted};
use model::host::Host;
use model::id::{HostId, VolumeId};
use model::user::Role;
use model::volume::Volume;
use sqlx::Executor;

use super::{GroupHostView, GroupView, hosts};
use crate::attachment::Probe;
use crate::caller::Caller;
use crate::catalog::{self, GroupRecord, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{Control, invalid, name_is_free, resolve, valid_name};
use crate::volume::expected;

/// What is to change of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupUpdate {
    pub name: Option<String>,
    /// Names or ids of all its hosts, the preferred one first.
    pub hosts: Option<Vec<String>>,
    /// These come after those that it has.
    pub add_hosts: Vec<String>,
    pub remove_hosts: Vec<String>,
    /// All its resources.
    pub resources: Option<Vec<Resource>>,
    pub policy: PolicyChange,
    /// Take a host out although it may run the group; what runs there goes on.
    pub force: bool,
}

/// What one call makes of a group.
struct Draft<'a> {
    seen: &'a GroupView,
    volume: &'a Volume,
    record: GroupRecord,
    added: Vec<HostId>,
    /// Out of it at once.
    dropped: Vec<HostId>,
    /// What changes, for the audit trail.
    changes: Vec<String>,
}

impl Control {
    /// Change what is given. The same again changes nothing.
    ///
    /// # Errors
    /// A reader; no such group or host; a bad value; the name is taken; it would have too few or
    /// too many hosts; a host that is to go may run it and cannot be told; resources, reservation
    /// or times are to change while it may run.
    pub async fn group_update(
        &self,
        caller: &Caller,
        group: &str,
        change: GroupUpdate,
    ) -> Result<GroupView> {
        caller.must_be(Role::Member, "change groups")?;
        if change.hosts.is_some()
            && !(change.add_hosts.is_empty() && change.remove_hosts.is_empty())
        {
            let why = "it must be all of them, or those to add and to remove".to_owned();
            return Err(ControlError::Invalid { field: "hosts", why });
        }
        let mut probe: Option<Probe> = None;
        loop {
            let mut tx = self.inner.catalog.begin().await?;
            let record: GroupRecord = resolve(&mut tx, caller, group).await?;
            let seen = self.inner.group_view(&mut tx, record.clone()).await?;
            let volume: Volume = expected(&mut tx, record.group.volume.0).await?;
            let mut draft = Draft {
                seen: &seen,
                volume: &volume,
                record,
                added: Vec::new(),
                dropped: Vec::new(),
                changes: Vec::new(),
            };
            draft.rename(&mut tx, change.name.as_deref()).await?;
            draft.rehost(&mut tx, caller, &change).await?;
            draft.rule(&change)?;
            if draft.record.group == seen.group {
                return Ok(seen);
            }
            if let Some(volume) = self.let_in(&mut tx, caller, &draft, probe.as_ref()).await? {
                // As for a new group: the volume is read outside the transaction.
                drop(tx);
                probe = Some(self.inner.probe(volume).await);
                continue;
            }
            let id = draft.record.group.id;
            // A beat that is under way may still bring words of one that is out.
            let strangers = [&draft.added[..], &draft.dropped].concat();
            strangers.iter().for_each(|host| self.inner.heard.forget(id, *host));
            let view = self.write_changed(&mut tx, caller, draft).await?;
            self.inner.commit(tx).await?;
            strangers.iter().for_each(|host| self.inner.heard.forget(id, *host));
            return Ok(view);
        }
    }

    /// Attach the volume to the hosts that are new. One that was cut off before is let in again by
    /// a permission alone.
    async fn let_in(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        draft: &Draft<'_>,
        probe: Option<&Probe>,
    ) -> Result<Option<VolumeId>> {
        match draft.added.is_empty() {
            true => Ok(None),
            false => self.attach(tx, caller, draft.volume, &draft.added, probe).await,
        }
    }

    async fn write_changed(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        draft: Draft<'_>,
    ) -> Result<GroupView> {
        let Draft { mut record, added, dropped, changes, .. } = draft;
        record.group.generation += 1;
        catalog::update(tx, &record).await?;
        for host in &dropped {
            let row = sqlx::query("DELETE FROM group_hosts WHERE group_id = $1 AND host = $2");
            tx.execute(row.bind(record.group.id.to_string()).bind(host.to_string())).await?;
        }
        for host in &added {
            let row = sqlx::query("INSERT INTO group_hosts (group_id, host) VALUES ($1, $2)");
            tx.execute(row.bind(record.group.id.to_string()).bind(host.to_string())).await?;
        }
        let (action, result) = ("group.update", EventResult::Accepted);
        self.inner.record(tx, caller, &record, action, result, changes.join("; ")).await?;
        self.inner.group_view(tx, record).await
    }
}

impl Draft<'_> {
    async fn rename(&mut self, tx: &mut Transaction, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let name = valid_name(name)?;
        let group = &mut self.record.group;
        if name != group.name {
            let among = Query::<GroupRecord>::all().eq("project", group.project);
            name_is_free(tx, among, &name, Some(group.id.0)).await?;
            self.changes.push(format!("name '{}' to '{name}'", group.name));
            group.name = name;
        }
        Ok(())
    }

    /// Which hosts, and in which order.
    async fn rehost(
        &mut self,
        tx: &mut Transaction,
        caller: &Caller,
        change: &GroupUpdate,
    ) -> Result<()> {
        if change.hosts.is_none() && change.add_hosts.is_empty() && change.remove_hosts.is_empty() {
            return Ok(());
        }
        let mut named: Vec<Host> = Vec::new();
        let mut wanted: Vec<HostId> = self.record.group.staying().collect();
        if let Some(names) = &change.hosts {
            named = hosts::of_names(tx, caller, self.volume, names).await?;
            wanted = named.iter().map(|host| host.id).collect();
        }
        if !change.add_hosts.is_empty() {
            let names = &change.add_hosts;
            named = crate::attachment::hosts_of(tx, caller, self.volume, names).await?;
            let new = named.iter().map(|host| host.id).filter(|id| !wanted.contains(id));
            let new: Vec<HostId> = new.collect();
            wanted.extend(new);
        }
        let mut out: Vec<HostId> = Vec::new();
        for name in &change.remove_hosts {
            let id = match self.seen.one_of(name) {
                Ok(host) => host.id,
                // One that is none of the group's is out already, if there is such a host.
                Err(_) => resolve::<Host>(tx, caller, name).await?.id,
            };
            wanted.retain(|host| *host != id);
            out.push(id);
        }
        if !(2..=HOSTS_MAX).contains(&wanted.len()) {
            let (group, hosts) = (self.seen.group.name.clone(), self.seen.host_names());
            return Err(ControlError::GroupHosts { group, hosts, count: wanted.len() });
        }
        self.take_out(&wanted, &out, change.force)?;
        self.take_in(&wanted, &named);
        Ok(())
    }

    /// Those that are not wanted any more: out at once where they cannot run the group, and told
    /// that it is stopped where they might. One that is leaving already is waited for, unless it is
    /// named once more, with force.
    fn take_out(&mut self, wanted: &[HostId], named: &[HostId], force: bool) -> Result<()> {
        let group = &mut self.record.group;
        for host in self.seen.hosts.iter().filter(|host| !wanted.contains(&host.id)) {
            let is_leaving = group.leaving.contains(&host.id);
            match host.may_run() {
                Some(_) if is_leaving && !(force && named.contains(&host.id)) => continue,
                Some(why) if !force && !may_leave(self.seen, host) => {
                    let (group, host) = (group.name.clone(), host.name.clone());
                    return Err(ControlError::GroupHostRuns { group, host, why });
                }
                Some(_) if !force => {
                    self.changes.push(format!("host '{}' is to leave", host.name));
                    group.leaving.insert(host.id);
                }
                _ => {
                    let forced = if force { ", forced" } else { "" };
                    self.changes.push(format!("without host '{}'{forced}", host.name));
                    self.dropped.push(host.id);
                }
            }
        }
        for host in &self.dropped {
            self.record.forget(*host);
        }
        // It would take the group when it is next to be moved.
        let group = &mut self.record.group;
        group.owner = group.owner.filter(|owner| wanted.contains(owner));
        Ok(())
    }

    fn take_in(&mut self, wanted: &[HostId], named: &[Host]) {
        let group = &mut self.record.group;
        let before: Vec<HostId> = group.staying().collect();
        for host in named.iter().filter(|host| !before.contains(&host.id)) {
            if !wanted.contains(&host.id) {
                continue;
            }
            self.changes.push(format!("host '{}' is new", host.name));
            if !group.leaving.remove(&host.id) {
                self.record.said.remove(&host.id);
                self.added.push(host.id);
            }
        }
        let stayed = |list: &[HostId]| -> Vec<HostId> {
            list.iter().copied().filter(|id| before.contains(id) && wanted.contains(id)).collect()
        };
        if stayed(&before) != stayed(wanted) {
            let name = |id: &HostId| self.seen.host(*id).map(|host| host.name.as_str());
            let names: Vec<&str> = wanted.iter().filter_map(name).collect();
            self.changes.push(format!("the order {}", names.join(", ")));
        }
        let leaving: BTreeSet<HostId> = group.leaving.clone();
        let still = group.hosts.iter().copied().filter(|id| leaving.contains(id));
        group.hosts = wanted.iter().copied().chain(still).collect();
    }

    /// Resources and policy.
    fn rule(&mut self, change: &GroupUpdate) -> Result<()> {
        let group = &self.record.group;
        let policy = change.policy.of(&group.policy);
        if policy != group.policy {
            policy.check().map_err(invalid("policy"))?;
            if !policy.contends_like(&group.policy) {
                self.runs_nowhere("reservation and times")?;
            }
            self.changes.push(format!("policy {}", json(&policy)));
            self.record.group.policy = policy;
        }
        if let Some(resources) = &change.resources
            && *resources != self.record.group.resources
        {
            rules::check_resources(resources).map_err(invalid("resources"))?;
            self.runs_nowhere("resources")?;
            let texts: Vec<String> = resources.iter().map(ToString::to_string).collect();
            let texts = if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
            self.changes.push(format!("resources {texts}"));
            self.record.group.resources.clone_from(resources);
        }
        Ok(())
    }

    /// Does nobody go by what there is, or could before it hears of the change?
    fn runs_nowhere(&self, what: &'static str) -> Result<()> {
        let Group { name, wanted, .. } = &self.seen.group;
        let stays = |host: &&GroupHostView| !self.dropped.contains(&host.id);
        let runs = self.seen.hosts.iter().filter(stays).find_map(GroupHostView::may_run);
        let why = match (wanted, runs) {
            (Wanted::Started, _) => format!("stop it first: commonhold group stop {name}"),
            (Wanted::Stopped, Some(why)) => why,
            (Wanted::Stopped, None) => return Ok(()),
        };
        Err(ControlError::GroupNotStopped { group: name.clone(), what, why })
    }
}

/// Can it be told to leave, and does it not run the group?
fn may_leave(seen: &GroupView, host: &GroupHostView) -> bool {
    host.is_up && !host.contends() && seen.owner != Some(host.id)
}

fn json(policy: &rules::Policy) -> String {
    // A policy is plain values.
    serde_json::to_string(policy).unwrap_or_default()
}
