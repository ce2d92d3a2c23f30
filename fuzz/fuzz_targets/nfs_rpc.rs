//! Bytes of a stream into records, calls and credentials. Knobs: record limit (1 byte, times 16)
//! and the size of the pieces in which the stream arrives.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use nfs::rpc::record::{Records, TooLong, mark};
use nfs::rpc::{Call, Credential, Reply, Unreadable};
use nfs::xdr::{from_bytes, to_bytes};

type Cut = (Vec<Bytes>, Option<TooLong>);

fn cut(stream: &[u8], piece: usize, bytes_max: usize) -> Cut {
    let (mut input, mut records) = (BytesMut::new(), Vec::new());
    let mut cut = Records::new(bytes_max);
    for part in stream.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        loop {
            match cut.take(&mut input) {
                Ok(Some(record)) => {
                    assert!(record.len() <= bytes_max);
                    records.push(record);
                }
                Ok(None) => break,
                Err(error) => return (records, Some(error)),
            }
        }
    }
    (records, None)
}

fn check(record: &Bytes) {
    let mark = mark(std::slice::from_ref(record)).expect("a record within the limit has a mark");
    let mut again = BytesMut::from(&mark[..]);
    again.extend_from_slice(record);
    assert_eq!(Records::new(record.len()).take(&mut again), Ok(Some(record.clone())));
    match Call::decode(record.clone()) {
        Ok(call) => {
            assert_eq!(Call::decode(call.encode()), Ok(call.clone()));
            if let Ok(credential) = Credential::of(&call.credential) {
                let read = Credential::of(&credential.to_opaque());
                assert_eq!(read, Ok(credential));
            }
        }
        Err(Unreadable::Answer(reply)) => assert_eq!(from_bytes(to_bytes(&reply)), Ok(reply)),
        Err(Unreadable::Drop) => {}
    }
    if let Ok(reply) = from_bytes::<Reply>(record.clone()) {
        assert_eq!(from_bytes(to_bytes(&reply)), Ok(reply));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[limit, piece], stream)) = input.split_first_chunk::<2>() else {
        return;
    };
    let bytes_max = usize::from(limit) * 16;
    // Where the stream is cut changes nothing.
    let found = cut(stream, usize::from(piece), bytes_max);
    assert_eq!(cut(stream, stream.len(), bytes_max), found);
    found.0.iter().for_each(check);
});
