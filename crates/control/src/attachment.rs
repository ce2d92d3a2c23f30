//! Attachments: letting hosts in and out.
//!
//! No volume and no host is locked: the rules are checked and the rows written in one short
//! transaction, and each attachment's orders run by themselves. Sixteen hosts attach at once.

use std::collections::HashMap;

use model::attachment::{Attachment, AttachmentState};
use model::event::{EventResult, ResourceKind};
use model::host::Host;
use model::id::{AttachmentId, HostId, VolumeId};
use model::order::{Chap, Found, Mode, OrderError, Report};
use model::user::Role;
use model::volume::{Volume, VolumeKind, VolumeStatus};
use model::volume_type::VolumeType;

use crate::board::Step;
use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query, Transaction};
use crate::error::{ControlError, Result};
use crate::export::must_be;
use crate::facade::{Control, Inner, listed_project, not_found, resolve};
use crate::group;
use crate::page::Page;
use crate::params::{
    AttachmentCreate, AttachmentCreated, AttachmentFilter, AttachmentView, Fenced,
};
use crate::volume::{busy, expected};
use crate::work::Outcome;

/// Six random bits each: 96 bits, what RFC 7143 12.1.3 asks for, and the 16 bytes at which
/// Windows' initiator stops.
const SECRET_CHARS: usize = 16;
const USER_CHARS: usize = 12;
/// Most hosts of one call.
const HOSTS_MAX: usize = 256;
/// Most present writers that a refusal names.
const WRITERS_NAMED: u32 = 9;

pub(crate) const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::ReadWrite => "rw",
        Mode::ReadOnly => "ro",
    }
}

/// Make the volume's status say what its attachments are, where nothing else goes on with it.
pub(crate) async fn settle(tx: &mut Transaction, volume: VolumeId) -> Result<()> {
    let Some(mut volume) = catalog::get::<Volume>(tx, volume.0).await? else { return Ok(()) };
    if !volume.status.is_settled() {
        return Ok(());
    }
    let status = settled(tx, volume.id).await?;
    if status != volume.status {
        debug_assert!(volume.status.may_become(&status), "{:?} to {status:?}", volume.status);
        volume.status = status;
        catalog::update(tx, &volume).await?;
    }
    Ok(())
}

/// The word for the attachments that a volume has now.
pub(crate) async fn settled(on: &mut Connection, volume: VolumeId) -> Result<VolumeStatus> {
    let query = Query::<AttachmentRecord>::all().eq("volume", volume);
    let words = catalog::words(on, query, "DISTINCT state").await?;
    let states: Vec<AttachmentState> =
        words.iter().filter_map(|word| AttachmentState::from_word(word)).collect();
    Ok(VolumeStatus::settled(&states))
}

/// What the node found on a volume, or why it could not say.
pub(crate) type Probe = Result<Vec<Found>, OrderError>;

/// What the rules say to one who wants to write.
pub(crate) enum Writing {
    /// There is no harm in it.
    Harmless,
    /// Harm was accepted by the caller.
    Accepted,
    /// There would be a second writer: what lies on the volume must be known first.
    NeedsProbe,
    /// Refused by what lies on the volume.
    Refused(ControlError),
}

/// May these hosts, which do not write yet, write to the volume beside those that do?
///
/// # Errors
/// The volume's type allows one writer.
pub(crate) async fn may_write(
    on: &mut Connection,
    (volume, kind): (&Volume, &VolumeType),
    newcomers: &[&Host],
    (probe, accept_data_loss): (Option<&Probe>, bool),
) -> Result<Writing> {
    // One is enough for the rule; a few more are for the sentence.
    let writers = Query::<AttachmentRecord>::all().eq("volume", volume.id).eq("may_write", true);
    let writers = catalog::select(on, writers.limit(WRITERS_NAMED)).await?;
    if writers.len() + newcomers.len() <= 1 {
        return Ok(Writing::Harmless);
    }
    if !kind.multiattach {
        let writers: Vec<HostId> = writers.iter().map(|record| record.attachment.host).collect();
        let hosts = sole_writers(on, &writers, newcomers).await?;
        return Err(ControlError::NotMultiattach { volume: volume.name.clone(), hosts });
    }
    let Some(probe) = probe else { return Ok(Writing::NeedsProbe) };
    Ok(match unsafe_content(volume, probe) {
        None => Writing::Harmless,
        Some(_) if accept_data_loss => Writing::Accepted,
        Some(error) => Writing::Refused(error),
    })
}

/// One call's decision, made inside the transaction.
pub(crate) enum Verdict {
    /// All rows are written.
    Made(Vec<AttachmentCreated>),
    /// There would be a second writer: what lies on the volume must be known first.
    NeedsProbe(VolumeId),
    /// Refused by what lies on the volume.
    Refused { volume: Box<Volume>, hosts: Vec<String>, error: ControlError },
}

impl Control {
    /// Attach the hosts, all or none; each comes back `attaching`. A host that is attached in the
    /// same mode already is simply part of the answer, without secrets.
    ///
    /// # Errors
    /// A reader; an unknown volume or host (another project's included); the volume's type allows
    /// one writer; what lies on it is not made for several; other work goes on with the volume.
    pub async fn attachment_create(
        &self,
        caller: &Caller,
        new: AttachmentCreate,
    ) -> Result<Vec<AttachmentCreated>> {
        caller.must_be(Role::Member, "attach volumes")?;
        if new.hosts.is_empty() || new.hosts.len() > HOSTS_MAX {
            let why = format!("between 1 and {HOSTS_MAX} hosts are needed");
            return Err(ControlError::Invalid { field: "hosts", why });
        }
        let mut probe: Option<Probe> = None;
        loop {
            let mut tx = self.inner.catalog.begin().await?;
            match self.judge(&mut tx, caller, &new, probe.as_ref()).await? {
                Verdict::Made(created) => {
                    self.inner.commit(tx).await?;
                    return Ok(created);
                }
                Verdict::NeedsProbe(volume) => {
                    // Reading the volume may take long, so it is done outside the transaction;
                    // everything else is judged anew afterwards.
                    drop(tx);
                    probe = Some(self.inner.probe(volume).await);
                }
                Verdict::Refused { volume, hosts, error } => {
                    let detail = format!("hosts {}: {error}", hosts.join(", "));
                    let (action, result) = ("attachment.create", EventResult::Refused);
                    self.inner
                        .record(&mut tx, caller, volume.as_ref(), action, result, detail)
                        .await?;
                    self.inner.commit(tx).await?;
                    return Err(error);
                }
            }
        }
    }

    pub(crate) async fn judge(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        new: &AttachmentCreate,
        probe: Option<&Probe>,
    ) -> Result<Verdict> {
        let volume: Volume = resolve(tx, caller, &new.volume).await?;
        must_be(&volume, VolumeKind::Block, "attach")?;
        if !volume.status.takes_attachments() {
            return Err(busy(&volume, "attach"));
        }
        let hosts = hosts_of(tx, caller, &volume, &new.hosts).await?;
        let asked = Query::<AttachmentRecord>::all().eq("volume", volume.id);
        let asked = asked.one_of("host", hosts.iter().map(|host| host.id));
        let present: HashMap<HostId, AttachmentRecord> = catalog::select(tx, asked)
            .await?
            .into_iter()
            .map(|record| (record.attachment.host, record))
            .collect();
        for host in &hosts {
            if let Some(record) = present.get(&host.id) {
                may_stay(&volume, host, &record.attachment, new.mode)?;
            }
        }
        let kind: VolumeType = expected(tx, volume.volume_type.0).await?;
        let newcomers: Vec<&Host> =
            hosts.iter().filter(|host| !present.contains_key(&host.id)).collect();
        let mut accepted_by = None;
        if new.mode == Mode::ReadWrite && !newcomers.is_empty() {
            let how = (probe, new.accept_data_loss);
            match may_write(tx, (&volume, &kind), &newcomers, how).await? {
                Writing::Harmless => {}
                Writing::Accepted => accepted_by = Some(caller.user_name.clone()),
                Writing::NeedsProbe => return Ok(Verdict::NeedsProbe(volume.id)),
                Writing::Refused(error) => {
                    let hosts = newcomers.iter().map(|host| host.name.clone()).collect();
                    let volume = Box::new(volume);
                    return Ok(Verdict::Refused { volume, hosts, error });
                }
            }
        }
        let room = Room { volume: &volume, multiattach: kind.multiattach, accepted_by, probe };
        let mut created = Vec::with_capacity(hosts.len());
        for host in &hosts {
            created.push(match present.get(&host.id) {
                Some(record) => self.inner.admit_again(tx, caller, &volume, host, record).await?,
                None => self.inner.admit(tx, caller, &room, host, new.mode).await?,
            });
        }
        settle(tx, volume.id).await?;
        Ok(Verdict::Made(created))
    }

    /// # Errors
    /// No such volume, host or project; bad paging.
    pub async fn attachment_list(
        &self,
        caller: &Caller,
        filter: &AttachmentFilter,
    ) -> Result<Page<AttachmentView>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let volume = match &filter.volume {
            None => None,
            Some(name) => Some(resolve::<Volume>(&mut on, caller, name).await?.id),
        };
        let host = match &filter.host {
            None => None,
            Some(name) => Some(resolve::<Host>(&mut on, caller, name).await?.id),
        };
        let query = Query::<AttachmentRecord>::all()
            .maybe("project", project)
            .maybe("volume", volume)
            .maybe("host", host);
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        let volumes = page.items.iter().map(|record| record.attachment.volume.0);
        let volumes = catalog::names::<Volume>(&mut on, volumes).await?;
        let hosts = page.items.iter().map(|record| record.attachment.host.0);
        let hosts = catalog::names::<Host>(&mut on, hosts).await?;
        Ok(page.map(|AttachmentRecord { attachment, .. }| AttachmentView {
            volume_name: volumes.get(&attachment.volume.0).cloned().unwrap_or_default(),
            host_name: hosts.get(&attachment.host.0).cloned().unwrap_or_default(),
            attachment,
        }))
    }

    /// # Errors
    /// No such attachment.
    pub async fn attachment_get(&self, caller: &Caller, id: &str) -> Result<AttachmentView> {
        let mut on = self.inner.catalog.read().await?;
        let record: AttachmentRecord = resolve(&mut on, caller, id).await?;
        view(&mut on, record.attachment).await
    }

    /// Detach: the host's running commands end, then it is let in no more. The attachment goes to
    /// `detaching`, and is gone when the node says so.
    ///
    /// # Errors
    /// A reader; no such attachment; a group runs on it.
    pub async fn attachment_delete(&self, caller: &Caller, id: &str) -> Result<AttachmentView> {
        caller.must_be(Role::Member, "detach volumes")?;
        let left = self.leave(caller, id, AttachmentState::Detaching).await?;
        Ok(left)
    }

    /// Cut the host off at once, and answer only when nothing of it can land any more.
    ///
    /// # Errors
    /// A reader; no such attachment; the node did not say that it is done. The attachment is
    /// `fencing` then, and the fence is sent again until the node says so.
    pub async fn attachment_fence(&self, caller: &Caller, id: &str) -> Result<Fenced> {
        caller.must_be(Role::Member, "fence hosts")?;
        // Else the plan may send it first, and who asked would be told that nothing was closed.
        let known = id.trim().parse().map(AttachmentId).ok();
        let asked = known.map(|id| self.inner.ask(Step::Fence(id)));
        let view = self.leave(caller, id, AttachmentState::Fencing).await?;
        let attachment = view.attachment.id;
        let inner = std::sync::Arc::clone(&self.inner);
        // A task of its own: a caller that hangs up must not leave a fence half sent.
        let work = tokio::spawn(async move {
            let _asked = asked;
            inner.run_now(Step::Fence(attachment)).await
        });
        let outcome = work.await.map_err(|error| {
            ControlError::Node(OrderError::Failed { why: format!("the fence broke off: {error}") })
        })?;
        let fenced = |sessions_closed, registrations_removed| {
            Ok(Fenced { attachment, sessions_closed, registrations_removed })
        };
        match outcome {
            Outcome::Done(Some(Report::CutOff { sessions, registrations })) => {
                fenced(sessions, registrations)
            }
            // The same fence, sent by somebody else, was done in the meantime.
            Outcome::Done(_) | Outcome::Nothing | Outcome::Wait(_) => fenced(0, 0),
            Outcome::Retry(error) => Err(error),
        }
    }

    async fn leave(
        &self,
        caller: &Caller,
        id: &str,
        state: AttachmentState,
    ) -> Result<AttachmentView> {
        let mut tx = self.inner.catalog.begin().await?;
        let mut record: AttachmentRecord = resolve(&mut tx, caller, id).await?;
        // No state refuses to leave: already on the way out, it is simply reported.
        if record.attachment.state.may_become(state) {
            if state == AttachmentState::Detaching {
                group::needs_no_attachment(&mut tx, &record.attachment).await?;
            }
            record.attachment.state = state;
            record.attachment.fault = None;
            catalog::update(&mut tx, &record).await?;
            settle(&mut tx, record.attachment.volume).await?;
            let action = match state {
                AttachmentState::Fencing => "attachment.fence",
                _ => "attachment.delete",
            };
            let seen = view(&mut tx, record.attachment.clone()).await?;
            let detail = format!("host '{}', volume '{}'", seen.host_name, seen.volume_name);
            let result = EventResult::Accepted;
            self.inner.record(&mut tx, caller, &record, action, result, detail).await?;
        }
        let view = view(&mut tx, record.attachment).await?;
        self.inner.commit(tx).await?;
        Ok(view)
    }
}

/// What a newcomer is let into.
struct Room<'a> {
    volume: &'a Volume,
    multiattach: bool,
    accepted_by: Option<String>,
    probe: Option<&'a Probe>,
}

impl Inner {
    async fn admit(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        room: &Room<'_>,
        host: &Host,
        mode: Mode,
    ) -> Result<AttachmentCreated> {
        let chap = self.settings.chap.then(|| self.new_chap());
        let attachment = Attachment {
            id: AttachmentId(self.new_id()),
            project: room.volume.project,
            volume: room.volume.id,
            host: host.id,
            mode,
            state: AttachmentState::Attaching,
            fault: None,
            connection: None,
            chap_user: chap.as_ref().map(|chap| chap.user.clone()),
            data_loss_accepted_by: room.accepted_by.clone(),
            created_ms: self.now_ms(),
        };
        let record = AttachmentRecord {
            attachment: attachment.clone(),
            chap: chap.clone(),
            multiattach: room.multiattach,
        };
        catalog::insert(tx, &record).await?;
        let mut detail =
            format!("host '{}', volume '{}', {}", host.name, room.volume.name, mode_word(mode));
        if let (Some(who), Some(probe)) = (&room.accepted_by, room.probe) {
            detail.push_str(&acceptance(who, room.volume, probe));
        }
        let (action, result) = ("attachment.create", EventResult::Accepted);
        self.record(tx, caller, &record, action, result, detail).await?;
        let view = AttachmentView {
            attachment,
            volume_name: room.volume.name.clone(),
            host_name: host.name.clone(),
        };
        Ok(AttachmentCreated { view, chap })
    }

    /// A host that has the volume already; one in error is tried again.
    async fn admit_again(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        volume: &Volume,
        host: &Host,
        record: &AttachmentRecord,
    ) -> Result<AttachmentCreated> {
        let mut record = record.clone();
        if record.attachment.state == AttachmentState::Error {
            record.attachment.state = AttachmentState::Attaching;
            record.attachment.fault = None;
            catalog::update(tx, &record).await?;
            let (action, result) = ("attachment.create", EventResult::Accepted);
            self.record(tx, caller, &record, action, result, "tried again").await?;
        }
        let view = AttachmentView {
            attachment: record.attachment,
            volume_name: volume.name.clone(),
            host_name: host.name.clone(),
        };
        Ok(AttachmentCreated { view, chap: None })
    }

    fn new_chap(&self) -> Chap {
        Chap {
            user: format!("host-{}", self.random_text(USER_CHARS)),
            secret: self.random_text(SECRET_CHARS),
            target_user: format!("target-{}", self.random_text(USER_CHARS)),
            target_secret: self.random_text(SECRET_CHARS),
        }
    }
}

/// The hosts of these names, each once, all of the volume's project.
pub(crate) async fn hosts_of(
    on: &mut Connection,
    caller: &Caller,
    volume: &Volume,
    names: &[String],
) -> Result<Vec<Host>> {
    // The operator too means the hosts of the volume's project.
    let inside = Caller { project: Some(volume.project), ..caller.clone() };
    let mut hosts: Vec<Host> = Vec::with_capacity(names.len());
    for name in names {
        let host: Host = resolve(on, &inside, name).await?;
        if host.project != volume.project {
            return Err(not_found(ResourceKind::Host, name));
        }
        if host.initiators.is_empty() {
            let why = format!("host '{}' has no initiator name to let in", host.name);
            return Err(ControlError::Invalid { field: "hosts", why });
        }
        if !hosts.iter().any(|known| known.id == host.id) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// May this attachment be the answer to the same request again?
fn may_stay(volume: &Volume, host: &Host, there: &Attachment, mode: Mode) -> Result<()> {
    let (volume, host) = (volume.name.clone(), host.name.clone());
    if there.state.is_leaving() {
        return Err(ControlError::AttachmentLeaving { volume, host, state: there.state.word() });
    }
    if there.state == AttachmentState::Changing {
        return Err(ControlError::AttachmentBusy { volume, host, state: there.state.word() });
    }
    if there.mode != mode {
        let mode = mode_word(there.mode);
        return Err(ControlError::AttachedInOtherMode { volume, host, mode });
    }
    Ok(())
}

/// Names of who writes already, else of those that would.
async fn sole_writers(
    on: &mut Connection,
    writers: &[HostId],
    newcomers: &[&Host],
) -> Result<Vec<String>> {
    if writers.is_empty() {
        return Ok(newcomers.iter().map(|host| host.name.clone()).collect());
    }
    let mut names = Vec::with_capacity(writers.len());
    for writer in writers {
        names.push(expected::<Host>(on, writer.0).await?.name);
    }
    Ok(names)
}

/// The words of the audit trail for a harm that was accepted.
pub(crate) fn acceptance(who: &str, volume: &Volume, probe: &Probe) -> String {
    let why = unsafe_content(volume, probe).map(|error| error.to_string()).unwrap_or_default();
    format!("; {who} accepted that data may be lost: {why}")
}

/// Why a second writer would do harm; `None` when it would not.
fn unsafe_content(volume: &Volume, probe: &Probe) -> Option<ControlError> {
    match probe {
        Ok(found) => {
            let harmed = found.iter().find(|found| !found.cluster_aware)?;
            Some(ControlError::FilesystemNotClusterAware {
                volume: volume.name.clone(),
                content: harmed.content.clone(),
                place: harmed.place.clone(),
            })
        }
        // Not knowing is no reason to let a second writer in.
        Err(error) => Some(ControlError::Node(error.clone())),
    }
}

pub(crate) async fn view(on: &mut Connection, attachment: Attachment) -> Result<AttachmentView> {
    let volume: Volume = expected(on, attachment.volume.0).await?;
    let host: Host = expected(on, attachment.host.0).await?;
    Ok(AttachmentView { attachment, volume_name: volume.name, host_name: host.name })
}
