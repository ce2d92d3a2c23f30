//! GETATTR, SETATTR, VERIFY, NVERIFY, ACCESS (RFC 8881 18.1, 18.7, 18.15, 18.30, 18.31).

use model::file::{Access, Attributes, FileKind, FileStore, Limits, SetAttributes};

use super::{Done, Failed, of_data};
use crate::handle::Handle;
use crate::pseudo::NAME_BYTES_MAX;
use crate::request::Place;
use crate::v4::attributes::{self, Subject};
use crate::v4::compound::{Compound, Here};
use crate::v4::status::Status;
use crate::v4::types::{Bitmap, Fattr, Stateid};
use crate::xdr::xdr_struct;

/// Of the pseudo file system, in which there is nothing to read or write.
const PSEUDO_LIMITS: Limits = Limits {
    read_bytes_max: 1 << 20,
    write_bytes_max: 1 << 20,
    file_bytes_max: i64::MAX as u64,
    links_max: u32::MAX,
    name_bytes_max: NAME_BYTES_MAX,
    time_step_nanos: 1,
    clones: false,
    xattrs: false,
};

/// What the attributes of a file of an export are read from.
pub(super) fn subject<F: FileStore>(
    c: &Compound<'_, F>,
    place: &Place<'_, F>,
    found: Attributes,
    wanted: &Bitmap,
) -> Subject {
    let handle = place.handle_of(found.file);
    let wants_covered = wanted.has(attributes::MOUNTED_ON_FILEID);
    let covers = (wants_covered && found.file == place.store().root())
        .then(|| c.request().exports.pseudo().above(place.export.file_system));
    let space =
        attributes::wants_space(wanted).then(|| place.store().space(&place.caller).ok()).flatten();
    Subject {
        mounted_on: covers.flatten().unwrap_or(found.file.inode),
        limits: place.store().limits(),
        space,
        ..plain(c, found, &handle, wanted)
    }
}

/// What costs something is found out only where it is wanted.
fn plain<F: FileStore>(
    c: &Compound<'_, F>,
    found: Attributes,
    handle: &Handle,
    wanted: &Bitmap,
) -> Subject {
    let wants_lease = wanted.has(attributes::LEASE_TIME);
    let lease_ms = if wants_lease { c.with(|state| state.config().lease_ms) } else { 0 };
    let sealed = wanted.has(attributes::FILEHANDLE).then(|| c.request().seal(handle));
    Subject {
        mounted_on: found.file.inode,
        handle: sealed.unwrap_or_default(),
        fsid: handle.fsid(),
        limits: PSEUDO_LIMITS,
        space: None,
        lease_seconds: u32::try_from(lease_ms.div_ceil(1000)).unwrap_or(u32::MAX),
        minor: c.minor,
        attributes: found,
    }
}

/// What the attributes of a handle are read from.
pub(super) fn subject_of<F: FileStore>(
    c: &Compound<'_, F>,
    here: &Here<'_, F>,
    wanted: &Bitmap,
) -> Result<Subject, Status> {
    match here {
        Here::Pseudo(node) => {
            let pseudo = c.request().exports.pseudo();
            let found = pseudo.attributes(*node).ok_or(Status::Stale)?;
            Ok(plain(c, found, &crate::pseudo::Pseudo::handle(*node), wanted))
        }
        Here::File(place) => {
            let found = c.attributes(place)?;
            Ok(subject(c, place, found, wanted))
        }
    }
}

pub(super) fn getattr<F: FileStore>(c: &mut Compound<'_, F>, wanted: Bitmap) -> Done<Fattr> {
    let here = c.here()?;
    attributes::check_readable(&wanted, c.minor)?;
    Ok(attributes::encode(&subject_of(c, &here, &wanted)?, &wanted))
}

/// Whether the given attributes are those of the file.
fn compare<F: FileStore>(c: &Compound<'_, F>, given: &Fattr) -> Result<bool, Status> {
    let here = c.here()?;
    attributes::check_comparable(&given.which, c.minor)?;
    let found = attributes::encode(&subject_of(c, &here, &given.which)?, &given.which);
    Ok(found.values == given.values)
}

pub(super) fn verify<F: FileStore>(c: &mut Compound<'_, F>, given: Fattr) -> Done<()> {
    if compare(c, &given)? { Ok(()) } else { Err(Status::NotSame.into()) }
}

pub(super) fn nverify<F: FileStore>(c: &mut Compound<'_, F>, given: Fattr) -> Done<()> {
    if compare(c, &given)? { Err(Status::Same.into()) } else { Ok(()) }
}

/// Bits that mean something for a kind of file (RFC 8881 18.1.3).
fn meaningful(kind: FileKind) -> Access {
    match kind {
        FileKind::Directory => Access::ALL.without(Access::EXECUTE),
        _ => Access::ALL.without(Access(Access::LOOKUP.0 | Access::DELETE.0)),
    }
}

/// Bits of what cannot be where nothing is written.
const WRITING: Access = Access(Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0);

/// ACCESS4_XAREAD, ACCESS4_XAWRITE and ACCESS4_XALIST (RFC 8276 8.5), and what the kernel asks for
/// in their place.
const OF_XATTRS: [(u32, Access); 3] =
    [(0x40, Access::READ), (0x80, Access::MODIFY), (0x100, Access::READ)];

pub(super) fn access<F: FileStore>(c: &mut Compound<'_, F>, asked: u32) -> Done<(u32, u32)> {
    let wanted = Access(asked).and(Access::ALL);
    match c.here()? {
        Here::Pseudo(_) => {
            let supported = wanted.and(meaningful(FileKind::Directory));
            Ok((supported.0, supported.without(WRITING).0))
        }
        Here::File(place) => {
            let kind = place.store().attributes(place.file)?.kind;
            let supported = wanted.and(meaningful(kind));
            let xattrs = OF_XATTRS.into_iter().filter(|(bit, _)| {
                let has = matches!(kind, FileKind::Regular | FileKind::Directory);
                has && c.minor > 1 && asked & bit != 0
            });
            let needed = xattrs.clone().fold(supported.0, |all, (_, needed)| all | needed.0);
            let given = place.store().access(&place.caller, place.file, Access(needed))?;
            let given = if place.read_only { given.without(WRITING) } else { given };
            let bits = |one: fn(Access, Access) -> bool| {
                let bits = xattrs.clone().filter(|(_, needed)| one(given, *needed));
                bits.fold(0, |all, (bit, _)| all | bit)
            };
            let all = bits(|_, _| true);
            Ok((supported.0 | all, given.and(supported).0 | bits(Access::has)))
        }
    }
}

xdr_struct! {
    /// SETATTR4args.
    pub(super) struct SetattrArgs {
        pub stateid: Stateid,
        pub set: Fattr,
    }
}

/// Both arms of the result say which attributes were set.
pub(super) fn setattr<F: FileStore>(c: &mut Compound<'_, F>, args: SetattrArgs) -> Done<Bitmap> {
    match set(c, &args) {
        Ok(()) => Ok(args.set.which),
        Err(status) => Err(Failed::saying(status, &Bitmap::default())),
    }
}

fn set<F: FileStore>(c: &Compound<'_, F>, args: &SetattrArgs) -> Result<(), Status> {
    let place = c.writable()?;
    let set = attributes::decode(&args.set, c.minor)?;
    if set.size_bytes.is_none() {
        return apply(c, &place, &set);
    }
    // A new size is a write, under the same rules (RFC 8881 18.30.3).
    let stateid = c.resolve(&args.stateid)?;
    let (file, client, now_ms) = (c.handle()?, c.client, c.service.now_ms);
    let kind = place.store().attributes(place.file)?.kind;
    match kind {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Status::IsDir),
        _ => return Err(Status::Inval),
    }
    let writing = c.with(|state| state.begin_write(&stateid, client, &file, now_ms))?;
    let done = apply(c, &place, &set);
    c.with(|state| state.end_write(writing));
    done
}

fn apply<F: FileStore>(
    c: &Compound<'_, F>,
    place: &Place<'_, F>,
    set: &SetAttributes,
) -> Result<(), Status> {
    let done = place.store().set_attributes(&place.caller, place.file, set, None);
    done.map(|_| ()).map_err(|error| of_data(c.minor, error))
}
