//! One file of the model, and who may do what with it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use model::file::{Attributes, Caller, FileError, FileId, FileKind, FileResult, Time};

use super::content::{Contents, PAGE_BYTES};

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;
pub(super) const SET_GID: u32 = 0o2000;
pub(super) const STICKY: u32 = 0o1000;
/// Cookies 0 to 2 mean the beginning, "." and "..".
const COOKIE_FIRST: u64 = 3;

#[derive(Clone, Debug)]
pub(super) enum Body {
    Regular(Contents),
    Directory(Directory),
    Symlink(Bytes),
    Special(FileKind),
}

/// Entries by cookie, in the order of their making, so that a cookie stays good.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) parent: FileId,
    pub(super) by_cookie: BTreeMap<u64, (Bytes, FileId)>,
    by_name: HashMap<Bytes, u64>,
    next: u64,
}

impl Directory {
    pub(super) fn new(parent: FileId) -> Self {
        let (by_cookie, by_name) = (BTreeMap::new(), HashMap::new());
        Self { parent, by_cookie, by_name, next: COOKIE_FIRST }
    }
    pub(super) fn get(&self, name: &[u8]) -> Option<FileId> {
        self.by_name.get(name).map(|cookie| self.by_cookie[cookie].1)
    }
    pub(super) fn insert(&mut self, name: &[u8], file: FileId) {
        let name = Bytes::copy_from_slice(name);
        self.by_name.insert(name.clone(), self.next);
        self.by_cookie.insert(self.next, (name, file));
        self.next += 1;
    }
    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(cookie) = self.by_name.remove(name) {
            self.by_cookie.remove(&cookie);
        }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) file: FileId,
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) accessed: Time,
    pub(super) modified: Time,
    pub(super) changed: Time,
    pub(super) change: u64,
    pub(super) xattrs: BTreeMap<Bytes, Bytes>,
    /// Of an exclusive creation, until the first write.
    pub(super) verifier: Option<[u8; 8]>,
    /// What a crash leaves: the contents before the first write that is not committed.
    pub(super) durable: Option<Contents>,
}

impl Node {
    pub(super) fn kind(&self) -> FileKind {
        match &self.body {
            Body::Regular(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Special(kind) => *kind,
        }
    }

    pub(super) fn attributes(&self) -> Attributes {
        let (size_bytes, used_bytes) = match &self.body {
            Body::Regular(contents) => (contents.size, contents.used_pages() * PAGE_BYTES),
            Body::Directory(directory) => {
                (PAGE_BYTES, PAGE_BYTES + directory.by_cookie.len() as u64 * 64)
            }
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special(_) => (0, 0),
        };
        Attributes {
            file: self.file,
            kind: self.kind(),
            mode: self.mode,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            size_bytes,
            used_bytes,
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            change: self.change,
        }
    }

    pub(super) fn directory(&self) -> FileResult<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(FileError::NotDirectory),
        }
    }
    pub(super) fn directory_mut(&mut self) -> FileResult<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(FileError::NotDirectory),
        }
    }
    pub(super) fn contents(&self) -> FileResult<&Contents> {
        match &self.body {
            Body::Regular(contents) => Ok(contents),
            Body::Directory(_) => Err(FileError::IsDirectory),
            Body::Symlink(_) => Err(FileError::IsSymlink),
            Body::Special(_) => Err(FileError::WrongKind),
        }
    }
    pub(super) fn contents_mut(&mut self) -> FileResult<&mut Contents> {
        match &mut self.body {
            Body::Regular(contents) => Ok(contents),
            Body::Directory(_) => Err(FileError::IsDirectory),
            Body::Symlink(_) => Err(FileError::IsSymlink),
            Body::Special(_) => Err(FileError::WrongKind),
        }
    }

    /// Whether the caller has all of these of rwx, as POSIX has it.
    pub(super) fn may(&self, caller: &Caller, wanted: u32) -> bool {
        if caller.uid == 0 {
            let runs = self.mode & 0o111 != 0 || matches!(self.body, Body::Directory(_));
            return wanted & EXECUTE == 0 || runs;
        }
        let class = if caller.uid == self.uid {
            self.mode >> 6
        } else if caller.gid == self.gid || caller.gids.contains(&self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        class & wanted == wanted
    }
    pub(super) fn check(&self, caller: &Caller, wanted: u32) -> FileResult<()> {
        if self.may(caller, wanted) { Ok(()) } else { Err(FileError::Access) }
    }
    /// As [`Self::check`], but the owner may always (see [`model::file::FileStore`]).
    pub(super) fn check_data(&self, caller: &Caller, wanted: u32) -> FileResult<()> {
        let runs = wanted == READ && self.may(caller, EXECUTE);
        if caller.uid == self.uid || runs { Ok(()) } else { self.check(caller, wanted) }
    }
    pub(super) fn check_owner(&self, caller: &Caller) -> FileResult<()> {
        if caller.uid == 0 || caller.uid == self.uid { Ok(()) } else { Err(FileError::NotOwner) }
    }
}
