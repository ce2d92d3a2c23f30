//! Slots of the store's records, and the payloads in them. Knobs: kind of record, 1 make the
//! checksum right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::fuzz::{Slot, Tables, decode_slot, encode_slot};

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, flags], bytes)) = input.split_first_chunk::<2>() else { return };
    let slot = if flags & 1 != 0 {
        // Random bytes never have a right checksum: what lies behind it is looked at this way.
        let (sequence, payload) = bytes.split_at(bytes.len().min(8));
        let sequence = sequence.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let written = encode_slot(kind, sequence, payload);
        let read = decode_slot(kind, &written);
        assert_eq!(read, Slot::Valid { sequence, payload: payload.to_vec() });
        assert_eq!(decode_slot(kind.wrapping_add(1), &written), Slot::Bad, "another kind");
        read
    } else {
        decode_slot(kind, bytes)
    };
    if let Slot::Valid { sequence, payload } = slot {
        let again = encode_slot(kind, sequence, &payload);
        assert_eq!(decode_slot(kind, &again), Slot::Valid { sequence, payload: payload.clone() });
        // A payload that is understood is written back byte for byte.
        let Tables { layer, volume, pool } = Tables::decode(&payload);
        for written in [layer, volume, pool].into_iter().flatten() {
            assert_eq!(written, payload);
        }
    }
});
