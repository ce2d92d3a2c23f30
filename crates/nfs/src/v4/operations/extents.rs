//! SEEK, ALLOCATE, DEALLOCATE, COPY, CLONE (RFC 7862 15.1, 15.2, 15.4, 15.11, 15.13).

use model::file::{Changed, Content, FileError, FileKind, FileResult, FileStore, Range};

use super::{Done, of_data};
use crate::request::Place;
use crate::v3::messages::StableHow;
use crate::v4::compound::Compound;
use crate::v4::status::Status;
use crate::v4::types::{Stateid, Verifier};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_struct};

/// Most bytes that one COPY moves before it answers; the client asks for the rest.
const COPY_BYTES_MAX: u64 = 64 << 20;

xdr_enum! {
    /// `data_content4`.
    pub(super) enum DataContent {
        Data = 0,
        Hole = 1,
    }
}

xdr_struct! {
    /// SEEK4args.
    pub(super) struct SeekArgs {
        pub stateid: Stateid,
        pub offset: u64,
        pub what: DataContent,
    }
}

pub(super) fn seek<F: FileStore>(c: &mut Compound<'_, F>, args: SeekArgs) -> Done<(bool, u64)> {
    let place = c.file(Status::WrongType)?;
    let (stateid, file) = (c.resolve(&args.stateid)?, c.handle()?);
    let (client, now_ms) = (c.client, c.service.now_ms);
    c.with(|state| state.check_read(&stateid, client, &file, now_ms))?;
    let store = place.store();
    let size = store.attributes(place.file)?.size_bytes;
    let what = match args.what {
        DataContent::Data => Content::Data,
        DataContent::Hole => Content::Hole,
    };
    match store.seek(&place.caller, place.file, args.offset, what) {
        Ok(found) => Ok((found >= size, found)),
        // Inside the file, but no data follows: the end is what there is.
        Err(FileError::NoDevice) if args.offset < size => Ok((true, size)),
        Err(error) => Err(of_data(c.minor, error).into()),
    }
}

xdr_struct! {
    /// ALLOCATE4args, DEALLOCATE4args.
    pub(super) struct RangeArgs {
        pub stateid: Stateid,
        pub offset: u64,
        pub bytes: u64,
    }
}

type Change<F> = fn(&Place<'_, F>, Range) -> FileResult<Changed>;

fn change<F: FileStore>(
    c: &Compound<'_, F>,
    args: &RangeArgs,
    change: Change<F>,
) -> Result<(), Status> {
    let place = regular(c.file(Status::WrongType)?)?;
    if place.read_only {
        return Err(Status::RoFs);
    }
    if args.bytes == 0 || args.offset.checked_add(args.bytes).is_none() {
        return Err(Status::Inval);
    }
    let range = Range { offset: args.offset, bytes: args.bytes };
    let (stateid, file) = (c.resolve(&args.stateid)?, c.handle()?);
    let (client, now_ms) = (c.client, c.service.now_ms);
    let writing = c.with(|state| state.begin_write(&stateid, client, &file, now_ms))?;
    let done = change(&place, range);
    c.with(|state| state.end_write(writing));
    done.map(|_| ()).map_err(|error| of_data(c.minor, error))
}

/// Only regular files have extents.
fn regular<F: FileStore>(place: Place<'_, F>) -> Result<Place<'_, F>, Status> {
    match place.store().attributes(place.file)?.kind {
        FileKind::Regular => Ok(place),
        FileKind::Directory => Err(Status::IsDir),
        _ => Err(Status::WrongType),
    }
}

pub(super) fn allocate<F: FileStore>(c: &mut Compound<'_, F>, args: RangeArgs) -> Done<()> {
    Ok(change(c, &args, |place, range| place.store().allocate(&place.caller, place.file, range))?)
}

pub(super) fn deallocate<F: FileStore>(c: &mut Compound<'_, F>, args: RangeArgs) -> Done<()> {
    Ok(change(c, &args, |place, range| place.store().deallocate(&place.caller, place.file, range))?)
}

/// A place in another server, which COPY between two of ours never names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Netloc;

impl Xdr for Netloc {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        match reader.u32()? {
            // NL4_NAME and NL4_URL are one text, NL4_NETADDR two.
            1 | 2 => bytes::Bytes::read(reader).map(|_| Self),
            3 => <(bytes::Bytes, bytes::Bytes)>::read(reader).map(|_| Self),
            _ => Err(XdrError::BadValue),
        }
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(1);
        writer.opaque(&[]);
    }
}

xdr_struct! {
    /// COPY4args.
    pub(super) struct CopyArgs {
        pub from: Stateid,
        pub to: Stateid,
        pub from_offset: u64,
        pub to_offset: u64,
        pub count: u64,
        pub consecutive: bool,
        pub synchronous: bool,
        pub servers: Vec<Netloc>,
    }
}

xdr_struct! {
    /// `write_response4` and `copy_requirements4`.
    pub(super) struct Copied {
        pub callback: Vec<Stateid>,
        pub count: u64,
        pub committed: StableHow,
        pub verifier: Verifier,
        pub consecutive: bool,
        pub synchronous: bool,
    }
}

/// Source and target of COPY and CLONE: saved and current file, both regular, of one tree.
fn pair<'a, F: FileStore>(c: &Compound<'a, F>) -> Result<(Place<'a, F>, Place<'a, F>), Status> {
    let (saved, current) = (c.saved.ok_or(Status::NoFileHandle)?, c.handle()?);
    if saved.fsid() != current.fsid() {
        return Err(Status::XDev);
    }
    let target = c.file(Status::WrongType)?;
    if target.read_only {
        return Err(Status::RoFs);
    }
    let source = c.request().place_of(&saved)?;
    Ok((regular(source)?, regular(target)?))
}

/// Runs what reads one file and writes the other, in flight as a write.
fn across<F: FileStore, T>(
    c: &Compound<'_, F>,
    stateids: (&Stateid, &Stateid),
    run: impl FnOnce() -> Result<T, Status>,
) -> Result<T, Status> {
    let source = match stateids.0 {
        // The saved file has a current stateid of its own.
        stateid if *stateid == Stateid::CURRENT => {
            c.saved_stateid.clone().ok_or(Status::BadStateid)?
        }
        stateid => stateid.clone(),
    };
    let target = c.resolve(stateids.1)?;
    let (saved, current) = (c.saved.ok_or(Status::NoFileHandle)?, c.handle()?);
    let (client, now_ms) = (c.client, c.service.now_ms);
    let writing = c.with(|state| {
        state.check_read(&source, client, &saved, now_ms)?;
        state.begin_write(&target, client, &current, now_ms)
    })?;
    let done = run();
    c.with(|state| state.end_write(writing));
    done
}

pub(super) fn copy<F: FileStore>(c: &mut Compound<'_, F>, args: CopyArgs) -> Done<Copied> {
    if !args.servers.is_empty() {
        return Err(Status::NotSupp.into());
    }
    let (source, target) = pair(c)?;
    let size = source.store().attributes(source.file)?.size_bytes;
    let rest = size.checked_sub(args.from_offset).ok_or(Status::Inval)?;
    let wanted = if args.count == 0 { rest } else { args.count };
    // RFC 7862 15.2.3: a range that goes past the end of the source is an error.
    let overlaps = source.file == target.file && args.from_offset.abs_diff(args.to_offset) < wanted;
    if wanted > rest || overlaps || args.to_offset.checked_add(wanted).is_none() {
        return Err(Status::Inval.into());
    }
    let verifier = target.store().write_verifier();
    let count = across(c, (&args.from, &args.to), || {
        let mut done = 0;
        while done < wanted.min(COPY_BYTES_MAX) {
            let from = (source.file, args.from_offset + done);
            let to = (target.file, args.to_offset + done);
            let left = wanted.min(COPY_BYTES_MAX) - done;
            match target.store().copy(&target.caller, from, to, left) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                // What is done is told; the error comes again with the rest.
                Err(_) if done > 0 => break,
                Err(error) => return Err(of_data(c.minor, error)),
            }
        }
        Ok(done)
    })?;
    Ok(Copied {
        callback: Vec::new(),
        count,
        committed: StableHow::FileSync,
        verifier,
        consecutive: true,
        synchronous: true,
    })
}

xdr_struct! {
    /// CLONE4args.
    pub(super) struct CloneArgs {
        pub from: Stateid,
        pub to: Stateid,
        pub from_offset: u64,
        pub to_offset: u64,
        pub count: u64,
    }
}

pub(super) fn clone_range<F: FileStore>(c: &mut Compound<'_, F>, args: CloneArgs) -> Done<()> {
    let (source, target) = pair(c)?;
    if !target.store().limits().clones {
        return Err(Status::NotSupp.into());
    }
    let (from, to) = ((source.file, args.from_offset), (target.file, args.to_offset));
    across(c, (&args.from, &args.to), || {
        let done = target.store().clone_range(&target.caller, from, to, args.count);
        done.map_err(|error| of_data(c.minor, error))
    })?;
    Ok(())
}
