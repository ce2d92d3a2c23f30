//! Small durable records: a file with two slots, of which one always holds the last state.
//!
//! ```text
//! file:  | slot, even sequences | slot, odd sequences |        each half of the file
//! slot:  | magic 8 | version 2 | kind 2 | length 4 | sequence 8 | crc32c 4 | zero 4 | payload |
//! ```
//!
//! Invariant: a write goes to the slot that does not hold the newest durable state, so that a torn
//! or lost write leaves that state in place. Sequence n lives in slot n mod 2.

use std::path::{Path, PathBuf};

use env::{BlockIo, Buffer, Files, IoFile, OpenMode};

use crate::error::StoreError;
use crate::fields::Fields;

const MAGIC: &[u8; 8] = b"CMHDREC\n";
pub(crate) const VERSION: u16 = 1;
const HEADER_BYTES: usize = 32;
const CRC_AT: std::ops::Range<usize> = 24..28;
/// Slots are powers of two from here on.
const SLOT_BYTES_MIN: u64 = 4096;
/// More than any record needs; larger files are not ours.
const SLOT_BYTES_MAX: u64 = 64 << 20;
const BLOCK: usize = 512;

/// What a record describes. A file of another kind is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Pool = 1,
    Layer = 2,
    Volume = 3,
    Reservations = 4,
    AtomicWrite = 5,
    Sanitize = 6,
}

/// What a slot holds.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// Only zeros: never written.
    Empty,
    /// Torn, rotten or foreign.
    Bad,
    /// Checksum right, version not ours.
    Newer(u16),
    Valid {
        sequence: u64,
        payload: Vec<u8>,
    },
}

/// Header and payload, padded to whole 512-byte blocks.
pub(crate) fn encode(kind: Kind, sequence: u64, payload: &[u8]) -> Buffer {
    let used = HEADER_BYTES + payload.len();
    let mut slot = Buffer::zeroed(used.next_multiple_of(BLOCK));
    let length = u32::try_from(payload.len()).expect("slots are smaller than 4 GiB");
    slot[0..8].copy_from_slice(MAGIC);
    slot[8..10].copy_from_slice(&VERSION.to_be_bytes());
    slot[10..12].copy_from_slice(&(kind as u16).to_be_bytes());
    slot[12..16].copy_from_slice(&length.to_be_bytes());
    slot[16..24].copy_from_slice(&sequence.to_be_bytes());
    slot[HEADER_BYTES..used].copy_from_slice(payload);
    let crc = crc32c::crc32c(&slot[..used]);
    slot[CRC_AT].copy_from_slice(&crc.to_be_bytes());
    slot
}

/// What these bytes of a slot say. Never panics, whatever they are.
pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Slot {
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    decode_written(kind, bytes).unwrap_or(Slot::Bad)
}

fn decode_written(kind: Kind, bytes: &[u8]) -> Option<Slot> {
    let mut fields = Fields(bytes);
    let magic = fields.bytes(8)?;
    let (version, found_kind) = (fields.u16()?, fields.u16()?);
    let length = usize::try_from(fields.u32()?).ok()?;
    let sequence = fields.u64()?;
    let crc = fields.u32()?;
    fields.u32()?;
    let payload = fields.bytes(length)?;
    let header = bytes.get(..CRC_AT.start)?;
    let computed = crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(header), &[0; HEADER_BYTES - CRC_AT.start]),
        payload,
    );
    if magic != MAGIC || computed != crc {
        return None;
    }
    if version != VERSION {
        return Some(Slot::Newer(version));
    }
    (found_kind == kind as u16).then(|| Slot::Valid { sequence, payload: payload.to_vec() })
}

/// An open record.
pub(crate) struct Record {
    file: IoFile,
    path: PathBuf,
    kind: Kind,
    slot_bytes: u64,
    /// Of the newest state that is known to be durable.
    sequence: u64,
}

impl Record {
    /// Create or replace the record at `path`, durably: the old one or the new one, never none.
    pub(crate) async fn create(
        files: &dyn Files,
        io: &dyn BlockIo,
        path: &Path,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Self, StoreError> {
        Self::create_from(files, io, path, kind, 1, payload).await
    }

    async fn create_from(
        files: &dyn Files,
        io: &dyn BlockIo,
        path: &Path,
        kind: Kind,
        sequence: u64,
        payload: &[u8],
    ) -> Result<Self, StoreError> {
        let needed = (HEADER_BYTES + payload.len()) as u64;
        let slot_bytes = needed.next_power_of_two().max(SLOT_BYTES_MIN);
        if slot_bytes > SLOT_BYTES_MAX {
            return Err(StoreError::refused(format!("a record of {needed} bytes is too long")));
        }
        let fail = |source| StoreError::from_io(describe(path), slot_bytes * 2, source);
        let temporary = path.with_extension("tmp");
        if files.exists(&temporary) {
            files.remove(&temporary).map_err(fail)?;
        }
        let file = files.open(&temporary, OpenMode::CreateNew, false).map_err(fail)?;
        files.set_length(&file, slot_bytes * 2).map_err(fail)?;
        let slot = encode(kind, sequence, payload).into_bytes();
        io.write(&file, sequence % 2 * slot_bytes, vec![slot]).await.map_err(fail)?;
        io.sync(&file).await.map_err(fail)?;
        files.rename(&temporary, path).map_err(fail)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        files.sync_dir(directory).map_err(fail)?;
        Ok(Self { file, path: path.to_owned(), kind, slot_bytes, sequence })
    }

    /// Open the record and return its last state.
    ///
    /// It is synced first: after a killed daemon the newest slot may be in the page cache only,
    /// and the next write will overwrite the older one.
    pub(crate) async fn open(
        files: &dyn Files,
        io: &dyn BlockIo,
        path: &Path,
        kind: Kind,
    ) -> Result<(Self, Vec<u8>), StoreError> {
        let fail = |source| StoreError::from_io(describe(path), 0, source);
        let file = files.open(path, OpenMode::ReadWrite, false).map_err(fail)?;
        let length = files.length(&file).map_err(fail)?;
        let slot_bytes = length / 2;
        if !slot_bytes.is_power_of_two() || !(SLOT_BYTES_MIN..=SLOT_BYTES_MAX).contains(&slot_bytes)
        {
            return Err(StoreError::corrupt(
                describe(path),
                format!("{length} bytes is no length of a record"),
            ));
        }
        io.sync(&file).await.map_err(fail)?;
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for parity in 0..2 {
            let length = usize::try_from(slot_bytes).expect("bounded above");
            let bytes = io.read(&file, parity * slot_bytes, Buffer::new(length)).await;
            match decode(kind, &bytes.map_err(fail)?) {
                Slot::Valid { sequence, payload } if sequence % 2 == parity => {
                    if newest.as_ref().is_none_or(|(other, _)| *other < sequence) {
                        newest = Some((sequence, payload));
                    }
                }
                Slot::Newer(version) => {
                    return Err(StoreError::Format {
                        what: describe(path),
                        why: format!("version {version}, this program knows {VERSION}"),
                    });
                }
                Slot::Empty | Slot::Bad | Slot::Valid { .. } => {}
            }
        }
        let (sequence, payload) =
            newest.ok_or_else(|| StoreError::corrupt(describe(path), "neither slot is valid"))?;
        Ok((Self { file, path: path.to_owned(), kind, slot_bytes, sequence }, payload))
    }

    /// The longest state that its slots have room for.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        usize::try_from(self.slot_bytes).expect("bounded when it was opened") - HEADER_BYTES
    }

    /// Replace the state; durable when this returns. After an error the durable state is the old
    /// one or this one, and the next write settles it.
    pub(crate) async fn write(
        &mut self,
        files: &dyn Files,
        io: &dyn BlockIo,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let sequence = self.sequence + 1;
        if (HEADER_BYTES + payload.len()) as u64 > self.slot_bytes {
            let path = self.path.clone();
            *self = Self::create_from(files, io, &path, self.kind, sequence, payload).await?;
            return Ok(());
        }
        let fail = |source| StoreError::from_io(describe(&self.path), self.slot_bytes, source);
        let slot = encode(self.kind, sequence, payload).into_bytes();
        io.write(&self.file, sequence % 2 * self.slot_bytes, vec![slot]).await.map_err(fail)?;
        io.sync(&self.file).await.map_err(fail)?;
        self.sequence = sequence;
        Ok(())
    }
}

fn describe(path: &Path) -> String {
    format!("the record {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_reads_back_as_it_was_written() {
        let slot = encode(Kind::Volume, 7, b"payload");
        assert_eq!(slot.len() % BLOCK, 0);
        let expected = Slot::Valid { sequence: 7, payload: b"payload".to_vec() };
        assert_eq!(decode(Kind::Volume, &slot), expected);
        assert_eq!(decode(Kind::Layer, &slot), Slot::Bad);
        assert_eq!(decode(Kind::Layer, &[0; 4096]), Slot::Empty);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let slot = encode(Kind::Pool, 2, b"some state");
        for bit in 0..(HEADER_BYTES + 10) * 8 {
            // The four bytes after the checksum are filler, and not read.
            if (28 * 8..32 * 8).contains(&bit) {
                continue;
            }
            let mut bytes = slot.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(Kind::Pool, &bytes), Slot::Valid { .. }), "bit {bit}");
        }
    }

    #[test]
    fn no_input_panics() {
        let slot = encode(Kind::Pool, 2, &[9; 700]).to_vec();
        for end in 0..slot.len() {
            let cut = decode(Kind::Pool, &slot[..end]);
            assert!(end >= HEADER_BYTES + 700 || !matches!(cut, Slot::Valid { .. }));
        }
        let mut state = 1u64;
        let mut bytes = [0u8; 96];
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
            bytes[..8].copy_from_slice(MAGIC);
            assert_eq!(decode(Kind::Pool, &bytes), Slot::Bad);
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut slot = encode(Kind::Pool, 2, b"x").to_vec();
        slot[8..10].copy_from_slice(&9u16.to_be_bytes());
        slot[CRC_AT].fill(0);
        let crc = crc32c::crc32c(&slot[..HEADER_BYTES + 1]);
        slot[CRC_AT].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(decode(Kind::Pool, &slot), Slot::Newer(9));
    }
}
