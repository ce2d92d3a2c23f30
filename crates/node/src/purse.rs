//! A connection's share of its worker's memory for data: the shell around [`Budget`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::UnboundedSender;

use crate::budget::{AccountId, Budget};
use crate::nexus::Signal;

/// What each connection may hold however full the node is, in bytes: small commands always run.
pub(crate) const FLOOR_BYTES: u64 = 128 << 10;

/// The memory of one worker, and how to reach those who wait for some.
pub(crate) struct Desk {
    budget: Budget,
    waiters: HashMap<AccountId, UnboundedSender<Signal>>,
    granted: Vec<AccountId>,
    /// Bytes drawn from the common part, as others may see them: brought up to date now and then.
    shown: Arc<AtomicU64>,
}

impl Desk {
    pub(crate) fn new(capacity: u64, shown: Arc<AtomicU64>) -> Self {
        let budget = Budget::new(capacity, FLOOR_BYTES);
        Self { budget, waiters: HashMap::new(), granted: Vec::new(), shown }
    }

    fn tell_granted(&mut self) {
        for id in self.granted.drain(..) {
            if let Some(waiter) = self.waiters.get(&id) {
                let _ = waiter.send(Signal::MemoryGranted);
            }
        }
    }
}

/// One connection's account.
pub(crate) struct Purse {
    desk: Rc<RefCell<Desk>>,
    account: AccountId,
    /// Of what is held: data-in on its way to the socket.
    sending: u64,
}

impl Purse {
    pub(crate) fn open(desk: &Rc<RefCell<Desk>>, signals: UnboundedSender<Signal>) -> Self {
        let mut open = desk.borrow_mut();
        let account = open.budget.open();
        open.waiters.insert(account, signals);
        drop(open);
        Self { desk: Rc::clone(desk), account, sending: 0 }
    }

    /// Take bytes now; false: not now.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.desk.borrow_mut().budget.take(self.account, bytes)
    }

    /// Stand in line: [`Signal::MemoryGranted`] tells that the bytes are held.
    pub(crate) fn wish(&self, bytes: u64) {
        let desk = &mut *self.desk.borrow_mut();
        desk.budget.wish(self.account, bytes);
        desk.budget.settle(&mut desk.granted);
        desk.tell_granted();
    }

    /// Forget the wish for so many bytes, granted already or not. Others move up.
    pub(crate) fn withdraw(&self, bytes: u64) {
        let waited = self.desk.borrow_mut().budget.withdraw(self.account);
        if waited {
            let desk = &mut *self.desk.borrow_mut();
            desk.budget.settle(&mut desk.granted);
            desk.tell_granted();
        } else {
            self.give(bytes);
        }
    }

    /// A wish stands in line still: a signal that says otherwise is that of an earlier one.
    pub(crate) fn waits(&self) -> bool {
        self.desk.borrow().budget.waits(self.account)
    }

    pub(crate) fn give(&self, bytes: u64) {
        if bytes > 0 {
            let desk = &mut *self.desk.borrow_mut();
            desk.budget.give(self.account, bytes, &mut desk.granted);
            desk.tell_granted();
        }
    }

    /// A command that held `bytes` has ended; so many of them are data-in that is to be sent.
    pub(crate) fn ended(&mut self, bytes: u64, data_in_bytes: u64) {
        let kept = data_in_bytes.min(bytes);
        self.sending += kept;
        self.give(bytes - kept);
    }

    /// So many bytes wait to be sent: what was held for others is free.
    pub(crate) fn unsent(&mut self, bytes: u64) {
        if self.sending > bytes {
            self.give(self.sending - bytes);
            self.sending = bytes;
        }
    }

    pub(crate) fn sending(&self) -> u64 {
        self.sending
    }

    /// Others wait, and this account draws on what they wait for.
    pub(crate) fn is_in_the_way(&self) -> bool {
        let desk = self.desk.borrow();
        desk.shown.store(desk.budget.drawn(), Ordering::Relaxed);
        desk.budget.is_pressed() && desk.budget.drawn_by(self.account) > 0
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        let desk = &mut *self.desk.borrow_mut();
        desk.budget.close(self.account, &mut desk.granted);
        desk.waiters.remove(&self.account);
        desk.tell_granted();
        desk.shown.store(desk.budget.drawn(), Ordering::Relaxed);
    }
}
