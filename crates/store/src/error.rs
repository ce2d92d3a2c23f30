//! What can go wrong in the store: one sentence per variant.

use std::io;

use model::size::ByteSize;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The pool's limit or its file system has no room. Earlier content is untouched.
    #[error(
        "the pool is full: {needed} needed, {free} free; delete snapshots or volumes, or add space"
    )]
    NoSpace { needed: ByteSize, free: ByteSize },
    /// The operating system reports a failure of the device or file system.
    #[error("{what} failed: {source}")]
    Io { what: String, source: io::Error },
    /// Something that was durable cannot be read back as it was written.
    #[error("{what} is damaged: {why}")]
    Corrupt { what: String, why: String },
    /// No such volume or snapshot here.
    #[error("{what} does not exist in this pool")]
    Missing { what: String },
    /// Legal to ask, wrong to do now.
    #[error("refused: {why}")]
    Refused { why: String },
    /// Beyond the end of the volume.
    #[error("{length} bytes at {offset} reach beyond the end of the volume ({size} bytes)")]
    OutOfRange { offset: u64, length: u64, size: u64 },
    /// Not a multiple of a logical block.
    #[error("{length} bytes at {offset} are not whole 512-byte blocks")]
    Unaligned { offset: u64, length: u64 },
    /// Written by a newer version, or not one of ours.
    #[error("{what} has a format that this version cannot use: {why}")]
    Format { what: String, why: String },
    /// The caller asked to stop.
    #[error("the work was cancelled")]
    Cancelled,
}

/// Is this error the operating system's way to say that there is no room (ENOSPC, EDQUOT)?
fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(source.raw_os_error(), Some(28 | 122))
}

impl StoreError {
    /// An I/O error of `needed_bytes` bytes of work, sorted into "no room" and "failure".
    pub(crate) fn from_io(what: impl Into<String>, needed_bytes: u64, source: io::Error) -> Self {
        if is_full(&source) {
            Self::NoSpace { needed: ByteSize(needed_bytes), free: ByteSize(0) }
        } else {
            Self::Io { what: what.into(), source }
        }
    }
    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
    }
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::Missing { what: what.into() }
    }
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        for errno in [28, 122] {
            let error = StoreError::from_io("write", 4096, io::Error::from_raw_os_error(errno));
            assert!(matches!(error, StoreError::NoSpace { needed: ByteSize(4096), .. }));
        }
        let error = StoreError::from_io("write", 4096, io::Error::from_raw_os_error(5));
        assert!(matches!(error, StoreError::Io { .. }));
    }
}
