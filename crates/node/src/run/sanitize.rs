//! SANITIZE as a command: what it asks for, and what its host hears.

use std::time::Duration;

use env::BlockIo;
use scsi::command::Command;
use scsi::sanitize::{Method, Overwrite, State};
use scsi::sense::Response;
use store::{SanitizeMethod, SanitizeOrder};

use super::{Job, joined};
use crate::gate::Inflight;

/// How often a command that waits for the end looks for it, and whether it was aborted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Run SANITIZE. `None`: it was aborted, which the sanitize itself outlives once it was accepted.
pub(super) async fn run(job: &mut Job, io: &dyn BlockIo, inflight: Inflight) -> Option<Response> {
    let Command::Sanitize { method, immediate, unrestricted } = job.command else {
        return Some(Response::good());
    };
    let method = match method {
        Method::BlockErase => SanitizeMethod::Erase,
        Method::Overwrite => {
            match Overwrite::parse(&joined(&job.data), job.unit.facts().block_bytes) {
                Ok(Overwrite { block, passes, invert }) => {
                    SanitizeMethod::Overwrite { block, passes, invert }
                }
                Err(sense) => return Some(sense.into()),
            }
        }
    };
    let order = SanitizeOrder { method, unrestricted };
    let entered = (&job.pass, inflight, job.conflict);
    match job.unit.begin_sanitize(io, &job.nexus, entered, &order).await {
        Ok(Some(pass)) => job.pass = pass,
        Ok(None) => return None,
        Err(refused) => return Some(refused),
    }
    if immediate { Some(Response::good()) } else { end_of(job).await }
}

/// IMMED is zero: the answer is the end (SBC-4 5.24.1). Not counted in flight meanwhile, so that
/// who aborts the command, or cuts its host off, does not wait for hours.
async fn end_of(job: &Job) -> Option<Response> {
    loop {
        let state = job.unit.facts().sanitize;
        if !matches!(state, State::Running { .. }) {
            return Some(state.sense().map_or_else(Response::good, Response::check));
        }
        if job.pass.is_void() || job.named.get() {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
