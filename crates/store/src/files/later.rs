//! Removed files that a thread closes when it has answered.
//!
//! The last descriptor of a file without a name is what keeps its blocks: to close it takes as long
//! as to remove the name, and nobody waits for it. A thread that answers requests begins [`Later`],
//! and closes what has gathered when the answer is on its way; other threads close at once.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::cache::OpenFile;

/// Files that wait to be closed: one more, and all are.
const FILES_MAX: usize = 32;

thread_local! {
    static GATHERED: RefCell<Option<Vec<Arc<OpenFile>>>> = const { RefCell::new(None) };
}

/// While it lives, its thread gathers what it removes.
#[derive(Debug)]
#[must_use]
pub struct Later {
    /// It is about this thread.
    here: PhantomData<*const ()>,
}

impl Later {
    /// This thread calls [`Self::close`] whenever it has answered.
    pub fn begin() -> Self {
        GATHERED.set(Some(Vec::new()));
        Self { here: PhantomData }
    }
    /// Closes what has gathered.
    pub fn close(&self) {
        let gathered = GATHERED.with_borrow_mut(|gathered| gathered.as_mut().map(std::mem::take));
        drop(gathered);
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        drop(GATHERED.take());
    }
}

/// A file that this thread has removed: closed now, or later where it closes later.
pub(super) fn close(file: Arc<OpenFile>) {
    let full = GATHERED.with_borrow_mut(|gathered| {
        let Some(gathered) = gathered else { return vec![file] };
        gathered.push(file);
        if gathered.len() > FILES_MAX { std::mem::take(gathered) } else { Vec::new() }
    });
    drop(full);
}

#[cfg(test)]
mod tests {
    use model::file::{FileId, FileKind};

    use super::*;

    fn file() -> Arc<OpenFile> {
        let id = FileId { tree: 0, inode: 7, generation: 0 };
        let fd = std::fs::File::open("/").unwrap().into();
        Arc::new(OpenFile::new(id, FileKind::Directory, fd, 0))
    }

    #[test]
    fn who_answers_closes_afterwards_and_keeps_few_open() {
        let removed = || {
            let file = file();
            let seen = Arc::downgrade(&file);
            close(file);
            seen
        };
        let is_open = |seen: &std::sync::Weak<OpenFile>| seen.strong_count() > 0;
        assert!(!is_open(&removed()), "this thread has nothing to answer");
        let later = Later::begin();
        let first = removed();
        assert!(is_open(&first));
        later.close();
        assert!(!is_open(&first));
        let many: Vec<_> = (0..=FILES_MAX).map(|_| removed()).collect();
        assert!(many.iter().all(|seen| !is_open(seen)), "they pile up");
        let last = removed();
        drop(later);
        assert!(!is_open(&last) && !is_open(&removed()));
    }
}
