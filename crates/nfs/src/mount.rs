//! The MOUNT protocol, version 3 (RFC 1813 appendix I): a path becomes the first handle.
//!
//! Entry point: [`answer`].
//!
//! No list of mounts is kept: it would be a guess, since a client that dies never unmounts, and
//! RFC 1813 5.2.2 has servers not rely on it. DUMP answers with an empty list.

use bytes::Bytes;
use model::file::{FileError, FileKind, FileStore};

use crate::export::is_name;
use crate::request::{Place, Request};
use crate::rpc::{Accepted, Flavor};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_struct};

/// The RPC program.
pub const PROGRAM: u32 = 100_005;
pub const VERSION: u32 = 3;
/// The procedure that gives the first handle.
pub(crate) const MNT: u32 = 1;
/// Most bytes of a path (MNTPATHLEN).
const PATH_BYTES_MAX: usize = 1024;

xdr_enum! {
    /// The procedures.
    pub enum Procedure {
        Null = 0,
        Mnt = 1,
        Dump = 2,
        Umnt = 3,
        UmntAll = 4,
        Export = 5,
    }
}

xdr_enum! {
    /// `mountstat3`.
    pub enum MountStat {
        Ok = 0,
        Perm = 1,
        NoEnt = 2,
        Io = 5,
        Acces = 13,
        NotDir = 20,
        Inval = 22,
        NameTooLong = 63,
        NotSupp = 10_004,
        ServerFault = 10_006,
    }
}

xdr_struct! {
    /// What MNT answers when it succeeds.
    pub struct Mounted {
        pub handle: Bytes,
        pub flavors: Vec<u32>,
    }
}

impl Xdr for Result<Mounted, MountStat> {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(match MountStat::read(reader)? {
            MountStat::Ok => Ok(Mounted::read(reader)?),
            stat => Err(stat),
        })
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Ok(mounted) => {
                writer.put(&MountStat::Ok);
                writer.put(mounted);
            }
            Err(stat) => writer.put(stat),
        }
    }
}

/// Answers one call.
pub fn answer<F: FileStore>(
    request: &Request<'_, F>,
    procedure: u32,
    arguments: Bytes,
    results: &mut Writer,
) -> Accepted {
    let mut reader = Reader::new(arguments);
    let path = |reader: &mut Reader| reader.opaque(PATH_BYTES_MAX);
    match Procedure::from_code(procedure) {
        None => return Accepted::ProcUnavail,
        Some(Procedure::Null | Procedure::UmntAll) => {}
        Some(Procedure::Umnt) => {
            if path(&mut reader).is_err() {
                return Accepted::GarbageArgs;
            }
        }
        Some(Procedure::Dump) => results.put(&false),
        Some(Procedure::Export) => list(request, results),
        Some(Procedure::Mnt) => match path(&mut reader) {
            Ok(path) => results.put(&mount(request, &path)),
            Err(_) => return Accepted::GarbageArgs,
        },
    }
    Accepted::Success
}

fn mount<F: FileStore>(request: &Request<'_, F>, path: &Bytes) -> Result<Mounted, MountStat> {
    if path.first() != Some(&b'/') {
        return Err(MountStat::Inval);
    }
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|n| !n.is_empty()).collect();
    let holds = |path: &[Bytes]| {
        let exported = path.iter().map(|name| &name[..]);
        names.len() >= path.len() && exported.eq(names[..path.len()].iter().copied())
    };
    let Some(export) = request.exports.iter().find(|export| holds(&export.path)) else {
        let mut waiting = request.exports.iter_waiting().filter(|export| holds(&export.path));
        // MOUNT has no status for what comes later.
        let waits = waiting.any(|export| request.may_await(export));
        return Err(if waits { MountStat::ServerFault } else { MountStat::NoEnt });
    };
    let root = export.store.root();
    let mut place = request.enter(export, root).map_err(|_| MountStat::Acces)?;
    for name in &names[export.path.len()..] {
        place.file = step(&place, name)?;
    }
    let handle = request.seal(&place.handle_of(place.file));
    Ok(Mounted { handle, flavors: vec![Flavor::Sys.code()] })
}

/// One directory further. No ".." and no symbolic link: a path leads nowhere but down.
fn step<F: FileStore>(place: &Place<'_, F>, name: &[u8]) -> Result<model::file::FileId, MountStat> {
    if !is_name(name) {
        return Err(MountStat::Inval);
    }
    let found = place.store().lookup(&place.caller, place.file, name).map_err(stat)?;
    if found.kind == FileKind::Directory { Ok(found.file) } else { Err(MountStat::NotDir) }
}

fn stat(error: FileError) -> MountStat {
    match error {
        FileError::NotFound | FileError::Stale => MountStat::NoEnt,
        FileError::Access => MountStat::Acces,
        FileError::NotOwner => MountStat::Perm,
        FileError::NotDirectory | FileError::IsSymlink => MountStat::NotDir,
        FileError::NameTooLong => MountStat::NameTooLong,
        FileError::Io => MountStat::Io,
        _ => MountStat::ServerFault,
    }
}

/// The exports that let the asking client in; to it the others do not exist.
fn list<F: FileStore>(request: &Request<'_, F>, results: &mut Writer) {
    for export in request.exports.iter() {
        if export.admit(request.peer, request.credential).is_some() {
            results.put(&true);
            results.put(&export.name());
            // No groups: who else may mount is nobody's business.
            results.put(&false);
        }
    }
    results.put(&false);
}
