//! GETATTR, SETATTR, ACCESS (RFC 1813 3.3.1, 3.3.2, 3.3.4).

use model::file::{Access, FileStore, SetAttributes};

use super::failed;
use super::messages::{AccessArgs, AccessResult, GetattrResult, SetattrArgs, SetattrResult};
use super::types::{HandleBytes, Wcc};
use crate::request::Request;

pub(super) fn getattr<F: FileStore>(request: &Request<'_, F>, file: &HandleBytes) -> GetattrResult {
    let place = request.place(&file.0).map_err(|error| failed(error, ()))?;
    let attributes = place.store().attributes(place.file).map_err(|error| failed(error, ()))?;
    Ok(place.attributes3(&attributes))
}

pub(super) fn setattr<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &SetattrArgs,
) -> SetattrResult {
    let place = request.place(&arguments.file.0).map_err(|error| failed(error, Wcc::NONE))?;
    let fail = |status| failed(status, place.unchanged(place.file));
    place.check_writable().map_err(fail)?;
    let (store, caller) = (place.store(), &place.caller);
    let set = SetAttributes::from(&arguments.set);
    let guard = arguments.guard.clone().map(Into::into);
    let changed = store
        .set_attributes(caller, place.file, &set, guard)
        .map_err(|error| fail(error.into()))?;
    Ok(place.wcc(&changed))
}

/// Bits of what a read-only export never gives.
const WRITING: Access = Access(Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0);

pub(super) fn access<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &AccessArgs,
) -> AccessResult {
    let place = request.place(&arguments.file.0).map_err(|error| failed(error, None))?;
    let wanted = Access(arguments.access).and(Access::ALL);
    let wanted = if place.read_only { wanted.without(WRITING) } else { wanted };
    let given = place
        .store()
        .access(&place.caller, place.file, wanted)
        .map_err(|error| failed(error, place.now(place.file)))?;
    Ok((place.now(place.file), given.0))
}
