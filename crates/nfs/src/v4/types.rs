//! The types that the operations share (RFC 8881 3.3, RFC 7530 2.2).

use bytes::Bytes;
use model::file::{Changed, Time};

use crate::xdr::{Reader, Writer, Xdr, XdrError, xdr_enum, xdr_opaque, xdr_struct};

/// Most bytes of the opaque names that clients make up (NFS4_OPAQUE_LIMIT).
pub const OPAQUE_BYTES_MAX: usize = 1024;
/// Most bytes of a handle (NFS4_FHSIZE).
pub const HANDLE_BYTES_MAX: usize = 128;

pub type Verifier = [u8; 8];

xdr_opaque! {
    /// `nfs_fh4`.
    pub struct HandleBytes(HANDLE_BYTES_MAX);
}

xdr_opaque! {
    /// A client's, open owner's or lock owner's name.
    pub struct OwnerName(OPAQUE_BYTES_MAX);
}

/// `clientid4`: the server's boot in the upper half, a number in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

impl Xdr for ClientId {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.u64().map(Self)
    }
    fn write(&self, writer: &mut Writer) {
        writer.u64(self.0);
    }
}

/// `sessionid4`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub [u8; 16]);

impl Xdr for SessionId {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Xdr::read(reader).map(Self)
    }
    fn write(&self, writer: &mut Writer) {
        writer.fixed(&self.0);
    }
}

xdr_struct! {
    /// `stateid4`.
    pub struct Stateid {
        pub seqid: u32,
        pub other: [u8; 12],
    }
}

impl Stateid {
    /// No state: "anonymous" (RFC 8881 8.2.3).
    pub const ANONYMOUS: Self = Self { seqid: 0, other: [0; 12] };
    /// No state, and reading past share reservations (RFC 8881 8.2.3).
    pub const READ_BYPASS: Self = Self { seqid: u32::MAX, other: [0xff; 12] };
    /// The stateid that an earlier operation of the compound gave (RFC 8881 16.2.3.1.2).
    pub const CURRENT: Self = Self { seqid: 1, other: [0; 12] };
    /// Never valid; what is left current by operations that take one away (RFC 8881 8.2.3).
    pub const INVALID: Self = Self { seqid: u32::MAX, other: [0; 12] };

    /// One of those without state.
    #[must_use]
    pub fn is_special(&self) -> bool {
        *self == Self::ANONYMOUS || *self == Self::READ_BYPASS
    }
}

xdr_struct! {
    /// `nfstime4`.
    pub struct Time4 {
        pub seconds: i64,
        pub nanos: u32,
    }
}

impl From<Time> for Time4 {
    fn from(time: Time) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos }
    }
}

impl From<Time4> for Time {
    fn from(time: Time4) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos }
    }
}

xdr_struct! {
    /// `change_info4`.
    pub struct ChangeInfo {
        pub atomic: bool,
        pub before: u64,
        pub after: u64,
    }
}

impl From<&Changed> for ChangeInfo {
    fn from(changed: &Changed) -> Self {
        Self { atomic: true, before: changed.before.change, after: changed.after.change }
    }
}

xdr_struct! {
    /// `state_owner4`: of opens or of locks.
    pub struct StateOwner {
        pub client: ClientId,
        pub name: OwnerName,
    }
}

xdr_enum! {
    /// `nfs_lock_type4`.
    pub enum LockType {
        Read = 1,
        Write = 2,
        /// Read; the client would wait.
        ReadWait = 3,
        /// Write; the client would wait.
        WriteWait = 4,
    }
}

impl LockType {
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteWait)
    }
}

xdr_enum! {
    /// `nfs_ftype4`.
    pub enum Kind {
        Regular = 1,
        Directory = 2,
        BlockDevice = 3,
        CharacterDevice = 4,
        Symlink = 5,
        Socket = 6,
        Fifo = 7,
    }
}

/// `bitmap4`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bitmap(pub Vec<u32>);

/// Most words of a bitmap that are looked at; attributes end long before.
const BITMAP_WORDS_MAX: usize = 64;

impl Bitmap {
    #[must_use]
    pub fn has(&self, bit: u32) -> bool {
        let word = usize::try_from(bit / 32).ok().and_then(|at| self.0.get(at));
        word.is_some_and(|word| word & 1 << (bit % 32) != 0)
    }
    pub fn set(&mut self, bit: u32) {
        let at = usize::try_from(bit / 32).unwrap_or(BITMAP_WORDS_MAX);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (bit % 32);
    }
    /// The bits that are set, in order.
    pub fn bits(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).flat_map(|(at, word)| {
            (0..32).filter(move |bit| word & 1 << bit != 0).map(move |bit| at * 32 + bit)
        })
    }
    #[must_use]
    pub fn of(bits: impl IntoIterator<Item = u32>) -> Self {
        let mut bitmap = Self::default();
        bits.into_iter().for_each(|bit| bitmap.set(bit));
        bitmap
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl Xdr for Bitmap {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.list(BITMAP_WORDS_MAX).map(Self)
    }
    fn write(&self, writer: &mut Writer) {
        writer.put(&self.0);
    }
}

xdr_struct! {
    /// `fattr4`: which attributes, and their values one after another.
    pub struct Fattr {
        pub which: Bitmap,
        pub values: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_holds_what_is_set_in_it() {
        let bitmap = Bitmap::of([0, 33, 75]);
        assert_eq!(bitmap.0, [1, 2, 1 << 11]);
        assert_eq!(bitmap.bits().collect::<Vec<_>>(), [0, 33, 75]);
        assert!(bitmap.has(33) && !bitmap.has(34) && !bitmap.has(4000));
        assert!(Bitmap(vec![0, 0]).is_empty());
    }
}
