//! OPEN, OPEN_CONFIRM, OPEN_DOWNGRADE, CLOSE, DELEGRETURN (RFC 8881 18.2, 18.6, 18.16, 18.18;
//! RFC 7530 16.18).

use bytes::Bytes;
use model::file::{Access, Attributes, Creation, FileKind, FileStore, SetAttributes};

use super::{Done, Failed, check_name, check_pseudo_name, of_directory};
use crate::handle::Handle;
use crate::request::Place;
use crate::v4::attributes;
use crate::v4::compound::{Compound, Here};
use crate::v4::state::{Claim, OpenRequest, Opened, OwnerKey, Turn};
use crate::v4::status::Status;
use crate::v4::types::{Bitmap, ChangeInfo, Fattr, StateOwner, Stateid, Verifier};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_struct, xdr_union};

/// Bits of the share access itself; those above ask for delegations (RFC 8881 18.16.1).
const ACCESS_MASK: u32 = 3;
const WANT_MASK: u32 = 0x3_ff00;
const WANT_NO_DELEGATION: u32 = 0x0400;
const READ: u32 = 1;
const WRITE: u32 = 2;
/// OPEN4_RESULT_CONFIRM and OPEN4_RESULT_LOCKTYPE_POSIX.
const RESULT_CONFIRM: u32 = 2;
const RESULT_LOCKTYPE_POSIX: u32 = 4;
/// OPEN4_RESULT_PRESERVE_UNLINKED: the file stays while it is open, whoever removes it, so that the
/// client needs not rename what it removes itself (RFC 8881 18.16.4).
const RESULT_PRESERVE_UNLINKED: u32 = 8;

xdr_union! {
    /// `createhow4`.
    pub(super) enum CreateHow {
        Unchecked(set: Fattr) = 0,
        Guarded(set: Fattr) = 1,
        Exclusive(verifier: Verifier) = 2,
        /// EXCLUSIVE4_1.
        ExclusiveWith(both: (Verifier, Fattr)) = 3,
    }
}

xdr_union! {
    /// `openflag4`.
    pub(super) enum OpenHow {
        NoCreate = 0,
        Create(how: CreateHow) = 1,
    }
}

xdr_union! {
    /// `open_claim4`.
    pub(super) enum OpenClaim {
        Null(name: Bytes) = 0,
        Previous(delegation: u32) = 1,
        DelegateCur(both: (Stateid, Bytes)) = 2,
        DelegatePrev(name: Bytes) = 3,
        Fh = 4,
        DelegCurFh(stateid: Stateid) = 5,
        DelegPrevFh = 6,
    }
}

xdr_struct! {
    /// OPEN4args.
    pub(super) struct OpenArgs {
        pub seqid: u32,
        pub access: u32,
        pub deny: u32,
        pub owner: StateOwner,
        pub how: OpenHow,
        pub claim: OpenClaim,
    }
}

/// `open_delegation4`: never one, and why not where that was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoDelegation {
    Plain,
    /// OPEN_DELEGATE_NONE_EXT, WND4_NOT_WANTED.
    NotWanted,
}

impl Xdr for NoDelegation {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        match reader.u32()? {
            0 => Ok(Self::Plain),
            3 => reader.u32().map(|_| Self::NotWanted),
            _ => Err(XdrError::BadValue),
        }
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Plain => writer.u32(0),
            Self::NotWanted => writer.put(&(3u32, 0u32)),
        }
    }
}

xdr_struct! {
    /// OPEN4resok.
    pub(super) struct OpenOk {
        pub stateid: Stateid,
        pub change: ChangeInfo,
        pub flags: u32,
        pub set: Bitmap,
        pub delegation: NoDelegation,
    }
}

/// Runs a request of an owner of NFSv4.0 in its turn, or answers it again.
pub(super) fn in_turn<F: FileStore>(
    c: &mut Compound<'_, F>,
    (owner, seqid): (&OwnerKey, u32),
    results: &mut Writer,
    run: impl FnOnce(&mut Compound<'_, F>, &mut Writer) -> Done<()>,
) -> Done<()> {
    match c.with(|state| state.turn(owner, seqid))? {
        Turn::Replay(reply, file) => {
            if let Some(file) = file {
                c.go_to(file);
            }
            let mut reader = Reader::new(reply);
            let status = Status::read(&mut reader).unwrap_or(Status::ServerFault);
            let said = reader.rest();
            if status != Status::Ok {
                return Err(Failed { status, said });
            }
            results.encoded(&said);
            Ok(())
        }
        Turn::Next => {
            let begins = results.mark();
            let done = run(c, results);
            let (status, said) = match &done {
                Ok(()) => (Status::Ok, results.piece_since(begins)),
                Err(failed) => (failed.status, failed.said.clone()),
            };
            let mut kept = Writer::default();
            kept.put(&status);
            kept.encoded(&said);
            let (kept, file) = (kept.into_bytes(), c.current);
            c.with(|state| state.end_turn(owner, seqid, status, kept, file));
            done
        }
    }
}

pub(super) fn open<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = OpenArgs::read(reader).map_err(|_| Status::BadXdr)?;
    c.handle()?;
    if let Some(client) = c.client {
        return open_as(c, client, &args, true).map(|opened| results.put(&opened));
    }
    let now_ms = c.service.now_ms;
    let client = c.with(|state| state.renew(args.owner.client, now_ms))?;
    let owner = OwnerKey { client, name: args.owner.name.0.clone(), of_locks: false };
    let confirmed = c.with(|state| {
        state.reset_unconfirmed(&owner, args.seqid);
        // A reclaim needs none (RFC 7530 9.1.11).
        let reclaims = matches!(args.claim, OpenClaim::Previous(_));
        if reclaims {
            state.confirm_owner(&owner);
        }
        state.is_owner_confirmed(&owner)
    });
    in_turn(c, (&owner, args.seqid), results, |c, results| {
        open_as(c, client, &args, confirmed).map(|opened| results.put(&opened))
    })
}

fn check_shares(args: &OpenArgs, minor: u32) -> Result<(), Status> {
    let (access, wants) = (args.access & ACCESS_MASK, args.access & !ACCESS_MASK);
    let unknown = if minor == 0 { wants } else { wants & !WANT_MASK };
    if access == 0 || unknown != 0 || args.deny > 3 { Err(Status::Inval) } else { Ok(()) }
}

/// A file found or made, not yet open.
struct Target<'a, F> {
    place: Place<'a, F>,
    attributes: Attributes,
    is_new: bool,
    /// An UNCHECKED4 with size 0 found it there.
    truncates: bool,
    change: ChangeInfo,
    set: Bitmap,
}

fn open_as<F: FileStore>(
    c: &mut Compound<'_, F>,
    client: u32,
    args: &OpenArgs,
    confirmed: bool,
) -> Done<OpenOk> {
    check_shares(args, c.minor)?;
    let access = args.access & ACCESS_MASK;
    let claim = match args.claim {
        OpenClaim::Previous(_) => Claim::Reclaim,
        _ => Claim::New,
    };
    c.with(|state| state.check_claim(client, claim))?;
    let target = find(c, args)?;
    let kind = target.attributes.kind;
    check_kind(kind, c.minor)?;
    if access & WRITE != 0 && target.place.read_only {
        return Err(Status::RoFs.into());
    }
    // Whoever makes a file may open it, whatever mode it gave it.
    if !target.is_new {
        check_access(&target, access)?;
    }
    let file = target.place.handle_of(target.attributes.file);
    let (owner, deny) = (args.owner.name.0.clone(), args.deny);
    let asked = OpenRequest { client, owner, file, access, deny, claim, confirmed };
    let opened = hold_and_open(c, &target, &asked)?;
    if target.truncates
        && let Err(status) = truncate(&target)
    {
        c.with(|state| state.undo_open(&opened));
        return Err(status.into());
    }
    c.go_to(file);
    c.current_stateid = Some(opened.stateid.clone());
    let unconfirmed = if confirmed { 0 } else { RESULT_CONFIRM };
    let preserved = if c.minor == 0 { 0 } else { RESULT_PRESERVE_UNLINKED };
    let unwanted = c.minor > 0 && args.access & WANT_NO_DELEGATION != 0;
    Ok(OpenOk {
        stateid: opened.stateid,
        change: target.change,
        flags: RESULT_LOCKTYPE_POSIX | unconfirmed | preserved,
        set: target.set,
        delegation: if unwanted { NoDelegation::NotWanted } else { NoDelegation::Plain },
    })
}

/// From here on the file stays, whoever removes it: held first, so that no removal comes between.
fn hold_and_open<F: FileStore>(
    c: &Compound<'_, F>,
    target: &Target<'_, F>,
    asked: &OpenRequest,
) -> Result<Opened, Status> {
    let (store, file, now_ms) = (target.place.store(), target.attributes.file, c.service.now_ms);
    store.hold(file)?;
    let opened = c.with(|state| state.open_file(asked, now_ms));
    if !opened.as_ref().is_ok_and(Opened::is_new) {
        store.let_go(file);
    }
    opened
}

/// Only regular files are opened (RFC 8881 18.16.4; RFC 7530 16.16.5).
fn check_kind(kind: FileKind, minor: u32) -> Result<(), Status> {
    match kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Status::IsDir),
        FileKind::Symlink => Err(Status::Symlink),
        _ if minor == 0 => Err(Status::Symlink),
        _ => Err(Status::WrongType),
    }
}

fn check_access<F: FileStore>(target: &Target<'_, F>, access: u32) -> Result<(), Status> {
    let place = &target.place;
    let file = target.attributes.file;
    let reads = if access & READ == 0 { Access::default() } else { Access::READ };
    let writes = if access & WRITE == 0 { Access::default() } else { Access::MODIFY };
    let has = |wanted: Access| {
        Ok::<_, Status>(place.store().access(&place.caller, file, wanted)?.has(wanted))
    };
    // Whoever may execute a file may read it; that is seldom so of one who may not read it.
    let is_given = has(Access(reads.0 | writes.0))?
        || (reads == Access::READ && has(Access(Access::EXECUTE.0 | writes.0))?);
    if is_given { Ok(()) } else { Err(Status::Access) }
}

fn truncate<F: FileStore>(target: &Target<'_, F>) -> Result<(), Status> {
    let set = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
    let place = &target.place;
    place.store().set_attributes(&place.caller, target.attributes.file, &set, None)?;
    Ok(())
}

/// The file that is to be opened; made if that is asked for.
fn find<'a, F: FileStore>(c: &Compound<'a, F>, args: &OpenArgs) -> Result<Target<'a, F>, Status> {
    match (&args.claim, &args.how) {
        (OpenClaim::Null(name), OpenHow::NoCreate) => find_name(c, name),
        (OpenClaim::Null(name), OpenHow::Create(how)) => make(c, name, how),
        (OpenClaim::Previous(_) | OpenClaim::Fh, OpenHow::NoCreate) => find_current(c),
        (OpenClaim::Previous(_) | OpenClaim::Fh, OpenHow::Create(_)) => Err(Status::Inval),
        // There are no delegations, so none of these names one.
        (OpenClaim::DelegateCur(_) | OpenClaim::DelegCurFh(_), _) => Err(Status::BadStateid),
        (OpenClaim::DelegatePrev(_) | OpenClaim::DelegPrevFh, _) => Err(Status::NotSupp),
    }
}

fn find_current<'a, F: FileStore>(c: &Compound<'a, F>) -> Result<Target<'a, F>, Status> {
    let place = c.file(Status::IsDir)?;
    let attributes = place.store().attributes(place.file)?;
    let change = ChangeInfo { atomic: false, before: 0, after: 0 };
    let set = Bitmap::default();
    Ok(Target { place, attributes, is_new: false, truncates: false, change, set })
}

/// What the pseudo file system has under a name is a directory, or nothing.
fn directory<'a, F: FileStore>(
    c: &Compound<'a, F>,
    name: &[u8],
    missing: Status,
) -> Result<Place<'a, F>, Status> {
    let place = match c.here()? {
        Here::File(place) => place,
        Here::Pseudo(_) => {
            check_pseudo_name(name)?;
            return Err(super::handles::child(c, name).map_or(missing, |_| Status::IsDir));
        }
    };
    check_name(&place, name)?;
    Ok(place)
}

fn find_name<'a, F: FileStore>(c: &Compound<'a, F>, name: &[u8]) -> Result<Target<'a, F>, Status> {
    let place = directory(c, name, Status::NoEnt)?;
    let (store, caller) = (place.store(), &place.caller);
    let attributes =
        store.lookup(caller, place.file, name).map_err(|error| of_directory(&place, error))?;
    let now = store.attributes(place.file)?.change;
    let change = ChangeInfo { atomic: true, before: now, after: now };
    let set = Bitmap::default();
    Ok(Target { place, attributes, is_new: false, truncates: false, change, set })
}

fn make<'a, F: FileStore>(
    c: &Compound<'a, F>,
    name: &[u8],
    how: &CreateHow,
) -> Result<Target<'a, F>, Status> {
    let place = directory(c, name, Status::RoFs)?;
    if place.read_only {
        return Err(Status::RoFs);
    }
    let decode = |set: &Fattr| attributes::decode(set, c.minor);
    let mut truncates = false;
    let (creation, given) = match how {
        CreateHow::Unchecked(set) => {
            let mut wanted = decode(set)?;
            // Truncated only when the open is given; a new file is empty anyway.
            truncates = wanted.size_bytes == Some(0);
            if truncates {
                wanted.size_bytes = None;
            }
            (Creation::Unchecked(wanted), Some(set))
        }
        CreateHow::Guarded(set) => (Creation::Guarded(decode(set)?), Some(set)),
        CreateHow::Exclusive(verifier) => {
            (Creation::Exclusive(*verifier, SetAttributes::default()), None)
        }
        CreateHow::ExclusiveWith(_) if c.minor == 0 => return Err(Status::BadXdr),
        CreateHow::ExclusiveWith((verifier, set)) => {
            let wanted = decode(set)?;
            // See suppattr_exclcreat.
            if wanted.size_bytes.is_some() {
                return Err(Status::Inval);
            }
            (Creation::Exclusive(*verifier, wanted), Some(set))
        }
    };
    let made =
        place.store().create(&place.caller, place.file, name, &creation).map_err(|error| {
            match of_directory(&place, error) {
                // It is the name's file that is not regular; its kind says how to answer.
                Status::IsDir | Status::Inval | Status::Symlink => kind_of(&place, name, c.minor),
                status => status,
            }
        })?;
    let truncates = truncates && !made.is_new;
    let set = match given {
        Some(set) if made.is_new => set.which.clone(),
        _ if truncates => Bitmap::of([attributes::SIZE]),
        _ => Bitmap::default(),
    };
    let change = (&made.directory).into();
    Ok(Target { place, attributes: made.attributes, is_new: made.is_new, truncates, change, set })
}

fn kind_of<F: FileStore>(place: &Place<'_, F>, name: &[u8], minor: u32) -> Status {
    match place.store().lookup(&place.caller, place.file, name) {
        Ok(found) => check_kind(found.kind, minor).err().unwrap_or(Status::Inval),
        Err(error) => of_directory(place, error),
    }
}

xdr_struct! {
    /// OPEN_CONFIRM4args.
    pub(super) struct ConfirmArgs {
        pub stateid: Stateid,
        pub seqid: u32,
    }
}

pub(super) fn open_confirm<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = ConfirmArgs::read(reader).map_err(|_| Status::BadXdr)?;
    by_stateid(c, (&args.stateid, args.seqid), results, |c, owner, file| {
        let stateid = c.with(|state| {
            let stateid = state.confirm_open(&args.stateid, &file)?;
            state.confirm_owner(owner);
            Ok::<_, Status>(stateid)
        })?;
        Ok(stateid)
    })
}

/// A request of NFSv4.0 whose owner is the stateid's.
pub(super) fn by_stateid<F: FileStore, R: Xdr>(
    c: &mut Compound<'_, F>,
    (stateid, seqid): (&Stateid, u32),
    results: &mut Writer,
    run: impl FnOnce(&mut Compound<'_, F>, &OwnerKey, Handle) -> Done<R>,
) -> Done<()> {
    let now_ms = c.service.now_ms;
    let file = c.handle()?;
    let owner = c.with(|state| {
        state.renew_by(stateid, now_ms);
        state.owner_of(stateid)
    })?;
    in_turn(c, (&owner, seqid), results, |c, results| {
        run(c, &owner, file).map(|value| results.put(&value))
    })
}

xdr_struct! {
    /// OPEN_DOWNGRADE4args.
    pub(super) struct DowngradeArgs {
        pub stateid: Stateid,
        pub seqid: u32,
        pub access: u32,
        pub deny: u32,
    }
}

pub(super) fn open_downgrade<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = DowngradeArgs::read(reader).map_err(|_| Status::BadXdr)?;
    if c.minor > 0 {
        return downgrade(c, &args).map(|stateid| results.put(&stateid));
    }
    by_stateid(c, (&args.stateid, args.seqid), results, |c, _, _| downgrade(c, &args))
}

fn downgrade<F: FileStore>(c: &mut Compound<'_, F>, args: &DowngradeArgs) -> Done<Stateid> {
    let file = c.handle()?;
    let unknown = args.access & !ACCESS_MASK & if c.minor == 0 { u32::MAX } else { !WANT_MASK };
    let access = args.access & ACCESS_MASK;
    if access == 0 || unknown != 0 || args.deny > 3 {
        return Err(Status::Inval.into());
    }
    let (stateid, client) = (c.resolve(&args.stateid)?, c.client);
    let stateid = c.with(|state| state.downgrade(&stateid, client, &file, access, args.deny))?;
    c.current_stateid = Some(stateid.clone());
    Ok(stateid)
}

xdr_struct! {
    /// CLOSE4args.
    pub(super) struct CloseArgs {
        pub seqid: u32,
        pub stateid: Stateid,
    }
}

pub(super) fn close<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = CloseArgs::read(reader).map_err(|_| Status::BadXdr)?;
    if c.minor > 0 {
        return close_in_session(c, &args).map(|stateid| results.put(&stateid));
    }
    by_stateid(c, (&args.stateid, args.seqid), results, |c, owner, file| {
        c.with(|state| {
            let key = state.owner_of(&args.stateid)?;
            if key != *owner {
                return Err(Status::BadStateid);
            }
            // Noted first: afterwards the stateid says nothing any more.
            state.note_closed(owner, &args.stateid);
            state.close(&args.stateid, None, &file)
        })?;
        Ok(Stateid { seqid: args.stateid.seqid.wrapping_add(1), ..args.stateid.clone() })
    })
}

fn close_in_session<F: FileStore>(c: &mut Compound<'_, F>, args: &CloseArgs) -> Done<Stateid> {
    let file = c.handle()?;
    let (stateid, client) = (c.resolve(&args.stateid)?, c.client);
    c.with(|state| state.close(&stateid, client, &file))?;
    // RFC 8881 18.2.4: nothing that could be used again.
    c.current_stateid = Some(Stateid::INVALID);
    Ok(Stateid::INVALID)
}

/// No stateid is a delegation's.
pub(super) fn return_delegation<F: FileStore>(c: &mut Compound<'_, F>, _: Stateid) -> Done<()> {
    c.handle()?;
    Err(Status::BadStateid.into())
}
