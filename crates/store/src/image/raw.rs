//! Raw images: the volume's bytes, holes for zeros.

use bytes::Bytes;
use env::Files;

use super::copy::{self, Meter, is_zero, pieces};
use super::{PIECE_BYTES, Work};
use crate::error::StoreError;

const BLOCK: u64 = 512;

/// Why a file without bytes is no image.
pub(super) const EMPTY: &str = "it is empty";

/// Data is looked for in steps of this many bytes, so that a file with a million holes does not
/// become a list of a million ranges.
const STEP_BYTES: u64 = 1 << 30;

/// Copy the file into the volume; how many bytes of the volume it fills.
pub(super) async fn import(work: &Work<'_>, files: &dyn Files) -> Result<u64, StoreError> {
    let length = files.length(&work.image).map_err(|why| work.failed("reading", 0, why))?;
    if length == 0 {
        return Err(work.bad(EMPTY));
    }
    // The last block is filled up with zeros: reads past the end of the file give them.
    let filled =
        length.checked_next_multiple_of(BLOCK).ok_or_else(|| work.bad("it is too long"))?;
    work.refuse_if_larger(filled)?;
    let mut meter = Meter { done: 0, total: filled };
    let mut at = 0;
    while at < filled {
        work.check_cancelled()?;
        let next = files.next_data(&work.image, at);
        let (start, end) = match next.map_err(|why| work.failed("reading", 0, why))? {
            Some((start, end)) => (start - start % PIECE_BYTES, end),
            None => (filled, filled),
        };
        let start = start.clamp(at, filled);
        if start > at {
            work.volume.discard(work.io, at, start - at).await?;
            meter.advance(work, start - at);
        }
        // Whole pieces, so that the next look for data starts on one.
        let end = end.next_multiple_of(PIECE_BYTES).clamp(start, filled);
        let end = end.min(start + STEP_BYTES);
        copy::all(work, &mut meter, pieces(start, end), async |(offset, length)| {
            copy_in(work, offset, length).await
        })
        .await?;
        at = end;
    }
    Ok(filled)
}

async fn copy_in(work: &Work<'_>, offset: u64, length: u64) -> Result<u64, StoreError> {
    let piece = work.read_image(offset, usize::try_from(length).unwrap_or(0)).await?;
    if is_zero(&piece) {
        work.volume.discard(work.io, offset, length).await?;
    } else {
        work.volume.write(work.io, offset, vec![piece.into_bytes()], false).await?;
    }
    Ok(length)
}

/// Copy the volume into the (new) file.
pub(super) async fn export(work: &Work<'_>, files: &dyn Files) -> Result<(), StoreError> {
    let size = work.volume.size();
    let sized = files.set_length(&work.image, size);
    sized.map_err(|why| work.failed("sizing", size, why))?;
    let mut meter = Meter { done: 0, total: size };
    let mut at = 0;
    while at < size {
        let end = (at + STEP_BYTES).min(size);
        for (start, length, mapped) in work.volume.status(at, end - at) {
            if !mapped {
                meter.advance(work, length);
                continue;
            }
            copy::all(work, &mut meter, pieces(start, start + length), async |(offset, length)| {
                copy_out(work, offset, length).await
            })
            .await?;
        }
        at = end;
        work.check_cancelled()?;
    }
    Ok(())
}

async fn copy_out(work: &Work<'_>, offset: u64, length: u64) -> Result<u64, StoreError> {
    let bytes = usize::try_from(length).unwrap_or(0);
    let mut at = offset;
    for part in work.volume.read(work.io, offset, bytes).await? {
        let next = at + part.len() as u64;
        write_unless_zero(work, at, part).await?;
        at = next;
    }
    Ok(length)
}

async fn write_unless_zero(work: &Work<'_>, offset: u64, part: Bytes) -> Result<(), StoreError> {
    if is_zero(&part) { Ok(()) } else { work.write_image(offset, part).await }
}
