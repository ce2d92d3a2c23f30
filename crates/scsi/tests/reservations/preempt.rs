//! PREEMPT, PREEMPT AND ABORT, REGISTER AND MOVE.

use super::*;
use wire::{out_move, transport_id};

fn id(who: &ItNexus) -> Vec<u8> {
    transport_id(who.initiator.name())
}

#[test]
fn the_caller_must_be_registered_with_its_key() {
    let unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2)]);
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        assert_eq!(unit.refused(&c(), out(action, WE_RO, 0, 1, 0)), CONFLICT);
        assert_eq!(unit.refused(&b(), out(action, WE_RO, 1, 1, 0)), CONFLICT);
    }
}

#[test]
fn key_zero_under_all_registrants_removes_all_others_and_takes_over() {
    for kind in [7, 8] {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
        let change = unit.good(&b(), out(PREEMPT_AND_ABORT, EA_RO, 2, 0, 0));
        assert_eq!((unit.kind(), unit.keys()), (Some(EA_RO), vec![2]));
        assert!(unit.now.is_holder(&b()));
        assert_eq!(change.abort, [a(), c()]);
    }
}

#[test]
fn key_zero_otherwise_is_an_invalid_field() {
    for kind in [1, 3, 5, 6] {
        let unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        assert_eq!(unit.checked(&b(), out(PREEMPT, kind, 2, 0, 0)), INVALID_LIST_FIELD);
    }
    let unreserved = Unit::registered(&[(&a(), 1)]);
    assert_eq!(unreserved.checked(&a(), out(PREEMPT, WE, 1, 0, 0)), INVALID_LIST_FIELD);
}

#[test]
fn the_holders_key_takes_the_reservation_over_with_the_new_type() {
    for kind in [1, 3, 5, 6] {
        for new_kind in ALL_TYPES {
            let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
            unit.good(&b(), out(PREEMPT, new_kind, 2, 1, 0));
            assert_eq!((unit.kind(), unit.keys()), (Some(new_kind), vec![2, 3]));
            assert!(unit.now.is_holder(&b()) && !unit.now.is_holder(&a()));
        }
    }
}

#[test]
fn every_nexus_with_the_holders_key_goes_except_the_caller() {
    let second_path = nexus('a', 2, 1);
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&second_path, 1), (&b(), 2)]);
    unit.good(&second_path, out(PREEMPT, WE_RO, 1, 1, 0));
    assert_eq!(unit.keys(), [1, 2]);
    assert!(unit.now.is_holder(&second_path));
    assert_eq!(unit.now.key_of(&a()), None);
}

#[test]
fn the_holder_may_preempt_itself_to_change_the_type_in_one_step() {
    let mut unit = Unit::held(WE, &[(&a(), 1), (&b(), 2)]);
    unit.good(&a(), out(PREEMPT, WE_RO, 1, 1, 0));
    assert_eq!((unit.kind(), unit.keys()), (Some(WE_RO), vec![1, 2]));
    assert!(unit.now.is_holder(&a()));
}

#[test]
fn an_invalid_type_matters_only_when_the_reservation_is_taken_over() {
    let unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2)]);
    for scope_and_type in [0x00, 0x02, 0x0F, 0x15] {
        let refused = unit.checked(&b(), out(PREEMPT, scope_and_type, 2, 1, 0));
        assert_eq!(refused, INVALID_CDB_FIELD);
    }
}

#[test]
fn case_10_a_key_that_does_not_hold_is_removed_whatever_the_type() {
    for scope_and_type in [0x00, 0x02, 0x0F, 0x15, EA] {
        let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&c(), 2)]);
        unit.good(&a(), out(PREEMPT, scope_and_type, 1, 2, 0));
        assert_eq!((unit.kind(), unit.keys()), (Some(WE_RO), vec![1]));
        assert!(unit.now.is_holder(&a()));
    }
}

#[test]
fn a_key_that_nobody_has_conflicts() {
    let unit = Unit::held(WE_RO, &[(&a(), 1)]);
    assert_eq!(unit.refused(&a(), out(PREEMPT, WE_RO, 1, 9, 0)), CONFLICT);
}

#[test]
fn the_callers_own_key_is_removed_with_the_others_when_it_does_not_hold() {
    let other_path = nexus('b', 2, 1);
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&other_path, 2)]);
    let change = unit.good(&b(), out(PREEMPT_AND_ABORT, WE_RO, 2, 2, 0));
    assert_eq!(unit.keys(), [1]);
    assert_eq!(change.abort, [other_path], "the caller is never a victim");
}

#[test]
fn removing_a_key_under_all_registrants_keeps_the_reservation_until_nobody_is_left() {
    let mut unit = Unit::held(WE_AR, &[(&a(), 1), (&b(), 2)]);
    unit.good(&b(), out(PREEMPT, 0, 2, 1, 0));
    assert_eq!((unit.kind(), unit.keys()), (Some(WE_AR), vec![2]));
    unit.good(&b(), out(PREEMPT, 0, 2, 2, 0));
    assert_eq!((unit.kind(), unit.keys()), (None, vec![]));
}

#[test]
fn abort_names_every_nexus_of_the_key_holder_or_not_and_plain_preempt_names_none() {
    let second_path = nexus('a', 2, 1);
    for holder_first in [true, false] {
        let victims = [(&a(), 1), (&second_path, 1)];
        let others = [(&b(), 2), (&c(), 3)];
        let all = if holder_first { [victims, others] } else { [others, victims] }.concat();
        let mut unit = Unit::held(WE_RO, &all);
        assert!(unit.answer(&c(), out(PREEMPT, WE_RO, 3, 1, 0)).unwrap().abort.is_empty());
        let change = unit.good(&c(), out(PREEMPT_AND_ABORT, WE_RO, 3, 1, 0));
        assert_eq!(change.abort, [a(), second_path.clone()]);
        assert_eq!(unit.now.is_holder(&c()), holder_first);
    }
}

#[test]
fn move_keeps_the_type_and_registers_the_new_holder() {
    for kind in [1, 3, 5, 6] {
        let mut unit = Unit::held(kind, &[(&a(), 1)]);
        let wire = out_move(1, 0xB, APTPL, 2, &id(&b()));
        assert_eq!(wire.0[2], 0, "the CDB's type is ignored");
        unit.good(&a(), wire);
        let moved_to = nexus('b', 1, 2);
        assert_eq!((unit.kind(), unit.keys()), (Some(kind), vec![1, 0xB]));
        assert!(unit.now.is_holder(&moved_to) && !unit.now.is_holder(&a()));
        assert!(unit.now.aptpl());
    }
}

#[test]
fn move_with_unreg_drops_the_mover_and_to_a_registrant_changes_its_key() {
    let mut unit = Unit::held(WE, &[(&a(), 1), (&b(), 2)]);
    let change = unit.good(&a(), out_move(1, 0xB, 0x02, 1, &id(&b())));
    assert_eq!(unit.keys(), [0xB]);
    assert!(unit.now.is_holder(&b()) && change.attentions.is_empty());
}

#[test]
fn move_is_for_the_holder_alone() {
    let unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2)]);
    let to_c = |key| out_move(key, 3, 0, 1, &id(&c()));
    assert_eq!(unit.refused(&b(), to_c(2)), CONFLICT);
    assert_eq!(unit.refused(&c(), to_c(0)), CONFLICT);
    assert_eq!(unit.refused(&a(), to_c(9)), CONFLICT);
    assert_eq!(Unit::registered(&[(&a(), 1)]).refused(&a(), to_c(1)), CONFLICT);
    for kind in [7, 8] {
        assert_eq!(Unit::held(kind, &[(&a(), 1)]).refused(&a(), to_c(1)), CONFLICT);
    }
}

#[test]
fn move_without_key_to_itself_or_to_nowhere_is_an_invalid_field() {
    let unit = Unit::held(WE, &[(&a(), 1)]);
    let rows = [
        out_move(1, 0, 0, 1, &id(&b())),
        out_move(1, 2, 0, 1, &id(&a())),
        out_move(1, 2, 0, 9, &id(&b())),
        out_move(1, 2, 0, 1, &transport_id(&wire::iqn('b'))),
        out_move(1, 2, 0, 1, &[0; 24]),
    ];
    for wire in rows {
        assert_eq!(unit.checked(&a(), wire), INVALID_LIST_FIELD);
    }
}

#[test]
fn move_with_a_wrong_transport_id_length_is_a_length_error() {
    let unit = Unit::held(WE, &[(&a(), 1)]);
    let (_, mut list) = out_move(1, 2, 0, 1, &id(&b()));
    list[23] += 4;
    let cdb = wire::cdb(wire::REGISTER_AND_MOVE, 0, &list);
    assert_eq!(unit.checked(&a(), (cdb, list)), LENGTH_ERROR);
}
