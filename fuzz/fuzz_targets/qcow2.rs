//! A qcow2 image as the import walks it. The input is the image, whose clusters lie where they
//! say; the file goes on with zeros for as many MiB as the first byte says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::image::fuzz::{Content, walk};

/// Content looked at of one image.
const CONTENT_BYTES_MAX: u64 = 4 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((tail, image)) = input.split_first() else { return };
    let file_bytes = image.len() as u64 + (u64::from(*tail) << 20);
    let Ok(walk) = walk(image, file_bytes, CONTENT_BYTES_MAX) else { return };
    // The runs cover the content without gap or overlap, and point into the file.
    let mut at = 0;
    for run in &walk.runs {
        assert_eq!(run.start, at);
        assert!(run.length > 0);
        at += run.length;
        match &run.content {
            Content::Zero => {}
            Content::Data { offset } => {
                assert!(*offset >= 512 && *offset < file_bytes && run.length <= 2 << 20);
            }
            Content::Compressed { offset, packed_bytes, unpacked } => {
                assert!(*offset < file_bytes && *packed_bytes <= file_bytes - offset);
                assert!(*packed_bytes <= 2 * walk.cluster_bytes + 512);
                if let Some(unpacked) = unpacked {
                    assert_eq!(unpacked.len() as u64, walk.cluster_bytes);
                }
            }
        }
    }
    assert!((walk.size.min(CONTENT_BYTES_MAX)..=walk.size).contains(&at));
});
