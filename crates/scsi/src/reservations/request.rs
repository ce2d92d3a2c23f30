//! PERSISTENT RESERVE OUT as a value: CDB and parameter list, checked as far as they can be
//! without the state (SPC-5 6.16).

use super::ReservationType;
use super::change::{invalid_cdb_field, invalid_list_field};
use crate::nexus::{InitiatorPort, RelativePort};
use crate::sense::{Asc, Sense};
use crate::transport_id::TransportId;

const OPERATION_CODE: u8 = 0x5F;
/// The basic parameter list.
const LIST_BYTES: usize = 24;
/// Where the service action byte, the scope and type byte lie in the CDB.
pub(super) const CDB_ACTION: u16 = 1;
const CDB_SCOPE_AND_TYPE: u16 = 2;
/// Where things lie in the parameter list.
pub(super) const LIST_ACTION_KEY: u16 = 8;
pub(super) const LIST_BITS: u16 = 20;
pub(super) const LIST_MOVE_PORT: u16 = 18;
pub(super) const LIST_TRANSPORT_IDS: u16 = 28;
pub(super) const LIST_MOVE_TRANSPORT_ID: u16 = 24;

/// A PERSISTENT RESERVE OUT command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// RESERVATION KEY: the caller's own.
    pub(super) key: u64,
    /// SERVICE ACTION RESERVATION KEY: the new one, or the victim's.
    pub(super) action_key: u64,
    pub(super) action: Action,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// REGISTER, REGISTER AND IGNORE EXISTING KEY.
    Register(RegisterOptions),
    Reserve {
        kind: ReservationType,
    },
    /// Compared with what is held; a wrong one is no wrong field.
    Release {
        scope_and_type: u8,
    },
    Clear,
    /// PREEMPT, PREEMPT AND ABORT. Looked at only when the reservation is taken over.
    Preempt {
        scope_and_type: u8,
        abort: bool,
    },
    RegisterAndMove(Destination),
    ReplaceLost {
        kind: ReservationType,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RegisterOptions {
    /// Take the registration as it is, whatever its key.
    pub(super) ignores_key: bool,
    /// SPEC_I_PT: register these as well. Distinct.
    pub(super) listed: Option<Vec<InitiatorPort>>,
    /// ALL_TG_PT.
    pub(super) all_target_ports: bool,
    pub(super) aptpl: bool,
}

/// Where REGISTER AND MOVE moves the reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Destination {
    pub(super) initiator: InitiatorPort,
    pub(super) target: RelativePort,
    /// UNREG: the mover's registration goes.
    pub(super) unregisters: bool,
    pub(super) aptpl: bool,
}

impl Request {
    /// Reads the CDB and the parameter list that came with it.
    ///
    /// # Errors
    /// The sense data of the CHECK CONDITION: an unknown service action, PARAMETER LIST LENGTH
    /// ERROR, a wrong type or scope where one is used, a TransportID that names no initiator port.
    pub fn parse(cdb: &[u8], list: &[u8]) -> Result<Self, Sense> {
        let Some(&[operation, action, scope_and_type, _, _, l3, l2, l1, l0, _]) =
            cdb.first_chunk::<10>()
        else {
            return Err(invalid_cdb_field(0));
        };
        if operation != OPERATION_CODE {
            return Err(illegal(Asc(0x20, 0x00)));
        }
        let list_bytes = usize::try_from(u32::from_be_bytes([l3, l2, l1, l0]));
        let list = list_bytes.ok().and_then(|bytes| list.get(..bytes)).ok_or_else(length_error)?;
        let action = match action & 0x1F {
            0x00 => Action::Register(RegisterOptions::parse(list)?),
            0x01 => Action::Reserve { kind: used_type(scope_and_type)? },
            0x02 => Action::Release { scope_and_type },
            0x03 => Action::Clear,
            0x04 => Action::Preempt { scope_and_type, abort: false },
            0x05 => Action::Preempt { scope_and_type, abort: true },
            0x06 => Action::Register(RegisterOptions::parse_ignoring_key(list)?),
            0x07 => Action::RegisterAndMove(Destination::parse(list)?),
            0x08 => Action::ReplaceLost { kind: used_type(scope_and_type)? },
            _ => return Err(invalid_cdb_field(CDB_ACTION)),
        };
        let may_be_longer = match &action {
            Action::Register(options) => options.listed.is_some(),
            Action::RegisterAndMove(_) => true,
            _ => false,
        };
        if list.len() != LIST_BYTES && !may_be_longer {
            return Err(length_error());
        }
        let (key, rest) = list.split_first_chunk::<8>().ok_or_else(length_error)?;
        let action_key = rest.first_chunk::<8>().ok_or_else(length_error)?;
        let (key, action_key) = (u64::from_be_bytes(*key), u64::from_be_bytes(*action_key));
        Ok(Self { key, action_key, action })
    }

    /// The service action's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.action {
            Action::Register(options) if options.ignores_key => "REGISTER AND IGNORE EXISTING KEY",
            Action::Register(_) => "REGISTER",
            Action::Reserve { .. } => "RESERVE",
            Action::Release { .. } => "RELEASE",
            Action::Clear => "CLEAR",
            Action::Preempt { abort: false, .. } => "PREEMPT",
            Action::Preempt { abort: true, .. } => "PREEMPT AND ABORT",
            Action::RegisterAndMove(_) => "REGISTER AND MOVE",
            Action::ReplaceLost { .. } => "REPLACE LOST RESERVATION",
        }
    }
}

impl RegisterOptions {
    fn parse(list: &[u8]) -> Result<Self, Sense> {
        let bits = *list.get(usize::from(LIST_BITS)).ok_or_else(length_error)?;
        let listed = if bits & 0x08 == 0 { None } else { Some(listed_ports(list)?) };
        let (all_target_ports, aptpl) = (bits & 0x04 != 0, bits & 0x01 != 0);
        Ok(Self { ignores_key: false, listed, all_target_ports, aptpl })
    }

    fn parse_ignoring_key(list: &[u8]) -> Result<Self, Sense> {
        if list.len() != LIST_BYTES {
            return Err(length_error());
        }
        let bits = list[usize::from(LIST_BITS)];
        if bits & 0x08 != 0 {
            return Err(invalid_list_field(LIST_BITS));
        }
        let (all_target_ports, aptpl) = (bits & 0x04 != 0, bits & 0x01 != 0);
        Ok(Self { ignores_key: true, listed: None, all_target_ports, aptpl })
    }
}

impl Destination {
    fn parse(list: &[u8]) -> Result<Self, Sense> {
        let head = list.first_chunk::<LIST_BYTES>().ok_or_else(length_error)?;
        let [.., bits, port_high, port_low, n3, n2, n1, n0] = *head;
        let stated_bytes = u32::from_be_bytes([n3, n2, n1, n0]);
        let transport_id = &list[LIST_BYTES..];
        if usize::try_from(stated_bytes) != Ok(transport_id.len()) {
            return Err(length_error());
        }
        let initiator = match TransportId::decode(transport_id) {
            Ok((TransportId::Port(port), bytes)) if bytes == transport_id.len() => port,
            // A device's name alone does not say which of its ports is to hold the reservation.
            _ => return Err(invalid_list_field(LIST_MOVE_TRANSPORT_ID)),
        };
        let target = RelativePort(u16::from_be_bytes([port_high, port_low]));
        Ok(Self { initiator, target, unregisters: bits & 0x02 != 0, aptpl: bits & 0x01 != 0 })
    }
}

/// The initiator ports of a SPEC_I_PT list: all of them name one port, none twice.
fn listed_ports(list: &[u8]) -> Result<Vec<InitiatorPort>, Sense> {
    let rest = list.get(LIST_BYTES..).ok_or_else(length_error)?;
    let (stated_bytes, mut rest) = rest.split_first_chunk::<4>().ok_or_else(length_error)?;
    if usize::try_from(u32::from_be_bytes(*stated_bytes)) != Ok(rest.len()) {
        return Err(length_error());
    }
    let mut ports = Vec::new();
    while !rest.is_empty() {
        let refused = || invalid_list_field(LIST_TRANSPORT_IDS);
        let (id, bytes) = TransportId::decode(rest).map_err(|_| refused())?;
        match id {
            TransportId::Port(port) if !ports.contains(&port) => ports.push(port),
            _ => return Err(refused()),
        }
        if ports.len() > super::REGISTRATIONS_MAX {
            return Err(illegal(Asc(0x55, 0x04)));
        }
        rest = rest.get(bytes..).ok_or_else(refused)?;
    }
    Ok(ports)
}

/// The type that the CDB names, for the actions that use it; scope 0 (the unit) is the only one.
pub(super) fn used_type(scope_and_type: u8) -> Result<ReservationType, Sense> {
    // A wrong scope makes the byte greater than any type's code.
    ReservationType::from_code(scope_and_type).ok_or_else(|| invalid_cdb_field(CDB_SCOPE_AND_TYPE))
}

fn length_error() -> Sense {
    illegal(Asc(0x1A, 0x00))
}

fn illegal(asc: Asc) -> Sense {
    Sense::illegal(asc)
}
