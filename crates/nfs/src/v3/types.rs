//! The types that the procedures share (RFC 1813 2.5, 2.6).

use bytes::Bytes;
use model::file::{Attributes, Before, Changed, FileKind, SetAttributes, SetTime, Time};

use super::status::Status;
use crate::handle::Handle;
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_opaque, xdr_struct, xdr_union};

/// Most bytes of a handle (NFS3_FHSIZE).
pub const HANDLE_BYTES_MAX: usize = 64;

xdr_opaque! {
    /// `nfs_fh3`.
    pub struct HandleBytes(HANDLE_BYTES_MAX);
}

xdr_enum! {
    /// `ftype3`.
    pub enum Kind {
        Regular = 1,
        Directory = 2,
        BlockDevice = 3,
        CharacterDevice = 4,
        Symlink = 5,
        Socket = 6,
        Fifo = 7,
    }
}

xdr_struct! {
    /// `nfstime3`.
    pub struct Time3 {
        pub seconds: u32,
        pub nanos: u32,
    }
}

xdr_struct! {
    /// `specdata3`: major and minor number.
    pub struct Device {
        pub major: u32,
        pub minor: u32,
    }
}

xdr_struct! {
    /// `fattr3`.
    pub struct Attributes3 {
        pub kind: Kind,
        pub mode: u32,
        pub links: u32,
        pub uid: u32,
        pub gid: u32,
        pub size: u64,
        pub used: u64,
        pub device: Device,
        pub fsid: u64,
        pub fileid: u64,
        pub accessed: Time3,
        pub modified: Time3,
        pub changed: Time3,
    }
}
/// Bytes of `fattr3` on the wire.
pub const ATTRIBUTES_BYTES: usize = 84;

xdr_struct! {
    /// `wcc_attr`.
    pub struct Before3 {
        pub size: u64,
        pub modified: Time3,
        pub changed: Time3,
    }
}

xdr_struct! {
    /// `wcc_data`: weak cache consistency.
    pub struct Wcc {
        pub before: Option<Before3>,
        pub after: Option<Attributes3>,
    }
}

xdr_union! {
    /// `set_atime`, `set_mtime`.
    pub enum SetTime3 {
        Keep = 0,
        ToServerTime = 1,
        To(time: Time3) = 2,
    }
}

xdr_struct! {
    /// `sattr3`.
    pub struct SetAttributes3 {
        pub mode: Option<u32>,
        pub uid: Option<u32>,
        pub gid: Option<u32>,
        pub size: Option<u64>,
        pub accessed: SetTime3,
        pub modified: SetTime3,
    }
}

xdr_struct! {
    /// `diropargs3`.
    pub struct NameIn {
        pub directory: HandleBytes,
        pub name: Bytes,
    }
}

/// A result's failing arm: the status, and what is said besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed<T> {
    pub status: Status,
    pub rest: Box<T>,
}

impl<O: Xdr, T: Xdr> Xdr for Result<O, Failed<T>> {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(match Status::read(reader)? {
            Status::Ok => Ok(O::read(reader)?),
            status => Err(Failed { status, rest: Box::new(T::read(reader)?) }),
        })
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Ok(value) => {
                writer.put(&Status::Ok);
                writer.put(value);
            }
            Err(failed) => {
                writer.put(&failed.status);
                writer.put(&*failed.rest);
            }
        }
    }
}

/// A list in which each element says whether another follows (RFC 1813 3.3.16).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain<T>(pub Vec<T>);

impl<T: Xdr> Xdr for Chain<T> {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        let mut list = Vec::new();
        while bool::read(reader)? {
            list.push(T::read(reader)?);
        }
        Ok(Self(list))
    }
    fn write(&self, writer: &mut Writer) {
        for value in &self.0 {
            writer.put(&true);
            writer.put(value);
        }
        writer.put(&false);
    }
}

impl From<Time> for Time3 {
    /// Times before 1970 and after 2106 become the nearest that there is.
    fn from(time: Time) -> Self {
        let nearest = if time.seconds < 0 { 0 } else { u32::MAX };
        Self { seconds: u32::try_from(time.seconds).unwrap_or(nearest), nanos: time.nanos }
    }
}

impl From<Time3> for Time {
    fn from(time: Time3) -> Self {
        Self { seconds: i64::from(time.seconds), nanos: time.nanos }
    }
}

impl Attributes3 {
    #[must_use]
    pub fn of(attributes: &Attributes, handle: &Handle) -> Self {
        let device = |major, minor| Device { major, minor };
        let (kind, device) = match attributes.kind {
            FileKind::Regular => (Kind::Regular, device(0, 0)),
            FileKind::Directory => (Kind::Directory, device(0, 0)),
            FileKind::Symlink => (Kind::Symlink, device(0, 0)),
            FileKind::BlockDevice(major, minor) => (Kind::BlockDevice, device(major, minor)),
            FileKind::CharacterDevice(major, minor) => {
                (Kind::CharacterDevice, device(major, minor))
            }
            FileKind::Socket => (Kind::Socket, device(0, 0)),
            FileKind::Fifo => (Kind::Fifo, device(0, 0)),
        };
        let (major, minor) = handle.fsid();
        Self {
            kind,
            mode: attributes.mode,
            links: attributes.links,
            uid: attributes.uid,
            gid: attributes.gid,
            size: attributes.size_bytes,
            used: attributes.used_bytes,
            device,
            fsid: major ^ minor.rotate_left(1),
            fileid: attributes.file.inode,
            accessed: attributes.accessed.into(),
            modified: attributes.modified.into(),
            changed: attributes.changed.into(),
        }
    }
}

impl From<Before> for Before3 {
    fn from(before: Before) -> Self {
        let (modified, changed) = (before.modified.into(), before.changed.into());
        Self { size: before.size_bytes, modified, changed }
    }
}

impl Wcc {
    /// Nothing is known.
    pub const NONE: Self = Self { before: None, after: None };

    #[must_use]
    pub fn of(changed: &Changed, handle: &Handle) -> Self {
        let after = Attributes3::of(&changed.after, handle);
        Self { before: Some(changed.before.into()), after: Some(after) }
    }
}

impl SetTime3 {
    fn wanted(&self) -> Option<SetTime> {
        match self {
            Self::Keep => None,
            Self::ToServerTime => Some(SetTime::Now),
            Self::To(time) => Some(SetTime::To(time.clone().into())),
        }
    }
}

impl From<&SetAttributes3> for SetAttributes {
    fn from(set: &SetAttributes3) -> Self {
        Self {
            // Bits above are of the file's kind, which nothing changes (RFC 1813 2.5, fattr3).
            mode: set.mode.map(|mode| mode & 0o7777),
            uid: set.uid,
            gid: set.gid,
            size_bytes: set.size,
            accessed: set.accessed.wanted(),
            modified: set.modified.wanted(),
        }
    }
}
