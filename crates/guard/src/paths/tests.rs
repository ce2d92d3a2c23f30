//! The paths step by step.

use super::*;
use crate::{Seen, Standing};

const TERMS: Terms = Terms { hedge_ms: 100, probe_ms: 500 };
const A: PathId = PathId(1);
const B: PathId = PathId(2);

fn key() -> Key {
    Standing::default().begin(7, 99).1
}

fn seen(holder: Key) -> Answer {
    let (holder, keys) = (Some(holder.number()), vec![holder.number()]);
    Answer::Seen(Seen { generation: 1, holder, keys, age_ms: Some(0) })
}

fn out(action: Out, own: u64, about: u64) -> Command {
    Command::Out { action, own, about }
}

fn register(own: u64, about: u64) -> Command {
    out(Out::Register, own, about)
}

/// A run that has started with these paths registered, of which the first holds.
fn started(paths: &[PathId]) -> Paths {
    let (mut all, key) = (Paths::several(key(), TERMS, paths), key());
    let (own, claiming) = (key.number(), key.claiming().number());
    // Whatever it looks at meanwhile.
    for id in paths {
        all.path_mut(*id).unwrap().probe_ms = 1_000_000;
    }
    let mut step = |news, command| {
        let steps = all.on(0, news);
        assert_eq!(steps, [Step::Send(paths[0], command)]);
    };
    step(News::Ask(Request::Claim(key)), out(Out::RegisterAndIgnore, 0, claiming));
    assert_eq!(all.on(0, News::Answer(paths[0], Answer::Good)), [Step::Answer(Answer::Good)]);
    let mut step = |news, command| {
        let steps = all.on(0, news);
        assert_eq!(steps, [Step::Send(paths[0], command)]);
    };
    step(News::Ask(Request::Reserve(key)), out(Out::Reserve, claiming, 0));
    all.on(0, News::Answer(paths[0], Answer::Good));
    all.on(0, News::Ask(Request::Prove(key)));
    assert_eq!(all.on(0, News::Answer(paths[0], Answer::Good)), [Step::Answer(Answer::Good)]);
    all.on(0, News::Ask(Request::Admit(key)));
    for answer in [seen(key), Answer::Good] {
        for id in &paths[1..] {
            all.on(0, News::Answer(*id, answer.clone()));
        }
    }
    assert!(paths.iter().all(|id| all.path(*id).unwrap().place == Place::Inside));
    all.on(0, News::Ask(Request::Look));
    all.on(0, News::Answer(paths[0], seen(key)));
    assert_eq!(all.on(0, News::Start), [Step::Open]);
    for path in &mut all.paths {
        path.probe_ms = 1_000_000;
    }
    let _ = own;
    all
}

#[test]
fn a_volume_with_one_path_is_asked_what_the_machine_asks() {
    let key = key();
    let mut paths = Paths::single(key, A);
    for request in [Request::Look, Request::Claim(key), Request::Vacate(key), Request::Reset] {
        let sent = paths.on(0, News::Ask(request));
        assert_eq!(sent, [Step::Send(A, Command::of(request))]);
        assert_eq!(paths.on(900, News::Tick), [], "it is waited for");
        let answer = paths.on(950, News::Answer(A, Answer::Failed));
        assert_eq!(answer, [Step::Answer(Answer::Failed)]);
    }
    assert_eq!((paths.on(0, News::Start), paths.wake_ms()), (vec![], u64::MAX));
}

#[test]
fn a_path_that_does_not_answer_in_time_does_not_use_up_the_time_of_the_owner() {
    let mut paths = started(&[A, B]);
    assert_eq!(paths.on(10, News::Ask(Request::Look)), [Step::Send(A, Command::Look)]);
    assert_eq!(paths.on(109, News::Tick), []);
    assert_eq!(paths.on(110, News::Tick), [Step::Send(B, Command::Look)]);
    let answer = paths.on(112, News::Answer(B, seen(key())));
    assert_eq!(answer, [Step::Answer(seen(key()))]);
    assert_eq!(paths.on(200, News::Ask(Request::Look)), [Step::Send(B, Command::Look)], "at once");
}

#[test]
fn a_path_that_comes_is_let_in_behind_a_closed_gate_and_opened_by_a_younger_look() {
    let (mut paths, key) = (started(&[A]), key());
    let asks = paths.on(10, News::Appeared(B));
    assert_eq!(asks, [Step::Send(B, register(key.number(), key.number()))]);
    assert_eq!(paths.on(12, News::Answer(B, Answer::Conflict)), [Step::Close]);
    // A look that was on its way when the registration was sent proves nothing.
    assert_eq!(paths.on(13, News::Ask(Request::Look)), [Step::Send(A, Command::Look)]);
    let registers = paths.on(14, News::Closed);
    assert_eq!(registers, [Step::Send(B, register(0, key.number()))]);
    let looks = paths.on(16, News::Answer(B, Answer::Good));
    assert_eq!(looks, [Step::Send(B, Command::Look)]);
    assert_eq!(paths.on(17, News::Answer(A, seen(key))), [Step::Answer(seen(key))]);
    assert_eq!(paths.on(18, News::Answer(B, seen(key))), [Step::Open]);
    assert_eq!(paths.path(B).unwrap().place, Place::Inside);
}

#[test]
fn a_host_that_was_fenced_while_it_let_a_path_in_never_writes_again() {
    let (mut paths, key) = (started(&[A]), key());
    let other = Key::new(8, 1, 1);
    paths.on(10, News::Appeared(B));
    paths.on(12, News::Answer(B, Answer::Conflict));
    paths.on(14, News::Closed);
    assert_eq!(paths.on(9_000, News::Answer(B, Answer::Good)).len(), 1);
    let steps = paths.on(9_001, News::Answer(B, seen(other)));
    assert!(!steps.contains(&Step::Open), "{steps:?}");
    paths.on(9_002, News::Ask(Request::Look));
    let steps = paths.on(9_003, News::Answer(A, seen(other)));
    assert!(!steps.contains(&Step::Open), "{steps:?}");
    assert_eq!(paths.on(9_004, News::End)[0], Step::Shut);
    let _ = key;
}

#[test]
fn a_registration_without_an_answer_keeps_the_gate_closed_until_its_path_answers() {
    let (mut paths, key) = (started(&[A]), key());
    paths.on(10, News::Appeared(B));
    paths.on(12, News::Answer(B, Answer::Conflict));
    paths.on(14, News::Closed);
    assert_eq!(paths.on(1_014, News::Answer(B, Answer::Failed)), []);
    assert!(paths.is_in_doubt());
    paths.on(1_020, News::Ask(Request::Look));
    assert_eq!(paths.on(1_022, News::Answer(A, seen(key))), [Step::Answer(seen(key))], "closed");
    let asks = paths.on(1_514, News::Tick);
    assert_eq!(asks, [Step::Send(B, register(key.number(), key.number()))]);
    // It is not registered, and nothing that was sent before can change that any more.
    let steps = paths.on(1_516, News::Answer(B, Answer::Conflict));
    let [Step::Send(by, Command::Look)] = steps[..] else { panic!("{steps:?}") };
    assert_eq!(paths.on(1_518, News::Answer(by, seen(key)))[0], Step::Open);
}

/// The simulation found it: a path went while it was being registered, was waited for without end,
/// and the host kept the volume and never started.
#[test]
fn a_path_whose_device_goes_is_not_waited_for() {
    let (mut paths, key) = (started(&[A]), key());
    paths.on(10, News::Appeared(B));
    paths.on(12, News::Answer(B, Answer::Conflict));
    paths.on(14, News::Closed);
    assert_eq!(paths.on(15, News::Gone(B)), [Step::Send(A, Command::Look)]);
    assert_eq!(paths.on(16, News::Answer(A, seen(key)))[0], Step::Open);
    let (mut paths, key) = (Paths::several(key, TERMS, &[A, B]), key);
    paths.on(0, News::Tick);
    for id in [A, B] {
        paths.on(1, News::Answer(id, seen(Key::new(8, 1, 1))));
    }
    paths.on(2, News::Ask(Request::Admit(key)));
    for id in [A, B] {
        paths.on(2, News::Answer(id, seen(key)));
    }
    paths.on(3, News::Answer(A, Answer::Good));
    assert_eq!(paths.on(4, News::Gone(B))[0], Step::Answer(Answer::Good));
}

#[test]
fn nothing_starts_while_a_registration_may_be_late() {
    let (mut paths, key) = (Paths::several(key(), TERMS, &[A, B]), key());
    for id in [A, B] {
        paths.path_mut(id).unwrap().probe_ms = 1_000_000;
    }
    paths.on(0, News::Ask(Request::Admit(key)));
    for id in [A, B] {
        paths.on(0, News::Answer(id, seen(key)));
    }
    paths.on(1, News::Answer(A, Answer::Good));
    let failed = paths.on(1_000, News::Answer(B, Answer::Failed));
    assert_eq!(failed[0], Step::Answer(Answer::Failed));
    let again = paths.on(1_001, News::Ask(Request::Admit(key)));
    assert_eq!(again, [Step::Answer(Answer::Failed)]);
    assert_eq!(paths.on(1_500, News::Tick), [Step::Send(B, Command::Look)]);
    paths.on(1_501, News::Answer(B, seen(key)));
    let hears = paths.on(1_502, News::Ask(Request::Admit(key)));
    assert_eq!(hears, [Step::Send(B, Command::Look)]);
    let again = paths.on(1_502, News::Answer(B, seen(key)));
    assert_eq!(again, [Step::Send(B, out(Out::RegisterAndIgnore, 0, key.number()))]);
    assert_eq!(paths.on(1_503, News::Answer(B, Answer::Good)), [Step::Answer(Answer::Good)]);
}

/// A path that had answered half a second ago was dead: the registration was sent down it, and the
/// host that had taken the volume waited for its answer, and nobody ran.
#[test]
fn a_path_that_has_just_died_is_not_registered_and_keeps_nobody_from_starting() {
    let (mut paths, key) = (Paths::several(key(), TERMS, &[A, B]), key());
    for id in [A, B] {
        paths.path_mut(id).unwrap().probe_ms = 1_000_000;
    }
    let asks = paths.on(0, News::Ask(Request::Admit(key)));
    assert_eq!(asks, [Step::Send(A, Command::Look), Step::Send(B, Command::Look)]);
    let registers = paths.on(1, News::Answer(A, seen(key)));
    assert_eq!(registers, [Step::Send(A, out(Out::RegisterAndIgnore, 0, key.number()))]);
    assert_eq!(paths.on(2, News::Answer(A, Answer::Good)), []);
    assert_eq!(paths.wake_ms(), 100);
    assert_eq!(paths.on(100, News::Tick), [Step::Answer(Answer::Good)]);
    paths.on(101, News::Ask(Request::Look));
    paths.on(102, News::Answer(A, seen(key)));
    assert_eq!(paths.on(103, News::Start), [Step::Open]);
    assert_eq!(paths.on(500, News::Answer(B, Answer::Failed)), []);
}

/// The volume was lost while a request waited for its path: it was sent after the end, and
/// registered this host again, by the key that was preempted.
#[test]
fn what_was_still_to_be_sent_at_the_end_registers_nothing() {
    let (mut paths, key) = (started(&[A, B]), key());
    let victim = Key::new(8, 1, 1).number();
    for id in [A, B] {
        paths.path_mut(id).unwrap().place = Place::Unsure;
    }
    let preempt = Request::Preempt { own: key, victim };
    assert_eq!(paths.on(10, News::Ask(preempt)), [], "it is not known who is registered");
    let end = paths.on(11, News::End);
    assert_eq!(end, [Step::Shut, Step::Answer(Answer::Failed)]);
    let late = paths.on(12, News::Ask(preempt));
    assert_eq!(late, [Step::Answer(Answer::Failed)]);
    let grants = |step: &Step| matches!(step, Step::Send(_, command) if command.grants());
    assert!(!paths.on(1_000_001, News::Tick).iter().any(grants));
}

/// The simulation found it: the holder's path was dead and had slow writes under way; while the
/// preempt of the own key waited for them the owner was silent, and the host that took over then
/// waited for the writes of the new holder alone.
#[test]
fn who_leaves_by_another_path_than_the_holders_moves_the_reservation_as_one_that_claims() {
    let (mut paths, key) = (started(&[A, B]), key());
    let (own, claiming, vacant) = (key.number(), key.claiming().number(), key.vacated().number());
    paths.on(10, News::Ask(Request::Renew(key)));
    assert_eq!(paths.on(1_010, News::Answer(A, Answer::Failed)).len(), 1, "by the other");
    paths.on(1_011, News::Answer(B, Answer::Good));
    let unsure = paths.clone();
    let mut steps = paths.on(1_012, News::Ask(Request::Vacate(key)));
    let moves = out(Out::PreemptAndAbort, claiming, own);
    for expected in [register(own, claiming), moves, register(claiming, vacant)] {
        assert_eq!(steps.first(), Some(&Step::Send(B, expected)));
        steps = paths.on(1_013, News::Answer(B, Answer::Good));
    }
    assert_eq!(steps[0], Step::Answer(Answer::Good));
    // What a preempt without an answer aborts may still land: the unit is reset.
    let mut paths = unsure;
    paths.undrained = true;
    let mut steps = paths.on(1_012, News::Ask(Request::Vacate(key)));
    for expected in [register(own, claiming), moves, Command::Reset, register(claiming, vacant)] {
        assert_eq!(steps.first(), Some(&Step::Send(B, expected)));
        steps = paths.on(1_013, News::Answer(B, Answer::Good));
    }
    assert_eq!(steps[0], Step::Answer(Answer::Good));
}

/// The simulation found it: the path was the holder, which a run that adopts cannot know. What it
/// left was no vacant key, and nobody ever took the volume.
#[test]
fn who_does_not_know_that_its_path_is_the_holder_leaves_a_vacant_key_all_the_same() {
    let key = key();
    let (own, claiming, vacant) = (key.number(), key.claiming().number(), key.vacated().number());
    let mut paths = Paths::adopted(key, TERMS, &[A], true);
    paths.on(0, News::Tick);
    paths.on(1, News::Answer(A, Answer::Good));
    assert_eq!(
        paths.on(2, News::Ask(Request::Vacate(key)))[0],
        Step::Send(A, register(own, claiming))
    );
    let moves = paths.on(3, News::Answer(A, Answer::Good));
    assert_eq!(moves, [Step::Send(A, out(Out::PreemptAndAbort, claiming, own))]);
    let leaves = paths.on(4, News::Answer(A, Answer::Conflict));
    assert_eq!(leaves, [Step::Send(A, register(claiming, vacant))]);
    assert_eq!(paths.on(5, News::Answer(A, Answer::Good))[0], Step::Answer(Answer::Good));
}

#[test]
fn a_claim_whose_path_dies_goes_on_by_another_that_takes_the_reservation_over() {
    let (mut paths, key) = (Paths::several(key(), TERMS, &[A, B]), key());
    let claiming = key.claiming().number();
    for id in [A, B] {
        paths.path_mut(id).unwrap().probe_ms = 1_000_000;
    }
    paths.on(0, News::Ask(Request::Claim(key)));
    paths.on(1, News::Answer(A, Answer::Good));
    paths.on(2, News::Ask(Request::Reserve(key)));
    paths.on(3, News::Answer(A, Answer::Good));
    paths.on(4, News::Ask(Request::Prove(key)));
    paths.on(704, News::Answer(A, Answer::Failed));
    let mut steps = paths.on(710, News::Ask(Request::Prove(key)));
    let expected = [
        out(Out::RegisterAndIgnore, 0, claiming),
        out(Out::PreemptAndAbort, claiming, claiming),
        register(claiming, key.number()),
    ];
    for command in expected {
        assert_eq!(steps, [Step::Send(B, command)]);
        steps = paths.on(711, News::Answer(B, Answer::Good));
    }
    assert_eq!(steps, [Step::Answer(Answer::Good)]);
}

/// A guard that ended without a word while the gate was closed may have left a registration on its
/// way, on any path.
#[test]
fn who_adopts_a_closed_gate_hears_every_path_before_it_opens() {
    let key = key();
    let mut paths = Paths::adopted(key, TERMS, &[A, B], false);
    let renew = register(key.number(), key.number());
    let steps = paths.on(0, News::Tick);
    assert_eq!(steps, [Step::Send(A, renew), Step::Send(B, renew)]);
    assert_eq!(paths.on(1, News::Answer(A, Answer::Good)), []);
    paths.on(2, News::Ask(Request::Look));
    let early = paths.on(3, News::Answer(A, seen(key)));
    assert_eq!(early, [Step::Answer(seen(key))], "the other path is not heard yet");
    assert_eq!(paths.on(4, News::Answer(B, Answer::Conflict)), [], "there may be more of them");
    let steps = paths.on(4, News::Unopened(false));
    let [Step::Send(by, Command::Look)] = steps[..] else { panic!("{steps:?}") };
    assert_eq!(paths.on(5, News::Answer(by, seen(key)))[0], Step::Open);
}

/// The simulation found it, on a target that tells no ages: the host had been fenced, none of its
/// paths could sign any more, and it did not look at the volume for that.
#[test]
fn a_host_whose_paths_are_all_outside_looks_who_has_the_volume() {
    let key = key();
    let mut paths = Paths::adopted(key, TERMS, &[A, B], true);
    paths.on(0, News::Tick);
    assert_eq!(paths.on(1, News::Ask(Request::Renew(key))), [], "they are being asked");
    assert_eq!(paths.on(2, News::Answer(A, Answer::Conflict)), []);
    let conflict = paths.on(2, News::Answer(B, Answer::Conflict));
    assert_eq!(conflict, [Step::Answer(Answer::Conflict)]);
}

/// The simulation found it: a claim had registered a path and lost the volume before it started.
/// The next claim took the path for registered, and the host wrote down it in vain.
#[test]
fn what_a_claim_that_was_lost_had_registered_is_registered_again_by_the_next() {
    let (mut paths, key) = (Paths::several(key(), TERMS, &[A]), key());
    paths.path_mut(A).unwrap().probe_ms = 1_000_000;
    let register = [Step::Send(A, out(Out::RegisterAndIgnore, 0, key.number()))];
    for at_ms in [0, 1_000] {
        assert_eq!(paths.on(at_ms, News::Ask(Request::Admit(key))), [Step::Send(A, Command::Look)]);
        assert_eq!(paths.on(at_ms, News::Answer(A, seen(key))), register);
        assert_eq!(paths.on(at_ms, News::Answer(A, Answer::Good)), [Step::Answer(Answer::Good)]);
        // Another host preempts the key, and this one is to take the volume again.
        paths.on(at_ms + 10, News::Ask(Request::Look));
        paths.on(at_ms + 11, News::Answer(A, seen(Key::new(8, 1, 1))));
    }
}
