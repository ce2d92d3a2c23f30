//! Machine and paths together, on a target that answers within a millisecond or, by a path that is
//! dead, never.

use std::collections::BTreeMap;

use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{self, ReservationType, Reservations};

use super::*;
use crate::paths::Terms;
use crate::{Key, Liveness, Request, Settings, Standing, State, wire};

const KIND: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;
const TERMS: Terms = Terms { hedge_ms: 100, probe_ms: 500 };
const PORT: RelativePort = RelativePort(1);
const A: PathId = PathId(1);
const B: PathId = PathId(2);

/// The volume and one host that wants it.
#[derive(Clone)]
struct Stage {
    pair: Pair,
    volume: Reservations,
    spoke_ms: BTreeMap<PathId, u64>,
    dead: Vec<PathId>,
    due: Vec<(u64, Event)>,
    now_ms: u64,
    open: Option<bool>,
    record: Standing,
    /// The record cannot be written.
    full: bool,
    /// What was done, in order.
    effects: Vec<Effect>,
}

fn settings(task: Task) -> Settings {
    Settings {
        task,
        liveness: Liveness::Ages,
        beat_ms: 100,
        freeze_ms: 350,
        takeover_ms: 500,
        delay_ms: 0,
        stop_ms: 2_000,
        give_up_ms: 30_000,
        wait_ms: None,
        admits: false,
    }
}

fn nexus(id: PathId) -> ItNexus {
    let [.., line] = id.0.to_be_bytes();
    let initiator = InitiatorPort::iscsi("iqn.2026-11.org.example:a", [0, 0, 0, 0, 0, line]);
    ItNexus { initiator, target: PORT }
}

impl Stage {
    /// A run of this host that begins with the record of the one before.
    fn begin(task: Task, record: &Standing, volume: Reservations, paths: &[PathId]) -> Self {
        let (record, key) = record.begin_by_paths(7, 1);
        let machine = Machine::new(settings(task), record.clone(), key, 0);
        Self::on_stage(machine, Paths::several(key, TERMS, paths), volume)
    }

    fn on_stage(machine: Machine, paths: Paths, volume: Reservations) -> Self {
        let record = machine.standing().clone();
        let pair = Pair::new(machine, paths);
        let due = vec![(0, Event::Input(Input::Tick)), (0, Event::News(News::Unopened(false)))];
        Self {
            pair,
            volume,
            spoke_ms: BTreeMap::new(),
            dead: Vec::new(),
            due,
            now_ms: 0,
            open: None,
            record,
            full: false,
            effects: Vec::new(),
        }
    }

    /// A run that holds the volume by these paths.
    fn holds(paths: &[PathId]) -> Self {
        let mut stage =
            Self::begin(Task::Hold, &Standing::default(), Reservations::default(), paths);
        stage.pass(300);
        assert_eq!((stage.open, stage.record.state), (Some(true), State::Running));
        stage
    }

    /// A run of `defend`, after one of `attack` has taken the volume.
    fn defends(paths: &[PathId]) -> Self {
        let mut stage =
            Self::begin(Task::Attack, &Standing::default(), Reservations::default(), paths);
        stage.pass(300);
        assert_eq!((stage.over(), stage.open), (Some(End::Held), Some(true)));
        let (record, volume) = (stage.record, stage.volume);
        let key = *record.keys.last().unwrap();
        let machine = Machine::new(settings(Task::Defend), record, key, 0);
        let paths = Paths::adopted(key, TERMS, paths, true);
        let mut stage = Self { open: Some(true), ..Self::on_stage(machine, paths, volume) };
        stage.pass(1_000);
        assert_eq!((stage.over(), stage.open), (None, Some(true)));
        stage
    }

    fn happens(&mut self, event: Event) {
        let effects = self.pair.on(self.now_ms, event, |_| None);
        for effect in effects {
            match &effect {
                Effect::SendNoted(id, ..) if self.full => {
                    self.due.push((self.now_ms, Event::Unsent(*id)));
                }
                Effect::SendNoted(id, command, standing) => {
                    self.record = standing.clone();
                    self.send(*id, *command);
                }
                Effect::Unnote(_) if self.full => self.due.push((self.now_ms, Event::Unkept)),
                Effect::Unnote(standing) => self.record = standing.clone(),
                Effect::Send(id, command) => self.send(*id, *command),
                Effect::Close => {
                    self.open = Some(false);
                    self.due.push((self.now_ms + 1, Event::News(News::Closed)));
                }
                Effect::Open => self.open = Some(true),
                Effect::Shut => self.open = None,
                Effect::Do(Action::Remember(standing)) => self.record = standing.clone(),
                Effect::Do(_) => {}
            }
            self.effects.push(effect);
        }
    }

    fn send(&mut self, id: PathId, command: Command) {
        let (after_ms, answer) = match self.dead.contains(&id) {
            true => (1_000, Answer::Failed),
            false => (1, self.execute(id, command)),
        };
        self.due.push((self.now_ms + after_ms, Event::News(News::Answer(id, answer))));
    }

    fn pass(&mut self, millis: u64) {
        let end_ms = self.now_ms + millis;
        loop {
            let next = self.due.iter().map(|(at_ms, _)| *at_ms).min().unwrap_or(u64::MAX);
            let wake_ms = self.pair.wake_ms().max(self.now_ms + 1);
            if next.min(wake_ms) > end_ms || self.over().is_some() {
                break;
            }
            self.now_ms = next.min(wake_ms).max(self.now_ms);
            let due = self.due.iter().position(|(at_ms, _)| *at_ms <= self.now_ms);
            let event = due.map_or(Event::Input(Input::Tick), |place| self.due.remove(place).1);
            self.happens(event);
        }
        self.now_ms = end_ms;
    }

    fn execute(&mut self, id: PathId, command: Command) -> Answer {
        self.spoke_ms.insert(id, self.now_ms);
        let Command::Out { action, own, about } = command else {
            let seen = self.seen();
            return if command == Command::Look { Answer::Seen(seen) } else { Answer::Good };
        };
        let (cdb, list) = wire::out(action, KIND, (own, about), &[]);
        let request = reservations::Request::parse(&cdb, &list).unwrap();
        match self.volume.apply(&nexus(id), &request, &[PORT]) {
            Err(_) => Answer::Conflict,
            Ok(change) => {
                self.volume = change.next;
                Answer::Good
            }
        }
    }

    fn seen(&self) -> Seen {
        let all = self.volume.registrations();
        let holder = all.iter().find(|one| self.volume.is_holder(&one.nexus)).map(|one| one.key);
        let ages = self.spoke_ms.iter().filter(|(id, _)| {
            all.iter().any(|one| one.nexus == nexus(**id) && Some(one.key) == holder)
        });
        Seen {
            generation: self.volume.generation(),
            holder,
            keys: all.iter().map(|one| one.key).collect(),
            age_ms: ages.map(|(_, at_ms)| self.now_ms - at_ms).min(),
        }
    }

    fn did(&self, action: &Action) -> bool {
        self.effects.contains(&Effect::Do(action.clone()))
    }

    fn over(&self) -> Option<End> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Do(Action::Over(end)) => Some(*end),
            _ => None,
        })
    }

    /// A path comes, and its registration is sent and not answered.
    fn doubts(&mut self, id: PathId) {
        self.happens(Event::News(News::Appeared(id)));
        self.pass(1);
        assert_eq!(self.open, Some(false));
        self.dead.push(id);
        self.pass(10);
        let sent = |effect: &Effect| matches!(effect, Effect::SendNoted(by, command, _) if *by == id && command.grants());
        assert!(self.open == Some(false) && self.effects.iter().any(sent));
    }
}

#[test]
fn attack_defend_and_release_by_two_paths() {
    let mut stage = Stage::defends(&[A, B]);
    let keys = stage.seen().keys;
    assert!(keys.len() == 2 && keys[0] == keys[1] && !stage.record.unanswered);
    stage.happens(Event::Input(Input::Stop));
    assert_eq!((stage.over(), stage.open), (Some(End::Stopped), Some(true)), "the command runs");
    // What `release` sends.
    let key = Key::of(keys[0]).unwrap();
    let (own, vacant) = (key.number(), key.vacated().number());
    for (action, about) in [(wire::Out::PreemptAndAbort, own), (wire::Out::Register, vacant)] {
        assert_eq!(stage.execute(B, Command::Out { action, own, about }), Answer::Good);
    }
    assert_eq!((stage.seen().holder, stage.seen().keys), (Some(vacant), vec![vacant]));
    let mut next = Stage::begin(Task::Hold, &Standing::default(), stage.volume, &[A, B]);
    next.pass(100);
    assert!(next.did(&Action::Start), "nobody is waited for");
}

/// The warden of a group did not say that more than one port is to be registered: its gate opened
/// with one path of several registered, and the kernel could write by the others.
#[test]
fn every_path_is_registered_as_the_gate_opens_whoever_has_made_the_machine() {
    let paths = [A, B, PathId(3)];
    let mut stage = Stage::begin(Task::Hold, &Standing::default(), Reservations::default(), &paths);
    while stage.open != Some(true) {
        assert!(stage.now_ms < 1_000, "it does not begin");
        stage.pass(1);
    }
    let keys = stage.seen().keys;
    assert_eq!(keys, [*stage.record.keys.last().unwrap(); 3].map(Key::number));
}

#[test]
fn the_record_tells_of_a_registration_before_it_is_sent_and_is_not_written_often() {
    let stage = Stage::holds(&[A, B, PathId(3)]);
    let (mut noted, mut writes) = (false, 0);
    for effect in &stage.effects {
        match effect {
            Effect::Do(Action::Remember(standing)) | Effect::Unnote(standing) => {
                noted = standing.unanswered;
                writes += 1;
            }
            Effect::SendNoted(_, _, standing) => {
                noted = standing.unanswered;
                writes += 1;
                assert!(noted);
            }
            Effect::Send(_, command) => assert!(noted || !command.grants()),
            _ => {}
        }
    }
    assert_eq!((noted, writes), (false, 2), "before the claim, and with `running`");
    let mut stage = stage;
    stage.pass(10_000);
    let writes = |one: &&Effect| match one {
        Effect::Do(action) => matches!(action, Action::Remember(_)),
        other => matches!(other, Effect::SendNoted(..) | Effect::Unnote(_)),
    };
    assert_eq!(stage.effects.iter().filter(writes).count(), 2, "at no beat");
}

/// The next run knew nothing of the registration, and its host came back by it when it was fenced.
#[test]
fn a_run_after_one_that_was_killed_hears_every_path_before_it_starts() {
    let mut killed = Stage::holds(&[A]);
    killed.doubts(B);
    let record = killed.record.clone();
    assert!(record.unanswered);
    let mut next = Stage::begin(Task::Hold, &record, killed.volume, &[A, B]);
    next.dead.push(B);
    let (mut well, mut gone) = (next.clone(), next.clone());
    next.pass(5_000);
    assert_eq!((next.over(), next.open), (Some(End::Unreachable), None));
    assert!(next.record.unanswered && !next.did(&Action::Start));
    let vacant = |key: u64| Key::of(key).is_some_and(Key::is_vacant);
    assert!(next.seen().holder.is_some_and(vacant), "others need not wait");
    // It answers.
    well.pass(1_100);
    well.dead.clear();
    well.pass(1_500);
    assert!(well.did(&Action::Start) && well.open == Some(true) && !well.record.unanswered);
    // Its device goes.
    gone.pass(1_100);
    assert!(!gone.did(&Action::Start));
    gone.happens(Event::News(News::Gone(B)));
    gone.pass(500);
    assert!(gone.did(&Action::Start) && !gone.record.unanswered);
}

#[test]
fn a_device_that_does_not_open_may_be_the_path_that_was_being_registered() {
    let record = Standing { unanswered: true, ..Standing::default() };
    let mut stage = Stage::begin(Task::Hold, &record, Reservations::default(), &[A]);
    stage.happens(Event::News(News::Unopened(true)));
    stage.due.retain(|(_, event)| *event != Event::News(News::Unopened(false)));
    stage.pass(1_000);
    assert!(!stage.did(&Action::Start) && stage.record.unanswered);
    // It opens, and is heard like the others.
    stage.dead.push(B);
    stage.happens(Event::News(News::Appeared(B)));
    stage.happens(Event::News(News::Unopened(false)));
    stage.pass(900);
    assert!(!stage.did(&Action::Start));
    stage.dead.clear();
    stage.pass(1_000);
    assert!(stage.did(&Action::Start) && !stage.record.unanswered);
    // The same for one whose record says nothing.
    let mut stage = Stage::begin(Task::Hold, &Standing::default(), Reservations::default(), &[A]);
    stage.happens(Event::News(News::Unopened(true)));
    stage.pass(500);
    assert!(stage.did(&Action::Start), "nothing was registered by it");
}

/// The warden, or another `defend`, goes on with what runs.
#[test]
fn a_run_that_adopts_a_closed_gate_keeps_the_note_until_all_have_answered() {
    let mut killed = Stage::holds(&[A]);
    killed.doubts(B);
    let (record, volume) = (killed.record, killed.volume);
    let key = *record.keys.last().unwrap();
    let machine = Machine::new(settings(Task::Adopt), record, key, 0);
    let paths = Paths::adopted(key, TERMS, &[A, B], false);
    let mut stage = Stage { open: Some(false), ..Stage::on_stage(machine, paths, volume) };
    stage.dead.push(B);
    stage.pass(3_000);
    assert!(stage.record.unanswered && stage.open == Some(false) && stage.did(&Action::Thaw));
    stage.dead.clear();
    stage.pass(2_000);
    assert!(!stage.record.unanswered && stage.open == Some(true));
}

#[test]
fn a_doubt_that_lasts_ends_the_command_and_leaves_the_volume_to_others() {
    let mut stage = Stage::holds(&[A]);
    stage.doubts(B);
    stage.pass(30_900);
    assert_eq!((stage.open, stage.did(&Action::Freeze)), (Some(false), false));
    stage.pass(200);
    assert!(stage.did(&Action::Terminate(Why::Unreachable)) && stage.open.is_none());
    stage.happens(Event::Input(Input::Ended { code: 0 }));
    stage.pass(100);
    assert_eq!(stage.over(), Some(End::Unreachable));
    assert!(stage.record.unanswered && stage.record.state == State::Clean);
    let holder = stage.seen().holder.and_then(Key::of);
    assert!(holder.is_some_and(Key::is_vacant), "the next host need not wait");
}

/// It waited inside the kernel for a gate that nobody opened, and kept the lock.
#[test]
fn a_command_that_is_killed_behind_a_closed_gate_can_die() {
    let mut stage = Stage::holds(&[A]);
    stage.doubts(B);
    stage.happens(Event::Input(Input::Stop));
    stage.pass(1_900);
    assert_eq!(stage.open, Some(false), "the path may answer yet");
    stage.pass(200);
    assert!(stage.did(&Action::Kill) && stage.open.is_none());
    stage.happens(Event::Input(Input::Ended { code: 137 }));
    stage.pass(100);
    assert_eq!(stage.over(), Some(End::Done { code: 137 }));
}

#[test]
fn a_defender_that_is_stopped_leaves_the_gate_open_or_shut() {
    // A path is being let in: that is brought to its end.
    let mut stage = Stage::defends(&[A]);
    stage.happens(Event::News(News::Appeared(B)));
    stage.pass(1);
    assert_eq!(stage.open, Some(false));
    stage.happens(Event::Input(Input::Stop));
    assert_eq!(stage.over(), None);
    stage.pass(10);
    assert_eq!((stage.over(), stage.open), (Some(End::Stopped), Some(true)));
    // Its registration has no answer: it is waited for, and not for ever.
    let mut stage = Stage::defends(&[A]);
    stage.doubts(B);
    stage.happens(Event::Input(Input::Stop));
    let (mut hurry, mut well) = (stage.clone(), stage.clone());
    stage.pass(29_000);
    assert_eq!((stage.over(), stage.open), (None, Some(false)));
    stage.pass(2_000);
    assert_eq!((stage.over(), stage.open), (Some(End::Unreachable), None));
    assert!(stage.record.unanswered);
    well.dead.clear();
    well.pass(2_000);
    assert_eq!((well.over(), well.open), (Some(End::Stopped), Some(true)));
    // Who says it twice does not wait.
    hurry.happens(Event::Input(Input::Stop));
    assert_eq!((hurry.over(), hurry.open), (Some(End::Stopped), None));
}

/// Each was given another 100 ms, one after the other.
#[test]
fn an_owner_with_six_paths_that_die_at_once_does_not_freeze() {
    let all: Vec<PathId> = (1..=7).map(PathId).collect();
    let mut stage = Stage::holds(&all);
    for lead in 0..20 {
        // All at once, but for the last in the list in one round of seven.
        stage.dead = all.iter().copied().filter(|id| id.0 != 1 + lead % 7).collect();
        stage.pass(1_700);
        // Another one comes back, and is believed once it has answered.
        stage.dead.retain(|id| id.0 != 1 + (lead + 1) % 7);
        stage.pass(2_200);
    }
    let looks = stage.effects.iter().filter(|one| **one == Effect::Do(Action::Ask(Request::Look)));
    assert!(looks.count() > 500 && !stage.did(&Action::Freeze) && stage.over().is_none());
}

/// The operator had opened the gate of a guard that was killed, by the manual. The next one took that
/// for its word that all had been answered, wrote on, and forgot the registration.
#[test]
fn a_gate_that_was_opened_by_hand_ends_no_doubt() {
    let mut killed = Stage::defends(&[A]);
    killed.doubts(B);
    let (record, volume) = (killed.record, killed.volume);
    assert!(record.unanswered);
    let key = *record.keys.last().unwrap();
    for task in [Task::Defend, Task::Adopt] {
        let machine = Machine::new(settings(task), record.clone(), key, 0);
        let paths = Paths::adopted(key, TERMS, &[A, B], true);
        let stage = Stage::on_stage(machine, paths, volume.clone());
        let mut stage = Stage { open: Some(true), ..stage };
        stage.dead.push(B);
        stage.pass(5);
        assert_eq!(stage.open, Some(false), "it is closed at once");
        stage.pass(3_000);
        assert!(stage.record.unanswered && stage.open == Some(false) && stage.over().is_none());
        stage.dead.clear();
        stage.pass(2_000);
        assert!(!stage.record.unanswered && stage.open == Some(true) && stage.over().is_none());
    }
}

#[test]
fn a_gate_that_does_not_close_for_an_earlier_doubt_is_closed_again_later() {
    let record = Standing { unanswered: true, ..Stage::defends(&[A]).record };
    let key = *record.keys.last().unwrap();
    let mut paths = Paths::adopted(key, TERMS, &[A, B], true);
    paths.inherit_doubt();
    let closes = |steps: Vec<Step>| steps.contains(&Step::Close);
    assert!(closes(paths.on(0, News::Unopened(false))));
    assert!(!closes(paths.on(10, News::NotClosed)) && !paths.is_answered());
    assert!(!closes(paths.on(900, News::Tick)));
    assert!(closes(paths.on(1_000, News::Tick)));
    paths.on(1_001, News::Closed);
    assert!(paths.is_in_doubt());
}

/// A full file system: the guard ended, its gate stayed closed, and the command kept the lock.
#[test]
fn a_record_that_cannot_be_written_keeps_a_path_out_and_not_the_gate_closed() {
    let mut stage = Stage::holds(&[A]);
    let written = stage.record.clone();
    stage.full = true;
    stage.happens(Event::News(News::Appeared(B)));
    stage.pass(20);
    let keys = stage.seen().keys;
    assert_eq!((stage.open, keys.len(), stage.over()), (Some(true), 1, None));
    assert!(stage.effects.contains(&Effect::Close) && stage.record == written);
    let tried = stage.effects.iter().filter(|one| matches!(one, Effect::SendNoted(..))).count();
    stage.pass(3_000);
    let again = stage.effects.iter().filter(|one| matches!(one, Effect::SendNoted(..))).count();
    assert!((2..=4).contains(&(again - tried)), "{tried} and {again}: once a second");
    assert_eq!((stage.open, stage.seen().keys.len()), (Some(true), 1));
    stage.full = false;
    stage.pass(2_000);
    assert_eq!((stage.open, stage.seen().keys.len()), (Some(true), 2));
    assert!(!stage.record.unanswered && stage.over().is_none());
}

#[test]
fn a_note_that_cannot_be_taken_out_stays_and_ends_nothing() {
    let mut stage = Stage::holds(&[A]);
    stage.doubts(B);
    stage.full = true;
    stage.dead.clear();
    stage.pass(3_000);
    assert!(stage.record.unanswered && stage.open == Some(true) && stage.over().is_none());
    let tries = stage.effects.iter().filter(|one| matches!(one, Effect::Unnote(_))).count();
    assert!((2..=4).contains(&tries), "{tries}: once a second");
    // What the record says is not known: the next registration would have to be noted again.
    assert_eq!(stage.seen().keys.len(), 1);
    stage.full = false;
    stage.pass(2_000);
    assert_eq!((stage.seen().keys.len(), stage.record.unanswered), (2, false));
}

/// It took the volume, could not start for the path, gave the volume up after three seconds, and did
/// so again with each start: nobody ran, and the owner, which had been paused, was fenced.
#[test]
fn a_host_that_cannot_start_takes_no_volume_from_another() {
    let other = Stage::holds(&[PathId(9)]);
    let owner = other.seen().holder;
    let record = Standing { unanswered: true, epoch: 5, ..Standing::default() };
    let mut stage = Stage::begin(Task::Hold, &record, other.volume, &[A, B]);
    stage.dead.push(B);
    let told = |stage: &Stage| stage.effects.contains(&Effect::Do(Action::Over(End::Unreachable)));
    // The owner speaks, and is silent for two seconds now and then.
    for _ in 0..5 {
        stage.spoke_ms.insert(PathId(9), stage.now_ms);
        stage.pass(400);
        stage.spoke_ms.insert(PathId(9), stage.now_ms);
        stage.pass(2_000);
    }
    assert!(!told(&stage) && stage.seen().holder == owner && stage.seen().keys.len() == 1);
    // It is gone for good: whoever is alone hears of it.
    let mut well = stage.clone();
    stage.pass(3_600);
    assert!(told(&stage) && stage.seen().holder == owner);
    assert!(stage.record.unanswered);
    well.dead.clear();
    well.pass(2_500);
    assert!(well.did(&Action::Start) && !well.record.unanswered);
}

/// The lead was dead, and the one path that answered was being probed at the moment when it should
/// have been asked: nobody asked it again, and the owner froze.
#[test]
fn a_path_that_is_being_probed_is_asked_when_it_has_answered() {
    let mut paths = Paths::several(Key::new(7, 1, 1), TERMS, &[A, B]);
    paths.on(0, News::Tick);
    let nobody = || Answer::Seen(Seen::default());
    for id in [A, B] {
        paths.on(1, News::Answer(id, nobody()));
    }
    assert_eq!(paths.on(450, News::Ask(Request::Look)), [Step::Send(A, Command::Look)]);
    assert_eq!(paths.on(501, News::Tick), [Step::Send(B, Command::Look)], "the probe");
    assert_eq!(paths.on(550, News::Tick), [], "it is busy");
    assert!(paths.wake_ms() > 551, "nothing spins");
    assert_eq!(paths.on(560, News::Answer(B, nobody())), [Step::Send(B, Command::Look)]);
    assert_eq!(paths.on(561, News::Answer(B, nobody())), [Step::Answer(nobody())]);
}

#[test]
fn a_defender_whose_gate_stays_in_doubt_gives_up_and_says_so() {
    let mut stage = Stage::defends(&[A]);
    stage.doubts(B);
    stage.pass(29_000);
    assert_eq!((stage.over(), stage.open), (None, Some(false)));
    stage.pass(2_000);
    assert_eq!((stage.over(), stage.open), (Some(End::Unreachable), None));
    assert!(stage.record.unanswered && !stage.did(&Action::Freeze));
}
