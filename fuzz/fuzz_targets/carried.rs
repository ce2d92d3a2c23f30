//! What a file volume brings along when it moves: pages of its table of ids, and the parts of the
//! stream that it comes in. Knobs: which part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::fuzz::{carried, decode_ids, encode_ids, frames};

/// Bytes of an entry, and entries of a page.
const ENTRY: usize = 32;
const ENTRIES_MAX: usize = 127;

fuzz_target!(|input: &[u8]| {
    let Some((&part, bytes)) = input.split_first() else { return };
    match part {
        0..3 => {
            // A boolean is any number but 0, and comes back as 1: what is written reads the same.
            let again = carried(part, bytes);
            if let Some(again) = again {
                assert_eq!(again.len(), bytes.len());
                assert_eq!(carried(part, &again), Some(again));
            }
        }
        3 => {
            let Some((tree, _)) = bytes.split_first_chunk::<4>() else { return };
            if let Some(content) = frames(u32::from_be_bytes(*tree), bytes) {
                assert!(content.len() + 8 <= bytes.len(), "each byte was in a frame");
            }
        }
        4 => {
            if let Some((_, again)) = decode_ids(0, bytes) {
                // What is behind the entries is under the checksum, and of no meaning.
                assert_eq!(decode_ids(0, &again).map(|found| found.1), Some(again));
            }
        }
        _ => {
            // Random bytes never have a right checksum: what lies behind it is looked at this way.
            let (entries, _) = bytes.as_chunks::<ENTRY>();
            let entries = &entries[..entries.len().min(ENTRIES_MAX)];
            let page = encode_ids(part.into(), entries);
            let sorted = entries.is_sorted_by(|one, next| one < next);
            let found = decode_ids(part.into(), &page);
            assert_eq!(found.is_some(), sorted);
            assert!(found.is_none_or(|found| found == (entries.to_vec(), page.clone())));
            assert!(decode_ids(u64::from(part) + 1, &page).is_none(), "in another's place");
        }
    }
});
