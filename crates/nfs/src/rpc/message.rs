//! Calls and replies (RFC 5531 9).

use bytes::Bytes;

use super::{AuthStat, Opaque};
use crate::xdr::{Reader, Writer, Xdr, XdrError};

/// The version of the RPC protocol itself.
pub const RPC_VERSION: u32 = 2;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;
const SUCCESS: u32 = 0;
const PROG_UNAVAIL: u32 = 1;
const PROG_MISMATCH: u32 = 2;
const PROC_UNAVAIL: u32 = 3;
const GARBAGE_ARGS: u32 = 4;
const SYSTEM_ERR: u32 = 5;

/// Lowest and highest version that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub low: u32,
    pub high: u32,
}

impl Xdr for Versions {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(Self { low: reader.u32()?, high: reader.u32()? })
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(self.low);
        writer.u32(self.high);
    }
}

/// A call: who asks which procedure for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub xid: u32,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub credential: Opaque,
    pub verifier: Opaque,
    /// The arguments, not yet read.
    pub arguments: Bytes,
}

/// What to do with a record that is no call of RPC version 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Nothing can be answered to it: no call, or too little of one.
    Drop,
    /// To be answered with this.
    Answer(Reply),
}

impl Call {
    /// Reads a record.
    ///
    /// # Errors
    /// What is to be done with it instead.
    pub fn decode(record: Bytes) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(record);
        let head = |reader: &mut Reader| Ok((reader.u32()?, reader.u32()?));
        let (xid, kind) = head(&mut reader).map_err(|_: XdrError| Unreadable::Drop)?;
        if kind != CALL {
            return Err(Unreadable::Drop);
        }
        match reader.u32() {
            Ok(RPC_VERSION) => {}
            Ok(_) => {
                let versions = Versions { low: RPC_VERSION, high: RPC_VERSION };
                let body = ReplyBody::Denied(Denied::RpcMismatch(versions));
                return Err(Unreadable::Answer(Reply { xid, body }));
            }
            Err(_) => return Err(Unreadable::Drop),
        }
        Self::decode_body(xid, &mut reader).map_err(|_| {
            // The fields up to the arguments are the call's own: a call that lacks them has no
            // better answer than that its arguments are not there.
            let body = ReplyBody::Accepted(Accepted::GarbageArgs);
            Unreadable::Answer(Reply { xid, body })
        })
    }

    fn decode_body(xid: u32, reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(Self {
            xid,
            program: reader.u32()?,
            version: reader.u32()?,
            procedure: reader.u32()?,
            credential: Opaque::read(reader)?,
            verifier: Opaque::read(reader)?,
            arguments: reader.rest(),
        })
    }

    /// The record, without its mark.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        for number in [self.xid, CALL, RPC_VERSION, self.program, self.version, self.procedure] {
            writer.u32(number);
        }
        writer.put(&self.credential);
        writer.put(&self.verifier);
        writer.encoded(&self.arguments);
        writer.into_bytes()
    }
}

/// Why a call was not let in (RFC 5531 9, `rejected_reply`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    RpcMismatch(Versions),
    Auth(AuthStat),
}

/// What became of a call that was let in, but for its results (`accept_stat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// The results follow.
    Success,
    ProgUnavail,
    ProgMismatch(Versions),
    ProcUnavail,
    GarbageArgs,
    SystemErr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyBody {
    Accepted(Accepted),
    Denied(Denied),
}

/// A reply up to its results. Our verifier is always AUTH_NONE, as AUTH_SYS has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    pub xid: u32,
    pub body: ReplyBody,
}

impl Reply {
    #[must_use]
    pub fn accepted(xid: u32, accepted: Accepted) -> Self {
        Self { xid, body: ReplyBody::Accepted(accepted) }
    }
    #[must_use]
    pub fn denied(xid: u32, denied: Denied) -> Self {
        Self { xid, body: ReplyBody::Denied(denied) }
    }
}

impl Xdr for Reply {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        let xid = reader.u32()?;
        if reader.u32()? != REPLY {
            return Err(XdrError::BadValue);
        }
        let body = match reader.u32()? {
            MSG_ACCEPTED => {
                Opaque::read(reader)?;
                ReplyBody::Accepted(Accepted::read(reader)?)
            }
            MSG_DENIED => ReplyBody::Denied(Denied::read(reader)?),
            _ => return Err(XdrError::BadValue),
        };
        Ok(Self { xid, body })
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(self.xid);
        writer.u32(REPLY);
        match &self.body {
            ReplyBody::Accepted(accepted) => {
                writer.u32(MSG_ACCEPTED);
                writer.put(&Opaque::none());
                writer.put(accepted);
            }
            ReplyBody::Denied(denied) => {
                writer.u32(MSG_DENIED);
                writer.put(denied);
            }
        }
    }
}

impl Xdr for Accepted {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            SUCCESS => Self::Success,
            PROG_UNAVAIL => Self::ProgUnavail,
            PROG_MISMATCH => Self::ProgMismatch(Versions::read(reader)?),
            PROC_UNAVAIL => Self::ProcUnavail,
            GARBAGE_ARGS => Self::GarbageArgs,
            SYSTEM_ERR => Self::SystemErr,
            _ => return Err(XdrError::BadValue),
        })
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(match self {
            Self::Success => SUCCESS,
            Self::ProgUnavail => PROG_UNAVAIL,
            Self::ProgMismatch(_) => PROG_MISMATCH,
            Self::ProcUnavail => PROC_UNAVAIL,
            Self::GarbageArgs => GARBAGE_ARGS,
            Self::SystemErr => SYSTEM_ERR,
        });
        if let Self::ProgMismatch(versions) = self {
            writer.put(versions);
        }
    }
}

impl Xdr for Denied {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(match reader.u32()? {
            RPC_MISMATCH => Self::RpcMismatch(Versions::read(reader)?),
            AUTH_ERROR => Self::Auth(AuthStat::read(reader)?),
            _ => return Err(XdrError::BadValue),
        })
    }
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::RpcMismatch(versions) => {
                writer.u32(RPC_MISMATCH);
                writer.put(versions);
            }
            Self::Auth(stat) => {
                writer.u32(AUTH_ERROR);
                writer.put(stat);
            }
        }
    }
}
