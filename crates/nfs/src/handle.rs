//! File handles: what a client keeps of a file.
//!
//! ```text
//!  byte  0       1     4      8             24      32           40      56
//!        | form  | 0   | tree | file system | inode | generation | tag   |
//! ```
//!
//! The tag is a MAC over all before it: a handle that we did not give is no handle, so nobody
//! reaches a file by guessing. Inode and generation of a [`Form::Pseudo`] handle name a node of the
//! pseudo file system.

use bytes::Bytes;
use model::file::FileId;
use sha2::{Digest, Sha256};

/// Bytes of every handle of ours: within NFSv3's 64 and NFSv4's 128.
pub const HANDLE_BYTES: usize = 56;
/// Of the whole layout. Clients keep handles through an upgrade: a program that takes those of
/// another layout for none makes all that is mounted stale.
pub const LAYOUT: u32 = 1;
const SIGNED_BYTES: usize = 40;
const TAG_BYTES: usize = 16;
const _: () = assert!(SIGNED_BYTES + TAG_BYTES == HANDLE_BYTES);
/// Block size of SHA-256, for HMAC (RFC 2104).
const BLOCK_BYTES: usize = 64;

/// A file system's own name: given once, never a device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileSystemId(pub [u8; 16]);

/// A file among all that we serve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    pub form: Form,
    pub file_system: FileSystemId,
    pub file: FileId,
}

impl Handle {
    /// The two numbers that clients tell file systems apart by: one pair per tree.
    #[must_use]
    pub fn fsid(&self) -> (u64, u64) {
        let (high, low) = self.file_system.0.split_at(8);
        let number = |half: &[u8]| half.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        (number(high), number(low) ^ u64::from(self.file.tree))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Form {
    /// A file of an export.
    File,
    /// A directory that leads to exports.
    Pseudo,
}

/// The secret that handles are signed with: an export's own, which moves with its files, or the
/// server's. It has to outlive restarts, or handles go stale.
#[derive(Clone)]
pub struct HandleKey {
    inner: Sha256,
    outer: Sha256,
}

impl std::fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandleKey")
    }
}

impl HandleKey {
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let keyed = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(secret).for_each(|(byte, secret)| *byte ^= secret);
            Sha256::new().chain_update(block)
        };
        Self { inner: keyed(0x36), outer: keyed(0x5c) }
    }

    fn tag(&self, signed: &[u8]) -> [u8; TAG_BYTES] {
        let inner = self.inner.clone().chain_update(signed).finalize();
        let whole: [u8; 32] = self.outer.clone().chain_update(inner).finalize().into();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&whole[..TAG_BYTES]);
        tag
    }

    /// What all servers of this key have in common, and nobody else; it does not tell the key.
    #[must_use]
    pub fn name(&self) -> [u8; TAG_BYTES] {
        // No handle is of this length.
        self.tag(b"name")
    }

    #[must_use]
    pub fn seal(&self, handle: &Handle) -> Bytes {
        let mut bytes = Vec::with_capacity(HANDLE_BYTES);
        let form = match handle.form {
            Form::File => 1,
            Form::Pseudo => 2,
        };
        bytes.extend_from_slice(&[form, 0, 0, 0]);
        bytes.extend_from_slice(&handle.file.tree.to_be_bytes());
        bytes.extend_from_slice(&handle.file_system.0);
        bytes.extend_from_slice(&handle.file.inode.to_be_bytes());
        bytes.extend_from_slice(&handle.file.generation.to_be_bytes());
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        bytes.into()
    }

    /// The file that a handle names; `None` when it is not one of ours.
    #[must_use]
    pub fn open(&self, bytes: &[u8]) -> Option<Handle> {
        let handle = Handle::claimed(bytes)?;
        let (signed, tag) = bytes.split_at(SIGNED_BYTES);
        let differs = self.tag(signed).iter().zip(tag).fold(0, |all, (a, b)| all | (a ^ b));
        (differs == 0).then_some(handle)
    }
}

impl Handle {
    /// What bytes say that they name, whoever made them: enough to know whose key is to judge, and
    /// no more.
    pub(crate) fn claimed(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().ok()?;
        let (signed, _) = bytes.split_at(SIGNED_BYTES);
        let form = match signed[0] {
            1 => Form::File,
            2 => Form::Pseudo,
            _ => return None,
        };
        let (_, rest) = signed.split_first_chunk::<4>()?;
        let (tree, rest) = rest.split_first_chunk::<4>()?;
        let (file_system, rest) = rest.split_first_chunk::<16>()?;
        let (inode, rest) = rest.split_first_chunk::<8>()?;
        let generation = rest.first_chunk::<8>()?;
        let file = FileId {
            tree: u32::from_be_bytes(*tree),
            inode: u64::from_be_bytes(*inode),
            generation: u64::from_be_bytes(*generation),
        };
        Some(Self { form, file_system: FileSystemId(*file_system), file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(form: Form) -> Handle {
        let file = FileId { tree: 3, inode: u64::MAX - 1, generation: 77 };
        Handle { form, file_system: FileSystemId(*b"0123456789abcdef"), file }
    }

    #[test]
    fn a_handle_names_the_file_that_it_was_made_of() {
        let key = HandleKey::new(&[5; 32]);
        for form in [Form::File, Form::Pseudo] {
            let bytes = key.seal(&handle(form));
            assert_eq!(bytes.len(), HANDLE_BYTES);
            assert_eq!(key.open(&bytes), Some(handle(form)));
        }
    }

    #[test]
    fn no_changed_cut_or_foreign_handle_is_taken() {
        let key = HandleKey::new(&[5; 32]);
        let bytes = key.seal(&handle(Form::File));
        for bit in 0..HANDLE_BYTES * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&changed), None, "bit {bit}");
        }
        assert_eq!(key.open(&bytes[..55]), None);
        assert_eq!(key.open(&[]), None);
        assert_eq!(HandleKey::new(&[6; 32]).open(&bytes), None);
    }

    #[test]
    fn the_tag_is_hmac_sha256() {
        // RFC 4231 4.2 has a key of 20 bytes; zeros behind a key change nothing in HMAC.
        let mut secret = [0; 32];
        secret[..20].fill(0x0b);
        let tag = HandleKey::new(&secret).tag(b"Hi There");
        assert_eq!(tag[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
    }
}
