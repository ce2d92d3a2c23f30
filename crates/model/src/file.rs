//! What protocols need to know of files: the trait [`FileStore`] and its values.
//!
//! Invariant: no word of NFS. Errors, times and kinds are those of any POSIX file system; `nfs`
//! translates them, once for each version of the protocol.

use bytes::Bytes;

/// A file within its file system, for as long as the file lives: through renames, restarts and a
/// move of the whole file system to another machine. Never holds a device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId {
    /// 0 is the living tree; snapshots that are browsed have trees of their own.
    pub tree: u32,
    /// Unique among the living files of its tree.
    pub inode: u64,
    /// Tells a file from an earlier one of the same inode number.
    pub generation: u64,
}

/// As whom an operation acts: after squashing, so what is here is to be believed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub gids: Vec<u32>,
}

/// A point in time, since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    /// Major and minor number.
    BlockDevice(u32, u32),
    /// Major and minor number.
    CharacterDevice(u32, u32),
    Socket,
    Fifo,
}

/// All that is known of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attributes {
    pub file: FileId,
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: 0o7777 at most.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size_bytes: u64,
    pub used_bytes: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    /// Differs after every change of data or attributes (RFC 8881 5.8.1.4).
    pub change: u64,
}

/// What a reply says about a file before an operation changed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Before {
    pub size_bytes: u64,
    pub modified: Time,
    pub changed: Time,
    pub change: u64,
}

impl Attributes {
    #[must_use]
    pub fn before(&self) -> Before {
        let Self { size_bytes, modified, changed, change, .. } = *self;
        Before { size_bytes, modified, changed, change }
    }
}

/// A file or directory before and after one operation. With both from the same moment nothing of
/// another's change is hidden between them: weak cache consistency (RFC 1813 2.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    pub before: Before,
    pub after: Attributes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The store's own clock.
    Now,
    To(Time),
}

/// What to set; `None` leaves a thing as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size_bytes: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
}

/// What somebody may do: bits as in both protocols (RFC 1813 3.3.4, RFC 8881 18.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access(pub u32);

impl Access {
    pub const READ: Self = Self(0x01);
    pub const LOOKUP: Self = Self(0x02);
    pub const MODIFY: Self = Self(0x04);
    pub const EXTEND: Self = Self(0x08);
    pub const DELETE: Self = Self(0x10);
    pub const EXECUTE: Self = Self(0x20);
    pub const ALL: Self = Self(0x3f);

    #[must_use]
    pub fn has(self, all_of: Self) -> bool {
        self.0 & all_of.0 == all_of.0
    }
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// How durable a write has to be when it is answered (RFC 1813 3.3.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stability {
    /// May be lost until it is committed.
    Unstable,
    /// The data, and what is needed to read it.
    Data,
    /// The data and all attributes.
    File,
}

/// How a file is made, by what happens when the name is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Creation {
    /// An existing regular file is opened; of the attributes only a size of 0 is set on it.
    Unchecked(SetAttributes),
    /// An existing name is an error.
    Guarded(SetAttributes),
    /// The verifier is stored durably with the file. An existing file that was made with the same
    /// one, and not written since, is the file that an earlier, lost reply had made.
    Exclusive([u8; 8], SetAttributes),
}

/// What is made besides regular files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum New {
    Directory,
    Symlink(Bytes),
    /// Devices, sockets and pipes.
    Special(FileKind),
}

/// A file that was made or found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    pub attributes: Attributes,
    /// False when [`Creation`] found it there.
    pub is_new: bool,
    pub directory: Changed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadData {
    pub data: Bytes,
    /// The data reaches the end of the file.
    pub end: bool,
    pub attributes: Attributes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// May be fewer than given.
    pub bytes: u32,
    /// At least what was asked for.
    pub stability: Stability,
    pub file: Changed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub name: Bytes,
    /// Where the listing goes on behind this entry; 3 or more.
    pub cookie: u64,
    pub file: FileId,
    /// None when they were not asked for, or the file is gone by now.
    pub attributes: Option<Attributes>,
}

/// A piece of a directory. "." and ".." are never in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Nothing follows.
    pub end: bool,
}

/// Bounds of a file system (RFC 1813 3.3.19, 3.3.20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub read_bytes_max: u32,
    pub write_bytes_max: u32,
    pub file_bytes_max: u64,
    pub links_max: u32,
    pub name_bytes_max: u32,
    /// The step of file times.
    pub time_step_nanos: u32,
    /// [`FileStore::clone_range`] is there.
    pub clones: bool,
    /// Files have extended attributes.
    pub xattrs: bool,
}

/// Room in a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Free to the caller, who may be under a quota.
    pub available_bytes: u64,
    pub total_files: u64,
    pub free_files: u64,
    pub available_files: u64,
}

/// What [`FileStore::seek`] looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    Data,
    Hole,
}

/// A stretch of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub offset: u64,
    pub bytes: u64,
}

/// What [`FileStore::remove`] may take away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// Anything but a directory.
    File,
    Directory,
    /// Either.
    Any,
}

/// Whether an extended attribute has to be there before it is set (RFC 8276 8.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttributeIs {
    Either,
    New,
    There,
}

/// Whom an entry of an access control list speaks of (POSIX.1e draft 17, 23.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclWho {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// The most that anybody gets but the owner and others.
    Mask,
    Others,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    pub who: AclWho,
    /// Bits of rwx: 7 at most.
    pub may: u16,
}

/// An access control list as POSIX file systems have it, in the order that it is stored in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acl(pub Vec<AclEntry>);

impl Acl {
    fn may(&self, who: AclWho) -> Option<u16> {
        self.0.iter().find(|entry| entry.who == who).map(|entry| entry.may)
    }
    /// Whether it says nothing but what a mode says.
    #[must_use]
    pub fn is_a_mode(&self) -> bool {
        let plain = |who| matches!(who, AclWho::Owner | AclWho::OwningGroup | AclWho::Others);
        self.0.iter().all(|entry| plain(entry.who))
    }
    /// The permission bits of a file that has it. The mask, where there is one, stands in the place
    /// of the owning group.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let group = self.may(AclWho::Mask).or(self.may(AclWho::OwningGroup));
        self.bits(group.unwrap_or(0), self.may(AclWho::Others).unwrap_or(0))
    }
    /// The permission bits of a file that has lost it: nobody may more than with it. A named user
    /// may be in the owning group or one of the others then, and a member of a named group one of
    /// the others.
    #[must_use]
    pub fn mode_without(&self) -> u32 {
        let mask = self.may(AclWho::Mask).unwrap_or(0o7);
        let least = |is_meant: fn(AclWho) -> bool| {
            let named = self.0.iter().filter(|entry| is_meant(entry.who));
            named.fold(0o7, |least, entry| least & entry.may & mask)
        };
        let users = least(|who| matches!(who, AclWho::User(_)));
        let groups = least(|who| matches!(who, AclWho::Group(_)));
        let group = self.may(AclWho::OwningGroup).unwrap_or(0) & mask & users;
        let others = self.may(AclWho::Others).unwrap_or(0) & users & groups;
        self.bits(group, others)
    }
    fn bits(&self, group: u16, others: u16) -> u32 {
        (self.may(AclWho::Owner).unwrap_or(0) << 6 | group << 3 | others).into()
    }
}

/// Which of a file's lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclKind {
    /// Says who may use the file.
    Access,
    /// Of a directory: what is made in it begins with this one.
    Default,
}

/// What becomes of access control lists that are in an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acls {
    /// One that cannot be kept is an error.
    Keep,
    /// Modes become such that nobody may more than with the list.
    Drop,
}

/// Why an operation on files failed. Every variant is one `errno`, or a finding of the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum FileError {
    #[error("only the owner or root may do this")]
    NotOwner,
    #[error("there is no such file")]
    NotFound,
    #[error("the storage failed")]
    Io,
    #[error("there is no such device, or nothing at that place")]
    NoDevice,
    #[error("permission is denied")]
    Access,
    #[error("the name is taken")]
    Exists,
    #[error("the files lie in different file systems")]
    CrossDevice,
    #[error("this is no directory")]
    NotDirectory,
    #[error("this is a directory")]
    IsDirectory,
    #[error("this is a symbolic link")]
    IsSymlink,
    #[error("this is not a regular file")]
    WrongKind,
    #[error("an argument makes no sense")]
    Invalid,
    #[error("the file would be larger than a file can be")]
    TooLarge,
    #[error("there is no room left")]
    NoSpace,
    #[error("the quota is used up")]
    Quota,
    #[error("this is read-only")]
    ReadOnly,
    #[error("the file has all the links that it can have")]
    TooManyLinks,
    #[error("the name is too long")]
    NameTooLong,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("the file is gone")]
    Stale,
    #[error("the file is not as the caller last saw it")]
    NotSame,
    #[error("the file has no such extended attribute")]
    NoAttribute,
    #[error("the extended attributes would be larger than those of a file can be")]
    AttributeTooLarge,
    #[error("this cannot be done here")]
    NotSupported,
    #[error("this cannot be done just now")]
    Busy,
}

pub type FileResult<T> = Result<T, FileError>;

/// One file system: a tree of files under a root.
///
/// Synchronous: the caller runs an operation on a thread on which it may block, and gives the
/// identity that it acts under. A store over a real file system makes that identity the thread's
/// own, so that the kernel checks permissions; two rules are the store's besides: the owner may
/// read and write a file whatever its mode says, since NFS has no open file to remember that once
/// he could (RFC 1813 4.4), and whoever may execute a file may read it.
///
/// Every change is durable when it is answered, but a write of [`Stability::Unstable`]. Each
/// operation is atomic: it happens as if alone, and its `before` and `after` are of that moment.
/// A name is one to [`Limits::name_bytes_max`] bytes without '/' and NUL, and neither "." nor
/// "..": the callers see to that. No operation follows a symbolic link.
pub trait FileStore: 'static {
    fn root(&self) -> FileId;
    fn limits(&self) -> Limits;
    /// Changes whenever unstable writes may have been lost (RFC 1813 3.3.7).
    fn write_verifier(&self) -> [u8; 8];
    /// Changes when cookies of listings mean nothing any more: when the files have moved to another
    /// file system (RFC 1813 3.3.16, RFC 8881 18.23).
    fn cookie_verifier(&self) -> [u8; 8] {
        [0; 8]
    }
    fn space(&self, caller: &Caller) -> FileResult<Space>;
    fn attributes(&self, file: FileId) -> FileResult<Attributes>;
    /// With a guard, nothing is set unless the file's `changed` time is that one.
    fn set_attributes(
        &self,
        caller: &Caller,
        file: FileId,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed>;
    /// Which of the bits the caller has.
    fn access(&self, caller: &Caller, file: FileId, wanted: Access) -> FileResult<Access>;
    fn lookup(&self, caller: &Caller, directory: FileId, name: &[u8]) -> FileResult<Attributes>;
    /// The directory that holds this one; the root's is the root.
    fn parent(&self, caller: &Caller, directory: FileId) -> FileResult<FileId>;
    fn read_link(&self, caller: &Caller, link: FileId) -> FileResult<Bytes>;
    fn read(&self, caller: &Caller, file: FileId, offset: u64, bytes: u32) -> FileResult<ReadData>;
    /// To write nothing changes nothing, not even times.
    fn write(
        &self,
        caller: &Caller,
        file: FileId,
        offset: u64,
        data: &Bytes,
        stability: Stability,
    ) -> FileResult<Written>;
    /// Makes the range durable; 0 bytes mean to the end of the file.
    fn commit(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed>;
    fn create(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        how: &Creation,
    ) -> FileResult<Made>;
    fn make(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        new: &New,
        set: &SetAttributes,
    ) -> FileResult<Made>;
    /// Answers with the directory.
    fn remove(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        what: Removal,
    ) -> FileResult<Changed>;
    /// A target that exists is replaced: a directory by a directory when it is empty, a file by a
    /// file. Two names of one file are left as they are (RFC 1813 3.3.14).
    fn rename(
        &self,
        caller: &Caller,
        from: (FileId, &[u8]),
        to: (FileId, &[u8]),
    ) -> FileResult<(Changed, Changed)>;
    /// Answers with the file and the directory.
    fn link(
        &self,
        caller: &Caller,
        file: FileId,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<(Attributes, Changed)>;
    /// Entries behind a cookie, 0 for the beginning, as many as the store likes up to the limit
    /// but at least one. A cookie stays good through every change of the directory: an entry
    /// that is there all the time is seen exactly once. It is one of the same
    /// [`Self::cookie_verifier`].
    fn read_directory(
        &self,
        caller: &Caller,
        directory: FileId,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing>;
    /// Where the next data or hole begins at or behind the offset; the end of a file is a hole.
    /// [`FileError::NoDevice`] when the offset is not inside the file, or no data follows.
    fn seek(&self, caller: &Caller, file: FileId, offset: u64, what: Content) -> FileResult<u64>;
    /// Reserves room, and grows the file to the range's end.
    fn allocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed>;
    /// Gives room back; the range reads as zeros, the size stays.
    fn deallocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed>;
    /// Copies bytes, as many as it likes but at least one where there are any.
    fn copy(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<u64>;
    /// Shares the blocks of a range, all of it or nothing; 0 bytes mean to the end.
    fn clone_range(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<()>;

    /// The value of an extended attribute of a regular file or directory; [`FileError::WrongKind`]
    /// for others, here and below.
    ///
    /// Names are those of one namespace, that of users: one to [`Limits::name_bytes_max`] bytes
    /// without NUL.
    fn xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Bytes>;
    /// The names of all, in any order.
    fn xattrs(&self, caller: &Caller, file: FileId) -> FileResult<Vec<Bytes>>;
    /// Sets name and value. [`FileError::Exists`] or [`FileError::NoAttribute`] when it is not as
    /// `is` wants it.
    fn set_xattr(
        &self,
        caller: &Caller,
        file: FileId,
        attribute: (&[u8], &[u8]),
        is: AttributeIs,
    ) -> FileResult<Changed>;
    fn remove_xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Changed>;

    /// An access control list; `None` where the file has none besides its mode, or cannot have one.
    fn acl(&self, caller: &Caller, file: FileId, which: AclKind) -> FileResult<Option<Acl>>;
    /// Gives the file that list, or takes it away. [`FileError::NotSupported`] where it cannot have
    /// one: the file system keeps none, or it is a symbolic link. A list of access sets the
    /// permission bits, and a later change of these changes the list.
    fn set_acl(
        &self,
        caller: &Caller,
        file: FileId,
        which: AclKind,
        acl: Option<&Acl>,
    ) -> FileResult<()>;

    /// Somebody opens a regular file: until [`Self::let_go`] is called as often, it stays as it is
    /// when its last name goes, and survives a restart; only its `links` are 0, and it gets no name
    /// again. [`FileError::Stale`] when it is gone.
    fn hold(&self, file: FileId) -> FileResult<()>;
    /// One who held the file is done with it. After the last one a file without a name is gone.
    fn let_go(&self, file: FileId);
    /// Whether those who held files before a restart may come back and hold them again. While they
    /// may, every file is held; when they do no more, files without a name that nobody holds are
    /// gone. False from the start; to be said again changes nothing.
    fn await_holders(&self, may_come: bool);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_a_list_gives_nobody_more_than_it_did() {
        let list = |entries: &[(AclWho, u16)]| {
            Acl(entries.iter().map(|(who, may)| AclEntry { who: *who, may: *may }).collect())
        };
        let (owner, group, others) = (AclWho::Owner, AclWho::OwningGroup, AclWho::Others);
        let plain = list(&[(owner, 6), (group, 4), (others, 0)]);
        assert!(plain.is_a_mode());
        assert_eq!((plain.mode(), plain.mode_without()), (0o640, 0o640));
        let named = [(owner, 7), (AclWho::User(5), 7), (group, 4), (AclWho::Mask, 6), (others, 1)];
        let named = list(&named);
        assert!(!named.is_a_mode());
        assert_eq!((named.mode(), named.mode_without()), (0o761, 0o740));
        let masked = list(&[(owner, 7), (group, 7), (AclWho::Mask, 5), (others, 0)]);
        assert_eq!((masked.mode(), masked.mode_without()), (0o750, 0o750));
        // Whom the list forbids what others may is one of the others without it.
        let user = [(owner, 6), (AclWho::User(5), 0), (group, 4), (AclWho::Mask, 4), (others, 4)];
        assert_eq!(list(&user).mode_without(), 0o600);
        let one = [(owner, 6), (AclWho::Group(5), 0), (group, 4), (AclWho::Mask, 4), (others, 4)];
        assert_eq!(list(&one).mode_without(), 0o640);
        let less = [(owner, 6), (AclWho::User(5), 6), (group, 6), (AclWho::Mask, 4), (others, 6)];
        assert_eq!(list(&less).mode_without(), 0o644);
    }
}
