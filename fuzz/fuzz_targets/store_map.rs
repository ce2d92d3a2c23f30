//! Pages of a layer's map. Knobs: 1 make both checksums right; then two slots, or chunks to set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::fuzz::{CHUNKS_PER_PAGE, Page, decode_page, page_after, seal_page};

const SLOT_BYTES: usize = 4096;
const FILES: u64 = 9;

/// What stands in the page is what its counts and its search say.
fn check(page: &Page) {
    let set: Vec<u64> = (0..CHUNKS_PER_PAGE).filter(|chunk| page.get(*chunk) != 0).collect();
    let data = set.iter().filter(|chunk| page.get(**chunk) == 1).count();
    assert_eq!(page.count(), (set.len() as u64, data as u64));
    let mut found = Vec::new();
    while let Some(chunk) = page.next_present(found.last().map_or(0, |last| last + 1)) {
        found.push(chunk);
    }
    assert_eq!(found, set);
    assert_eq!(page.get(CHUNKS_PER_PAGE), 0);
}

/// Two slots as a disk may have them.
fn slots(bytes: &[u8], seal: bool) {
    let (even, odd) = bytes.split_at(bytes.len().min(SLOT_BYTES));
    let (mut even, mut odd) = (even.to_vec(), odd.to_vec());
    if seal {
        (even, odd) = (seal_page(even, FILES), seal_page(odd, FILES));
    }
    if let Some(page) = decode_page(FILES, 0, &even, &odd) {
        check(&page);
        let [even, odd] = page_after(&page, FILES, &[(0, 1)]);
        let written = decode_page(FILES, 0, &even, &odd).expect("what was written can be read");
        assert_eq!(written.get(0), 1);
        assert!((1..CHUNKS_PER_PAGE).all(|chunk| written.get(chunk) == page.get(chunk)));
    }
}

/// Sets chunks and reads the page back, also when the newest slot is torn.
fn changes(bytes: &[u8]) {
    let mut page = decode_page(FILES, 0, &[], &[]).expect("zeros are a page without chunks");
    let set: Vec<(u64, u8)> = bytes
        .chunks_exact(3)
        .map(|it| (u64::from(u16::from_be_bytes([it[0], it[1]])) % CHUNKS_PER_PAGE, it[2] % 3))
        .collect();
    for set in set.chunks(16) {
        let [even, odd] = page_after(&page, FILES, set);
        page = decode_page(FILES, 0, &even, &odd).expect("what was written can be read");
        for (at, (chunk, to)) in set.iter().enumerate() {
            if set[at + 1..].iter().all(|(later, _)| later != chunk) {
                assert_eq!(page.get(*chunk), *to);
            }
        }
    }
    check(&page);
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, bytes)) = input.split_first() else { return };
    match flags & 3 {
        0 => slots(bytes, false),
        1 => slots(bytes, true),
        _ => changes(bytes),
    }
});
