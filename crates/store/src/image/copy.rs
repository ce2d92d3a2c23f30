//! Several pieces at once, with progress and cancel.
//!
//! Invariant: every started piece is driven to its end, also after another one failed; the store
//! does not want its futures dropped half-way.

use futures::stream::{FuturesUnordered, StreamExt};

use super::{PIECE_BYTES, Work};
use crate::error::StoreError;

/// Pieces under way at once: with 1 MiB each, some MiB in all.
const PIECES_AT_ONCE: usize = 4;

/// How far a copy is.
pub(super) struct Meter {
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Meter {
    pub(super) fn advance(&mut self, work: &Work<'_>, bytes: u64) {
        self.done = self.done.saturating_add(bytes).min(self.total);
        (work.progress)(self.done, self.total);
    }
}

/// Run `copy` for each item; it gives the number of bytes that are done with it. The first error
/// ends the copy.
pub(super) async fn all<T>(
    work: &Work<'_>,
    meter: &mut Meter,
    items: impl IntoIterator<Item = T>,
    copy: impl AsyncFn(T) -> Result<u64, StoreError>,
) -> Result<(), StoreError> {
    let mut items = items.into_iter();
    let mut running = FuturesUnordered::new();
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok() && running.len() < PIECES_AT_ONCE {
            outcome = work.check_cancelled();
            match items.next() {
                Some(item) if outcome.is_ok() => running.push(copy(item)),
                _ => break,
            }
        }
        match running.next().await {
            None => return outcome,
            Some(Ok(bytes)) => meter.advance(work, bytes),
            Some(Err(why)) => outcome = outcome.and(Err(why)),
        }
    }
}

/// The range cut into pieces: (offset, length).
pub(super) fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        // Cut at whole pieces of the volume, so that a chunk belongs to one piece only.
        let next = ((at / PIECE_BYTES + 1) * PIECE_BYTES).min(end);
        let piece = (at < end).then(|| (at, next - at));
        at = next;
        piece
    })
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Compared with itself, shifted by one: as fast as memcmp.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.get(1..).is_none_or(|rest| rest == &bytes[..rest.len()])
}
