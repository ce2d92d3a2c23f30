//! `nfsstat3`, and how errors of files become it.

use model::file::FileError;

use crate::request::HandleError;
use crate::xdr::xdr_enum;

xdr_enum! {
    /// RFC 1813 2.6.
    pub enum Status {
        Ok = 0,
        Perm = 1,
        NoEnt = 2,
        Io = 5,
        NxIo = 6,
        Acces = 13,
        Exist = 17,
        XDev = 18,
        NoDev = 19,
        NotDir = 20,
        IsDir = 21,
        Inval = 22,
        FBig = 27,
        NoSpc = 28,
        RoFs = 30,
        MLink = 31,
        NameTooLong = 63,
        NotEmpty = 66,
        DQuot = 69,
        Stale = 70,
        Remote = 71,
        BadHandle = 10_001,
        NotSync = 10_002,
        BadCookie = 10_003,
        NotSupp = 10_004,
        TooSmall = 10_005,
        ServerFault = 10_006,
        BadType = 10_007,
        JukeBox = 10_008,
    }
}

impl From<FileError> for Status {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NotOwner => Self::Perm,
            FileError::NotFound => Self::NoEnt,
            FileError::Io => Self::Io,
            FileError::NoDevice => Self::NxIo,
            FileError::Access => Self::Acces,
            FileError::Exists => Self::Exist,
            FileError::CrossDevice => Self::XDev,
            FileError::NotDirectory => Self::NotDir,
            FileError::IsDirectory => Self::IsDir,
            // READ, WRITE and the like of what is not a regular file (RFC 1813 3.3.6).
            FileError::IsSymlink => Self::Inval,
            FileError::WrongKind => Self::Inval,
            FileError::Invalid => Self::Inval,
            FileError::TooLarge => Self::FBig,
            FileError::NoSpace => Self::NoSpc,
            FileError::Quota => Self::DQuot,
            FileError::ReadOnly => Self::RoFs,
            FileError::TooManyLinks => Self::MLink,
            FileError::NameTooLong => Self::NameTooLong,
            FileError::NotEmpty => Self::NotEmpty,
            FileError::Stale => Self::Stale,
            FileError::NotSame => Self::NotSync,
            // Version 3 has no extended attributes.
            FileError::NoAttribute | FileError::AttributeTooLarge => Self::ServerFault,
            FileError::NotSupported => Self::NotSupp,
            FileError::Busy => Self::JukeBox,
        }
    }
}

impl From<HandleError> for Status {
    fn from(error: HandleError) -> Self {
        match error {
            // The pseudo file system is NFSv4's: to version 3 its handles are none.
            HandleError::Bad | HandleError::Pseudo => Self::BadHandle,
            HandleError::Stale => Self::Stale,
            HandleError::NotYet => Self::JukeBox,
            HandleError::Denied => Self::Acces,
        }
    }
}
