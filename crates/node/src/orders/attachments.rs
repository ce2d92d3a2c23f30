//! Letting hosts in and cutting them off.
//!
//! Invariant: whoever was dismissed from the book lands nothing once the order is answered, and
//! whatever of an order failed, the same order again completes it.

use std::sync::Arc;
use std::time::Duration;

use env::BlockIo;
use model::id::{AttachmentId, VolumeId};
use model::order::{Access, OrderError, Report};

use super::{State, failed, order_error};
use crate::book::target_name;
use crate::facts::facts_of;
use crate::gate::{Fate, wait_all};
use crate::nexus::{NexusState, Signal};
use crate::reserve::Requester;
use crate::unit::LogicalUnit;

impl State {
    pub(super) async fn attach(
        &self,
        io: &dyn BlockIo,
        access: Access,
        journal: bool,
    ) -> Result<Report, OrderError> {
        let volume = access.volume;
        let mut states = loop {
            {
                let _turn = self.shared_turn(volume).await;
                if let Some(unit) = self.shared.book.unit(volume) {
                    let _terms = self.terms(access.attachment).lock().await;
                    if journal {
                        self.shared.journal.save_attachment(io, &access).await.map_err(failed)?;
                    }
                    let admit = || self.shared.book.admit(&unit, access.clone());
                    break unit.nexuses_at(access.attachment, admit);
                }
            }
            // Closed again before this host was in it: once more.
            self.open_unit(io, volume).await?;
        };
        // Other names, another mode: who is logged in under the old terms logs in again. The gate
        // goes over to the new login: should it be as quick as that, its command is sent again.
        states.retain(|state| *state.access != access);
        let why = "the terms of the attachment have changed";
        end_sessions(&states, None, (Fate::TaskAborted, why)).await;
        let portals = self.shared.book.portals();
        Ok(Report::Attached { target: target_name(volume), portals, lun: 0 })
    }

    /// Open the unit of a volume for its first host.
    async fn open_unit(&self, io: &dyn BlockIo, volume: VolumeId) -> Result<(), OrderError> {
        let _turn = self.turn(volume).await;
        if self.shared.book.unit(volume).is_none() {
            let unit = self.load_unit(io, volume).await?;
            self.shared.book.open(&Arc::new(unit));
        }
        Ok(())
    }

    /// The caller has the turn.
    async fn load_unit(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
    ) -> Result<LogicalUnit, OrderError> {
        let missing = || OrderError::Missing { what: format!("volume {volume}") };
        let (pool, store) = self.shared.pool_of(volume).ok_or_else(missing)?;
        let open = store.volume(io, volume).await.map_err(order_error)?;
        let facts = facts_of(&open);
        let notices = self.shared.notices.clone();
        let clock = Arc::clone(&self.shared.world.clock);
        LogicalUnit::open(open, (pool, &self.shared.book), facts, io, notices, clock)
            .await
            .map_err(order_error)
    }

    /// Detach (with a grace for the host to log out) or fence (without).
    ///
    /// The journal forgets last: a crash or a failure before leaves all that the repeated order
    /// needs to remove the host's registrations.
    pub(super) async fn cut_off(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
        attachment: AttachmentId,
        grace: Option<Duration>,
    ) -> Result<Report, OrderError> {
        // First the book, so that no new session begins; then those that there are.
        let access = {
            let _terms = self.terms(attachment).lock().await;
            self.shared.book.dismiss(volume, attachment)
        };
        let (mut sessions, mut registrations) = (0, 0);
        let unit = self.shared.book.unit(volume);
        if let Some(unit) = &unit {
            let why = if grace.is_some() { "the host was detached" } else { "the host was fenced" };
            sessions = end_sessions(&unit.nexuses_of(attachment), grace, (Fate::Silent, why)).await;
        }
        if let (Some(unit), Some(access)) = (&unit, &access) {
            let action = if grace.is_some() { "detach" } else { "fence" };
            let requester = Requester { action, by: "control plane".into() };
            for iqn in &access.initiators {
                let device = iqn.to_ascii_lowercase();
                registrations +=
                    unit.remove_device(io, &device, &requester).await.map_err(order_error)?;
            }
        }
        {
            let _terms = self.terms(attachment).lock().await;
            // Attached again meanwhile: the record is the new order's.
            if !self.shared.book.is_admitted(volume, attachment) {
                self.shared.journal.forget_attachment(attachment).map_err(failed)?;
            }
            self.shared.book.part(volume, attachment);
        }
        if let Some(unit) = unit {
            unit.forget(attachment);
        }
        if let Some(unused) = self.shared.book.close_if_unused(volume) {
            unused.volume.flush(io).await.map_err(order_error)?;
        }
        Ok(Report::CutOff { sessions, registrations })
    }

    /// Also of a volume that nobody may reach: its record would be found at the next attach.
    pub(super) async fn clear(
        &self,
        io: &dyn BlockIo,
        volume: VolumeId,
    ) -> Result<Report, OrderError> {
        let _turn = self.turn(volume).await;
        let unit = match self.shared.book.unit(volume) {
            Some(unit) => unit,
            None => Arc::new(self.load_unit(io, volume).await?),
        };
        let requester = Requester { action: "operator clear", by: "control plane".into() };
        unit.clear_reservations(io, &requester).await.map_err(order_error)?;
        Ok(Report::Done)
    }
}

/// End the sessions of these nexuses, of which no new ones are let in; returns when nothing of them
/// can land any more. Gives the number of sessions.
async fn end_sessions(
    states: &[Arc<NexusState>],
    grace: Option<Duration>,
    (fate, why): (Fate, &'static str),
) -> u32 {
    let links: Vec<_> = states.iter().filter_map(|state| state.session()).collect();
    if let Some(grace) = grace {
        let seconds = u16::try_from(grace.as_secs()).unwrap_or(u16::MAX);
        for link in &links {
            link.signal(Signal::RequestLogout { seconds });
        }
        let all_gone = async {
            for link in &links {
                link.signals.closed().await;
            }
        };
        // A host that does not log out in time is cut off like a fenced one.
        let _ = tokio::time::timeout(grace, all_gone).await;
    }
    let draining: Vec<_> = states.iter().map(|state| state.gate.close(fate)).collect();
    for link in &links {
        link.signal(Signal::Close { why });
    }
    wait_all(draining).await;
    // What came in after the gates were closed has ended when the connections have.
    for link in &links {
        link.signals.closed().await;
    }
    u32::try_from(links.len()).unwrap_or(u32::MAX)
}
