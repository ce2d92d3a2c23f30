//! What the kernel answers, as a finding about files.

use std::io;

use model::file::FileError;
use rustix::io::Errno;

const ERRORS: [(Errno, FileError); 28] = [
    (Errno::PERM, FileError::NotOwner),
    (Errno::NOENT, FileError::NotFound),
    (Errno::IO, FileError::Io),
    (Errno::NXIO, FileError::NoDevice),
    (Errno::NODEV, FileError::NoDevice),
    (Errno::ACCESS, FileError::Access),
    (Errno::EXIST, FileError::Exists),
    (Errno::XDEV, FileError::CrossDevice),
    (Errno::NOTDIR, FileError::NotDirectory),
    (Errno::ISDIR, FileError::IsDirectory),
    (Errno::LOOP, FileError::IsSymlink),
    (Errno::INVAL, FileError::Invalid),
    (Errno::OVERFLOW, FileError::TooLarge),
    (Errno::FBIG, FileError::TooLarge),
    (Errno::NOSPC, FileError::NoSpace),
    (Errno::DQUOT, FileError::Quota),
    (Errno::ROFS, FileError::ReadOnly),
    (Errno::MLINK, FileError::TooManyLinks),
    (Errno::NAMETOOLONG, FileError::NameTooLong),
    (Errno::NOTEMPTY, FileError::NotEmpty),
    (Errno::STALE, FileError::Stale),
    (Errno::NODATA, FileError::NoAttribute),
    (Errno::TOOBIG, FileError::AttributeTooLarge),
    (Errno::RANGE, FileError::AttributeTooLarge),
    (Errno::OPNOTSUPP, FileError::NotSupported),
    (Errno::NOSYS, FileError::NotSupported),
    (Errno::BUSY, FileError::Busy),
    (Errno::TXTBSY, FileError::Busy),
];

/// What is not in the table is a failure of the storage, and logged.
pub(super) fn refused(errno: Errno) -> FileError {
    if let Some((_, error)) = ERRORS.iter().find(|known| known.0 == errno) {
        return *error;
    }
    tracing::error!(%errno, "a file operation failed in a way that has no name");
    FileError::Io
}

pub(super) fn refused_io(why: io::Error) -> FileError {
    refused(Errno::from_io_error(&why).unwrap_or(Errno::IO))
}
