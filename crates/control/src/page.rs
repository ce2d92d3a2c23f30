//! Lists come in pages, oldest first (events newest first).

/// How many entries come when nobody says.
pub const PAGE_ENTRIES_DEFAULT: u32 = 100;
/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: u32 = 1000;

/// Which part of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Paging {
    /// At most so many entries: 1 to 1,000; `None` is 100.
    pub limit: Option<u32>,
    /// Go on after the entry with this id: the `next` of the page before.
    pub marker: Option<String>,
}

/// One part of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The marker of the next page; `None` when this is the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page with each entry made into something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
