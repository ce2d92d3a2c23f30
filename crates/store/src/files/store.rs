//! The volume as protocols see it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::file::{
    Access, Acl, AclKind, AttributeIs, Attributes, Caller, Changed, Content, Creation, FileId,
    FileResult, FileStore, Limits, Listing, Made, New, Range, ReadData, Removal, SetAttributes,
    Space, Stability, Time, Written,
};

use super::FileVolume;
use super::data::IO_BYTES_MAX;
use super::errno::refused;
use super::ids::LIVING;
use super::usage::FILE_BYTES;
use super::volume::NAME_BYTES_MAX;

/// What ext4 can; the others can more.
const LINKS_MAX: u32 = 65_000;

impl FileStore for FileVolume {
    fn root(&self) -> FileId {
        self.0.ids.root(LIVING)
    }
    fn limits(&self) -> Limits {
        Limits {
            read_bytes_max: IO_BYTES_MAX,
            write_bytes_max: IO_BYTES_MAX,
            file_bytes_max: self.0.pool.file_bytes_max,
            links_max: LINKS_MAX,
            name_bytes_max: u32::try_from(NAME_BYTES_MAX).unwrap_or(u32::MAX),
            time_step_nanos: 1,
            clones: self.0.pool.clones,
            xattrs: true,
        }
    }
    fn write_verifier(&self) -> [u8; 8] {
        self.0.verifier.load(Ordering::Relaxed).to_be_bytes()
    }
    /// Cookies are the file system's own: those of the one before mean nothing here.
    fn cookie_verifier(&self) -> [u8; 8] {
        u64::from(self.0.ids.key.moves).to_be_bytes()
    }
    /// As if the volume were a file system of its size, within what its file system has.
    fn space(&self, _: &Caller) -> FileResult<Space> {
        let usage = &self.0.usage;
        let below = rustix::fs::fstatvfs(&self.0.home).map_err(refused)?;
        let free_bytes = usage.free().min(self.0.pool.room.left().map_err(refused)?);
        // btrfs has no limit of inodes, and says 0.
        let inodes = if below.f_files == 0 { u64::MAX } else { below.f_favail };
        let free_files = (usage.free() / FILE_BYTES).min(inodes);
        Ok(Space {
            total_bytes: usage.limit(),
            free_bytes,
            available_bytes: free_bytes,
            total_files: usage.files().saturating_add(free_files),
            free_files,
            available_files: free_files,
        })
    }
    fn attributes(&self, file: FileId) -> FileResult<Attributes> {
        self.0.attributes(file)
    }
    fn set_attributes(
        &self,
        caller: &Caller,
        file: FileId,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed> {
        self.0.set_attributes(caller, file, set, guard)
    }
    fn access(&self, caller: &Caller, file: FileId, wanted: Access) -> FileResult<Access> {
        self.0.access(caller, file, wanted)
    }
    fn lookup(&self, caller: &Caller, directory: FileId, name: &[u8]) -> FileResult<Attributes> {
        self.0.lookup(caller, directory, name)
    }
    fn parent(&self, caller: &Caller, directory: FileId) -> FileResult<FileId> {
        self.0.parent(caller, directory)
    }
    fn read_link(&self, _: &Caller, link: FileId) -> FileResult<Bytes> {
        self.0.read_link(link)
    }
    fn read(&self, caller: &Caller, file: FileId, offset: u64, bytes: u32) -> FileResult<ReadData> {
        self.0.read(caller, file, offset, bytes)
    }
    fn write(
        &self,
        caller: &Caller,
        file: FileId,
        offset: u64,
        data: &Bytes,
        stability: Stability,
    ) -> FileResult<Written> {
        self.0.write(caller, file, offset, data, stability)
    }
    fn commit(&self, _: &Caller, file: FileId, _: Range) -> FileResult<Changed> {
        self.0.commit(file)
    }
    fn create(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        how: &Creation,
    ) -> FileResult<Made> {
        self.0.create(caller, directory, name, how)
    }
    fn make(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        new: &New,
        set: &SetAttributes,
    ) -> FileResult<Made> {
        self.0.make(caller, directory, name, new, set)
    }
    fn remove(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        what: Removal,
    ) -> FileResult<Changed> {
        self.0.remove(caller, directory, name, what)
    }
    fn rename(
        &self,
        caller: &Caller,
        from: (FileId, &[u8]),
        to: (FileId, &[u8]),
    ) -> FileResult<(Changed, Changed)> {
        self.0.rename(caller, from, to)
    }
    fn link(
        &self,
        caller: &Caller,
        file: FileId,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<(Attributes, Changed)> {
        self.0.link(caller, file, directory, name)
    }
    fn read_directory(
        &self,
        caller: &Caller,
        directory: FileId,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        self.0.list(caller, directory, after, entries_max, with_attributes)
    }
    fn seek(&self, caller: &Caller, file: FileId, offset: u64, what: Content) -> FileResult<u64> {
        self.0.seek(caller, file, offset, what)
    }
    fn allocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed> {
        self.0.allocate(caller, file, range)
    }
    fn deallocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed> {
        self.0.deallocate(caller, file, range)
    }
    fn copy(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<u64> {
        self.0.copy(caller, from, to, bytes)
    }
    fn clone_range(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<()> {
        self.0.clone_range(caller, from, to, bytes)
    }
    fn xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Bytes> {
        self.0.xattr(caller, file, name)
    }
    fn xattrs(&self, caller: &Caller, file: FileId) -> FileResult<Vec<Bytes>> {
        self.0.xattrs(caller, file)
    }
    fn set_xattr(
        &self,
        caller: &Caller,
        file: FileId,
        attribute: (&[u8], &[u8]),
        is: AttributeIs,
    ) -> FileResult<Changed> {
        self.0.set_xattr(caller, file, attribute, is)
    }
    fn remove_xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Changed> {
        self.0.remove_xattr(caller, file, name)
    }
    fn acl(&self, caller: &Caller, file: FileId, which: AclKind) -> FileResult<Option<Acl>> {
        self.0.acl(caller, file, which)
    }
    fn set_acl(
        &self,
        caller: &Caller,
        file: FileId,
        which: AclKind,
        acl: Option<&Acl>,
    ) -> FileResult<()> {
        self.0.set_acl(caller, file, which, acl)
    }
    fn hold(&self, file: FileId) -> FileResult<()> {
        self.0.hold(file)
    }
    fn let_go(&self, file: FileId) {
        self.0.let_go(file);
    }
    fn await_holders(&self, may_come: bool) {
        self.0.await_holders(may_come);
    }
}
