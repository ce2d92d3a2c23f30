//! A step in the making, and what comes out of it.

use super::{REGISTRATIONS_MAX, Registration, Reservations, State};
use crate::nexus::ItNexus;
use crate::sense::{Asc, FieldPointer, Response, Sense, Status};
use crate::transport_id::PORT_NAME_BYTES_MAX;
use crate::unit_attention::UnitAttention;
use bytes::Bytes;
use std::sync::Arc;

/// How a command ends that may not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// RESERVATION CONFLICT status.
    Conflict,
    /// CHECK CONDITION status with this sense data.
    Check(Sense),
}

impl Refusal {
    /// The response that the command ends with.
    #[must_use]
    pub fn response(self) -> Response {
        let (status, sense) = match self {
            Self::Conflict => (Status::ReservationConflict, None),
            Self::Check(sense) => (Status::CheckCondition, Some(sense)),
        };
        Response { status, sense, data: Bytes::new() }
    }
}

/// A step that was taken, and what it obliges the shell to do before it answers GOOD.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub next: Reservations,
    /// The record changed: store it, then publish `next`, then answer.
    pub persist: bool,
    /// Whom to tell what. COMMANDS CLEARED BY ANOTHER INITIATOR is not among them: whether an
    /// aborted command of `abort` calls for it depends on the control mode page's TAS bit.
    pub attentions: Vec<(ItNexus, UnitAttention)>,
    /// The victims of PREEMPT AND ABORT: kill and drain their commands before GOOD. Never the
    /// caller.
    pub abort: Vec<ItNexus>,
    /// A sentence for the volume's history; `None` when nothing changed.
    pub what: Option<String>,
}

/// The next state while a step works on it.
pub(super) struct Draft {
    pub(super) state: State,
    attentions: Vec<(ItNexus, UnitAttention)>,
    abort: Vec<ItNexus>,
    what: Option<String>,
}

impl Draft {
    pub(super) fn of(state: &State) -> Self {
        let state = state.clone();
        Self { state, attentions: Vec::new(), abort: Vec::new(), what: None }
    }

    pub(super) fn finish(self, before: &Reservations) -> Change {
        // An SPC-2 reservation ends with the power, so it alone is no reason to store anything.
        let persist = before.0.registrations != self.state.registrations
            || before.0.reservation != self.state.reservation
            || before.0.generation != self.state.generation
            || before.0.aptpl != self.state.aptpl
            || before.0.lost != self.state.lost;
        let next = if *before.0 == self.state {
            before.clone()
        } else {
            Reservations(Arc::new(self.state))
        };
        let Self { attentions, abort, what, .. } = self;
        Change { next, persist, attentions, abort, what }
    }

    /// Notes the history sentence.
    pub(super) fn note(&mut self, what: String) {
        self.what = Some(what);
    }

    /// PRGENERATION goes up by one; it wraps.
    pub(super) fn bump_generation(&mut self) {
        self.state.generation = self.state.generation.wrapping_add(1);
    }

    pub(super) fn tell(&mut self, nexuses: &[ItNexus], attention: UnitAttention) {
        self.attentions.extend(nexuses.iter().map(|nexus| (nexus.clone(), attention)));
    }

    /// Tells every registrant but the caller.
    pub(super) fn tell_other_registrants(&mut self, caller: &ItNexus, attention: UnitAttention) {
        let others = self.state.registrations.iter().filter(|one| one.nexus != *caller);
        self.attentions.extend(others.map(|one| (one.nexus.clone(), attention)));
    }

    /// Names the victims whose commands have to die first.
    pub(super) fn kill(&mut self, victims: Vec<ItNexus>) {
        self.abort = victims;
    }

    /// The caller must be registered with the key that it names.
    pub(super) fn expect_key(&self, nexus: &ItNexus, key: u64) -> Result<(), Refusal> {
        if self.state.key_of(nexus) == Some(key) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Registers a nexus, or gives it another key.
    pub(super) fn put(
        &mut self,
        nexus: &ItNexus,
        key: u64,
        everywhere: bool,
    ) -> Result<(), Refusal> {
        let all_target_ports = everywhere;
        let mut registrations = self.state.registrations.iter_mut();
        if let Some(known) = registrations.find(|one| one.nexus == *nexus) {
            known.key = key;
            known.all_target_ports = all_target_ports;
            return Ok(());
        }
        // A name longer than iSCSI allows would not fit the record.
        let fits = nexus.initiator.name().len() <= PORT_NAME_BYTES_MAX;
        if self.state.registrations.len() >= REGISTRATIONS_MAX || !fits {
            return Err(illegal_request(Asc(0x55, 0x04)));
        }
        let nexus = nexus.clone();
        self.state.registrations.push(Registration { nexus, key, all_target_ports });
        Ok(())
    }

    /// Removes registrations and returns whose they were.
    pub(super) fn remove(&mut self, gone: impl Fn(&Registration) -> bool) -> Vec<ItNexus> {
        let mut removed = Vec::new();
        self.state.registrations.retain(|one| {
            if gone(one) {
                removed.push(one.nexus.clone());
            }
            !gone(one)
        });
        removed
    }

    /// Ends the reservation when its holder is among those that left of themselves, or when an
    /// all-registrants reservation has no registrant left (SPC-5 5.14.11.2.3).
    pub(super) fn release_after_leaving(&mut self, left: &[ItNexus]) {
        let Some(held) = &self.state.reservation else { return };
        let ends = match &held.holder {
            Some(holder) => left.contains(holder),
            None => self.state.registrations.is_empty(),
        };
        if !ends {
            return;
        }
        let tells = held.kind.admits_registrants();
        self.state.reservation = None;
        if tells {
            let others: Vec<_> = self.state.registrations.iter().map(|r| r.nexus.clone()).collect();
            self.tell(&others, UnitAttention::ReservationsReleased);
        }
    }
}

/// ILLEGAL REQUEST with a code that points nowhere.
pub(super) fn illegal_request(asc: Asc) -> Refusal {
    Refusal::Check(Sense::illegal(asc))
}

/// INVALID FIELD IN CDB at this byte.
pub(super) fn invalid_cdb_field(byte: u16) -> Sense {
    let field = Some(FieldPointer { in_cdb: true, byte, bit: None });
    Sense { field, ..Sense::illegal(Asc(0x24, 0x00)) }
}

/// INVALID FIELD IN PARAMETER LIST at this byte.
pub(super) fn invalid_list_field(byte: u16) -> Sense {
    let field = Some(FieldPointer { in_cdb: false, byte, bit: None });
    Sense { field, ..Sense::illegal(Asc(0x26, 0x00)) }
}
