//! RESERVE, RELEASE, CLEAR, and when a reservation ends.

use super::*;

#[test]
fn an_unregistered_nexus_or_a_wrong_key_conflicts() {
    let unit = Unit::registered(&[(&a(), 1)]);
    assert_eq!(unit.refused(&b(), out(RESERVE, WE, 0, 0, 0)), CONFLICT);
    assert_eq!(unit.refused(&a(), out(RESERVE, WE, 2, 0, 0)), CONFLICT);
}

#[test]
fn the_holder_may_reserve_again_alike_and_only_alike() {
    for kind in ALL_TYPES {
        let mut unit = Unit::held(kind, &[(&a(), 1)]);
        let change = unit.good(&a(), out(RESERVE, kind, 1, 0, 0));
        assert!(!change.persist && change.attentions.is_empty());
        for other in ALL_TYPES.into_iter().filter(|other| *other != kind) {
            assert_eq!(unit.refused(&a(), out(RESERVE, other, 1, 0, 0)), CONFLICT);
        }
    }
}

#[test]
fn another_registrant_conflicts_unless_all_registrants_hold_it() {
    for kind in ALL_TYPES {
        let unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        let answer = unit.answer(&b(), out(RESERVE, kind, 2, 0, 0));
        assert_eq!(answer.is_ok(), matches!(kind, 7 | 8), "type {kind}");
    }
}

#[test]
fn unknown_types_and_scopes_are_invalid_fields() {
    let unit = Unit::registered(&[(&a(), 1)]);
    for scope_and_type in [0x00, 0x02, 0x04, 0x09, 0x0F, 0x11, 0x25] {
        let refused = unit.checked(&a(), out(RESERVE, scope_and_type, 1, 0, 0));
        assert_eq!(refused, INVALID_CDB_FIELD);
    }
}

#[test]
fn without_reservation_or_from_a_registrant_that_does_not_hold_it_nothing_happens() {
    let mut unit = Unit::registered(&[(&a(), 1), (&b(), 2)]);
    unit.good(&a(), out(RELEASE, WE, 1, 0, 0));
    unit.good(&a(), out(RESERVE, WE_RO, 1, 0, 0));
    let change = unit.good(&b(), out(RELEASE, WE_RO, 2, 0, 0));
    assert!(!change.persist && change.attentions.is_empty());
    assert_eq!(unit.kind(), Some(WE_RO));
}

#[test]
fn a_stranger_and_a_wrong_key_conflict() {
    let unit = Unit::held(WE, &[(&a(), 1)]);
    assert_eq!(unit.refused(&b(), out(RELEASE, WE, 0, 0, 0)), CONFLICT);
    assert_eq!(unit.refused(&a(), out(RELEASE, WE, 7, 0, 0)), CONFLICT);
}

#[test]
fn case_10_the_holder_with_another_type_or_scope_is_an_invalid_release() {
    for kind in ALL_TYPES {
        let unit = Unit::held(kind, &[(&a(), 1)]);
        for wrong in (0..=0xFF).filter(|wrong| *wrong != kind) {
            let refused = unit.checked(&a(), out(RELEASE, wrong, 1, 0, 0));
            assert_eq!(refused, INVALID_RELEASE);
        }
    }
}

#[test]
fn any_registrant_releases_an_all_registrants_reservation() {
    let mut unit = Unit::held(WE_AR, &[(&a(), 1), (&b(), 2)]);
    unit.good(&b(), out(RELEASE, WE_AR, 2, 0, 0));
    assert_eq!((unit.kind(), unit.keys()), (None, vec![1, 2]));
}

#[test]
fn any_registrant_clears_everything_and_a_stranger_nothing() {
    let mut unit = Unit::held(EA, &[(&a(), 1), (&b(), 2)]);
    assert_eq!(unit.refused(&c(), out(CLEAR, 0, 0, 0, 0)), CONFLICT);
    assert_eq!(unit.refused(&b(), out(CLEAR, 0, 1, 0, 0)), CONFLICT);
    unit.good(&b(), out(CLEAR, 0, 2, 0, 0));
    assert_eq!((unit.kind(), unit.keys()), (None, vec![]));
}

#[test]
fn the_holders_unregistering_ends_types_1_3_5_6() {
    for kind in [1, 3, 5, 6] {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        unit.good(&a(), out(REGISTER, 0, 1, 0, 0));
        assert_eq!((unit.kind(), unit.keys()), (None, vec![2]));
    }
}

#[test]
fn another_registrants_unregistering_ends_nothing() {
    for kind in ALL_TYPES {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        let change = unit.good(&b(), out(REGISTER, 0, 2, 0, 0));
        assert_eq!(unit.kind(), Some(kind));
        assert!(change.attentions.is_empty());
    }
}

#[test]
fn case_08_all_registrants_protect_until_the_last_one_leaves() {
    for kind in [7, 8] {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        unit.good(&a(), out(REGISTER, 0, 1, 0, 0));
        assert_eq!(unit.kind(), Some(kind));
        assert!(unit.may(&b(), ConflictClass::Write) && !unit.may(&a(), ConflictClass::Write));
        unit.good(&c(), out(REGISTER, 0, 0, 3, 0));
        assert!(unit.now.is_holder(&c()), "a later registrant is a holder too");
        assert_eq!(unit.read(1)[8..16], [0; 8], "READ RESERVATION shows key 0");
        unit.good(&b(), out(REGISTER, 0, 2, 0, 0));
        unit.good(&c(), out(REGISTER, 0, 3, 0, 0));
        assert_eq!((unit.kind(), unit.keys()), (None, vec![]));
    }
}
