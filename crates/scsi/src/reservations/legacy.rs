//! RESERVE(6/10) and RELEASE(6/10) of SPC-2, beside persistent reservations as CRH=1 has it
//! (SPC-3 5.6.3): where the nexus has access by a persistent reservation they are GOOD and change
//! nothing; with any other registration around they conflict.

use super::change::{Change, Draft, Refusal};
use super::{Reservations, State, information_lost, is_same};
use crate::nexus::ItNexus;

/// What stands in the way of an SPC-2 command.
enum Way {
    Free,
    /// Compatible reservation handling: GOOD without effect.
    NoEffect,
}

impl State {
    fn legacy_way(&self, nexus: &ItNexus) -> Result<Way, Refusal> {
        if self.lost {
            return Err(Refusal::Check(information_lost()));
        }
        if self.registrations.is_empty() {
            return Ok(Way::Free);
        }
        let by_persistent_reservation = self.reservation.is_some() && self.has_access(nexus);
        if by_persistent_reservation { Ok(Way::NoEffect) } else { Err(Refusal::Conflict) }
    }
}

impl Reservations {
    /// RESERVE(6) or RESERVE(10).
    ///
    /// # Errors
    /// Conflict while another nexus holds the unit, or anybody is registered without the nexus
    /// having access by the persistent reservation; 44h/01h while reservations are lost.
    pub fn reserve_legacy(&self, nexus: &ItNexus) -> Result<Change, Refusal> {
        let mut draft = Draft::of(&self.0);
        match (self.0.legacy_way(nexus)?, &self.0.legacy) {
            (Way::Free, Some(holder)) if !is_same(holder, nexus) => return Err(Refusal::Conflict),
            (Way::Free, None) => {
                draft.state.legacy = Some(nexus.clone());
                draft.note(format!("{} reserved the unit (SPC-2)", nexus.initiator.name()));
            }
            (Way::Free, Some(_)) | (Way::NoEffect, _) => {}
        }
        Ok(draft.finish(self))
    }

    /// RELEASE(6) or RELEASE(10). GOOD without effect from a nexus that does not hold the unit.
    ///
    /// # Errors
    /// As [`Self::reserve_legacy`], but for another nexus' SPC-2 reservation.
    pub fn release_legacy(&self, nexus: &ItNexus) -> Result<Change, Refusal> {
        let mut draft = Draft::of(&self.0);
        match (self.0.legacy_way(nexus)?, &self.0.legacy) {
            (Way::Free, Some(holder)) if is_same(holder, nexus) => {
                draft.state.legacy = None;
                draft.note(format!("{} released the unit (SPC-2)", nexus.initiator.name()));
            }
            (Way::Free | Way::NoEffect, _) => {}
        }
        Ok(draft.finish(self))
    }

    /// Ends an SPC-2 reservation for a logout, the loss of the nexus that holds it, or (with
    /// `None`) a reset. `None` when there is nothing to end.
    #[must_use]
    pub fn drop_legacy(&self, nexus: Option<&ItNexus>) -> Option<Self> {
        let holder = self.0.legacy.as_ref()?;
        if nexus.is_some_and(|nexus| !is_same(holder, nexus)) {
            return None;
        }
        let mut draft = Draft::of(&self.0);
        draft.state.legacy = None;
        Some(draft.finish(self).next)
    }
}
