//! Overwriting a volume for good: SANITIZE.
//!
//! ```text
//!   begin: nobody else holds the bytes? -> mark it durably            from here on it will be done
//!   run:   every pass over the whole volume, each flushed
//!          -> the bytes that an atomic write left in its record -> the mark goes, durably
//!   error: the mark says failed
//! ```
//!
//! The mark is a record of its own, and its absence says that nothing is pending. What was begun
//! starts over after a crash, from the first pass: none of them minds what it finds.
//!
//! Invariant: while there is a mark nobody serves the volume, takes a snapshot of it or imports
//! into it; and a mark that says pending goes only when all passes are durable.

use bytes::Bytes;
use env::BlockIo;
use model::id::SnapshotId;

use super::Volume;
use crate::error::StoreError;
use crate::fields::Fields;
use crate::pool::{Shared, locked};
use crate::record::{Kind, Record};

/// What is written, or punched, between two looks at whether to go on.
const OVERWRITE_STEP_BYTES: u64 = 1 << 20;
const ERASE_STEP_BYTES: u64 = 1 << 30;

/// What is to become of all blocks of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SanitizeMethod {
    /// Unmapped, so that they read as zeros.
    Erase,
    /// `passes` times overwritten, each whole block with `block`. With `invert` every second pass
    /// writes its complement, so that the last one writes it as it is.
    Overwrite { block: Bytes, passes: u8, invert: bool },
}

/// One request to sanitize a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SanitizeOrder {
    pub method: SanitizeMethod,
    /// A failure may be left without another sanitize.
    pub unrestricted: bool,
}

/// What a volume's mark says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sanitize {
    /// There is none.
    None,
    /// It was begun and is not over.
    Pending(SanitizeOrder),
    /// It ended with an error.
    Failed { unrestricted: bool },
}

const PENDING: u8 = 1;
const FAILED: u8 = 2;
const UNRESTRICTED: u8 = 1;
const INVERT: u8 = 2;
/// Passes of an erase, as the mark says it.
const ERASE: u8 = 0;

fn encode(state: u8, order: &SanitizeOrder) -> Vec<u8> {
    let (passes, invert, block) = match &order.method {
        SanitizeMethod::Erase => (ERASE, false, &[][..]),
        SanitizeMethod::Overwrite { block, passes, invert } => (*passes, *invert, &block[..]),
    };
    let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    let flags = flag(order.unrestricted, UNRESTRICTED) | flag(invert, INVERT);
    [&[state, flags, passes][..], block].concat()
}

/// `None` where it says nothing that is known.
fn decode(payload: &[u8]) -> Option<Sanitize> {
    let mut fields = Fields(payload);
    let &[state, flags, passes] = fields.bytes(3)? else { return None };
    let unrestricted = flags & UNRESTRICTED != 0;
    let block = fields.0;
    let method = match (passes, block) {
        (ERASE, []) => SanitizeMethod::Erase,
        (ERASE, _) | (_, []) => return None,
        _ => SanitizeMethod::Overwrite {
            block: Bytes::copy_from_slice(block),
            passes,
            invert: flags & INVERT != 0,
        },
    };
    match state {
        PENDING => Some(Sanitize::Pending(SanitizeOrder { method, unrestricted })),
        FAILED => Some(Sanitize::Failed { unrestricted }),
        _ => None,
    }
}

/// Pieces of one pass, written one after the other.
fn piece_of(block: &[u8], inverted: bool) -> Bytes {
    let step = usize::try_from(OVERWRITE_STEP_BYTES).expect("a mebibyte");
    let bytes = block.iter().map(|byte| if inverted { !byte } else { *byte });
    let block: Vec<u8> = bytes.collect();
    block.repeat(step / block.len().max(1)).into()
}

impl Volume {
    /// Promise durably to sanitize the volume. The caller has made sure that nothing else writes
    /// to it, and runs [`Self::sanitize`] next.
    ///
    /// # Errors
    /// `Refused`, with the names of those: its bytes are also in snapshots, or in layers that a
    /// clone shares or that are not merged yet; they would survive there. `Io`: nothing was
    /// promised, unless [`Self::refuse_while_sanitizing`] refuses: then the next start may find
    /// the promise, or not, and until then nobody may be served.
    pub async fn begin_sanitize(
        &self,
        io: &dyn BlockIo,
        order: &SanitizeOrder,
    ) -> Result<(), StoreError> {
        let _alone = self.shared.structure.lock().await;
        self.layers()?;
        self.refuse_shared()?;
        let (names, path) = (&*self.shared.names, self.shared.sanitize_path(self.id));
        let before = names.exists(&path);
        let mark = encode(PENDING, order);
        match Record::create(names, io, &path, Kind::Sanitize, &mark).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if !before && names.exists(&path) {
                    // It may outlive a crash, so it goes again; if it cannot, the error says less
                    // than the mark does.
                    let _ = self.shared.remove_durably(&path);
                }
                Err(error)
            }
        }
    }

    /// What was promised and is not done.
    ///
    /// # Errors
    /// `Io`. A mark that cannot be read counts as a failure of a restricted sanitize.
    pub async fn sanitize_state(&self, io: &dyn BlockIo) -> Result<Sanitize, StoreError> {
        self.layers()?;
        let (names, path) = (&*self.shared.names, self.shared.sanitize_path(self.id));
        if !names.exists(&path) {
            return Ok(Sanitize::None);
        }
        let damaged = Sanitize::Failed { unrestricted: false };
        match Record::open(names, io, &path, Kind::Sanitize).await {
            Ok((_, payload)) => Ok(decode(&payload).unwrap_or(damaged)),
            Err(StoreError::Corrupt { .. }) => Ok(damaged),
            Err(error) => Err(error),
        }
    }

    /// Do what was promised, and tell `(done, total)` bytes on the way; where that answers
    /// `false`, it stops, and is still promised. Gives what is left: nothing, or a failure.
    ///
    /// # Errors
    /// `Cancelled`; any other: it failed, which the mark says from now on.
    pub async fn sanitize(
        &self,
        io: &dyn BlockIo,
        tell: &dyn Fn(u64, u64) -> bool,
    ) -> Result<Sanitize, StoreError> {
        let _one = self.sanitizing.lock().await;
        let order = match self.sanitize_state(io).await? {
            Sanitize::Pending(order) => order,
            other => return Ok(other),
        };
        let result = match &order.method {
            SanitizeMethod::Erase => self.erase(io, tell).await,
            SanitizeMethod::Overwrite { block, passes, invert } => {
                self.overwrite(io, block, (*passes, *invert), tell).await
            }
        };
        let result = match result {
            Ok(()) => self.blank_atomic(io).await,
            Err(error) => Err(error),
        };
        let path = self.shared.sanitize_path(self.id);
        match result {
            Ok(()) => {
                self.shared.remove_durably(&path)?;
                Ok(Sanitize::None)
            }
            // Cancelled, or deleted meanwhile: then nothing is left to be marked.
            Err(error @ (StoreError::Cancelled | StoreError::Missing { .. })) => Err(error),
            Err(error) => {
                let mark = encode(FAILED, &order);
                let names = &*self.shared.names;
                if let Err(worse) = Record::create(names, io, &path, Kind::Sanitize, &mark).await {
                    tracing::error!(volume = %self.id, %worse, "a sanitize will be done again");
                }
                Err(error)
            }
        }
    }

    /// Forget that an unrestricted sanitize failed.
    ///
    /// # Errors
    /// `Refused` where none did; `Io`.
    pub async fn leave_failed_sanitize(&self, io: &dyn BlockIo) -> Result<(), StoreError> {
        let _one = self.sanitizing.lock().await;
        match self.sanitize_state(io).await? {
            Sanitize::None => Ok(()),
            Sanitize::Failed { unrestricted: true } => {
                self.shared.remove_durably(&self.shared.sanitize_path(self.id))
            }
            _ => Err(StoreError::refused("only another sanitize ends this one's failure")),
        }
    }

    /// For work on the volume that goes past its logical unit.
    ///
    /// # Errors
    /// `Refused` while a sanitize is promised or has failed.
    pub fn refuse_while_sanitizing(&self) -> Result<(), StoreError> {
        self.shared.refuse_while_sanitizing(self.id)
    }

    /// Do others hold bytes that were the volume's? The caller has the structure lock.
    fn refuse_shared(&self) -> Result<(), StoreError> {
        let record = self.shared.volume_record(self.id)?;
        if !record.snapshots.is_empty() {
            let names: Vec<SnapshotId> = record.snapshots.iter().map(|named| named.id).collect();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            return Err(StoreError::refused(format!(
                "its bytes are also in the snapshots {}; delete those first",
                names.join(", ")
            )));
        }
        let tree = locked(&self.shared.tree);
        let alone = tree.chain(record.head).is_some_and(|chain| chain.len() == 1);
        if alone && !tree.layers.values().any(|layer| layer.parent == Some(record.head)) {
            return Ok(());
        }
        Err(StoreError::refused(
            "its bytes are also in layers that a clone shares, or that deleted snapshots left and \
             that are not merged yet; delete the clones, or wait for the merge",
        ))
    }

    async fn erase(
        &self,
        io: &dyn BlockIo,
        tell: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(), StoreError> {
        let (mut at, total) = (0, self.size());
        while at < total {
            go_on(tell, at, total)?;
            let length = ERASE_STEP_BYTES.min(total - at);
            self.discard(io, at, length).await?;
            at += length;
        }
        self.commit_layers(io).await
    }

    async fn overwrite(
        &self,
        io: &dyn BlockIo,
        block: &[u8],
        (passes, invert): (u8, bool),
        tell: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(), StoreError> {
        let size = self.size();
        let total = size.saturating_mul(u64::from(passes));
        for pass in 0..passes {
            let piece = piece_of(block, invert && (passes - 1 - pass) % 2 == 1);
            let (mut at, before) = (0, size * u64::from(pass));
            while at < size {
                go_on(tell, before + at, total)?;
                let length = OVERWRITE_STEP_BYTES.min(size - at);
                let part = piece.slice(..usize::try_from(length).expect("a mebibyte at most"));
                self.write(io, at, vec![part], false).await?;
                at += length;
            }
            // Each pass reaches the disk, or the next one would only replace it in memory.
            self.commit_layers(io).await?;
        }
        Ok(())
    }
}

fn go_on(tell: &dyn Fn(u64, u64) -> bool, done: u64, total: u64) -> Result<(), StoreError> {
    if tell(done, total) { Ok(()) } else { Err(StoreError::Cancelled) }
}

impl Shared {
    pub(crate) fn refuse_while_sanitizing(
        &self,
        volume: model::id::VolumeId,
    ) -> Result<(), StoreError> {
        if self.names.exists(&self.sanitize_path(volume)) {
            return Err(StoreError::refused(
                "the volume is being sanitized by a host, or a sanitize has failed",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_one_that_is_cut_says_nothing() {
        let overwrite = |invert| SanitizeMethod::Overwrite {
            block: Bytes::from_static(b"pattern"),
            passes: 31,
            invert,
        };
        for method in [SanitizeMethod::Erase, overwrite(false), overwrite(true)] {
            for unrestricted in [false, true] {
                let order = SanitizeOrder { method: method.clone(), unrestricted };
                let mark = encode(PENDING, &order);
                assert_eq!(decode(&mark), Some(Sanitize::Pending(order.clone())));
                assert_eq!(decode(&mark[..2]), None);
                let mark = encode(FAILED, &order);
                assert_eq!(decode(&mark), Some(Sanitize::Failed { unrestricted }));
            }
        }
        for damaged in [&[][..], &[3, 0, 0], &[PENDING, 0, 1], &[PENDING, 0, ERASE, 9]] {
            assert_eq!(decode(damaged), None);
        }
    }

    #[test]
    fn a_pattern_fills_its_piece_and_is_inverted_by_the_bit() {
        let piece = piece_of(&[0x0F; 512], true);
        assert_eq!(piece.len() as u64, OVERWRITE_STEP_BYTES);
        assert!(piece.iter().all(|byte| *byte == 0xF0));
    }
}
