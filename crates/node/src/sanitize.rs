//! SANITIZE of a unit: promised durably, then done by the node itself, whatever becomes of the host
//! that asked for it.
//!
//! ```text
//!   lock `changing` -> promise (store) -> facts say Running -> all gates are closed -> unlock
//!     worker: what still runs has ended -> overwrite (store) -> facts say Idle, or Failed
//! ```
//!
//! A command takes its pass before it is judged. So what was judged before the facts changed has a
//! pass that the closing of the gates voids, and is refused or waited for; what is judged later is
//! refused by what the facts say. A fence does not wait for the sanitize and does not end it: it
//! is no command any more, and nobody's write can be acknowledged before it is over.
//!
//! Invariant: no byte is overwritten before the promise is durable and all commands have ended, and
//! no command reaches the medium from then until the end.

use std::sync::Arc;

use env::BlockIo;
use model::order::Notice;
use scsi::conflict::Conflict;
use scsi::sanitize::State;
use scsi::sense::{Asc, Response, Sense, SenseKey};
use store::{Sanitize, SanitizeMethod, SanitizeOrder, StoreError, Volume};

use crate::gate::{Draining, Fate, Inflight, Pass, wait_all};
use crate::nexus::{NexusState, Signal};
use crate::unit::LogicalUnit;

/// What a volume's mark makes of its unit.
pub(crate) async fn found(volume: &Volume, io: &dyn BlockIo) -> Result<State, StoreError> {
    Ok(state_of(&volume.sanitize_state(io).await?))
}

fn state_of(mark: &Sanitize) -> State {
    match mark {
        Sanitize::None => State::Idle,
        Sanitize::Pending(_) => State::running(0, 1),
        Sanitize::Failed { unrestricted } => State::Failed { unrestricted: *unrestricted },
    }
}

/// The end of a command that a sanitize has shut out.
pub(crate) fn in_progress() -> Response {
    State::running(0, 1).sense().map_or_else(Response::good, Response::check)
}

/// What was asked for, for the operator.
fn describe(method: &SanitizeMethod) -> String {
    match method {
        SanitizeMethod::Erase => "block erase".to_owned(),
        SanitizeMethod::Overwrite { passes, .. } => format!("overwrite, {passes} times"),
    }
}

impl LogicalUnit {
    /// Promise a sanitize, and let no command go on but this one. `Ok(None)`: it was aborted while
    /// it waited for its turn. `Ok(pass)`: it is promised, and the command, which counts as in
    /// flight no more, has this new pass.
    pub(crate) async fn begin_sanitize(
        &self,
        io: &dyn BlockIo,
        nexus: &NexusState,
        (pass, inflight, conflict): (&Pass, Inflight, Conflict),
        order: &SanitizeOrder,
    ) -> Result<Option<Pass>, Response> {
        let changing = self.changing.lock().await;
        if pass.is_void() {
            return Ok(None);
        }
        if !self.allows(nexus, conflict) {
            return Err(Response::conflict());
        }
        let by = format!("{} ({})", nexus.access.host_name, nexus.nexus.initiator.name());
        if let Err(error) = self.volume.begin_sanitize(io, order).await {
            if self.volume.refuse_while_sanitizing().is_err() {
                // Nobody knows whether the next start finds the promise.
                let _ = self.shut_out(State::Failed { unrestricted: false });
            }
            return Err(self.not_begun(by, error).into());
        }
        let draining = self.shut_out(State::running(0, 1));
        let own = nexus.gate.pass();
        drop(inflight);
        self.set_sanitize_to_do(draining);
        drop(changing);
        let what = describe(&order.method);
        self.notices.send(Notice::SanitizeBegun { volume: self.id, by, what });
        if let Some(book) = self.book.upgrade() {
            book.sanitize.notify_one();
        }
        Ok(Some(own))
    }

    /// No command goes on from here, but for what has entered already.
    fn shut_out(&self, state: State) -> Vec<Draining> {
        self.set_sanitize(state);
        let close = |state: &Arc<NexusState>| {
            let draining = state.gate.close(Fate::Sanitizing);
            state.signal(Signal::Aborted);
            draining
        };
        self.nexuses().iter().map(close).collect()
    }

    /// Bytes that others hold are no fault of the command, and may be gone when it is sent again.
    fn not_begun(&self, by: String, error: StoreError) -> Sense {
        tracing::warn!(volume = %self.id, %error, "a sanitize was not begun");
        match error {
            StoreError::Refused { why } => {
                self.notices.send(Notice::SanitizeRefused { volume: self.id, by, why });
                Sense::illegal(Asc::COMMAND_SEQUENCE_ERROR)
            }
            _ => Sense::new(SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE),
        }
    }

    fn set_sanitize_to_do(&self, draining: Vec<Draining>) {
        *self.sanitize_to_do.lock().expect("no panic while the lock is held") = Some(draining);
    }

    /// The sanitize that nobody runs yet, once.
    pub(crate) fn take_sanitize(&self) -> Option<Vec<Draining>> {
        self.sanitize_to_do.lock().expect("no panic while the lock is held").take()
    }

    /// Do what was promised. Where `go_on` says no it stops, and is done after the next start.
    pub(crate) async fn run_sanitize(
        &self,
        io: &dyn BlockIo,
        draining: Vec<Draining>,
        go_on: impl Fn() -> bool,
    ) {
        wait_all(draining).await;
        let tell = |done, total| {
            self.set_sanitize(State::running(done, total));
            go_on()
        };
        let (state, failure) = match self.volume.sanitize(io, &tell).await {
            Err(StoreError::Cancelled | StoreError::Missing { .. }) => return,
            Ok(Sanitize::None) => (State::Idle, None),
            Ok(mark) => (state_of(&mark), Some("it had failed already".to_owned())),
            Err(error) => {
                let mark = found(&self.volume, io).await;
                let unrestricted = matches!(mark, Ok(State::Failed { unrestricted: true }));
                (State::Failed { unrestricted }, Some(error.to_string()))
            }
        };
        self.set_sanitize(state);
        tracing::info!(volume = %self.id, ?failure, "a sanitize is over");
        self.notices.send(Notice::SanitizeEnded { volume: self.id, failure });
    }

    /// EXIT FAILURE MODE.
    pub(crate) async fn exit_sanitize_failure(&self, io: &dyn BlockIo) -> Result<(), Sense> {
        let _changing = self.changing.lock().await;
        match self.facts().sanitize {
            State::Idle => Ok(()),
            State::Failed { unrestricted: true } => {
                self.volume.leave_failed_sanitize(io).await.map_err(|error| {
                    tracing::error!(volume = %self.id, %error, "a failure is not forgotten");
                    Sense::new(SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE)
                })?;
                self.set_sanitize(State::Idle);
                Ok(())
            }
            // Another host was faster with a SANITIZE.
            other => other.sense().map_or(Ok(()), Err),
        }
    }
}
