//! What is let go of behind an answer, and not before it.
//!
//! To close the last descriptor of a removed file takes a file system as long as to remove its
//! name, and nobody waits for it. Who answers calls collects what they let go of ([`collect`]), and
//! lets go of it when the answer is on its way.
//!
//! Invariant: what is let go of while nobody collects goes at once; what is collected goes with
//! [`Left`], at the latest.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    /// `None`: nobody collects.
    static COLLECTED: RefCell<Option<Vec<Box<dyn Any>>>> = const { RefCell::new(None) };
}

/// What was let go of, and goes when this is dropped.
#[derive(Default)]
pub struct Left(Vec<Box<dyn Any>>);

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Left").field(&self.0.len()).finish()
    }
}

impl Left {
    /// How many things these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Together with what another call has let go of.
    pub fn add(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }
    /// With something that is to last as long.
    pub fn keep<T: 'static>(&mut self, what: T) {
        self.0.push(Box::new(what));
    }
}

/// Ends what [`collect`] began, also when the work panics.
struct Collects;

impl Drop for Collects {
    fn drop(&mut self) {
        drop(COLLECTED.take());
    }
}

/// Does the work of a call, and says what this thread has let go of meanwhile. Not within itself.
pub fn collect<R>(work: impl FnOnce() -> R) -> (R, Left) {
    let collects = Collects;
    COLLECTED.set(Some(Vec::new()));
    let done = work();
    let left = Left(COLLECTED.take().unwrap_or_default());
    drop(collects);
    (done, left)
}

/// Lets go of something that the call's answer has no need of.
pub fn let_go<T: 'static>(what: T) {
    COLLECTED.with_borrow_mut(|collected| {
        if let Some(collected) = collected {
            collected.push(Box::new(what));
            return None;
        }
        Some(what)
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_let_go_of_goes_behind_the_answer_or_at_once_where_there_is_none() {
        let one = Arc::new(());
        let_go(Arc::clone(&one));
        assert_eq!(Arc::strong_count(&one), 1, "nobody collects");
        let (answer, mut left) = collect(|| {
            let_go(Arc::clone(&one));
            7
        });
        assert_eq!((answer, left.len(), Arc::strong_count(&one)), (7, 1, 2));
        let (_, more) = collect(|| let_go(Arc::clone(&one)));
        left.add(more);
        assert_eq!((left.len(), Arc::strong_count(&one)), (2, 3));
        drop(left);
        assert_eq!(Arc::strong_count(&one), 1);
    }

    #[test]
    fn a_call_that_panics_keeps_nothing_and_the_next_lets_go_at_once() {
        let one = Arc::new(());
        let other = Arc::clone(&one);
        let panics = std::panic::catch_unwind(|| {
            collect(|| {
                let_go(other);
                panic!("the call broke down")
            })
        });
        assert!(panics.is_err());
        assert_eq!(Arc::strong_count(&one), 1);
        let_go(Arc::clone(&one));
        assert_eq!(Arc::strong_count(&one), 1);
    }
}
