//! Identity, REGISTER and REGISTER AND IGNORE EXISTING KEY, ALL_TG_PT, parameter lists.

use super::*;

#[test]
fn case_05_a_new_login_with_the_same_isid_is_the_same_registrant_and_holder() {
    let unit = Unit::held(EA, &[(&a(), 0xA)]);
    let again = a();
    assert!(unit.now.is_holder(&again) && unit.may(&again, ConflictClass::Write));
}

#[test]
fn case_05_a_new_isid_is_a_stranger_and_the_old_key_is_still_listed() {
    let unit = Unit::held(EA, &[(&a(), 0xA)]);
    let other_isid = nexus('a', 2, 1);
    assert!(!unit.may(&other_isid, ConflictClass::Read));
    assert_eq!(unit.keys(), [0xA]);
}

#[test]
fn case_06_of_two_isids_of_one_name_only_the_registered_one_passes() {
    let (first, second) = (nexus('a', 1, 1), nexus('a', 2, 1));
    let mut unit = Unit::held(WE_RO, &[(&b(), 0xB), (&first, 0xA), (&second, 0xA)]);
    unit.good(&first, out(REGISTER, 0, 0xA, 0, 0));
    assert!(!unit.may(&first, ConflictClass::Write));
    assert!(unit.may(&second, ConflictClass::Write));
}

#[test]
fn another_target_port_is_another_nexus() {
    let unit = Unit::held(EA_RO, &[(&a(), 0xA)]);
    assert!(!unit.may(&nexus('a', 1, 2), ConflictClass::Read));
}

#[test]
fn names_compare_without_regard_to_case() {
    let shouting =
        scsi::nexus::InitiatorPort::iscsi(&wire::iqn('a').to_uppercase(), [0x80, 0, 0, 0, 0, 1]);
    assert_eq!(shouting, a().initiator);
}

#[test]
fn table_of_keys() {
    // (registered with, RESERVATION KEY, SERVICE ACTION KEY, conflict?, key afterwards)
    let rows = [
        (None, 0, 0, false, None::<u64>),
        (None, 0, 5, false, Some(5)),
        (None, 1, 5, true, None),
        (None, 1, 0, true, None),
        (Some(1), 1, 5, false, Some(5)),
        (Some(1), 1, 1, false, Some(1)),
        (Some(1), 1, 0, false, None),
        (Some(1), 0, 5, true, Some(1)),
        (Some(1), 2, 0, true, Some(1)),
    ];
    for (before, key, action_key, conflict, after) in rows {
        let mut unit = Unit::default();
        if let Some(before) = before {
            unit.good(&a(), out(REGISTER, 0, 0, before, 0));
        }
        if conflict {
            assert_eq!(unit.refused(&a(), out(REGISTER, 0, key, action_key, 0)), CONFLICT);
        } else {
            unit.good(&a(), out(REGISTER, 0, key, action_key, 0));
        }
        assert_eq!(unit.now.key_of(&a()), after, "{before:?} {key} {action_key}");
    }
}

#[test]
fn ignoring_the_existing_key_takes_any_registration_as_it_is() {
    for (before, action_key, after) in
        [(None, 0, None), (None, 5, Some(5)), (Some(1), 5, Some(5)), (Some(1), 0, None)]
    {
        let mut unit = Unit::default();
        if let Some(before) = before {
            unit.good(&a(), out(REGISTER, 0, 0, before, 0));
        }
        unit.good(&a(), out(REGISTER_AND_IGNORE, 0, 0xBAD, action_key, 0));
        assert_eq!(unit.now.key_of(&a()), after);
    }
}

#[test]
fn a_new_key_of_the_holder_is_the_reservations_key() {
    let mut unit = Unit::held(WE_RO, &[(&a(), 0xA)]);
    unit.good(&a(), out(REGISTER, 0, 0xA, 0xAA, 0));
    assert_eq!(unit.read(1)[8..16], 0xAAu64.to_be_bytes());
    assert!(unit.now.is_holder(&a()));
}

#[test]
fn registering_nothing_while_unregistered_changes_nothing() {
    let mut unit = Unit::default();
    let change = unit.good(&a(), out(REGISTER, 0, 0, 0, APTPL));
    assert!(!change.persist && change.what.is_none() && !unit.now.aptpl());
    assert_eq!(unit.now, Reservations::default());
}

#[test]
fn registrations_are_limited_and_the_next_one_finds_no_resources() {
    let mut unit = Unit::default();
    let nth = |n: usize| {
        let isid = u32::try_from(n).unwrap().to_be_bytes();
        let isid = [0x80, 0, isid[0], isid[1], isid[2], isid[3]];
        let initiator = scsi::nexus::InitiatorPort::iscsi(&wire::iqn('a'), isid);
        ItNexus { initiator, target: RelativePort(1) }
    };
    for n in 0..REGISTRATIONS_MAX {
        unit.good(&nth(n), out(REGISTER, 0, 0, 1, 0));
    }
    let one_more = nth(REGISTRATIONS_MAX);
    let refused = unit.checked(&one_more, out(REGISTER, 0, 0, 1, 0));
    assert_eq!(refused, NO_REGISTRATION_RESOURCES);
    // A change of key needs no room, and a record of the full table still reads back.
    unit.good(&nth(7), out(REGISTER, 0, 1, 2, 0));
    let record = unit.now.to_record();
    assert!(record.len() <= scsi::reservations::RECORD_BYTES_MAX);
    assert_eq!(Reservations::from_record(&record), Ok(unit.now.clone()));
}

#[test]
fn only_the_last_successful_register_sets_aptpl() {
    let mut unit = Unit::default();
    unit.good(&a(), out(REGISTER, 0, 0, 1, APTPL));
    unit.good(&a(), out(RESERVE, WE, 1, 0, 0));
    assert_eq!(unit.refused(&b(), out(REGISTER, 0, 9, 1, 0)), CONFLICT);
    assert!(unit.now.aptpl());
    unit.good(&b(), out(REGISTER_AND_IGNORE, 0, 0, 2, 0));
    assert!(!unit.now.aptpl());
}

#[test]
fn aptpl_all_tg_pt_and_spec_i_pt_are_not_looked_at_elsewhere() {
    let mut unit = Unit::held(WE, &[(&a(), 0xA), (&b(), 0xB)]);
    let bits = APTPL | ALL_TG_PT | SPEC_I_PT;
    unit.good(&a(), out(RELEASE, WE, 0xA, 0, bits));
    unit.good(&a(), out(RESERVE, WE, 0xA, 0, bits));
    unit.good(&b(), out(PREEMPT, WE, 0xB, 0xA, bits));
    unit.good(&b(), out(CLEAR, 0, 0xB, 0, bits));
    assert!(!unit.now.aptpl());
}

#[test]
fn one_request_registers_through_every_port_and_one_unregisters() {
    let mut unit = Unit::default();
    unit.good(&a(), out(REGISTER, 0, 0, 0xA, ALL_TG_PT));
    assert_eq!(unit.now.key_of(&nexus('a', 1, 2)), Some(0xA));
    assert_eq!(unit.keys(), [0xA, 0xA]);
    assert_eq!(unit.now.generation(), 1);
    unit.good(&nexus('a', 1, 2), out(REGISTER, 0, 0xA, 0, ALL_TG_PT));
    assert_eq!(unit.keys(), []);
}

#[test]
fn a_port_with_another_key_refuses_the_whole_request() {
    let mut unit = Unit::default();
    unit.good(&nexus('a', 1, 2), out(REGISTER, 0, 0, 0xA2, 0));
    assert_eq!(unit.refused(&a(), out(REGISTER, 0, 0, 0xA, ALL_TG_PT)), CONFLICT);
    unit.good(&a(), out(REGISTER_AND_IGNORE, 0, 0, 0xA, ALL_TG_PT));
    assert_eq!(unit.keys(), [0xA, 0xA]);
}

#[test]
fn ports_added_later_are_registered_too() {
    let mut unit = Unit::registered(&[(&b(), 0xB)]);
    unit.good(&a(), out(REGISTER, 0, 0, 0xA, ALL_TG_PT));
    let change = unit.now.add_port(RelativePort(3)).unwrap();
    assert!(change.persist);
    assert_eq!(change.next.key_of(&nexus('a', 1, 3)), Some(0xA));
    assert_eq!(change.next.key_of(&nexus('b', 1, 3)), None);
    let again = change.next.add_port(RelativePort(3)).unwrap();
    assert!(!again.persist && again.next == change.next);
}

#[test]
fn without_the_bit_only_the_nexus_itself_unregisters() {
    let mut unit = Unit::default();
    unit.good(&a(), out(REGISTER, 0, 0, 0xA, ALL_TG_PT));
    unit.good(&a(), out(REGISTER, 0, 0xA, 0, 0));
    assert_eq!(unit.now.key_of(&nexus('a', 1, 2)), Some(0xA));
}

#[test]
fn every_other_action_takes_exactly_24_bytes() {
    let unit = Unit::held(WE, &[(&a(), 1)]);
    for action in [0, 1, 2, 3, 4, 5, 6, 8] {
        for bytes in [0, 8, 20, 23, 25, 28, 48] {
            let mut list = wire::list(1, 1, 0);
            list.resize(bytes, 0);
            let wire = (wire::cdb(action, WE, &list), list);
            assert_eq!(unit.checked(&a(), wire), LENGTH_ERROR, "{action} {bytes}");
        }
    }
}

#[test]
fn less_data_than_the_cdb_says_is_a_length_error_and_more_is_cut() {
    let mut unit = Unit::default();
    let (cdb, mut list) = out(REGISTER, 0, 0, 1, 0);
    assert_eq!(unit.checked(&a(), (cdb.clone(), list[..20].to_vec())), LENGTH_ERROR);
    list.extend([0xFF; 9]);
    unit.good(&a(), (cdb, list));
}

#[test]
fn unknown_service_actions_are_invalid_fields() {
    let unit = Unit::default();
    for action in 0x09..=0x1F {
        assert_eq!(unit.checked(&a(), out(action, 0, 0, 1, 0)), INVALID_CDB_FIELD);
    }
}
