//! Who may hold how much memory for data on its way, when many want some.
//!
//! ```text
//!  account:  |== floor: always its own ==|-- drawn: from the common capacity --|
//!  a request is granted when it fits, and when the account then draws no more than is left over;
//!  otherwise it stands in line, the account that draws least before the others
//! ```
//!
//! With n accounts that want all they can get, each ends with one part in n + 1, and as much is
//! left for whoever comes next. Nothing is taken away from an account that has it: ending one that
//! sits on its share is the shell's work.
//!
//! Invariant: what is drawn never exceeds the capacity, and no request overtakes one of an account
//! that draws less, except within its own floor.

use std::collections::BTreeSet;

/// One connection's account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountId(usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wish {
    bytes: u64,
    serial: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Account {
    open: bool,
    held: u64,
    wish: Option<Wish>,
}

/// The memory of one worker, in bytes.
#[derive(Debug)]
pub struct Budget {
    capacity: u64,
    floor: u64,
    drawn: u64,
    accounts: Vec<Account>,
    vacant: Vec<AccountId>,
    /// Who waits: drawn bytes, turn, account.
    line: BTreeSet<(u64, u64, AccountId)>,
    serial: u64,
}

impl Budget {
    /// `capacity` is common, `floor` is each account's own beside it.
    #[must_use]
    pub fn new(capacity: u64, floor: u64) -> Self {
        let (accounts, vacant, line) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { capacity, floor, drawn: 0, accounts, vacant, line, serial: 0 }
    }

    /// A new account, which holds nothing.
    pub fn open(&mut self) -> AccountId {
        let id = self.vacant.pop().unwrap_or(AccountId(self.accounts.len()));
        let account = Account { open: true, ..Account::default() };
        match self.accounts.get_mut(id.0) {
            Some(place) => *place = account,
            None => self.accounts.push(account),
        }
        id
    }

    /// Give back all that the account holds, and forget it and its wish. Appends those whose
    /// wishes are granted thereby.
    pub fn close(&mut self, id: AccountId, granted: &mut Vec<AccountId>) {
        self.withdraw(id);
        self.give(id, self.held(id), granted);
        if let Some(account) = self.accounts.get_mut(id.0).filter(|account| account.open) {
            account.open = false;
            self.vacant.push(id);
        }
    }

    /// What the account holds.
    #[must_use]
    pub fn held(&self, id: AccountId) -> u64 {
        self.accounts.get(id.0).map_or(0, |account| account.held)
    }

    /// What the account draws from the common capacity.
    #[must_use]
    pub fn drawn_by(&self, id: AccountId) -> u64 {
        self.held(id).saturating_sub(self.floor)
    }

    /// What all accounts draw together.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Somebody waits.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        !self.line.is_empty()
    }

    /// Take bytes at once; false: not now. A request beyond the floor does not pass those who
    /// stand in line.
    pub fn take(&mut self, id: AccountId, bytes: u64) -> bool {
        let growth = self.growth(id, bytes);
        let granted = growth == 0 || (self.line.is_empty() && self.fits(id, growth));
        if granted {
            self.hold(id, bytes);
        }
        granted
    }

    /// Stand in line for bytes; a wish before it is forgotten.
    pub fn wish(&mut self, id: AccountId, bytes: u64) {
        self.withdraw(id);
        let (drawn, serial) = (self.drawn_by(id), self.serial);
        self.serial += 1;
        if let Some(account) = self.accounts.get_mut(id.0) {
            account.wish = Some(Wish { bytes, serial });
            self.line.insert((drawn, serial, id));
        }
    }

    /// Leave the line. False: the account did not stand in it.
    pub fn withdraw(&mut self, id: AccountId) -> bool {
        let drawn = self.drawn_by(id);
        let wish = self.accounts.get_mut(id.0).and_then(|account| account.wish.take());
        wish.is_some_and(|wish| self.line.remove(&(drawn, wish.serial, id)))
    }

    /// The account stands in line.
    #[must_use]
    pub fn waits(&self, id: AccountId) -> bool {
        self.accounts.get(id.0).is_some_and(|account| account.wish.is_some())
    }

    /// Give bytes back. Appends those whose wishes are granted thereby: they hold what they wished.
    pub fn give(&mut self, id: AccountId, bytes: u64, granted: &mut Vec<AccountId>) {
        self.change(id, |held| held.saturating_sub(bytes));
        if !self.line.is_empty() {
            self.settle(granted);
        }
    }

    /// Serve the line from its front, as far as it goes.
    pub fn settle(&mut self, granted: &mut Vec<AccountId>) {
        while let Some(&(_, _, id)) = self.line.first() {
            let Some(wish) = self.accounts.get(id.0).and_then(|account| account.wish) else {
                return;
            };
            if !self.fits(id, self.growth(id, wish.bytes)) {
                return;
            }
            self.withdraw(id);
            self.hold(id, wish.bytes);
            granted.push(id);
        }
    }

    fn growth(&self, id: AccountId, bytes: u64) -> u64 {
        let after = self.held(id).saturating_add(bytes).saturating_sub(self.floor);
        after - self.drawn_by(id)
    }

    fn fits(&self, id: AccountId, growth: u64) -> bool {
        let left = (self.capacity - self.drawn).checked_sub(growth);
        growth == 0 || left.is_some_and(|left| self.drawn_by(id) + growth <= left)
    }

    fn hold(&mut self, id: AccountId, bytes: u64) {
        self.change(id, |held| held.saturating_add(bytes));
    }

    /// Change what an account holds; one that stands in line finds its new place there.
    fn change(&mut self, id: AccountId, held: impl FnOnce(u64) -> u64) {
        let floor = self.floor;
        let Some(account) = self.accounts.get_mut(id.0) else { return };
        let before = account.held.saturating_sub(floor);
        account.held = held(account.held);
        let after = account.held.saturating_sub(floor);
        self.drawn = self.drawn - before + after;
        if let Some(wish) = account.wish
            && before != after
        {
            self.line.remove(&(before, wish.serial, id));
            self.line.insert((after, wish.serial, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const CAPACITY: u64 = 64 << 20;
    const FLOOR: u64 = 128 << 10;
    const LARGEST: u64 = 4 << 20;

    /// One initiator: what it was granted and holds, oldest first, and what it waits for.
    #[derive(Default)]
    struct Initiator {
        id: Option<AccountId>,
        holds: Vec<u64>,
        waits: Option<u64>,
        served: u64,
    }

    struct World {
        budget: Budget,
        initiators: Vec<Initiator>,
    }

    impl World {
        fn new(count: usize) -> Self {
            let mut budget = Budget::new(CAPACITY, FLOOR);
            let open = |_| Initiator { id: Some(budget.open()), ..Initiator::default() };
            let initiators = (0..count).map(open).collect();
            Self { budget, initiators }
        }

        fn ask(&mut self, who: usize, bytes: u64) {
            let initiator = &mut self.initiators[who];
            let id = initiator.id.unwrap();
            if self.budget.take(id, bytes) {
                initiator.holds.push(bytes);
                initiator.served += 1;
            } else if initiator.waits.is_none() {
                self.budget.wish(id, bytes);
                initiator.waits = Some(bytes);
            }
        }

        fn give(&mut self, who: usize) {
            if self.initiators[who].holds.is_empty() {
                return;
            }
            let bytes = self.initiators[who].holds.remove(0);
            let mut granted = Vec::new();
            self.budget.give(self.initiators[who].id.unwrap(), bytes, &mut granted);
            self.granted(&granted);
        }

        fn close(&mut self, who: usize) {
            let mut granted = Vec::new();
            self.budget.close(self.initiators[who].id.unwrap(), &mut granted);
            self.initiators[who] = Initiator::default();
            self.granted(&granted);
        }

        fn granted(&mut self, granted: &[AccountId]) {
            for id in granted {
                let initiator = self.initiators.iter_mut().find(|i| i.id == Some(*id)).unwrap();
                initiator.holds.push(initiator.waits.take().expect("only who waits is granted"));
                initiator.served += 1;
            }
        }

        fn check(&self) {
            let mut drawn = 0;
            for initiator in self.initiators.iter().filter(|initiator| initiator.id.is_some()) {
                let held: u64 = initiator.holds.iter().sum();
                let id = initiator.id.unwrap();
                assert_eq!(self.budget.held(id), held);
                assert!(held.saturating_sub(FLOOR) <= CAPACITY / 2, "one holds more than half");
                drawn += held.saturating_sub(FLOOR);
            }
            assert_eq!(self.budget.drawn(), drawn);
            assert!(drawn <= CAPACITY);
            let waiting = self.initiators.iter().any(|initiator| initiator.waits.is_some());
            assert_eq!(self.budget.is_pressed(), waiting);
        }
    }

    #[test]
    fn chance_never_exceeds_the_capacity_nor_loses_a_byte() {
        for seed in 0..40 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut world = World::new(random.random_range(1..60));
            for _ in 0..3000 {
                let who = random.random_range(0..world.initiators.len());
                match random.random_range(0..100) {
                    _ if world.initiators[who].id.is_none() => {
                        world.initiators[who].id = Some(world.budget.open());
                    }
                    0..55 => world.ask(who, random.random_range(0..=LARGEST)),
                    55..97 => world.give(who),
                    _ => world.close(who),
                }
                world.check();
            }
            for who in 0..world.initiators.len() {
                if world.initiators[who].id.is_some() {
                    world.close(who);
                }
            }
            assert_eq!(world.budget.drawn(), 0, "seed {seed}");
            assert!(!world.budget.is_pressed());
        }
    }

    #[test]
    fn what_lies_within_the_floor_is_granted_however_full_it_is() {
        let mut world = World::new(40);
        for _ in 0..100 {
            (0..39).for_each(|who| world.ask(who, LARGEST));
        }
        assert!(world.budget.is_pressed());
        for _ in 0..1000 {
            world.ask(39, FLOOR);
            assert!(world.initiators[39].waits.is_none());
            world.give(39);
        }
    }

    #[test]
    fn among_the_greedy_every_one_has_an_equal_part_and_a_part_is_left() {
        for count in [1, 2, 3, 7, 15] {
            let mut world = World::new(count);
            for _ in 0..20_000 {
                (0..count).for_each(|who| world.ask(who, 4096));
            }
            let part = CAPACITY / (u64::try_from(count).unwrap() + 1);
            for initiator in &world.initiators {
                let drawn = world.budget.drawn_by(initiator.id.unwrap());
                assert!(drawn.abs_diff(part) <= part / 50 + 8192, "{count}: {drawn} of {part}");
            }
            assert!(CAPACITY - world.budget.drawn() >= part - part / 50, "{count}");
        }
    }

    /// Hogs ask for the most, always; the modest one for a large command whenever it has none. All
    /// of them get the same, and its turn comes.
    #[test]
    fn a_modest_initiator_waits_a_bounded_time_among_hogs() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut world = World::new(31);
            let mut longest = 0;
            let mut since = None;
            for turn in 0..5000 {
                for hog in 0..30 {
                    for _ in 0..4 {
                        world.ask(hog, LARGEST);
                    }
                }
                if world.initiators[30].holds.is_empty() && since.is_none() {
                    world.ask(30, LARGEST);
                    since = Some(turn);
                }
                world.give(random.random_range(0..30));
                if !world.initiators[30].holds.is_empty() {
                    longest = longest.max(turn - since.take().unwrap_or(turn));
                    world.give(30);
                }
                world.check();
            }
            let served: Vec<u64> = world.initiators[..30].iter().map(|hog| hog.served).collect();
            let mean = served.iter().sum::<u64>() / 30;
            let fair = mean * 3 / 4..=mean * 5 / 4;
            assert!(world.initiators[30].served >= *fair.start(), "seed {seed}: {served:?}");
            assert!(served.iter().all(|one| fair.contains(one)), "seed {seed}: {served:?}");
            // One of two turns frees a large command, and at most thirty others are before it.
            assert!(longest <= 150, "seed {seed}: waited for {longest} turns");
        }
    }

    #[test]
    fn a_wish_that_is_withdrawn_is_never_granted() {
        let mut budget = Budget::new(100, 0);
        let (hog, other) = (budget.open(), budget.open());
        assert!(budget.take(hog, 50));
        budget.wish(other, 40);
        assert!(budget.withdraw(other) && !budget.withdraw(other));
        let mut granted = Vec::new();
        budget.give(hog, 50, &mut granted);
        assert!(granted.is_empty() && budget.held(other) == 0 && !budget.is_pressed());
    }
}
