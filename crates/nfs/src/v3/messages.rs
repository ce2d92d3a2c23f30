//! Arguments and results of the procedures (RFC 1813 3.3), as tables of fields.

use bytes::Bytes;

use super::types::{
    Attributes3, Chain, Device, Failed, HandleBytes, NameIn, SetAttributes3, Time3, Wcc,
};
use crate::xdr::{xdr_enum, xdr_struct, xdr_union};

type Maybe = Option<Attributes3>;

// Arguments.

xdr_struct! {
    pub struct SetattrArgs {
        pub file: HandleBytes,
        pub set: SetAttributes3,
        pub guard: Option<Time3>,
    }
}
xdr_struct! {
    pub struct AccessArgs {
        pub file: HandleBytes,
        pub access: u32,
    }
}
xdr_struct! {
    pub struct ReadArgs {
        pub file: HandleBytes,
        pub offset: u64,
        pub count: u32,
    }
}
xdr_enum! {
    /// `stable_how`.
    pub enum StableHow {
        Unstable = 0,
        DataSync = 1,
        FileSync = 2,
    }
}
xdr_struct! {
    pub struct WriteArgs {
        pub file: HandleBytes,
        pub offset: u64,
        pub count: u32,
        pub stable: StableHow,
        pub data: Bytes,
    }
}
xdr_union! {
    /// `createhow3`.
    pub enum CreateHow {
        Unchecked(set: SetAttributes3) = 0,
        Guarded(set: SetAttributes3) = 1,
        Exclusive(verifier: [u8; 8]) = 2,
    }
}
xdr_struct! {
    pub struct CreateArgs {
        pub place: NameIn,
        pub how: CreateHow,
    }
}
xdr_struct! {
    pub struct MkdirArgs {
        pub place: NameIn,
        pub set: SetAttributes3,
    }
}
xdr_struct! {
    pub struct SymlinkArgs {
        pub place: NameIn,
        pub set: SetAttributes3,
        pub target: Bytes,
    }
}
xdr_struct! {
    pub struct DeviceData {
        pub set: SetAttributes3,
        pub device: Device,
    }
}
xdr_union! {
    /// `mknoddata3`.
    pub enum MknodData {
        Regular = 1,
        Directory = 2,
        BlockDevice(data: DeviceData) = 3,
        CharacterDevice(data: DeviceData) = 4,
        Symlink = 5,
        Socket(set: SetAttributes3) = 6,
        Fifo(set: SetAttributes3) = 7,
    }
}
xdr_struct! {
    pub struct MknodArgs {
        pub place: NameIn,
        pub what: MknodData,
    }
}
xdr_struct! {
    pub struct RenameArgs {
        pub from: NameIn,
        pub to: NameIn,
    }
}
xdr_struct! {
    pub struct LinkArgs {
        pub file: HandleBytes,
        pub place: NameIn,
    }
}
xdr_struct! {
    pub struct ReaddirArgs {
        pub directory: HandleBytes,
        pub cookie: u64,
        pub verifier: [u8; 8],
        pub count: u32,
    }
}
xdr_struct! {
    pub struct ReaddirplusArgs {
        pub directory: HandleBytes,
        pub cookie: u64,
        pub verifier: [u8; 8],
        pub dircount: u32,
        pub maxcount: u32,
    }
}
xdr_struct! {
    pub struct CommitArgs {
        pub file: HandleBytes,
        pub offset: u64,
        pub count: u32,
    }
}

// Results: the value when it succeeds, and the pair of both arms.

pub type GetattrResult = Result<Attributes3, Failed<()>>;
pub type SetattrResult = Result<Wcc, Failed<Wcc>>;
xdr_struct! {
    pub struct Found {
        pub file: HandleBytes,
        pub attributes: Maybe,
        pub directory: Maybe,
    }
}
pub type LookupResult = Result<Found, Failed<Maybe>>;
pub type AccessResult = Result<(Maybe, u32), Failed<Maybe>>;
pub type ReadlinkResult = Result<(Maybe, Bytes), Failed<Maybe>>;
xdr_struct! {
    pub struct ReadOk {
        pub attributes: Maybe,
        pub count: u32,
        pub end: bool,
        pub data: Bytes,
    }
}
pub type ReadResult = Result<ReadOk, Failed<Maybe>>;
xdr_struct! {
    pub struct WriteOk {
        pub file: Wcc,
        pub count: u32,
        pub committed: StableHow,
        pub verifier: [u8; 8],
    }
}
pub type WriteResult = Result<WriteOk, Failed<Wcc>>;
xdr_struct! {
    pub struct MadeOk {
        pub file: Option<HandleBytes>,
        pub attributes: Maybe,
        pub directory: Wcc,
    }
}
pub type MakeResult = Result<MadeOk, Failed<Wcc>>;
pub type RemoveResult = Result<Wcc, Failed<Wcc>>;
pub type RenameResult = Result<(Wcc, Wcc), Failed<(Wcc, Wcc)>>;
pub type LinkResult = Result<(Maybe, Wcc), Failed<(Maybe, Wcc)>>;
xdr_struct! {
    /// `entry3`.
    pub struct Entry {
        pub fileid: u64,
        pub name: Bytes,
        pub cookie: u64,
    }
}
xdr_struct! {
    pub struct ReaddirOk {
        pub directory: Maybe,
        pub verifier: [u8; 8],
        pub entries: Chain<Entry>,
        pub end: bool,
    }
}
pub type ReaddirResult = Result<ReaddirOk, Failed<Maybe>>;
xdr_struct! {
    /// `entryplus3`.
    pub struct EntryPlus {
        pub entry: Entry,
        pub attributes: Maybe,
        pub file: Option<HandleBytes>,
    }
}
xdr_struct! {
    pub struct ReaddirplusOk {
        pub directory: Maybe,
        pub verifier: [u8; 8],
        pub entries: Chain<EntryPlus>,
        pub end: bool,
    }
}
pub type ReaddirplusResult = Result<ReaddirplusOk, Failed<Maybe>>;
xdr_struct! {
    pub struct FsstatOk {
        pub attributes: Maybe,
        pub total_bytes: u64,
        pub free_bytes: u64,
        pub available_bytes: u64,
        pub total_files: u64,
        pub free_files: u64,
        pub available_files: u64,
        pub invarsec: u32,
    }
}
pub type FsstatResult = Result<FsstatOk, Failed<Maybe>>;
xdr_struct! {
    pub struct FsinfoOk {
        pub attributes: Maybe,
        pub rtmax: u32,
        pub rtpref: u32,
        pub rtmult: u32,
        pub wtmax: u32,
        pub wtpref: u32,
        pub wtmult: u32,
        pub dtpref: u32,
        pub maxfilesize: u64,
        pub time_delta: Time3,
        pub properties: u32,
    }
}
pub type FsinfoResult = Result<FsinfoOk, Failed<Maybe>>;
xdr_struct! {
    pub struct PathconfOk {
        pub attributes: Maybe,
        pub linkmax: u32,
        pub name_max: u32,
        pub no_trunc: bool,
        pub chown_restricted: bool,
        pub case_insensitive: bool,
        pub case_preserving: bool,
    }
}
pub type PathconfResult = Result<PathconfOk, Failed<Maybe>>;
xdr_struct! {
    pub struct CommitOk {
        pub file: Wcc,
        pub verifier: [u8; 8],
    }
}
pub type CommitResult = Result<CommitOk, Failed<Wcc>>;
