//! Programs that start a service, stop it, and say whether it runs.

use std::io;
use std::time::Duration;

use ::guard::group::Step;
use env::processes::Family;
use env::processes::cgroup::Cgroup;
use rustix::process::Signal;

use super::aside::aside;
use super::program::Program;
use super::steps::Place;

/// Between two looks whether the last process is gone.
const GOING: Duration = Duration::from_millis(20);
/// What a `stop` that has ended well leaves behind gets so long between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long a look at what does not end may take.
const LOOK: Duration = Duration::from_millis(500);
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
        unborn: Some(&place.unborn),
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
            unless_aborted(place, end(place)).await
        }
        Step::Kill => unless_aborted(place, killed(place)).await,
    }
}

/// A look at the processes may hang for as long as one of them does: it holds up no end.
async fn unless_aborted(
    place: &Place,
    end: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    tokio::select! {
        ended = end => ended,
        () = place.abort.notified() => {
            if !place.unborn.is_none() {
                return Err("it does not end: one of its programs is just being started".into());
            }
            let left = tokio::time::timeout(LOOK, family(place, Family::members)).await;
            let Ok(left) = left else {
                return Err("it does not end, and its processes cannot be looked at".into());
            };
            let left: Vec<_> = left?.iter().take(NAMED_MAX).map(i32::to_string).collect();
            Err(format!("it does not end: process {}", left.join(", ")))
        }
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

/// Those that are being started are asked for first: once they have been, they are found.
async fn is_gone(place: &Place) -> Result<bool, String> {
    Ok(place.unborn.is_none() && family(place, Family::is_gone).await?)
}

/// End what the resource has left running: asked first, killed then.
async fn end(place: &Place) -> Result<(), String> {
    if is_gone(place).await? {
        return Ok(());
    }
    family(place, |all| all.signal(Signal::TERM)).await?;
    let gone = async {
        while !is_gone(place).await? {
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
        // On its own: it must not wait for the look at every process of the machine.
        family(place, |all| all.cgroup().map_or(Ok(()), Cgroup::kill)).await?;
        family(place, Family::kill_marked).await?;
        if is_gone(place).await? {
            return Ok(());
        }
        tokio::time::sleep(GOING).await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;
    use crate::group::home::Way;
    use crate::group::program::Unborn;
    use crate::group::testing::{pipe, release};

    fn place(home: &Path) -> Place {
        let mark = format!("COMMONHOLD_TEST_MARK={}", home.display());
        let (name, value) = mark.split_once('=').unwrap();
        Place {
            index: 0,
            log: home.join("log"),
            way: Way::Nowhere { why: "a test".to_owned() },
            environment: vec![(name.to_owned(), value.to_owned())],
            family: Family::new(mark.clone(), Some(Cgroup::new(home.join("cgroup")))),
            unborn: Unborn::default(),
            abort: Arc::default(),
        }
    }

    async fn aborted(place: &Place, line: &[&str], step: Step) -> Result<(), String> {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let late = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Notify::notify_one(&place.abort);
        };
        tokio::join!(perform(place, (&line[..], &[], &[]), step), late).0
    }

    #[tokio::test]
    async fn a_program_that_hangs_before_its_first_instruction_is_not_taken_for_killed() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("cgroup")).unwrap();
        // Whoever opens it for writing waits for a reader.
        let hangs = pipe(&home.path().join("cgroup/cgroup.procs"));
        let place = place(home.path());
        let why = aborted(&place, &["sleep", "60"], Step::Start).await.unwrap_err();
        assert!(why.contains("took too long to start"), "{why}");
        for _ in 0..2 {
            let why = aborted(&place, &[], Step::Kill).await.unwrap_err();
            assert!(why.contains("is just being started"), "{why}");
        }
        while !place.unborn.is_none() {
            release(&hangs);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It has come to life, and nobody wants it.
        let late = Place { abort: Arc::default(), ..place };
        std::fs::remove_file(&hangs).unwrap();
        perform(&late, (&[], &[], &[]), Step::Kill).await.unwrap();
    }

    #[tokio::test]
    async fn a_kill_that_cannot_look_at_the_processes_has_an_end() {
        let home = tempfile::tempdir().unwrap();
        let cgroup = home.path().join("cgroup");
        std::fs::create_dir(&cgroup).unwrap();
        std::fs::write(cgroup.join("cgroup.kill"), "").unwrap();
        let hangs = [pipe(&cgroup.join("cgroup.events")), pipe(&cgroup.join("cgroup.procs"))];
        let place = place(home.path());
        let why = aborted(&place, &[], Step::Kill).await.unwrap_err();
        assert!(why.contains("cannot be looked at"), "{why}");
        assert_eq!(std::fs::read_to_string(cgroup.join("cgroup.kill")).unwrap(), "1");
        // The threads that hang keep the runtime from its end.
        while !super::super::aside::is_idle() {
            hangs.iter().for_each(|pipe| release(pipe));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
