//! Programs that start a service, stop it, and say whether it runs.

use std::io;
use std::time::Duration;

use ::guard::group::Step;
use env::processes::Family;
use rustix::process::Signal;

use super::aside::aside;
use super::program::Program;
use super::steps::Place;

/// Between two looks whether the last process is gone.
const GOING: Duration = Duration::from_millis(20);
/// What a `stop` that has ended well leaves behind gets so long between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Of the processes that do not end so many are named.
const NAMED_MAX: usize = 5;

pub(super) async fn perform(
    place: &Place,
    (start, stop, status): (&[String], &[String], &[String]),
    step: Step,
) -> Result<(), String> {
    let program = |line| Program {
        line,
        environment: &place.environment,
        family: Some(&place.family),
        log: place.log.clone(),
    };
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
        Step::Kill => killed(place).await,
    }
}

/// What is done to all that the resource has started, and asked of it.
async fn family<T: Send + 'static>(
    place: &Place,
    call: impl FnOnce(&Family) -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let family = place.family.clone();
    aside(move || call(&family))
        .await?
        .map_err(|why| format!("the processes of resource {} cannot be ended: {why}", place.index))
}

/// End what the resource has left running: asked first, killed then.
async fn end(place: &Place) -> Result<(), String> {
    if family(place, Family::is_gone).await? {
        return Ok(());
    }
    family(place, |all| all.signal(Signal::TERM)).await?;
    let gone = async {
        while !family(place, Family::is_gone).await? {
            tokio::time::sleep(GOING).await;
        }
        Ok(())
    };
    match tokio::time::timeout(GRACE, gone).await {
        Ok(gone) => gone,
        Err(_) => killed(place).await,
    }
}

/// Killed again and again: a process that was being born in a round of signals is not in its list.
async fn killed(place: &Place) -> Result<(), String> {
    loop {
        family(place, Family::kill).await?;
        if family(place, Family::is_gone).await? {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(GOING) => {}
            () = place.abort.notified() => {
                let left = family(place, Family::members).await?;
                let left: Vec<_> = left.iter().take(NAMED_MAX).map(i32::to_string).collect();
                return Err(format!("it does not end: process {}", left.join(", ")));
            }
        }
    }
}
