//! Random bytes.

/// A source of random bytes. The simulator's is seeded.
pub trait Random: Send + Sync {
    /// Fill the slice.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system always has random bytes after boot");
    }
}
