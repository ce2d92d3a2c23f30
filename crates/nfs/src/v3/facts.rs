//! FSSTAT, FSINFO, PATHCONF (RFC 1813 3.3.18 to 3.3.20).

use model::file::FileStore;

use super::failed;
use super::messages::{FsinfoOk, FsinfoResult, FsstatOk, FsstatResult, PathconfOk, PathconfResult};
use super::types::{HandleBytes, Time3};
use crate::request::Request;

/// Links, symbolic links, one answer of PATHCONF for all files, times can be set
/// (FSF3_LINK, FSF3_SYMLINK, FSF3_HOMOGENEOUS, FSF3_CANSETTIME).
const PROPERTIES: u32 = 0x01 | 0x02 | 0x08 | 0x10;
/// What sizes should be multiples of.
const MULTIPLE_BYTES: u32 = 4096;
const LISTING_BYTES: u32 = 64 << 10;

pub(super) fn fsstat<F: FileStore>(request: &Request<'_, F>, file: &HandleBytes) -> FsstatResult {
    let place = request.place(&file.0).map_err(|error| failed(error, None))?;
    let fail = |error| failed(error, place.now(place.file));
    place.store().attributes(place.file).map_err(fail)?;
    let space = place.store().space(&place.caller).map_err(fail)?;
    Ok(FsstatOk {
        attributes: place.now(place.file),
        total_bytes: space.total_bytes,
        free_bytes: space.free_bytes,
        available_bytes: space.available_bytes,
        total_files: space.total_files,
        free_files: space.free_files,
        available_files: space.available_files,
        // It may change at any time.
        invarsec: 0,
    })
}

pub(super) fn fsinfo<F: FileStore>(request: &Request<'_, F>, file: &HandleBytes) -> FsinfoResult {
    let place = request.place(&file.0).map_err(|error| failed(error, None))?;
    place.store().attributes(place.file).map_err(|error| failed(error, None))?;
    let limits = place.store().limits();
    Ok(FsinfoOk {
        attributes: place.now(place.file),
        rtmax: limits.read_bytes_max,
        rtpref: limits.read_bytes_max,
        rtmult: MULTIPLE_BYTES,
        wtmax: limits.write_bytes_max,
        wtpref: limits.write_bytes_max,
        wtmult: MULTIPLE_BYTES,
        dtpref: LISTING_BYTES,
        maxfilesize: limits.file_bytes_max,
        time_delta: Time3 { seconds: 0, nanos: limits.time_step_nanos },
        properties: PROPERTIES,
    })
}

pub(super) fn pathconf<F: FileStore>(
    request: &Request<'_, F>,
    file: &HandleBytes,
) -> PathconfResult {
    let place = request.place(&file.0).map_err(|error| failed(error, None))?;
    place.store().attributes(place.file).map_err(|error| failed(error, None))?;
    let limits = place.store().limits();
    Ok(PathconfOk {
        attributes: place.now(place.file),
        linkmax: limits.links_max,
        name_max: limits.name_bytes_max,
        no_trunc: true,
        chown_restricted: true,
        case_insensitive: false,
        case_preserving: true,
    })
}
