//! The bytes of a regular file: pages that were written, holes between them.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::file::Content;

pub(super) const PAGE_BYTES: u64 = 4096;
type Page = Box<[u8]>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) size: u64,
    pages: BTreeMap<u64, Page>,
}

/// Position within a page.
fn within(offset: u64) -> usize {
    usize::try_from(offset % PAGE_BYTES).expect("a page is small")
}

/// The pieces of a range, page by page: page, offset within it, bytes.
fn pieces(offset: u64, bytes: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (page, from) = (at / PAGE_BYTES, at);
            at = end.min((page + 1) * PAGE_BYTES);
            let length = usize::try_from(at - from).expect("a page is small");
            (page, within(from), length)
        })
    })
}

fn empty() -> Page {
    vec![0; usize::try_from(PAGE_BYTES).expect("a page is small")].into()
}

impl Contents {
    pub(super) fn used_pages(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn read(&self, offset: u64, bytes: u32) -> Bytes {
        let bytes = self.size.saturating_sub(offset).min(u64::from(bytes));
        let mut data = Vec::new();
        for (page, from, length) in pieces(offset, bytes) {
            match self.pages.get(&page) {
                Some(page) => data.extend_from_slice(&page[from..from + length]),
                None => data.resize(data.len() + length, 0),
            }
        }
        data.into()
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        for (page, from, length) in pieces(offset, data.len() as u64) {
            let (now, later) = rest.split_at(length);
            self.pages.entry(page).or_insert_with(empty)[from..from + length].copy_from_slice(now);
            rest = later;
        }
        if !data.is_empty() {
            self.size = self.size.max(offset + data.len() as u64);
        }
    }

    /// Pages that a write of this range would add.
    pub(super) fn pages_missing(&self, offset: u64, bytes: u64) -> u64 {
        pieces(offset, bytes).filter(|(page, ..)| !self.pages.contains_key(page)).count() as u64
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE_BYTES));
            let tail = size.next_multiple_of(PAGE_BYTES) - size;
            self.zero(size, tail, false);
        }
        self.size = size;
    }

    pub(super) fn allocate(&mut self, offset: u64, bytes: u64) {
        for (page, ..) in pieces(offset, bytes) {
            self.pages.entry(page).or_insert_with(empty);
        }
        self.size = self.size.max(offset + bytes);
    }

    /// Zeroes a range; whole pages of it become holes.
    pub(super) fn zero(&mut self, offset: u64, bytes: u64, punch: bool) {
        for (page, from, length) in pieces(offset, bytes) {
            if punch && length as u64 == PAGE_BYTES {
                self.pages.remove(&page);
            } else if let Some(page) = self.pages.get_mut(&page) {
                page[from..from + length].fill(0);
            }
        }
    }

    /// See [`model::file::FileStore::seek`].
    pub(super) fn seek(&self, offset: u64, what: Content) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let first = offset / PAGE_BYTES;
        let page = match what {
            Content::Data => *self.pages.range(first..).next()?.0,
            Content::Hole => {
                let mut page = first;
                while self.pages.contains_key(&page) {
                    page += 1;
                }
                page
            }
        };
        let found = offset.max(page * PAGE_BYTES);
        match what {
            Content::Data => (found < self.size).then_some(found),
            Content::Hole => Some(found.min(self.size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Resize(u64),
        Allocate(u64, u64),
        Zero(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (at, length) = (0u64..20_000, 0u64..9000);
        prop_oneof![
            (at.clone(), prop::collection::vec(any::<u8>(), 0..9000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            at.clone().prop_map(Step::Resize),
            (at.clone(), length.clone()).prop_map(|(at, length)| Step::Allocate(at, length)),
            (at, length).prop_map(|(at, length)| Step::Zero(at, length)),
        ]
    }

    fn index(at: u64) -> usize {
        usize::try_from(at).unwrap()
    }

    proptest! {
        #[test]
        fn contents_read_as_plain_bytes_do(steps in prop::collection::vec(step(), 1..12)) {
            let (mut contents, mut plain) = (Contents::default(), Vec::<u8>::new());
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        contents.write(at, &data);
                        let end = index(at) + data.len();
                        if !data.is_empty() {
                            plain.resize(plain.len().max(end), 0);
                            plain[index(at)..end].copy_from_slice(&data);
                        }
                    }
                    Step::Resize(size) => {
                        contents.resize(size);
                        plain.resize(index(size), 0);
                    }
                    Step::Allocate(at, length) => {
                        contents.allocate(at, length);
                        plain.resize(plain.len().max(index(at + length)), 0);
                    }
                    Step::Zero(at, length) => {
                        let length = length.min(contents.size.saturating_sub(at));
                        contents.zero(at, length, true);
                        if length > 0 {
                            plain[index(at)..index(at + length)].fill(0);
                        }
                    }
                }
                prop_assert_eq!(contents.size, plain.len() as u64);
                prop_assert_eq!(&contents.read(0, 40_000)[..], &plain[..]);
                let mut at = 0;
                while let Some(data) = contents.seek(at, Content::Data) {
                    prop_assert!(plain[index(at)..index(data)].iter().all(|byte| *byte == 0));
                    let hole = contents.seek(data, Content::Hole).unwrap();
                    prop_assert!(hole > data);
                    at = hole;
                }
            }
        }
    }
}
