use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::record::{Records, TooLong, mark};
use super::*;
use crate::xdr::{from_bytes, to_bytes};

/// A record in fragments of these sizes, the rest in the last.
fn fragmented(record: &[u8], sizes: &[usize]) -> BytesMut {
    let (mut stream, mut rest) = (BytesMut::new(), record);
    for size in sizes {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        stream.extend_from_slice(&u32::try_from(now.len()).unwrap().to_be_bytes());
        stream.extend_from_slice(now);
        rest = later;
    }
    stream.extend_from_slice(&mark(&[Bytes::copy_from_slice(rest)]).unwrap());
    stream.extend_from_slice(rest);
    stream
}

proptest! {
    #[test]
    fn where_a_stream_is_cut_changes_no_record(
        records in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(0usize..99, 0..5)),
            1..5,
        ),
        piece in 1usize..50,
    ) {
        let mut stream = BytesMut::new();
        for (record, sizes) in &records {
            stream.unsplit(fragmented(record, sizes));
        }
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        let mut cut = Records::new(300);
        for part in stream.chunks(piece) {
            input.extend_from_slice(part);
            while let Some(record) = cut.take(&mut input).unwrap() {
                found.push(record.to_vec());
            }
        }
        let records: Vec<_> = records.into_iter().map(|(record, _)| record).collect();
        prop_assert_eq!(found, records);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn any_record_is_a_call_or_says_what_to_do(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
        if let Ok(call) = Call::decode(bytes.into()) {
            prop_assert_eq!(Call::decode(call.encode()), Ok(call));
        }
    }
}

#[test]
fn a_record_over_the_limit_is_refused_before_its_bytes_are_there() {
    let mut input = BytesMut::from(&[0x80, 0, 0, 101][..]);
    assert_eq!(Records::new(100).take(&mut input), Err(TooLong));
    assert_eq!(Records::new(101).take(&mut input), Ok(None));
    let mut input = fragmented(&[1; 101], &[50, 50]);
    assert_eq!(Records::new(100).take(&mut input), Err(TooLong));
}

#[test]
fn empty_fragments_without_end_take_no_memory() {
    let mut records = Records::new(100);
    for _ in 0..1000 {
        let mut input = BytesMut::from(&[0; 4][..]);
        assert_eq!(records.take(&mut input), Ok(None));
        assert!(input.is_empty());
    }
    let mut last = BytesMut::from(&[0x80, 0, 0, 1, 7][..]);
    assert_eq!(records.take(&mut last), Ok(Some(Bytes::from_static(&[7]))));
}

fn call() -> Call {
    let sys = AuthSys { stamp: 1, machine: "m".into(), uid: 1000, gid: 100, gids: vec![4, 5] };
    Call {
        xid: 9,
        program: 100_003,
        version: 3,
        procedure: 1,
        credential: Credential::Sys(sys).to_opaque(),
        verifier: Opaque::none(),
        arguments: Bytes::from_static(b"args"),
    }
}

#[test]
fn a_call_of_another_rpc_version_learns_which_is_spoken() {
    let mut bytes = call().encode().to_vec();
    bytes[11] = 3;
    let versions = Versions { low: 2, high: 2 };
    let denied = Reply::denied(9, Denied::RpcMismatch(versions));
    assert_eq!(Call::decode(bytes.into()), Err(Unreadable::Answer(denied)));
}

#[test]
fn what_is_no_call_is_dropped_and_a_cut_call_is_answered() {
    let bytes = call().encode();
    assert_eq!(Call::decode(bytes.slice(..11)), Err(Unreadable::Drop));
    let garbage = Reply::accepted(9, Accepted::GarbageArgs);
    assert_eq!(Call::decode(bytes.slice(..30)), Err(Unreadable::Answer(garbage)));
    let reply = to_bytes(&Reply::accepted(1, Accepted::Success));
    assert_eq!(Call::decode(reply), Err(Unreadable::Drop));
}

#[test]
fn arguments_that_end_within_a_word_are_passed_on_without_padding() {
    for length in 0..9 {
        let call = Call { arguments: vec![7; length].into(), ..call() };
        assert_eq!(Call::decode(call.encode()), Ok(call));
    }
}

#[test]
fn credentials_keep_their_limits() {
    let sys = |gids, machine| {
        let machine = Bytes::from(vec![b'm'; machine]);
        let sys = AuthSys { stamp: 0, machine, uid: 1, gid: 2, gids: vec![7; gids] };
        Credential::of(&Credential::Sys(sys).to_opaque())
    };
    assert!(matches!(sys(16, 255), Ok(Credential::Sys(AuthSys { uid: 1, .. }))));
    assert_eq!(sys(17, 0), Err(AuthStat::BadCred));
    assert_eq!(sys(0, 256), Err(AuthStat::BadCred));
    let other =
        |flavor: Flavor| Credential::of(&Opaque { flavor: flavor.code(), body: Bytes::new() });
    assert_eq!(other(Flavor::None), Ok(Credential::None));
    assert_eq!(other(Flavor::RpcsecGss), Err(AuthStat::TooWeak));
    assert_eq!(other(Flavor::Sys), Err(AuthStat::BadCred));
    let mut large = call();
    large.credential.body = Bytes::from(vec![0; AUTH_BYTES_MAX + 4]);
    let garbage = Reply::accepted(9, Accepted::GarbageArgs);
    assert_eq!(Call::decode(large.encode()), Err(Unreadable::Answer(garbage)));
}

#[test]
fn every_reply_reads_what_it_wrote() {
    let versions = Versions { low: 3, high: 4 };
    let accepted = [
        Accepted::Success,
        Accepted::ProgUnavail,
        Accepted::ProgMismatch(versions),
        Accepted::ProcUnavail,
        Accepted::GarbageArgs,
        Accepted::SystemErr,
    ];
    let denied = AuthStat::ALL.iter().map(|stat| Denied::Auth(*stat));
    let replies = accepted
        .into_iter()
        .map(|one| Reply::accepted(5, one))
        .chain(denied.chain([Denied::RpcMismatch(versions)]).map(|one| Reply::denied(6, one)));
    for reply in replies {
        assert_eq!(from_bytes::<Reply>(to_bytes(&reply)), Ok(reply));
    }
}

#[test]
fn what_a_fragment_lacks_is_known_from_its_mark_on() {
    let records = Records::new(100);
    let missing = |bytes: &[u8]| records.missing(&BytesMut::from(bytes));
    assert_eq!(missing(&[0x80, 0, 0]), 0);
    assert_eq!(missing(&[0x80, 0, 0, 20]), 20);
    assert_eq!(missing(&[0, 0, 0, 3, 9]), 2);
    assert_eq!(missing(&[0, 0, 0, 1, 9, 9]), 0);
    assert_eq!(missing(&[0x80, 0, 0, 101]), 0, "over the limit");
}
