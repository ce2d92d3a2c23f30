//! What lies on a volume. The input is the volume's size in 512-byte blocks (4 bytes) and pieces:
//! where they are counted from (1 byte: 0 the start, 1 the end, 2 the first MiB), how far (4),
//! length (2), and bytes. Everything else on the volume is zeros. Numbers are big-endian.
#![no_main]

use std::cell::Cell;
use std::convert::Infallible;

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

const BLOCK: u64 = 512;
const PIECES_MAX: usize = 64;
/// The longest single read: the head or tail of a region, or the text of a volume group.
const READ_BYTES_MAX: usize = 1 << 20;
/// About 1 MiB for the volume and each of 128 partitions, with room for the rest.
const ALL_BYTES_MAX: usize = 130 * (1 << 20) * 3 / 2;
const FOUND_MAX: usize = 4096;

static ZEROS: [u8; READ_BYTES_MAX] = [0; READ_BYTES_MAX];

struct Volume<'a> {
    size: u64,
    pieces: Vec<(u64, &'a [u8])>,
    read: Cell<usize>,
}

impl<'a> Volume<'a> {
    fn new(mut input: Unstructured<'a>) -> arbitrary::Result<Self> {
        let size = u64::from(u32::from_be_bytes(input.arbitrary()?)) * BLOCK;
        let mut pieces = Vec::new();
        while !input.is_empty() && pieces.len() < PIECES_MAX {
            let origin: u8 = input.arbitrary()?;
            let far = u64::from(u32::from_be_bytes(input.arbitrary()?));
            let length = usize::from(u16::from_be_bytes(input.arbitrary()?)).min(input.len());
            let start = match origin % 3 {
                0 => far,
                1 => size.saturating_sub(far),
                _ => (1 << 20) + far,
            };
            pieces.push((start, input.bytes(length)?));
        }
        Ok(Self { size, pieces, read: Cell::new(0) })
    }

    fn read(&self, offset: u64, length: usize) -> Bytes {
        let end = offset.checked_add(length as u64).expect("a range that can be");
        assert!(end <= self.size && length > 0 && length <= READ_BYTES_MAX);
        assert!(offset.is_multiple_of(BLOCK) && length.is_multiple_of(512));
        self.read.set(self.read.get() + length);
        let mut touching = self
            .pieces
            .iter()
            .filter(|(start, bytes)| *start < end && start + bytes.len() as u64 > offset)
            .peekable();
        if touching.peek().is_none() {
            return Bytes::from_static(&ZEROS[..length]);
        }
        let mut buffer = BytesMut::zeroed(length);
        for (start, bytes) in touching {
            let skipped = usize::try_from(offset.saturating_sub(*start)).unwrap_or(usize::MAX);
            let at = usize::try_from(start.saturating_sub(offset)).unwrap_or(usize::MAX);
            let count = (bytes.len() - skipped).min(length - at);
            buffer[at..at + count].copy_from_slice(&bytes[skipped..skipped + count]);
        }
        buffer.freeze()
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(volume) = Volume::new(Unstructured::new(input)) else { return };
    let read = async |offset, length| Ok::<_, Infallible>(volume.read(offset, length));
    let Ok(found) = futures::executor::block_on(store::probe::probe(volume.size, read));
    assert!(volume.read.get() <= ALL_BYTES_MAX, "{} bytes read", volume.read.get());
    assert!(found.len() <= FOUND_MAX);
    for one in found {
        assert!(!one.content.is_empty() && !one.place.is_empty());
        assert!(one.content.len() <= 1024, "{} bytes of name", one.content.len());
    }
});
