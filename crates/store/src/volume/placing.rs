//! Where the bytes of a write go in a stack of several layers.

use std::collections::VecDeque;

use bytes::Bytes;
use env::BlockIo;

use crate::error::StoreError;
use crate::layer::chunks_of;
use crate::map::{CHUNK_BYTES, Chunk};
use crate::stack::{Stack, read_layers, zeros};

/// Bytes for consecutive offsets.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
    parts: Vec<Bytes>,
}

impl Piece {
    fn chunk(&self) -> u64 {
        self.offset / CHUNK_BYTES
    }
    /// Does it cover all of its chunk that lies in a volume of this size?
    fn is_whole(&self, size: u64) -> bool {
        let end = ((self.chunk() + 1) * CHUNK_BYTES).min(size);
        self.offset.is_multiple_of(CHUNK_BYTES) && self.offset + self.length >= end
    }
}

/// Takes bytes off the front of a list of parts, without copying them.
struct Parts(VecDeque<Bytes>);

impl Parts {
    fn take(&mut self, mut length: u64) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while length > 0 {
            let Some(mut first) = self.0.pop_front() else { break };
            let here = usize::try_from(length).unwrap_or(usize::MAX).min(first.len());
            let part = first.split_to(here);
            if !first.is_empty() {
                self.0.push_front(first);
            }
            length -= here as u64;
            if here > 0 {
                taken.push(part);
            }
        }
        taken
    }
}

/// Write what needs nothing from below (chunks that the target has, or that are written whole),
/// and return the pieces that need a copy-up first. The caller holds the range lock.
pub(super) async fn place(
    io: &dyn BlockIo,
    stack: &Stack,
    size: u64,
    offset: u64,
    parts: Vec<Bytes>,
) -> Result<Vec<Piece>, StoreError> {
    let length = parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let mut parts = Parts(parts.into());
    let mut ready: Vec<(usize, Piece)> = Vec::new();
    let mut deferred = Vec::new();
    for chunk in chunks_of(offset, length) {
        let start = offset.max(chunk * CHUNK_BYTES);
        let length = (offset + length).min((chunk + 1) * CHUNK_BYTES) - start;
        let piece = Piece { offset: start, length, parts: parts.take(length) };
        let depth = stack.target(chunk);
        let layer = &stack.layers[depth];
        if !layer.is_base() && layer.map.get(chunk) != Chunk::Data && !piece.is_whole(size) {
            deferred.push(piece);
            continue;
        }
        match ready.last_mut() {
            Some((last, run)) if *last == depth && run.offset + run.length == start => {
                run.length += length;
                run.parts.extend(piece.parts);
            }
            _ => ready.push((depth, piece)),
        }
    }
    let writes = ready
        .into_iter()
        .map(|(depth, run)| stack.layers[depth].write(io, run.offset, run.length, run.parts));
    futures::future::join_all(writes).await.into_iter().collect::<Result<(), _>>()?;
    Ok(deferred)
}

/// Write a piece of one chunk that the target lacks: the whole chunk, with the rest as it reads
/// now. The caller holds the chunk exclusively.
///
/// The whole chunk is written even where the rest is zeros: the punch of an earlier discard may
/// not have reached the disk, so the data file's own content is not to be trusted.
pub(super) async fn copy_up(
    io: &dyn BlockIo,
    stack: &Stack,
    size: u64,
    piece: Piece,
) -> Result<(), StoreError> {
    let chunk = piece.chunk();
    let depth = stack.target(chunk);
    let layer = &stack.layers[depth];
    let state = layer.map.get(chunk);
    if layer.is_base() || state == Chunk::Data {
        // Somebody else copied it up since we looked.
        return layer.write(io, piece.offset, piece.length, piece.parts).await;
    }
    let start = chunk * CHUNK_BYTES;
    let length = CHUNK_BYTES.min(size - start);
    let below = if state == Chunk::Zero {
        zeros(length)
    } else {
        read_layers(io, &stack.layers[depth + 1..], start, length).await?
    };
    let mut below = Parts(below.into());
    let mut whole = below.take(piece.offset - start);
    below.take(piece.length);
    whole.extend(piece.parts);
    whole.extend(below.0);
    layer.write(io, start, length, whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_without_losing_a_byte() {
        let mut parts = Parts([&b"abc"[..], b"", b"defg"].map(Bytes::from_static).into());
        assert_eq!(parts.take(2).concat(), b"ab");
        assert_eq!(parts.take(3).concat(), b"cde");
        assert_eq!(parts.take(0).concat(), b"");
        assert_eq!(parts.take(9).concat(), b"fg");
    }

    #[test]
    fn the_last_chunk_is_whole_when_it_reaches_the_end_of_the_volume() {
        let piece = |offset, length| Piece { offset, length, parts: Vec::new() };
        assert!(piece(CHUNK_BYTES, 1024).is_whole(CHUNK_BYTES + 1024));
        assert!(!piece(CHUNK_BYTES, 512).is_whole(CHUNK_BYTES + 1024));
        assert!(!piece(CHUNK_BYTES + 512, CHUNK_BYTES - 512).is_whole(1 << 30));
        assert!(piece(0, CHUNK_BYTES).is_whole(1 << 30));
    }
}
