//! A connection's share of its worker's memory for data: the shell around [`Budget`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::UnboundedSender;

use crate::budget::{AccountId, Budget};
use crate::nexus::Signal;

/// Of a worker's memory, so much again is for data that came along with commands that wait.
const HELD_PART: u64 = 4;
/// Of that each connection may hold so much however full it is, in bytes: one first burst.
const HELD_FLOOR_BYTES: u64 = 256 << 10;

/// What each connection may hold however full the node is, in bytes: small commands always run.
pub(crate) const FLOOR_BYTES: u64 = 128 << 10;

/// The memory of one worker, and how to reach those who wait for some.
pub(crate) struct Desk {
    budget: Budget,
    held: Budget,
    waiters: HashMap<AccountId, UnboundedSender<Signal>>,
    granted: Vec<AccountId>,
    /// Bytes drawn from the common part, as others may see them: brought up to date now and then.
    shown: Arc<AtomicU64>,
}

impl Desk {
    pub(crate) fn new(capacity: u64, shown: Arc<AtomicU64>) -> Self {
        let budget = Budget::new(capacity, FLOOR_BYTES);
        let held = Budget::new(capacity / HELD_PART, HELD_FLOOR_BYTES);
        Self { budget, held, waiters: HashMap::new(), granted: Vec::new(), shown }
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
    held_account: AccountId,
    /// Of what is held: data-in on its way to the socket.
    sending: u64,
}

impl Purse {
    pub(crate) fn open(desk: &Rc<RefCell<Desk>>, signals: UnboundedSender<Signal>) -> Self {
        let mut open = desk.borrow_mut();
        let (account, held_account) = (open.budget.open(), open.held.open());
        open.waiters.insert(account, signals);
        drop(open);
        Self { desk: Rc::clone(desk), account, held_account, sending: 0 }
    }

    /// Take bytes now; false: not now.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.desk.borrow_mut().budget.take(self.account, bytes)
    }

    /// Keep data of a command that waits; false: there is no room for it. Nobody waits for this.
    pub(crate) fn hold(&self, bytes: u64) -> bool {
        self.desk.borrow_mut().held.take(self.held_account, bytes)
    }

    /// That data is no longer kept for a command that waits.
    pub(crate) fn let_go(&self, bytes: u64) {
        self.desk.borrow_mut().held.give(self.held_account, bytes, &mut Vec::new());
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
        desk.held.close(self.held_account, &mut Vec::new());
        desk.waiters.remove(&self.account);
        desk.tell_granted();
        desk.shown.store(desk.budget.drawn(), Ordering::Relaxed);
    }
}
