//! PUTFH, PUTROOTFH, PUTPUBFH, GETFH, SAVEFH, RESTOREFH, LOOKUP, LOOKUPP, SECINFO,
//! SECINFO_NO_NAME: moving among files (RFC 8881 18.8, 18.13, 18.14, 18.19 to 18.21, 18.27 to
//! 18.29, 18.45).

use bytes::Bytes;
use model::file::{Attributes, FileKind, FileStore};

use super::{Done, Failed, check_name, check_pseudo_name, of_directory};
use crate::handle::{Form, Handle};
use crate::pseudo::{Child, Pseudo};
use crate::request::{Place, Request};
use crate::rpc::Flavor;
use crate::v4::compound::{Compound, Here};
use crate::v4::status::Status;
use crate::v4::types::HandleBytes;
use crate::xdr::xdr_enum;

pub(super) fn putfh<F: FileStore>(c: &mut Compound<'_, F>, bytes: HandleBytes) -> Done<()> {
    let handle = c.request().open(&bytes.0)?;
    if handle.form == Form::File {
        c.request().place_of(&handle)?;
    }
    c.go_to(handle);
    Ok(())
}

/// Also PUTPUBFH: what is public is the root (RFC 8881 18.20.3).
pub(super) fn putrootfh<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<()> {
    let root = c.request().exports.pseudo().root();
    c.go_to(root);
    Ok(())
}

pub(super) fn getfh<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<HandleBytes> {
    c.keep_found();
    Ok(HandleBytes(c.request().seal(&c.handle()?)))
}

pub(super) fn savefh<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<()> {
    c.saved = Some(c.handle()?);
    c.saved_stateid = c.current_stateid.clone();
    Ok(())
}

pub(super) fn restorefh<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<()> {
    // RFC 7530 16.28.5 has a status of its own for it; RFC 8881 18.27.4 has not.
    let missing = if c.minor == 0 { Status::RestoreFh } else { Status::NoFileHandle };
    let saved = c.saved.ok_or(missing)?;
    c.go_to(saved);
    c.current_stateid = c.saved_stateid.clone();
    Ok(())
}

/// The file of a name in an export, with its attributes, or the root of an export in a pseudo
/// directory.
pub(super) fn child<F: FileStore>(
    c: &Compound<'_, F>,
    name: &[u8],
) -> Result<(Handle, Option<Attributes>), Status> {
    match c.here()? {
        Here::File(place) => {
            check_name(&place, name)?;
            let found = place.store().lookup(&place.caller, place.file, name);
            let found = found.map_err(|error| of_directory(&place, error))?;
            Ok((place.handle_of(found.file), Some(found)))
        }
        Here::Pseudo(node) => {
            check_pseudo_name(name)?;
            let children = c.request().exports.pseudo().children(node).ok_or(Status::Stale)?;
            let child = *children.get(name).ok_or(Status::NoEnt)?;
            if waits(c.request(), child) {
                return Err(Status::Delay);
            }
            visible(c.request(), child).map(|handle| (handle, None)).ok_or(Status::NoEnt)
        }
    }
}

/// The handle of a child of a pseudo directory, when this client may know of it: an export that
/// lets it in, or what leads to one.
pub(super) fn visible<F: FileStore>(request: &Request<'_, F>, child: Child) -> Option<Handle> {
    match child {
        Child::Export(file_system) => {
            let export = request.exports.find(file_system)?;
            let place = request.enter(export, export.store.root()).ok()?;
            Some(place.handle_of(place.file))
        }
        Child::Node(node) => {
            let mut children = request.exports.pseudo().children(node)?.values();
            let leads = |child: Child| visible(request, child).is_some() || waits(request, child);
            children.any(|child| leads(*child)).then(|| Pseudo::handle(node))
        }
    }
}

/// Whether a child is an export that lets this client in as soon as its files can be reached.
fn waits<F: FileStore>(request: &Request<'_, F>, child: Child) -> bool {
    match child {
        Child::Node(_) => false,
        Child::Export(file_system) => request
            .exports
            .find_waiting(file_system)
            .is_some_and(|export| request.may_await(export)),
    }
}

pub(super) fn lookup<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<()> {
    let (handle, found) = child(c, &name)?;
    c.go_to_found(handle, found);
    Ok(())
}

/// The directory above the current one; above the root there is none.
fn parent<F: FileStore>(c: &Compound<'_, F>) -> Result<Handle, Status> {
    let pseudo = c.request().exports.pseudo();
    match c.here()? {
        Here::Pseudo(node) if pseudo.is_root(node) => Err(Status::NoEnt),
        Here::Pseudo(node) => pseudo.parent(node).map(Pseudo::handle).ok_or(Status::Stale),
        Here::File(place) if is_root(&place) => {
            let above = pseudo.above(place.export.file_system);
            above.map(Pseudo::handle).ok_or(Status::Stale)
        }
        Here::File(place) => {
            let parent = place.store().parent(&place.caller, place.file);
            let parent = parent.map_err(|error| match of_directory(&place, error) {
                // RFC 7530 16.14.4 has nothing but NFS4ERR_NOTDIR.
                Status::Symlink if c.minor == 0 => Status::NotDir,
                status => status,
            })?;
            Ok(place.handle_of(parent))
        }
    }
}

fn is_root<F: FileStore>(place: &Place<'_, F>) -> bool {
    place.file == place.store().root()
}

pub(super) fn lookupp<F: FileStore>(c: &mut Compound<'_, F>, (): ()) -> Done<()> {
    let parent = parent(c)?;
    c.go_to(parent);
    Ok(())
}

/// What we take, most wanted first.
fn flavors() -> Vec<u32> {
    vec![Flavor::Sys.code(), Flavor::None.code()]
}

/// In NFSv4.1 no file is current afterwards (RFC 8881 2.6.3.1.1.8).
fn leave<F: FileStore>(c: &mut Compound<'_, F>) -> Vec<u32> {
    if c.minor > 0 {
        c.current = None;
        c.current_stateid = None;
    }
    flavors()
}

pub(super) fn secinfo<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<Vec<u32>> {
    child(c, &name)?;
    Ok(leave(c))
}

xdr_enum! {
    /// `secinfo_style4`.
    pub(super) enum SecinfoStyle {
        CurrentFh = 0,
        Parent = 1,
    }
}

pub(super) fn secinfo_no_name<F: FileStore>(
    c: &mut Compound<'_, F>,
    style: SecinfoStyle,
) -> Done<Vec<u32>> {
    match style {
        SecinfoStyle::CurrentFh => {
            c.here()?;
        }
        SecinfoStyle::Parent => {
            if let Here::File(place) = c.here()?
                && place.store().attributes(place.file).map_err(Failed::from)?.kind
                    != FileKind::Directory
            {
                return Err(Status::NotDir.into());
            }
            parent(c)?;
        }
    }
    Ok(leave(c))
}
