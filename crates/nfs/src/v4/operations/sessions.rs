//! EXCHANGE_ID, CREATE_SESSION, DESTROY_SESSION, DESTROY_CLIENTID, BIND_CONN_TO_SESSION,
//! BACKCHANNEL_CTL, RECLAIM_COMPLETE, TEST_STATEID, FREE_STATEID (RFC 8881 18.33 to 18.38, 18.48,
//! 18.50, 18.51).

use bytes::Bytes;
use model::file::FileStore;

use super::Done;
use crate::rpc::AuthSys;
use crate::v4::compound::Compound;
use crate::v4::state::{Channel, Exchange};
use crate::v4::status::Status;
use crate::v4::types::{Bitmap, ClientId, OwnerName, SessionId, Stateid, Verifier};
use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_struct, xdr_union};

const USE_NON_PNFS: u32 = 0x1_0000;
const UPDATE_CONFIRMED: u32 = 0x4000_0000;
const CONFIRMED: u32 = 0x8000_0000;
/// Every flag that EXCHANGE_ID may be asked with (RFC 8881 18.35.3). EXCHGID4_FLAG_SUPP_FENCE_OPS
/// of NFSv4.2 (RFC 7862 14.1) is not among them: it is refused as other servers do, which makes
/// plain that no operation is fenced.
const ASKABLE: u32 = 0x1 | 0x2 | 0x100 | 0x7_0000 | UPDATE_CONFIRMED;

xdr_struct! {
    /// `nfs_impl_id4`.
    pub(super) struct Implementation {
        pub domain: Bytes,
        pub name: Bytes,
        pub seconds: i64,
        pub nanos: u32,
    }
}

xdr_struct! {
    /// `ssv_sp_parms4`.
    pub(super) struct SsvParms {
        pub ops: (Bitmap, Bitmap),
        pub hash_algorithms: Vec<Bytes>,
        pub encryption_algorithms: Vec<Bytes>,
        pub window: u32,
        pub handles: u32,
    }
}

xdr_union! {
    /// `state_protect4_a`.
    pub(super) enum StateProtect {
        None = 0,
        MachineCredential(ops: (Bitmap, Bitmap)) = 1,
        Ssv(parms: SsvParms) = 2,
    }
}

xdr_struct! {
    /// EXCHANGE_ID4args.
    pub(super) struct ExchangeArgs {
        pub verifier: Verifier,
        pub owner: OwnerName,
        pub flags: u32,
        pub protect: StateProtect,
        pub implementation: Vec<Implementation>,
    }
}

xdr_struct! {
    /// EXCHANGE_ID4resok, with SP4_NONE.
    pub(super) struct ExchangeOk {
        pub client: ClientId,
        pub sequence: u32,
        pub flags: u32,
        pub protect: u32,
        pub minor_id: u64,
        pub major_id: Bytes,
        pub scope: Bytes,
        pub implementation: Vec<Implementation>,
    }
}

pub(super) fn exchange_id<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: ExchangeArgs,
) -> Done<ExchangeOk> {
    if args.implementation.len() > 1 {
        return Err(Status::BadXdr.into());
    }
    if args.flags & !ASKABLE != 0 {
        return Err(Status::Inval.into());
    }
    match args.protect {
        StateProtect::None => {}
        // Only RPCSEC_GSS has what these need (RFC 8881 2.10.8.3).
        StateProtect::MachineCredential(_) => return Err(Status::Inval.into()),
        StateProtect::Ssv(_) => return Err(Status::EncrAlgUnsupp.into()),
    }
    let (owner, verifier, principal) = (args.owner.0, args.verifier, c.principal());
    let update = args.flags & UPDATE_CONFIRMED != 0;
    let address = c.request().peer;
    let exchange = Exchange { owner, verifier, principal, address, update };
    let now_ms = c.service.now_ms;
    let reply = c.with(|state| state.exchange_id(&exchange, now_ms))?;
    let name = Bytes::copy_from_slice(c.service.name);
    Ok(ExchangeOk {
        client: reply.client,
        sequence: reply.sequence,
        flags: USE_NON_PNFS | if reply.confirmed { CONFIRMED } else { 0 },
        protect: 0,
        minor_id: 0,
        major_id: name.clone(),
        scope: name,
        implementation: Vec::new(),
    })
}

xdr_struct! {
    /// `gss_cb_handles4`.
    pub(super) struct GssHandles {
        pub service: u32,
        pub from_server: Bytes,
        pub from_client: Bytes,
    }
}

/// `callback_sec_parms4`: read and not used, since nobody is called back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CallbackSecurity;

impl Xdr for CallbackSecurity {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        match reader.u32()? {
            0 => {}
            1 => {
                AuthSys::read(reader)?;
            }
            6 => {
                GssHandles::read(reader)?;
            }
            _ => return Err(XdrError::BadValue),
        }
        Ok(Self)
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(0);
    }
}

xdr_struct! {
    /// CREATE_SESSION4args.
    pub(super) struct CreateSessionArgs {
        pub client: ClientId,
        pub sequence: u32,
        pub flags: u32,
        pub fore: Channel,
        pub back: Channel,
        pub callback_program: u32,
        pub security: Vec<CallbackSecurity>,
    }
}

/// CREATE_SESSION4_FLAG_PERSIST, _CONN_BACK_CHAN, _CONN_RDMA.
const SESSION_FLAGS: u32 = 7;
/// We say yes to the back channel, and never use it.
const CONN_BACK_CHAN: u32 = 2;

/// A result that was written before.
pub(super) struct Written(Bytes);

impl Xdr for Written {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(Self(reader.rest()))
    }
    fn write(&self, writer: &mut Writer) {
        writer.fixed(&self.0);
    }
}

pub(super) fn create_session<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: CreateSessionArgs,
) -> Done<Written> {
    let channels = (&args.fore, &args.back);
    if [channels.0, channels.1].iter().any(|channel| channel.rdma_ird.len() > 1) {
        return Err(Status::BadXdr.into());
    }
    if args.flags & !SESSION_FLAGS != 0 {
        return Err(Status::Inval.into());
    }
    let reply = |session: SessionId, fore: &Channel| {
        let mut writer = Writer::default();
        writer.put(&session);
        writer.u32(args.sequence);
        writer.u32(args.flags & CONN_BACK_CHAN);
        writer.put(fore);
        writer.put(&Channel { header_pad_bytes: 0, rdma_ird: Vec::new(), ..args.back.clone() });
        writer.into_bytes()
    };
    let (principal, now_ms) = (c.principal(), c.service.now_ms);
    let asked = (args.client, args.sequence);
    let bytes = c.with(|state| state.create_session(asked, principal, channels, now_ms, reply))?;
    Ok(Written(bytes))
}

pub(super) fn destroy_session<F: FileStore>(c: &mut Compound<'_, F>, id: SessionId) -> Done<()> {
    let own = c.session();
    // Nothing could follow the end of the own session (RFC 8881 18.37.3).
    if own == Some(id) && !c.is_last() {
        return Err(Status::NotOnlyOp.into());
    }
    Ok(c.with(|state| state.destroy_session(id, own))?)
}

pub(super) fn destroy_clientid<F: FileStore>(c: &mut Compound<'_, F>, id: ClientId) -> Done<()> {
    Ok(c.with(|state| state.destroy_client_id(id))?)
}

xdr_enum! {
    /// `channel_dir_from_client4`.
    pub(super) enum Direction {
        Fore = 1,
        Back = 2,
        ForeOrBoth = 3,
        BackOrBoth = 7,
    }
}

xdr_struct! {
    /// BIND_CONN_TO_SESSION4args; the result has the same form.
    pub(super) struct BindArgs {
        pub session: SessionId,
        pub direction: Direction,
        pub rdma: bool,
    }
}

/// Any connection may carry any session: only state protection would bind them.
pub(super) fn bind_conn_to_session<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: BindArgs,
) -> Done<(SessionId, (u32, bool))> {
    c.with(|state| state.check_session(args.session))?;
    let given = match args.direction {
        Direction::Fore => 1,
        Direction::Back => 2,
        Direction::ForeOrBoth | Direction::BackOrBoth => 3,
    };
    Ok((args.session, (given, false)))
}

pub(super) fn backchannel_ctl<F: FileStore>(
    _: &mut Compound<'_, F>,
    (_, _): (u32, Vec<CallbackSecurity>),
) -> Done<()> {
    Ok(())
}

pub(super) fn reclaim_complete<F: FileStore>(c: &mut Compound<'_, F>, one: bool) -> Done<()> {
    let client = c.client.ok_or(Status::OpNotInSession)?;
    if one {
        // Of one file system: nothing moves here from one server to another, so that there is
        // nothing to note.
        c.handle()?;
        return Ok(());
    }
    let now_ms = c.service.now_ms;
    Ok(c.with(|state| state.reclaim_complete(client, now_ms))?)
}

pub(super) fn test_stateid<F: FileStore>(
    c: &mut Compound<'_, F>,
    stateids: Vec<Stateid>,
) -> Done<Vec<Status>> {
    let client = c.client.ok_or(Status::OpNotInSession)?;
    Ok(c.with(|state| stateids.iter().map(|one| state.test_stateid(one, client)).collect()))
}

pub(super) fn free_stateid<F: FileStore>(c: &mut Compound<'_, F>, stateid: Stateid) -> Done<()> {
    let client = c.client.ok_or(Status::OpNotInSession)?;
    let stateid = c.resolve(&stateid)?;
    Ok(c.with(|state| state.free_stateid(&stateid, client))?)
}
