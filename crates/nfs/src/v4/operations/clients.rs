//! SETCLIENTID, SETCLIENTID_CONFIRM, RENEW: clients of NFSv4.0 (RFC 7530 16.29, 16.33, 16.34).

use bytes::Bytes;
use model::file::FileStore;

use super::{Done, Failed};
use crate::v4::compound::Compound;
use crate::v4::state::Exchange;
use crate::v4::status::Status;
use crate::v4::types::{ClientId, OwnerName, Verifier};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// SETCLIENTID4args. Where to call back is read and not used: there are no delegations.
    pub(super) struct SetClientIdArgs {
        pub verifier: Verifier,
        pub name: OwnerName,
        pub callback_program: u32,
        pub callback_address: (Bytes, Bytes),
        pub callback_ident: u32,
    }
}

pub(super) fn setclientid<F: FileStore>(
    c: &mut Compound<'_, F>,
    args: SetClientIdArgs,
) -> Done<(ClientId, Verifier)> {
    let (owner, verifier, principal) = (args.name.0, args.verifier, c.principal());
    let address = c.request().peer;
    let exchange = Exchange { owner, verifier, principal, address, update: false };
    let now_ms = c.service.now_ms;
    c.with(|state| state.set_client_id(&exchange, now_ms)).map_err(|status| match status {
        // The result says who has it; that is nobody's business.
        Status::ClidInUse => Failed::saying(status, &(Bytes::new(), Bytes::new())),
        other => other.into(),
    })
}

pub(super) fn setclientid_confirm<F: FileStore>(
    c: &mut Compound<'_, F>,
    (client, confirm): (ClientId, Verifier),
) -> Done<()> {
    let (principal, now_ms) = (c.principal(), c.service.now_ms);
    Ok(c.with(|state| state.confirm_client_id(client, confirm, principal, now_ms))?)
}

pub(super) fn renew<F: FileStore>(c: &mut Compound<'_, F>, client: ClientId) -> Done<()> {
    let now_ms = c.service.now_ms;
    c.with(|state| state.renew(client, now_ms))?;
    Ok(())
}
