//! The machine step by step, and the records and codecs.

use super::*;
use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{self, ReservationType, Reservations};

const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

fn settings() -> Settings {
    Settings {
        task: Task::Hold,
        liveness: Liveness::Ages,
        beat_ms: 100,
        freeze_ms: 350,
        takeover_ms: 500,
        delay_ms: 0,
        stop_ms: 2000,
        give_up_ms: 30_000,
        wait_ms: None,
        admits: false,
    }
}

fn begin(settings: Settings) -> (Machine, Key) {
    let (standing, key) = Standing::default().begin(7, 99);
    (Machine::new(settings, standing, key, 0), key)
}

fn other(epoch: u16) -> u64 {
    Key::new(8, epoch, 5).number()
}

fn seen(holder: u64, age_ms: u64) -> Input {
    let seen =
        Seen { generation: 4, holder: Some(holder), keys: vec![holder], age_ms: Some(age_ms) };
    Input::Answer(Answer::Seen(seen))
}

/// The same with a challenger's registration.
fn challenged(holder: u64, age_ms: u64, challenger: u64) -> Input {
    let keys = vec![holder, challenger];
    let seen = Seen { generation: 5, holder: Some(holder), keys, age_ms: Some(age_ms) };
    Input::Answer(Answer::Seen(seen))
}

const GOOD: Input = Input::Answer(Answer::Good);

/// Takes the volume from an owner that is silent; gives when it was shown as the owner.
fn take(machine: &mut Machine, key: Key) -> Vec<Action> {
    let victim = other(1);
    assert_eq!(machine.on(0, Input::Tick), [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(5, seen(victim, 499)), [], "it may be alive");
    assert_eq!(machine.on(50, Input::Tick), [Action::Ask(Request::Look)]);
    let claim = machine.on(55, seen(victim, 549));
    assert_eq!(claim, [Action::Ask(Request::Claim(key))]);
    let preempt = Request::Preempt { own: key.claiming(), victim };
    assert_eq!(machine.on(57, GOOD), [Action::Ask(Request::Look)]);
    let strike = machine.on(58, challenged(victim, 552, key.claiming().number()));
    assert_eq!(strike, [Action::Ask(preempt)]);
    assert_eq!(machine.on(60, GOOD), [Action::Ask(Request::Look)]);
    assert_eq!(
        machine.on(62, seen(key.claiming().number(), 0)),
        [Action::Ask(Request::Prove(key))]
    );
    assert_eq!(machine.on(65, GOOD), [Action::Ask(Request::Look)]);
    machine.on(70, seen(key.number(), 0))
}

#[test]
fn a_silent_owner_is_replaced_and_the_command_starts_after_the_proof() {
    let (mut machine, key) = begin(settings());
    let actions = take(&mut machine, key);
    let [Action::Remember(standing), Action::Start] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((standing.state, &standing.keys[..]), (State::Running, &[key][..]));
    assert!(machine.runs());
}

#[test]
fn an_owner_that_lives_is_left_alone_and_one_that_left_is_not_waited_for() {
    let (mut machine, key) = begin(settings());
    for at in 0..20 {
        assert_eq!(machine.on(at * 50, Input::Tick), [Action::Ask(Request::Look)]);
        assert_eq!(machine.on(at * 50 + 5, seen(other(1), 100)), []);
    }
    machine.on(1000, Input::Tick);
    let vacant = Key::of(other(1)).unwrap().vacated().number();
    assert_eq!(machine.on(1005, seen(vacant, 3)), [Action::Ask(Request::Claim(key))]);
}

#[test]
fn a_preempt_without_an_answer_is_no_proof_that_nothing_can_land() {
    let (mut machine, key) = begin(settings());
    machine.on(0, Input::Tick);
    machine.on(5, seen(other(1), 600));
    machine.on(8, GOOD);
    machine.on(10, challenged(other(1), 604, key.claiming().number()));
    assert_eq!(machine.on(900, Input::Answer(Answer::Failed)), []);
    assert_eq!(machine.on(950, Input::Tick), [Action::Ask(Request::Look)]);
    let claiming = key.claiming().number();
    let shown = machine.on(955, seen(claiming, 0));
    assert_eq!(shown, [Action::Ask(Request::Reset)], "it holds, but what it aborted may land");
    assert_eq!(machine.on(990, GOOD), [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(992, seen(claiming, 0)), [Action::Ask(Request::Prove(key))]);
    assert_eq!(machine.on(993, GOOD), [Action::Ask(Request::Look)]);
    assert!(matches!(machine.on(995, seen(key.number(), 0))[..], [_, Action::Start]));
}

/// The simulation found it: the first challenger's preempt waits for the owner's slow writes, and
/// a second one that takes the first for dead would have been done at once.
#[test]
fn who_preempts_a_challenger_proves_what_the_challenger_had_still_to_prove() {
    let (mut machine, key) = begin(settings());
    machine.on(0, Input::Tick);
    let victim = Key::of(other(1)).unwrap().claiming().number();
    machine.on(5, seen(victim, 600));
    let preempt = Request::Preempt { own: key.claiming(), victim };
    assert_eq!(machine.on(8, GOOD), [Action::Ask(Request::Look)]);
    let strike = machine.on(10, challenged(victim, 604, key.claiming().number()));
    assert_eq!(strike, [Action::Ask(preempt)]);
    assert_eq!(machine.on(15, GOOD), [Action::Ask(Request::Look)]);
    let shown = machine.on(20, seen(key.claiming().number(), 0));
    assert_eq!(shown, [Action::Ask(Request::Reset)]);
}

#[test]
fn of_two_challengers_the_second_finds_the_key_gone_and_waits() {
    let (mut machine, key) = begin(settings());
    machine.on(0, Input::Tick);
    machine.on(5, seen(other(1), 600));
    machine.on(8, GOOD);
    machine.on(10, challenged(other(1), 604, key.claiming().number()));
    let look = machine.on(15, Input::Answer(Answer::Conflict));
    assert_eq!(look, [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(20, seen(other(2), 1)), [], "another one won");
    assert!(!machine.runs() && machine.key() == key);
}

#[test]
fn an_owner_that_was_paused_freezes_first_and_stops_when_it_sees_another() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    assert_eq!(machine.on(170, Input::Tick), [Action::Ask(Request::Look)]);
    // The answer had arrived before the pause and says that all is well.
    assert_eq!(
        machine.on(9000, seen(key.number(), 0)),
        [Action::Freeze, Action::Ask(Request::Look)]
    );
    let actions = machine.on(9010, seen(other(2), 3));
    let [Action::Terminate(Why::Lost), Action::Remember(standing)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(standing.state, State::Fenced);
    assert_eq!(machine.on(11_010, Input::Tick).first(), Some(&Action::Kill));
    assert_eq!(machine.on(11_020, Input::Ended { code: 137 }), [Action::Over(End::Lost)]);
}

#[test]
fn an_owner_out_of_reach_freezes_before_another_may_take_over_and_goes_on_when_it_is_back() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    machine.on(170, Input::Tick);
    assert_eq!(machine.wake_ms(), 65 + 351);
    assert_eq!(machine.on(416, Input::Tick), [Action::Freeze]);
    assert_eq!(machine.on(1170, Input::Answer(Answer::Failed)), []);
    assert_eq!(machine.on(1220, Input::Tick), [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(1230, seen(key.number(), 0)), [Action::Thaw]);
}

/// The simulation found it: the network healed in the moment of the takeover, and both ran.
#[test]
fn of_an_owner_that_comes_back_and_a_challenger_that_strikes_one_sees_the_other() {
    let (mut owner, key) = begin(settings());
    take(&mut owner, key);
    owner.on(170, Input::Tick);
    owner.on(416, Input::Tick);
    owner.on(1170, Input::Answer(Answer::Failed));
    owner.on(1220, Input::Tick);
    let challenger = Key::of(other(4)).unwrap().claiming().number();
    let disarm = Request::Preempt { own: key, victim: challenger };
    // Registered before the owner's look: the owner stays frozen until that is undone.
    let looked = owner.on(1230, challenged(key.number(), 0, challenger));
    assert_eq!(looked, [Action::Ask(disarm)]);
    assert_eq!(owner.on(1235, GOOD), [Action::Ask(Request::Look)]);
    assert_eq!(owner.on(1240, seen(key.number(), 0)), [Action::Thaw]);
    // Registered after it: the challenger's look finds the owner young.
    let (mut machine, key) = begin(settings());
    machine.on(0, Input::Tick);
    machine.on(5, seen(other(1), 600));
    assert_eq!(machine.on(8, GOOD), [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(10, challenged(other(1), 3, key.claiming().number())), []);
}

#[test]
fn a_good_end_leaves_the_reservation_and_says_that_it_is_free() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    assert_eq!(machine.on(100, Input::Stop), [Action::Terminate(Why::Asked)]);
    let actions = machine.on(150, Input::Ended { code: 3 });
    let [Action::Remember(standing), Action::Ask(request)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((standing.state, *request), (State::Clean, Request::Vacate(key)));
    let done = machine.on(155, GOOD);
    let [Action::Remember(standing), Action::Over(End::Done { code: 3 })] = &done[..] else {
        panic!("{done:?}")
    };
    assert_eq!(standing.keys, []);
}

/// The simulation found it: the target stood still while the guard ended, and the next run of the
/// same host kept the dead owner's age young by looking, so that nobody ever took the volume.
#[test]
fn a_run_that_could_not_say_vacant_is_known_to_the_next_one() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    machine.on(100, Input::Stop);
    let ended = machine.on(150, Input::Ended { code: 0 });
    let Some(Action::Remember(standing)) = ended.first() else { panic!("{ended:?}") };
    assert_eq!(machine.on(3_150, Input::Tick), [Action::Over(End::Done { code: 0 })]);
    let (standing, next) = standing.begin(7, 100);
    let mut machine = Machine::new(settings(), standing, next, 0);
    machine.on(0, Input::Tick);
    assert_eq!(machine.on(5, seen(key.number(), 1)), [Action::Ask(Request::Claim(next))]);
}

/// The simulation found it: a session that was opened under another ISID looks and never signs.
#[test]
fn an_owner_that_speaks_through_another_port_than_the_holder_freezes() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    for at in [165, 265, 365] {
        assert_eq!(machine.on(at, Input::Tick), [Action::Ask(Request::Look)]);
        assert_eq!(machine.on(at + 5, seen(key.number(), at - 65)), []);
    }
    assert_eq!(machine.on(451, Input::Tick), [Action::Freeze]);
}

#[test]
fn the_record_of_a_host_that_starts_for_ever_keeps_its_owners_key_and_stays_short() {
    let owner = Key::new(7, 1, 1);
    let (epoch, keys) = (1, vec![owner]);
    let mut standing = Standing { state: State::Running, epoch, unanswered: false, keys };
    for nonce in 0..1000 {
        standing = standing.begin(7, nonce).0;
    }
    assert_eq!((standing.keys.len(), standing.keys[0]), (64, owner));
    assert_eq!(standing.keys[63], Key::new(7, 1001, 999));
}

#[test]
fn a_loser_that_starts_again_stays_out_until_it_is_permitted() {
    let standing = Standing { state: State::Fenced, ..Standing::default() };
    let (standing, key) = standing.begin(7, 1);
    let mut machine = Machine::new(settings(), standing, key, 0);
    assert_eq!(machine.on(0, Input::Tick), [Action::Over(End::Fenced)]);
    // One that crashed while it ran learns from the volume that it lost.
    let keys = vec![Key::new(7, 3, 3)];
    let crashed = Standing { state: State::Running, epoch: 3, unanswered: false, keys };
    let (standing, key) = crashed.begin(7, 1);
    let mut machine = Machine::new(settings(), standing.clone(), key, 0);
    machine.on(0, Input::Tick);
    let actions = machine.on(5, seen(other(2), 9000));
    assert!(matches!(&actions[..], [Action::Remember(s), Action::Over(End::Fenced)]
        if s.state == State::Fenced));
    // And one that nobody replaced goes on, after a reset of what it had sent itself.
    let mut machine = Machine::new(settings(), standing, key, 0);
    machine.on(0, Input::Tick);
    let claim = machine.on(5, seen(Key::new(7, 3, 3).number(), 1));
    assert_eq!(claim, [Action::Ask(Request::Claim(key))]);
    assert_eq!(machine.on(10, GOOD), [Action::Ask(Request::Look)]);
    let shown = machine.on(15, seen(key.claiming().number(), 0));
    assert_eq!(shown, [Action::Ask(Request::Reset)]);
}

#[test]
fn without_ages_an_owner_signs_by_generation_and_a_paused_challenger_has_not_watched() {
    let (mut machine, key) = begin(Settings { liveness: Liveness::Generation, ..settings() });
    let still = || match seen(other(1), 0) {
        Input::Answer(Answer::Seen(seen)) => {
            Input::Answer(Answer::Seen(Seen { age_ms: None, ..seen }))
        }
        input => input,
    };
    let mut look = |at: u64| {
        machine.on(at, Input::Tick);
        machine.on(at + 1, still())
    };
    for at in [0, 100, 200, 300] {
        assert_eq!(look(at), []);
    }
    assert_eq!(look(5000), [], "it slept itself");
    for at in [5100, 5200, 5300, 5400] {
        assert_eq!(look(at), []);
    }
    assert_eq!(look(5500), [Action::Ask(Request::Claim(key))]);
    assert_eq!(machine.on(5502, GOOD), [Action::Ask(Request::Look)]);
    let victim = other(1);
    let seen = |generation| {
        let keys = vec![victim, key.claiming().number()];
        Input::Answer(Answer::Seen(Seen { generation, holder: Some(victim), keys, age_ms: None }))
    };
    let preempt = Request::Preempt { own: key.claiming(), victim };
    let mut signed = machine.clone();
    assert_eq!(machine.on(5504, seen(5)), [Action::Ask(preempt)], "the claim alone moved it");
    assert_eq!(signed.on(5504, seen(6)), [], "the owner has signed meanwhile");
}

/// The target had started again on a loaded machine, and the owner came back after it had been
/// replaced.
#[test]
fn an_owner_that_the_target_has_not_heard_since_it_began_has_two_seconds_more() {
    let unheard = || match seen(other(1), 0) {
        Input::Answer(Answer::Seen(seen)) => {
            Input::Answer(Answer::Seen(Seen { age_ms: None, ..seen }))
        }
        input => input,
    };
    let (mut machine, key) = begin(settings());
    let look = |machine: &mut Machine, at: u64| {
        assert_eq!(machine.on(at, Input::Tick), [Action::Ask(Request::Look)]);
        machine.on(at + 1, unheard())
    };
    for at in (0..=2_400).step_by(100) {
        assert_eq!(look(&mut machine, at), []);
    }
    // Who was paused itself has not watched.
    let mut paused = machine.clone();
    assert_eq!(look(&mut paused, 2_900), []);
    assert_eq!(look(&mut machine, 2_501), [Action::Ask(Request::Claim(key))]);
    // Once it has been heard half a second is enough.
    paused.on(3_000, Input::Tick);
    assert_eq!(paused.on(3_005, seen(other(1), 501)), [Action::Ask(Request::Claim(key))]);
}

/// The target was back before anybody had missed it, with the generation that it had before.
#[test]
fn each_restart_of_the_target_gives_the_owner_its_time_anew() {
    let shown = |age_ms| {
        let (holder, keys) = (Some(other(1)), vec![other(1)]);
        Input::Answer(Answer::Seen(Seen { generation: 0, holder, keys, age_ms }))
    };
    let (mut machine, key) = begin(settings());
    let mut look = |at: u64, age_ms| {
        assert_eq!(machine.on(at, Input::Tick), [Action::Ask(Request::Look)]);
        machine.on(at + 1, shown(age_ms))
    };
    let mut at = 0;
    for _ in 0..2 {
        for _ in 0..40 {
            assert_eq!(look(at, Some(90)), []);
            at += 100;
        }
        for _ in 0..25 {
            assert_eq!(look(at, None), [], "{at}");
            at += 100;
        }
    }
    assert_eq!(look(at, None), [Action::Ask(Request::Claim(key))]);
}

#[test]
fn something_that_is_no_guard_is_not_fought() {
    let (mut machine, _) = begin(settings());
    machine.on(0, Input::Tick);
    assert_eq!(machine.on(5, seen(0xA1, 90_000)), [Action::Over(End::Foreign)]);
}

#[test]
fn keys_say_whose_they_are_and_differ_between_clones() {
    let key = Key::new(0xABCDE, 0x1234, 0x5678);
    assert_eq!((key.host(), key.epoch(), key.is_vacant()), (0xABCDE, 0x1234, false));
    assert_eq!(Key::of(key.number()), Some(key));
    assert_eq!(Key::of(0xA1), None);
    assert!(key.vacated().is_vacant() && key.vacated() != key);
    let clone = Standing::default();
    assert_ne!(clone.begin(7, 1).1, clone.begin(7, 2).1);
}

#[test]
fn the_record_reads_back_and_a_damaged_one_is_refused() {
    let standing = Standing {
        state: State::Fenced,
        epoch: 9,
        unanswered: true,
        keys: vec![Key::new(1, 8, 2), Key::new(1, 9, 3)],
    };
    let text = standing.encode();
    assert_eq!(Standing::decode(&text), Ok(standing));
    for cut in 0..text.len() - 1 {
        assert!(Standing::decode(&text[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Standing::decode(&text.replace("fenced", "clear")).is_err());
    assert!(Standing::decode(&text.replace("key 0xc4", "key 0xc5")).is_err());
    // A record of before has no such line, and one of afterwards is none of before: see
    // docs/formats/guard.md.
    let line = "registrations unanswered\n";
    let before = Standing::decode(&text.replace(line, "")).unwrap();
    assert!(!before.unanswered && before.keys.len() == 2);
    assert!(Standing::decode(&text.replace(line, &line.repeat(2))).is_err());
}

#[test]
fn what_the_target_writes_is_read_back() {
    let nexus = |name: &str| ItNexus {
        initiator: InitiatorPort::iscsi(name, [0, 0, 0, 0, 0, 1]),
        target: RelativePort(1),
    };
    let (alpha, beta) = (nexus("iqn.2026-11.example:alpha"), nexus("iqn.2026-11.example:beta"));
    let mut state = Reservations::default();
    let mut change = |nexus: &ItNexus, action, keys, ports: &[InitiatorPort]| {
        let (cdb, list) = wire::out(action, TYPE, keys, ports);
        let request = reservations::Request::parse(&cdb, &list).unwrap();
        state = state.apply(nexus, &request, &[RelativePort(1)]).unwrap().next;
        state.clone()
    };
    change(&alpha, wire::Out::Register, (0, 0xA), std::slice::from_ref(&beta.initiator));
    let state = change(&alpha, wire::Out::Reserve, (0xA, 0), &[]);
    assert!(state.aptpl());
    let status =
        wire::FullStatus::decode(&state.persistent_in(&wire::in_cdb(wire::READ_FULL_STATUS)).data);
    let status = status.unwrap();
    assert_eq!(status.generation, state.generation());
    let listed: Vec<_> = status.registrations.iter().map(|r| (r.key, r.holder, r.kind)).collect();
    assert_eq!(listed, [(0xA, true, Some(TYPE)), (0xA, false, None)]);
    let page = scsi::registrants::page(&state, |one| (one.nexus == alpha).then_some(17));
    let ages = wire::Ages::decode(&page).unwrap();
    assert_eq!(ages.generation, state.generation());
    let aged = |holder, age_ms| wire::Aged { key: 0xA, holder, age_ms };
    assert_eq!(ages.registrants, [aged(true, Some(17)), aged(false, None)]);
    for cut in 0..page.len() {
        assert!(wire::Ages::decode(&page[..cut]).is_err());
    }
}

#[test]
fn a_guard_that_adopts_goes_on_with_the_key_and_finds_out_at_once_that_it_was_lost() {
    let settings = Settings { task: Task::Adopt, ..settings() };
    let (_, key) = Standing::default().begin(7, 99);
    let (epoch, keys) = (1, vec![key]);
    let standing = Standing { state: State::Running, epoch, unanswered: false, keys };
    let mut machine = Machine::new(settings, standing.clone(), key, 1_000);
    assert_eq!(machine.on(1_000, Input::Tick), [Action::Ask(Request::Look)]);
    assert!(!machine.runs(), "nobody has watched over it");
    assert_eq!(machine.on(1_005, seen(key.number(), 40)), [Action::Thaw]);
    assert!(machine.runs());
    let ended = machine.on(1_010, Input::Ended { code: 0 });
    assert_eq!(ended.last(), Some(&Action::Ask(Request::Vacate(key))), "it is vacated as ever");

    let mut machine = Machine::new(settings, standing, key, 1_000);
    machine.on(1_000, Input::Tick);
    let lost = machine.on(1_005, seen(other(3), 10));
    let [Action::Terminate(Why::Lost), Action::Remember(standing)] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!(standing.state, State::Fenced);
}

#[test]
fn advice_holds_a_claim_back_but_not_from_an_owner_that_left() {
    let (mut machine, key) = begin(settings());
    machine.advise(Advice { strikes: false, ..Advice::default() });
    machine.on(0, Input::Tick);
    assert_eq!(machine.on(5, seen(other(1), 9_000)), [], "this host reaches no witness");
    machine.on(50, Input::Tick);
    let vacant = Key::of(other(1)).unwrap().vacated().number();
    assert_eq!(machine.on(55, seen(vacant, 3)), [Action::Ask(Request::Claim(key))]);
    let (mut machine, key) = begin(settings());
    machine.advise(Advice { delay_ms: 100, ..Advice::default() });
    for at in [0, 50] {
        machine.on(at, Input::Tick);
        assert_eq!(machine.on(at + 5, seen(other(1), 9_000)), [], "others come first");
    }
    machine.on(105, Input::Tick);
    assert_eq!(machine.on(110, seen(other(1), 9_100)), [Action::Ask(Request::Claim(key))]);
}

#[test]
fn the_delay_behind_a_host_that_comes_first_begins_when_that_one_knows_what_is_wanted() {
    let (mut machine, key) = begin(settings());
    let vacant = Key::of(other(1)).unwrap().vacated().number();
    machine.advise(Advice { delay_ms: 100, waits: true, ..Advice::default() });
    for at in (0..400).step_by(50) {
        machine.on(at, Input::Tick);
        assert_eq!(machine.on(at + 5, seen(vacant, 3)), [], "{at}");
    }
    machine.advise(Advice { delay_ms: 100, ..Advice::default() });
    for at in [400, 450] {
        machine.on(at, Input::Tick);
        assert_eq!(machine.on(at + 5, seen(vacant, 3)), [], "{at}");
    }
    machine.on(505, Input::Tick);
    assert_eq!(machine.on(510, seen(vacant, 3)), [Action::Ask(Request::Claim(key))]);
}

#[test]
fn an_owner_whose_command_cannot_be_ended_stays_out_and_leaves_the_volume_to_its_silence() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    assert_eq!(machine.on(90, Input::Stop), [Action::Terminate(Why::Asked)]);
    let stuck = machine.on(95, Input::Stuck);
    let [Action::Remember(standing), Action::Over(End::Stuck)] = &stuck[..] else {
        panic!("{stuck:?}")
    };
    assert_eq!(standing.state, State::Fenced);
}

#[test]
fn a_frozen_owner_that_is_asked_to_stop_goes_on_only_when_the_volume_is_its_own() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    machine.on(170, Input::Tick);
    assert_eq!(machine.on(416, Input::Tick), [Action::Freeze]);
    assert_eq!(machine.on(500, Input::Stop), [], "its programs would run beside another owner");
    assert_eq!(machine.on(1170, Input::Answer(Answer::Failed)), []);
    machine.on(1220, Input::Tick);
    assert_eq!(
        machine.on(1230, seen(key.number(), 0)),
        [Action::Thaw, Action::Terminate(Why::Asked)]
    );
}

#[test]
fn what_is_ending_in_good_order_is_frozen_when_the_volume_falls_silent() {
    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    assert_eq!(machine.on(100, Input::Stop), [Action::Terminate(Why::Asked)]);
    assert_eq!(machine.on(200, Input::Tick), [Action::Ask(Request::Look)]);
    assert_eq!(machine.wake_ms(), 65 + 351);
    assert_eq!(machine.on(416, Input::Tick), [Action::Freeze]);
    assert_eq!(machine.on(870, Input::Answer(Answer::Failed)), []);
    assert_eq!(machine.on(920, Input::Tick), [Action::Ask(Request::Look)]);
    assert_eq!(machine.on(925, seen(key.number(), 0)), [Action::Thaw]);
    // The time that it was given runs on.
    let late = machine.on(2_100, Input::Tick);
    assert_eq!(late.first(), Some(&Action::Kill));
    let ended = machine.on(2_110, Input::Ended { code: 137 });
    assert!(matches!(ended.first(), Some(Action::Remember(_))), "{ended:?}");

    let (mut machine, key) = begin(settings());
    take(&mut machine, key);
    machine.on(100, Input::Stop);
    machine.on(200, Input::Tick);
    machine.on(416, Input::Tick);
    let lost = machine.on(900, seen(other(2), 3));
    assert_eq!(lost.first(), Some(&Action::Terminate(Why::Lost)), "{lost:?}");
}

/// A warden was dead, and what it had started wrote on by a port of its own, so that the owner
/// looked alive for ever. Paths are another matter: any of them may be the one that still answers.
#[test]
fn the_ports_of_a_command_are_no_sign_of_life_and_the_paths_of_a_host_are() {
    let seen = |key: Key| {
        let key = key.number();
        let listed = |holder| wire::Listed { key, holder, kind: holder.then_some(TYPE) };
        let aged = |holder, age_ms| wire::Aged { key, holder, age_ms };
        let status = wire::FullStatus {
            generation: 3,
            registrations: vec![listed(true), listed(false), listed(false)],
        };
        let registrants = vec![aged(true, Some(900)), aged(false, Some(5)), aged(false, None)];
        Seen::of(&status, Some(&wire::Ages { generation: 3, registrants })).age_ms
    };
    let key = Key::new(7, 1, 1);
    assert_eq!(seen(key), Some(900));
    assert_eq!(seen(key.by_paths()), Some(5));
    let (standing, key) = Standing::default().begin_by_paths(7, 1);
    assert!(key.is_by_paths() && standing.keys == [key] && !key.is_of(Key::new(7, 1, 1)));
    assert!(key.claiming().is_of(key) && key.vacated().is_by_paths());
}

/// A path had died while it was being registered, and the host held the volume without running and
/// without letting anybody else have it.
#[test]
fn a_claim_that_a_path_keeps_from_starting_is_given_up_for_others() {
    let (standing, key) = Standing::default().begin_by_paths(7, 99);
    let mut machine = Machine::new(Settings { admits: true, ..settings() }, standing, key, 0);
    let admit = vec![Action::Ask(Request::Admit(key))];
    assert_eq!(take(&mut machine, key), admit);
    let failed = || Input::Answer(Answer::Failed);
    for at in (100..3_000).step_by(100) {
        machine.on(at, failed());
        machine.on(at + 50, Input::Tick);
        assert_eq!(machine.on(at + 50, seen(key.number(), 0)), admit, "{at}");
    }
    let gives_up = machine.on(3_200, failed());
    assert_eq!(gives_up.last(), Some(&Action::Ask(Request::Vacate(key))));
    assert_eq!(machine.on(3_201, GOOD).last(), Some(&Action::Over(End::Unreachable)));
}

#[test]
fn a_host_that_a_path_keeps_from_starting_claims_what_an_earlier_run_holds_and_nothing_else() {
    let vacant = Key::of(other(1)).unwrap().vacated().number();
    let (mut barred, key) = begin(settings());
    barred.bar(true);
    let mut ends = barred.clone();
    for at in (0..=3_000).step_by(50) {
        ends.on(at, Input::Tick);
        let end = [Action::Over(End::Unreachable)];
        let (silent, expected) = if at < 3_000 { (600 + at, &[][..]) } else { (3_600, &end[..]) };
        assert_eq!(ends.on(at, seen(if at < 500 { vacant } else { other(1) }, silent)), expected);
    }
    // An owner that comes back in between is not counted against it.
    let mut waits = barred.clone();
    for at in (0..=9_000).step_by(50) {
        waits.on(at, Input::Tick);
        assert_eq!(waits.on(at, seen(other(1), at % 2_500)), [], "{at}");
    }
    waits.bar(false);
    waits.on(9_050, Input::Tick);
    assert_eq!(waits.on(9_051, seen(vacant, 1)), [Action::Ask(Request::Claim(key))]);
    // Nobody else takes a volume from a host that speaks.
    let standing = Standing { keys: vec![Key::new(7, 3, 3)], ..Standing::default() };
    let (standing, key) = standing.begin(7, 5);
    let mut own = Machine::new(settings(), standing, key, 0);
    own.bar(true);
    own.on(0, Input::Tick);
    let claim = own.on(5, seen(Key::new(7, 3, 3).number(), 1));
    assert_eq!(claim, [Action::Ask(Request::Claim(key))]);
}

/// Each restart of a guard with one path reset the logical unit, and with it the commands of every
/// host.
#[test]
fn an_earlier_run_by_one_path_is_preempted_and_the_unit_is_not_reset() {
    let last = |by_paths: bool| {
        let earlier = Key::new(7, 1, 3).vacated().number();
        let standing = Standing { epoch: 1, ..Standing::default() };
        let (standing, key) = match by_paths {
            true => standing.begin_by_paths(7, 99),
            false => standing.begin(7, 99),
        };
        let mut machine = Machine::new(settings(), standing, key, 0);
        machine.on(0, Input::Tick);
        machine.on(1, seen(earlier, 5));
        machine.on(2, GOOD);
        let strike = machine.on(3, challenged(earlier, 5, key.claiming().number()));
        let preempt = Request::Preempt { own: key.claiming(), victim: earlier };
        assert_eq!(strike, [Action::Ask(preempt)]);
        machine.on(4, GOOD);
        (machine.on(5, seen(key.claiming().number(), 0)), key)
    };
    let (one, key) = last(false);
    assert_eq!(one, [Action::Ask(Request::Prove(key))]);
    assert_eq!(last(true).0, [Action::Ask(Request::Reset)]);
}
