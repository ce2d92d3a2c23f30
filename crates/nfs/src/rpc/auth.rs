//! Credentials and verifiers (RFC 5531 8.2 and appendix A).

use bytes::Bytes;

use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_struct};

/// Most bytes of a credential or verifier (RFC 5531 8.2).
pub const AUTH_BYTES_MAX: usize = 400;
/// Most supplementary groups of AUTH_SYS (RFC 5531 appendix A).
pub const GIDS_MAX: usize = 16;
/// Most bytes of the caller's machine name (RFC 5531 appendix A).
const MACHINE_NAME_BYTES_MAX: usize = 255;

xdr_enum! {
    /// Flavors of authentication (RFC 5531 8.2 and its registry).
    pub enum Flavor {
        None = 0,
        Sys = 1,
        Short = 2,
        Dh = 3,
        RpcsecGss = 6,
    }
}

xdr_enum! {
    /// Why authentication failed (RFC 5531 8.2).
    pub enum AuthStat {
        Ok = 0,
        BadCred = 1,
        RejectedCred = 2,
        BadVerf = 3,
        RejectedVerf = 4,
        TooWeak = 5,
        InvalidResp = 6,
        Failed = 7,
    }
}

/// `opaque_auth`: a flavor, known or not, and its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opaque {
    pub flavor: u32,
    pub body: Bytes,
}

impl Opaque {
    /// AUTH_NONE.
    #[must_use]
    pub fn none() -> Self {
        Self { flavor: Flavor::None.code(), body: Bytes::new() }
    }
}

impl Xdr for Opaque {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(Self { flavor: reader.u32()?, body: reader.opaque(AUTH_BYTES_MAX)? })
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(self.flavor);
        writer.opaque(&self.body);
    }
}

xdr_struct! {
    /// `authsys_parms` as it is on the wire; its limits are checked by [`Credential::of`].
    pub struct AuthSys {
        pub stamp: u32,
        pub machine: Bytes,
        pub uid: u32,
        pub gid: u32,
        pub gids: Vec<u32>,
    }
}

/// Who calls, as far as the call says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// AUTH_NONE: nobody in particular.
    None,
    Sys(AuthSys),
}

impl Credential {
    /// Reads a call's credential.
    ///
    /// # Errors
    /// [`AuthStat::BadCred`] when the body is not what its flavor says or over its limits,
    /// [`AuthStat::TooWeak`] for a flavor that is not spoken here.
    pub fn of(auth: &Opaque) -> Result<Self, AuthStat> {
        match Flavor::from_code(auth.flavor) {
            // "the body should be empty" (RFC 5531 10.1); what it holds says nothing.
            Some(Flavor::None) => Ok(Self::None),
            Some(Flavor::Sys) => {
                let parms: AuthSys =
                    crate::xdr::from_bytes(auth.body.clone()).map_err(|_| AuthStat::BadCred)?;
                let fits =
                    parms.gids.len() <= GIDS_MAX && parms.machine.len() <= MACHINE_NAME_BYTES_MAX;
                if fits { Ok(Self::Sys(parms)) } else { Err(AuthStat::BadCred) }
            }
            _ => Err(AuthStat::TooWeak),
        }
    }
    /// The credential as a call carries it.
    #[must_use]
    pub fn to_opaque(&self) -> Opaque {
        match self {
            Self::None => Opaque::none(),
            Self::Sys(parms) => {
                Opaque { flavor: Flavor::Sys.code(), body: crate::xdr::to_bytes(parms) }
            }
        }
    }
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::None => Flavor::None,
            Self::Sys(_) => Flavor::Sys,
        }
    }
}
