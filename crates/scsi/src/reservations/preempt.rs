//! PREEMPT and PREEMPT AND ABORT (SPC-5 5.14.11.4).
//!
//! The caller's own registration: when the caller takes the reservation over it stays, whatever
//! its key. When registrations are only removed, the text spares nobody: a caller that names its
//! own key goes with the others. Targets differ here; we are literal, and a cluster that preempts
//! its own key to be rid of stale ISIDs registers again afterwards anyway.

use super::Reservation;
use super::change::{Draft, Refusal, invalid_list_field};
use super::request::{LIST_ACTION_KEY, Request, used_type};
use crate::nexus::ItNexus;
use crate::unit_attention::UnitAttention;

impl Draft {
    pub(super) fn preempt(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        scope_and_type: u8,
        abort: bool,
    ) -> Result<(), Refusal> {
        self.expect_key(nexus, request.key)?;
        let names_holder = match &self.state.reservation {
            None => false,
            Some(Reservation { holder: None, .. }) => request.action_key == 0,
            Some(Reservation { holder: Some(holder), .. }) => {
                request.action_key != 0 && self.state.key_of(holder) == Some(request.action_key)
            }
        };
        let victims = if names_holder {
            self.take_over(nexus, request.action_key, scope_and_type)?
        } else if request.action_key == 0 {
            return Err(Refusal::Check(invalid_list_field(LIST_ACTION_KEY)));
        } else {
            self.remove_key(nexus, request.action_key)?
        };
        self.bump_generation();
        let (name, count) = (nexus.initiator.name(), victims.len());
        let whom = if request.action_key == 0 {
            "all other registrants".to_owned()
        } else {
            format!("key {:#018x}", request.action_key)
        };
        self.note(format!("{name}: {} of {whom}, {count} registrations removed", request.name()));
        if abort {
            self.kill(victims);
        }
        Ok(())
    }

    /// The named key holds the reservation (or zero names all registrants): the caller takes it,
    /// with the type of the CDB. Returns the victims.
    fn take_over(
        &mut self,
        nexus: &ItNexus,
        key: u64,
        scope_and_type: u8,
    ) -> Result<Vec<ItNexus>, Refusal> {
        let kind = used_type(scope_and_type).map_err(Refusal::Check)?;
        let same_kind = self.state.reservation.as_ref().is_some_and(|held| held.kind == kind);
        let victims = self.remove(|one| (key == 0 || one.key == key) && one.nexus != *nexus);
        self.state.reservation = Some(Reservation::taken_by(nexus, kind));
        self.tell(&victims, UnitAttention::RegistrationsPreempted);
        if !same_kind {
            self.tell_other_registrants(nexus, UnitAttention::ReservationsReleased);
        }
        Ok(victims)
    }

    /// The key holds nothing alone: its registrations go, the reservation stays as it is. Returns
    /// the victims, without the caller.
    fn remove_key(&mut self, nexus: &ItNexus, key: u64) -> Result<Vec<ItNexus>, Refusal> {
        let mut victims = self.remove(|one| one.key == key);
        if victims.is_empty() {
            return Err(Refusal::Conflict);
        }
        if self.state.registrations.is_empty() {
            self.state.reservation = None;
        }
        victims.retain(|one| one != nexus);
        self.tell(&victims, UnitAttention::RegistrationsPreempted);
        Ok(victims)
    }
}
