//! GETXATTR, SETXATTR, LISTXATTRS, REMOVEXATTR (RFC 8276 8.4).

use bytes::Bytes;
use model::file::{AttributeIs, FileStore};

use super::listing::cookie_of;
use super::{Done, of_data};
use crate::v4::compound::{Compound, Here};
use crate::v4::status::Status;
use crate::v4::types::ChangeInfo;
use crate::xdr::{xdr_enum, xdr_struct};

xdr_enum! {
    /// `setxattr_option4`.
    pub(super) enum SetOption {
        Either = 0,
        Create = 1,
        Replace = 2,
    }
}

xdr_struct! {
    /// SETXATTR4args.
    pub(super) struct SetXattrArgs {
        pub option: SetOption,
        pub name: Bytes,
        pub value: Bytes,
    }
}

xdr_struct! {
    /// LISTXATTRS4args.
    pub(super) struct ListXattrsArgs {
        pub cookie: u64,
        pub maxcount: u32,
    }
}

xdr_struct! {
    /// LISTXATTRS4resok.
    pub(super) struct ListedXattrs {
        pub cookie: u64,
        pub names: Vec<Bytes>,
        pub end: bool,
    }
}

/// Of a list without a name.
const EMPTY_BYTES: usize = 16;

/// # Errors
/// No file can have an attribute of this name.
fn check_name(name: &[u8]) -> Result<(), Status> {
    if name.is_empty() || name.contains(&0) || std::str::from_utf8(name).is_err() {
        return Err(Status::Inval);
    }
    Ok(())
}

pub(super) fn get<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<Bytes> {
    let place = c.file(Status::NoXattr)?;
    check_name(&name)?;
    let value = place.store().xattr(&place.caller, place.file, &name);
    Ok(value.map_err(|error| of_data(c.minor, error))?)
}

pub(super) fn set<F: FileStore>(c: &mut Compound<'_, F>, args: SetXattrArgs) -> Done<ChangeInfo> {
    let place = c.writable()?;
    check_name(&args.name)?;
    let is = match args.option {
        SetOption::Either => AttributeIs::Either,
        SetOption::Create => AttributeIs::New,
        SetOption::Replace => AttributeIs::There,
    };
    let attribute = (&args.name[..], &args.value[..]);
    let changed = place.store().set_xattr(&place.caller, place.file, attribute, is);
    Ok((&changed.map_err(|error| of_data(c.minor, error))?).into())
}

pub(super) fn remove<F: FileStore>(c: &mut Compound<'_, F>, name: Bytes) -> Done<ChangeInfo> {
    let place = c.writable()?;
    check_name(&name)?;
    let changed = place.store().remove_xattr(&place.caller, place.file, &name);
    Ok((&changed.map_err(|error| of_data(c.minor, error))?).into())
}

/// Names in the order of their cookies, which stay whatever comes and goes.
pub(super) fn list<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: ListXattrsArgs,
) -> Done<ListedXattrs> {
    let names = match c.here()? {
        Here::Pseudo(_) => Vec::new(),
        Here::File(place) => {
            let names = place.store().xattrs(&place.caller, place.file);
            names.map_err(|error| of_data(c.minor, error))?
        }
    };
    let most = usize::try_from(args.maxcount).unwrap_or(usize::MAX).min(c.reply_bytes_max() / 2);
    let mut room = most.checked_sub(EMPTY_BYTES).ok_or(Status::TooSmall)?;
    let mut names: Vec<(u64, Bytes)> =
        names.into_iter().map(|name| (cookie_of(&name), name)).collect();
    names.retain(|(cookie, _)| *cookie > args.cookie);
    names.sort_unstable();
    let whole = names.len();
    names = names
        .into_iter()
        .take_while(|(_, name)| {
            let bytes = crate::xdr::to_bytes(name).len();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect();
    if names.is_empty() && whole > 0 {
        return Err(Status::TooSmall.into());
    }
    let (cookie, end) = (names.last().map_or(args.cookie, |last| last.0), names.len() == whole);
    Ok(ListedXattrs { cookie, names: names.into_iter().map(|(_, name)| name).collect(), end })
}
