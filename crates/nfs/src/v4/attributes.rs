//! File attributes (RFC 8881 5, RFC 7530 5): the table of those that we have, how each is read and
//! which can be set.

use bytes::Bytes;
use model::file::{Attributes, FileKind, Limits, SetAttributes, SetTime, Space, Time};

use super::status::Status;
use super::types::{Bitmap, Fattr, Kind, Time4};
use crate::xdr::{Reader, Writer, XdrError};

pub(super) const SIZE: u32 = 4;
const SUPPORTED: u32 = 0;
pub(super) const RDATTR_ERROR: u32 = 11;
const MODE: u32 = 33;
const OWNER: u32 = 36;
const OWNER_GROUP: u32 = 37;
const TIME_ACCESS_SET: u32 = 48;
const TIME_MODIFY_SET: u32 = 54;
const MODE_SET_MASKED: u32 = 74;
const SUPPATTR_EXCLCREAT: u32 = 75;
pub(super) const LEASE_TIME: u32 = 10;
pub(super) const FILEHANDLE: u32 = 19;
pub(super) const MOUNTED_ON_FILEID: u32 = 55;
/// Attributes that tell of room, which has to be asked for.
const OF_SPACE: [u32; 6] = [21, 22, 23, 42, 43, 44];

/// Most bytes of an owner's name: a number, and a domain that is not looked at.
const OWNER_BYTES_MAX: usize = 1024;

/// What the attributes of one file are read from.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) attributes: Attributes,
    /// Empty when it was not asked for.
    pub(super) handle: Bytes,
    pub(super) fsid: (u64, u64),
    pub(super) limits: Limits,
    /// None when it was not asked for or is not known.
    pub(super) space: Option<Space>,
    /// The file that the root of an export covers, when it was asked for; else the file itself.
    pub(super) mounted_on: u64,
    /// 0 when it was not asked for.
    pub(super) lease_seconds: u32,
    pub(super) minor: u32,
}

type Get = fn(&Subject, &mut Writer);

/// One attribute.
struct Row {
    number: u32,
    /// None for what is only set.
    get: Option<Get>,
    settable: bool,
    minor_min: u32,
}

const fn read(number: u32, get: Get) -> Row {
    Row { number, get: Some(get), settable: false, minor_min: 0 }
}
const fn both(number: u32, get: Get) -> Row {
    Row { number, get: Some(get), settable: true, minor_min: 0 }
}
const fn write(number: u32) -> Row {
    Row { number, get: None, settable: true, minor_min: 0 }
}
const fn since(minor_min: u32, row: Row) -> Row {
    Row { minor_min, ..row }
}

/// numlinks.
const LINKS: u32 = 35;
/// FH4_PERSISTENT: a handle is good as long as its file.
const PERSISTENT: u32 = 0;

const TABLE: [Row; 50] = [
    read(SUPPORTED, |subject, to| to.put(&supported(subject.minor))),
    read(1, |subject, to| to.put(&kind(subject.attributes.kind))),
    read(2, |_, to| to.put(&PERSISTENT)),
    read(3, |subject, to| to.u64(subject.attributes.change)),
    both(SIZE, |subject, to| to.u64(subject.attributes.size_bytes)),
    // link_support, symlink_support, named_attr.
    read(5, |_, to| to.put(&true)),
    read(6, |_, to| to.put(&true)),
    read(7, |_, to| to.put(&false)),
    read(8, |subject, to| to.put(&subject.fsid)),
    // unique_handles: one file has one handle.
    read(9, |_, to| to.put(&true)),
    read(LEASE_TIME, |subject, to| to.u32(subject.lease_seconds)),
    // rdattr_error: what could not be read is left out as a whole.
    read(RDATTR_ERROR, |_, to| to.put(&Status::Ok)),
    // aclsupport: none.
    read(13, |_, to| to.u32(0)),
    // cansettime, case_insensitive, case_preserving, chown_restricted.
    read(15, |_, to| to.put(&true)),
    read(16, |_, to| to.put(&false)),
    read(17, |_, to| to.put(&true)),
    read(18, |_, to| to.put(&true)),
    read(FILEHANDLE, |subject, to| to.opaque(&subject.handle)),
    read(20, |subject, to| to.u64(subject.attributes.file.inode)),
    read(21, |subject, to| to.u64(subject.room().available_files)),
    read(22, |subject, to| to.u64(subject.room().free_files)),
    read(23, |subject, to| to.u64(subject.room().total_files)),
    // homogeneous.
    read(26, |_, to| to.put(&true)),
    read(27, |subject, to| to.u64(subject.limits.file_bytes_max)),
    read(28, |subject, to| to.u32(subject.limits.links_max)),
    read(29, |subject, to| to.u32(subject.limits.name_bytes_max)),
    read(30, |subject, to| to.u64(subject.limits.read_bytes_max.into())),
    read(31, |subject, to| to.u64(subject.limits.write_bytes_max.into())),
    both(MODE, |subject, to| to.u32(subject.attributes.mode)),
    // no_trunc.
    read(34, |_, to| to.put(&true)),
    read(LINKS, |subject, to| to.u32(subject.links())),
    both(OWNER, |subject, to| to.opaque(subject.attributes.uid.to_string().as_bytes())),
    both(OWNER_GROUP, |subject, to| to.opaque(subject.attributes.gid.to_string().as_bytes())),
    read(41, |subject, to| to.put(&device(subject.attributes.kind))),
    read(42, |subject, to| to.u64(subject.room().available_bytes)),
    read(43, |subject, to| to.u64(subject.room().free_bytes)),
    read(44, |subject, to| to.u64(subject.room().total_bytes)),
    read(45, |subject, to| to.u64(subject.attributes.used_bytes)),
    read(47, |subject, to| to.put(&Time4::from(subject.attributes.accessed))),
    write(TIME_ACCESS_SET),
    read(51, |subject, to| {
        to.put(&Time4 { seconds: 0, nanos: subject.limits.time_step_nanos });
    }),
    read(52, |subject, to| to.put(&Time4::from(subject.attributes.changed))),
    read(53, |subject, to| to.put(&Time4::from(subject.attributes.modified))),
    write(TIME_MODIFY_SET),
    read(MOUNTED_ON_FILEID, |subject, to| to.u64(subject.mounted_on)),
    since(1, write(MODE_SET_MASKED)),
    since(1, read(SUPPATTR_EXCLCREAT, |_, to| to.put(&exclusive_settable()))),
    // fs_charset_cap: names are UTF-8, and only UTF-8 (FSCHARSET_CAP4_ALLOWS_ONLY_UTF8).
    since(1, read(76, |_, to| to.u32(2))),
    // change_attr_type: NFS4_CHANGE_TYPE_IS_UNDEFINED, differs and nothing more.
    since(2, read(79, |_, to| to.u32(4))),
    // xattr_support (RFC 8276 8.2.1).
    since(2, read(82, |subject, to| to.put(&subject.limits.xattrs))),
];

impl Subject {
    /// A file that is open has none once its last name is gone. NFSv4.0 has no way to say that it
    /// stays all the same, and Linux takes one without links for gone: `fstat` fails with ESTALE.
    fn links(&self) -> u32 {
        let links = self.attributes.links;
        if self.minor == 0 { links.max(1) } else { links }
    }
    fn room(&self) -> Space {
        self.space.unwrap_or(Space {
            total_bytes: 0,
            free_bytes: 0,
            available_bytes: 0,
            total_files: 0,
            free_files: 0,
            available_files: 0,
        })
    }
}

fn kind(kind: FileKind) -> Kind {
    match kind {
        FileKind::Regular => Kind::Regular,
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink,
        FileKind::BlockDevice(..) => Kind::BlockDevice,
        FileKind::CharacterDevice(..) => Kind::CharacterDevice,
        FileKind::Socket => Kind::Socket,
        FileKind::Fifo => Kind::Fifo,
    }
}

fn device(kind: FileKind) -> (u32, u32) {
    match kind {
        FileKind::BlockDevice(major, minor) | FileKind::CharacterDevice(major, minor) => {
            (major, minor)
        }
        _ => (0, 0),
    }
}

fn rows(minor: u32) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.minor_min <= minor)
}

fn row(number: u32, minor: u32) -> Option<&'static Row> {
    rows(minor).find(|row| row.number == number)
}

/// Every attribute that a minor version has here.
#[must_use]
pub(super) fn supported(minor: u32) -> Bitmap {
    Bitmap::of(rows(minor).map(|row| row.number))
}

/// What EXCLUSIVE4_1 may set besides its verifier (RFC 8881 5.8.1.14): the store keeps the
/// verifier apart, so nothing is left out but a size.
fn exclusive_settable() -> Bitmap {
    Bitmap::of(rows(1).filter(|row| row.settable && row.number != SIZE).map(|row| row.number))
}

/// Whether [`Subject::space`] is needed.
#[must_use]
pub(super) fn wants_space(wanted: &Bitmap) -> bool {
    OF_SPACE.iter().any(|number| wanted.has(*number))
}

/// The wanted attributes, as far as there are such (RFC 8881 18.7.3).
#[must_use]
pub(super) fn encode(subject: &Subject, wanted: &Bitmap) -> Fattr {
    let (mut which, mut values) = (Bitmap::default(), Writer::default());
    for row in rows(subject.minor).filter(|row| wanted.has(row.number)) {
        if let Some(get) = row.get {
            which.set(row.number);
            get(subject, &mut values);
        }
    }
    Fattr { which, values: values.into_bytes() }
}

/// # Errors
/// [`Status::Inval`] when something is asked for that can only be set (RFC 8881 5.5).
pub(super) fn check_readable(wanted: &Bitmap, minor: u32) -> Result<(), Status> {
    let only_set = |row: &Row| row.get.is_none() && wanted.has(row.number);
    if rows(minor).any(only_set) { Err(Status::Inval) } else { Ok(()) }
}

/// # Errors
/// VERIFY and NVERIFY of what is not there, cannot be read, or is no attribute of the file
/// (RFC 8881 18.29).
pub(super) fn check_comparable(given: &Bitmap, minor: u32) -> Result<(), Status> {
    for number in given.bits() {
        match row(number, minor) {
            None => return Err(Status::AttrNotSupp),
            Some(Row { get: None, .. }) => return Err(Status::Inval),
            Some(_) if number == RDATTR_ERROR => return Err(Status::Inval),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Reads what is to be set.
///
/// # Errors
/// [`Status::AttrNotSupp`], [`Status::Inval`] for what is only read, [`Status::BadOwner`],
/// [`Status::BadXdr`].
pub(super) fn decode(given: &Fattr, minor: u32) -> Result<SetAttributes, Status> {
    for number in given.which.bits() {
        match row(number, minor) {
            None => return Err(Status::AttrNotSupp),
            Some(row) if !row.settable => return Err(Status::Inval),
            Some(_) => {}
        }
    }
    let mut set = SetAttributes::default();
    let mut reader = Reader::new(given.values.clone());
    for number in given.which.bits() {
        decode_one(&mut set, number, &mut reader)?;
    }
    reader.finish().map_err(|_| Status::BadXdr)?;
    Ok(set)
}

impl From<XdrError> for Status {
    fn from(_: XdrError) -> Self {
        Self::BadXdr
    }
}

fn decode_one(set: &mut SetAttributes, number: u32, reader: &mut Reader) -> Result<(), Status> {
    match number {
        SIZE => set.size_bytes = Some(reader.u64()?),
        MODE => {
            let mode = reader.u32()?;
            if mode & !0o7777 != 0 {
                return Err(Status::Inval);
            }
            set.mode = Some(mode);
        }
        OWNER => set.uid = Some(decode_owner(reader)?),
        OWNER_GROUP => set.gid = Some(decode_owner(reader)?),
        TIME_ACCESS_SET => set.accessed = Some(decode_time(reader)?),
        TIME_MODIFY_SET => set.modified = Some(decode_time(reader)?),
        MODE_SET_MASKED => {
            let (mode, mask) = (reader.u32()?, reader.u32()?);
            // The bits outside of the mask would have to be read first, in the same step.
            if mask != 0o7777 || mode & !mask != 0 {
                return Err(Status::Inval);
            }
            set.mode = Some(mode);
        }
        _ => return Err(Status::ServerFault),
    }
    Ok(())
}

/// A number as text; a domain behind it is nothing that AUTH_SYS knows (RFC 8881 5.9).
fn decode_owner(reader: &mut Reader) -> Result<u32, Status> {
    let name = reader.opaque(OWNER_BYTES_MAX)?;
    let text = std::str::from_utf8(&name).map_err(|_| Status::Inval)?;
    if text.is_empty() {
        return Err(Status::Inval);
    }
    let number = text.split_once('@').map_or(text, |(number, _)| number);
    if number.starts_with('+') {
        return Err(Status::BadOwner);
    }
    number.parse().map_err(|_| Status::BadOwner)
}

/// `settime4`.
fn decode_time(reader: &mut Reader) -> Result<SetTime, Status> {
    match reader.u32()? {
        0 => Ok(SetTime::Now),
        1 => {
            let time: Time = <Time4 as crate::xdr::Xdr>::read(reader)?.into();
            if time.nanos >= 1_000_000_000 { Err(Status::Inval) } else { Ok(SetTime::To(time)) }
        }
        _ => Err(Status::BadXdr),
    }
}
