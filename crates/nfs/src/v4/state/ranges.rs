//! Byte ranges that are locked in one file.
//!
//! Invariant: ranges of one owner never overlap, and touching ones of one type are one; ranges of
//! two owners overlap only when both are for reading.

/// A locked range, both ends included, so that one may reach to the last byte there can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held<K> {
    pub owner: K,
    pub first: u64,
    pub last: u64,
    pub write: bool,
}

/// The ranges of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranges<K>(Vec<Held<K>>);

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + PartialEq> Ranges<K> {
    /// Ranges of others that forbid this one.
    pub fn conflicts(
        &self,
        owner: Option<K>,
        (first, last): (u64, u64),
        write: bool,
    ) -> impl Iterator<Item = &Held<K>> {
        self.0.iter().filter(move |held| {
            Some(held.owner) != owner
                && held.first <= last
                && first <= held.last
                && (write || held.write)
        })
    }

    /// Locks a range that nobody else's forbids; what the owner has there changes its type.
    pub fn lock(&mut self, owner: K, (first, last): (u64, u64), write: bool) {
        self.unlock(owner, (first, last));
        let mut new = Held { owner, first, last, write };
        // Whatever of the owner's touches it now lies outside of it.
        self.0.retain(|held| {
            let touches = held.last.checked_add(1) == Some(new.first)
                || new.last.checked_add(1) == Some(held.first);
            let joins = held.owner == owner && held.write == write && touches;
            if joins {
                new.first = new.first.min(held.first);
                new.last = new.last.max(held.last);
            }
            !joins
        });
        self.0.push(new);
    }

    /// Takes a range away from what the owner has.
    pub fn unlock(&mut self, owner: K, (first, last): (u64, u64)) {
        let mut rests = Vec::new();
        self.0.retain(|held| {
            if held.owner != owner || held.last < first || last < held.first {
                return true;
            }
            if held.first < first {
                rests.push(Held { last: first - 1, ..*held });
            }
            if held.last > last {
                rests.push(Held { first: last + 1, ..*held });
            }
            false
        });
        self.0.append(&mut rests);
    }

    pub fn drop_owner(&mut self, owner: K) {
        self.0.retain(|held| held.owner != owner);
    }

    #[must_use]
    pub fn holds(&self, owner: K) -> bool {
        self.0.iter().any(|held| held.owner == owner)
    }

    /// The owner of every range.
    pub fn owners(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|held| held.owner)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: u64 = 16;
    const PLACES: usize = 16;
    const OWNERS: u8 = 3;

    /// The reference: each byte knows who has locked it how. The last byte stands for all from
    /// there to the end.
    type Model = [[Option<bool>; PLACES]; OWNERS as usize];

    fn bytes(first: u64, last: u64) -> impl Iterator<Item = usize> {
        (first..=last.min(BYTES - 1)).map(|at| usize::try_from(at).unwrap())
    }

    fn forbids(model: &Model, owner: u8, range: (u64, u64), write: bool) -> bool {
        (0..OWNERS).filter(|other| *other != owner).any(|other| {
            bytes(range.0, range.1).any(|at| match model[usize::from(other)][at] {
                Some(held) => held || write,
                None => false,
            })
        })
    }

    proptest! {
        #[test]
        fn ranges_are_what_every_byte_says(
            steps in prop::collection::vec(
                (0..OWNERS, 0..BYTES, 0..=BYTES, prop::option::of(any::<bool>())), 1..60
            ),
        ) {
            let (mut ranges, mut model) = (Ranges::default(), Model::default());
            for (owner, first, length, action) in steps {
                let end = first + length;
                let last = if end >= BYTES - 1 { u64::MAX } else { end };
                let found = |write| ranges.conflicts(Some(owner), (first, last), write).count() > 0;
                for write in [false, true] {
                    prop_assert_eq!(found(write), forbids(&model, owner, (first, last), write));
                }
                match action {
                    Some(write) if found(write) => continue,
                    Some(write) => ranges.lock(owner, (first, last), write),
                    None => ranges.unlock(owner, (first, last)),
                }
                bytes(first, last).for_each(|at| model[usize::from(owner)][at] = action);
                let mut seen = Model::default();
                for held in &ranges.0 {
                    for at in bytes(held.first, held.last) {
                        let place = &mut seen[usize::from(held.owner)][at];
                        prop_assert_eq!(place.replace(held.write), None, "own ranges overlap");
                    }
                }
                prop_assert_eq!(seen, model);
                for owner in 0..OWNERS {
                    // As few ranges as there can be: one for each run of equal bytes.
                    let mut runs = model[usize::from(owner)].to_vec();
                    runs.dedup();
                    let runs = runs.iter().flatten().count();
                    let have = ranges.0.iter().filter(|held| held.owner == owner).count();
                    prop_assert_eq!(have, runs);
                    prop_assert_eq!(ranges.holds(owner), runs > 0);
                }
            }
        }
    }
}
