//! PERSISTENT RESERVE as the two hosts of the demo speak it (SPC-5 6.16, 6.17).

use bytes::Bytes;
use host::{HostError, LogicalUnit, Outcome};

/// Write Exclusive, Registrants Only.
const REGISTRANTS_ONLY: u8 = 5;
const RESERVATION_CONFLICT: u8 = 0x18;
const CHECK_CONDITION: u8 = 0x02;
const UNIT_ATTENTION: u8 = 0x06;

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy)]
pub(super) enum Action {
    Register = 0x00,
    Reserve = 0x01,
    PreemptAndAbort = 0x05,
}

/// One action, with the key that we have and the key that it is about. APTPL is asked for.
pub(super) async fn reserve_out(
    unit: &LogicalUnit,
    action: Action,
    own: u64,
    about: u64,
) -> Result<(), HostError> {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&own.to_be_bytes());
    list[8..16].copy_from_slice(&about.to_be_bytes());
    if matches!(action, Action::Register) {
        list[20] = 0x01;
    }
    let list = Bytes::copy_from_slice(&list);
    unit.persistent_reserve_out(action as u8, REGISTRANTS_ONLY, list).await
}

/// Did the command end with RESERVATION CONFLICT?
pub(super) fn is_conflict(result: &Result<(), HostError>) -> bool {
    matches!(result, Err(HostError::Status { status: RESERVATION_CONFLICT, .. }))
}

/// The additional sense codes of an answer that is a unit attention.
pub(super) fn attention(answer: Result<Outcome, HostError>) -> Option<(u8, u8)> {
    match HostError::of(&answer.ok()?)? {
        HostError::Status { status: CHECK_CONDITION, key: UNIT_ATTENTION, asc, ascq } => {
            Some((asc, ascq))
        }
        _ => None,
    }
}

/// Clear what the target has to tell this nexus; gives the additional sense codes.
pub(super) async fn attentions(unit: &LogicalUnit) -> Vec<(u8, u8)> {
    let mut told = Vec::new();
    while let Err(HostError::Status { status: CHECK_CONDITION, key: UNIT_ATTENTION, asc, ascq }) =
        unit.test_unit_ready().await
    {
        told.push((asc, ascq));
    }
    told
}
