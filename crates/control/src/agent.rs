//! Agents: the daemons that speak for hosts. Each has a token that opens nothing but its beats.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use model::agent::Agent;
use model::attachment::{Attachment, AttachmentState};
use model::event::{EventResult, ResourceKind};
use model::group::{Group, Wanted};
use model::host::Host;
use model::id::{HostId, VolumeId};
use model::order::Chap;
use model::project::Project;
use model::size::ByteSize;
use model::text;
use model::user::Role;
use model::volume::Volume;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::caller::Caller;
use crate::catalog::{
    self, AgentRecord, AttachmentRecord, Connection, GroupRecord, Query, Transaction,
};
use crate::error::{ControlError, Result};
use crate::facade::{Control, Inner, invalid, not_found, project_for, resolve};
use crate::group::{self, Said};
use crate::host::{
    are_not_taken, claim_initiators, has_no_attachment, new_host, valid_addresses, valid_initiators,
};
use crate::user::hash;
use crate::volume::expected;

/// Tokens of agents begin so: people and programs know them from those of users.
pub(crate) const AGENT_PREFIX: &str = "cha_";
/// 43 characters of 6 bits: 258 random bits.
const SECRET_CHARS: usize = 43;
const VERSION_CHARS_MAX: usize = 64;
/// How often the time of the last beat is made durable; in between it is in memory.
const SEEN_DURABLE_MS: u64 = 60_000;

/// Who beats: made by [`Control::agent_authenticate`] from an agent's token. It is no
/// [`Caller`], so that no other use case can be asked with such a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentCaller {
    host: HostId,
    from: String,
}

/// A host and its agent, to be known or known anew.
#[derive(Clone, Debug, Default)]
pub struct AgentCreate {
    /// Name or id inside the project; one is made where there is none of that name.
    pub host: String,
    /// One of them must be known of a host that has any.
    pub initiators: Vec<String>,
    /// IP addresses at which its peers reach it; those that the host has when empty.
    pub addresses: Vec<String>,
    pub version: String,
    pub project: Option<String>,
}

/// A host and its agent's token, which is never shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentCreated {
    pub host: HostView,
    /// `cha_` and 43 characters.
    pub secret: String,
}

impl std::fmt::Debug for AgentCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentCreated").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A host, and its agent where it has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostView {
    pub host: Host,
    pub agent: Option<Agent>,
    /// When this was true: milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A sign of life.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    pub version: String,
    /// IP addresses; as before when empty.
    pub addresses: Vec<String>,
    pub port: u16,
    pub reports: Vec<model::group::Report>,
}

/// What a host is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignments {
    pub host: Host,
    pub attachments: Vec<AgentAttachment>,
    pub groups: Vec<AgentGroup>,
}

/// An attachment with all that its host needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentAttachment {
    pub attachment: Attachment,
    pub volume_name: String,
    pub size: ByteSize,
    pub chap: Option<Chap>,
}

/// A group with all that one of its hosts needs.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentGroup {
    pub group: Group,
    /// In the order of the group's hosts; no agent where there is none.
    pub peers: Vec<(HostId, String, Option<Agent>)>,
    /// 32 bytes, hexadecimal.
    pub heartbeat_key: String,
}

impl std::fmt::Debug for AgentGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentGroup").field("group", &self.group).finish_non_exhaustive()
    }
}

/// What agents said lately. In memory: it comes again with the next beat.
#[derive(Default)]
pub(crate) struct Heard {
    hosts: Mutex<HashMap<HostId, u64>>,
    groups: Mutex<HashMap<(model::id::GroupId, HostId), Said>>,
}

impl Heard {
    fn host(&self, host: HostId, now_ms: u64) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host, now_ms);
    }
    pub(crate) fn seen_ms(&self, host: HostId) -> Option<u64> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&host).copied()
    }
    pub(crate) fn say(&self, host: HostId, said: Said) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.insert((said.report.group, host), said);
    }
    pub(crate) fn said(&self, group: model::id::GroupId, host: HostId) -> Option<Said> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(&(group, host)).cloned()
    }
    pub(crate) fn forget_group(&self, group: model::id::GroupId) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|(of, _), _| *of != group);
    }
    pub(crate) fn forget(&self, group: model::id::GroupId, host: HostId) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&(group, host));
    }
    pub(crate) fn forget_host(&self, host: HostId) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|(_, by), _| *by != host);
    }
}

fn valid_version(version: &str) -> Result<String> {
    let version = text::description(version).map_err(invalid("version"))?;
    Ok(version.chars().take(VERSION_CHARS_MAX).collect())
}

impl Control {
    /// Which host's agent holds this token.
    ///
    /// # Errors
    /// Missing, or not an agent's, or void.
    pub async fn agent_authenticate(&self, token: &str, from: &str) -> Result<AgentCaller> {
        let token = token.trim();
        if token.is_empty() {
            return Err(ControlError::TokenMissing);
        }
        let wanted = hash(token);
        let mut on = self.inner.catalog.read().await?;
        let query = Query::<AgentRecord>::all().eq("hash", wanted.as_str());
        let record = catalog::select(&mut on, query).await?.pop();
        let record = record.ok_or(ControlError::TokenUnknown)?;
        if !bool::from(record.hash.as_bytes().ct_eq(wanted.as_bytes())) {
            return Err(ControlError::TokenUnknown);
        }
        Ok(AgentCaller { host: record.agent.host, from: from.to_owned() })
    }

    /// Make a host and its agent known; the agent's earlier token is void from then on.
    ///
    /// # Errors
    /// A reader; a bad value; an initiator name is another host's; the host has initiator names
    /// and none of these, or one of these is new while volumes are attached to it.
    pub async fn agent_create(&self, caller: &Caller, new: AgentCreate) -> Result<AgentCreated> {
        caller.must_be(Role::Member, "enroll hosts")?;
        let initiators = valid_initiators(&new.initiators)?;
        let addresses = valid_addresses(&new.addresses)?;
        let version = valid_version(&new.version)?;
        let mut tx = self.inner.catalog.begin().await?;
        let project = project_for(&mut tx, caller, new.project.as_deref()).await?;
        let host = match inside(&mut tx, &project, &new.host).await? {
            Some(host) => self.inner.widen(&mut tx, caller, host, initiators).await?,
            None => {
                let (name, addresses) = (&new.host, addresses.clone());
                self.inner
                    .first_seen(&mut tx, caller, &project, name, initiators, addresses)
                    .await?
            }
        };
        let secret = format!("{AGENT_PREFIX}{}", self.inner.random_text(SECRET_CHARS));
        let now_ms = self.inner.now_ms();
        let agent = Agent {
            host: host.id,
            version,
            addresses: if addresses.is_empty() { host.addresses.clone() } else { addresses },
            port: 0,
            enrolled_ms: now_ms,
            seen_ms: now_ms,
        };
        let record = AgentRecord { agent: agent.clone(), hash: hash(&secret) };
        if catalog::get::<AgentRecord>(&mut tx, host.id.0).await?.is_some() {
            catalog::update(&mut tx, &record).await?;
        } else {
            catalog::insert(&mut tx, &record).await?;
        }
        self.inner.done(&mut tx, caller, &host, "host.enroll").await?;
        self.inner.commit(tx).await?;
        self.inner.heard.host(host.id, now_ms);
        Ok(AgentCreated { host: HostView { host, agent: Some(agent), now_ms }, secret })
    }

    /// The agent's token is void; what the host has attached stays.
    ///
    /// # Errors
    /// A reader; no such host.
    pub async fn agent_delete(&self, caller: &Caller, host: &str) -> Result<()> {
        caller.must_be(Role::Member, "dismiss agents")?;
        let mut tx = self.inner.catalog.begin().await?;
        let host: Host = resolve(&mut tx, caller, host).await?;
        if catalog::get::<AgentRecord>(&mut tx, host.id.0).await?.is_none() {
            return Ok(());
        }
        catalog::delete::<AgentRecord>(&mut tx, host.id.0).await?;
        self.inner.done(&mut tx, caller, &host, "host.dismiss").await?;
        self.inner.commit(tx).await?;
        self.inner.heard.forget_host(host.id);
        Ok(())
    }

    /// An agent lives, and says where its groups stand; it learns what its host is to have.
    ///
    /// # Errors
    /// Its token was made void; a bad address; the catalog failed.
    pub async fn beat(&self, caller: &AgentCaller, beat: Beat) -> Result<Assignments> {
        let addresses = valid_addresses(&beat.addresses)?;
        let version = valid_version(&beat.version)?;
        let now_ms = self.inner.now_ms();
        let mut on = self.inner.catalog.read().await?;
        let record = catalog::get::<AgentRecord>(&mut on, caller.host.0).await?;
        let mut agent = record.ok_or(ControlError::TokenUnknown)?.agent;
        let host: Host = expected(&mut on, caller.host.0).await?;
        let was_ms = agent.seen_ms;
        let before = agent.clone();
        agent.version = version;
        agent.port = beat.port;
        if !addresses.is_empty() {
            agent.addresses = addresses;
        }
        let is_news = agent != before || now_ms.saturating_sub(was_ms) >= SEEN_DURABLE_MS;
        self.inner.heard.host(host.id, now_ms);
        let of_host = group::of_host(&mut on, host.id).await?;
        drop(on);
        if is_news {
            agent.seen_ms = now_ms;
            self.inner.note_agent(agent).await?;
        }
        let heard = self.inner.hear(caller.as_caller(&host), &host, &of_host, beat.reports);
        let has_left = heard.await?;
        let of_host = self.inner.tell(host.id, of_host, has_left).await?;
        let mut on = self.inner.catalog.read().await?;
        let attachments = assigned(&mut on, host.id).await?;
        let groups = self.inner.with_peers(&mut on, host.id, of_host).await?;
        Ok(Assignments { host, attachments, groups })
    }
}

/// The project's host of this name or id. A host of another project is none, whoever asks: an
/// agent must not come to speak for it because it has the same name.
async fn inside(on: &mut Connection, project: &Project, text: &str) -> Result<Option<Host>> {
    let text = text.trim();
    let of_project = Query::<Host>::all().eq("project", project.id);
    if let Ok(id) = Uuid::parse_str(text) {
        let host = catalog::select(on, of_project.eq("id", id)).await?.pop();
        return host.map(Some).ok_or_else(|| not_found(ResourceKind::Host, text));
    }
    Ok(catalog::select(on, of_project.eq("name", text)).await?.pop())
}

impl AgentCaller {
    /// Who the audit trail names.
    fn as_caller(&self, host: &Host) -> Caller {
        let user_name = format!("agent of {}", host.name);
        Caller { user_name, from: self.from.clone(), ..Caller::system() }
    }
}

/// The volumes that the host is let in to, with what it needs to log in.
async fn assigned(on: &mut Connection, host: HostId) -> Result<Vec<AgentAttachment>> {
    let mut records =
        catalog::select(on, Query::<AttachmentRecord>::all().eq("host", host)).await?;
    records.retain(|record| {
        let state = record.attachment.state;
        matches!(state, AttachmentState::Attached | AttachmentState::Changing)
            && record.attachment.connection.is_some()
    });
    let ids = records.iter().map(|record| record.attachment.volume.0);
    let volumes = catalog::select(on, Query::<Volume>::all().one_of("id", ids)).await?;
    let volumes: HashMap<VolumeId, Volume> =
        volumes.into_iter().map(|volume| (volume.id, volume)).collect();
    let with_volume = |record: AttachmentRecord| {
        let volume = volumes.get(&record.attachment.volume)?;
        Some(AgentAttachment {
            volume_name: volume.name.clone(),
            size: volume.size,
            chap: record.chap,
            attachment: record.attachment,
        })
    };
    Ok(records.into_iter().filter_map(with_volume).collect())
}

impl Inner {
    async fn first_seen(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        project: &Project,
        name: &str,
        initiators: Vec<String>,
        addresses: Vec<std::net::IpAddr>,
    ) -> Result<Host> {
        let mut host = new_host(tx, (self.new_id(), self.now_ms()), project.id, name).await?;
        host.initiators = initiators;
        host.addresses = addresses;
        catalog::insert(tx, &host).await?;
        claim_initiators(tx, &host).await?;
        self.done(tx, caller, &host, "host.create").await?;
        Ok(host)
    }

    /// A host that is known: initiator names of its own that the agent knows besides are added.
    /// Its addresses are the operator's, who lets it in to exports by them; the agent's are kept
    /// with the agent.
    async fn widen(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        mut host: Host,
        initiators: Vec<String>,
    ) -> Result<Host> {
        are_not_taken(tx, &host, &initiators).await?;
        let (known, new): (Vec<_>, Vec<_>) =
            initiators.into_iter().partition(|name| host.initiators.contains(name));
        let Some(first) = new.first() else { return Ok(host) };
        if known.is_empty() && !host.initiators.is_empty() {
            // It may be another machine that was given the same name.
            let (iqn, known) = (first.clone(), host.initiators);
            return Err(ControlError::InitiatorNew { host: host.name, iqn, known });
        }
        // The node has let it in under the names of before.
        has_no_attachment(tx, &host).await?;
        host.initiators.extend(new);
        claim_initiators(tx, &host).await?;
        catalog::update(tx, &host).await?;
        self.record(tx, caller, &host, "host.update", EventResult::Done, "by its agent").await?;
        Ok(host)
    }

    /// Before a host hears that it is to have a group run, it is written down that it was told:
    /// until it says that it follows a later order, it may run it.
    async fn tell(
        &self,
        host: HostId,
        groups: Vec<GroupRecord>,
        has_left: bool,
    ) -> Result<Vec<GroupRecord>> {
        let is_new = |record: &GroupRecord| {
            let group = &record.group;
            let is_started = group.wanted_of(host) == Wanted::Started;
            is_started && record.told.get(&host) != Some(&group.generation)
        };
        if !has_left && !groups.iter().any(is_new) {
            return Ok(groups);
        }
        let mut tx = self.catalog.begin().await?;
        // Something else may be wanted by now: what is answered is what is written down.
        let mut groups = group::of_host(&mut tx, host).await?;
        for record in groups.iter_mut().filter(|record| is_new(record)) {
            record.told.insert(host, record.group.generation);
            catalog::update(&mut tx, &*record).await?;
        }
        tx.commit().await?;
        Ok(groups)
    }

    /// The groups as one of their hosts is told them. The catalog is asked once for the hosts of
    /// all of them.
    async fn with_peers(
        &self,
        on: &mut Connection,
        host: HostId,
        groups: Vec<GroupRecord>,
    ) -> Result<Vec<AgentGroup>> {
        let hosts = groups.iter().flat_map(|record| &record.group.hosts).copied();
        let hosts: BTreeSet<HostId> = hosts.collect();
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let names = catalog::names::<Host>(on, hosts.iter().map(|id| id.0)).await?;
        let agents = self.agents(on, hosts).await?;
        let peer = |id: &HostId| {
            (*id, names.get(&id.0).cloned().unwrap_or_default(), agents.get(id).cloned())
        };
        let with_peers = groups.into_iter().map(|record| AgentGroup {
            peers: record.group.hosts.iter().map(peer).collect(),
            heartbeat_key: record.heartbeat_key,
            group: Group { wanted: record.group.wanted_of(host), ..record.group },
        });
        Ok(with_peers.collect())
    }

    async fn note_agent(&self, agent: Agent) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        if let Some(mut record) = catalog::get::<AgentRecord>(&mut tx, agent.host.0).await? {
            record.agent = agent;
            catalog::update(&mut tx, &record).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The agents of these hosts, each with the time of its last beat.
    pub(crate) async fn agents(
        &self,
        on: &mut Connection,
        hosts: impl IntoIterator<Item = HostId>,
    ) -> Result<HashMap<HostId, Agent>> {
        let ids = hosts.into_iter().map(|id| id.0);
        let records = catalog::select(on, Query::<AgentRecord>::all().one_of("id", ids)).await?;
        let with_time = records.into_iter().map(|AgentRecord { mut agent, .. }| {
            agent.seen_ms = self.heard.seen_ms(agent.host).unwrap_or(agent.seen_ms);
            (agent.host, agent)
        });
        Ok(with_time.collect())
    }

    /// A host as it is shown.
    pub(crate) async fn host_view(&self, on: &mut Connection, host: Host) -> Result<HostView> {
        let agent = self.agents(on, [host.id]).await?.remove(&host.id);
        Ok(HostView { host, agent, now_ms: self.now_ms() })
    }
}
