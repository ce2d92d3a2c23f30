//! The operations: a table of all that the minor versions have, and one file for each group.

mod attributes;
mod clients;
mod data;
mod extents;
mod handles;
mod listing;
mod locks;
mod names;
mod opens;
mod sessions;
mod xattrs;

use bytes::Bytes;
use model::file::{FileError, FileKind, FileStore};

use super::compound::Compound;
use super::status::Status;
use crate::export::is_name;
use crate::pseudo::NAME_BYTES_MAX;
use crate::request::Place;
use crate::xdr::{Reader, Writer, Xdr, to_bytes};

/// `OP_ILLEGAL`.
pub(super) const ILLEGAL: u32 = 10_044;
/// `OP_SEQUENCE`: run by the engine itself.
pub(super) const SEQUENCE: u32 = 53;
pub(super) const BIND_CONN_TO_SESSION: u32 = 41;
/// What needs no SEQUENCE before it (RFC 8881 2.10.2.1): BIND_CONN_TO_SESSION, EXCHANGE_ID,
/// CREATE_SESSION, DESTROY_SESSION, DESTROY_CLIENTID.
pub(super) const MAY_STAND_ALONE: [u32; 5] = [BIND_CONN_TO_SESSION, 42, 43, 44, 57];

/// What cannot be done twice and has no owner's number in NFSv4.0: CREATE, LINK, REMOVE, RENAME,
/// SETATTR.
const ONCE: [u32; 5] = [6, 11, 28, 29, 34];

/// Whether a call of NFSv4.0 with this operation is answered as before when it comes again.
pub(super) fn happens_once(code: u32) -> bool {
    ONCE.contains(&code)
}

/// A failure, and what its arm of the result says besides.
pub(super) struct Failed {
    pub(super) status: Status,
    pub(super) said: Bytes,
}

impl Failed {
    fn saying<T: Xdr>(status: Status, said: &T) -> Self {
        Self { status, said: to_bytes(said) }
    }
}

impl<T: Into<Status>> From<T> for Failed {
    fn from(status: T) -> Self {
        Self { status: status.into(), said: Bytes::new() }
    }
}

type Done<R> = Result<R, Failed>;
/// Reads the arguments, and writes what it has to say when it succeeds.
type Run<F> = fn(&mut Compound<'_, F>, &mut Reader, &mut Writer) -> Done<()>;

/// One operation.
pub(super) struct Row<F> {
    code: u32,
    pub(super) name: &'static str,
    /// First and last minor version that has it.
    minors: (u32, u32),
    /// Changes something that a retry must not change again.
    pub(super) changes: bool,
    /// None: it is of the protocol, but not spoken here.
    pub(super) run: Option<Run<F>>,
}

impl<F> Row<F> {
    pub(super) fn is_of(&self, minor: u32) -> bool {
        (self.minors.0..=self.minors.1).contains(&minor)
    }
}

/// Reads the arguments and runs the operation.
fn typed<A: Xdr, R: Xdr>(
    reader: &mut Reader,
    results: &mut Writer,
    run: impl FnOnce(A) -> Done<R>,
) -> Done<()> {
    let arguments = A::read(reader).map_err(|_| Status::BadXdr)?;
    run(arguments).map(|value| results.put(&value))
}

macro_rules! row {
    ($code:literal, $name:literal, $minors:expr, $changes:literal, $($run:tt)+) => {
        Row { code: $code, name: $name, minors: $minors, changes: $changes, run: Some(
            |compound, reader, results| {
                typed(reader, results, |arguments| $($run)+(compound, arguments))
            }
        ) }
    };
}
macro_rules! raw {
    ($code:literal, $name:literal, $minors:expr, $($run:tt)+) => {
        Row { code: $code, name: $name, minors: $minors, changes: true, run: Some($($run)+) }
    };
}
macro_rules! absent {
    ($code:literal, $name:literal, $minors:expr) => {
        Row { code: $code, name: $name, minors: $minors, changes: false, run: None }
    };
}

const ALL: (u32, u32) = (0, 2);
const ZERO: (u32, u32) = (0, 0);
const ONE: (u32, u32) = (1, 2);
const TWO: (u32, u32) = (2, 2);

struct Table<F>(std::marker::PhantomData<F>);

impl<F: FileStore> Table<F> {
    const ROWS: [Row<F>; 73] = [
        row!(3, "ACCESS", ALL, false, attributes::access),
        raw!(4, "CLOSE", ALL, opens::close),
        row!(5, "COMMIT", ALL, false, data::commit),
        row!(6, "CREATE", ALL, true, names::create),
        absent!(7, "DELEGPURGE", ALL),
        row!(8, "DELEGRETURN", ALL, false, opens::return_delegation),
        row!(9, "GETATTR", ALL, false, attributes::getattr),
        row!(10, "GETFH", ALL, false, handles::getfh),
        row!(11, "LINK", ALL, true, names::link),
        raw!(12, "LOCK", ALL, locks::lock),
        row!(13, "LOCKT", ALL, false, locks::lockt),
        raw!(14, "LOCKU", ALL, locks::locku),
        row!(15, "LOOKUP", ALL, false, handles::lookup),
        row!(16, "LOOKUPP", ALL, false, handles::lookupp),
        row!(17, "NVERIFY", ALL, false, attributes::nverify),
        raw!(18, "OPEN", ALL, opens::open),
        absent!(19, "OPENATTR", ALL),
        raw!(20, "OPEN_CONFIRM", ZERO, opens::open_confirm),
        raw!(21, "OPEN_DOWNGRADE", ALL, opens::open_downgrade),
        row!(22, "PUTFH", ALL, false, handles::putfh),
        row!(23, "PUTPUBFH", ALL, false, handles::putrootfh),
        row!(24, "PUTROOTFH", ALL, false, handles::putrootfh),
        row!(25, "READ", ALL, false, data::read),
        row!(26, "READDIR", ALL, false, listing::readdir),
        row!(27, "READLINK", ALL, false, names::readlink),
        row!(28, "REMOVE", ALL, true, names::remove),
        row!(29, "RENAME", ALL, true, names::rename),
        row!(30, "RENEW", ZERO, false, clients::renew),
        row!(31, "RESTOREFH", ALL, false, handles::restorefh),
        row!(32, "SAVEFH", ALL, false, handles::savefh),
        row!(33, "SECINFO", ALL, false, handles::secinfo),
        row!(34, "SETATTR", ALL, true, attributes::setattr),
        row!(35, "SETCLIENTID", ZERO, true, clients::setclientid),
        row!(36, "SETCLIENTID_CONFIRM", ZERO, true, clients::setclientid_confirm),
        row!(37, "VERIFY", ALL, false, attributes::verify),
        row!(38, "WRITE", ALL, true, data::write),
        row!(39, "RELEASE_LOCKOWNER", ZERO, true, locks::release_lockowner),
        row!(40, "BACKCHANNEL_CTL", ONE, false, sessions::backchannel_ctl),
        row!(41, "BIND_CONN_TO_SESSION", ONE, false, sessions::bind_conn_to_session),
        row!(42, "EXCHANGE_ID", ONE, true, sessions::exchange_id),
        row!(43, "CREATE_SESSION", ONE, true, sessions::create_session),
        row!(44, "DESTROY_SESSION", ONE, true, sessions::destroy_session),
        row!(45, "FREE_STATEID", ONE, true, sessions::free_stateid),
        absent!(46, "GET_DIR_DELEGATION", ONE),
        absent!(47, "GETDEVICEINFO", ONE),
        absent!(48, "GETDEVICELIST", ONE),
        absent!(49, "LAYOUTCOMMIT", ONE),
        absent!(50, "LAYOUTGET", ONE),
        absent!(51, "LAYOUTRETURN", ONE),
        row!(52, "SECINFO_NO_NAME", ONE, false, handles::secinfo_no_name),
        absent!(53, "SEQUENCE", ONE),
        absent!(54, "SET_SSV", ONE),
        row!(55, "TEST_STATEID", ONE, false, sessions::test_stateid),
        absent!(56, "WANT_DELEGATION", ONE),
        row!(57, "DESTROY_CLIENTID", ONE, true, sessions::destroy_clientid),
        row!(58, "RECLAIM_COMPLETE", ONE, true, sessions::reclaim_complete),
        row!(59, "ALLOCATE", TWO, true, extents::allocate),
        row!(60, "COPY", TWO, true, extents::copy),
        absent!(61, "COPY_NOTIFY", TWO),
        row!(62, "DEALLOCATE", TWO, true, extents::deallocate),
        absent!(63, "IO_ADVISE", TWO),
        absent!(64, "LAYOUTERROR", TWO),
        absent!(65, "LAYOUTSTATS", TWO),
        absent!(66, "OFFLOAD_CANCEL", TWO),
        absent!(67, "OFFLOAD_STATUS", TWO),
        absent!(68, "READ_PLUS", TWO),
        row!(69, "SEEK", TWO, false, extents::seek),
        absent!(70, "WRITE_SAME", TWO),
        row!(71, "CLONE", TWO, true, extents::clone_range),
        row!(72, "GETXATTR", TWO, false, xattrs::get),
        row!(73, "SETXATTR", TWO, true, xattrs::set),
        row!(74, "LISTXATTRS", TWO, false, xattrs::list),
        row!(75, "REMOVEXATTR", TWO, true, xattrs::remove),
    ];
}

/// The row of an operation.
pub(super) fn row<F: FileStore>(code: u32) -> Option<&'static Row<F>> {
    // The codes run from 3 without a gap; a test holds the table to that.
    let at = usize::try_from(code.checked_sub(3)?).ok()?;
    rows().get(at).filter(|row| row.code == code)
}

fn rows<F: FileStore>() -> &'static [Row<F>] {
    const { &Table::<F>::ROWS }
}

/// # Errors
/// A name that no entry can have (RFC 8881 14.4, 18.13.3).
fn check_name<F: FileStore>(place: &Place<'_, F>, name: &[u8]) -> Result<(), Status> {
    check_component(name, place.store().limits().name_bytes_max)
}

/// As [`check_name`], in a directory of the pseudo file system.
fn check_pseudo_name(name: &[u8]) -> Result<(), Status> {
    check_component(name, NAME_BYTES_MAX)
}

fn check_component(name: &[u8], bytes_max: u32) -> Result<(), Status> {
    if name.is_empty() || std::str::from_utf8(name).is_err() {
        return Err(Status::Inval);
    }
    if !is_name(name) {
        return Err(Status::BadName);
    }
    let most = usize::try_from(bytes_max);
    if most.is_ok_and(|most| name.len() > most) { Err(Status::NameTooLong) } else { Ok(()) }
}

/// What a name was looked for in was no directory: a symbolic link is told apart.
fn of_directory<F: FileStore>(place: &Place<'_, F>, error: FileError) -> Status {
    let kind = || place.store().attributes(place.file).ok().map(|found| found.kind);
    match error {
        FileError::NotDirectory if kind() == Some(FileKind::Symlink) => Status::Symlink,
        other => other.into(),
    }
}

/// Data was asked of what has none (RFC 8881 18.22.3; RFC 7530 16.23.4).
fn of_data(minor: u32, error: FileError) -> Status {
    match error {
        FileError::IsSymlink if minor == 0 => Status::Inval,
        FileError::WrongKind if minor > 0 => Status::WrongType,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
