//! Programs that start a service, stop it, and say whether it runs.

use std::time::Duration;

use ::guard::group::Step;
use env::processes;
use rustix::process::Signal;
use tokio::sync::Notify;

use super::program::Program;
use super::steps::Place;

/// Between two looks whether the last process is gone.
const GOING: Duration = Duration::from_millis(20);
/// What a `stop` that has ended well leaves behind gets so long between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

pub(super) async fn perform(
    place: &Place,
    (start, stop, status): (&[String], &[String], &[String]),
    step: Step,
) -> Result<(), String> {
    let program = |line| Program { line, environment: &place.environment, log: place.log.clone() };
    match step {
        Step::Start => program(start).succeed(&place.abort).await,
        Step::Check if status.is_empty() => Ok(()),
        Step::Check => program(status).succeed(&place.abort).await,
        Step::Stop => {
            if !stop.is_empty() {
                program(stop).succeed(&place.abort).await?;
            }
            end(place).await
        }
        Step::Kill => {
            signal(place, Signal::KILL)?;
            gone(place, &place.abort).await
        }
    }
}

fn signal(place: &Place, signal: Signal) -> Result<usize, String> {
    processes::signal(&place.mark, signal)
        .map_err(|why| format!("the processes of resource {} cannot be ended: {why}", place.index))
}

/// End what the resource has left running: asked first, killed then.
async fn end(place: &Place) -> Result<(), String> {
    if signal(place, Signal::TERM)? == 0 {
        return Ok(());
    }
    let never = Notify::new();
    if tokio::time::timeout(GRACE, gone(place, &never)).await.is_ok() {
        return Ok(());
    }
    signal(place, Signal::KILL)?;
    gone(place, &place.abort).await
}

async fn gone(place: &Place, abort: &Notify) -> Result<(), String> {
    loop {
        let left = processes::marked(&place.mark).map_err(|why| why.to_string())?;
        let Some(one) = left.first() else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(GOING) => {}
            () = abort.notified() => {
                return Err(format!("process {one} does not end"));
            }
        }
    }
}
