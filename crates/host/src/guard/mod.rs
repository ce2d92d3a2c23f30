//! The guard: runs a command, or a group's resources, while this host holds a volume, and at no
//! other time.
//!
//! Entry points: [`Guard::run`], [`Volume`], [`Record`], [`Command`]. What to do is decided by
//! `guard::Machine`; here is how it is done.
//!
//! Invariant: the record is durable before anything starts, and one command is under way at a time
//! on each path.

mod command;
mod record;
mod under_way;
mod volume;

use std::future::Future;
use std::io;
use std::time::Duration;

use ::guard::pair::{Event, Pair};
use ::guard::{Advice, End, Input, Machine, Seen, Why};
use env::Clock;
use tokio::sync::mpsc;

pub use self::command::Command;
pub use self::record::{Heirs, Presence, Record, RecordError};
use self::under_way::UnderWay;
pub(crate) use self::volume::gate_path_of;
pub use self::volume::{ClaimError, GateError, PathState, Picture, Portal, Volume};

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
    #[error("the gate above the multipath device cannot be had: {0}")]
    Gate(#[from] GateError),
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

impl<W: Work> Guard<'_, W> {
    /// Until it is over.
    ///
    /// # Errors
    /// [`GuardError`]; the work has been killed then.
    pub async fn run(self) -> Result<End, GuardError> {
        let Self { machine, volume, work, record, clock, stops } = self;
        let (mut under, paths) = UnderWay::begin(volume, &machine).await?;
        let mut pair = Pair::new(machine, paths);
        let ended = follow(&mut under, &mut pair, work, record, clock, stops).await;
        if let Err(error) = &ended {
            // What the gate does when it has failed is not what the paths were told.
            let as_told = !matches!(error, GuardError::Gate(_)) && !pair.paths().holds_back();
            under.fail(pair.machine().leaves_running() && as_told).await;
        }
        ended
    }
}

async fn follow<W: Work>(
    under: &mut UnderWay,
    pair: &mut Pair,
    work: &mut W,
    record: &mut Record,
    clock: &dyn Clock,
    stops: &mut mpsc::Receiver<()>,
) -> Result<End, GuardError> {
    let (mut event, mut hurry) = (Event::Input(Input::Tick), false);
    loop {
        let now_ms = millis(clock);
        for effect in pair.on(now_ms, event, |seen| Some(work.seen(now_ms, seen))) {
            if let Some(end) = under.act(effect, work, record)? {
                under.settle().await?;
                return Ok(end);
            }
        }
        under.tell_of(pair.paths());
        under.refresh(millis(clock));
        let wake_ms = pair.wake_ms().min(under.refresh_ms());
        let wake = Duration::from_millis(wake_ms.saturating_sub(millis(clock)).min(1_000));
        event = tokio::select! {
            biased;
            done = under.next() => under.done(done, work)?,
            ended = work.ended() => Event::Input(ended),
            Some(()) = stops.recv() => {
                if hurry {
                    work.kill();
                }
                hurry = true;
                Event::Input(Input::Stop)
            }
            () = tokio::time::sleep(wake) => Event::Input(Input::Tick),
        };
    }
}

pub(crate) fn millis(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX)
}
