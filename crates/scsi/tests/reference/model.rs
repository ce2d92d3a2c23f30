//! A second reading of the standard: reservations as the plainest lists there are, written from
//! the clauses and not from the crate's code. Slow, naive, and only here to disagree.
//!
//! Initiators are numbers, keys and types raw as on the wire. Nothing here knows TransportIDs or
//! byte layouts; `reservations_histories.rs` translates.

use std::collections::{BTreeMap, BTreeSet};

/// (initiator, target port).
pub(crate) type Who = (usize, u16);
/// (ASC, ASCQ).
pub(crate) type Code = (u8, u8);

/// What is done to the unit.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Register {
        key: u64,
        new: u64,
        ignore: bool,
        listed: Option<Vec<usize>>,
        all: bool,
        aptpl: bool,
    },
    Reserve {
        key: u64,
        raw: u8,
    },
    Release {
        key: u64,
        raw: u8,
    },
    Clear {
        key: u64,
    },
    Preempt {
        key: u64,
        victim: u64,
        raw: u8,
        abort: bool,
    },
    Move {
        key: u64,
        new: u64,
        unreg: bool,
        aptpl: bool,
        to: Who,
    },
    Replace {
        key: u64,
        new: u64,
        raw: u8,
    },
    Reserve2,
    Release2,
    NexusLoss,
    Reset,
    RemoveInitiator(usize),
    OperatorClear,
    PowerLoss,
    RecordDamaged,
}

/// How the act ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Who was told what, and whose commands are to die.
    Good {
        told: BTreeSet<(Who, Code)>,
        dead: BTreeSet<Who>,
    },
    Conflict,
    Check(Code),
}

const LIST: End = End::Check((0x26, 0x00));
const CDB: End = End::Check((0x24, 0x00));
const LOST: End = End::Check((0x44, 0x01));
const PREEMPTED: Code = (0x2A, 0x03);
const RELEASED: Code = (0x2A, 0x04);
const UNREGISTERED: Code = (0x2A, 0x05);

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) keys: BTreeMap<Who, u64>,
    /// Registered with ALL_TG_PT.
    pub(crate) everywhere: BTreeSet<Who>,
    /// Type, and who reserved (means nothing for types 7 and 8).
    pub(crate) held: Option<(u8, Who)>,
    pub(crate) generation: u32,
    pub(crate) aptpl: bool,
    pub(crate) lost: bool,
    pub(crate) spc2: Option<Who>,
    pub(crate) ports: Vec<u16>,
}

fn is_type(raw: u8) -> bool {
    [1, 3, 5, 6, 7, 8].contains(&raw)
}

impl Model {
    fn good() -> End {
        End::Good { told: BTreeSet::new(), dead: BTreeSet::new() }
    }
    fn telling(whom: impl IntoIterator<Item = Who>, code: Code) -> End {
        let told = whom.into_iter().map(|who| (who, code)).collect();
        End::Good { told, dead: BTreeSet::new() }
    }
    fn others(&self, caller: Who) -> Vec<Who> {
        self.keys.keys().copied().filter(|who| *who != caller).collect()
    }

    pub(crate) fn holds(&self, who: Who) -> bool {
        match self.held {
            Some((7 | 8, _)) => self.keys.contains_key(&who),
            Some((_, holder)) => holder == who,
            None => false,
        }
    }

    /// 2.7: the column "may pass", for class 'a'lways, 'r'ead, 'w'rite, reservation 'o'ut.
    pub(crate) fn may(&self, who: Who, class: char, under_spc2: bool) -> bool {
        if class == 'o' {
            return true;
        }
        if let Some(holder) = self.spc2 {
            return holder == who || under_spc2;
        }
        if class == 'a' {
            return true;
        }
        if self.lost {
            return false;
        }
        match self.held {
            None => true,
            Some((1, holder)) => holder == who || class == 'r',
            Some((3, holder)) => holder == who,
            Some((5 | 7, _)) => self.keys.contains_key(&who) || class == 'r',
            Some(_) => self.keys.contains_key(&who),
        }
    }

    pub(crate) fn act(&mut self, who: Who, act: &Act) -> End {
        // What the command alone shows to be wrong comes before what the unit knows.
        match act {
            Act::Reserve { raw, .. } | Act::Replace { raw, .. } if !is_type(*raw) => return CDB,
            Act::Register { listed: Some(listed), ignore, .. } => {
                let distinct: BTreeSet<_> = listed.iter().collect();
                assert!(!ignore, "such a list has no place in REGISTER AND IGNORE EXISTING KEY");
                if distinct.len() != listed.len() {
                    return LIST;
                }
            }
            _ => {}
        }
        match act {
            Act::Reserve2 | Act::Release2 => self.spc2_command(who, matches!(act, Act::Reserve2)),
            Act::NexusLoss => {
                self.spc2 = self.spc2.filter(|holder| *holder != who);
                Self::good()
            }
            Act::Reset => {
                self.spc2 = None;
                Self::good()
            }
            Act::RemoveInitiator(initiator) => self.remove_initiator(*initiator),
            Act::OperatorClear => {
                let end = Self::telling(self.keys.keys().copied(), PREEMPTED);
                let (generation, ports) = (self.generation, self.ports.clone());
                let aptpl = self.aptpl && !self.lost;
                *self = Self {
                    generation: generation.wrapping_add(1),
                    ports,
                    aptpl,
                    ..Self::default()
                };
                end
            }
            Act::PowerLoss => {
                self.spc2 = None;
                self.generation = 0;
                if !self.aptpl && !self.lost {
                    self.keys.clear();
                    self.everywhere.clear();
                    self.held = None;
                }
                Self::good()
            }
            Act::RecordDamaged => {
                let ports = self.ports.clone();
                *self = Self { lost: true, aptpl: true, ports, ..Self::default() };
                Self::good()
            }
            _ => self.persistent_out(who, act),
        }
    }

    fn spc2_command(&mut self, who: Who, reserve: bool) -> End {
        if self.lost {
            return LOST;
        }
        if !self.keys.is_empty() {
            let compatible = match self.held {
                Some((1 | 3, holder)) => holder == who,
                Some(_) => self.keys.contains_key(&who),
                None => false,
            };
            return if compatible { Self::good() } else { End::Conflict };
        }
        match (reserve, self.spc2) {
            (true, Some(holder)) if holder != who => return End::Conflict,
            (true, _) => self.spc2 = Some(who),
            (false, Some(holder)) if holder == who => self.spc2 = None,
            (false, _) => {}
        }
        Self::good()
    }

    fn remove_initiator(&mut self, initiator: usize) -> End {
        let gone: Vec<Who> = self.keys.keys().copied().filter(|who| who.0 == initiator).collect();
        self.spc2 = self.spc2.filter(|holder| holder.0 != initiator);
        if gone.is_empty() {
            return Self::good();
        }
        self.generation = self.generation.wrapping_add(1);
        self.leave(&gone)
    }

    /// Registrations go of themselves; the reservation may end with them.
    fn leave(&mut self, gone: &[Who]) -> End {
        for who in gone {
            self.keys.remove(who);
            self.everywhere.remove(who);
        }
        match self.held {
            Some((1 | 3, holder)) if gone.contains(&holder) => self.held = None,
            Some((5 | 6, holder)) if gone.contains(&holder) => {
                self.held = None;
                return Self::telling(self.keys.keys().copied(), RELEASED);
            }
            Some((7 | 8, _)) if self.keys.is_empty() => self.held = None,
            _ => {}
        }
        Self::good()
    }

    fn persistent_out(&mut self, who: Who, act: &Act) -> End {
        if let Act::Replace { key, new, raw } = *act {
            return self.replace(who, key, new, raw);
        }
        if self.lost {
            return LOST;
        }
        if self.spc2.is_some() {
            return End::Conflict;
        }
        let registered = self.keys.get(&who).copied();
        match *act {
            Act::Register { .. } => self.register(who, act),
            // Everything else is for registrants that know their key.
            Act::Reserve { key, .. }
            | Act::Release { key, .. }
            | Act::Clear { key }
            | Act::Preempt { key, .. }
            | Act::Move { key, .. }
                if registered != Some(key) =>
            {
                End::Conflict
            }
            Act::Reserve { raw, .. } => match self.held {
                None => {
                    self.held = Some((raw, who));
                    Self::good()
                }
                Some((kind, _)) if kind == raw && self.holds(who) => Self::good(),
                Some(_) => End::Conflict,
            },
            Act::Release { raw, .. } => match self.held {
                Some((kind, _)) if self.holds(who) => {
                    if kind != raw {
                        return End::Check((0x26, 0x04));
                    }
                    self.held = None;
                    let told = if kind >= 5 { self.others(who) } else { vec![] };
                    Self::telling(told, RELEASED)
                }
                _ => Self::good(),
            },
            Act::Clear { .. } => {
                let end = Self::telling(self.others(who), PREEMPTED);
                self.keys.clear();
                self.everywhere.clear();
                self.held = None;
                self.generation = self.generation.wrapping_add(1);
                end
            }
            Act::Preempt { victim, raw, abort, .. } => self.preempt(who, victim, raw, abort),
            Act::Move { new, unreg, aptpl, to, .. } => self.move_to(who, new, unreg, aptpl, to),
            _ => unreachable!("handled by the caller"),
        }
    }

    fn register(&mut self, who: Who, act: &Act) -> End {
        let Act::Register { key, new, ignore, listed, all, aptpl } = act else {
            unreachable!("only REGISTER comes here")
        };
        let registered = self.keys.get(&who).copied();
        if !ignore && registered.unwrap_or(0) != *key {
            return End::Conflict;
        }
        if listed.is_some() && (registered.is_some() || *new == 0) {
            return LIST;
        }
        let mut through = vec![who.1];
        if *all {
            through = self.ports.clone();
        }
        let own: Vec<Who> = through.iter().map(|port| (who.0, *port)).collect();
        for one in &own {
            if !ignore && self.keys.get(one).is_some_and(|known| known != key) {
                return End::Conflict;
            }
        }
        if *new == 0 {
            let gone: Vec<Who> =
                own.into_iter().filter(|one| self.keys.contains_key(one)).collect();
            if gone.is_empty() {
                return Self::good();
            }
            self.aptpl = *aptpl;
            self.generation = self.generation.wrapping_add(1);
            return self.leave(&gone);
        }
        let mut wanted = own;
        for initiator in listed.iter().flatten() {
            for port in &through {
                if *initiator == who.0 || self.keys.contains_key(&(*initiator, *port)) {
                    return LIST;
                }
                wanted.push((*initiator, *port));
            }
        }
        for one in wanted {
            self.keys.insert(one, *new);
            self.everywhere.remove(&one);
            if *all {
                self.everywhere.insert(one);
            }
        }
        self.aptpl = *aptpl;
        self.generation = self.generation.wrapping_add(1);
        Self::good()
    }

    fn preempt(&mut self, who: Who, victim: u64, raw: u8, abort: bool) -> End {
        let all_registrants = matches!(self.held, Some((7 | 8, _)));
        let holders_key = match self.held {
            Some((1..=6, holder)) => self.keys.get(&holder).copied(),
            _ => None,
        };
        let mut told = BTreeSet::new();
        let victims: BTreeSet<Who>;
        if victim == 0 {
            if !all_registrants {
                return LIST;
            }
            if !is_type(raw) {
                return CDB;
            }
            victims = self.others(who).into_iter().collect();
            self.held = Some((raw, who));
        } else if holders_key == Some(victim) {
            if !is_type(raw) {
                return CDB;
            }
            let has_key = |one: &Who| self.keys[one] == victim;
            victims = self.others(who).into_iter().filter(has_key).collect();
            let changed = self.held.map(|(kind, _)| kind) != Some(raw);
            self.held = Some((raw, who));
            if changed {
                let spared = self.others(who).into_iter().filter(|one| !victims.contains(one));
                told.extend(spared.map(|one| (one, RELEASED)));
            }
        } else {
            let with_key: Vec<Who> =
                self.keys.iter().filter(|(_, key)| **key == victim).map(|(one, _)| *one).collect();
            if with_key.is_empty() {
                return End::Conflict;
            }
            if with_key.contains(&who) {
                self.keys.remove(&who);
                self.everywhere.remove(&who);
            }
            victims = with_key.into_iter().filter(|one| *one != who).collect();
        }
        for one in &victims {
            self.keys.remove(one);
            self.everywhere.remove(one);
            told.insert((*one, UNREGISTERED));
        }
        if self.keys.is_empty() {
            self.held = None;
        }
        self.generation = self.generation.wrapping_add(1);
        End::Good { told, dead: if abort { victims } else { BTreeSet::new() } }
    }

    fn move_to(&mut self, who: Who, new: u64, unreg: bool, aptpl: bool, to: Who) -> End {
        match self.held {
            Some((kind @ 1..=6, holder)) if holder == who => {
                if new == 0 || to == who || !self.ports.contains(&to.1) {
                    return LIST;
                }
                self.keys.insert(to, new);
                self.everywhere.remove(&to);
                if unreg {
                    self.keys.remove(&who);
                    self.everywhere.remove(&who);
                }
                self.held = Some((kind, to));
                self.aptpl = aptpl;
                self.generation = self.generation.wrapping_add(1);
                Self::good()
            }
            _ => End::Conflict,
        }
    }

    fn replace(&mut self, who: Who, key: u64, new: u64, raw: u8) -> End {
        if !self.lost {
            return if self.spc2.is_some() { End::Conflict } else { CDB };
        }
        if key != 0 || new == 0 {
            return LIST;
        }
        self.lost = false;
        self.keys.insert(who, new);
        self.held = Some((raw, who));
        self.generation = self.generation.wrapping_add(1);
        Self::good()
    }
}
