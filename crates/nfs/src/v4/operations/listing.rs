//! READDIR (RFC 8881 18.23).

use bytes::Bytes;
use model::file::{FileKind, FileStore};
use sha2::{Digest, Sha256};

use super::attributes::{subject, subject_of};
use super::handles::visible;
use super::{Done, of_directory};
use crate::handle::Form;
use crate::request::Place;
use crate::v3::types::Chain;
use crate::v4::attributes;
use crate::v4::compound::{Compound, Here};
use crate::v4::status::Status;
use crate::v4::types::{Bitmap, Fattr, Verifier};
use crate::xdr::{to_bytes, xdr_struct};

/// Of the pseudo file system: its cookies stay good through every change.
const VERIFIER: Verifier = [0; 8];
/// Cookies 1 and 2 are never given (RFC 8881 18.23.3).
const COOKIE_MIN: u64 = 3;
/// A result without entries: verifier, end of the list, end of the directory.
const EMPTY_BYTES: usize = 16;
/// Bytes of the smallest entry: that it follows, cookie, name, attributes.
const ENTRY_BYTES_MIN: usize = 28;
const ENTRIES_MAX: usize = 1024;

xdr_struct! {
    /// READDIR4args.
    pub(super) struct ReaddirArgs {
        pub cookie: u64,
        pub verifier: Verifier,
        pub dircount: u32,
        pub maxcount: u32,
        pub wanted: Bitmap,
    }
}

xdr_struct! {
    /// `entry4`.
    pub(super) struct Entry {
        pub cookie: u64,
        pub name: Bytes,
        pub attributes: Fattr,
    }
}

xdr_struct! {
    /// READDIR4resok.
    pub(super) struct Listing {
        pub verifier: Verifier,
        pub entries: Chain<Entry>,
        pub end: bool,
    }
}

pub(super) fn readdir<F: FileStore>(c: &mut Compound<'_, F>, args: ReaddirArgs) -> Done<Listing> {
    let here = c.here()?;
    attributes::check_readable(&args.wanted, c.minor)?;
    if (1..COOKIE_MIN).contains(&args.cookie) {
        return Err(Status::BadCookie.into());
    }
    let verifier = match &here {
        Here::Pseudo(_) => VERIFIER,
        Here::File(place) => place.store().cookie_verifier(),
    };
    if args.cookie != 0 && args.verifier != verifier {
        return Err(Status::NotSame.into());
    }
    let most = usize::try_from(args.maxcount).unwrap_or(usize::MAX).min(c.reply_bytes_max() / 2);
    let mut room = most.checked_sub(EMPTY_BYTES).ok_or(Status::TooSmall)?;
    let (entries, end) = match &here {
        Here::Pseudo(node) => list_pseudo(c, *node, &args)?,
        Here::File(place) => list_file(c, place, &args, room)?,
    };
    let whole = entries.len();
    let fitting: Vec<Entry> = entries
        .into_iter()
        .take_while(|entry| {
            let bytes = 4 + to_bytes(entry).len();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect();
    if fitting.is_empty() && whole > 0 {
        return Err(Status::TooSmall.into());
    }
    let end = end && fitting.len() == whole;
    Ok(Listing { verifier, entries: Chain(fitting), end })
}

type Entries = (Vec<Entry>, bool);

fn list_file<F: FileStore>(
    c: &Compound<'_, F>,
    place: &Place<'_, F>,
    args: &ReaddirArgs,
    room: usize,
) -> Result<Entries, Status> {
    let store = place.store();
    let kind = store.attributes(place.file)?.kind;
    if kind == FileKind::Symlink && c.minor > 0 {
        return Err(Status::Symlink);
    }
    if kind != FileKind::Directory {
        return Err(Status::NotDir);
    }
    let most = (room / ENTRY_BYTES_MIN).clamp(1, ENTRIES_MAX);
    let with_attributes = !args.wanted.is_empty();
    let listing = store
        .read_directory(&place.caller, place.file, args.cookie, most, with_attributes)
        .map_err(|error| of_directory(place, error))?;
    let mut entries = Vec::new();
    for entry in listing.entries {
        let attributes = match entry.attributes {
            Some(found) => {
                attributes::encode(&subject(c, place, found, &args.wanted), &args.wanted)
            }
            None if !with_attributes => Fattr { which: Bitmap::default(), values: Bytes::new() },
            // Gone since it was listed.
            None => continue,
        };
        entries.push(Entry { cookie: entry.cookie, name: entry.name, attributes });
    }
    // A piece of which all are gone would be one without progress.
    if entries.is_empty() && !listing.end { Err(Status::Delay) } else { Ok((entries, listing.end)) }
}

/// The place of a name among those of a pseudo directory, whichever come and go.
pub(super) fn cookie_of(name: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // Linux keeps cookies in signed numbers.
    (u64::from_be_bytes(first) >> 1).max(COOKIE_MIN)
}

fn list_pseudo<F: FileStore>(
    c: &Compound<'_, F>,
    node: u64,
    args: &ReaddirArgs,
) -> Result<Entries, Status> {
    let request = c.request();
    let children = request.exports.pseudo().children(node).ok_or(Status::Stale)?;
    let mut entries = Vec::new();
    for (name, child) in children {
        let cookie = cookie_of(name);
        let Some(handle) = visible(request, *child).filter(|_| cookie > args.cookie) else {
            continue;
        };
        let here = match handle.form {
            Form::Pseudo => Here::Pseudo(handle.file.inode),
            Form::File => Here::File(request.place_of(&handle)?),
        };
        let attributes = attributes::encode(&subject_of(c, &here, &args.wanted)?, &args.wanted);
        entries.push(Entry { cookie, name: name.clone(), attributes });
    }
    entries.sort_by_key(|entry| entry.cookie);
    Ok((entries, true))
}
