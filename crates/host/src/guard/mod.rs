//! The guard: runs a command while this host holds a volume, and at no other time.
//!
//! Entry points: [`Guard::run`], [`Volume`]. What to do is decided by `guard::Machine`; here is
//! how it is done.
//!
//! Invariant: the record is durable before the command starts, and one request is under way at a
//! time.

mod command;
mod volume;

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use ::guard::{Action, Answer, End, Input, Machine, Request, Standing};
use env::Clock;
use rustix::process::Signal;
use tokio::sync::mpsc;

pub use self::volume::{Picture, Portal, Volume};

use self::command::Running;

/// Where the record lies.
pub trait Keeper {
    /// Make the record durable.
    ///
    /// # Errors
    /// When it may not be durable: the guard ends then, with the command stopped.
    fn remember(&mut self, standing: &Standing) -> io::Result<()>;
}

/// Why a guard could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("the command cannot be started: {0}")]
    Start(io::Error),
    #[error("the guard's record cannot be kept: {0}")]
    Record(io::Error),
}

/// What a guard works with.
pub struct Guard<'a> {
    pub machine: Machine,
    pub volume: Volume,
    /// The command and its arguments; empty for an attack and a defence.
    pub line: Vec<OsString>,
    pub environment: Vec<(&'static str, String)>,
    pub keeper: &'a mut dyn Keeper,
    pub clock: &'a dyn Clock,
    /// Each message is a wish that the guard end; the second one is in a hurry.
    pub stops: mpsc::Receiver<()>,
}

type Asking = Pin<Box<dyn Future<Output = (Volume, Answer)>>>;

/// What is under way.
struct Hands {
    volume: Option<Volume>,
    asking: Option<Asking>,
    running: Option<Running>,
}

impl Guard<'_> {
    /// Until it is over.
    ///
    /// # Errors
    /// [`GuardError`]; the command has been killed then.
    pub async fn run(mut self) -> Result<End, GuardError> {
        let mut hands = Hands { volume: Some(self.volume), asking: None, running: None };
        let (mut input, mut hurry) = (Input::Tick, false);
        loop {
            let now_ms = millis(self.clock);
            for action in self.machine.on(now_ms, input) {
                let doing = (&self.line[..], &self.environment[..]);
                if let Some(end) = hands.act(action, doing, self.keeper)? {
                    return Ok(end);
                }
            }
            let wake = Duration::from_millis(
                self.machine.wake_ms().saturating_sub(millis(self.clock)).min(1_000),
            );
            input = tokio::select! {
                biased;
                answer = answered(&mut hands.asking) => {
                    hands.asking = None;
                    let (volume, answer) = answer;
                    hands.volume = Some(volume);
                    Input::Answer(answer)
                }
                code = ended(&mut hands.running) => {
                    hands.running = None;
                    Input::Ended { code }
                }
                Some(()) = self.stops.recv() => {
                    if hurry {
                        hands.signal(Signal::KILL);
                    }
                    hurry = true;
                    Input::Stop
                }
                () = tokio::time::sleep(wake) => Input::Tick,
            };
        }
    }
}

fn millis(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX)
}

async fn answered(asking: &mut Option<Asking>) -> (Volume, Answer) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn ended(running: &mut Option<Running>) -> u8 {
    match running {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

impl Hands {
    fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    fn ask(&mut self, request: Request) {
        if let Some(mut volume) = self.volume.take() {
            self.asking = Some(Box::pin(async move {
                let answer = volume.ask(request).await;
                (volume, answer)
            }));
        }
    }

    fn act(
        &mut self,
        action: Action,
        (line, environment): (&[OsString], &[(&'static str, String)]),
        keeper: &mut dyn Keeper,
    ) -> Result<Option<End>, GuardError> {
        tracing::debug!(?action, "guard");
        match action {
            Action::Ask(request) => self.ask(request),
            Action::Remember(standing) => {
                if let Err(error) = keeper.remember(&standing) {
                    self.signal(Signal::KILL);
                    return Err(GuardError::Record(error));
                }
            }
            Action::Start if line.is_empty() => {}
            Action::Start => {
                let running = Running::start(line, environment).map_err(GuardError::Start)?;
                tracing::info!("the volume is held; the command runs");
                self.running = Some(running);
            }
            Action::Freeze => {
                tracing::warn!("the volume does not answer; the command is frozen");
                self.signal(Signal::STOP);
            }
            Action::Thaw => {
                tracing::info!("the volume is still held; the command goes on");
                self.signal(Signal::CONT);
            }
            Action::Terminate => {
                tracing::info!("the command is asked to end");
                self.signal(Signal::TERM);
                self.signal(Signal::CONT);
            }
            Action::Kill => {
                tracing::warn!("the command did not end; it is killed");
                self.signal(Signal::KILL);
            }
            Action::Over(end) => return Ok(Some(end)),
        }
        Ok(None)
    }
}
