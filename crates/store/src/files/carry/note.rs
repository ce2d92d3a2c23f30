//! What goes with each file of a tree that moves: its id, its time of access, and what an exclusive
//! creation left at it.
//!
//! ```text
//!  byte  0      4       12           20        28      32
//!        | tree | inode | generation | seconds | nanos | nothing, or 20 bytes of a verifier |
//! ```

use model::file::{FileId, Time};

use crate::fields::Fields;
use crate::files::names::VERIFIER_BYTES;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) id: FileId,
    pub(crate) accessed: Time,
    pub(crate) verifier: Option<[u8; VERIFIER_BYTES]>,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let FileId { tree, inode, generation } = self.id;
        let mut out = tree.to_be_bytes().to_vec();
        out.extend_from_slice(&inode.to_be_bytes());
        out.extend_from_slice(&generation.to_be_bytes());
        out.extend_from_slice(&self.accessed.seconds.to_be_bytes());
        out.extend_from_slice(&self.accessed.nanos.to_be_bytes());
        out.extend_from_slice(self.verifier.as_ref().map_or(&[][..], |verifier| verifier));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (tree, inode, generation) = (fields.u32()?, fields.u64()?, fields.u64()?);
        let (seconds, nanos) = (fields.u64()?.cast_signed(), fields.u32()?);
        let verifier = match fields.0 {
            [] => None,
            rest => Some(rest.try_into().ok()?),
        };
        let accessed = (nanos < 1_000_000_000).then_some(Time { seconds, nanos })?;
        Some(Self { id: FileId { tree, inode, generation }, accessed, verifier })
    }
}
