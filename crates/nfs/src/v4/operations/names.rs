//! CREATE, REMOVE, RENAME, LINK, READLINK (RFC 8881 18.4, 18.9, 18.24 to 18.26).

use bytes::Bytes;
use model::file::{FileKind, FileStore, New, Removal};

use super::{Done, check_name, of_directory};
use crate::v4::attributes;
use crate::v4::compound::Compound;
use crate::v4::status::Status;
use crate::v4::types::{Bitmap, ChangeInfo, Fattr};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_struct};

/// `createtype4`: what is made, or a kind that CREATE does not make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum CreateType {
    New(New),
    Other(u32),
}

impl Xdr for CreateType {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            2 => Self::New(New::Directory),
            3 => Self::New(New::Special(FileKind::BlockDevice(reader.u32()?, reader.u32()?))),
            4 => Self::New(New::Special(FileKind::CharacterDevice(reader.u32()?, reader.u32()?))),
            5 => Self::New(New::Symlink(Xdr::read(reader)?)),
            6 => Self::New(New::Special(FileKind::Socket)),
            7 => Self::New(New::Special(FileKind::Fifo)),
            other => Self::Other(other),
        })
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::New(New::Directory) => writer.u32(2),
            Self::New(New::Symlink(target)) => {
                writer.u32(5);
                writer.put(target);
            }
            Self::New(New::Special(kind)) => match kind {
                FileKind::BlockDevice(major, minor) => writer.put(&(3u32, (*major, *minor))),
                FileKind::CharacterDevice(major, minor) => writer.put(&(4u32, (*major, *minor))),
                FileKind::Fifo => writer.u32(7),
                _ => writer.u32(6),
            },
            Self::Other(kind) => writer.u32(*kind),
        }
    }
}

xdr_struct! {
    /// CREATE4args.
    pub(super) struct CreateArgs {
        pub what: CreateType,
        pub name: Bytes,
        pub set: Fattr,
    }
}

pub(super) fn create<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: CreateArgs,
) -> Done<(ChangeInfo, Bitmap)> {
    let CreateType::New(new) = &args.what else {
        c.here()?;
        return Err(Status::BadType.into());
    };
    let place = c.writable()?;
    check_name(&place, &args.name)?;
    if let New::Symlink(target) = new
        && (target.is_empty() || target.contains(&0))
    {
        return Err(Status::Inval.into());
    }
    let set = attributes::decode(&args.set, c.minor)?;
    let made = place
        .store()
        .make(&place.caller, place.file, &args.name, new, &set)
        .map_err(|error| of_directory(&place, error))?;
    c.go_to(place.handle_of(made.attributes.file));
    Ok(((&made.directory).into(), args.set.which))
}

pub(super) fn remove<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<ChangeInfo> {
    let place = c.writable()?;
    check_name(&place, &name)?;
    let changed = place
        .store()
        .remove(&place.caller, place.file, &name, Removal::Any)
        .map_err(|error| of_directory(&place, error))?;
    Ok((&changed).into())
}

pub(super) fn rename<F: FileStore>(
    c: &mut Compound<'_, F>,
    (old, new): (Bytes, Bytes),
) -> Done<(ChangeInfo, ChangeInfo)> {
    let (saved, current) = (c.saved.ok_or(Status::NoFileHandle)?, c.handle()?);
    if saved.fsid() != current.fsid() {
        return Err(Status::XDev.into());
    }
    let place = c.writable()?;
    let from = c.request().place_of(&saved)?;
    check_name(&place, &old)?;
    check_name(&place, &new)?;
    let (left, gained) = place
        .store()
        .rename(&place.caller, (from.file, &old), (place.file, &new))
        .map_err(|error| match of_directory(&from, error) {
            Status::NotDir | Status::Symlink => of_directory(&place, error),
            status => status,
        })?;
    Ok(((&left).into(), (&gained).into()))
}

pub(super) fn link<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<ChangeInfo> {
    let (saved, current) = (c.saved.ok_or(Status::NoFileHandle)?, c.handle()?);
    if saved.fsid() != current.fsid() {
        return Err(Status::XDev.into());
    }
    let place = c.writable()?;
    let file = c.request().place_of(&saved)?;
    check_name(&place, &name)?;
    let (_, changed) = place
        .store()
        .link(&place.caller, file.file, place.file, &name)
        .map_err(|error| of_directory(&place, error))?;
    Ok((&changed).into())
}

pub(super) fn readlink<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<Bytes> {
    // In the pseudo file system there are only directories.
    let place = c.file(Status::Inval)?;
    let kind = place.store().attributes(place.file)?.kind;
    match kind {
        FileKind::Symlink => Ok(place.store().read_link(&place.caller, place.file)?),
        _ if c.minor == 0 => Err(Status::Inval.into()),
        _ => Err(Status::WrongType.into()),
    }
}
