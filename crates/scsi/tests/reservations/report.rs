//! PERSISTENT RESERVE IN, byte for byte.

use super::*;

#[test]
fn read_keys_lists_every_registration_with_equal_keys() {
    let unit = Unit::registered(&[(&a(), 0x0102_0304_0506_0708), (&b(), 7), (&c(), 7)]);
    let mut expected = vec![0, 0, 0, 3, 0, 0, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 7].repeat(2));
    assert_eq!(unit.read(0), expected);
    assert_eq!(Unit::default().read(0), [0; 8]);
}

#[test]
fn read_reservation_is_empty_or_24_bytes() {
    let unit = Unit::held(EA_RO, &[(&a(), 0xAA)]);
    let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 16];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0xAA, 0, 0, 0, 0, 0, EA_RO, 0, 0]);
    assert_eq!(unit.read(1), expected);
    assert_eq!(Unit::registered(&[(&a(), 1)]).read(1), [0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn report_capabilities_claims_what_is_there() {
    let mut unit = Unit::default();
    assert_eq!(unit.read(2), [0, 8, 0x9D, 0xB0, 0xEA, 0x01, 0, 0]);
    unit.good(&a(), out(REGISTER, 0, 0, 1, APTPL));
    assert_eq!(unit.read(2), [0, 8, 0x9D, 0xB1, 0xEA, 0x01, 0, 0], "PTPL_A");
}

#[test]
fn read_full_status_describes_each_nexus() {
    let mut unit = Unit::held(WE_RO, &[(&nexus('a', 1, 2), 0xAA)]);
    unit.good(&b(), out(REGISTER, 0, 0, 0xBB, ALL_TG_PT));
    let id_a = wire::transport_id("iqn.2026-11.example:host-a,i,0x800000000001");
    let id_b = wire::transport_id("iqn.2026-11.example:host-b,i,0x800000000001");
    let descriptor = |key: u8, flags: u8, kind: u8, port: u8, id: &[u8]| {
        let mut bytes =
            vec![0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, flags, kind, 0, 0, 0, 0, 0, port];
        bytes.extend([0, 0, 0, u8::try_from(id.len()).unwrap()]);
        bytes.extend(id);
        bytes
    };
    let body = [
        descriptor(0xAA, 0x01, WE_RO, 2, &id_a),
        descriptor(0xBB, 0x02, 0, 1, &id_b),
        descriptor(0xBB, 0x02, 0, 2, &id_b),
    ]
    .concat();
    let mut expected = vec![0, 0, 0, 2];
    expected.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    expected.extend(body);
    assert_eq!(unit.read(3), expected);
}

#[test]
fn case_08_read_full_status_marks_every_registrant_as_holder_for_all_registrants() {
    let unit = Unit::held(WE_AR, &[(&a(), 1), (&b(), 2)]);
    let data = unit.read(3);
    let second = 8 + 24 + wire::transport_id(a().initiator.name()).len();
    for start in [8, second] {
        assert_eq!(data[start + 12..start + 14], [0x01, WE_AR]);
    }
}

#[test]
fn the_allocation_length_cuts_the_data_and_not_the_lengths() {
    let unit = Unit::held(WE, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
    for action in 0..=3 {
        let whole = unit.read(action);
        for allocation_bytes in [0, 1, 4, 7, 8, 9, 24, 31, 1000u16] {
            let [high, low] = allocation_bytes.to_be_bytes();
            let cdb = [0x5E, action, 0, 0, 0, 0, 0, high, low, 0];
            let data = unit.now.persistent_in(&cdb).data;
            assert_eq!(data, whole[..whole.len().min(allocation_bytes.into())]);
        }
    }
}

#[test]
fn other_service_actions_are_invalid_fields() {
    for action in 0x04..=0x1F {
        let response = Unit::default().now.persistent_in(&wire::cdb_in(action));
        assert_eq!(response.status, Status::CheckCondition);
        assert_eq!(response.sense.map(|sense| sense.asc), Some(INVALID_CDB_FIELD));
    }
}
