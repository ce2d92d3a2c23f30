//! Persistent reservations (SPC-5 5.14) and the reservations of SPC-2: who may touch the unit.
//!
//! Entry points: [`Reservations::check`] for every command, [`Reservations::apply`] for PERSISTENT
//! RESERVE OUT, [`Reservations::persistent_in`] for PERSISTENT RESERVE IN.
//!
//! ```text
//!                 REGISTER                RESERVE, PREEMPT
//!   nothing  ------------------> registered ----------------> reserved
//!      ^  ^                       |   ^  |                      |  |
//!      |  `--- last unregister ---'   |  `- RELEASE, holder <---'  |
//!      |                              |     unregisters            |
//!      `------------------------------+--- CLEAR, operator --------'
//!                                     |
//!   lost  --- REPLACE LOST RESERVATION (reserved at once), operator's clear (nothing)
//!
//!   nothing <-- RESERVE(6/10), RELEASE(6/10) --> held by one nexus as SPC-2 has it
//! ```
//!
//! A value is never changed: each step makes the next one, and a [`Change`] says what has to
//! happen before the step may be acknowledged (store the record, kill the victims' commands) and
//! whom to tell.
//!
//! Invariant: the holder of a reservation is registered; a unit under an SPC-2 reservation, or
//! whose reservations are lost, has no registrations; no key is zero; no nexus registers twice.

mod administration;
mod change;
mod hold;
mod legacy;
mod preempt;
mod record;
mod register;
mod report;
mod request;

use std::sync::Arc;

pub use self::change::{Change, Refusal};
pub use self::record::{RECORD_BYTES_MAX, RecordError, VERSION as RECORD_VERSION};
pub use self::request::Request;

use self::change::Draft;
use self::request::Action;
use crate::conflict::{Conflict, ConflictClass};
use crate::nexus::{InitiatorPort, ItNexus, RelativePort};
use crate::sense::{Asc, Sense, SenseKey};

/// Most registrations of one unit; one more is refused with INSUFFICIENT REGISTRATION RESOURCES.
pub const REGISTRATIONS_MAX: usize = 1024;

/// A reservation's type (SPC-5 table 62), with its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ReservationType {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// The type with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::WriteExclusive),
            3 => Some(Self::ExclusiveAccess),
            5 => Some(Self::WriteExclusiveRegistrantsOnly),
            6 => Some(Self::ExclusiveAccessRegistrantsOnly),
            7 => Some(Self::WriteExclusiveAllRegistrants),
            8 => Some(Self::ExclusiveAccessAllRegistrants),
            _ => None,
        }
    }
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
    /// Types 1, 5, 7: whoever has no access may still read.
    #[must_use]
    pub const fn lets_others_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }
    /// Types 7, 8: every registrant is a holder.
    #[must_use]
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
    /// Types 5 to 8: every registrant has access.
    #[must_use]
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }
    /// The standard's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteExclusive => "Write Exclusive",
            Self::ExclusiveAccess => "Exclusive Access",
            Self::WriteExclusiveRegistrantsOnly => "Write Exclusive, Registrants Only",
            Self::ExclusiveAccessRegistrantsOnly => "Exclusive Access, Registrants Only",
            Self::WriteExclusiveAllRegistrants => "Write Exclusive, All Registrants",
            Self::ExclusiveAccessAllRegistrants => "Exclusive Access, All Registrants",
        }
    }
}

/// One registered I_T nexus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub nexus: ItNexus,
    /// Never zero.
    pub key: u64,
    /// Made with ALL_TG_PT: ports that the unit gets later are registered with it.
    pub all_target_ports: bool,
}

/// The persistent reservation; its scope is always the logical unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    pub kind: ReservationType,
    /// The one holder; `None` for types 7 and 8, where every registrant is one.
    pub holder: Option<ItNexus>,
}

impl Reservation {
    /// The reservation that `nexus` takes.
    fn taken_by(nexus: &ItNexus, kind: ReservationType) -> Self {
        let holder = (!kind.is_all_registrants()).then(|| nexus.clone());
        Self { kind, holder }
    }
}

/// What there is to know; see the module's invariant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct State {
    /// In the order in which they were made.
    registrations: Vec<Registration>,
    reservation: Option<Reservation>,
    /// PRGENERATION.
    generation: u32,
    aptpl: bool,
    /// A record was there and could not be read.
    lost: bool,
    /// Holder of the SPC-2 reservation.
    legacy: Option<ItNexus>,
}

impl State {
    fn registration(&self, nexus: &ItNexus) -> Option<&Registration> {
        // Two passes, because a nexus that has not logged in anew since it registered is found by
        // its name's address, without a look at the bytes.
        let same_name = |one: &&Registration| {
            one.nexus.target == nexus.target && is_same_name(&one.nexus.initiator, &nexus.initiator)
        };
        let mut registrations = self.registrations.iter();
        registrations
            .find(same_name)
            .or_else(|| self.registrations.iter().find(|one| one.nexus == *nexus))
    }

    fn key_of(&self, nexus: &ItNexus) -> Option<u64> {
        self.registration(nexus).map(|registration| registration.key)
    }

    /// Whether the nexus holds the persistent reservation, alone or as one of all registrants.
    fn is_holder(&self, nexus: &ItNexus) -> bool {
        match &self.reservation {
            None => false,
            Some(Reservation { holder: Some(holder), .. }) => is_same(holder, nexus),
            Some(Reservation { holder: None, .. }) => self.registration(nexus).is_some(),
        }
    }

    /// Whether the persistent reservation leaves the nexus full access.
    fn has_access(&self, nexus: &ItNexus) -> bool {
        match &self.reservation {
            None => true,
            Some(reservation) if reservation.kind.admits_registrants() => {
                self.registration(nexus).is_some()
            }
            Some(_) => self.is_holder(nexus),
        }
    }
}

/// One name at one address: equal without comparing bytes.
fn is_same_name(one: &InitiatorPort, other: &InitiatorPort) -> bool {
    std::ptr::eq(one.name(), other.name())
}

/// Equality of nexuses, by address first.
fn is_same(one: &ItNexus, other: &ItNexus) -> bool {
    one.target == other.target
        && (is_same_name(&one.initiator, &other.initiator) || one.initiator == other.initiator)
}

/// The reservations of one logical unit: a value, cheap to clone. The default has nothing
/// registered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reservations(Arc<State>);

impl Reservations {
    /// Whether a command of this class may run now; see [`Self::refusal`] for why not.
    #[must_use]
    pub fn check(&self, nexus: &ItNexus, conflict: Conflict) -> bool {
        self.refusal(nexus, conflict).is_none()
    }

    /// How a command of this class has to end, or `None` when it may run (SPC-5 tables 63 and 64,
    /// SPC-2 5.5.1). Allocates nothing.
    ///
    /// [`ConflictClass::Reservation`] always passes: [`Self::apply`], [`Self::reserve_legacy`] and
    /// [`Self::release_legacy`] judge it by service action.
    #[must_use]
    pub fn refusal(&self, nexus: &ItNexus, conflict: Conflict) -> Option<Refusal> {
        let state = &*self.0;
        if state.reservation.is_none() && state.legacy.is_none() && !state.lost {
            return None;
        }
        if conflict.persistent == ConflictClass::Reservation {
            return None;
        }
        if let Some(holder) = &state.legacy {
            let passes = conflict.under_legacy || is_same(holder, nexus);
            return (!passes).then_some(Refusal::Conflict);
        }
        if conflict.persistent == ConflictClass::Always {
            return None;
        }
        if state.lost {
            return Some(Refusal::Check(information_lost()));
        }
        let reads = conflict.persistent == ConflictClass::Read
            && state.reservation.as_ref().is_some_and(|held| held.kind.lets_others_read());
        if reads || state.has_access(nexus) { None } else { Some(Refusal::Conflict) }
    }

    /// PERSISTENT RESERVE OUT: one uninterrupted step (SPC-5 6.16).
    ///
    /// `ports` are the target ports that reach the unit, for ALL_TG_PT and REGISTER AND MOVE.
    ///
    /// # Errors
    /// The [`Refusal`] that the command ends with; nothing has changed then.
    pub fn apply(
        &self,
        nexus: &ItNexus,
        request: &Request,
        ports: &[RelativePort],
    ) -> Result<Change, Refusal> {
        let replaces_lost = matches!(request.action, Action::ReplaceLost { .. });
        if self.0.lost && !replaces_lost {
            return Err(Refusal::Check(information_lost()));
        }
        // Even the holder's own: SPC-2 lets no persistent reservation command run beside RESERVE.
        if self.0.legacy.is_some() {
            return Err(Refusal::Conflict);
        }
        let mut draft = Draft::of(&self.0);
        match &request.action {
            Action::Register(options) => draft.register(nexus, request, options, ports)?,
            Action::Reserve { kind } => draft.reserve(nexus, request, *kind)?,
            Action::Release { scope_and_type } => draft.release(nexus, request, *scope_and_type)?,
            Action::Clear => draft.clear(nexus, request)?,
            Action::Preempt { scope_and_type, abort } => {
                draft.preempt(nexus, request, *scope_and_type, *abort)?;
            }
            Action::RegisterAndMove(to) => draft.register_and_move(nexus, request, to, ports)?,
            Action::ReplaceLost { kind } => draft.replace_lost(nexus, request, *kind)?,
        }
        Ok(draft.finish(self))
    }

    /// PRGENERATION.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.0.generation
    }
    /// All registrations, oldest first.
    #[must_use]
    pub fn registrations(&self) -> &[Registration] {
        &self.0.registrations
    }
    /// The key that the nexus is registered with.
    #[must_use]
    pub fn key_of(&self, nexus: &ItNexus) -> Option<u64> {
        self.0.key_of(nexus)
    }
    #[must_use]
    pub fn reservation(&self) -> Option<&Reservation> {
        self.0.reservation.as_ref()
    }
    /// Whether registrations and reservation outlive a power loss.
    #[must_use]
    pub fn aptpl(&self) -> bool {
        self.0.aptpl
    }
    /// Whether the record was lost: medium commands end with 44h/01h.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lost
    }
    /// Holder of the SPC-2 reservation (RESERVE 6 or 10).
    #[must_use]
    pub fn legacy_holder(&self) -> Option<&ItNexus> {
        self.0.legacy.as_ref()
    }
    /// Whether the nexus holds the persistent reservation; under types 7 and 8 every registrant.
    #[must_use]
    pub fn is_holder(&self, nexus: &ItNexus) -> bool {
        self.0.is_holder(nexus)
    }
}

/// PERSISTENT RESERVATION INFORMATION LOST.
fn information_lost() -> Sense {
    let (key, asc) = (SenseKey::HardwareError, Asc(0x44, 0x01));
    Sense::new(key, asc)
}
