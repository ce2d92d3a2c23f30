//! The records of a file pool: what the pool is, what a volume is, and what a volume uses.
//!
//! A record is replaced as a whole: written beside, synced, renamed, and the directory synced. So
//! each change of a volume's structure happens at one moment or not at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::id::{PoolId, SnapshotId};
use model::pool::Driver;
use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use super::ids::IdKey;
use crate::error::StoreError;
use crate::fields::Fields;

const MAGIC: &[u8; 8] = b"CMHDFIL\n";
/// All that are read; each kind is written in its own.
pub(crate) const VERSIONS: [u16; 2] = [1, 2];
pub(super) const HEADER_BYTES: usize = 20;
/// A volume with twenty thousand snapshots of long names fits. Programs that write records of
/// version 1 wrote up to half of it.
pub(super) const RECORD_BYTES_MAX: usize = 8 << 20;
const RECORD: &str = "record";
const COUNT: &str = "count";

/// A snapshot of a file volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SnapshotRecord {
    pub(super) id: SnapshotId,
    pub(super) name: String,
    pub(super) tree: u32,
    /// Blocks that were written for it when it was made.
    pub(super) copied_bytes: u64,
    /// Its inodes are those of the tree that came here: it was made here of that one, on btrfs.
    pub(super) of_came: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct VolumeRecord {
    pub(super) size_bytes: u64,
    pub(super) relaxed: bool,
    pub(super) key: [u8; 16],
    /// Of the ids of roots, which others may know: it moves with the volume. Before version 2 they
    /// had the same key as all.
    pub(super) root_key: [u8; 16],
    /// The directory of the living tree.
    pub(super) living: u32,
    /// No tree had this number or a higher one.
    pub(super) next_tree: u32,
    /// Oldest first.
    pub(super) snapshots: Vec<SnapshotRecord>,
    /// What its files' handles are signed with; that of volumes from before version 2 is the node's.
    pub(super) secret: Option<[u8; 32]>,
    /// How often it has moved. Then it has a table of ids.
    pub(super) moves: u16,
    /// The living tree is the one that came here, or on btrfs a copy of it: the table speaks of it.
    pub(super) living_came: bool,
    /// What is added to times of change, so that they go on where they were.
    pub(super) later_nanos: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PoolRecord {
    pub(super) id: PoolId,
    pub(super) driver: Driver,
}

/// What a volume uses. Removed when it is not known: then it is at most the volume's size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CountRecord {
    /// The volume uses exactly that; else at most that.
    pub(super) exact: bool,
    /// Orderly stops since the volume was counted file by file.
    pub(super) carried: u16,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A record's kind is in its bytes, so that none is taken for the other.
pub(super) trait Record: Sized {
    const KIND: u16;
    /// As it is written; lower ones are read.
    const VERSION: u16 = 1;
    fn put(&self, out: &mut Vec<u8>);
    fn get(version: u16, fields: &mut Fields<'_>) -> Option<Self>;
}

/// One that a directory has.
pub(super) trait Kept: Record {
    /// Of its file.
    const NAME: &'static str;
}

impl Kept for PoolRecord {
    const NAME: &'static str = RECORD;
}

impl Kept for VolumeRecord {
    const NAME: &'static str = RECORD;
}

impl Kept for CountRecord {
    const NAME: &'static str = COUNT;
}

impl Record for PoolRecord {
    const KIND: u16 = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.0.as_bytes());
        let driver: u16 = match self.driver {
            Driver::Local => 0,
            Driver::Dir => 1,
            Driver::Btrfs => 2,
        };
        out.extend_from_slice(&driver.to_be_bytes());
    }
    fn get(_: u16, fields: &mut Fields<'_>) -> Option<Self> {
        let id = PoolId(fields.uuid()?);
        let driver = match fields.u16()? {
            1 => Driver::Dir,
            2 => Driver::Btrfs,
            _ => return None,
        };
        Some(Self { id, driver })
    }
}

impl Record for VolumeRecord {
    const KIND: u16 = 2;
    const VERSION: u16 = 2;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size_bytes.to_be_bytes());
        out.extend_from_slice(&u16::from(self.relaxed).to_be_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.living.to_be_bytes());
        out.extend_from_slice(&self.next_tree.to_be_bytes());
        let count = u32::try_from(self.snapshots.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for snapshot in &self.snapshots {
            out.extend_from_slice(snapshot.id.0.as_bytes());
            out.extend_from_slice(&snapshot.tree.to_be_bytes());
            out.extend_from_slice(&snapshot.copied_bytes.to_be_bytes());
            let bytes = u16::try_from(snapshot.name.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(snapshot.name.as_bytes());
            out.extend_from_slice(&u16::from(snapshot.of_came).to_be_bytes());
        }
        out.extend_from_slice(&u16::from(self.secret.is_some()).to_be_bytes());
        out.extend_from_slice(&self.secret.unwrap_or_default());
        out.extend_from_slice(&self.moves.to_be_bytes());
        out.extend_from_slice(&u16::from(self.living_came).to_be_bytes());
        out.extend_from_slice(&self.later_nanos.to_be_bytes());
        out.extend_from_slice(&self.root_key);
    }
    fn get(version: u16, fields: &mut Fields<'_>) -> Option<Self> {
        let size_bytes = fields.u64()?;
        let relaxed = fields.u16()? != 0;
        let key = fields.bytes(16)?.try_into().ok()?;
        let (living, next_tree) = (fields.u32()?, fields.u32()?);
        let mut snapshots = Vec::new();
        for _ in 0..fields.u32()? {
            let id: Uuid = fields.uuid()?;
            let (tree, copied_bytes) = (fields.u32()?, fields.u64()?);
            let bytes = usize::from(fields.u16()?);
            let name = String::from_utf8(fields.bytes(bytes)?.to_vec()).ok()?;
            let of_came = version > 1 && fields.u16()? != 0;
            let id = SnapshotId(id);
            snapshots.push(SnapshotRecord { id, name, tree, copied_bytes, of_came });
        }
        let before = Self {
            size_bytes,
            relaxed,
            key,
            root_key: key,
            living,
            next_tree,
            snapshots,
            secret: None,
            moves: 0,
            living_came: false,
            later_nanos: 0,
        };
        if version == 1 {
            return Some(before);
        }
        let has_secret = fields.u16()? != 0;
        let secret = fields.bytes(32)?.try_into().ok().filter(|_| has_secret);
        let (moves, living_came) = (fields.u16()?, fields.u16()? != 0);
        let later_nanos = fields.u64()?;
        let root_key = fields.bytes(16)?.try_into().ok()?;
        Some(Self { root_key, secret, moves, living_came, later_nanos, ..before })
    }
}

impl Record for CountRecord {
    const KIND: u16 = 3;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u16::from(self.exact).to_be_bytes());
        out.extend_from_slice(&self.carried.to_be_bytes());
        out.extend_from_slice(&self.files.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
    }
    fn get(_: u16, fields: &mut Fields<'_>) -> Option<Self> {
        let (exact, carried) = (fields.u16()? != 0, fields.u16()?);
        Some(Self { exact, carried, files: fields.u64()?, bytes: fields.u64()? })
    }
}

impl VolumeRecord {
    pub(super) fn id_key(&self) -> IdKey {
        IdKey { key: self.key, root_key: self.root_key, moves: self.moves }
    }
    /// For all snapshots together.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.copied_bytes).fold(0, u64::saturating_add)
    }
    /// Whether the record needs this tree.
    pub(super) fn names(&self, tree: u32) -> bool {
        tree == self.living || self.snapshots.iter().any(|snapshot| snapshot.tree == tree)
    }
}

/// The record's bytes.
pub(super) fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    record.put(&mut out);
    let bytes = u32::try_from(out.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    out[..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&R::VERSION.to_be_bytes());
    out[10..12].copy_from_slice(&R::KIND.to_be_bytes());
    out[12..16].copy_from_slice(&bytes.to_be_bytes());
    let crc = crc32c::crc32c(&out);
    out[16..20].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The same of one that is to be read again.
///
/// # Errors
/// `Refused` when it would be too long for that.
pub(super) fn encode_checked<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let bytes = encode(record);
    if bytes.len() <= RECORD_BYTES_MAX {
        return Ok(bytes);
    }
    let why = "its record would be too long: delete snapshots, or give them shorter names";
    Err(StoreError::refused(why))
}

/// # Errors
/// `Corrupt`, or `Format` when a newer version wrote it.
pub(super) fn decode<R: Record>(what: &str, bytes: &[u8]) -> Result<R, StoreError> {
    let corrupt = |why: &str| StoreError::corrupt(what, why);
    let (header, payload) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| corrupt("it is too short"))?;
    let mut fields = Fields(&header[8..]);
    let parse = |fields: &mut Fields<'_>| {
        Some((fields.u16()?, fields.u16()?, fields.u32()?, fields.u32()?))
    };
    let (version, kind, length, crc) =
        parse(&mut fields).ok_or_else(|| corrupt("it is too short"))?;
    if &header[..8] != MAGIC || payload.len() as u64 != u64::from(length) {
        return Err(corrupt("it is none of ours, or cut"));
    }
    let mut without = bytes.to_vec();
    without[16..20].fill(0);
    if crc32c::crc32c(&without) != crc {
        return Err(corrupt("its checksum is wrong"));
    }
    if !(1..=R::VERSION).contains(&version) || kind != R::KIND {
        let why = format!("version {version}, kind {kind}");
        return Err(StoreError::Format { what: what.to_owned(), why });
    }
    let mut fields = Fields(payload);
    let record = R::get(version, &mut fields).ok_or_else(|| corrupt("a field makes no sense"))?;
    fields.end().ok_or_else(|| corrupt("something follows it"))?;
    Ok(record)
}

/// An error of the kernel at a record or directory of ours.
pub(super) fn failed(what: &str, errno: Errno) -> StoreError {
    StoreError::from_io(what, 0, errno.into())
}

/// Makes a record the directory's, durably.
///
/// # Errors
/// `NoSpace`, `Io`: either the old or the new record is there. `Refused`.
pub(super) fn write<R: Kept>(directory: BorrowedFd<'_>, record: &R) -> Result<(), StoreError> {
    write_aside(directory, R::NAME, &encode_checked(record)?)
        .and_then(|file| fsync(&file))
        .and_then(|()| put_in_place(directory, R::NAME))
        .and_then(|()| fsync(directory))
        .map_err(|errno| failed("write a record", errno))
}

/// Makes a record that of a directory which counts for nothing before its file system is synced.
///
/// # Errors
/// `NoSpace`, `Io`, `Refused`.
pub(super) fn place<R: Kept>(directory: BorrowedFd<'_>, record: &R) -> Result<(), StoreError> {
    write_aside(directory, R::NAME, &encode_checked(record)?)
        .and_then(|_| put_in_place(directory, R::NAME))
        .map_err(|errno| failed("write a record", errno))
}

/// Removes a record, durably.
pub(super) fn remove<R: Kept>(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    match unlinkat(directory, R::NAME, AtFlags::empty()) {
        Ok(()) => fsync(directory),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn aside(name: &str) -> String {
    format!("{name}.tmp")
}

fn write_aside(directory: BorrowedFd<'_>, name: &str, mut bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(directory, aside(name), flags, Mode::RUSR | Mode::WUSR)?;
    while !bytes.is_empty() {
        let written = rustix::io::write(&file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(file)
}

fn put_in_place(directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    renameat(directory, aside(name), directory, name)
}

/// The directory's record; `None` when it has none. What a killed process wrote may be in the page
/// cache only: who opens the pool syncs it before.
///
/// # Errors
/// `Corrupt`, `Format`, `Io`.
pub(super) fn read<R: Kept>(
    directory: BorrowedFd<'_>,
    what: &str,
) -> Result<Option<R>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match openat(directory, R::NAME, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(what, errno)),
    };
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len() as u64;
        bytes.reserve(4096);
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        let read = rustix::io::pread(file.as_fd(), spare, at).map_err(|e| failed(what, e))?;
        if read == 0 {
            return decode(what, &bytes).map(Some);
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(StoreError::corrupt(what, "it is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> VolumeRecord {
        let snapshot = |n: u8| SnapshotRecord {
            id: SnapshotId(Uuid::from_bytes([n; 16])),
            name: format!("before-{n}"),
            tree: n.into(),
            copied_bytes: 4096,
            of_came: n == 3,
        };
        VolumeRecord {
            size_bytes: 1 << 30,
            relaxed: true,
            key: [9; 16],
            root_key: [7; 16],
            living: 1,
            next_tree: 7,
            snapshots: vec![snapshot(2), snapshot(3)],
            secret: Some([8; 32]),
            moves: 3,
            living_came: true,
            later_nanos: 5,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let bytes = encode(&record());
        assert_eq!(decode::<VolumeRecord>("it", &bytes).unwrap(), record());
        let pool = PoolRecord { id: PoolId(Uuid::from_bytes([4; 16])), driver: Driver::Btrfs };
        assert_eq!(decode::<PoolRecord>("it", &encode(&pool)).unwrap(), pool);
        let count = CountRecord { exact: true, carried: 7, files: 5, bytes: 1 << 40 };
        assert_eq!(decode::<CountRecord>("it", &encode(&count)).unwrap(), count);
        let confused = decode::<PoolRecord>("it", &bytes);
        assert!(matches!(confused, Err(StoreError::Format { .. })));
    }

    #[test]
    fn a_record_that_nobody_could_read_again_was_written() {
        let home = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(home.path()).unwrap();
        write(directory.as_fd(), &record()).unwrap();
        let one = SnapshotRecord { name: "n".repeat(255), ..record().snapshots.remove(0) };
        let with = |count| VolumeRecord { snapshots: vec![one.clone(); count], ..record() };
        let refused = write(directory.as_fd(), &with(30_000));
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
        assert_eq!(read::<VolumeRecord>(directory.as_fd(), "it").unwrap(), Some(record()));
        write(directory.as_fd(), &with(20_000)).unwrap();
        assert_eq!(read::<VolumeRecord>(directory.as_fd(), "it").unwrap(), Some(with(20_000)));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let bytes = encode(&record());
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<VolumeRecord>("it", &wrong).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode::<VolumeRecord>("it", &bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
