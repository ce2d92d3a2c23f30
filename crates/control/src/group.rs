//! Groups: what is wanted of a service that runs on one of several hosts, and what its hosts say.
//!
//! Nothing here decides who owns a group: the agents and the volume do. So a group goes on while
//! the control plane is away, and what is shown as the owner is what hosts have said, with its age.

mod hosts;
mod report;
mod update;

use model::event::{EventResult, ResourceKind};
use model::group::{self as rules, Group, GroupState, HOSTS_MAX, Policy, Resource, Wanted};
use model::host::Host;
use model::id::{GroupId, HostId, VolumeId};
use model::order::Mode;
use model::user::Role;
use model::volume::{Volume, VolumeKind};
use sqlx::{Executor, Row};

use crate::attachment::{Probe, Verdict};
use crate::caller::Caller;
use crate::catalog::{self, Connection, GroupRecord, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{Control, invalid, listed_project, name_is_free, resolve, valid_name};
use crate::page::{Page, Paging};
use crate::params::AttachmentCreate;
use crate::volume::expected;

pub use hosts::GroupHostView;
pub use report::Said;
pub use update::GroupUpdate;

const KEY_BYTES: usize = 32;

/// A new group.
#[derive(Clone, Debug)]
pub struct GroupCreate {
    pub name: String,
    /// Name or id.
    pub volume: String,
    /// Names or ids, the preferred one first.
    pub hosts: Vec<String>,
    pub resources: Vec<Resource>,
    pub policy: Policy,
    pub wanted: Wanted,
}

#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    pub name: Option<String>,
    pub volume: Option<String>,
    pub host: Option<String>,
    pub project: Option<String>,
    pub paging: Paging,
}

/// A group, and what its hosts have said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupView {
    pub group: Group,
    pub volume_name: String,
    pub state: GroupState,
    /// The host that owns it, by the words in `hosts`.
    pub owner: Option<HostId>,
    /// In the order of the group's hosts.
    pub hosts: Vec<GroupHostView>,
    /// When this was true: milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// The groups that name this host.
pub(crate) async fn of_host(on: &mut Connection, host: HostId) -> Result<Vec<GroupRecord>> {
    let ids = sqlx::query("SELECT group_id FROM group_hosts WHERE host = $1");
    let rows = on.fetch_all(ids.bind(host.to_string())).await?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in rows {
        ids.push(catalog::parse_id::<GroupRecord>(row.try_get(0)?)?);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    catalog::select(on, Query::<GroupRecord>::all().one_of("id", ids)).await
}

/// The group that holds the reservation of this volume.
async fn of_volume(on: &mut Connection, volume: VolumeId) -> Result<Option<GroupRecord>> {
    Ok(catalog::select(on, Query::<GroupRecord>::all().eq("volume", volume)).await?.pop())
}

fn used_by(kind: ResourceKind, name: String, group: &GroupRecord) -> ControlError {
    ControlError::InUse { kind, name, by: format!("group '{}'", group.group.name) }
}

/// Refuse to do without a host that a group names.
pub(crate) async fn names_no_host(on: &mut Connection, host: &Host) -> Result<()> {
    match of_host(on, host.id).await?.first() {
        Some(group) => Err(used_by(ResourceKind::Host, host.name.clone(), group)),
        None => Ok(()),
    }
}

/// Refuse to do without the volume of a group.
pub(crate) async fn holds_no_volume(on: &mut Connection, volume: &Volume) -> Result<()> {
    match of_volume(on, volume.id).await? {
        Some(group) => Err(used_by(ResourceKind::Volume, volume.name.clone(), &group)),
        None => Ok(()),
    }
}

/// Refuse to detach the volume of a group from one of the group's hosts, or to have it read-only
/// there. To fence is never refused.
pub(crate) async fn needs_no_attachment(
    on: &mut Connection,
    attachment: &model::attachment::Attachment,
) -> Result<()> {
    match of_volume(on, attachment.volume).await? {
        Some(group) if group.group.hosts.contains(&attachment.host) => {
            Err(used_by(ResourceKind::Attachment, attachment.id.to_string(), &group))
        }
        _ => Ok(()),
    }
}

/// What a verb makes of a group; gives the detail of its event.
type Change<'a> = &'a (dyn Fn(&mut Group, &GroupView) -> Result<String> + Send + Sync);

impl Control {
    /// A new group; its volume is attached, read-write, to those of its hosts that do not have it.
    ///
    /// # Errors
    /// A reader; an unknown volume or host; the name is taken; a bad value; the volume holds files,
    /// is of a type without multi-attach, or has a group already.
    pub async fn group_create(&self, caller: &Caller, new: GroupCreate) -> Result<GroupView> {
        caller.must_be(Role::Member, "create groups")?;
        let name = valid_name(&new.name)?;
        new.policy.check().map_err(invalid("policy"))?;
        rules::check_resources(&new.resources).map_err(invalid("resources"))?;
        let mut probe: Option<Probe> = None;
        loop {
            let mut tx = self.inner.catalog.begin().await?;
            let volume: Volume = resolve(&mut tx, caller, &new.volume).await?;
            must_be(&volume, VolumeKind::Block, "run a group")?;
            holds_no_volume(&mut tx, &volume).await?;
            let among = Query::<GroupRecord>::all().eq("project", volume.project);
            name_is_free(&mut tx, among, &name, None).await?;
            let hosts = hosts::of_names(&mut tx, caller, &volume, &new.hosts).await?;
            let ids: Vec<HostId> = hosts.iter().map(|host| host.id).collect();
            let missing = self.attach(&mut tx, caller, &volume, &ids, probe.as_ref()).await?;
            if let Some(volume) = missing {
                // Reading the volume may take long, so it is done outside the transaction.
                drop(tx);
                probe = Some(self.inner.probe(volume).await);
                continue;
            }
            let group = Group {
                id: GroupId(self.inner.new_id()),
                project: volume.project,
                name,
                volume: volume.id,
                hosts: ids,
                leaving: std::collections::BTreeSet::new(),
                resources: new.resources,
                policy: new.policy,
                wanted: new.wanted,
                frozen: false,
                owner: None,
                moved: 0,
                generation: 1,
                forgiven: 1,
                permits: std::collections::BTreeMap::new(),
                created_ms: self.inner.now_ms(),
            };
            let view = self.write_new(&mut tx, caller, group, &volume, &hosts).await?;
            self.inner.commit(tx).await?;
            return Ok(view);
        }
    }

    /// Attach the volume to those of the hosts that lack it. What lies on it is no obstacle: the
    /// reservation lets one host write at a time. The answer names the volume when it must be
    /// looked at first.
    async fn attach(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &Volume,
        hosts: &[HostId],
        probe: Option<&Probe>,
    ) -> Result<Option<VolumeId>> {
        let asked = AttachmentCreate {
            volume: volume.id.to_string(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            mode: Mode::ReadWrite,
            accept_data_loss: true,
        };
        match self.judge(tx, caller, &asked, probe).await? {
            Verdict::Made(_) => Ok(None),
            Verdict::NeedsProbe(volume) => Ok(Some(volume)),
            Verdict::Refused { error, .. } => Err(error),
        }
    }

    async fn write_new(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        group: Group,
        volume: &Volume,
        hosts: &[Host],
    ) -> Result<GroupView> {
        let mut key = [0_u8; KEY_BYTES];
        self.inner.random.fill(&mut key);
        let record = GroupRecord {
            group,
            heartbeat_key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            said: std::collections::BTreeMap::new(),
            told: std::collections::BTreeMap::new(),
        };
        catalog::insert(tx, &record).await?;
        for host in hosts {
            let name = sqlx::query("INSERT INTO group_hosts (group_id, host) VALUES ($1, $2)");
            let name = name.bind(record.group.id.to_string()).bind(host.id.to_string());
            tx.execute(name).await?;
        }
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let wanted = record.group.wanted.word();
        let detail = format!("volume '{}', hosts {}, {wanted}", volume.name, names.join(", "));
        let (action, result) = ("group.create", EventResult::Done);
        self.inner.record(tx, caller, &record, action, result, detail).await?;
        self.inner.group_view(tx, record).await
    }

    /// # Errors
    /// No such volume, host or project; bad paging.
    pub async fn group_list(
        &self,
        caller: &Caller,
        filter: &GroupFilter,
    ) -> Result<Page<GroupView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let volume = match &filter.volume {
            None => None,
            Some(name) => Some(resolve::<Volume>(&mut on, caller, name).await?.id),
        };
        let mut query = Query::<GroupRecord>::all()
            .maybe("project", project)
            .maybe("volume", volume)
            .maybe("name", filter.name.as_deref());
        if let Some(name) = &filter.host {
            let host: Host = resolve(&mut on, caller, name).await?;
            let of_host = of_host(&mut on, host.id).await?;
            query = query.one_of("id", of_host.iter().map(|record| record.group.id.0));
        }
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for record in page.items {
            items.push(self.inner.group_view(&mut on, record).await?);
        }
        Ok(Page { items, next: page.next })
    }

    /// # Errors
    /// No such group, or ambiguous.
    pub async fn group_get(&self, caller: &Caller, group: &str) -> Result<GroupView> {
        let mut on = self.inner.catalog.read().await?;
        let record = resolve(&mut on, caller, group).await?;
        self.inner.group_view(&mut on, record).await
    }

    /// It is to run on one of its hosts. Asked for again, it also forgives hosts their failures.
    ///
    /// # Errors
    /// A reader; no such group; it is frozen.
    pub async fn group_start(&self, caller: &Caller, group: &str) -> Result<GroupView> {
        self.group_change(caller, group, "group.start", &|group, _| {
            thawed(group)?;
            group.wanted = Wanted::Started;
            group.forgiven = group.generation;
            Ok(String::new())
        })
        .await
    }

    /// It is to run nowhere.
    ///
    /// # Errors
    /// A reader; no such group; it is frozen.
    pub async fn group_stop(&self, caller: &Caller, group: &str) -> Result<GroupView> {
        self.group_change(caller, group, "group.stop", &|group, _| {
            thawed(group)?;
            group.wanted = Wanted::Stopped;
            Ok(String::new())
        })
        .await
    }

    /// Another host is to own it: the one named, or the next in the list that is up.
    ///
    /// # Errors
    /// A reader; no such group; it is frozen; the host is none of its own, is fenced, is not heard
    /// or does not reach the volume; there is none to go to.
    pub async fn group_move(
        &self,
        caller: &Caller,
        group: &str,
        to: Option<&str>,
    ) -> Result<GroupView> {
        self.group_change(caller, group, "group.move", &|group, seen| {
            thawed(group)?;
            let to = match to {
                Some(name) => seen.one_of(name)?,
                None => seen.next_host()?,
            };
            to.may_take(&group.name)?;
            group.owner = Some(to.id);
            (group.moved, group.forgiven) = (group.generation, group.generation);
            Ok(format!("to host '{}'", to.name))
        })
        .await
    }

    /// Agents watch and report, and change nothing.
    ///
    /// # Errors
    /// A reader; no such group.
    pub async fn group_freeze(&self, caller: &Caller, group: &str) -> Result<GroupView> {
        self.group_change(caller, group, "group.freeze", &|group, _| {
            group.frozen = true;
            Ok(String::new())
        })
        .await
    }

    /// Agents act again.
    ///
    /// # Errors
    /// A reader; no such group.
    pub async fn group_unfreeze(&self, caller: &Caller, group: &str) -> Result<GroupView> {
        self.group_change(caller, group, "group.unfreeze", &|group, _| {
            group.frozen = false;
            Ok(String::new())
        })
        .await
    }

    /// A host that lost the volume may try again; one that was cut off is let in again.
    ///
    /// # Errors
    /// A reader; no such group; the host is none of its own, or is still on its way out.
    pub async fn group_permit(
        &self,
        caller: &Caller,
        group: &str,
        host: &str,
    ) -> Result<GroupView> {
        caller.must_be(Role::Member, "permit hosts")?;
        let mut probe: Option<Probe> = None;
        loop {
            let mut tx = self.inner.catalog.begin().await?;
            let record: GroupRecord = resolve(&mut tx, caller, group).await?;
            let volume: Volume = expected(&mut tx, record.group.volume.0).await?;
            let seen = self.inner.group_view(&mut tx, record.clone()).await?;
            let host = seen.one_of(host)?;
            let missing = self.attach(&mut tx, caller, &volume, &[host.id], probe.as_ref()).await?;
            if let Some(volume) = missing {
                drop(tx);
                probe = Some(self.inner.probe(volume).await);
                continue;
            }
            let permit = |group: &mut Group, _: &GroupView| {
                group.permits.insert(host.id, group.generation);
                // A host whose resources could not be ended has failed besides.
                group.forgiven = group.generation;
                Ok(format!("host '{}'", host.name))
            };
            let view = self.change(&mut tx, caller, record, "group.permit", &permit).await?;
            self.inner.commit(tx).await?;
            return Ok(view);
        }
    }

    /// Forget a group. Its volume stays attached.
    ///
    /// # Errors
    /// A reader; no such group; it is started, or a host may run it (by what it said last, or
    /// because it has not said that it heard of the stop), and `force` was not given.
    pub async fn group_delete(&self, caller: &Caller, group: &str, force: bool) -> Result<()> {
        caller.must_be(Role::Member, "delete groups")?;
        let mut tx = self.inner.catalog.begin().await?;
        let record: GroupRecord = resolve(&mut tx, caller, group).await?;
        let seen = self.inner.group_view(&mut tx, record.clone()).await?;
        let group = &record.group;
        let why = match group.wanted {
            Wanted::Started => Some("it is wanted started".to_owned()),
            Wanted::Stopped => seen.may_run(),
        };
        if let Some(why) = why
            && !force
        {
            return Err(ControlError::GroupRuns { group: group.name.clone(), why });
        }
        catalog::delete::<GroupRecord>(&mut tx, group.id.0).await?;
        let detail = if force { "forced" } else { "" };
        let (action, result) = ("group.delete", EventResult::Done);
        self.inner.record(&mut tx, caller, &record, action, result, detail).await?;
        let id = group.id;
        self.inner.commit(tx).await?;
        self.inner.heard.forget_group(id);
        Ok(())
    }

    async fn group_change(
        &self,
        caller: &Caller,
        group: &str,
        action: &str,
        change: Change<'_>,
    ) -> Result<GroupView> {
        caller.must_be(Role::Member, "change groups")?;
        let mut tx = self.inner.catalog.begin().await?;
        let record: GroupRecord = resolve(&mut tx, caller, group).await?;
        let view = self.change(&mut tx, caller, record, action, change).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }

    /// A newer order: its generation is greater than every one before.
    async fn change(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        mut record: GroupRecord,
        action: &str,
        change: Change<'_>,
    ) -> Result<GroupView> {
        let seen = self.inner.group_view(tx, record.clone()).await?;
        record.group.generation += 1;
        let detail = change(&mut record.group, &seen)?;
        catalog::update(tx, &record).await?;
        let result = EventResult::Accepted;
        self.inner.record(tx, caller, &record, action, result, detail).await?;
        self.inner.group_view(tx, record).await
    }
}

fn thawed(group: &Group) -> Result<()> {
    match group.frozen {
        true => Err(ControlError::GroupFrozen { group: group.name.clone() }),
        false => Ok(()),
    }
}
