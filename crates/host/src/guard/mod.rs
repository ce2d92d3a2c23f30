//! The guard: runs a command, or a group's resources, while this host holds a volume, and at no
//! other time.
//!
//! Entry points: [`Guard::run`], [`Volume`], [`Record`], [`Command`]. What to do is decided by
//! `guard::Machine`; here is how it is done.
//!
//! Invariant: the record is durable before anything starts, and one request is under way at a
//! time.

mod command;
mod record;
mod volume;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use ::guard::{Action, Advice, Answer, End, Input, Machine, Request, Seen, Why};
use env::Clock;
use tokio::sync::mpsc;

pub use self::command::Command;
pub use self::record::{Heirs, Record, RecordError};
pub use self::volume::{Picture, Portal, Volume};

/// What runs while the volume is held.
pub trait Work {
    /// The volume is held: begin.
    ///
    /// # Errors
    /// It cannot begin; the guard ends.
    fn start(&mut self) -> io::Result<()>;
    /// Nothing of it may run until [`Self::thaw`].
    fn freeze(&mut self);
    fn thaw(&mut self);
    /// It is to end. What was frozen goes on for that.
    fn terminate(&mut self, why: Why);
    /// It is to end at once.
    fn kill(&mut self);
    /// [`Input::Ended`] or [`Input::Stuck`], when nothing of it runs any more; for ever pending
    /// while it runs or was never started. Dropping the future loses nothing.
    fn ended(&mut self) -> impl Future<Output = Input>;
    /// The volume was looked at; what to tell the machine about it.
    fn seen(&mut self, now_ms: u64, seen: &Seen) -> Advice {
        let _ = (now_ms, seen);
        Advice::default()
    }
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
pub struct Guard<'a, W> {
    pub machine: Machine,
    pub volume: Volume,
    pub work: &'a mut W,
    pub record: &'a mut Record,
    pub clock: &'a dyn Clock,
    /// Each message is a wish that the guard end; the second one is in a hurry.
    pub stops: &'a mut mpsc::Receiver<()>,
}

type Asking = Pin<Box<dyn Future<Output = (Volume, Answer)>>>;

/// What is under way.
struct UnderWay {
    volume: Option<Volume>,
    asking: Option<Asking>,
}

impl<W: Work> Guard<'_, W> {
    /// Until it is over.
    ///
    /// # Errors
    /// [`GuardError`]; the work has been killed then.
    pub async fn run(mut self) -> Result<End, GuardError> {
        let mut under = UnderWay { volume: Some(self.volume), asking: None };
        let (mut input, mut hurry) = (Input::Tick, false);
        loop {
            let now_ms = millis(self.clock);
            if let Input::Answer(Answer::Seen(seen)) = &input {
                self.machine.advise(self.work.seen(now_ms, seen));
            }
            for action in self.machine.on(now_ms, input) {
                if let Some(end) = under.act(action, self.work, self.record)? {
                    return Ok(end);
                }
            }
            let wake = Duration::from_millis(
                self.machine.wake_ms().saturating_sub(millis(self.clock)).min(1_000),
            );
            input = tokio::select! {
                biased;
                answer = answered(&mut under.asking) => {
                    under.asking = None;
                    let (volume, answer) = answer;
                    under.volume = Some(volume);
                    Input::Answer(answer)
                }
                ended = self.work.ended() => ended,
                Some(()) = self.stops.recv() => {
                    if hurry {
                        self.work.kill();
                    }
                    hurry = true;
                    Input::Stop
                }
                () = tokio::time::sleep(wake) => Input::Tick,
            };
        }
    }
}

pub(crate) fn millis(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX)
}

async fn answered(asking: &mut Option<Asking>) -> (Volume, Answer) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

impl UnderWay {
    fn ask(&mut self, request: Request) {
        if let Some(mut volume) = self.volume.take() {
            self.asking = Some(Box::pin(async move {
                let answer = volume.ask(request).await;
                (volume, answer)
            }));
        }
    }

    /// Before anything reads the volume as its owner. The volume has answered a moment ago, so this
    /// does not wait for it.
    fn look_anew(&self) -> io::Result<()> {
        self.volume.as_ref().map_or(Ok(()), Volume::forget_cached)
    }

    fn act(
        &mut self,
        action: Action,
        work: &mut impl Work,
        record: &mut Record,
    ) -> Result<Option<End>, GuardError> {
        tracing::debug!(?action, "guard");
        match action {
            Action::Ask(request) => self.ask(request),
            Action::Remember(standing) => {
                if let Err(error) = record.save(&standing) {
                    work.kill();
                    return Err(GuardError::Record(error));
                }
            }
            Action::Start => {
                tracing::info!("the volume is held");
                self.look_anew().and_then(|()| work.start()).map_err(GuardError::Start)?;
            }
            Action::Freeze => {
                tracing::warn!("the volume does not answer; what runs is frozen");
                work.freeze();
            }
            Action::Thaw => {
                tracing::info!("the volume is still held; what runs goes on");
                work.thaw();
            }
            Action::Terminate(why) => {
                tracing::info!(?why, "what runs is asked to end");
                work.terminate(why);
            }
            Action::Kill => {
                tracing::warn!("what runs did not end; it is killed");
                work.kill();
            }
            Action::Over(end) => {
                if end == End::Held {
                    self.look_anew().map_err(GuardError::Start)?;
                }
                return Ok(Some(end));
            }
        }
        Ok(None)
    }
}
