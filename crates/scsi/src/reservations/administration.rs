//! What happens to reservations without a SCSI command: detach and fence, the operator's clear, a
//! new target port, power loss.
//!
//! These raise PRGENERATION where registrations change, although the standard knows no such
//! event: a client that compares generations has to see it.

use super::change::{Change, Draft, Refusal};
use super::{Reservations, State};
use crate::nexus::{ItNexus, RelativePort};
use crate::unit_attention::UnitAttention;
use std::sync::Arc;

impl Reservations {
    /// Removes what the initiator device with this iSCSI name has: every registration, through
    /// whatever port, and an SPC-2 reservation. If it held the persistent reservation, that ends
    /// as its unregistering would end it. `None` when it has nothing.
    ///
    /// The caller sees to the device's sessions and commands itself; `abort` stays empty.
    #[must_use]
    pub fn remove_device(&self, iqn: &str) -> Option<Change> {
        let is_of_device = |nexus: &ItNexus| nexus.initiator.device().eq_ignore_ascii_case(iqn);
        let mut draft = Draft::of(&self.0);
        let left = draft.remove(|one| is_of_device(&one.nexus));
        let held_legacy = self.0.legacy.as_ref().is_some_and(is_of_device);
        if held_legacy {
            draft.state.legacy = None;
        }
        if left.is_empty() && !held_legacy {
            return None;
        }
        if !left.is_empty() {
            draft.release_after_leaving(&left);
            draft.bump_generation();
        }
        draft.note(format!("{iqn} removed, with {} registrations", left.len()));
        Some(draft.finish(self))
    }

    /// The operator's clear: nothing registered, nothing reserved, nothing lost any more.
    #[must_use]
    pub fn clear(&self) -> Change {
        let mut draft = Draft::of(&self.0);
        let registrants: Vec<_> = self.0.registrations.iter().map(|r| r.nexus.clone()).collect();
        draft.tell(&registrants, UnitAttention::ReservationsPreempted);
        let aptpl = self.0.aptpl && !self.0.lost;
        draft.state = State { generation: self.0.generation, aptpl, ..State::default() };
        draft.bump_generation();
        let count = registrants.len();
        draft.note(format!("an operator cleared the reservations, {count} registrations removed"));
        draft.finish(self)
    }

    /// The unit can be reached through one more target port: those that registered for all of them
    /// are registered there as well.
    ///
    /// # Errors
    /// INSUFFICIENT REGISTRATION RESOURCES when they do not fit.
    pub fn add_port(&self, port: RelativePort) -> Result<Change, Refusal> {
        let mut draft = Draft::of(&self.0);
        draft.add_port(port)?;
        Ok(draft.finish(self))
    }

    /// What is left after a power loss, which a restart of the target is: with APTPL registrations
    /// and reservation, without it nothing; never an SPC-2 reservation. PRGENERATION restarts at
    /// zero. What was lost stays lost.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        let survives = self.0.aptpl || self.0.lost;
        let state = if survives { State::clone(&self.0) } else { State::default() };
        Self(Arc::new(State { generation: 0, legacy: None, ..state }))
    }

    /// The state of a unit whose record is gone or unreadable. Nobody is let at the medium until
    /// somebody says what holds: REPLACE LOST RESERVATION, or the operator's [`Self::clear`].
    ///
    /// APTPL counts as set, since only what was to outlive a restart can be missed after one; a
    /// replacement then outlives the next.
    #[must_use]
    pub fn lost() -> Self {
        Self(Arc::new(State { lost: true, aptpl: true, ..State::default() }))
    }
}
