//! The operations of a COMPOUND as a client writes them, and their results as it reads them
//! (RFC 8881 18). They are written down apart from those of the server, so that one reading of
//! the standard checks the other.

use bytes::Bytes;
use nfs::v4::Status;
use nfs::v4::types::{Bitmap, ChangeInfo, ClientId, Fattr, LockType, Stateid};
use nfs::xdr::{Reader, Writer, Xdr};

use super::FilesError;

/// The share access that asks for no delegation (RFC 8881 18.16.1).
const WANT_NO_DELEGATION: u32 = 0x0400;
const SIZE: u32 = 4;
const MODE: u32 = 33;

/// Numbers of the operations (RFC 8881 18).
pub(super) mod code {
    pub(in super::super) const ACCESS: u32 = 3;
    pub(in super::super) const CLOSE: u32 = 4;
    pub(in super::super) const COMMIT: u32 = 5;
    pub(in super::super) const CREATE: u32 = 6;
    pub(in super::super) const GETATTR: u32 = 9;
    pub(in super::super) const GETFH: u32 = 10;
    pub(in super::super) const LINK: u32 = 11;
    pub(in super::super) const LOCK: u32 = 12;
    pub(in super::super) const LOCKU: u32 = 14;
    pub(in super::super) const LOOKUP: u32 = 15;
    pub(in super::super) const LOOKUPP: u32 = 16;
    pub(in super::super) const OPEN: u32 = 18;
    pub(in super::super) const PUTFH: u32 = 22;
    pub(in super::super) const PUTROOTFH: u32 = 24;
    pub(in super::super) const READ: u32 = 25;
    pub(in super::super) const READDIR: u32 = 26;
    pub(in super::super) const READLINK: u32 = 27;
    pub(in super::super) const REMOVE: u32 = 28;
    pub(in super::super) const RENAME: u32 = 29;
    pub(in super::super) const SAVEFH: u32 = 32;
    pub(in super::super) const SETATTR: u32 = 34;
    pub(in super::super) const WRITE: u32 = 38;
    pub(in super::super) const EXCHANGE_ID: u32 = 42;
    pub(in super::super) const CREATE_SESSION: u32 = 43;
    pub(in super::super) const DESTROY_SESSION: u32 = 44;
    pub(in super::super) const SEQUENCE: u32 = 53;
    pub(in super::super) const DESTROY_CLIENTID: u32 = 57;
    pub(in super::super) const RECLAIM_COMPLETE: u32 = 58;
}

/// How durable a write is to be when it is answered (`stable_how4`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stable {
    Unstable,
    Data,
    File,
}

/// What an OPEN does when the file is not there, or is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// It must be there.
    Existing,
    /// It is made with this mode, unless it is there.
    OrCreate(u32),
    /// It is made with this mode, and must not be there (GUARDED4).
    New(u32),
}

/// Who opens or locks: the client that the session belongs to, and a name of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub client: ClientId,
    pub name: Bytes,
}

impl Owner {
    fn write(&self, writer: &mut Writer) {
        writer.put(&self.client);
        writer.opaque(&self.name);
    }
}

/// The operations of one request, one after another; SEQUENCE is put before them.
#[derive(Debug, Default)]
pub struct Compound {
    writer: Writer,
    count: u32,
}

impl Compound {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// How many operations there are, and their bytes.
    pub(super) fn into_parts(self) -> (u32, Writer) {
        (self.count, self.writer)
    }
    pub(super) fn append(&mut self, more: Self) {
        self.writer.append(more.writer);
        self.count += more.count;
    }
    pub(super) fn step(mut self, code: u32, arguments: impl FnOnce(&mut Writer)) -> Self {
        self.writer.u32(code);
        arguments(&mut self.writer);
        self.count += 1;
        self
    }

    #[must_use]
    pub fn root(self) -> Self {
        self.step(code::PUTROOTFH, |_| {})
    }
    #[must_use]
    pub fn file(self, handle: &Bytes) -> Self {
        self.step(code::PUTFH, |to| to.opaque(handle))
    }
    #[must_use]
    pub fn save(self) -> Self {
        self.step(code::SAVEFH, |_| {})
    }
    #[must_use]
    pub fn lookup(self, name: &[u8]) -> Self {
        self.step(code::LOOKUP, |to| to.opaque(name))
    }
    #[must_use]
    pub fn parent(self) -> Self {
        self.step(code::LOOKUPP, |_| {})
    }
    #[must_use]
    pub fn handle(self) -> Self {
        self.step(code::GETFH, |_| {})
    }
    #[must_use]
    pub fn attributes(self, numbers: &[u32]) -> Self {
        self.step(code::GETATTR, |to| to.put(&Bitmap::of(numbers.iter().copied())))
    }
    #[must_use]
    pub fn access(self, wanted: u32) -> Self {
        self.step(code::ACCESS, |to| to.u32(wanted))
    }
    /// SETATTR of the size.
    #[must_use]
    pub fn resize(self, stateid: &Stateid, bytes: u64) -> Self {
        self.step(code::SETATTR, |to| {
            to.put(stateid);
            let values = Bytes::copy_from_slice(&bytes.to_be_bytes());
            to.put(&Fattr { which: Bitmap::of([SIZE]), values });
        })
    }
    /// OPEN by name in the current directory, to read and write, denying nothing.
    #[must_use]
    pub fn open(self, owner: &Owner, name: &[u8], how: Opening) -> Self {
        self.step(code::OPEN, |to| {
            // Sequence of NFSv4.0; access to read and write; deny none.
            for number in [0, 3 | WANT_NO_DELEGATION, 0] {
                to.u32(number);
            }
            owner.write(to);
            let (create, unchecked_or_guarded) = match how {
                Opening::Existing => (None, 0),
                Opening::OrCreate(mode) => (Some(mode), 0),
                Opening::New(mode) => (Some(mode), 1),
            };
            to.u32(u32::from(create.is_some()));
            if let Some(mode) = create {
                to.u32(unchecked_or_guarded);
                to.put(&mode_of(mode));
            }
            // CLAIM_NULL.
            to.u32(0);
            to.opaque(name);
        })
    }
    /// OPEN of the current file as it was open before the server restarted (CLAIM_PREVIOUS).
    #[must_use]
    pub fn reclaim_open(self, owner: &Owner) -> Self {
        self.step(code::OPEN, |to| {
            for number in [0, 3 | WANT_NO_DELEGATION, 0] {
                to.u32(number);
            }
            owner.write(to);
            // No creation; CLAIM_PREVIOUS; no delegation.
            for number in [0, 1, 0] {
                to.u32(number);
            }
        })
    }
    /// RECLAIM_COMPLETE, for all file systems.
    #[must_use]
    pub fn reclaim_complete() -> Self {
        Self::new().step(code::RECLAIM_COMPLETE, |to| to.put(&false))
    }
    #[must_use]
    pub fn close(self, stateid: &Stateid) -> Self {
        self.step(code::CLOSE, |to| {
            to.u32(0);
            to.put(stateid);
        })
    }
    #[must_use]
    pub fn read(self, stateid: &Stateid, offset: u64, count: u32) -> Self {
        self.step(code::READ, |to| {
            to.put(stateid);
            to.u64(offset);
            to.u32(count);
        })
    }
    #[must_use]
    pub fn write(self, stateid: &Stateid, offset: u64, stable: Stable, data: &Bytes) -> Self {
        self.step(code::WRITE, |to| {
            to.put(stateid);
            to.u64(offset);
            to.u32(stable as u32);
            to.payload(data);
        })
    }
    /// COMMIT of so many bytes; 0 reaches to the end.
    #[must_use]
    pub fn commit(self, offset: u64, count: u32) -> Self {
        self.step(code::COMMIT, |to| {
            to.u64(offset);
            to.u32(count);
        })
    }
    #[must_use]
    pub fn create_directory(self, name: &[u8], mode: u32) -> Self {
        self.step(code::CREATE, |to| {
            to.u32(2);
            to.opaque(name);
            to.put(&mode_of(mode));
        })
    }
    #[must_use]
    pub fn create_symlink(self, name: &[u8], target: &[u8]) -> Self {
        self.step(code::CREATE, |to| {
            to.u32(5);
            to.opaque(target);
            to.opaque(name);
            to.put(&mode_of(0o777));
        })
    }
    #[must_use]
    pub fn readlink(self) -> Self {
        self.step(code::READLINK, |_| {})
    }
    #[must_use]
    pub fn remove(self, name: &[u8]) -> Self {
        self.step(code::REMOVE, |to| to.opaque(name))
    }
    /// RENAME from the saved directory to the current one.
    #[must_use]
    pub fn rename(self, old: &[u8], new: &[u8]) -> Self {
        self.step(code::RENAME, |to| {
            to.opaque(old);
            to.opaque(new);
        })
    }
    /// LINK of the saved file into the current directory.
    #[must_use]
    pub fn link(self, name: &[u8]) -> Self {
        self.step(code::LINK, |to| to.opaque(name))
    }
    #[must_use]
    pub fn readdir(self, cookie: u64, verifier: [u8; 8], bytes_max: u32) -> Self {
        self.step(code::READDIR, |to| {
            to.u64(cookie);
            to.fixed(&verifier);
            to.u32(bytes_max);
            to.u32(bytes_max);
            to.put(&Bitmap::default());
        })
    }
    /// LOCK by an owner that has no lock in this file yet.
    #[must_use]
    pub fn lock(self, range: &LockRange, open: &Stateid, owner: &Owner) -> Self {
        self.step(code::LOCK, |to| {
            range.write(to);
            // A new owner; sequences are of NFSv4.0.
            to.put(&true);
            to.u32(0);
            to.put(open);
            to.u32(0);
            owner.write(to);
        })
    }
    /// LOCK by the owner of this lock stateid.
    #[must_use]
    pub fn lock_more(self, range: &LockRange, lock: &Stateid) -> Self {
        self.step(code::LOCK, |to| {
            range.write(to);
            to.put(&false);
            to.put(lock);
            to.u32(0);
        })
    }
    #[must_use]
    pub fn unlock(self, range: &LockRange, lock: &Stateid) -> Self {
        self.step(code::LOCKU, |to| {
            to.put(&range.kind);
            to.u32(0);
            to.put(lock);
            to.u64(range.offset);
            to.u64(range.bytes);
        })
    }
}

/// The bytes that a lock is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockRange {
    pub kind: LockType,
    /// Held before the server restarted.
    pub reclaim: bool,
    pub offset: u64,
    /// All ones reach to the end, whatever it will be.
    pub bytes: u64,
}

impl LockRange {
    fn write(&self, to: &mut Writer) {
        to.put(&self.kind);
        to.put(&self.reclaim);
        to.u64(self.offset);
        to.u64(self.bytes);
    }
}

fn mode_of(mode: u32) -> Fattr {
    let values = Bytes::copy_from_slice(&mode.to_be_bytes());
    Fattr { which: Bitmap::of([MODE]), values }
}

/// The results of a COMPOUND, to be taken in the order of its operations.
#[derive(Debug)]
pub struct Results {
    pub(super) status: Status,
    pub(super) reader: Reader,
}

impl Results {
    /// The status of the last operation, the one that failed if any did.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }
    /// Takes the status of an operation.
    ///
    /// # Errors
    /// [`FilesError::Status`] when it failed, [`FilesError::Short`] when it is not there.
    pub(super) fn expect(&mut self, code: u32) -> Result<(), FilesError> {
        let found = self.reader.u32()?;
        let status = Status::read(&mut self.reader)?;
        if found != code {
            return Err(FilesError::Unexpected { wanted: code, found });
        }
        match status {
            Status::Ok => Ok(()),
            status => Err(FilesError::Status { operation: code, status }),
        }
    }
    /// Skips operations that say nothing but that they succeeded.
    pub(super) fn skip(&mut self, codes: &[u32]) -> Result<(), FilesError> {
        codes.iter().try_for_each(|code| self.expect(*code))
    }
    pub(super) fn value<T: Xdr>(&mut self, code: u32) -> Result<T, FilesError> {
        self.expect(code)?;
        Ok(T::read(&mut self.reader)?)
    }
    /// PUTROOTFH, PUTFH, LOOKUP, LOOKUPP, SAVEFH: whatever it was that moved to the file.
    ///
    /// # Errors
    /// One of so many operations failed.
    pub fn moved(&mut self, operations: usize) -> Result<&mut Self, FilesError> {
        for _ in 0..operations {
            let operation = self.reader.u32()?;
            let status = Status::read(&mut self.reader)?;
            if status != Status::Ok {
                return Err(FilesError::Status { operation, status });
            }
        }
        Ok(self)
    }
    /// GETFH.
    ///
    /// # Errors
    /// It failed.
    pub fn handle(&mut self) -> Result<Bytes, FilesError> {
        self.value(code::GETFH)
    }
    /// GETATTR: the values, one after another.
    ///
    /// # Errors
    /// It failed.
    pub fn attributes(&mut self) -> Result<Reader, FilesError> {
        let found: Fattr = self.value(code::GETATTR)?;
        Ok(Reader::new(found.values))
    }
    /// OPEN: the stateid.
    ///
    /// # Errors
    /// It failed.
    pub fn open(&mut self) -> Result<Stateid, FilesError> {
        let stateid = self.value(code::OPEN)?;
        let reader = &mut self.reader;
        // What changed in the directory, flags, what was set.
        <(ChangeInfo, (u32, Bitmap))>::read(reader)?;
        // OPEN_DELEGATE_NONE, or with a reason: contention and resource carry one more word.
        if reader.u32()? == 3 && matches!(reader.u32()?, 1 | 2) {
            reader.u32()?;
        }
        Ok(stateid)
    }
    /// CLOSE, LOCK, LOCKU: the stateid.
    ///
    /// # Errors
    /// It failed.
    pub fn stateid(&mut self, of: StateidOf) -> Result<Stateid, FilesError> {
        self.value(match of {
            StateidOf::Close => code::CLOSE,
            StateidOf::Lock => code::LOCK,
            StateidOf::Unlock => code::LOCKU,
        })
    }
    /// READ: the data, and whether they reach the end.
    ///
    /// # Errors
    /// It failed.
    pub fn read(&mut self) -> Result<(bool, Bytes), FilesError> {
        self.value(code::READ)
    }
    /// WRITE: bytes, how durable (`stable_how4`), verifier.
    ///
    /// # Errors
    /// It failed.
    pub fn written(&mut self) -> Result<(u32, u32, [u8; 8]), FilesError> {
        self.expect(code::WRITE)?;
        let reader = &mut self.reader;
        Ok((reader.u32()?, reader.u32()?, Xdr::read(reader)?))
    }
    /// COMMIT: the verifier.
    ///
    /// # Errors
    /// It failed.
    pub fn committed(&mut self) -> Result<[u8; 8], FilesError> {
        self.value(code::COMMIT)
    }
    /// READLINK.
    ///
    /// # Errors
    /// It failed.
    pub fn link_target(&mut self) -> Result<Bytes, FilesError> {
        self.value(code::READLINK)
    }
    /// READDIR without attributes.
    ///
    /// # Errors
    /// It failed.
    pub fn names(&mut self) -> Result<Names, FilesError> {
        let (verifier, mut names) = (self.value(code::READDIR)?, Vec::new());
        while bool::read(&mut self.reader)? {
            let (cookie, name) = (self.reader.u64()?, Bytes::read(&mut self.reader)?);
            Fattr::read(&mut self.reader)?;
            names.push((cookie, name));
        }
        Ok(Names { verifier, names, end: bool::read(&mut self.reader)? })
    }
}

/// A piece of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    pub verifier: [u8; 8],
    /// Each with the cookie that leads behind it.
    pub names: Vec<(u64, Bytes)>,
    pub end: bool,
}

/// Operations that answer with a stateid alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateidOf {
    Close,
    Lock,
    Unlock,
}
