//! READLINK, READ, WRITE, COMMIT (RFC 1813 3.3.5 to 3.3.7, 3.3.21).

use model::file::{FileStore, Range, Stability};

use super::messages::{
    CommitArgs, CommitOk, CommitResult, ReadArgs, ReadOk, ReadResult, ReadlinkResult, StableHow,
    WriteArgs, WriteOk, WriteResult,
};
use super::types::{HandleBytes, Wcc};
use super::{Status, failed};
use crate::request::Request;

pub(super) fn readlink<F: FileStore>(
    request: &Request<'_, F>,
    link: &HandleBytes,
) -> ReadlinkResult {
    let place = request.place(&link.0).map_err(|error| failed(error, None))?;
    let target = place
        .store()
        .read_link(&place.caller, place.file)
        .map_err(|error| failed(error, place.now(place.file)))?;
    Ok((place.now(place.file), target))
}

pub(super) fn read<F: FileStore>(request: &Request<'_, F>, arguments: &ReadArgs) -> ReadResult {
    let place = request.place(&arguments.file.0).map_err(|error| failed(error, None))?;
    let count = arguments.count.min(place.store().limits().read_bytes_max);
    let read = place
        .store()
        .read(&place.caller, place.file, arguments.offset, count)
        .map_err(|error| failed(error, place.now(place.file)))?;
    Ok(ReadOk {
        attributes: Some(place.attributes3(&read.attributes)),
        count: u32::try_from(read.data.len()).map_err(|_| failed(Status::ServerFault, None))?,
        end: read.end,
        data: read.data,
    })
}

impl From<StableHow> for Stability {
    fn from(how: StableHow) -> Self {
        match how {
            StableHow::Unstable => Self::Unstable,
            StableHow::DataSync => Self::Data,
            StableHow::FileSync => Self::File,
        }
    }
}

impl From<Stability> for StableHow {
    fn from(stability: Stability) -> Self {
        match stability {
            Stability::Unstable => Self::Unstable,
            Stability::Data => Self::DataSync,
            Stability::File => Self::FileSync,
        }
    }
}

pub(super) fn write<F: FileStore>(request: &Request<'_, F>, arguments: &WriteArgs) -> WriteResult {
    let place = request.place(&arguments.file.0).map_err(|error| failed(error, Wcc::NONE))?;
    let fail = |status| failed(status, place.unchanged(place.file));
    place.check_writable().map_err(fail)?;
    let store = place.store();
    // More than `wtmax` may be written in part; `count` says no more than the data does.
    let most = arguments.count.min(store.limits().write_bytes_max);
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(arguments.data.len());
    let data = arguments.data.slice(..most);
    // Taken before the write: if the store loses unstable data in between, the client sees the
    // old verifier and writes again.
    let verifier = store.write_verifier();
    let written = store
        .write(&place.caller, place.file, arguments.offset, &data, arguments.stable.into())
        .map_err(|error| fail(error.into()))?;
    Ok(WriteOk {
        file: place.wcc(&written.file),
        count: written.bytes,
        committed: written.stability.into(),
        verifier,
    })
}

pub(super) fn commit<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &CommitArgs,
) -> CommitResult {
    let place = request.place(&arguments.file.0).map_err(|error| failed(error, Wcc::NONE))?;
    let fail = |status| failed(status, place.unchanged(place.file));
    place.check_writable().map_err(fail)?;
    let range = Range { offset: arguments.offset, bytes: u64::from(arguments.count) };
    let store = place.store();
    let committed =
        store.commit(&place.caller, place.file, range).map_err(|error| fail(error.into()))?;
    // Taken after the commit: what was lost before it is told by a verifier that differs.
    Ok(CommitOk { file: place.wcc(&committed), verifier: store.write_verifier() })
}
