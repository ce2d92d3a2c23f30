//! The durable record: docs/formats/reservations.md describes it byte for byte.
//!
//! Invariant: `from_record(to_record(x))` is `x` without its SPC-2 reservation, and no bytes make
//! `from_record` panic or build a state that breaks the module's invariant.

use super::{REGISTRATIONS_MAX, Registration, Reservation, ReservationType, Reservations, State};
use crate::nexus::{ItNexus, RelativePort};
use crate::transport_id::{PORT_NAME_BYTES_MAX, port_from_name};
use std::collections::HashSet;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"CHOLD-PR";
/// The form that is written and read.
pub const VERSION: u16 = 1;
const HEAD_BYTES: usize = 20;
const REGISTRATION_HEAD_BYTES: usize = 14;
/// Flags of the head.
const APTPL: u8 = 0x01;
const LOST: u8 = 0x02;
/// Flag of a registration.
const ALL_TARGET_PORTS: u8 = 0x01;
/// Index of no registration.
const NO_HOLDER: u16 = 0xFFFF;

/// Longest record, in bytes.
pub const RECORD_BYTES_MAX: usize =
    HEAD_BYTES + REGISTRATIONS_MAX * (REGISTRATION_HEAD_BYTES + PORT_NAME_BYTES_MAX);

/// Why bytes are not a record. Each of these means that reservations are lost, never that there are
/// none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the reservation record ends too early")]
    Truncated,
    #[error("the reservation record does not start with its magic number")]
    Magic,
    #[error("the reservation record has version {0}, and this program reads up to version 1")]
    Version(u16),
    #[error("the reservation record contradicts itself: {0}")]
    Malformed(&'static str),
}

impl Reservations {
    /// The record's bytes: at most [`RECORD_BYTES_MAX`].
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let state = &*self.0;
        let flags = if state.aptpl { APTPL } else { 0 } | if state.lost { LOST } else { 0 };
        let holder = state.reservation.as_ref().and_then(|held| held.holder.as_ref());
        let holder = holder.and_then(|holder| {
            state.registrations.iter().position(|registration| registration.nexus == *holder)
        });
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend([flags, state.reservation.as_ref().map_or(0, |held| held.kind.code())]);
        bytes.extend(state.generation.to_be_bytes());
        bytes.extend(number(state.registrations.len()).to_be_bytes());
        bytes.extend(holder.map_or(NO_HOLDER, number).to_be_bytes());
        for registration in &state.registrations {
            let name = registration.nexus.initiator.name();
            bytes.extend(registration.key.to_be_bytes());
            bytes.extend(registration.nexus.target.0.to_be_bytes());
            bytes.extend([if registration.all_target_ports { ALL_TARGET_PORTS } else { 0 }, 0]);
            bytes.extend(number(name.len()).to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// Reads a record; every byte of it must belong to it.
    ///
    /// # Errors
    /// A [`RecordError`], for which [`Reservations::lost`] is the state to take.
    pub fn from_record(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(bytes);
        if reader.take::<8>()? != MAGIC {
            return Err(RecordError::Magic);
        }
        let version = reader.number()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let [flags, code] = reader.take()?;
        if flags & !(APTPL | LOST) != 0 {
            return Err(RecordError::Malformed("an unknown flag is set"));
        }
        let generation = u32::from_be_bytes(reader.take()?);
        let count = reader.number()?;
        let holder = reader.number()?;
        let registrations = reader.registrations(usize::from(count))?;
        if !reader.0.is_empty() {
            return Err(RecordError::Malformed("bytes follow the last registration"));
        }
        let lost = flags & LOST != 0;
        if lost && (count != 0 || code != 0) {
            return Err(RecordError::Malformed("lost reservations have registrations"));
        }
        let reservation = reservation(code, holder, &registrations)?;
        let aptpl = flags & APTPL != 0;
        let state = State { registrations, reservation, generation, aptpl, lost, legacy: None };
        Ok(Self(Arc::new(state)))
    }
}

/// The reservation of this type with this registration as its holder.
fn reservation(
    code: u8,
    holder: u16,
    registrations: &[Registration],
) -> Result<Option<Reservation>, RecordError> {
    if code == 0 {
        let none = holder == NO_HOLDER;
        return if none { Ok(None) } else { Err(RecordError::Malformed("a holder of nothing")) };
    }
    let kind = ReservationType::from_code(code);
    let kind = kind.ok_or(RecordError::Malformed("an unknown reservation type"))?;
    let holder = if kind.is_all_registrants() {
        if holder != NO_HOLDER || registrations.is_empty() {
            return Err(RecordError::Malformed(
                "all registrants hold it, but one or none is named",
            ));
        }
        None
    } else {
        let registration = registrations.get(usize::from(holder));
        let registration =
            registration.ok_or(RecordError::Malformed("no registration holds it"))?;
        Some(registration.nexus.clone())
    };
    Ok(Some(Reservation { kind, holder }))
}

/// A count or length: the machine's limits keep all of them within 16 bits.
fn number(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u16, RecordError> {
        self.take().map(u16::from_be_bytes)
    }

    fn registrations(&mut self, count: usize) -> Result<Vec<Registration>, RecordError> {
        if count > REGISTRATIONS_MAX {
            return Err(RecordError::Malformed("too many registrations"));
        }
        let mut registrations = Vec::new();
        let mut known = HashSet::new();
        for _ in 0..count {
            let registration = self.registration()?;
            if !known.insert(registration.nexus.clone()) {
                return Err(RecordError::Malformed("a nexus is registered twice"));
            }
            registrations.push(registration);
        }
        Ok(registrations)
    }

    fn registration(&mut self) -> Result<Registration, RecordError> {
        let key = u64::from_be_bytes(self.take()?);
        let target = RelativePort(self.number()?);
        let [flags, reserved] = self.take()?;
        if key == 0 || flags & !ALL_TARGET_PORTS != 0 || reserved != 0 {
            return Err(RecordError::Malformed("a registration has a zero key or unknown flags"));
        }
        let name_bytes = usize::from(self.number()?);
        let (name, rest) = self.0.split_at_checked(name_bytes).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= PORT_NAME_BYTES_MAX);
        // Written in canonical form, so that a record that was read is written back unchanged.
        let port = name.and_then(|name| port_from_name(name).filter(|port| port.name() == name));
        let initiator =
            port.ok_or(RecordError::Malformed("an initiator port name is malformed"))?;
        let nexus = ItNexus { initiator, target };
        Ok(Registration { nexus, key, all_target_ports: flags & ALL_TARGET_PORTS != 0 })
    }
}
