//! What a guard has under way: commands on paths, devices being opened, the gate being turned.

use std::collections::VecDeque;

use ::guard::pair::{Effect, Event};
use ::guard::paths::{Command, News, PathId, Paths, Place};
use ::guard::{Action, Answer, End, Input, Machine};
use tokio::task::JoinSet;

use super::volume::{Answered, Gate, GateError, GateState, Turn};
use super::{GuardError, Record, Volume, Work};

/// Between two looks at what is below a multipath device.
const REFRESH_MS: u64 = 100;
/// Before a gate that did not grow is made to grow again: what is written waits for each try.
const GROW_MS: u64 = 10_000;

/// Something has come to its end.
pub(super) enum Done {
    Answered(Box<Answered>),
    Turned(Turn, Result<(), GateError>),
    /// Nothing had to be waited for.
    Event(Event),
}

pub(super) struct UnderWay {
    volume: Volume,
    gate: Option<Gate>,
    tasks: JoinSet<Done>,
    /// What happens next, without waiting.
    soon: VecDeque<Event>,
    /// How the gate is to be turned, one after the other; the first is being done.
    turns: VecDeque<Turn>,
    /// The work is to start when the gate has been turned.
    starts: bool,
    frozen: bool,
    refresh_ms: u64,
    /// What the paths were told of devices that do not open.
    unopened: Option<bool>,
    /// The gate is smaller than the map; when to make it grow.
    grow_ms: Option<u64>,
    told: Vec<(PathId, Place, bool)>,
    doubted: bool,
    barred: bool,
}

impl UnderWay {
    /// What an earlier run has left of the gate is shut, unless this one goes on with it.
    pub(super) async fn begin(
        volume: Volume,
        machine: &Machine,
    ) -> Result<(Self, Paths), GuardError> {
        volume.make_way(machine.settings().task).await?;
        let gate = volume.gate().transpose().map_err(GateError::from)?;
        let adopts = match (&gate, machine.adopts()) {
            (_, false) => None,
            (None, true) => Some(true),
            (Some(gate), true) => {
                Some(gate.state().await.map_err(GateError::from)? == GateState::Open)
            }
        };
        if gate.is_some() && machine.standing().unanswered {
            tracing::warn!(
                "an earlier guard was about to register a path: every path is to answer first, or \
                 its device to go; until then nothing is written, and no volume taken"
            );
        }
        let paths = volume.plan(machine.key(), adopts);
        let under = Self {
            volume,
            gate,
            tasks: JoinSet::new(),
            soon: VecDeque::new(),
            turns: VecDeque::new(),
            starts: false,
            frozen: false,
            refresh_ms: 0,
            unopened: None,
            // One that is adopted may have missed it.
            grow_ms: machine.adopts().then_some(0),
            told: Vec::new(),
            doubted: false,
            barred: false,
        };
        Ok((under, paths))
    }

    pub(super) async fn next(&mut self) -> Done {
        if let Some(event) = self.soon.pop_front() {
            return Done::Event(event);
        }
        tokio::select! {
            biased;
            Some(done) = self.tasks.join_next() => {
                // None of them panics or is cancelled.
                done.unwrap_or(Done::Event(Event::News(News::Tick)))
            }
            id = self.volume.appeared() => Done::Event(Event::News(News::Appeared(id))),
        }
    }

    /// What it means for the machine and the paths.
    pub(super) fn done(&mut self, done: Done, work: &mut impl Work) -> Result<Event, GuardError> {
        Ok(Event::News(match done {
            Done::Event(event) => return Ok(event),
            Done::Answered(answered) => {
                let (path, answer) = *answered;
                News::Answer(self.volume.back(path), answer)
            }
            Done::Turned(turn, turned) => self.turned(turn, turned, work)?,
        }))
    }

    fn turned(
        &mut self,
        turn: Turn,
        turned: Result<(), GateError>,
        work: &mut impl Work,
    ) -> Result<News, GuardError> {
        self.turns.pop_front();
        self.turn_next();
        let failed = turned.is_err();
        if let Err(error) = turned {
            match turn {
                Turn::Close if !self.starts => {
                    tracing::warn!(%error, "the gate could not be closed; tried again later");
                }
                // What this host writes fails at the target.
                Turn::Shut => tracing::error!(%error, "the gate could not be shut"),
                Turn::Grow => {
                    tracing::warn!(%error, "the gate has not grown with the map; tried again");
                    self.grow_ms = Some(self.refresh_ms + GROW_MS);
                }
                _ => {
                    work.kill();
                    return Err(GuardError::Gate(error));
                }
            }
        }
        if self.starts && self.turns.is_empty() {
            self.start(work)?;
        }
        Ok(match turn {
            Turn::Close if failed => News::NotClosed,
            Turn::Close => News::Closed,
            _ => News::Tick,
        })
    }

    fn turn(&mut self, turn: Turn) {
        if self.gate.is_some() {
            self.turns.push_back(turn);
            if self.turns.len() == 1 {
                self.turn_next();
            }
        }
    }

    fn turn_next(&mut self) {
        if let (Some(gate), Some(turn)) = (self.gate.clone(), self.turns.front().copied()) {
            tracing::debug!(?turn, "the gate");
            self.tasks.spawn(async move { Done::Turned(turn, gate.turn(turn).await) });
        }
    }

    /// What was begun with the gate is done before the guard ends.
    pub(super) async fn settle(&mut self) -> Result<(), GuardError> {
        while !self.turns.is_empty() {
            if let Done::Turned(turn, turned) = self.next().await {
                self.turns.pop_front();
                self.turn_next();
                if turn == Turn::Open {
                    turned.map_err(GuardError::Gate)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody opens the gate any more: what waits for it fails, and can end.
    pub(super) async fn shut(&mut self) {
        self.turn(Turn::Shut);
        // Each error is a turn that is over.
        while self.settle().await.is_err() {}
    }

    /// The guard has failed. What was begun with the gate is done, and a gate that could not be
    /// opened is shut, also for a command that goes on.
    pub(super) async fn fail(&mut self, leaves_open: bool) {
        if !leaves_open || self.settle().await.is_err() {
            self.shut().await;
        }
    }

    /// Look at what is below a multipath device.
    pub(super) fn refresh(&mut self, now_ms: u64) {
        if self.gate.is_none() || now_ms < self.refresh_ms {
            return;
        }
        self.refresh_ms = now_ms + REFRESH_MS;
        let (unopened, gone) = match self.volume.look_below() {
            // The map is gone, and with it its paths: nothing answers any more.
            Err(error) => {
                tracing::debug!(%error, "the multipath device cannot be looked at");
                (true, Vec::new())
            }
            Ok((gone, unopened)) => (unopened, gone),
        };
        // First: a device that is new may be the one that is gone.
        if self.unopened.replace(unopened) != Some(unopened) {
            self.soon.push_back(Event::News(News::Unopened(unopened)));
        }
        self.grow(now_ms);
        self.soon.extend(gone.into_iter().map(|id| Event::News(News::Gone(id))));
    }

    /// The volume has grown, and the map with it.
    fn grow(&mut self, now_ms: u64) {
        let Some(Ok(now)) = self.volume.gate() else { return };
        if self.gate.as_ref().is_some_and(|gate| now.is_larger(gate)) {
            self.gate = Some(now);
            self.grow_ms = Some(now_ms);
        }
        if self.grow_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.grow_ms = None;
            self.turn(Turn::Grow);
        }
    }

    pub(super) fn refresh_ms(&self) -> u64 {
        if self.gate.is_some() { self.refresh_ms } else { u64::MAX }
    }

    /// Paths that have changed, for the log.
    pub(super) fn tell_of(&mut self, paths: &Paths) {
        if self.gate.is_none() {
            return;
        }
        let now: Vec<_> = paths.places().collect();
        for (id, place, answers) in now.iter().filter(|one| !self.told.contains(one)) {
            let path = self.volume.name_of(*id);
            tracing::debug!(path, ?place, answers, "a path");
            let known = self.told.iter().find(|(told, ..)| told == id);
            if known.is_some_and(|(.., answered)| *answered && !answers) {
                tracing::warn!(path, "the path does not answer");
            } else if *place == Place::Inside {
                tracing::info!(path, "the path is registered");
            }
        }
        self.told = now;
        if paths.is_in_doubt() && !self.doubted {
            tracing::warn!("what is written waits for a path that was about to be registered");
        }
        self.doubted = paths.is_in_doubt();
        if paths.is_barred() && !self.barred {
            tracing::warn!(
                "the volume is not taken while a path may yet be registered that does not answer"
            );
        }
        self.barred = paths.is_barred();
    }

    /// Before anything reads the volume as its owner. The volume has answered a moment ago, so this
    /// does not wait for it.
    fn start(&mut self, work: &mut impl Work) -> Result<(), GuardError> {
        self.starts = false;
        self.volume.forget_cached().and_then(|()| work.start()).map_err(GuardError::Start)?;
        if self.frozen {
            work.freeze();
        }
        Ok(())
    }

    fn send(&mut self, id: PathId, command: Command) {
        match self.volume.send(id, command) {
            Some(sent) => {
                self.tasks.spawn(async move { Done::Answered(Box::new(sent.await)) });
            }
            None => self.soon.push_back(Event::News(News::Answer(id, Answer::Failed))),
        }
    }

    pub(super) fn act(
        &mut self,
        effect: Effect,
        work: &mut impl Work,
        record: &mut Record,
    ) -> Result<Option<End>, GuardError> {
        match effect {
            Effect::Send(id, command) => self.send(id, command),
            Effect::SendNoted(id, command, standing) => match record.save(&standing) {
                Ok(()) => self.send(id, command),
                Err(error) => {
                    let path = self.volume.name_of(id);
                    tracing::error!(%error, path, "the record cannot be kept; no path is let in");
                    self.soon.push_back(Event::Unsent(id));
                }
            },
            Effect::Unnote(standing) => {
                if let Err(error) = record.save(&standing) {
                    tracing::error!(%error, "the record cannot be kept; a note in it stays");
                    self.soon.push_back(Event::Unkept);
                }
            }
            Effect::Close => self.turn(Turn::Close),
            Effect::Open => self.turn(Turn::Open),
            Effect::Shut => self.turn(Turn::Shut),
            Effect::Do(action) => return self.order(action, work, record),
        }
        Ok(None)
    }

    fn order(
        &mut self,
        action: Action,
        work: &mut impl Work,
        record: &mut Record,
    ) -> Result<Option<End>, GuardError> {
        tracing::debug!(?action, "guard");
        match action {
            Action::Ask(_) => {}
            Action::Remember(standing) => {
                if let Err(error) = record.save(&standing) {
                    work.kill();
                    return Err(GuardError::Record(error));
                }
            }
            Action::Start => {
                tracing::info!("the volume is held");
                self.frozen = false;
                self.starts = !self.turns.is_empty();
                if !self.starts {
                    self.start(work)?;
                }
            }
            Action::Freeze => {
                tracing::warn!("the volume does not answer; what runs is frozen");
                self.frozen = true;
                work.freeze();
            }
            Action::Thaw => {
                tracing::info!("the volume is still held; what runs goes on");
                self.frozen = false;
                work.thaw();
            }
            Action::Terminate(why) => {
                tracing::info!(?why, "what runs is asked to end");
                work.terminate(why);
                self.frozen = false;
                if std::mem::take(&mut self.starts) {
                    self.soon.push_back(Event::Input(Input::Ended { code: 0 }));
                }
            }
            Action::Kill => {
                tracing::warn!("what runs did not end; it is killed");
                work.kill();
            }
            Action::Over(end) => {
                if end == End::Held {
                    self.volume.forget_cached().map_err(GuardError::Start)?;
                }
                return Ok(Some(end));
            }
        }
        Ok(None)
    }
}
