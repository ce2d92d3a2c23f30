//! Programs that start a service, stop it, and say whether it runs.

use std::time::Duration;

use ::guard::group::Step;
use env::processes;
use rustix::process::Signal;

use super::aside::aside;
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
        Step::Kill => killed(place).await,
    }
}

async fn signal(place: &Place, signal: Signal) -> Result<usize, String> {
    let mark = place.mark.clone();
    aside(move || processes::signal(&mark, signal))
        .await?
        .map_err(|why| format!("the processes of resource {} cannot be ended: {why}", place.index))
}

async fn left(place: &Place) -> Result<Option<i32>, String> {
    let mark = place.mark.clone();
    let all = aside(move || processes::marked(&mark)).await?.map_err(|why| why.to_string())?;
    Ok(all.first().copied())
}

/// End what the resource has left running: asked first, killed then.
async fn end(place: &Place) -> Result<(), String> {
    if signal(place, Signal::TERM).await? == 0 {
        return Ok(());
    }
    let gone = async {
        while left(place).await?.is_some() {
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
        signal(place, Signal::KILL).await?;
        let Some(one) = left(place).await? else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(GOING) => {}
            () = place.abort.notified() => {
                return Err(format!("process {one} does not end"));
            }
        }
    }
}
