//! How much of the pool is taken, and the limit.
//!
//! Bytes are counted in whole chunks (64 KiB): a chunk counts from the moment when its first byte
//! is written until it is discarded or its layer goes. So the count is never below what the data
//! files take and at most one chunk per started chunk above it; records and maps are not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use model::size::ByteSize;

use crate::error::StoreError;

/// The pool's account.
#[derive(Debug)]
pub(crate) struct Space {
    used: AtomicU64,
    /// `u64::MAX`: none.
    limit: AtomicU64,
}

/// Room that was taken for a write; what was not spent goes back on drop.
pub(crate) struct Claim<'a> {
    space: &'a Space,
    left: u64,
}

impl Space {
    pub(crate) fn new(limit: Option<ByteSize>) -> Self {
        let space = Self { used: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) };
        space.set_limit(limit);
        space
    }
    /// From now on. Below what is used already: nothing is lost, and nothing more is taken.
    pub(crate) fn set_limit(&self, limit: Option<ByteSize>) {
        self.limit.store(limit.map_or(u64::MAX, ByteSize::bytes), Ordering::Relaxed);
    }
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
    pub(crate) fn limit(&self) -> Option<u64> {
        match self.limit.load(Ordering::Relaxed) {
            u64::MAX => None,
            limit => Some(limit),
        }
    }
    /// Take room, or refuse with numbers.
    pub(crate) fn claim(&self, bytes: u64) -> Result<Claim<'_>, StoreError> {
        if bytes > 0 {
            let limit = self.limit.load(Ordering::Relaxed);
            let grow = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).map_err(|used| {
                let free = ByteSize(limit.saturating_sub(used));
                StoreError::NoSpace { needed: ByteSize(bytes), free }
            })?;
        }
        Ok(Claim { space: self, left: bytes })
    }
    /// Count bytes that are there whatever the limit says.
    pub(crate) fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }
    /// The same for bytes that are about to be moved here from another layer.
    pub(crate) fn claim_moved(&self, bytes: u64) -> Claim<'_> {
        self.add(bytes);
        Claim { space: self, left: bytes }
    }
    pub(crate) fn release(&self, bytes: u64) {
        let shrink = |used: u64| Some(used.saturating_sub(bytes));
        // The closure never refuses, so there is no error to look at.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shrink);
    }
}

impl Claim<'_> {
    /// These bytes are now in a file.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.space.release(self.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_limit_holds_at_once() {
        let space = Space::new(Some(ByteSize(100)));
        space.claim(80).unwrap().spend(80);
        assert!(space.claim(40).is_err());
        space.set_limit(Some(ByteSize(200)));
        assert!(space.claim(40).is_ok());
        space.set_limit(Some(ByteSize(50)));
        assert!(space.claim(1).is_err(), "less than is used: nothing more");
        space.set_limit(None);
        assert_eq!(space.limit(), None);
        assert!(space.claim(1 << 40).is_ok());
    }

    #[test]
    fn a_claim_gives_back_what_it_did_not_spend() {
        let space = Space::new(Some(ByteSize(100)));
        let mut claim = space.claim(60).unwrap();
        assert!(matches!(
            space.claim(50),
            Err(StoreError::NoSpace { needed: ByteSize(50), free: ByteSize(40) })
        ));
        claim.spend(20);
        drop(claim);
        assert_eq!(space.used(), 20);
        assert!(space.claim(80).is_ok());
    }
}
