//! REGISTER with SPEC_I_PT.

use super::*;
use wire::{out_listed, transport_id};

fn id(who: &ItNexus) -> Vec<u8> {
    transport_id(who.initiator.name())
}

#[test]
fn all_listed_ports_are_registered_with_the_caller() {
    let mut unit = Unit::default();
    unit.good(&a(), out_listed(0, 7, APTPL, &[id(&b()), id(&c())]));
    assert_eq!(unit.keys(), [7, 7, 7]);
    assert_eq!((unit.now.generation(), unit.now.aptpl()), (1, true));
    assert_eq!(unit.now.key_of(&c()), Some(7));
}

#[test]
fn with_all_tg_pt_each_of_them_is_registered_through_every_port() {
    let mut unit = Unit::default();
    unit.good(&a(), out_listed(0, 7, ALL_TG_PT, &[id(&b())]));
    assert_eq!(unit.keys(), [7; 4]);
}

#[test]
fn one_bad_entry_refuses_all() {
    let registered = Unit::registered(&[(&c(), 0xC)]);
    let rows: [&[Vec<u8>]; 5] = [
        &[id(&b()), id(&b())],                      // twice
        &[id(&b()), id(&a())],                      // the caller itself
        &[id(&b()), id(&c())],                      // registered already
        &[id(&b()), transport_id(&wire::iqn('d'))], // a device, no port
        &[id(&b()), vec![0x46; 24]],                // another protocol
    ];
    for ids in rows {
        let refused = registered.checked(&a(), out_listed(0, 7, 0, ids));
        assert_eq!(refused, INVALID_LIST_FIELD, "{ids:?}");
    }
}

#[test]
fn from_a_registered_nexus_or_with_no_key_it_is_an_error() {
    let unit = Unit::registered(&[(&a(), 1)]);
    assert_eq!(unit.checked(&a(), out_listed(1, 2, 0, &[id(&b())])), INVALID_LIST_FIELD);
    assert_eq!(unit.checked(&a(), out_listed(1, 0, 0, &[id(&b())])), INVALID_LIST_FIELD);
    assert_eq!(unit.checked(&b(), out_listed(0, 0, 0, &[id(&c())])), INVALID_LIST_FIELD);
    assert_eq!(unit.refused(&b(), out_listed(9, 2, 0, &[id(&c())])), CONFLICT);
}

#[test]
fn with_register_and_ignore_it_is_an_error() {
    let unit = Unit::default();
    let wire = out(REGISTER_AND_IGNORE, 0, 0, 1, SPEC_I_PT);
    assert_eq!(unit.checked(&a(), wire), INVALID_LIST_FIELD);
}

#[test]
fn a_list_that_is_shorter_or_longer_than_it_says_is_a_length_error() {
    let unit = Unit::default();
    for stated in [0u32, 20, 100, u32::MAX] {
        let (_, mut list) = out_listed(0, 7, 0, &[id(&b())]);
        list[24..28].copy_from_slice(&stated.to_be_bytes());
        assert_eq!(unit.checked(&a(), (wire::cdb(REGISTER, 0, &list), list)), LENGTH_ERROR);
    }
    let basic = out(REGISTER, 0, 0, 7, SPEC_I_PT);
    assert_eq!(unit.checked(&a(), basic), LENGTH_ERROR);
}
