//! Attachments: from one mode to the other while the host is attached.
//!
//! The catalog counts the host as a writer from the moment that it may begin to be one until the
//! moment that the node has said it is none any more, so that no order of two requests and no
//! crash between them makes two writers where one is allowed.

use model::attachment::AttachmentState;
use model::event::EventResult;
use model::host::Host;
use model::id::{AttachmentId, VolumeId};
use model::order::{Mode, OrderError};
use model::user::Role;
use model::volume::Volume;
use model::volume_type::VolumeType;

use crate::attachment::{Probe, Writing, acceptance, may_write, mode_word, view};
use crate::board::Step;
use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{Control, resolve};
use crate::group;
use crate::params::{AttachmentUpdate, AttachmentView};
use crate::volume::{busy, expected};
use crate::work::Outcome;

/// One call's decision, made inside the transaction.
enum Verdict {
    /// It has that mode.
    Stays(AttachmentView),
    /// It is `changing`: written, or so since an earlier call.
    Goes(AttachmentId),
    NeedsProbe(VolumeId),
    /// Refused by what lies on the volume.
    Refused(Box<AttachmentRecord>, ControlError),
}

impl Control {
    /// Change the mode, and answer when the target enforces the new one: after a change to
    /// read-only no write of the host lands any more. The host's sessions end and begin anew.
    ///
    /// # Errors
    /// A reader; no such attachment; it is not attached; to read-only: a group of the volume may
    /// run on the host; to read-write: as for a new attachment.
    /// The node did not say that it is done: the attachment is `changing` then, and the order is
    /// sent again until the node says so.
    pub async fn attachment_update(
        &self,
        caller: &Caller,
        id: &str,
        change: AttachmentUpdate,
    ) -> Result<AttachmentView> {
        caller.must_be(Role::Member, "change attachments")?;
        let mut probe: Option<Probe> = None;
        loop {
            let mut tx = self.inner.catalog.begin().await?;
            match self.judge_change(&mut tx, caller, (id, change), probe.as_ref()).await? {
                Verdict::Stays(view) => return Ok(view),
                Verdict::Goes(id) => {
                    self.inner.commit(tx).await?;
                    return self.changed(caller, id).await;
                }
                Verdict::NeedsProbe(volume) => {
                    // As for a new attachment: the volume is read outside the transaction.
                    drop(tx);
                    probe = Some(self.inner.probe(volume).await);
                }
                Verdict::Refused(record, error) => {
                    let (action, result) = ("attachment.update", EventResult::Refused);
                    let detail = error.to_string();
                    let record = record.as_ref();
                    self.inner.record(&mut tx, caller, record, action, result, detail).await?;
                    self.inner.commit(tx).await?;
                    return Err(error);
                }
            }
        }
    }

    async fn judge_change(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        (id, change): (&str, AttachmentUpdate),
        probe: Option<&Probe>,
    ) -> Result<Verdict> {
        let mut record: AttachmentRecord = resolve(tx, caller, id).await?;
        let there = &record.attachment;
        let Some(mode) = change.mode else {
            return Ok(Verdict::Stays(view(tx, there.clone()).await?));
        };
        let volume: Volume = expected(tx, there.volume.0).await?;
        let host: Host = expected(tx, there.host.0).await?;
        if there.state == AttachmentState::Changing && there.wanted_mode() == mode {
            return Ok(Verdict::Goes(there.id));
        }
        if there.state != AttachmentState::Attached {
            let state = there.state.word();
            return Err(ControlError::AttachmentBusy {
                volume: volume.name,
                host: host.name,
                state,
            });
        }
        if there.mode == mode {
            return Ok(Verdict::Stays(view(tx, there.clone()).await?));
        }
        let mut detail = format!(
            "host '{}', volume '{}', from {} to {}",
            host.name,
            volume.name,
            mode_word(there.mode),
            mode_word(mode)
        );
        if mode == Mode::ReadOnly {
            group::needs_no_attachment(tx, &record.attachment).await?;
        } else {
            if !volume.status.takes_attachments() {
                return Err(busy(&volume, "let a host write to"));
            }
            let kind: VolumeType = expected(tx, volume.volume_type.0).await?;
            let how = (probe, change.accept_data_loss);
            match may_write(tx, (&volume, &kind), &[&host], how).await? {
                Writing::Harmless => {}
                Writing::NeedsProbe => return Ok(Verdict::NeedsProbe(volume.id)),
                Writing::Refused(error) => return Ok(Verdict::Refused(Box::new(record), error)),
                Writing::Accepted => {
                    record.attachment.data_loss_accepted_by = Some(caller.user_name.clone());
                    if let Some(probe) = probe {
                        detail.push_str(&acceptance(&caller.user_name, &volume, probe));
                    }
                }
            }
        }
        record.attachment.state = AttachmentState::Changing;
        record.attachment.fault = None;
        catalog::update(tx, &record).await?;
        let (action, result) = ("attachment.update", EventResult::Accepted);
        self.inner.record(tx, caller, &record, action, result, detail).await?;
        Ok(Verdict::Goes(record.attachment.id))
    }

    /// Have the node enforce it, and say how that ended.
    async fn changed(&self, caller: &Caller, id: AttachmentId) -> Result<AttachmentView> {
        let inner = std::sync::Arc::clone(&self.inner);
        // A task of its own: a caller that hangs up must not leave the change half sent.
        let work = tokio::spawn(async move { inner.run_now(Step::Attach(id)).await });
        let outcome = work.await.map_err(|error| {
            ControlError::Node(OrderError::Failed { why: format!("the change broke off: {error}") })
        })?;
        match outcome {
            Outcome::Retry(error) => Err(error),
            // Somebody else's try, or a detach, may have come first: the attachment tells.
            Outcome::Done(_) | Outcome::Nothing | Outcome::Wait(_) => {
                self.attachment_get(caller, &id.to_string()).await
            }
        }
    }
}
