//! The takeover machine and the paths of its volume, joined: what one says the other hears.
//!
//! Between them it keeps the note of registrations that may be without an answer: in the record
//! before the first of them is sent, and out of it when a claim is through, or its end or that of a
//! path that was let in is known. A run that is killed meanwhile leaves it to the next one. Where the
//! record cannot be written no path is let in, and a note that cannot be taken out stays.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::paths::{Command, News, PathId, Paths, Step};
use crate::{Action, Advice, Answer, End, Input, Machine, Seen, Standing, Task, Why};

/// What happens to the pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// To the machine; never an answer.
    Input(Input),
    /// To the paths; never a request.
    News(News),
    /// [`Effect::SendNoted`] was not done: the record could not be written.
    Unsent(PathId),
    /// [`Effect::Unnote`] was not done: the record may say what it said before.
    Unkept,
}

/// What to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A request is there to be told of: the paths do it.
    Do(Action),
    Send(PathId, Command),
    /// Make the record durable, and send only then; [`Event::Unsent`] where it cannot be kept.
    SendNoted(PathId, Command, Standing),
    /// Make the record durable, by which no registration is without an answer any more. It may be
    /// tried again later: [`Event::Unkept`].
    Unnote(Standing),
    Close,
    Open,
    Shut,
}

/// Between two tries to take a note out of a record that cannot be written.
const AGAIN_MS: u64 = 1_000;

/// One host's guard of one volume, whatever the number of paths to it.
#[derive(Clone, Debug)]
pub struct Pair {
    machine: Machine,
    paths: Paths,
    /// Since when what is written waits for a path that may yet be registered.
    doubt_ms: Option<u64>,
    /// A wish to end that waits for the gate to open.
    stops: bool,
    /// The record could not be written: it may have a note, or lack one, against what it is to say.
    unsure: bool,
    /// It is not to be written for the note alone before.
    note_ms: u64,
}

impl Pair {
    /// What the record says of an earlier run's registrations is told to the paths here, and to the
    /// machine that there are several of them.
    #[must_use]
    pub fn new(mut machine: Machine, mut paths: Paths) -> Self {
        if paths.are_several() {
            machine.admit();
        }
        if machine.standing().unanswered {
            paths.inherit_doubt();
        }
        Self { machine, paths, doubt_ms: None, stops: false, unsure: false, note_ms: 0 }
    }
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// When to tell it that time has passed, at the latest.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        let patience_ms = self.machine.settings().give_up_ms.saturating_add(1);
        let doubt_ms =
            self.doubt_ms.map_or(u64::MAX, |since_ms| since_ms.saturating_add(patience_ms));
        self.machine.wake_ms().min(self.paths.wake_ms()).min(doubt_ms)
    }

    /// Something happened; what to do about it. `advise` hears of each look that the machine is
    /// told of, before the machine is.
    pub fn on(
        &mut self,
        now_ms: u64,
        event: Event,
        mut advise: impl FnMut(&Seen) -> Option<Advice>,
    ) -> Vec<Effect> {
        let (mut out, mut inputs) = (Vec::new(), VecDeque::new());
        match event {
            Event::News(News::Tick) | Event::Input(Input::Tick) => {
                self.news(now_ms, News::Tick, &mut out, &mut inputs);
                inputs.push_back(Input::Tick);
            }
            Event::News(news) => self.news(now_ms, news, &mut out, &mut inputs),
            Event::Unsent(path) => {
                self.machine.note(false);
                self.unkept(now_ms);
                self.news(now_ms, News::Unsent(path), &mut out, &mut inputs);
            }
            Event::Unkept => self.unkept(now_ms),
            // The command that it watched over goes on, and what that writes is not to wait.
            Event::Input(Input::Stop) if self.defends() && !self.stops => {
                self.stops = true;
                self.news(now_ms, News::Finish, &mut out, &mut inputs);
            }
            Event::Input(input) => inputs.push_back(input),
        }
        loop {
            self.watch_gate(now_ms, &mut inputs);
            let Some(input) = inputs.pop_front() else { break };
            if let Input::Answer(Answer::Seen(seen)) = &input
                && let Some(advice) = advise(seen)
            {
                self.machine.advise(advice);
            }
            self.machine.bar(self.paths.is_barred());
            for action in self.machine.on(now_ms, input) {
                self.act(now_ms, action, &mut out, &mut inputs);
            }
        }
        if !self.machine.claims() {
            self.note(now_ms, &mut out);
        }
        out
    }

    fn unkept(&mut self, now_ms: u64) {
        (self.unsure, self.note_ms) = (true, now_ms + AGAIN_MS);
    }

    fn defends(&self) -> bool {
        self.machine.settings().task == Task::Defend
    }

    /// How long the gate has been in doubt, and a wish to end that has waited for it.
    fn watch_gate(&mut self, now_ms: u64, inputs: &mut VecDeque<Input>) {
        if !self.paths.is_in_doubt() {
            self.doubt_ms = None;
        } else {
            let since_ms = *self.doubt_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) > self.machine.settings().give_up_ms {
                self.doubt_ms = Some(now_ms);
                inputs.push_back(Input::HeldUp);
            }
        }
        if self.stops && !self.paths.holds_back() {
            self.stops = false;
            inputs.push_back(Input::Stop);
        }
    }

    /// Take the note out of the record when there is nothing more to it.
    fn note(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let noted = self.machine.standing().unanswered || self.unsure;
        if noted && now_ms >= self.note_ms && self.paths.is_answered() {
            self.machine.note(false);
            self.unsure = false;
            out.push(Effect::Unnote(self.machine.standing().clone()));
        }
    }

    fn act(
        &mut self,
        now_ms: u64,
        mut action: Action,
        out: &mut Vec<Effect>,
        inputs: &mut VecDeque<Input>,
    ) {
        match &mut action {
            Action::Ask(request) => {
                let request = *request;
                out.push(Effect::Do(action));
                return self.news(now_ms, News::Ask(request), out, inputs);
            }
            Action::Start => self.news(now_ms, News::Start, out, inputs),
            Action::Terminate(Why::Lost) => self.news(now_ms, News::End, out, inputs),
            // Who waits for a closed gate cannot die.
            Action::Terminate(Why::Unreachable) | Action::Kill if self.paths.holds_back() => {
                self.news(now_ms, News::End, out, inputs);
            }
            Action::Remember(standing) => {
                let noted = self.machine.standing().unanswered && !self.paths.is_answered();
                self.machine.note(noted);
                self.unsure = false;
                standing.unanswered = noted;
            }
            Action::Over(End::Held) => self.news(now_ms, News::Start, out, inputs),
            Action::Over(end) => {
                // Who only took or watched the volume leaves it to others to write.
                let ends = !self.machine.leaves_running() || *end == End::Lost;
                if ends || self.paths.holds_back() {
                    self.news(now_ms, News::End, out, inputs);
                }
                self.note(now_ms, out);
            }
            _ => {}
        }
        out.push(Effect::Do(action));
    }

    fn news(
        &mut self,
        now_ms: u64,
        news: News,
        out: &mut Vec<Effect>,
        inputs: &mut VecDeque<Input>,
    ) {
        for step in self.paths.on(now_ms, news) {
            match step {
                Step::Send(path, command) => {
                    let noted = self.machine.standing().unanswered && !self.unsure;
                    if noted || !self.paths.is_to_be_noted(command) {
                        out.push(Effect::Send(path, command));
                        continue;
                    }
                    self.machine.note(true);
                    self.unsure = false;
                    let standing = self.machine.standing().clone();
                    // Before anything runs a record that cannot be kept ends the guard.
                    if self.paths.lets_in() {
                        out.push(Effect::SendNoted(path, command, standing));
                    } else {
                        out.push(Effect::Do(Action::Remember(standing)));
                        out.push(Effect::Send(path, command));
                    }
                }
                Step::Answer(answer) => inputs.push_back(Input::Answer(answer)),
                Step::Close => out.push(Effect::Close),
                Step::Open => out.push(Effect::Open),
                Step::Shut => out.push(Effect::Shut),
            }
        }
    }
}
