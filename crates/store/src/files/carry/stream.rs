//! The stream's own parts: its first record and its last, the frames of its trees, and its digest.

use std::io::{self, Read, Write};

use model::id::{SnapshotId, VolumeId};
use sha2::{Digest, Sha256};

use crate::error::StoreError;
use crate::fields::Fields;
use crate::files::ids::NEXT_TREE_MAX;
use crate::files::record::{self, HEADER_BYTES, RECORD_BYTES_MAX, Record};

pub(super) const WHAT: &str = "the stream";
/// Bytes of a frame: what an archive's writer has gathered.
const FRAME_BYTES_MAX: usize = 256 << 10;
pub(super) const DIGEST_BYTES: usize = 32;

/// A snapshot that goes along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    pub(crate) tree: u32,
    pub(crate) name: String,
}

/// What the volume is: the stream begins with it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) volume: VolumeId,
    pub(crate) size_bytes: u64,
    pub(crate) relaxed: bool,
    /// Of the ids of its trees' roots.
    pub(crate) root_key: [u8; 16],
    /// What its files' handles are signed with.
    pub(crate) secret: [u8; 32],
    /// How often it had moved before this.
    pub(crate) moves: u16,
    pub(crate) living: u32,
    pub(crate) next_tree: u32,
    /// Oldest first, as their trees come.
    pub(crate) snapshots: Vec<Snapshot>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manifest").field("volume", &self.volume).finish_non_exhaustive()
    }
}

impl Record for Manifest {
    const KIND: u16 = 4;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.volume.0.as_bytes());
        out.extend_from_slice(&self.size_bytes.to_be_bytes());
        out.extend_from_slice(&u16::from(self.relaxed).to_be_bytes());
        out.extend_from_slice(&self.root_key);
        out.extend_from_slice(&self.secret);
        out.extend_from_slice(&self.moves.to_be_bytes());
        out.extend_from_slice(&self.living.to_be_bytes());
        out.extend_from_slice(&self.next_tree.to_be_bytes());
        let count = u32::try_from(self.snapshots.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for Snapshot { id, tree, name } in &self.snapshots {
            out.extend_from_slice(id.0.as_bytes());
            out.extend_from_slice(&tree.to_be_bytes());
            let bytes = u16::try_from(name.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(name.as_bytes());
        }
    }
    fn get(_: u16, fields: &mut Fields<'_>) -> Option<Self> {
        let (volume, size_bytes) = (VolumeId(fields.uuid()?), fields.u64()?);
        let relaxed = fields.u16()? != 0;
        let root_key = fields.bytes(16)?.try_into().ok()?;
        let secret = fields.bytes(32)?.try_into().ok()?;
        let moves = fields.u16()?;
        let (living, next_tree) = (fields.u32()?, fields.u32()?);
        let mut snapshots = Vec::new();
        for _ in 0..fields.u32()? {
            let (id, tree) = (SnapshotId(fields.uuid()?), fields.u32()?);
            let bytes = usize::from(fields.u16()?);
            let name = String::from_utf8(fields.bytes(bytes)?.to_vec()).ok()?;
            snapshots.push(Snapshot { id, tree, name });
        }
        let all = Self {
            volume,
            size_bytes,
            relaxed,
            root_key,
            secret,
            moves,
            living,
            next_tree,
            snapshots,
        };
        all.is_sound().then_some(all)
    }
}

impl Manifest {
    /// Whether its trees can be told apart, and its snapshots browsed.
    fn is_sound(&self) -> bool {
        let trees: Vec<u32> = self.trees().collect();
        let is_tree = |tree: &u32| (1..self.next_tree).contains(tree);
        let mut names: Vec<_> = self.snapshots.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        let mut ids: Vec<_> = self.snapshots.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        let mut sorted = trees.clone();
        sorted.sort_unstable();
        self.next_tree <= NEXT_TREE_MAX
            && trees.iter().all(is_tree)
            && sorted.is_sorted_by(|one, next| one < next)
            && names.is_sorted_by(|one, next| one < next)
            && ids.is_sorted_by(|one, next| one < next)
            && names.iter().all(|name| super::super::volume::path(name.as_bytes()).is_ok())
    }

    /// The numbers of its trees, in their order in the stream.
    pub(super) fn trees(&self) -> impl Iterator<Item = u32> + '_ {
        self.snapshots.iter().map(|one| one.tree).chain([self.living])
    }
}

/// What went through: the stream ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// The latest change that a client may have been told of, in nanoseconds since 1970.
    pub(crate) change: u64,
    /// SHA-256 of all before this record.
    pub(crate) digest: [u8; DIGEST_BYTES],
}

impl Record for End {
    const KIND: u16 = 5;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        out.extend_from_slice(&self.change.to_be_bytes());
        out.extend_from_slice(&self.digest);
    }
    fn get(_: u16, fields: &mut Fields<'_>) -> Option<Self> {
        let (entries, bytes, change) = (fields.u64()?, fields.u64()?, fields.u64()?);
        Some(Self { entries, bytes, change, digest: fields.bytes(DIGEST_BYTES)?.try_into().ok()? })
    }
}

/// A stream that knows the digest of what went through it.
pub(super) struct Digested<S> {
    pub(super) stream: S,
    digest: Sha256,
}

impl<S> Digested<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, digest: Sha256::new() }
    }
    pub(super) fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.digest.clone().finalize().into()
    }
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(data)?;
        self.digest.update(&data[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(to)?;
        self.digest.update(&to[..count]);
        Ok(count)
    }
}

/// Writes a record as it is in files.
pub(super) fn put<R: Record>(record: &R, to: &mut impl Write) -> io::Result<()> {
    to.write_all(&record::encode(record))
}

/// Reads one.
///
/// # Errors
/// `Io`, also when the stream ends; `Corrupt`; `Format` when a newer version wrote it.
pub(super) fn get<R: Record>(from: &mut impl Read) -> Result<R, StoreError> {
    let mut bytes = vec![0; HEADER_BYTES];
    from.read_exact(&mut bytes).map_err(broken)?;
    let length = bytes[12..16].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
    if length > RECORD_BYTES_MAX {
        return Err(StoreError::corrupt(WHAT, "a record is too long"));
    }
    let got = from.take(length as u64).read_to_end(&mut bytes).map_err(broken)?;
    if got < length {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    record::decode(WHAT, &bytes)
}

pub(super) fn broken(why: io::Error) -> StoreError {
    StoreError::Io { what: WHAT.to_owned(), source: why }
}

/// Writes one tree: its number, frames, each behind its length, and a length of 0.
pub(super) struct Frames<'a, W> {
    to: &'a mut W,
    frame: Vec<u8>,
}

impl<'a, W: Write> Frames<'a, W> {
    pub(super) fn begin(tree: u32, to: &'a mut W) -> io::Result<Self> {
        to.write_all(&tree.to_be_bytes())?;
        Ok(Self { to, frame: Vec::with_capacity(FRAME_BYTES_MAX) })
    }
    pub(super) fn end(mut self) -> io::Result<()> {
        self.put()?;
        self.to.write_all(&0_u32.to_be_bytes())
    }
    fn put(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.frame.len()).map_err(io::Error::other)?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&self.frame)?;
        self.frame.clear();
        Ok(())
    }
}

impl<W: Write> Write for Frames<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(FRAME_BYTES_MAX - self.frame.len());
        self.frame.extend_from_slice(&data[..count]);
        if self.frame.len() == FRAME_BYTES_MAX {
            self.put()?;
        }
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what [`Frames`] has written: it ends where the tree does.
pub(super) struct Unframed<'a, R> {
    from: &'a mut R,
    left: usize,
    ended: bool,
}

impl<'a, R: Read> Unframed<'a, R> {
    /// # Errors
    /// `Io`; `Corrupt` when another tree is there.
    pub(super) fn begin(tree: u32, from: &'a mut R) -> Result<Self, StoreError> {
        let mut number = [0; 4];
        from.read_exact(&mut number).map_err(broken)?;
        if u32::from_be_bytes(number) != tree {
            return Err(StoreError::corrupt(WHAT, "a tree is missing"));
        }
        Ok(Self { from, left: 0, ended: false })
    }
}

impl<R: Read> Read for Unframed<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() || self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length);
            self.left = usize::try_from(length).map_err(io::Error::other)?;
            if self.left > FRAME_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
            }
            self.ended = self.left == 0;
            if self.ended {
                return Ok(0);
            }
        }
        let most = to.len().min(self.left);
        match self.from.read(&mut to[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.left -= count;
                Ok(count)
            }
        }
    }
}

/// A payload that is understood, written again: the manifest's, the end's or a note's.
#[cfg(fuzzing)]
pub(crate) fn again(part: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    fn one<R: Record>(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields(bytes);
        let found = R::get(R::VERSION, &mut fields)?;
        fields.end()?;
        let mut out = Vec::new();
        found.put(&mut out);
        Some(out)
    }
    match part % 3 {
        0 => one::<Manifest>(bytes),
        1 => one::<End>(bytes),
        _ => super::note::Note::decode(bytes).map(|note| note.encode()),
    }
}

/// What the frames of a tree hold, when it ends as it should.
#[cfg(fuzzing)]
pub(crate) fn unframed(tree: u32, mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Unframed::begin(tree, &mut bytes).ok()?.read_to_end(&mut out).ok().map(|_| out)
}
