//! What comes from outside never panics, and what we write we read back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "reference/wire.rs"]
mod wire;

use proptest::prelude::*;
use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{RecordError, Request, Reservations};
use scsi::transport_id::TransportId;

/// A state that some registrations and one reservation make.
fn reservations() -> impl Strategy<Value = Reservations> {
    let who = (0..6u8, 1..3u16, 1..u64::MAX, any::<bool>(), any::<bool>());
    let registrants = proptest::collection::vec(who, 0..12);
    (registrants, 0..9u8, any::<prop::sample::Index>()).prop_map(|(registrants, kind, index)| {
        let ports = [RelativePort(1), RelativePort(2)];
        let mut now = Reservations::default();
        let mut run = |who: &ItNexus, (cdb, list): wire::Wire| {
            let request = Request::parse(&cdb, &list);
            if let Ok(change) = request.map(|request| now.apply(who, &request, &ports)) {
                now = change.map_or_else(|_| now.clone(), |change| change.next);
            }
        };
        for (isid, port, key, all, aptpl) in &registrants {
            let bits = if *all { wire::ALL_TG_PT } else { 0 } | u8::from(*aptpl);
            let who = wire::nexus('a', *isid, *port);
            run(&who, wire::out(wire::REGISTER_AND_IGNORE, 0, 0, *key, bits));
        }
        if !registrants.is_empty() {
            let (isid, port, key, ..) = registrants[index.index(registrants.len())];
            let who = wire::nexus('a', isid, port);
            run(&who, wire::out(wire::RESERVE, kind, key, 0, 0));
        }
        now
    })
}

proptest! {
    #[test]
    fn a_record_reads_back_as_what_was_written(now in reservations()) {
        prop_assert_eq!(Reservations::from_record(&now.to_record()), Ok(now));
    }

    #[test]
    fn a_cut_record_is_truncated_and_a_longer_one_is_refused(
        now in reservations(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut record = now.to_record();
        let short = &record[..cut.index(record.len())];
        prop_assert_eq!(Reservations::from_record(short), Err(RecordError::Truncated));
        record.push(0);
        prop_assert!(Reservations::from_record(&record).is_err());
    }

    #[test]
    fn a_damaged_record_is_refused_or_is_a_record_of_something_else(
        now in reservations(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut record = now.to_record();
        let at = at.index(record.len());
        record[at] = byte;
        if let Ok(read) = Reservations::from_record(&record) {
            prop_assert_eq!(read.to_record(), record);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Reservations::from_record(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_after_a_good_head_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut record = b"CHOLD-PR\x00\x01".to_vec();
        record.extend(bytes);
        if let Ok(read) = Reservations::from_record(&record) {
            prop_assert_eq!(read.to_record(), record);
        }
    }

    #[test]
    fn arbitrary_requests_never_panic(
        cdb in proptest::collection::vec(any::<u8>(), 0..17),
        list in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let _ = Request::parse(&cdb, &list);
        let _ = Reservations::default().persistent_in(&cdb);
    }

    #[test]
    fn requests_that_nearly_fit_never_panic(
        action in 0..9u8,
        scope_and_type in any::<u8>(),
        list in proptest::collection::vec(any::<u8>(), 20..120),
        length in 0..130u32,
    ) {
        let mut cdb = wire::cdb(action, scope_and_type, &list);
        let who = wire::nexus('a', 1, 1);
        let run = |cdb: &[u8]| {
            if let Ok(request) = Request::parse(cdb, &list) {
                prop_assert!(!request.name().is_empty());
                let _ = Reservations::default().apply(&who, &request, &[]);
            }
            Ok(())
        };
        run(&cdb)?;
        cdb[5..9].copy_from_slice(&length.to_be_bytes());
        run(&cdb)?;
    }

    #[test]
    fn arbitrary_bytes_as_a_transport_id_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        format in prop::sample::select(vec![0x05u8, 0x45, 0x85, 0x06]),
    ) {
        let _ = TransportId::decode(&bytes);
        let mut likely = vec![format, 0, 0, 40];
        likely.extend(bytes);
        if let Ok((id, length)) = TransportId::decode(&likely) {
            prop_assert!(length <= likely.len());
            let encoded = id.encode();
            prop_assert_eq!(TransportId::decode(&encoded), Ok((id, encoded.len())));
        }
    }

    #[test]
    fn a_transport_id_is_what_the_standard_draws(
        name in "iqn\\.2026-11\\.[a-z0-9.:-]{1,200}",
        isid in any::<[u8; 6]>(),
    ) {
        let port = InitiatorPort::iscsi(&name, isid);
        for (id, text) in [
            (TransportId::Port(port.clone()), port.name()),
            (TransportId::Device(name.clone()), name.as_str()),
        ] {
            let bytes = wire::transport_id(text);
            prop_assert_eq!(&id.encode(), &bytes);
            let length = bytes.len();
            prop_assert_eq!(TransportId::decode(&bytes), Ok((id, length)));
        }
    }
}

#[test]
fn a_short_name_is_padded_to_the_least_length() {
    let id = TransportId::Device("iqn.x".to_owned()).encode();
    assert_eq!(id[..10], *b"\x05\x00\x00\x14iqn.x\x00");
    assert_eq!(id.len(), 24);
}

#[test]
fn an_isid_in_capitals_names_the_same_port() {
    let bytes = wire::transport_id("iqn.2026-11.example:A,i,0x8000000000AB");
    let port = InitiatorPort::iscsi("iqn.2026-11.example:a", [0x80, 0, 0, 0, 0, 0xAB]);
    assert_eq!(TransportId::decode(&bytes), Ok((TransportId::Port(port), bytes.len())));
}

#[test]
fn what_is_no_transport_id_is_malformed() {
    let good = wire::transport_id("iqn.2026-11.example:a,i,0x800000000001");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let rows = [
        (with(0, 0x46), "another protocol"),
        (with(0, 0x85), "an unknown format"),
        (with(0, 0x05), "a device name with a comma"),
        (with(3, 16), "too short"),
        (with(3, 42), "no multiple of four"),
        (with(3, 80), "longer than there are bytes"),
        (with(4, 0), "no name"),
        (with(6, b' '), "a blank in the name"),
        (with(6, 0xFF), "no UTF-8"),
        (with(30, b'x'), "an ISID that is no number"),
        (vec![0x45, 0, 0, 20, b'i'], "cut"),
        ([vec![0x05, 0, 0, 20], vec![b'a'; 20]].concat(), "no NUL"),
    ];
    for (bytes, why) in rows {
        assert!(TransportId::decode(&bytes).is_err(), "{why}");
    }
}

#[test]
fn the_record_is_what_its_description_says() {
    let mut now = Reservations::default();
    for (who, wire) in [
        (wire::nexus('a', 1, 2), wire::out(wire::REGISTER, 0, 0, 0x0102, wire::ALL_TG_PT)),
        (wire::nexus('b', 1, 1), wire::out(wire::REGISTER, 0, 0, 0x0B, wire::APTPL)),
        (wire::nexus('b', 1, 1), wire::out(wire::RESERVE, 5, 0x0B, 0, 0)),
    ] {
        let request = Request::parse(&wire.0, &wire.1).unwrap();
        now = now.apply(&who, &request, &[]).unwrap().next;
    }
    let name_a = b"iqn.2026-11.example:host-a,i,0x800000000001";
    let name_b = b"iqn.2026-11.example:host-b,i,0x800000000001";
    let mut expected = b"CHOLD-PR\x00\x01\x01\x05\x00\x00\x00\x02\x00\x02\x00\x01".to_vec();
    expected.extend(b"\x00\x00\x00\x00\x00\x00\x01\x02\x00\x02\x01\x00\x00\x2B");
    expected.extend(name_a);
    expected.extend(b"\x00\x00\x00\x00\x00\x00\x00\x0B\x00\x01\x00\x00\x00\x2B");
    expected.extend(name_b);
    assert_eq!(now.to_record(), expected);
}

#[test]
fn a_newer_version_and_another_magic_say_so() {
    let mut record = Reservations::default().to_record();
    record[9] = 2;
    assert_eq!(Reservations::from_record(&record), Err(RecordError::Version(2)));
    record[0] = b'X';
    assert_eq!(Reservations::from_record(&record), Err(RecordError::Magic));
}

/// A second separator would let a name that no login makes, of any length, into a registration,
/// whose record could then not be read back.
#[test]
fn a_transport_id_with_two_separators_is_refused() {
    let name = format!("iqn.1999-01.example:a,i,0x{},i,0x000000000001", "a".repeat(300));
    assert!(TransportId::decode(&wire::transport_id(&name)).is_err());
}
