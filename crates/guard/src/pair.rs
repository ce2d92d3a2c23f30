//! The takeover machine and the paths of its volume, joined: what one says the other hears.

use std::collections::VecDeque;

use crate::paths::{Command, News, PathId, Paths, Step};
use crate::{Action, Advice, Answer, End, Input, Machine, Seen, Why};

/// What happens to the pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// To the machine; never an answer.
    Input(Input),
    /// To the paths; never a request.
    News(News),
}

/// What to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A request is there to be told of: the paths do it.
    Do(Action),
    Send(PathId, Command),
    Close,
    Open,
    Shut,
}

/// One host's guard of one volume, whatever the number of paths to it.
#[derive(Clone, Debug)]
pub struct Pair {
    machine: Machine,
    paths: Paths,
}

impl Pair {
    #[must_use]
    pub fn new(machine: Machine, paths: Paths) -> Self {
        Self { machine, paths }
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
        self.machine.wake_ms().min(self.paths.wake_ms())
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
            Event::Input(input) => inputs.push_back(input),
        }
        while let Some(input) = inputs.pop_front() {
            if let Input::Answer(Answer::Seen(seen)) = &input
                && let Some(advice) = advise(seen)
            {
                self.machine.advise(advice);
            }
            for action in self.machine.on(now_ms, input) {
                self.act(now_ms, action, &mut out, &mut inputs);
            }
        }
        out
    }

    fn act(
        &mut self,
        now_ms: u64,
        action: Action,
        out: &mut Vec<Effect>,
        inputs: &mut VecDeque<Input>,
    ) {
        match &action {
            Action::Ask(request) => {
                let request = *request;
                out.push(Effect::Do(action));
                return self.news(now_ms, News::Ask(request), out, inputs);
            }
            Action::Start => self.news(now_ms, News::Start, out, inputs),
            Action::Terminate(Why::Lost) => self.news(now_ms, News::End, out, inputs),
            // Who only took or watched the volume leaves it to others to write.
            Action::Over(end) if *end == End::Lost || !self.machine.leaves_running() => {
                self.news(now_ms, News::End, out, inputs);
            }
            Action::Over(End::Held) => self.news(now_ms, News::Start, out, inputs),
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
                Step::Send(path, command) => out.push(Effect::Send(path, command)),
                Step::Answer(answer) => inputs.push_back(Input::Answer(answer)),
                Step::Close => out.push(Effect::Close),
                Step::Open => out.push(Effect::Open),
                Step::Shut => out.push(Effect::Shut),
            }
        }
    }
}
