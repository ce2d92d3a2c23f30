//! LOCK, LOCKT, LOCKU, RELEASE_LOCKOWNER (RFC 8881 18.10 to 18.12; RFC 7530 16.37).

use model::file::{FileKind, FileStore};

use super::opens::in_turn;
use super::{Done, Failed};
use crate::v4::compound::Compound;
use crate::v4::state::{Claim, Denied, LockOwner, LockRequest, OwnerKey};
use crate::v4::status::Status;
use crate::v4::types::{LockType, OwnerName, StateOwner, Stateid};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_struct};

xdr_struct! {
    /// `open_to_lock_owner4`.
    pub(super) struct NewOwner {
        pub open_seqid: u32,
        pub open: Stateid,
        pub lock_seqid: u32,
        pub owner: StateOwner,
    }
}

xdr_struct! {
    /// `exist_lock_owner4`.
    pub(super) struct KnownOwner {
        pub stateid: Stateid,
        pub seqid: u32,
    }
}

/// `locker4`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Locker {
    New(NewOwner),
    Known(KnownOwner),
}

impl Xdr for Locker {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        if bool::read(reader)? {
            NewOwner::read(reader).map(Self::New)
        } else {
            KnownOwner::read(reader).map(Self::Known)
        }
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::New(owner) => {
                writer.put(&true);
                writer.put(owner);
            }
            Self::Known(owner) => {
                writer.put(&false);
                writer.put(owner);
            }
        }
    }
}

xdr_struct! {
    /// LOCK4args.
    pub(super) struct LockArgs {
        pub kind: LockType,
        pub reclaim: bool,
        pub offset: u64,
        pub length: u64,
        pub locker: Locker,
    }
}

xdr_struct! {
    /// LOCK4denied.
    pub(super) struct LockDenied {
        pub offset: u64,
        pub length: u64,
        pub kind: LockType,
        pub owner: StateOwner,
    }
}

/// First and last byte. A length of all ones reaches to the end (RFC 8881 18.10.3).
fn range(offset: u64, length: u64) -> Result<(u64, u64), Status> {
    match length {
        0 => Err(Status::Inval),
        u64::MAX => Ok((offset, u64::MAX)),
        _ if offset.checked_add(length).is_none() => Err(Status::Inval),
        _ => Ok((offset, offset + length - 1)),
    }
}

impl From<Denied> for Failed {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Status(status) => status.into(),
            Denied::Held { first, last, write, client, owner } => {
                let length = if last == u64::MAX { u64::MAX } else { last - first + 1 };
                let kind = if write { LockType::Write } else { LockType::Read };
                let owner = StateOwner { client, name: OwnerName(owner) };
                Self::saying(Status::Denied, &LockDenied { offset: first, length, kind, owner })
            }
        }
    }
}

/// Only regular files are locked.
fn check_kind<F: FileStore>(c: &Compound<'_, F>) -> Result<(), Status> {
    let place = c.file(Status::IsDir)?;
    match place.store().attributes(place.file)?.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Status::IsDir),
        FileKind::Symlink if c.minor > 0 => Err(Status::Symlink),
        _ if c.minor > 0 => Err(Status::WrongType),
        _ => Err(Status::Inval),
    }
}

pub(super) fn lock<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = LockArgs::read(reader).map_err(|_| Status::BadXdr)?;
    c.handle()?;
    let run = |c: &mut Compound<'_, F>, results: &mut Writer| {
        lock_now(c, &args).map(|stateid| results.put(&stateid))
    };
    if c.minor > 0 {
        return run(c, results);
    }
    let now_ms = c.service.now_ms;
    let turns = c.with(|state| match &args.locker {
        Locker::Known(known) => {
            state.renew_by(&known.stateid, now_ms);
            state.owner_of(&known.stateid).map(|owner| (owner, known.seqid, None))
        }
        Locker::New(new) => {
            state.renew_by(&new.open, now_ms);
            let owner = state.owner_of(&new.open)?;
            state.check_client(new.owner.client, owner.client)?;
            let name = new.owner.name.0.clone();
            let locks = OwnerKey { client: owner.client, name, of_locks: true };
            Ok((owner, new.open_seqid, Some((locks, new.lock_seqid))))
        }
    });
    match turns? {
        (owner, seqid, None) => in_turn(c, (&owner, seqid), results, run),
        // Both owners move on: that of the open, and that of the locks, who begins here.
        (owner, seqid, Some((locks, lock_seqid))) => {
            in_turn(c, (&owner, seqid), results, |c, results| {
                in_turn(c, (&locks, lock_seqid), results, run)
            })
        }
    }
}

fn lock_now<F: FileStore>(c: &mut Compound<'_, F>, args: &LockArgs) -> Done<Stateid> {
    check_kind(c)?;
    let range = range(args.offset, args.length)?;
    let owner = match &args.locker {
        Locker::Known(known) => LockOwner::Known(c.resolve(&known.stateid)?),
        Locker::New(new) => {
            LockOwner::New { open: c.resolve(&new.open)?, name: new.owner.name.0.clone() }
        }
    };
    let claim = if args.reclaim { Claim::Reclaim } else { Claim::New };
    let (file, write) = (c.handle()?, args.kind.is_write());
    let asked = LockRequest { owner, file, range, write, claim };
    let (client, now_ms) = (c.client, c.service.now_ms);
    let stateid = c.with(|state| state.lock(&asked, client, now_ms))?;
    c.current_stateid = Some(stateid.clone());
    Ok(stateid)
}

xdr_struct! {
    /// LOCKT4args.
    pub(super) struct LocktArgs {
        pub kind: LockType,
        pub offset: u64,
        pub length: u64,
        pub owner: StateOwner,
    }
}

pub(super) fn lockt<F: FileStore>(c: &mut Compound<'_, F>, args: LocktArgs) -> Done<()> {
    check_kind(c)?;
    let range = range(args.offset, args.length)?;
    let now_ms = c.service.now_ms;
    let client = match c.client {
        Some(client) => client,
        None => c.with(|state| state.renew(args.owner.client, now_ms))?,
    };
    let (file, write) = (c.handle()?, args.kind.is_write());
    c.with(|state| state.test_lock((client, &args.owner.name.0), &file, range, write, now_ms))?;
    Ok(())
}

xdr_struct! {
    /// LOCKU4args.
    pub(super) struct LockuArgs {
        pub kind: LockType,
        pub seqid: u32,
        pub stateid: Stateid,
        pub offset: u64,
        pub length: u64,
    }
}

pub(super) fn locku<F: FileStore>(
    c: &mut Compound<'_, F>,
    reader: &mut Reader,
    results: &mut Writer,
) -> Done<()> {
    let args = LockuArgs::read(reader).map_err(|_| Status::BadXdr)?;
    if c.minor > 0 {
        return unlock(c, &args).map(|stateid| results.put(&stateid));
    }
    let of = (&args.stateid, args.seqid);
    super::opens::by_stateid(c, of, results, |c, _, _| unlock(c, &args))
}

fn unlock<F: FileStore>(c: &mut Compound<'_, F>, args: &LockuArgs) -> Done<Stateid> {
    let file = c.handle()?;
    let range = range(args.offset, args.length)?;
    let (stateid, client) = (c.resolve(&args.stateid)?, c.client);
    let stateid = c.with(|state| state.unlock(&stateid, client, &file, range))?;
    c.current_stateid = Some(stateid.clone());
    Ok(stateid)
}

pub(super) fn release_lockowner<F: FileStore>(
    c: &mut Compound<'_, F>,
    owner: StateOwner,
) -> Done<()> {
    let now_ms = c.service.now_ms;
    c.with(|state| {
        let client = state.renew(owner.client, now_ms)?;
        state.release_lock_owner(client, &owner.name.0)
    })?;
    Ok(())
}
