//! Which command conflicts (SPC-5 tables 63 and 64), and the SPC-2 commands.

use super::*;
use ConflictClass::{Always, Read, Reservation, Write};

fn row(unit: &Unit, who: &ItNexus) -> [bool; 4] {
    [Always, Read, Write, Reservation].map(|class| unit.may(who, class))
}

#[test]
fn table_of_access() {
    let everything = [true; 4];
    let reads = [true, true, false, true];
    let nothing = [true, false, false, true];
    // (type, the holder, another registrant, a stranger)
    for (kind, holder, registrant, stranger) in [
        (1, everything, reads, reads),
        (3, everything, nothing, nothing),
        (5, everything, everything, reads),
        (6, everything, everything, nothing),
        (7, everything, everything, reads),
        (8, everything, everything, nothing),
    ] {
        let unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        assert_eq!(row(&unit, &a()), holder, "type {kind}, holder");
        assert_eq!(row(&unit, &b()), registrant, "type {kind}, registrant");
        assert_eq!(row(&unit, &c()), stranger, "type {kind}, stranger");
    }
}

#[test]
fn without_a_reservation_everybody_passes_registered_or_not() {
    let unit = Unit::registered(&[(&a(), 1)]);
    assert_eq!([row(&unit, &a()), row(&unit, &c())], [[true; 4]; 2]);
}

#[test]
fn table_of_persistent_reserve_out_by_service_action() {
    // Who gets past the reservation: (action, stranger, registrant, holder).
    let id = wire::transport_id(nexus('d', 1, 1).initiator.name());
    for (action, stranger, registrant, holder) in [
        (REGISTER, true, true, true),
        (REGISTER_AND_IGNORE, true, true, true),
        (RESERVE, false, false, true),
        (RELEASE, false, true, true),
        (CLEAR, false, true, true),
        (PREEMPT, false, true, true),
        (PREEMPT_AND_ABORT, false, true, true),
        (wire::REGISTER_AND_MOVE, false, false, true),
    ] {
        for kind in [1, 3, 5, 6] {
            let unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
            for (who, key, passes) in [(c(), 0, stranger), (b(), 2, registrant), (a(), 1, holder)] {
                let wire = match action {
                    wire::REGISTER_AND_MOVE => wire::out_move(key, 9, 0, 1, &id),
                    PREEMPT | PREEMPT_AND_ABORT => out(action, kind, key, 1, 0),
                    _ => out(action, kind, key, 9, 0),
                };
                assert_eq!(unit.answer(&who, wire).is_ok(), passes, "{action} {kind} {who:?}");
            }
        }
    }
}

#[test]
fn spc_2_reserve_holds_the_unit_for_one_nexus() {
    let mut unit = Unit::default();
    let change = unit.now.reserve_legacy(&a()).unwrap();
    assert!(!change.persist, "it ends with the power");
    unit.now = change.next;
    assert_eq!(unit.now.reserve_legacy(&a()).unwrap().next, unit.now);
    assert_eq!(unit.now.reserve_legacy(&b()), Err(CONFLICT));
    assert_eq!(row(&unit, &a()), [true; 4]);
    let passes =
        |class, under_legacy| unit.now.check(&b(), Conflict { persistent: class, under_legacy });
    assert!(!passes(Always, false) && !passes(Read, false) && !passes(Write, false));
    assert!(passes(Always, true) && passes(Reservation, false));
    // RELEASE by another nexus is GOOD and changes nothing.
    assert_eq!(unit.now.release_legacy(&b()).unwrap().next, unit.now);
    assert_eq!(unit.now.release_legacy(&a()).unwrap().next, Reservations::default());
}

#[test]
fn persistent_reserve_conflicts_under_spc_2_whoever_asks() {
    let now = Reservations::default().reserve_legacy(&a()).unwrap().next;
    let unit = Unit { now };
    for who in [a(), b()] {
        assert_eq!(unit.refused(&who, out(REGISTER, 0, 0, 1, 0)), CONFLICT);
    }
    let status = unit.now.persistent_in(&wire::cdb_in(0)).status;
    assert_eq!(status, Status::ReservationConflict);
}

#[test]
fn spc_2_commands_under_registrations_follow_compatible_handling() {
    // (type or none, registrant that does not hold it passes)
    for (kind, registrant_passes) in
        [(0, false), (1, false), (3, false), (5, true), (6, true), (7, true), (8, true)]
    {
        let registrants = [(&a(), 1), (&b(), 2)];
        let unit =
            if kind == 0 { Unit::registered(&registrants) } else { Unit::held(kind, &registrants) };
        for (who, passes) in [(a(), kind != 0), (b(), registrant_passes), (c(), false)] {
            for answer in [unit.now.reserve_legacy(&who), unit.now.release_legacy(&who)] {
                assert_eq!(answer.is_ok(), passes, "type {kind}, {who:?}");
                assert!(answer.is_err() || answer.unwrap().next == unit.now, "no effect");
            }
        }
    }
}

#[test]
fn logout_nexus_loss_and_resets_end_spc_2_and_nothing_else() {
    let held = Reservations::default().reserve_legacy(&a()).unwrap().next;
    assert_eq!(held.drop_legacy(Some(&b())), None);
    assert_eq!(held.drop_legacy(Some(&a())), Some(Reservations::default()));
    assert_eq!(held.drop_legacy(None), Some(Reservations::default()));
    let persistent = Unit::held(EA, &[(&a(), 1)]).now;
    assert_eq!((persistent.drop_legacy(Some(&a())), persistent.drop_legacy(None)), (None, None));
}
