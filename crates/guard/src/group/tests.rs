//! Resources under chance: whoever does the steps is slow, fails, and is frozen; and the moves of
//! a host one by one.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::End;

const TERMS: Terms = Terms { start_ms: 400, stop_ms: 300, check_ms: 200, interval_ms: 100 };
const LIMIT: Limit = Limit { restarts: 2, window_ms: 10_000 };
const HISTORIES: u64 = 3_000;

fn step(resource: usize, step: Step) -> Deed {
    Deed::Do { resource, step }
}

fn done(resource: usize, step: Step, good: bool) -> Event {
    Event::Done { resource, step, good }
}

/// Two resources that are up at 0 ms.
fn two_up() -> Resources {
    let mut two = Resources::new(&[TERMS; 2], LIMIT);
    assert_eq!(two.on(0, Event::Held), [step(0, Step::Start)]);
    assert_eq!(two.on(0, done(0, Step::Start, true)), [step(1, Step::Start)]);
    assert_eq!(two.on(0, done(1, Step::Start, true)), [Deed::Up]);
    two
}

#[test]
fn resources_start_upwards_and_stop_downwards() {
    let mut two = two_up();
    assert_eq!(two.on(50, Event::Stop), [step(1, Step::Stop)]);
    assert_eq!(two.on(60, done(1, Step::Stop, true)), [step(0, Step::Stop)]);
    assert!(!two.is_up(0) && !two.is_up(1));
    assert_eq!(two.on(70, done(0, Step::Stop, true)), [Deed::Down(Outcome::Stopped)]);
}

#[test]
fn a_failed_check_restarts_it_and_what_depends_on_it_and_the_third_time_ends_the_group() {
    let mut two = two_up();
    for at in [1_000, 2_000] {
        assert_eq!(two.on(at, Event::Tick), [step(0, Step::Check), step(1, Step::Check)]);
        assert_eq!(two.on(at + 1, done(1, Step::Check, true)), []);
        let fails = two.on(at + 2, done(0, Step::Check, false));
        assert_eq!(fails, [Deed::Restarts { resource: 0 }, step(1, Step::Stop)]);
        assert_eq!(two.on(at + 3, done(1, Step::Stop, true)), [step(0, Step::Stop)]);
        assert_eq!(two.on(at + 4, done(0, Step::Stop, true)), [step(0, Step::Start)]);
        assert_eq!(two.on(at + 5, done(0, Step::Start, true)), [step(1, Step::Start)]);
        assert_eq!(two.on(at + 6, done(1, Step::Start, true)), [Deed::Up]);
    }
    two.on(3_000, Event::Tick);
    let fails = two.on(3_001, done(1, Step::Check, false));
    assert_eq!(fails, [Deed::Abort { resource: 0 }, step(1, Step::Stop)]);
    two.on(3_002, done(0, Step::Check, false));
    two.on(3_003, done(1, Step::Stop, true));
    let over = two.on(3_004, done(0, Step::Stop, true));
    assert_eq!(over, [Deed::Down(Outcome::Failed { resource: 1 })]);
}

#[test]
fn another_limit_of_restarts_counts_from_now_on_and_disturbs_nothing() {
    let mut two = two_up();
    two.on(1_000, Event::Tick);
    two.set_limit(Limit { restarts: 0, ..LIMIT });
    assert_eq!(two.stage(), Stage::Up);
    assert_eq!(two.on(1_001, done(1, Step::Check, true)), []);
    assert_eq!(two.on(1_002, done(0, Step::Check, false)), [step(1, Step::Stop)]);
    two.on(1_003, done(1, Step::Stop, true));
    let over = two.on(1_004, done(0, Step::Stop, true));
    assert_eq!(over, [Deed::Down(Outcome::Failed { resource: 0 })]);
}

#[test]
fn a_lost_volume_silences_everything_at_once_and_kills_from_the_top() {
    let mut two = two_up();
    two.on(100, Event::Tick);
    let lost = two.on(110, Event::Lost);
    let aborts = [Deed::Abort { resource: 0 }, Deed::Abort { resource: 1 }];
    assert_eq!(lost, [&[Deed::Silence][..], &aborts].concat());
    assert_eq!(two.on(112, done(1, Step::Check, true)), [step(1, Step::Kill)]);
    assert_eq!(two.on(113, done(0, Step::Check, true)), []);
    assert_eq!(two.on(114, done(1, Step::Kill, true)), [step(0, Step::Kill)]);
    assert_eq!(two.on(115, done(0, Step::Kill, true)), [Deed::Down(Outcome::Killed)]);
    // A host that finds out at its start that it was lost has things left over, too.
    let mut none = Resources::new(&[TERMS], LIMIT);
    assert_eq!(none.on(0, Event::Lost), [Deed::Silence, step(0, Step::Kill)]);
}

#[test]
fn what_does_not_stop_is_killed_and_what_cannot_be_killed_is_stuck() {
    let mut two = two_up();
    two.on(0, Event::Stop);
    assert_eq!(two.on(300, Event::Tick), [Deed::Abort { resource: 1 }]);
    assert_eq!(two.on(301, done(1, Step::Stop, true)), [step(1, Step::Kill)], "it was too late");
    assert_eq!(two.on(302, done(1, Step::Kill, true)), [step(0, Step::Stop)]);
    assert_eq!(two.on(303, done(0, Step::Stop, false)), [step(0, Step::Kill)]);
    let stuck = two.on(304, done(0, Step::Kill, false));
    assert_eq!(stuck, [Deed::Silence, step(1, Step::Kill)]);
    two.on(305, done(1, Step::Kill, true));
    let over = two.on(306, done(0, Step::Kill, true));
    assert_eq!(over, [Deed::Down(Outcome::Stuck { resource: 0 })], "it could not be seen to end");
}

#[test]
fn a_unit_whose_systemd_was_slow_to_answer_ends_while_nothing_waits_for_it() {
    let mut two = two_up();
    assert_eq!(two.on(0, Event::Lost), [Deed::Silence, step(1, Step::Kill)]);
    assert_eq!(two.wake_ms(), 3_000);
    assert_eq!(two.on(3_000, Event::Tick), [Deed::Abort { resource: 1 }]);
    assert_eq!(
        two.on(3_001, done(1, Step::Kill, false)),
        [step(0, Step::Kill)],
        "it waits no more"
    );
    assert_eq!(two.on(3_002, done(0, Step::Kill, true)), [step(1, Step::Kill)]);
    assert_eq!((two.stage(), two.wake_ms()), (Stage::Killing, 13_002));
    assert_eq!(two.on(3_003, Event::Lost), []);
    assert_eq!(two.on(3_003, Event::Stop), []);
    let mut never = two.clone();
    assert_eq!(two.on(13_001, done(1, Step::Kill, true)), [Deed::Down(Outcome::Killed)]);
    assert_eq!(never.on(13_002, Event::Tick), [Deed::Abort { resource: 1 }]);
    let over = never.on(13_003, done(1, Step::Kill, true));
    assert_eq!(over, [Deed::Down(Outcome::Stuck { resource: 1 })], "it was too late");
    // Another life begins anew.
    assert_eq!(two.on(20_000, Event::Lost), [Deed::Silence, step(1, Step::Kill)]);
    two.on(20_001, done(1, Step::Kill, true));
    assert_eq!(two.on(20_002, done(0, Step::Kill, true)), [Deed::Down(Outcome::Killed)]);
}

#[test]
fn all_that_did_not_end_by_force_are_asked_once_more_side_by_side() {
    let mut two = two_up();
    two.on(0, Event::Lost);
    two.on(10, done(1, Step::Kill, false));
    let both = two.on(20, done(0, Step::Kill, false));
    assert_eq!(both, [step(0, Step::Kill), step(1, Step::Kill)]);
    assert_eq!(two.on(30, done(1, Step::Kill, true)), []);
    let over = two.on(40, done(0, Step::Kill, false));
    assert_eq!(over, [Deed::Down(Outcome::Stuck { resource: 0 })]);
}

#[test]
fn a_restarted_agent_adopts_what_runs_and_starts_only_what_does_not() {
    let mut two = Resources::new(&[TERMS; 2], LIMIT);
    assert_eq!(two.on(0, Event::Adopt), [step(0, Step::Check)]);
    assert_eq!(two.on(1, done(0, Step::Check, true)), [step(1, Step::Check)]);
    assert_eq!(two.clone().on(2, done(1, Step::Check, true)), [Deed::Up]);
    assert_eq!(two.on(2, done(1, Step::Check, false)), [step(1, Step::Stop)]);
    assert_eq!(two.on(3, done(1, Step::Stop, true)), [step(1, Step::Start)]);
    assert_eq!(two.on(4, done(1, Step::Start, true)), [Deed::Up]);
}

#[test]
fn a_frozen_group_is_adopted_as_it_is_even_where_something_does_not_run() {
    let mut two = Resources::new(&[TERMS; 2], LIMIT);
    assert_eq!(two.on(0, Event::Frozen(true)), []);
    assert_eq!(two.on(0, Event::Adopt), [step(0, Step::Check)]);
    assert_eq!(two.on(1, done(0, Step::Check, false)), [step(1, Step::Check)]);
    assert_eq!(two.on(2, done(1, Step::Check, true)), [Deed::Up]);
    two.on(3, Event::Frozen(false));
    assert!(two.on(10_000, Event::Tick).contains(&step(0, Step::Check)), "it is looked at then");
}

#[test]
fn a_pause_of_the_volume_makes_no_check_fail_and_no_start_late() {
    let mut two = two_up();
    two.on(100, Event::Tick);
    two.on(150, Event::Suspend);
    assert_eq!(two.on(9_000, Event::Tick), []);
    assert_eq!(two.on(9_001, done(0, Step::Check, false)), [], "it was frozen, not dead");
    assert_eq!(two.on(9_100, Event::Resume), []);
    assert_eq!(two.on(9_101, done(1, Step::Check, false)), []);
    assert_eq!(two.stage(), Stage::Up);
}

#[test]
fn a_frozen_group_is_neither_checked_nor_restarted_and_is_stopped_all_the_same() {
    let mut two = two_up();
    two.on(100, Event::Tick);
    two.on(101, Event::Frozen(true));
    assert_eq!(two.on(102, done(0, Step::Check, false)), []);
    assert_eq!(two.on(102, done(1, Step::Check, true)), []);
    assert_eq!(two.on(99_000, Event::Tick), []);
    assert_eq!(two.wake_ms(), u64::MAX);
    assert_eq!(two.on(99_001, Event::Frozen(false)).len(), 2, "both are checked again");
    assert_eq!(two.on(99_002, Event::Lost)[0], Deed::Silence);
}

/// Those that do the steps, and the truth about what runs.
struct Doers {
    random: StdRng,
    /// Of each resource: the step, when it ends, whether well, whether it hangs until aborted.
    under: BTreeMap<usize, (Step, u64, bool, bool)>,
    runs: Vec<bool>,
    up: Vec<bool>,
    was_up: bool,
    suspended: bool,
    lost_ms: Option<u64>,
    stuck: bool,
    over: Option<Outcome>,
}

impl Doers {
    fn act(&mut self, now_ms: u64, deed: Deed, frozen: bool) {
        match deed {
            Deed::Do { resource, step } => self.begin(now_ms, resource, step, frozen),
            Deed::Abort { resource } => {
                let under = self.under.get_mut(&resource).expect("only what is under way");
                let ends_ms = now_ms + self.random.random_range(0..20);
                *under = (under.0, ends_ms.min(under.1), under.2 && !under.3, false);
            }
            Deed::Silence => assert!(self.lost_ms.is_some() || self.stuck),
            // A start that is under way goes on although nothing else is to be touched.
            Deed::Restarts { .. } => {
                assert!(self.lost_ms.is_none() && !(frozen && self.was_up));
            }
            Deed::Up => {
                assert!(self.up.iter().all(|up| *up));
                self.was_up = true;
            }
            Deed::Down(outcome) => {
                assert!(self.under.is_empty(), "{:?}", self.under);
                let left = self.runs.iter().any(|runs| *runs);
                assert!(!left || matches!(outcome, Outcome::Stuck { .. }), "{outcome:?}");
                self.over = Some(outcome);
            }
        }
    }

    fn begin(&mut self, now_ms: u64, resource: usize, step: Step, frozen: bool) {
        assert!(!self.under.contains_key(&resource), "one step at a time");
        assert!(self.lost_ms.is_none() || step == Step::Kill, "nothing else after it was lost");
        assert!(!self.suspended || step == Step::Kill);
        let above = |this: &Self| {
            (resource + 1..this.runs.len()).any(|at| this.runs[at] || this.under.contains_key(&at))
        };
        match step {
            Step::Start => {
                assert!((0..resource).all(|at| self.up[at]), "what it needs is up");
                assert!(!above(self), "nothing above it runs");
                self.runs[resource] = true;
            }
            Step::Stop => assert!(!above(self), "nothing that needs it runs"),
            Step::Check => assert!(!(frozen && self.was_up)),
            Step::Kill => {}
        }
        self.was_up &= step == Step::Check;
        let well = self.random.random_bool(if step == Step::Kill { 0.97 } else { 0.85 });
        let hangs = step != Step::Kill && self.random.random_bool(0.05);
        let ends_ms = now_ms + self.random.random_range(0..350);
        let ends_ms = if hangs { u64::MAX } else { ends_ms };
        self.under.insert(resource, (step, ends_ms, well, hangs));
    }

    fn next_ms(&self) -> u64 {
        let ends = self.under.values().filter(|under| !self.suspended || under.0 == Step::Kill);
        ends.map(|under| under.1).min().unwrap_or(u64::MAX)
    }

    /// One step that ends now.
    fn ended(&mut self, now_ms: u64) -> Option<Event> {
        let ends = |under: &(Step, u64, bool, bool)| {
            under.1 <= now_ms && (!self.suspended || under.0 == Step::Kill)
        };
        let (&resource, _) = self.under.iter().find(|(_, under)| ends(under))?;
        let (step, _, good, _) = self.under.remove(&resource)?;
        match step {
            Step::Start => self.up[resource] = good,
            Step::Stop | Step::Kill if good => {
                (self.runs[resource], self.up[resource]) = (false, false);
            }
            Step::Stop => self.up[resource] = false,
            Step::Kill => self.stuck = true,
            Step::Check => {}
        }
        Some(done(resource, step, good))
    }
}

/// One life of a group on a host, from its start to its end.
fn history(seed: u64) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let count = random.random_range(0..5);
    let adopts = random.random_bool(0.3);
    let mut resources = Resources::new(&vec![TERMS; count], LIMIT);
    let mut doers = Doers {
        random: StdRng::seed_from_u64(!seed),
        under: BTreeMap::new(),
        // What is adopted was started by an earlier life, which may have died in between.
        runs: (0..count).map(|_| adopts && random.random_bool(0.8)).collect(),
        up: vec![adopts; count],
        was_up: false,
        suspended: false,
        lost_ms: None,
        stuck: false,
        over: None,
    };
    let (mut now_ms, mut frozen) = (0, false);
    let ends_ms = random.random_range(200..20_000);
    let mut event = if adopts { Event::Adopt } else { Event::Held };
    let mut asked = false;
    loop {
        let deeds = resources.on(now_ms, event);
        for deed in deeds {
            doers.act(now_ms, deed, frozen);
        }
        if let Some(outcome) = doers.over {
            return outcome;
        }
        if let Some(ended) = doers.ended(now_ms) {
            event = ended;
            continue;
        }
        let chance_ms = now_ms + random.random_range(1..800);
        let next_ms = resources.wake_ms().min(doers.next_ms()).min(chance_ms).max(now_ms + 1);
        let by_chance = next_ms == chance_ms;
        now_ms = next_ms;
        let limit_ms = doers.lost_ms.unwrap_or(ends_ms) + 60_000;
        assert!(now_ms < limit_ms, "seed {seed}: no end, {resources:?}");
        event = match random.random_range(0..10) {
            _ if !by_chance => Event::Tick,
            _ if now_ms > ends_ms && !asked => {
                asked = true;
                doers.suspended = false;
                if random.random_bool(0.5) { Event::Stop } else { lose(&mut doers, now_ms) }
            }
            0 if doers.lost_ms.is_none() && random.random_bool(0.1) => lose(&mut doers, now_ms),
            1 if doers.lost_ms.is_none() && !asked => {
                doers.suspended = true;
                Event::Suspend
            }
            2 | 3 if doers.suspended => {
                doers.suspended = false;
                Event::Resume
            }
            4 => {
                frozen = !frozen;
                Event::Frozen(frozen)
            }
            _ => Event::Tick,
        };
        if asked && matches!(event, Event::Stop) {
            // A suspension that was under way ends before a stop in good order.
            for deed in resources.on(now_ms, Event::Resume) {
                doers.act(now_ms, deed, frozen);
            }
        }
    }
}

fn lose(doers: &mut Doers, now_ms: u64) -> Event {
    doers.lost_ms.get_or_insert(now_ms);
    Event::Lost
}

#[test]
fn whatever_fails_or_hangs_order_holds_and_every_history_ends() {
    let mut outcomes = [0; 4];
    for seed in 0..HISTORIES {
        let at = match history(seed) {
            Outcome::Stopped => 0,
            Outcome::Failed { .. } => 1,
            Outcome::Killed => 2,
            Outcome::Stuck { .. } => 3,
        };
        outcomes[at] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 50), "each end is met: {outcomes:?}");
}

const WISH: Wish = Wish {
    generation: 5,
    forgiven: 5,
    started: true,
    frozen: false,
    moved_away: None,
    permitted: None,
    failback: false,
};

fn over(end: End) -> Happened {
    Happened::Over { end, failed: false }
}

fn owning() -> Conduct {
    let mut host = Conduct::new(Past::default(), None);
    assert_eq!(host.on(0, &WISH, Happened::Tick), [Move::Begin]);
    assert_eq!(host.on(10, &WISH, Happened::Held), []);
    assert_eq!(host.course(), Course::Owning { began: 5 });
    host
}

#[test]
fn a_fenced_host_stays_out_until_a_later_permission() {
    let mut host = owning();
    let past = Past { fenced: Some(5), failed: None };
    assert_eq!(host.on(20, &WISH, over(End::Lost)), [Move::Remember(past)]);
    assert_eq!(host.course(), Course::Idle(Idle::Fenced));
    let older = Wish { generation: 6, permitted: Some(5), ..WISH };
    assert_eq!(host.on(30, &older, Happened::Tick), [], "given for an earlier fence");
    let newer = Wish { generation: 7, permitted: Some(7), ..WISH };
    let moves = host.on(40, &newer, Happened::Tick);
    assert_eq!(moves, [Move::Permit, Move::Remember(Past::default()), Move::Begin]);
}

#[test]
fn a_move_makes_the_owner_leave_once_and_come_back_as_a_standby() {
    let mut host = owning();
    let moved = Wish { generation: 6, moved_away: Some(6), ..WISH };
    assert_eq!(host.on(20, &Wish { frozen: true, ..moved }, Happened::Tick), []);
    assert_eq!(host.on(30, &moved, Happened::Tick), [Move::End]);
    assert_eq!(host.on(40, &moved, over(End::Done { code: 0 })), [Move::Begin]);
    assert_eq!(host.on(50, &moved, Happened::Held), []);
    assert_eq!(host.on(60, &moved, Happened::Tick), [], "the other one did not want it");
}

#[test]
fn a_host_whose_resources_failed_waits_for_a_newer_wish_that_forgives_it() {
    let mut host = owning();
    let past = Past { fenced: None, failed: Some(5) };
    let failed = Happened::Over { end: End::Done { code: 1 }, failed: true };
    assert_eq!(host.on(20, &WISH, failed), [Move::Remember(past)]);
    assert_eq!(host.on(99_000, &WISH, Happened::Tick), []);
    let updated = Wish { generation: 6, ..WISH };
    assert_eq!(host.on(99_000, &updated, Happened::Tick), [], "an update starts nothing");
    let newer = Wish { generation: 7, forgiven: 7, ..WISH };
    assert_eq!(
        host.on(99_001, &newer, Happened::Tick),
        [Move::Remember(Past::default()), Move::Begin]
    );
}

#[test]
fn a_stopped_or_frozen_group_is_not_contended_for() {
    let mut host = Conduct::new(Past::default(), None);
    let (stopped, frozen) = (Wish { started: false, ..WISH }, Wish { frozen: true, ..WISH });
    assert_eq!(host.on(0, &stopped, Happened::Tick), []);
    assert_eq!(host.on(0, &frozen, Happened::Tick), []);
    assert_eq!(host.course(), Course::Idle(Idle::Frozen));
    assert_eq!(host.on(0, &WISH, Happened::Tick), [Move::Begin]);
    assert_eq!(host.on(1, &frozen, Happened::Tick), [Move::End]);
    assert_eq!(host.on(2, &frozen, over(End::Stopped)), []);
    let mut adopted = Conduct::new(Past::default(), Some(4));
    assert_eq!(adopted.on(0, &frozen, Happened::Tick), [], "an owner goes on");
    assert_eq!(adopted.on(1, &stopped, Happened::Tick), [Move::End]);
}

#[test]
fn failback_waits_for_a_preferred_host_that_stays_ready() {
    let mut host = owning();
    let wish = Wish { failback: true, ..WISH };
    let ready = |host: &mut Conduct, range: std::ops::Range<u64>| {
        range.flat_map(|beat| host.on(beat * 100, &wish, Happened::SeniorReady)).collect::<Vec<_>>()
    };
    assert_eq!(ready(&mut host, 10..50), []);
    assert_eq!(ready(&mut host, 70..120), [], "it was away in between");
    assert_eq!(ready(&mut host, 120..122), [Move::End]);
}

#[test]
fn hosts_wait_for_those_before_them_but_not_for_a_silent_owner() {
    assert_eq!(delay_ms(&[], None), 0);
    assert_eq!(delay_ms(&[7, 8], None), 800);
    assert_eq!(delay_ms(&[7, 8], Some(8)), 400);
    assert_eq!(delay_ms(&[7], Some(7)), 0);
}
