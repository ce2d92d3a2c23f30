//! READDIR and READDIRPLUS (RFC 1813 3.3.16, 3.3.17).
//!
//! "." and ".." are ours, with cookies 1 and 2; the store's begin at 3. Cookies of the store stay
//! good through every change, so that the cookie verifier changes only when the files move.

use bytes::Bytes;
use model::file::{self, FileStore};

use super::messages::{
    Entry, EntryPlus, ReaddirArgs, ReaddirOk, ReaddirResult, ReaddirplusArgs, ReaddirplusOk,
    ReaddirplusResult,
};
use super::types::{ATTRIBUTES_BYTES, Chain};
use super::{Status, failed};
use crate::handle::HANDLE_BYTES;
use crate::request::{Place, Request};
use crate::xdr::padding;

const SELF_COOKIE: u64 = 1;
const PARENT_COOKIE: u64 = 2;
/// A result without entries: attributes, verifier, end of the list, end of the directory.
const EMPTY_BYTES: usize = 4 + ATTRIBUTES_BYTES + 8 + 4 + 4;
/// What READDIRPLUS adds to an entry: attributes and handle, each with a word that says so.
const PLUS_BYTES: usize = 4 + ATTRIBUTES_BYTES + 4 + 4 + HANDLE_BYTES;
/// Most entries that a store is asked for at once.
const ENTRIES_MAX: usize = 1024;
/// Bytes of the smallest entry.
const ENTRY_BYTES_MIN: usize = 28;

/// Bytes of an entry of READDIR: "another follows", file id, name, cookie.
fn entry_bytes(name: &[u8]) -> usize {
    4 + 8 + 4 + name.len() + padding(name.len()) + 8
}

/// Room of a reply, entry by entry.
struct Room {
    /// For names, ids and cookies (`dircount`).
    names: usize,
    /// For everything.
    all: usize,
    plus: bool,
}

impl Room {
    fn take(&mut self, name: &[u8]) -> bool {
        let named = entry_bytes(name);
        let whole = named + if self.plus { PLUS_BYTES } else { 0 };
        if named > self.names || whole > self.all {
            return false;
        }
        self.names -= named;
        self.all -= whole;
        true
    }
}

/// The entries behind a cookie that there is room for; whether they are the last.
fn list<F: FileStore>(
    place: &Place<'_, F>,
    cookie: u64,
    room: &mut Room,
) -> Result<(Vec<file::Entry>, bool), Status> {
    let (store, caller) = (place.store(), &place.caller);
    let most = (room.all.min(room.names) / ENTRY_BYTES_MIN).clamp(1, ENTRIES_MAX);
    let after = if cookie <= PARENT_COOKIE { 0 } else { cookie };
    // Asked first of all, so that who may not list sees nothing, not even the dots.
    let listing = store.read_directory(caller, place.file, after, most, room.plus)?;
    let mut entries = Vec::new();
    for (number, name) in [(SELF_COOKIE, "."), (PARENT_COOKIE, "..")] {
        if cookie >= number {
            continue;
        }
        // Who may not search the directory sees where it is, not what is above.
        let parent = || store.parent(caller, place.file).unwrap_or(place.file);
        let file = if number == SELF_COOKIE { place.file } else { parent() };
        let attributes = if room.plus { store.attributes(file).ok() } else { None };
        if !room.take(name.as_bytes()) {
            return Ok((entries, false));
        }
        let name = Bytes::from_static(name.as_bytes());
        entries.push(file::Entry { name, cookie: number, file, attributes });
    }
    let whole = listing.entries.len();
    let fitting: Vec<_> =
        listing.entries.into_iter().take_while(|entry| room.take(&entry.name)).collect();
    let end = listing.end && fitting.len() == whole;
    entries.extend(fitting);
    Ok((entries, end))
}

fn check<F: FileStore>(place: &Place<'_, F>, cookie: u64, verifier: [u8; 8]) -> Result<(), Status> {
    if place.store().attributes(place.file)?.kind != file::FileKind::Directory {
        return Err(Status::NotDir);
    }
    let is_good = cookie == 0 || verifier == place.store().cookie_verifier();
    if is_good { Ok(()) } else { Err(Status::BadCookie) }
}

fn bytes(count: u32) -> Result<usize, Status> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    count.checked_sub(EMPTY_BYTES).ok_or(Status::TooSmall)
}

pub(super) fn readdir<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &ReaddirArgs,
) -> ReaddirResult {
    let place = request.place(&arguments.directory.0).map_err(|error| failed(error, None))?;
    let fail = |status| failed(status, place.now(place.file));
    check(&place, arguments.cookie, arguments.verifier).map_err(fail)?;
    let all = bytes(arguments.count).map_err(fail)?;
    let mut room = Room { names: all, all, plus: false };
    let (entries, end) = list(&place, arguments.cookie, &mut room).map_err(fail)?;
    if entries.is_empty() && !end {
        return Err(fail(Status::TooSmall));
    }
    let entry = |entry: file::Entry| Entry {
        fileid: entry.file.inode,
        name: entry.name,
        cookie: entry.cookie,
    };
    Ok(ReaddirOk {
        directory: place.now(place.file),
        verifier: place.store().cookie_verifier(),
        entries: Chain(entries.into_iter().map(entry).collect()),
        end,
    })
}

pub(super) fn readdirplus<F: FileStore>(
    request: &Request<'_, F>,
    arguments: &ReaddirplusArgs,
) -> ReaddirplusResult {
    let place = request.place(&arguments.directory.0).map_err(|error| failed(error, None))?;
    let fail = |status| failed(status, place.now(place.file));
    check(&place, arguments.cookie, arguments.verifier).map_err(fail)?;
    let all = bytes(arguments.maxcount).map_err(fail)?;
    let names = usize::try_from(arguments.dircount).unwrap_or(usize::MAX);
    let mut room = Room { names, all, plus: true };
    let (entries, end) = list(&place, arguments.cookie, &mut room).map_err(fail)?;
    if entries.is_empty() && !end {
        return Err(fail(Status::TooSmall));
    }
    let entry = |entry: file::Entry| EntryPlus {
        attributes: entry.attributes.as_ref().map(|found| place.attributes3(found)),
        file: Some(place.handle3(request, entry.file)),
        entry: Entry { fileid: entry.file.inode, name: entry.name, cookie: entry.cookie },
    };
    Ok(ReaddirplusOk {
        directory: place.now(place.file),
        verifier: place.store().cookie_verifier(),
        entries: Chain(entries.into_iter().map(entry).collect()),
        end,
    })
}
