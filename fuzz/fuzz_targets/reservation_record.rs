//! Reservation records, and what becomes of them. Knobs: length of the record (2 bytes); behind
//! it come steps: who (1 byte), service action (1), scope and type (1), key (1), action key (1),
//! bits (1), bytes that follow the basic list (1), and those.
#![no_main]

use std::collections::HashSet;

use arbitrary::Unstructured;
use commonhold_fuzz::unit::{PORTS, nexus, reserve_out};
use libfuzzer_sys::fuzz_target;
use scsi::conflict::{Conflict, ConflictClass};
use scsi::nexus::ItNexus;
use scsi::reservations::{Change, RECORD_BYTES_MAX, Request, Reservations};

const STEPS_MAX: usize = 64;

/// The invariant of `scsi::reservations`, and the record's round trip.
fn check(state: &Reservations) {
    let mut known = HashSet::new();
    for registration in state.registrations() {
        assert!(registration.key != 0 && known.insert(registration.nexus.clone()));
        assert_eq!(state.key_of(&registration.nexus), Some(registration.key));
    }
    if let Some(reservation) = state.reservation() {
        assert_eq!(reservation.holder.is_none(), reservation.kind.is_all_registrants());
        assert!(reservation.holder.as_ref().is_none_or(|holder| known.contains(holder)));
        assert!(!known.is_empty());
    }
    if state.is_lost() || state.legacy_holder().is_some() {
        assert!(known.is_empty());
    }
    let record = state.to_record();
    assert!(record.len() <= RECORD_BYTES_MAX);
    let read = Reservations::from_record(&record).expect("what was written can be read");
    assert_eq!(read, state.drop_legacy(None).unwrap_or_else(|| state.clone()));
    for action in 0..4 {
        let response = state.persistent_in(&[0x5E, action, 0, 0, 0, 0, 0, 0x01, 0x00, 0]);
        assert!(response.data.len() <= 256);
    }
    let writes = Conflict { persistent: ConflictClass::Write, under_legacy: false };
    if let Some(holder) = state.registrations().iter().find(|it| state.is_holder(&it.nexus)) {
        assert!(state.check(&holder.nexus, writes), "a holder may write");
        assert_eq!(
            state.check(&nexus(0xff), writes),
            state.key_of(&nexus(0xff)).is_some_and(|_| state.is_holder(&nexus(0xff))
                || state.reservation().is_some_and(|held| held.kind.admits_registrants()))
        );
    }
}

fn check_change(change: &Change, caller: &ItNexus) {
    assert!(change.abort.iter().all(|victim| victim != caller));
}

fn step(state: &Reservations, knobs: &mut Unstructured<'_>) -> arbitrary::Result<Reservations> {
    let [who, action, kind, key, action_key, bits, more]: [u8; 7] = knobs.arbitrary()?;
    let caller = nexus(who);
    let device = caller.initiator.device();
    let change = match action {
        0xF0 => state.remove_device(device),
        0xF1 => Some(state.clear()),
        0xF2 => state.reserve_legacy(&caller).ok(),
        0xF3 => state.release_legacy(&caller).ok(),
        0xF4 => return Ok(state.after_power_loss()),
        0xF5 => state.add_port(PORTS[usize::from(kind & 1)]).ok(),
        _ => {
            let (mut cdb, list) =
                reserve_out(action, kind, u64::from(key & 3), u64::from(action_key & 3), bits);
            let mut list = list.to_vec();
            let more = usize::from(more).min(knobs.len());
            list.extend_from_slice(knobs.bytes(more)?);
            cdb[8] = u8::try_from(list.len()).unwrap_or(u8::MAX);
            let list = &list[..usize::from(cdb[8]).min(list.len())];
            let request = Request::parse(&cdb, list).ok();
            request.and_then(|request| state.apply(&caller, &request, &PORTS).ok())
        }
    };
    let Some(change) = change else { return Ok(state.clone()) };
    check_change(&change, &caller);
    Ok(change.next)
}

fn run(mut knobs: Unstructured<'_>) -> arbitrary::Result<()> {
    let length = usize::from(knobs.arbitrary::<u16>()?).min(knobs.len());
    let record = knobs.bytes(length)?;
    let mut state = Reservations::default();
    if let Ok(read) = Reservations::from_record(record) {
        assert_eq!(read.to_record(), record, "a record that was read is written back unchanged");
        state = read;
    }
    check(&state);
    for _ in 0..STEPS_MAX {
        if knobs.is_empty() {
            break;
        }
        state = step(&state, &mut knobs)?;
        check(&state);
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let _ = run(Unstructured::new(input));
});
