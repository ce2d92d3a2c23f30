//! Changes of reservation state: decided by the pure machine, durable before they hold, and
//! answered only when what they abort has ended.
//!
//! ```text
//!   lock `changing` -> apply (pure) -> save the record -> swap -> unit attentions
//!        -> close the victims' gates -> unlock -> wait for their running commands -> GOOD
//! ```
//!
//! A crash before the record is durable leaves the old state, after it the new one; the initiator
//! has no answer yet in either case. The wait comes after the unlock, so that survivors are not
//! held up by a victim's slow write, and the caller's own command is counted out before it, so
//! that two nexuses that preempt each other cannot wait for each other for ever.

use env::BlockIo;
use scsi::nexus::ItNexus;
use scsi::reservations::{Change, Refusal, Request, Reservations};
use scsi::sense::{Asc, Response, Sense, SenseKey};
use scsi::unit_attention::UnitAttention;
use store::StoreError;

use crate::gate::{Draining, Fate, Inflight, Pass, wait_all};
use crate::nexus::{NexusState, Signal};
use crate::unit::LogicalUnit;

/// Why a change of reservation state did not happen.
#[derive(Debug)]
enum Failed {
    Refused(Refusal),
    /// The command was aborted while it waited for its turn.
    Aborted,
    NotDurable(StoreError),
}

/// Who asks for a change, for the history.
pub struct Requester<'a> {
    pub action: &'a str,
    pub by: String,
}

impl LogicalUnit {
    /// Run PERSISTENT RESERVE OUT. `None`: the command was aborted; there is nobody to answer.
    pub async fn persistent_reserve_out(
        &self,
        io: &dyn BlockIo,
        nexus: &NexusState,
        (pass, inflight): (&Pass, Inflight),
        request: &Request,
    ) -> Option<Response> {
        let ports = self.facts().ports.clone();
        let requester = Requester { action: request.name(), by: who(nexus) };
        let decide = |state: &Reservations| {
            if pass.is_void() {
                return Err(Failed::Aborted);
            }
            state.apply(&nexus.nexus, request, &ports).map_err(Failed::Refused)
        };
        let result = self.change(io, &requester, decide).await;
        drop(inflight);
        finish(result, nexus).await
    }

    /// RESERVE or RELEASE (SPC-2), for one nexus.
    pub async fn legacy(
        &self,
        io: &dyn BlockIo,
        nexus: &NexusState,
        (pass, inflight): (&Pass, Inflight),
        reserve: bool,
    ) -> Option<Response> {
        let action = if reserve { "reserve (SPC-2)" } else { "release (SPC-2)" };
        let requester = Requester { action, by: who(nexus) };
        let decide = |state: &Reservations| {
            if pass.is_void() {
                return Err(Failed::Aborted);
            }
            let change = if reserve {
                state.reserve_legacy(&nexus.nexus)
            } else {
                state.release_legacy(&nexus.nexus)
            };
            change.map_err(Failed::Refused)
        };
        let result = self.change(io, &requester, decide).await;
        drop(inflight);
        finish(result, nexus).await
    }

    /// SPC-2 reservations go with the nexus that held them (`None`: whoever holds one, on reset).
    pub async fn drop_legacy(&self, nexus: Option<&ItNexus>) {
        let _changing = self.changing.lock().await;
        if let Some(next) = self.reservations().drop_legacy(nexus) {
            self.swap_reservations(next);
        }
    }

    /// Remove every registration of an initiator device: it was detached or fenced. Gives their
    /// number.
    ///
    /// # Errors
    /// When the new state could not be made durable; it is unchanged then.
    pub async fn remove_device(
        &self,
        io: &dyn BlockIo,
        iqn: &str,
        requester: &Requester<'_>,
    ) -> Result<u32, StoreError> {
        let mut removed = 0;
        let decide = |state: &Reservations| {
            let mine = state.registrations().iter().filter(|r| r.nexus.initiator.device() == iqn);
            removed = u32::try_from(mine.count()).unwrap_or(u32::MAX);
            state.remove_device(iqn).ok_or(Failed::Aborted)
        };
        match self.change(io, requester, decide).await {
            Ok(draining) => {
                wait_all(draining).await;
                Ok(removed)
            }
            Err(Failed::NotDurable(error)) => Err(error),
            Err(Failed::Aborted | Failed::Refused(_)) => Ok(0),
        }
    }

    /// The operator's clear: all registrations and the reservation go, and a lost state with them.
    ///
    /// # Errors
    /// When the new state could not be made durable; it is unchanged then.
    pub async fn clear_reservations(
        &self,
        io: &dyn BlockIo,
        requester: &Requester<'_>,
    ) -> Result<(), StoreError> {
        match self.change(io, requester, |state| Ok(state.clear())).await {
            Err(Failed::NotDurable(error)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn change(
        &self,
        io: &dyn BlockIo,
        requester: &Requester<'_>,
        decide: impl FnOnce(&Reservations) -> Result<Change, Failed>,
    ) -> Result<Vec<Draining>, Failed> {
        let changing = self.changing.lock().await;
        let change = decide(&self.reservations())?;
        if change.persist {
            let record = change.next.to_record();
            self.volume.save_reservations(io, &record).await.map_err(Failed::NotDurable)?;
        }
        self.swap_reservations(change.next);
        for (nexus, attention) in change.attentions {
            self.attend_one(&nexus, attention);
        }
        let draining = self.void(&change.abort);
        drop(changing);
        if let Some(what) = change.what {
            self.record(requester.action, requester.by.clone(), what);
        }
        Ok(draining)
    }

    /// Void all commands of these nexuses and tell their connections.
    fn void(&self, victims: &[ItNexus]) -> Vec<Draining> {
        let fate = self.fate_for_others();
        victims
            .iter()
            .filter_map(|nexus| self.state_of(nexus))
            .map(|state| {
                let draining = state.gate.close(fate);
                if fate == Fate::Silent {
                    state.attend(UnitAttention::CommandsCleared);
                }
                state.signal(Signal::Aborted);
                draining
            })
            .collect()
    }
}

async fn finish(result: Result<Vec<Draining>, Failed>, nexus: &NexusState) -> Option<Response> {
    match result {
        Ok(draining) => {
            wait_all(draining).await;
            Some(Response::good())
        }
        Err(Failed::Aborted) => None,
        Err(Failed::Refused(Refusal::Conflict)) => {
            nexus.figures.conflict();
            Some(Response::conflict())
        }
        Err(Failed::Refused(Refusal::Check(sense))) => Some(Response::check(sense)),
        Err(Failed::NotDurable(error)) => {
            // Nothing was acknowledged and nothing changed: the initiator must hear a failure
            // that it does not take for a conflict.
            tracing::error!(%error, "reservation state could not be made durable");
            let asc = Asc::INTERNAL_TARGET_FAILURE;
            Some(Response::check(Sense::new(SenseKey::HardwareError, asc)))
        }
    }
}

/// `host name (initiator port)`, for the history.
fn who(nexus: &NexusState) -> String {
    format!("{} ({})", nexus.access.host_name, nexus.nexus.initiator.name())
}
