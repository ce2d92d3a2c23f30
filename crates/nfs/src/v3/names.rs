//! LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK (RFC 1813 3.3.3, 3.3.8 to
//! 3.3.15).

use model::file::{
    Changed, Creation, FileId, FileKind, FileResult, FileStore, Made, New, Removal, SetAttributes,
};

use super::messages::{
    CreateArgs, CreateHow, Found, LinkArgs, LinkResult, LookupResult, MadeOk, MakeResult,
    MkdirArgs, MknodArgs, MknodData, RemoveResult, RenameArgs, RenameResult, SymlinkArgs,
};
use super::types::{NameIn, SetAttributes3, Wcc};
use super::{Status, failed};
use crate::export::is_name;
use crate::request::{HandleError, Place, Request};

/// # Errors
/// The name cannot be one of an entry. `dots` is what "." and ".." are answered with.
fn check_name<F: FileStore>(
    place: &Place<'_, F>,
    name: &[u8],
    dots: [Status; 2],
) -> Result<(), Status> {
    match name {
        b"." => Err(dots[0]),
        b".." => Err(dots[1]),
        _ if !is_name(name) => Err(Status::Inval),
        _ => {
            let most = usize::try_from(place.store().limits().name_bytes_max);
            if most.is_ok_and(|most| name.len() > most) {
                return Err(Status::NameTooLong);
            }
            Ok(())
        }
    }
}

pub(super) fn lookup<F: FileStore>(request: &Request<'_, F>, wanted: &NameIn) -> LookupResult {
    let place = request.place(&wanted.directory.0).map_err(|error| failed(error, None))?;
    let fail = |status: Status| failed(status, place.now(place.file));
    let (store, caller) = (place.store(), &place.caller);
    let found = match &wanted.name[..] {
        // Above the root of an export there is nothing: its parent is itself.
        b"." | b".." => {
            let up = wanted.name.len() == 2;
            store
                .parent(caller, place.file)
                .and_then(|parent| store.attributes(if up { parent } else { place.file }))
        }
        name => {
            check_name(&place, name, [Status::Inval; 2]).map_err(fail)?;
            store.lookup(caller, place.file, name)
        }
    };
    let found = found.map_err(|error| fail(error.into()))?;
    Ok(Found {
        file: place.handle3(request, found.file),
        attributes: Some(place.attributes3(&found)),
        directory: place.now(place.file),
    })
}

/// What CREATE, MKDIR, SYMLINK and MKNOD have in common.
fn make<F: FileStore>(
    request: &Request<'_, F>,
    wanted: &NameIn,
    make: impl FnOnce(&Place<'_, F>) -> FileResult<Made>,
) -> MakeResult {
    let place = request.place(&wanted.directory.0).map_err(|error| failed(error, Wcc::NONE))?;
    let fail = |status| failed(status, place.unchanged(place.file));
    place.check_writable().map_err(fail)?;
    check_name(&place, &wanted.name, [Status::Exist; 2]).map_err(fail)?;
    let made = make(&place).map_err(|error| fail(error.into()))?;
    Ok(MadeOk {
        file: Some(place.handle3(request, made.attributes.file)),
        attributes: Some(place.attributes3(&made.attributes)),
        directory: place.wcc(&made.directory),
    })
}

fn make_new<F: FileStore>(
    request: &Request<'_, F>,
    wanted: &NameIn,
    new: &New,
    set: &SetAttributes3,
) -> MakeResult {
    let set = SetAttributes::from(set);
    make(request, wanted, |place| {
        place.store().make(&place.caller, place.file, &wanted.name, new, &set)
    })
}

pub(super) fn create<F: FileStore>(request: &Request<'_, F>, arguments: &CreateArgs) -> MakeResult {
    let how = match &arguments.how {
        CreateHow::Unchecked(set) => Creation::Unchecked(set.into()),
        CreateHow::Guarded(set) => Creation::Guarded(set.into()),
        CreateHow::Exclusive(verifier) => Creation::Exclusive(*verifier, SetAttributes::default()),
    };
    make(request, &arguments.place, |place| {
        place.store().create(&place.caller, place.file, &arguments.place.name, &how)
    })
}

pub(super) fn mkdir<F: FileStore>(request: &Request<'_, F>, arguments: &MkdirArgs) -> MakeResult {
    make_new(request, &arguments.place, &New::Directory, &arguments.set)
}

pub(super) fn symlink<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &SymlinkArgs,
) -> MakeResult {
    let target = &arguments.target;
    if target.is_empty() || target.contains(&0) {
        return Err(failed(Status::Inval, Wcc::NONE));
    }
    make_new(request, &arguments.place, &New::Symlink(target.clone()), &arguments.set)
}

pub(super) fn mknod<F: FileStore>(request: &Request<'_, F>, arguments: &MknodArgs) -> MakeResult {
    let (kind, set) = match &arguments.what {
        MknodData::BlockDevice(data) => {
            (FileKind::BlockDevice(data.device.major, data.device.minor), &data.set)
        }
        MknodData::CharacterDevice(data) => {
            (FileKind::CharacterDevice(data.device.major, data.device.minor), &data.set)
        }
        MknodData::Socket(set) => (FileKind::Socket, set),
        MknodData::Fifo(set) => (FileKind::Fifo, set),
        // These have procedures of their own (RFC 1813 3.3.11).
        MknodData::Regular | MknodData::Directory | MknodData::Symlink => {
            return Err(failed(Status::BadType, Wcc::NONE));
        }
    };
    make_new(request, &arguments.place, &New::Special(kind), set)
}

fn take_away<F: FileStore>(
    request: &Request<'_, F>,
    wanted: &NameIn,
    what: Removal,
) -> RemoveResult {
    let place = request.place(&wanted.directory.0).map_err(|error| failed(error, Wcc::NONE))?;
    let fail = |status| failed(status, place.unchanged(place.file));
    place.check_writable().map_err(fail)?;
    // RMDIR of "." and ".." (RFC 1813 3.3.13); REMOVE follows it.
    check_name(&place, &wanted.name, [Status::Inval, Status::Exist]).map_err(fail)?;
    let changed = place
        .store()
        .remove(&place.caller, place.file, &wanted.name, what)
        .map_err(|error| fail(error.into()))?;
    Ok(place.wcc(&changed))
}

pub(super) fn remove<F: FileStore>(request: &Request<'_, F>, wanted: &NameIn) -> RemoveResult {
    take_away(request, wanted, Removal::File)
}

pub(super) fn rmdir<F: FileStore>(request: &Request<'_, F>, wanted: &NameIn) -> RemoveResult {
    take_away(request, wanted, Removal::Directory)
}

pub(super) fn rename<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &RenameArgs,
) -> RenameResult {
    let (from, to) = (&arguments.from, &arguments.to);
    let nothing = |error: HandleError| failed(error, (Wcc::NONE, Wcc::NONE));
    let old = request.place(&from.directory.0).map_err(nothing)?;
    let new = request.place(&to.directory.0).map_err(nothing)?;
    let fail = |status| failed(status, (old.unchanged(old.file), new.unchanged(new.file)));
    if !is_same_tree(&old, old.file, &new) {
        return Err(fail(Status::XDev));
    }
    old.check_writable().map_err(fail)?;
    for name in [&from.name, &to.name] {
        check_name(&old, name, [Status::Inval; 2]).map_err(fail)?;
    }
    let (left, gained): (Changed, Changed) = old
        .store()
        .rename(&old.caller, (old.file, &from.name), (new.file, &to.name))
        .map_err(|error| fail(error.into()))?;
    Ok((old.wcc(&left), new.wcc(&gained)))
}

fn is_same_tree<F>(one: &Place<'_, F>, file: FileId, other: &Place<'_, F>) -> bool {
    one.export.file_system == other.export.file_system && file.tree == other.file.tree
}

pub(super) fn link<F: FileStore>(request: &Request<'_, F>, arguments: &LinkArgs) -> LinkResult {
    let wanted = &arguments.place;
    let nothing = |error: HandleError| failed(error, (None, Wcc::NONE));
    let file = request.place(&arguments.file.0).map_err(nothing)?;
    let place = request.place(&wanted.directory.0).map_err(nothing)?;
    let fail = |status| failed(status, (file.now(file.file), place.unchanged(place.file)));
    if !is_same_tree(&file, file.file, &place) {
        return Err(fail(Status::XDev));
    }
    place.check_writable().map_err(fail)?;
    check_name(&place, &wanted.name, [Status::Exist; 2]).map_err(fail)?;
    let (attributes, changed) = place
        .store()
        .link(&place.caller, file.file, place.file, &wanted.name)
        .map_err(|error| fail(error.into()))?;
    Ok((Some(place.attributes3(&attributes)), place.wcc(&changed)))
}
