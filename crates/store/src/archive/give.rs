//! What an entry of an archive is given when its content is there: owner, access control lists, mode
//! and time.
//!
//! The order matters. A change of the owner takes set-id bits away; a list sets the permission bits,
//! and a change of those would change the list, so that the mode comes after it and says the same.
//! Lists are taken away where the archive has none: a file that is made in a directory with a default
//! list begins with one. Directories are given theirs when nothing more is made in them.

use model::file::{
    Acl, AclKind, Acls, Caller, FileError, FileId, FileStore, SetAttributes, SetTime, Time,
};

use super::pax::{Lists, Said};
use super::{ArchiveError, at};
use crate::acl::Unreadable;

const SPECIAL_BITS: u32 = 0o7000;
const OWNER_BITS: u32 = 0o700;

#[derive(Default)]
pub(super) struct Given {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Symbolic links have none.
    pub(super) mode: Option<u32>,
    pub(super) modified: Option<Time>,
    pub(super) lists: Lists,
}

/// The lists to set, and the mode that goes with them.
struct Settled {
    access: Option<Acl>,
    default: Option<Acl>,
    mode: Option<u32>,
}

fn list(said: Said) -> Result<Option<Acl>, String> {
    let unreadable = || "has an access control list that cannot be read".to_owned();
    match said {
        Said::Nothing => Ok(None),
        Said::Text(Ok(list)) => Ok(Some(list)),
        Said::Text(Err(Unreadable::Named(name))) => Err(format!(
            "has an access control list that names '{name}' without a number: \
             tar --acls --xattrs makes an archive with both"
        )),
        Said::Text(Err(Unreadable::Malformed)) => Err(unreadable()),
        Said::Bytes(list) => list.map(Some).ok_or_else(unreadable),
    }
}

fn keep(lists: Lists, mode: Option<u32>) -> Result<Settled, String> {
    if lists.is_foreign {
        return Err("has an access control list of a kind that is not kept here".to_owned());
    }
    let (access, default) = (list(lists.access)?, list(lists.default)?);
    let mode = match &access {
        Some(list) => mode.map(|mode| (mode & SPECIAL_BITS) | list.mode()),
        None => mode,
    };
    Ok(Settled { access: access.filter(|list| !list.is_a_mode()), default, mode })
}

fn without(lists: Lists, mode: Option<u32>) -> Settled {
    let rest = match lists.access {
        Said::Text(Ok(list)) | Said::Bytes(Some(list)) => Some(list.mode_without()),
        // Whom it names may be in the group or one of the others, and less may be allowed to them.
        Said::Text(Err(_)) | Said::Bytes(None) => mode.map(|mode| mode & OWNER_BITS),
        Said::Nothing => None,
    };
    let mode = mode.map(|mode| rest.map_or(mode, |rest| (mode & SPECIAL_BITS) | rest));
    Settled { access: None, default: None, mode }
}

/// Sets a list, or that there is none.
fn set<F: FileStore>(
    tree: &F,
    who: &Caller,
    file: FileId,
    (which, list): (AclKind, Option<&Acl>),
    path: &[u8],
) -> Result<(), ArchiveError> {
    let why = match tree.set_acl(who, file, which, list) {
        Err(FileError::NotSupported) => {
            "has an access control list, and the file system of this volume keeps none"
        }
        Err(FileError::Invalid | FileError::AttributeTooLarge) => {
            "has an access control list that the file system of this volume does not take"
        }
        done => return done.map_err(at(path)),
    };
    Err(ArchiveError::Acl { path: String::from_utf8_lossy(path).into_owned(), why: why.to_owned() })
}

/// Takes away what a new file has from the directory that it is in.
pub(super) fn bare<F: FileStore>(
    tree: &F,
    who: &Caller,
    file: FileId,
    path: &[u8],
) -> Result<(), ArchiveError> {
    set(tree, who, file, (AclKind::Access, None), path)?;
    set(tree, who, file, (AclKind::Default, None), path)
}

pub(super) fn give<F: FileStore>(
    tree: &F,
    who: &Caller,
    file: FileId,
    (given, acls): (Given, Acls),
    path: &[u8],
) -> Result<(), ArchiveError> {
    let Given { uid, gid, mode, modified, lists } = given;
    let settled = match acls {
        Acls::Keep => keep(lists, mode).map_err(|why| ArchiveError::Acl {
            path: String::from_utf8_lossy(path).into_owned(),
            why,
        })?,
        Acls::Drop => without(lists, mode),
    };
    let owner = SetAttributes { uid: Some(uid), gid: Some(gid), ..Default::default() };
    tree.set_attributes(who, file, &owner, None).map_err(at(path))?;
    set(tree, who, file, (AclKind::Access, settled.access.as_ref()), path)?;
    set(tree, who, file, (AclKind::Default, settled.default.as_ref()), path)?;
    let rest = SetAttributes {
        mode: settled.mode,
        modified: modified.map(SetTime::To),
        ..SetAttributes::default()
    };
    tree.set_attributes(who, file, &rest, None).map_err(at(path))?;
    Ok(())
}
