//! Power loss, lost reservations, and what happens without a SCSI command.

use super::*;

const INFORMATION_LOST: Asc = Asc(0x44, 0x01);

#[test]
fn with_aptpl_everything_outlives_a_power_loss_but_the_generation() {
    let mut unit = Unit::default();
    unit.good(&a(), out(REGISTER, 0, 0, 1, APTPL));
    unit.good(&a(), out(RESERVE, EA, 1, 0, 0));
    let after = Reservations::from_record(&unit.now.to_record()).unwrap().after_power_loss();
    assert_eq!(after.registrations(), unit.now.registrations());
    assert_eq!(after.reservation(), unit.now.reservation());
    assert_eq!((after.generation(), after.aptpl()), (0, true));
}

#[test]
fn without_aptpl_nothing_outlives_a_power_loss() {
    let unit = Unit::held(EA, &[(&a(), 1)]);
    assert_eq!(unit.now.after_power_loss(), Reservations::default());
}

#[test]
fn an_spc_2_reservation_is_neither_recorded_nor_kept() {
    let held = Reservations::default().reserve_legacy(&a()).unwrap().next;
    assert_eq!(Reservations::from_record(&held.to_record()), Ok(Reservations::default()));
    assert_eq!(held.after_power_loss(), Reservations::default());
}

#[test]
fn lost_reservations_let_nobody_at_the_medium() {
    let unit = Unit { now: Reservations::lost() };
    assert!(unit.may(&a(), ConflictClass::Always) && unit.may(&a(), ConflictClass::Reservation));
    for class in [ConflictClass::Read, ConflictClass::Write] {
        let conflict = Conflict { persistent: class, under_legacy: false };
        let refusal = unit.now.refusal(&a(), conflict);
        let Some(Refusal::Check(sense)) = refusal else { panic!("{refusal:?}") };
        assert_eq!((sense.key, sense.asc), (SenseKey::HardwareError, INFORMATION_LOST));
    }
}

#[test]
fn lost_reservations_refuse_every_action_but_their_replacement() {
    let unit = Unit { now: Reservations::lost() };
    for action in 0..=6 {
        let refusal = unit.refused(&a(), out(action, WE, 0, 1, 0));
        assert!(matches!(refusal, Refusal::Check(sense) if sense.asc == INFORMATION_LOST));
    }
    for action in [0, 1, 3] {
        let response = unit.now.persistent_in(&wire::cdb_in(action));
        assert_eq!(response.sense.map(|sense| sense.asc), Some(INFORMATION_LOST));
    }
    assert_eq!(unit.read(2).len(), 8, "REPORT CAPABILITIES still answers");
    for answer in [unit.now.reserve_legacy(&a()), unit.now.release_legacy(&a())] {
        assert!(matches!(answer, Err(Refusal::Check(sense)) if sense.asc == INFORMATION_LOST));
    }
}

#[test]
fn lost_reservations_stay_lost_over_a_restart() {
    let record = Reservations::lost().to_record();
    assert!(Reservations::from_record(&record).unwrap().after_power_loss().is_lost());
}

#[test]
fn the_replacement_registers_the_caller_and_reserves_at_once() {
    let mut unit = Unit { now: Reservations::lost() };
    assert_eq!(unit.checked(&a(), out(REPLACE_LOST, WE_RO, 1, 1, 0)), INVALID_LIST_FIELD);
    assert_eq!(unit.checked(&a(), out(REPLACE_LOST, WE_RO, 0, 0, 0)), INVALID_LIST_FIELD);
    assert_eq!(unit.checked(&a(), out(REPLACE_LOST, 0x02, 0, 1, 0)), INVALID_CDB_FIELD);
    unit.good(&a(), out(REPLACE_LOST, WE_RO, 0, 1, 0));
    assert_eq!((unit.kind(), unit.keys(), unit.now.is_lost()), (Some(WE_RO), vec![1], false));
    assert!(unit.now.is_holder(&a()) && !unit.may(&b(), ConflictClass::Write));
    assert!(!unit.now.after_power_loss().registrations().is_empty(), "it outlives a restart");
}

#[test]
fn nothing_lost_is_nothing_to_replace() {
    for unit in [Unit::default(), Unit::held(WE, &[(&a(), 1)])] {
        assert_eq!(unit.checked(&a(), out(REPLACE_LOST, WE, 0, 1, 0)), INVALID_CDB_FIELD);
    }
}

#[test]
fn an_operator_clears_everything_and_tells_every_registrant() {
    let change = Unit::held(EA, &[(&a(), 1), (&b(), 2)]).now.clear();
    assert!(change.next.registrations().is_empty() && change.next.reservation().is_none());
    let told = UnitAttention::ReservationsPreempted;
    assert_eq!(change.attentions, [(a(), told), (b(), told)]);
    assert!(change.persist && change.next.generation() == 3);
    let found = Reservations::lost().clear().next;
    assert!(!found.is_lost() && !found.aptpl(), "nothing is known of its APTPL");
}

#[test]
fn removing_a_device_takes_all_its_nexuses_and_ends_what_it_held() {
    let second = nexus('a', 2, 2);
    for kind in ALL_TYPES {
        let unit = Unit::held(kind, &[(&a(), 1), (&second, 1), (&b(), 2)]);
        let change = unit.now.remove_device(&wire::iqn('a').to_uppercase()).unwrap();
        assert_eq!(change.next.registrations().len(), 1);
        assert_eq!(change.next.reservation().is_some(), matches!(kind, 7 | 8));
        let told = UnitAttention::ReservationsReleased;
        let expected = if matches!(kind, 5 | 6) { vec![(b(), told)] } else { vec![] };
        assert_eq!(change.attentions, expected);
        assert!(change.abort.is_empty() && change.persist);
    }
}

#[test]
fn removing_a_device_that_has_nothing_changes_nothing() {
    let unit = Unit::held(EA, &[(&a(), 1)]);
    assert_eq!(unit.now.remove_device(&wire::iqn('b')), None);
    let held = Reservations::default().reserve_legacy(&b()).unwrap().next;
    let change = held.remove_device(&wire::iqn('b')).unwrap();
    assert_eq!((change.next, change.persist), (Reservations::default(), false));
}
