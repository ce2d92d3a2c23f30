//! Random histories: the machine and the reference model of `reference/model.rs` live through the
//! same acts and must agree on every answer, on whom is told and killed, on the state that
//! PERSISTENT RESERVE IN shows, and on every nexus' access, after every single act.
//!
//! A slice runs by default; `COMMONHOLD_HISTORIES=100000` runs that many. A failure prints its seed
//! and its history; `COMMONHOLD_SEED=<seed>` runs that one alone.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells its seed"
)]

#[path = "reference/model.rs"]
mod model;
#[path = "reference/wire.rs"]
mod wire;

use model::{Act, End, Model, Who};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use scsi::conflict::{Conflict, ConflictClass};
use scsi::nexus::{ItNexus, RelativePort};
use scsi::reservations::{Change, Refusal, Request, Reservations};
use scsi::sense::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const HISTORIES: u64 = 3_000;
const ACTS_PER_HISTORY: usize = 40;
const INITIATORS: usize = 4;
const PORTS: [u16; 2] = [1, 2];
/// Few keys, so that nexuses share them.
const KEYS: u64 = 4;

/// Initiators 0 and 1 are two ISIDs of one name: two ports of one device.
fn build(who: Who) -> ItNexus {
    let (letter, isid) = [('a', 1), ('a', 2), ('b', 1), ('c', 1)][who.0];
    wire::nexus(letter, isid, who.1)
}

fn table() -> Vec<(Who, ItNexus)> {
    everybody().map(|who| (who, build(who))).collect()
}

/// Those that send commands, and the same after they have logged in anew: equal, elsewhere in
/// memory.
static CALLERS: LazyLock<Vec<(Who, ItNexus)>> = LazyLock::new(table);
static LOGGED_IN_ANEW: LazyLock<Vec<(Who, ItNexus)>> = LazyLock::new(table);

fn nexus(who: Who) -> ItNexus {
    let caller = CALLERS.iter().find(|(caller, _)| *caller == who);
    caller.expect("the table has everybody").1.clone()
}

fn everybody() -> impl Iterator<Item = Who> {
    (0..INITIATORS).flat_map(|initiator| PORTS.map(|port| (initiator, port)))
}

fn known(seen: &ItNexus) -> Who {
    let caller = CALLERS.iter().find(|(_, nexus)| nexus == seen);
    caller.expect("nobody else takes part").0
}

/// A reservation type, mostly a good one.
fn raw_type(random: &mut StdRng) -> u8 {
    if random.random_ratio(1, 12) {
        [0x00, 0x02, 0x04, 0x0F, 0x15][random.random_range(0..5)]
    } else {
        [1, 3, 5, 6, 7, 8][random.random_range(0..6)]
    }
}

fn act(random: &mut StdRng, model: &Model, who: Who) -> Act {
    let own = model.keys.get(&who).copied().unwrap_or(0);
    let key = if random.random_ratio(5, 6) { own } else { random.random_range(0..=KEYS) };
    let other = random.random_range(0..=KEYS);
    let held = model.held.map_or(1, |(kind, _)| kind);
    let release = if random.random_ratio(4, 5) { held } else { raw_type(random) };
    let (aptpl, flag) = (random.random_ratio(2, 3), random.random_ratio(1, 4));
    // A unit whose reservations are lost refuses nearly all until they are replaced.
    let choice = if model.lost && flag { 85 } else { random.random_range(0..100) };
    match choice {
        0..=24 => {
            let listed = random.random_ratio(1, 8).then(|| {
                let count = random.random_range(0..3);
                (0..count).map(|_| random.random_range(0..INITIATORS)).collect()
            });
            Act::Register { key, new: other, ignore: false, listed, all: flag, aptpl }
        }
        25..=34 => Act::Register { key, new: other, ignore: true, listed: None, all: flag, aptpl },
        35..=49 => Act::Reserve { key, raw: raw_type(random) },
        50..=56 => Act::Release { key, raw: release },
        57..=59 => Act::Clear { key },
        60..=77 => {
            Act::Preempt { key, victim: other, raw: raw_type(random), abort: random.random() }
        }
        78..=84 => {
            let port =
                if random.random_ratio(1, 10) { 9 } else { PORTS[random.random_range(0..2)] };
            let to = (random.random_range(0..INITIATORS), port);
            Act::Move { key, new: other, unreg: flag, aptpl, to }
        }
        85..=86 => Act::Replace { key, new: other, raw: raw_type(random) },
        87..=89 => Act::Reserve2,
        90..=91 => Act::Release2,
        92 => Act::NexusLoss,
        93 => Act::Reset,
        94..=95 => Act::RemoveInitiator([0, 2, 3][random.random_range(0..3)]),
        96 => Act::OperatorClear,
        97..=98 => Act::PowerLoss,
        _ if random.random_ratio(1, 4) => Act::RecordDamaged,
        _ => Act::Clear { key },
    }
}

/// The act as a command on the wire, for those that are one.
fn on_the_wire(act: &Act) -> Option<wire::Wire> {
    let id = |initiator: &usize| wire::transport_id(nexus((*initiator, 1)).initiator.name());
    Some(match act {
        Act::Register { key, new, ignore, listed, all, aptpl } => {
            let bits = if *all { wire::ALL_TG_PT } else { 0 } | u8::from(*aptpl);
            let action = if *ignore { wire::REGISTER_AND_IGNORE } else { wire::REGISTER };
            match listed {
                Some(listed) => {
                    wire::out_listed(*key, *new, bits, &listed.iter().map(id).collect::<Vec<_>>())
                }
                None => wire::out(action, 0, *key, *new, bits),
            }
        }
        Act::Reserve { key, raw } => wire::out(wire::RESERVE, *raw, *key, 0, 0),
        Act::Release { key, raw } => wire::out(wire::RELEASE, *raw, *key, 0, 0),
        Act::Clear { key } => wire::out(wire::CLEAR, 0, *key, 0, 0),
        Act::Preempt { key, victim, raw, abort } => {
            let action = if *abort { wire::PREEMPT_AND_ABORT } else { wire::PREEMPT };
            wire::out(action, *raw, *key, *victim, 0)
        }
        Act::Move { key, new, unreg, aptpl, to } => {
            let bits = if *unreg { 0x02 } else { 0 } | u8::from(*aptpl);
            wire::out_move(*key, *new, bits, to.1, &id(&to.0))
        }
        Act::Replace { key, new, raw } => wire::out(wire::REPLACE_LOST, *raw, *key, *new, 0),
        _ => return None,
    })
}

/// Does the act to the machine.
fn machine(now: &mut Reservations, who: Who, act: &Act) -> End {
    let caller = nexus(who);
    let quiet = || End::Good { told: BTreeSet::new(), dead: BTreeSet::new() };
    let answer: Result<Change, Refusal> = match act {
        Act::Reserve2 => now.reserve_legacy(&caller),
        Act::Release2 => now.release_legacy(&caller),
        Act::OperatorClear => Ok(now.clear()),
        Act::RemoveInitiator(initiator) => {
            match now.remove_device(nexus((*initiator, 1)).initiator.device()) {
                Some(change) => Ok(change),
                None => return quiet(),
            }
        }
        Act::NexusLoss | Act::Reset => {
            let holder = matches!(act, Act::NexusLoss).then_some(&caller);
            *now = now.drop_legacy(holder).unwrap_or_else(|| now.clone());
            return quiet();
        }
        Act::PowerLoss => {
            let record = Reservations::from_record(&now.to_record()).expect("our own record");
            *now = record.after_power_loss();
            return quiet();
        }
        Act::RecordDamaged => {
            *now = Reservations::lost();
            return quiet();
        }
        _ => {
            let (cdb, list) = on_the_wire(act).expect("all others are commands");
            let ports = PORTS.map(RelativePort);
            Request::parse(&cdb, &list)
                .map_err(Refusal::Check)
                .and_then(|request| now.apply(&caller, &request, &ports))
        }
    };
    match answer {
        Err(Refusal::Conflict) => End::Conflict,
        Err(Refusal::Check(sense)) => End::Check((sense.asc.0, sense.asc.1)),
        Ok(change) => {
            check_persistence(now, &change);
            let told = change.attentions.iter();
            let told: BTreeSet<_> = told
                .map(|(whom, attention)| (known(whom), (attention.asc().0, attention.asc().1)))
                .collect();
            assert_eq!(told.len(), change.attentions.len(), "somebody is told twice");
            let dead = change.abort.iter().map(known).collect();
            *now = change.next;
            End::Good { told, dead }
        }
    }
}

/// A change that a record would show is stored, and no other.
fn check_persistence(before: &Reservations, change: &Change) {
    let shows = before.to_record() != change.next.to_record();
    assert_eq!(change.persist, shows, "persist does not say whether the record changed");
    let changed = *before != change.next;
    assert_eq!(change.what.is_some(), changed, "a change without a sentence, or the other way");
}

/// What PERSISTENT RESERVE IN and the access check show, against the model.
fn compare(now: &Reservations, model: &Model) {
    assert_eq!(now.generation(), model.generation, "PRGENERATION");
    assert_eq!((now.aptpl(), now.is_lost()), (model.aptpl, model.lost));
    assert_eq!(now.legacy_holder().map(known), model.spc2);
    let registrations: BTreeMap<Who, u64> =
        now.registrations().iter().map(|one| (known(&one.nexus), one.key)).collect();
    assert_eq!(registrations, model.keys);
    assert_eq!(now.registrations().len(), model.keys.len(), "a nexus is registered twice");
    for one in now.registrations() {
        assert_eq!(one.all_target_ports, model.everywhere.contains(&known(&one.nexus)));
    }
    compare_reports(now, model);
    let classes = [
        ('a', ConflictClass::Always),
        ('r', ConflictClass::Read),
        ('w', ConflictClass::Write),
        ('o', ConflictClass::Reservation),
    ];
    for (who, seen) in &*LOGGED_IN_ANEW {
        let who = *who;
        assert_eq!(now.is_holder(seen), model.holds(who), "{who:?} as a holder");
        for (letter, persistent) in classes {
            for under_legacy in [false, true] {
                let passes = now.check(seen, Conflict { persistent, under_legacy });
                assert_eq!(passes, model.may(who, letter, under_legacy), "{who:?} {letter}");
            }
        }
    }
}

fn compare_reports(now: &Reservations, model: &Model) {
    let keys = now.persistent_in(&wire::cdb_in(0));
    let held = now.persistent_in(&wire::cdb_in(1));
    if model.spc2.is_some() {
        assert_eq!(keys.status, Status::ReservationConflict);
        return;
    }
    if model.lost {
        assert_eq!(keys.status, Status::CheckCondition);
        return;
    }
    assert_eq!(keys.data[..4], model.generation.to_be_bytes());
    assert_eq!(keys.data.len(), 8 + 8 * model.keys.len());
    let mut listed: Vec<[u8; 8]> =
        keys.data[8..].chunks_exact(8).map(|key| key.try_into().unwrap()).collect();
    let mut expected: Vec<_> = model.keys.values().map(|key| key.to_be_bytes()).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected, "READ KEYS");
    match model.held {
        None => assert_eq!(held.data[4..], [0; 4]),
        Some((kind, holder)) => {
            let key = if kind >= 7 { 0 } else { model.keys[&holder] };
            assert_eq!(held.data[8..16], key.to_be_bytes(), "READ RESERVATION");
            assert_eq!((held.data.len(), held.data[21]), (24, kind));
        }
    }
}

/// Prints the way to the failure, and nothing when there is none.
struct Story {
    seed: u64,
    acts: Vec<(Who, Act)>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("COMMONHOLD_SEED={}", self.seed);
            for (who, act) in &self.acts {
                println!("  {who:?} {act:?}");
            }
        }
    }
}

/// The act's name, by which its successes are counted.
fn name(act: &Act) -> &'static str {
    match act {
        Act::Register { listed: Some(_), .. } => "REGISTER with SPEC_I_PT",
        Act::Register { all: true, .. } => "REGISTER with ALL_TG_PT",
        Act::Register { new: 0, .. } => "REGISTER of no key",
        Act::Register { ignore: true, .. } => "REGISTER AND IGNORE EXISTING KEY",
        Act::Register { .. } => "REGISTER",
        Act::Reserve { .. } => "RESERVE",
        Act::Release { .. } => "RELEASE",
        Act::Clear { .. } => "CLEAR",
        Act::Preempt { victim: 0, .. } => "PREEMPT of all registrants",
        Act::Preempt { abort: false, .. } => "PREEMPT",
        Act::Preempt { abort: true, .. } => "PREEMPT AND ABORT",
        Act::Move { .. } => "REGISTER AND MOVE",
        Act::Replace { .. } => "REPLACE LOST RESERVATION",
        Act::Reserve2 => "RESERVE of SPC-2",
        Act::Release2 => "RELEASE of SPC-2",
        Act::NexusLoss | Act::Reset | Act::RemoveInitiator(_) => "events",
        Act::OperatorClear | Act::PowerLoss | Act::RecordDamaged => "administration",
    }
}

/// Acts that ended with GOOD, by name.
type Successes = BTreeMap<&'static str, u64>;

/// Lives through one history.
fn live(seed: u64, successes: &mut Successes) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model { ports: PORTS.to_vec(), ..Model::default() };
    let mut now = Reservations::default();
    let mut story = Story { seed, acts: Vec::new() };
    for _ in 0..ACTS_PER_HISTORY {
        let anyone = (random.random_range(0..INITIATORS), PORTS[random.random_range(0..2)]);
        // Holders have the most to do, and there is one among eight.
        let holder = model.held.map(|(_, holder)| holder).filter(|_| random.random_ratio(1, 3));
        let who = holder.unwrap_or(anyone);
        let act = act(&mut random, &model, who);
        story.acts.push((who, act.clone()));
        // Initiators 0 and 1 share a device, which the model does not know about.
        let expected = match act {
            Act::RemoveInitiator(0) => remove_both(&mut model, who),
            _ => model.act(who, &act),
        };
        let seen = machine(&mut now, who, &act);
        assert_eq!(seen, expected, "the machine (left) and the model answer differently");
        if matches!(seen, End::Good { .. }) {
            *successes.entry(name(&act)).or_default() += 1;
        }
        compare(&now, &model);
    }
}

/// Removes the device of initiators 0 and 1: as if they were one.
fn remove_both(model: &mut Model, who: Who) -> End {
    let before = model.clone();
    let first = model.act(who, &Act::RemoveInitiator(0));
    let second = model.act(who, &Act::RemoveInitiator(1));
    if model.generation == before.generation.wrapping_add(2) {
        model.generation = before.generation.wrapping_add(1);
    }
    let (End::Good { told: one, .. }, End::Good { told: other, .. }) = (first, second) else {
        unreachable!("an initiator can always be removed")
    };
    let told = one.union(&other).filter(|(whom, _)| whom.0 > 1).copied().collect();
    End::Good { told, dead: BTreeSet::new() }
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a decimal number"))
}

#[test]
fn machine_and_reference_agree_on_random_histories() {
    let mut successes = Successes::new();
    if let Some(seed) = number_from_environment("COMMONHOLD_SEED") {
        return live(seed, &mut successes);
    }
    let histories = number_from_environment("COMMONHOLD_HISTORIES").unwrap_or(HISTORIES);
    for seed in 0..histories {
        live(seed, &mut successes);
    }
    // Histories in which an act is always refused would agree without showing anything of it.
    println!("{histories} histories: {successes:#?}");
    assert_eq!(successes.len(), 17, "an act never succeeded: {successes:#?}");
    for (name, count) in successes {
        assert!(count >= histories / 100, "{name} succeeded {count} times only");
    }
}
