//! Unit attention conditions (SAM-5 5.14): what a nexus is told, once, before its next command.
//!
//! Entry points: [`UnitAttention`] (every condition that the target raises) and [`Queue`] (what is
//! pending for one I_T nexus).
//!
//! Invariant: a pending condition is neither lost nor told twice. A queue holds each kind at most
//! once, so it can never hold more than [`UnitAttention::ALL`] has.

use crate::sense::{Asc, Sense, SenseKey};

/// A unit attention condition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnitAttention {
    /// The target started, or the unit was mapped anew.
    PowerOn,
    /// LOGICAL UNIT RESET or a target reset.
    DeviceReset,
    /// The nexus lost its session and came back.
    NexusLoss,
    /// Another nexus changed a mode page.
    ModeParametersChanged,
    /// Another nexus sent CLEAR, or the operator did.
    ReservationsPreempted,
    /// A reservation of a registrants type ended, or its type changed.
    ReservationsReleased,
    /// Another nexus removed this one's registration.
    RegistrationsPreempted,
    /// A path's state changed (ALUA).
    AsymmetricAccessChanged,
    /// The volume grew.
    CapacityChanged,
    /// Commands were aborted for another nexus' sake and ended without a status (TAS=0).
    CommandsCleared,
    /// The pool behind a thin volume is nearly full.
    ThinProvisioningThreshold,
    /// INQUIRY data changed.
    InquiryDataChanged,
    /// A unit appeared or went.
    ReportedLunsChanged,
}

impl UnitAttention {
    /// Every condition.
    pub const ALL: [Self; 13] = [
        Self::PowerOn,
        Self::DeviceReset,
        Self::NexusLoss,
        Self::ModeParametersChanged,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::AsymmetricAccessChanged,
        Self::CapacityChanged,
        Self::CommandsCleared,
        Self::ThinProvisioningThreshold,
        Self::InquiryDataChanged,
        Self::ReportedLunsChanged,
    ];

    /// Its additional sense code (SPC-5 annex F).
    #[must_use]
    pub const fn asc(self) -> Asc {
        match self {
            Self::PowerOn => Asc(0x29, 0x00),
            Self::DeviceReset => Asc(0x29, 0x03),
            Self::NexusLoss => Asc(0x29, 0x07),
            Self::ModeParametersChanged => Asc(0x2A, 0x01),
            Self::ReservationsPreempted => Asc(0x2A, 0x03),
            Self::ReservationsReleased => Asc(0x2A, 0x04),
            Self::RegistrationsPreempted => Asc(0x2A, 0x05),
            Self::AsymmetricAccessChanged => Asc(0x2A, 0x06),
            Self::CapacityChanged => Asc(0x2A, 0x09),
            Self::CommandsCleared => Asc(0x2F, 0x00),
            Self::ThinProvisioningThreshold => Asc(0x38, 0x07),
            Self::InquiryDataChanged => Asc(0x3F, 0x03),
            Self::ReportedLunsChanged => Asc(0x3F, 0x0E),
        }
    }

    /// The standard's wording, for logs and histories.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::PowerOn => "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED",
            Self::DeviceReset => "BUS DEVICE RESET FUNCTION OCCURRED",
            Self::NexusLoss => "I_T NEXUS LOSS OCCURRED",
            Self::ModeParametersChanged => "MODE PARAMETERS CHANGED",
            Self::ReservationsPreempted => "RESERVATIONS PREEMPTED",
            Self::ReservationsReleased => "RESERVATIONS RELEASED",
            Self::RegistrationsPreempted => "REGISTRATIONS PREEMPTED",
            Self::AsymmetricAccessChanged => "ASYMMETRIC ACCESS STATE CHANGED",
            Self::CapacityChanged => "CAPACITY DATA HAS CHANGED",
            Self::CommandsCleared => "COMMANDS CLEARED BY ANOTHER INITIATOR",
            Self::ThinProvisioningThreshold => "THIN PROVISIONING SOFT THRESHOLD REACHED",
            Self::InquiryDataChanged => "INQUIRY DATA HAS CHANGED",
            Self::ReportedLunsChanged => "REPORTED LUNS DATA HAS CHANGED",
        }
    }

    /// Sense data that reports it.
    #[must_use]
    pub const fn sense(self) -> Sense {
        Sense::new(SenseKey::UnitAttention, self.asc())
    }

    /// Precedence (SAM-5 5.14.2): the resets go first, the strongest of them ahead; all others
    /// keep the order in which they happened.
    const fn rank(self) -> u8 {
        match self {
            Self::PowerOn => 0,
            Self::DeviceReset => 1,
            Self::NexusLoss => 2,
            _ => 3,
        }
    }
}

/// The conditions pending for one I_T nexus, the next one to report first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    pending: Vec<UnitAttention>,
}

impl Queue {
    /// Adds a condition. One that is pending already stays where it is.
    ///
    /// A power-on clears what was pending: that belonged to a unit which no longer exists. The
    /// weaker resets only go ahead, because a removed registration must be told even after them.
    pub fn push(&mut self, attention: UnitAttention) {
        if attention == UnitAttention::PowerOn {
            self.pending.clear();
        }
        if self.pending.contains(&attention) {
            return;
        }
        let place = self.pending.iter().position(|other| other.rank() > attention.rank());
        self.pending.insert(place.unwrap_or(self.pending.len()), attention);
    }

    /// What the next command would be told; REQUEST SENSE reports it without any command failing.
    #[must_use]
    pub fn first(&self) -> Option<UnitAttention> {
        self.pending.first().copied()
    }

    /// Takes the condition that ends the present command.
    pub fn pop(&mut self) -> Option<UnitAttention> {
        if self.pending.is_empty() { None } else { Some(self.pending.remove(0)) }
    }

    /// Drops a condition that another command has answered (REPORT LUNS answers 3Fh/0Eh).
    pub fn remove(&mut self, attention: UnitAttention) {
        self.pending.retain(|other| *other != attention);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue) -> Vec<UnitAttention> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn conditions_come_out_in_the_order_in_which_they_happened() {
        let mut queue = Queue::default();
        queue.push(UnitAttention::RegistrationsPreempted);
        queue.push(UnitAttention::CommandsCleared);
        queue.push(UnitAttention::CapacityChanged);
        assert_eq!(queue.first(), Some(UnitAttention::RegistrationsPreempted));
        assert_eq!(
            drain(&mut queue),
            [
                UnitAttention::RegistrationsPreempted,
                UnitAttention::CommandsCleared,
                UnitAttention::CapacityChanged
            ]
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn the_same_condition_is_pending_once() {
        let mut queue = Queue::default();
        queue.push(UnitAttention::ReservationsReleased);
        queue.push(UnitAttention::ReservationsPreempted);
        queue.push(UnitAttention::ReservationsReleased);
        assert_eq!(
            drain(&mut queue),
            [UnitAttention::ReservationsReleased, UnitAttention::ReservationsPreempted]
        );
    }

    #[test]
    fn a_reset_outranks_a_reservation_and_keeps_it() {
        let mut queue = Queue::default();
        queue.push(UnitAttention::RegistrationsPreempted);
        queue.push(UnitAttention::NexusLoss);
        queue.push(UnitAttention::DeviceReset);
        assert_eq!(
            drain(&mut queue),
            [
                UnitAttention::DeviceReset,
                UnitAttention::NexusLoss,
                UnitAttention::RegistrationsPreempted
            ]
        );
    }

    #[test]
    fn a_power_on_clears_what_was_pending() {
        let mut queue = Queue::default();
        queue.push(UnitAttention::ReservationsPreempted);
        queue.push(UnitAttention::PowerOn);
        queue.push(UnitAttention::ReservationsReleased);
        assert_eq!(
            drain(&mut queue),
            [UnitAttention::PowerOn, UnitAttention::ReservationsReleased]
        );
    }

    #[test]
    fn a_queue_is_bounded_by_the_number_of_kinds() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            for attention in UnitAttention::ALL.into_iter().rev() {
                queue.push(attention);
            }
        }
        assert!(queue.len() <= UnitAttention::ALL.len());
    }

    #[test]
    fn every_condition_has_its_own_code() {
        for (index, one) in UnitAttention::ALL.iter().enumerate() {
            assert_eq!(one.sense().key, SenseKey::UnitAttention);
            for other in &UnitAttention::ALL[index + 1..] {
                assert_ne!(one.asc(), other.asc());
                assert_ne!(one.text(), other.text());
            }
        }
    }
}
