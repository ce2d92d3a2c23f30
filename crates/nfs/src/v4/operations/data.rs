//! READ, WRITE, COMMIT (RFC 8881 18.3, 18.22, 18.32).

use bytes::Bytes;
use model::file::{FileStore, Range, Stability};

use super::{Done, of_data};
use crate::v3::messages::StableHow;
use crate::v4::compound::Compound;
use crate::v4::status::Status;
use crate::v4::types::{Stateid, Verifier};
use crate::xdr::xdr_struct;

/// Bytes of a reply that are not READ's data: what other operations of the COMPOUND say.
const REPLY_REST_BYTES: usize = 1024;

xdr_struct! {
    /// READ4args.
    pub(super) struct ReadArgs {
        pub stateid: Stateid,
        pub offset: u64,
        pub count: u32,
    }
}

pub(super) fn read<F: FileStore>(c: &mut Compound<'_, F>, args: ReadArgs) -> Done<(bool, Bytes)> {
    let place = c.file(Status::IsDir)?;
    let (stateid, file) = (c.resolve(&args.stateid)?, c.handle()?);
    let (client, now_ms) = (c.client, c.service.now_ms);
    c.with(|state| state.check_read(&stateid, client, &file, now_ms))?;
    let room = c.reply_bytes_max().saturating_sub(REPLY_REST_BYTES);
    let count = args.count.min(place.store().limits().read_bytes_max);
    let count = count.min(u32::try_from(room).unwrap_or(u32::MAX));
    let read = place
        .store()
        .read(&place.caller, place.file, args.offset, count)
        .map_err(|error| of_data(c.minor, error))?;
    Ok((read.end, read.data))
}

xdr_struct! {
    /// WRITE4args.
    pub(super) struct WriteArgs {
        pub stateid: Stateid,
        pub offset: u64,
        pub stable: StableHow,
        pub data: Bytes,
    }
}

xdr_struct! {
    /// WRITE4resok.
    pub(super) struct Written {
        pub count: u32,
        pub committed: StableHow,
        pub verifier: Verifier,
    }
}

pub(super) fn write<F: FileStore>(c: &mut Compound<'_, F>, args: WriteArgs) -> Done<Written> {
    let place = c.file(Status::IsDir)?;
    if place.read_only {
        return Err(Status::RoFs.into());
    }
    let (stateid, file) = (c.resolve(&args.stateid)?, c.handle()?);
    let (client, now_ms) = (c.client, c.service.now_ms);
    let most = usize::try_from(place.store().limits().write_bytes_max).unwrap_or(usize::MAX);
    let data = args.data.slice(..args.data.len().min(most));
    let writing = c.with(|state| state.begin_write(&stateid, client, &file, now_ms))?;
    // Taken before: what the store loses in between is told by a verifier that is old.
    let verifier = place.store().write_verifier();
    let stability = Stability::from(args.stable);
    let written = place.store().write(&place.caller, place.file, args.offset, &data, stability);
    c.with(|state| state.end_write(writing));
    let written = written.map_err(|error| of_data(c.minor, error))?;
    let (count, committed) = (written.bytes, written.stability.into());
    Ok(Written { count, committed, verifier })
}

pub(super) fn commit<F: FileStore>(
    c: &mut Compound<'_, F>,
    (offset, count): (u64, u32),
) -> Done<Verifier> {
    let place = c.file(Status::IsDir)?;
    if place.read_only {
        return Err(Status::RoFs.into());
    }
    let bytes = u64::from(count);
    if offset.checked_add(bytes).is_none() {
        return Err(Status::Inval.into());
    }
    place
        .store()
        .commit(&place.caller, place.file, Range { offset, bytes })
        .map_err(|error| of_data(c.minor, error))?;
    Ok(place.store().write_verifier())
}
