//! Letting hosts in and cutting them off.

use model::attachment::{AttachmentState, Connection};
use model::event::EventResult;
use model::host::Host;
use model::id::AttachmentId;
use model::order::{Access, Order, OrderError, Report};

use super::{Outcome, is_final};
use crate::attachment::{mode_word, settle};
use crate::board::Claim;
use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord};
use crate::error::Result;
use crate::facade::Inner;

impl Inner {
    pub(super) async fn attach(&self, id: AttachmentId, claim: &Claim) -> Result<Outcome> {
        let Some(record) = self.read_one::<AttachmentRecord>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let from = record.attachment.state;
        let wants_in = matches!(
            from,
            AttachmentState::Attaching | AttachmentState::Attached | AttachmentState::Changing
        );
        if !wants_in {
            return Ok(Outcome::Nothing);
        }
        let Some(host) = self.read_one::<Host>(record.attachment.host.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let access = Access {
            attachment: id,
            volume: record.attachment.volume,
            host: host.id,
            host_name: host.name,
            initiators: host.initiators,
            mode: record.attachment.wanted_mode(),
            chap: record.chap,
        };
        let (volume, order) = (access.volume, Order::Attach { access });
        let answer = match self.order_about(volume, order).await {
            Ok(Report::Attached { target, portals, lun }) => {
                Ok(Connection { target, portals, lun })
            }
            Ok(other) => Err(OrderError::Failed { why: format!("it answered {other:?}") }),
            Err(error) => Err(error),
        };
        match answer {
            // Whether the host may write is never left open: a change is sent until it is through.
            Err(error) if from == AttachmentState::Changing || !is_final(&error, claim) => {
                self.attachment_fault(id, &error).await?;
                Ok(Outcome::Retry(error.into()))
            }
            answer => self.attached(id, from, answer).await,
        }
    }

    async fn attached(
        &self,
        id: AttachmentId,
        from: AttachmentState,
        answer: Result<Connection, OrderError>,
    ) -> Result<Outcome> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut record) = catalog::get::<AttachmentRecord>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        // Asked to leave in the meantime: the detach that follows undoes what the order did.
        if record.attachment.state != from {
            return Ok(Outcome::Nothing);
        }
        record.attachment.fault = answer.as_ref().err().map(ToString::to_string);
        record.attachment.mode = record.attachment.wanted_mode();
        record.attachment.state = match &answer {
            Ok(_) => AttachmentState::Attached,
            Err(_) => AttachmentState::Error,
        };
        if let Ok(connection) = &answer {
            record.attachment.connection = Some(connection.clone());
        }
        catalog::update(&mut tx, &record).await?;
        settle(&mut tx, record.attachment.volume).await?;
        if record.attachment.state != from {
            let (result, mut detail) = match &answer {
                Ok(connection) => (EventResult::Done, connection.target.clone()),
                Err(error) => (EventResult::Failed, error.to_string()),
            };
            let mut action = "attachment.attached";
            if from == AttachmentState::Changing {
                action = "attachment.updated";
                detail = mode_word(record.attachment.mode).to_owned();
            }
            self.record(&mut tx, &Caller::system(), &record, action, result, detail).await?;
        }
        tx.commit().await?;
        if answer.is_ok() {
            self.board.confirm(id.0);
        }
        Ok(Outcome::Done(None))
    }

    /// Detach or fence, as the state says. Both are sent until the node says that they are done.
    pub(super) async fn cut_off(
        &self,
        id: AttachmentId,
        state: AttachmentState,
    ) -> Result<Outcome> {
        let Some(record) = self.read_one::<AttachmentRecord>(id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        if record.attachment.state != state {
            return Ok(Outcome::Nothing);
        }
        let (volume, attachment) = (record.attachment.volume, id);
        let order = match state {
            AttachmentState::Fencing => Order::Fence { volume, attachment },
            _ => Order::Detach { volume, attachment },
        };
        let report = match self.order_about(volume, order).await {
            Ok(report) => report,
            // What the node does not have, nobody can reach through it.
            Err(OrderError::Missing { .. }) => Report::CutOff { sessions: 0, registrations: 0 },
            Err(error) => {
                self.attachment_fault(id, &error).await?;
                return Ok(Outcome::Retry(error.into()));
            }
        };
        let mut tx = self.catalog.begin().await?;
        let Some(record) = catalog::get::<AttachmentRecord>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        // A detach that became a fence: the fence has the last word.
        if record.attachment.state != state {
            return Ok(Outcome::Nothing);
        }
        catalog::delete::<AttachmentRecord>(&mut tx, id.0).await?;
        settle(&mut tx, volume).await?;
        let action = match state {
            AttachmentState::Fencing => "attachment.fenced",
            _ => "attachment.detached",
        };
        let detail = match report {
            Report::CutOff { sessions, registrations } => {
                format!("{sessions} sessions closed, {registrations} registrations removed")
            }
            _ => String::new(),
        };
        let result = EventResult::Done;
        self.record(&mut tx, &Caller::system(), &record, action, result, detail).await?;
        tx.commit().await?;
        self.board.forget(id.0);
        Ok(Outcome::Done(Some(report)))
    }

    /// Show why it takes so long.
    async fn attachment_fault(&self, id: AttachmentId, error: &OrderError) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        if let Some(mut record) = catalog::get::<AttachmentRecord>(&mut tx, id.0).await? {
            record.attachment.fault = Some(error.to_string());
            catalog::update(&mut tx, &record).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
