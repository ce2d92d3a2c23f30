//! RESERVE, RELEASE, CLEAR (SPC-5 5.14.9, 5.14.11.2, 5.14.11.3).

use super::change::{Draft, Refusal, illegal_request};
use super::request::Request;
use super::{Reservation, ReservationType};
use crate::nexus::ItNexus;
use crate::sense::Asc;
use crate::unit_attention::UnitAttention;

impl Draft {
    pub(super) fn reserve(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        kind: ReservationType,
    ) -> Result<(), Refusal> {
        self.expect_key(nexus, request.key)?;
        if let Some(held) = &self.state.reservation {
            let again = held.kind == kind && self.state.is_holder(nexus);
            return if again { Ok(()) } else { Err(Refusal::Conflict) };
        }
        self.state.reservation = Some(Reservation::taken_by(nexus, kind));
        self.note(format!("{} reserved the unit: {}", nexus.initiator.name(), kind.name()));
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        scope_and_type: u8,
    ) -> Result<(), Refusal> {
        self.expect_key(nexus, request.key)?;
        let Some(held) = &self.state.reservation else { return Ok(()) };
        if !self.state.is_holder(nexus) {
            return Ok(());
        }
        let kind = held.kind;
        if kind.code() != scope_and_type {
            return Err(illegal_request(Asc(0x26, 0x04)));
        }
        self.state.reservation = None;
        if kind.admits_registrants() {
            self.tell_other_registrants(nexus, UnitAttention::ReservationsReleased);
        }
        self.note(format!("{} released the unit: {}", nexus.initiator.name(), kind.name()));
        Ok(())
    }

    pub(super) fn clear(&mut self, nexus: &ItNexus, request: &Request) -> Result<(), Refusal> {
        self.expect_key(nexus, request.key)?;
        self.tell_other_registrants(nexus, UnitAttention::ReservationsPreempted);
        self.state.registrations.clear();
        self.state.reservation = None;
        self.bump_generation();
        self.note(format!("{} cleared all registrations", nexus.initiator.name()));
        Ok(())
    }
}
